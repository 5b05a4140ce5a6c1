//! The stream table of one SMMU (IHI 0070, 5.2 and 5.3): linear, or two levels with lazy level 2.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use hashbrown::HashMap;
use smmu_types::regs::strtab;
use smmu_types::seam::{DmaBlock, DmaLayout, DmaMemory};
use smmu_types::{PhysAddr, SmmuId, Ste, StreamId};

use crate::AttachError;
use crate::entry::EntrySlot;

const L2_ENTRIES: usize = 1 << strtab::SPLIT;

/// Root table, and the second-level tables by the index of their level-1 descriptor.
pub(crate) struct StreamTable<B> {
    root: Arc<B>,
    format: strtab::StreamTableFormat,
    second: HashMap<u32, SecondLevel<B>>,
}

struct SecondLevel<B> {
    table: Arc<B>,
    link: Linked,
}

/// A stream and its STE. The value keeps the table alive.
pub(crate) struct StreamEntry<B> {
    pub(crate) stream: StreamId,
    table: Arc<B>,
    index: usize,
}

/// Whether the SMMU may still cache the invalid level-1 descriptor of a second-level table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linked {
    Known,
    Unannounced,
}

impl<B: DmaBlock> StreamEntry<B> {
    /// Slot of the STE. `None` only if the table is shorter than its format.
    pub(crate) fn slot(&self) -> Option<EntrySlot<'_, B>> {
        EntrySlot::new(&*self.table, self.index)
    }
}

impl<B: DmaBlock> StreamTable<B> {
    pub(crate) fn new<D: DmaMemory<Block = B>>(
        smmu: SmmuId,
        log2: u8,
        two_level: bool,
        dma: &D,
    ) -> Result<Self, AttachError> {
        if log2 > 32 {
            return Err(AttachError::StreamIdSize { smmu, bits: log2 });
        }
        let format = if two_level && u32::from(log2) > strtab::SPLIT {
            // Level 1 has at most 2^17 descriptors (1 MiB), even if SIDSIZE allows more.
            strtab::StreamTableFormat::TwoLevel { log2: log2.min(17 + strtab::SPLIT as u8) }
        } else {
            strtab::StreamTableFormat::Linear { log2 }
        };
        let bytes = format.bytes()?;
        let root = allocate(smmu, dma, bytes)?;
        strtab::base(root.address(), format)?;
        if let strtab::StreamTableFormat::Linear { .. } = format {
            fill_with_abort(&root);
        }
        Ok(StreamTable { root: Arc::new(root), format, second: HashMap::new() })
    }

    pub(crate) fn base(&self) -> (PhysAddr, strtab::StreamTableFormat) {
        (self.root.address(), self.format)
    }

    /// The entry of `stream`. The first stream of a second-level table allocates that table.
    ///
    /// [`Linked::Unannounced`]: the SMMU may cache the old level-1 descriptor, until a call of
    /// [`announced`](Self::announced).
    pub(crate) fn entry<D: DmaMemory<Block = B>>(
        &mut self,
        smmu: SmmuId,
        stream: StreamId,
        dma: &D,
    ) -> Result<(StreamEntry<B>, Linked), AttachError> {
        let bits = self.format.log2();
        if u64::from(stream.0) >> bits != 0 {
            return Err(AttachError::StreamRange { smmu, stream, bits });
        }
        if let strtab::StreamTableFormat::Linear { .. } = self.format {
            let entry =
                StreamEntry { stream, table: Arc::clone(&self.root), index: stream.0 as usize };
            return Ok((entry, Linked::Known));
        }
        let first = stream.0 >> strtab::SPLIT;
        let index = stream.0 as usize % L2_ENTRIES;
        if let Some(second) = self.second.get(&first) {
            let entry = StreamEntry { stream, table: Arc::clone(&second.table), index };
            return Ok((entry, second.link));
        }
        self.second.try_reserve(1).map_err(|_| AttachError::OutOfMemory { smmu })?;
        let table = Arc::new(allocate(smmu, dma, (L2_ENTRIES * Ste::BYTES) as u64)?);
        let descriptor = strtab::l1_descriptor(table.address())?;
        // The entries are published before the descriptor that leads to them.
        fill_with_abort(&*table);
        let at = first as usize;
        self.root.words()[at].store(descriptor, Ordering::Relaxed);
        self.root.publish(at..at + 1);
        let link = Linked::Unannounced;
        self.second.insert(first, SecondLevel { table: Arc::clone(&table), link });
        Ok((StreamEntry { stream, table, index }, link))
    }

    /// Note that the SMMU has forgotten the old level-1 descriptor of `stream`.
    pub(crate) fn announced(&mut self, stream: StreamId) {
        if let Some(second) = self.second.get_mut(&(stream.0 >> strtab::SPLIT)) {
            second.link = Linked::Known;
        }
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

fn fill_with_abort<B: DmaBlock>(block: &B) {
    for entry in block.words().chunks_exact(Ste::BYTES / 8) {
        entry[0].store(Ste::ABORT.0[0], Ordering::Relaxed);
    }
    block.publish(0..block.words().len());
}

/// Sort the StreamIDs of a device, remove duplicates, and require at least one.
pub(crate) fn normalise(smmu: SmmuId, streams: &[StreamId]) -> Result<Vec<StreamId>, AttachError> {
    let mut sorted = Vec::new();
    sorted.try_reserve_exact(streams.len()).map_err(|_| AttachError::OutOfMemory { smmu })?;
    sorted.extend_from_slice(streams);
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.is_empty() {
        return Err(AttachError::NoStream { smmu });
    }
    Ok(sorted)
}
