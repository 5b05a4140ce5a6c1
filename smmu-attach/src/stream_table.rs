//! The stream table of one SMMU (IHI 0070, 5.2 and 5.3): linear, or two levels with lazy level 2.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use smmu_invs::Counted;
use smmu_types::regs::strtab::{self, StreamTableFormat};
use smmu_types::seam::{DmaBlock, DmaMemory};
use smmu_types::{PhysAddr, SmmuId, Ste, StreamId};

use crate::AttachError;
use crate::stream_entry::{StreamEntry, allocate, fill_with_abort};
use crate::sync::{Barrier, is_kept};

/// STEs of a second-level table.
pub(crate) const L2_ENTRIES: usize = 1 << strtab::SPLIT;

/// Index of the level-1 descriptor of a stream.
pub(crate) const fn span_of(stream: StreamId) -> u32 {
    stream.0 >> strtab::SPLIT
}

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
    pub(crate) fn new<D: DmaMemory<Block = B>>(smmu: SmmuId, dma: &D) -> Result<Self, AttachError> {
        let table = allocate(smmu, dma, (L2_ENTRIES * Ste::BYTES) as u64)?;
        let descriptor = strtab::l1_descriptor(table.address())?;
        fill_with_abort(&table);
        Ok(SecondLevel { table: Counted::new(table)?, descriptor, link: Linked::Unannounced })
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
            StreamTableFormat::TwoLevel { log2: log2.min(17 + strtab::SPLIT as u8) }
        } else {
            StreamTableFormat::Linear { log2 }
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

    /// Own a second-level table that `descriptor` in memory leads to. `second` has room.
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
            StreamTableFormat::TwoLevel { .. } => {
                arrays.try_reserve_exact(self.second.len())?;
                let seconds = self.second.iter();
                arrays.extend(
                    seconds.map(|(at, second)| (at << strtab::SPLIT, second.table.clone())),
                );
                arrays.sort_unstable_by_key(|(first, _)| *first);
            }
        }
        Ok(arrays)
    }

    pub(crate) fn base(&self) -> (PhysAddr, StreamTableFormat) {
        (self.root.address(), self.format)
    }

    /// Whether a stream has no STE yet, because its second-level table does not exist.
    pub(crate) fn lacks(&self, stream: StreamId) -> bool {
        match self.format {
            StreamTableFormat::Linear { .. } => false,
            StreamTableFormat::TwoLevel { .. } => !self.second.contains_key(&span_of(stream)),
        }
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

    /// The entry of a stream whose second-level table exists.
    ///
    /// [`Linked::Unannounced`]: the SMMU may cache the old level-1 descriptor, until a call of
    /// [`announced`](Self::announced).
    pub(crate) fn entry(&self, stream: StreamId) -> Option<(StreamEntry<B>, Linked)> {
        Some(match self.format {
            StreamTableFormat::Linear { .. } => {
                let (table, index) = (self.root.clone(), stream.0 as usize);
                (StreamEntry { stream, table, index }, Linked::Known)
            }
            StreamTableFormat::TwoLevel { .. } => {
                let SecondLevel { table, link, .. } = self.second.get(&span_of(stream))?;
                let (table, index) = (table.clone(), stream.0 as usize % L2_ENTRIES);
                (StreamEntry { stream, table, index }, *link)
            }
        })
    }

    /// Note that the SMMU has forgotten the old level-1 descriptor of `stream`.
    pub(crate) fn announced(&mut self, stream: StreamId) {
        if let Some(second) = self.second.get_mut(&span_of(stream)) {
            second.link = Linked::Known;
        }
    }
}
