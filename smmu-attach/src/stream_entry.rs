//! One STE in a stream table, and the memory of such tables.

use core::sync::atomic::Ordering;

use smmu_invs::Counted;
use smmu_types::seam::{DmaBlock, DmaLayout, DmaMemory};
use smmu_types::{SmmuId, Ste, StreamId};

use crate::AttachError;
use crate::entry::EntrySlot;
use crate::sync::{Barrier, is_kept};

/// A stream and its STE. The value keeps the table alive.
pub(crate) struct StreamEntry<B> {
    pub(crate) stream: StreamId,
    pub(crate) table: Counted<B>,
    pub(crate) index: usize,
}

impl<B: DmaBlock> StreamEntry<B> {
    /// Slot of the STE. `None` only if the table is shorter than its format.
    pub(crate) fn slot(&self) -> Option<EntrySlot<'_, B>> {
        EntrySlot::new(&*self.table, self.index)
    }
}

/// A zeroed block for a table or a pair of CDs, of at least these bytes.
pub(crate) fn allocate<D: DmaMemory>(
    smmu: SmmuId,
    dma: &D,
    bytes: u64,
) -> Result<D::Block, AttachError> {
    let layout = DmaLayout::naturally_aligned(bytes)
        .ok_or(smmu_types::seam::DmaError { bytes, align: bytes })?;
    let block = dma.allocate(layout)?;
    if block.words().len() < layout.words() {
        let got = block.words().len() as u64 * 8;
        return Err(AttachError::ShortBlock { smmu, wanted: layout.bytes(), got });
    }
    Ok(block)
}

/// Let the SMMU abort every stream of a table. The SMMU sees this before what is stored later.
pub(crate) fn fill_with_abort<B: DmaBlock>(block: &B) {
    for entry in block.words().chunks_exact(Ste::BYTES / 8) {
        entry[0].store(Ste::ABORT.0[0], Ordering::Relaxed);
    }
    if is_kept(Barrier::AbortBeforeLink) {
        block.publish(0..block.words().len());
    }
}
