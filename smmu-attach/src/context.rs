//! The context descriptors of one device.

use core::sync::atomic::Ordering;

use smmu_types::seam::DmaBlock;
use smmu_types::{Cd, PhysAddr};

use crate::entry::{EntryFormat, EntrySlot};
use crate::leaf_table::LeafTable;

/// A linear table of CDs, twice. The STE leads to at most one copy.
///
/// A change goes into the other copy, where no STE leads. One store to the STE then replaces old by
/// new, for all substreams at once, and the SMMU needs no `CFGI_CD`.
pub(crate) struct LinearTable<B> {
    block: B,
    log2: u8,
    current: usize,
}

impl<B: DmaBlock> LinearTable<B> {
    /// Bytes of both copies.
    pub(crate) const fn bytes(log2: u8) -> u64 {
        (2 * Cd::BYTES as u64) << log2
    }

    /// Both copies in a block of [`bytes`](Self::bytes).
    pub(crate) const fn new(block: B, log2: u8) -> Self {
        LinearTable { block, log2, current: 0 }
    }

    /// log2 of the number of CDs of a copy (`S1CDMax`).
    pub(crate) const fn log2(&self) -> u8 {
        self.log2
    }

    /// The copy that the STE leads to, or led to last.
    pub(crate) const fn current(&self) -> usize {
        self.current
    }

    pub(crate) fn set_current(&mut self, copy: usize) {
        self.current = copy;
    }

    /// Physical address of a copy, aligned to its size.
    pub(crate) fn address(&self, copy: usize) -> PhysAddr {
        PhysAddr(self.block.address().0 + ((copy * Cd::BYTES) << self.log2) as u64)
    }

    /// The CD of a substream, if an STE leads to the copy at this address.
    pub(crate) fn read(&self, address: PhysAddr, substream: usize) -> Option<Cd> {
        let copy = (0..2).find(|copy| self.address(*copy) == address)?;
        Some(self.slot(copy, substream)?.read())
    }

    /// Whether a copy has these CDs. `cds` gives each of them.
    pub(crate) fn has(&self, copy: usize, mut cds: impl FnMut(usize) -> Cd) -> bool {
        (0..1 << self.log2).all(|n| {
            self.slot(copy, n).is_some_and(|slot| slot.read::<Cd>().words() == cds(n).words())
        })
    }

    /// Store these CDs in a copy that no STE leads to, and publish them.
    pub(crate) fn fill(&self, copy: usize, mut cds: impl FnMut(usize) -> Cd) {
        const WORDS: usize = Cd::BYTES / 8;
        let words = (copy * WORDS) << self.log2..((copy + 1) * WORDS) << self.log2;
        // Barrier: every store to an entry comes after the published array.
        self.block.publish(0..0);
        // Not `None`: the attach refused a block that is too short.
        let Some(cells) = self.block.words().get(words.clone()) else { return };
        for (n, cells) in cells.chunks_exact(WORDS).enumerate() {
            for (cell, word) in cells.iter().zip(cds(n).words()) {
                cell.store(word, Ordering::Relaxed);
            }
        }
        self.block.publish(words);
    }

    fn slot(&self, copy: usize, substream: usize) -> Option<EntrySlot<'_, B>> {
        EntrySlot::new(&self.block, (copy << self.log2) + substream)
    }
}

/// A table of CDs.
pub(crate) enum CdTable<B> {
    Linear(LinearTable<B>),
    TwoLevel(LeafTable<B>),
}

impl<B: DmaBlock> CdTable<B> {
    /// The CD of a substream, if an STE with this `S1ContextPtr` leads to the table.
    pub(crate) fn read(&self, address: PhysAddr, substream: usize) -> Option<Cd> {
        match self {
            CdTable::Linear(table) => table.read(address, substream),
            CdTable::TwoLevel(table) => (table.address() == address).then(|| table.read(substream)),
        }
    }
}

/// The tables of a device.
pub(crate) struct CdTables<B> {
    /// For a device without attached substreams.
    pub(crate) single: Option<LinearTable<B>>,
    /// For all substreams; made when the first of them is attached.
    pub(crate) all: Option<CdTable<B>>,
}

impl<B> CdTables<B> {
    pub(crate) const NONE: Self = CdTables { single: None, all: None };

    /// The table of all substreams, if it has two levels.
    pub(crate) const fn leaves(&self) -> Option<&LeafTable<B>> {
        match &self.all {
            Some(CdTable::TwoLevel(table)) => Some(table),
            _ => None,
        }
    }

    pub(crate) const fn leaves_mut(&mut self) -> Option<&mut LeafTable<B>> {
        match &mut self.all {
            Some(CdTable::TwoLevel(table)) => Some(table),
            _ => None,
        }
    }

    /// A linear table.
    pub(crate) const fn linear(&self, kind: TableKind) -> Option<&LinearTable<B>> {
        match (kind, &self.all) {
            (TableKind::Single, _) => self.single.as_ref(),
            (TableKind::All, Some(CdTable::Linear(table))) => Some(table),
            _ => None,
        }
    }

    pub(crate) const fn linear_mut(&mut self, kind: TableKind) -> Option<&mut LinearTable<B>> {
        match (kind, &mut self.all) {
            (TableKind::Single, _) => self.single.as_mut(),
            (TableKind::All, Some(CdTable::Linear(table))) => Some(table),
            _ => None,
        }
    }
}

/// Memory that an attach brings, until its publication.
pub(crate) enum NewTable<B> {
    Single(LinearTable<B>),
    All(CdTable<B>),
    /// A leaf of the table of all substreams.
    Leaf(u32, B),
}

impl<B: DmaBlock> CdTables<B> {
    /// Own new memory. For a leaf there is room.
    pub(crate) fn add(&mut self, new: NewTable<B>) {
        match new {
            NewTable::Single(table) => self.single = Some(table),
            NewTable::All(table) => self.all = Some(table),
            NewTable::Leaf(at, leaf) => {
                if let Some(table) = self.leaves_mut() {
                    table.add_leaf(at, leaf);
                }
            }
        }
    }
}

/// Which of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableKind {
    Single,
    All,
}
