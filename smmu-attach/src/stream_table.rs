//! The stream table of one SMMU (IHI 0070, 5.2 and 5.3): linear, or two levels with lazy level 2.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use smmu_invs::Counted;
use smmu_types::regs::strtab::{self, Split, StreamTableFormat};
use smmu_types::seam::{DmaBlock, DmaMemory};
use smmu_types::{PhysAddr, SmmuId, Ste, StreamId};

use crate::AttachError;
use crate::stream_entry::{StreamEntry, allocate, fill_with_abort};
use crate::sync::{Barrier, is_kept};

/// Root table, and the second-level tables by the index of their level-1 descriptor.
pub(crate) struct StreamTable<B> {
    root: Counted<B>,
    format: StreamTableFormat,
    pub(crate) second: HashMap<u32, SecondLevel<B>>,
}

pub(crate) struct SecondLevel<B> {
    table: Counted<B>,
    descriptor: u64,
    link: Linked,
}

/// Whether the SMMU may still cache the invalid level-1 descriptor of a second-level table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linked {
    Known,
    Unannounced,
}

impl<B: DmaBlock> SecondLevel<B> {
    /// A table whose streams all abort. The SMMU sees its entries before a later descriptor.
    pub(crate) fn new<D: DmaMemory<Block = B>>(
        smmu: SmmuId,
        split: Split,
        dma: &D,
    ) -> Result<Self, AttachError> {
        let table = allocate(smmu, dma, (Ste::BYTES as u64) << split.bits())?;
        let descriptor = strtab::l1_descriptor(table.address(), split)?;
        fill_with_abort(&table);
        Ok(SecondLevel { table: Counted::new(table)?, descriptor, link: Linked::Unannounced })
    }
}

impl<B: DmaBlock> StreamTable<B> {
    pub(crate) fn new<D: DmaMemory<Block = B>>(
        smmu: SmmuId,
        log2: u8,
        split: Option<Split>,
        dma: &D,
    ) -> Result<Self, AttachError> {
        if log2 > 32 {
            return Err(AttachError::StreamIdSize { smmu, bits: log2 });
        }
        let format = match split {
            // Level 1 has at most 2^17 descriptors (1 MiB), even if SIDSIZE allows more.
            Some(split) if log2 > split.bits() => {
                StreamTableFormat::TwoLevel { log2: log2.min(17 + split.bits()), split }
            }
            _ => StreamTableFormat::Linear { log2 },
        };
        let bytes = format.bytes()?;
        let root = allocate(smmu, dma, bytes)?;
        strtab::base(root.address(), format)?;
        if let StreamTableFormat::Linear { .. } = format {
            fill_with_abort(&root);
        }
        Ok(StreamTable { root: Counted::new(root)?, format, second: HashMap::new() })
    }

    /// A table over memory that an SMMU already uses. No word of it is written.
    pub(crate) fn over(root: B, format: StreamTableFormat) -> Result<Self, AttachError> {
        Ok(StreamTable { root: Counted::new(root)?, format, second: HashMap::new() })
    }

    /// Own a second-level table that `descriptor` in memory leads to. It may have fewer STEs than one
    /// of [`SecondLevel::new`]. `second` has room.
    pub(crate) fn adopt_second(
        &mut self,
        span: u32,
        table: B,
        descriptor: u64,
    ) -> Result<(), AttachError> {
        let second = SecondLevel { table: Counted::new(table)?, descriptor, link: Linked::Known };
        self.second.insert(span, second);
        Ok(())
    }

    /// A level-1 descriptor in memory.
    pub(crate) fn root_word(&self, index: u32) -> Option<&AtomicU64> {
        self.root.words().get(index as usize)
    }

    /// The memory of all STEs, with the first StreamID of each block.
    pub(crate) fn arrays(&self) -> Result<Vec<(u32, Counted<B>)>, TryReserveError> {
        let mut arrays = Vec::new();
        match self.format {
            StreamTableFormat::Linear { .. } => {
                arrays.try_reserve_exact(1)?;
                arrays.push((0, self.root.clone()));
            }
            StreamTableFormat::TwoLevel { split, .. } => {
                arrays.try_reserve_exact(self.second.len())?;
                let seconds = self.second.iter();
                arrays
                    .extend(seconds.map(|(at, second)| (at << split.bits(), second.table.clone())));
                arrays.sort_unstable_by_key(|(first, _)| *first);
            }
        }
        Ok(arrays)
    }

    pub(crate) fn base(&self) -> (PhysAddr, StreamTableFormat) {
        (self.root.address(), self.format)
    }

    /// Index of the level-1 descriptor of a stream.
    pub(crate) fn span_of(&self, stream: StreamId) -> u32 {
        self.format.place(stream).0
    }

    /// The level-1 descriptor of a stream that has no STE yet, because its second-level table does not
    /// exist.
    pub(crate) fn lacks(&self, stream: StreamId) -> Option<(u32, Split)> {
        let (split, span) = (self.format.split()?, self.span_of(stream));
        (!self.second.contains_key(&span)).then_some((span, split))
    }

    /// Link a second-level table, unless another thread has linked one: then this one comes back.
    /// `second` has room.
    pub(crate) fn link(&mut self, span: u32, table: SecondLevel<B>) -> Option<SecondLevel<B>> {
        if self.second.contains_key(&span) {
            return Some(table);
        }
        // `SecondLevel::new` has published the entries before this descriptor, which leads to them.
        let at = span as usize;
        self.root.words()[at].store(table.descriptor, Ordering::Relaxed);
        if is_kept(Barrier::LinkBeforeCommand) {
            self.root.publish(at..at + 1);
        }
        self.second.insert(span, table)
    }

    /// The entry of a stream whose second-level table exists and reaches it.
    ///
    /// [`Linked::Unannounced`]: the SMMU may cache the old level-1 descriptor, until a call of
    /// [`announced`](Self::announced).
    pub(crate) fn entry(&self, stream: StreamId) -> Option<(StreamEntry<B>, Linked)> {
        let (span, index) = self.format.place(stream);
        let (table, link) = match self.format {
            StreamTableFormat::Linear { .. } => (&self.root, Linked::Known),
            StreamTableFormat::TwoLevel { .. } => {
                let SecondLevel { table, link, .. } = self.second.get(&span)?;
                (table, *link)
            }
        };
        let (table, index) = (table.clone(), index as usize);
        (index < stes(&*table)).then_some((StreamEntry { stream, table, index }, link))
    }

    /// How many STEs the second level of a stream has, if it does not reach the stream.
    pub(crate) fn too_short(&self, stream: StreamId) -> Option<usize> {
        self.format.split()?;
        let (span, index) = self.format.place(stream);
        let stes = stes(&*self.second.get(&span)?.table);
        (index as usize >= stes).then_some(stes)
    }

    /// Note that the SMMU has forgotten the old level-1 descriptor of `stream`.
    pub(crate) fn announced(&mut self, stream: StreamId) {
        let span = self.span_of(stream);
        if let Some(second) = self.second.get_mut(&span) {
            second.link = Linked::Known;
        }
    }
}

/// STEs in a block.
fn stes<B: DmaBlock>(block: &B) -> usize {
    block.words().len() / (Ste::BYTES / 8)
}
