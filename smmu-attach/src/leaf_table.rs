//! The context descriptors of a device with many substreams: a table of two levels (IHI 0070, 5.4.1).

use core::sync::atomic::Ordering;

use hashbrown::HashMap;
use smmu_types::seam::{DmaBlock, DmaMemory};
use smmu_types::{Cd, ContextTableDescriptor, FieldError, PhysAddr, SmmuId};

use crate::AttachError;
use crate::entry::{EntryFormat, EntrySlot};
use crate::stream_entry::allocate;

const WORDS: usize = Cd::BYTES / 8;

/// log2 of the CDs of a leaf (`S1Fmt` = 1: 4 KiB).
pub(crate) const LEAF_BITS: u8 = 6;

/// A two-level table of CDs, with a leaf for each 64 SubstreamIDs that has been in use.
///
/// A change is written to a copy of the leaf, where no descriptor leads. One store to level 1 then
/// replaces old by new, whatever words of a CD change. `CFGI_CD_ALL` follows: the SMMU may cache
/// the old descriptor for each SubstreamID of the leaf. So a change costs the same beside any number
/// of others.
pub(crate) struct LeafTable<B> {
    root: B,
    log2: u8,
    leaves: HashMap<u32, B>,
    /// Where the next change goes. No descriptor leads there.
    spare: B,
    /// The CDs in memory are not those of the attachments. No STE leads to the table.
    stale: bool,
}

/// One store to level 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeafSwap {
    at: u32,
    descriptor: ContextTableDescriptor,
}

pub(crate) const fn leaf_of(substream: usize) -> u32 {
    (substream >> LEAF_BITS) as u32
}

const fn within(substream: usize) -> usize {
    substream & ((1 << LEAF_BITS) - 1)
}

/// A leaf without CDs, to which a descriptor can lead.
pub(crate) fn new_leaf<D: DmaMemory>(smmu: SmmuId, dma: &D) -> Result<D::Block, AttachError> {
    let leaf = allocate(smmu, dma, (Cd::BYTES as u64) << LEAF_BITS)?;
    ContextTableDescriptor::new(leaf.address())?;
    Ok(leaf)
}

impl<B: DmaBlock> LeafTable<B> {
    /// A table for SubstreamIDs of `log2` bits, with a leaf for SubstreamID 0.
    pub(crate) fn new<D: DmaMemory<Block = B>>(
        smmu: SmmuId,
        log2: u8,
        dma: &D,
    ) -> Result<Self, AttachError> {
        let bytes = (ContextTableDescriptor::BYTES as u64) << log2.saturating_sub(LEAF_BITS);
        let root = allocate(smmu, dma, bytes.max(64))?;
        let (first, spare) = (new_leaf(smmu, dma)?, new_leaf(smmu, dma)?);
        let mut table = LeafTable { root, log2, leaves: HashMap::new(), spare, stale: false };
        table.reserve().map_err(|_| AttachError::OutOfMemory { smmu })?;
        table.add_leaf(0, first);
        Ok(table)
    }

    pub(crate) const fn log2(&self) -> u8 {
        self.log2
    }

    pub(crate) fn address(&self) -> PhysAddr {
        self.root.address()
    }

    /// Whether a substream has a leaf.
    pub(crate) fn has_leaf(&self, substream: usize) -> bool {
        self.leaves.contains_key(&leaf_of(substream))
    }

    /// Room for one leaf more.
    pub(crate) fn reserve(&mut self) -> Result<(), hashbrown::TryReserveError> {
        self.leaves.try_reserve(1)
    }

    /// Own a leaf without CDs. No descriptor leads to it. [`reserve`](Self::reserve) made room.
    pub(crate) fn add_leaf(&mut self, leaf: u32, block: B) {
        self.leaves.insert(leaf, block);
    }

    /// The CD of a substream in memory.
    pub(crate) fn read(&self, substream: usize) -> Cd {
        let slot = self.leaves.get(&leaf_of(substream)).and_then(|leaf| slot(leaf, substream));
        slot.map_or(Cd::INVALID, |slot| slot.read())
    }

    /// The store that replaces the leaf of a substream by a changed copy.
    ///
    /// `new` is a leaf that the table is about to own.
    pub(crate) fn replacement(
        &self,
        substream: usize,
        new: Option<&B>,
    ) -> Result<LeafSwap, FieldError> {
        let at = leaf_of(substream);
        let to = match self.leaves.get(&at) {
            Some(_) if self.is_linked(at) => &self.spare,
            Some(unlinked) => unlinked,
            None => new.unwrap_or(&self.spare),
        };
        Ok(LeafSwap { at, descriptor: ContextTableDescriptor::new(to.address())? })
    }

    /// Write a CD to the memory that the next [`store`](Self::store) of a swap leads to.
    pub(crate) fn prepare_swap(&mut self, substream: usize, cd: &Cd) {
        let at = leaf_of(substream);
        // Barrier: every store to an entry comes after the published array.
        self.root.publish(0..0);
        let linked = self.is_linked(at);
        let LeafTable { leaves, spare, .. } = self;
        let Some(leaf) = leaves.get_mut(&at) else { return };
        if linked {
            for (to, from) in spare.words().iter().zip(leaf.words()) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            // The old leaf is the next spare one. Nothing is stored there before the SMMU has
            // confirmed the swap.
            core::mem::swap(leaf, spare);
        }
        put(leaf, substream, cd);
        leaf.publish(0..leaf.words().len());
    }

    /// Store a swap in level 1. Returns whether that changed it.
    pub(crate) fn store(&self, swap: LeafSwap) -> bool {
        let at = swap.at as usize;
        let Some(cell) = self.root.words().get(at) else { return false };
        if cell.load(Ordering::Relaxed) == swap.descriptor.0[0] {
            return false;
        }
        cell.store(swap.descriptor.0[0], Ordering::Relaxed);
        self.root.publish(at..at + 1);
        true
    }

    /// Write CDs in place, and the descriptors that lead to them. No STE leads to the table, and the
    /// SMMU has forgotten each that did.
    pub(crate) fn fill(&mut self, cds: impl Iterator<Item = (usize, Cd)>) {
        // Barrier: every store to an entry comes after the published array.
        self.root.publish(0..0);
        if self.stale {
            for leaf in self.leaves.values() {
                leaf.words().iter().for_each(|word| word.store(0, Ordering::Relaxed));
                leaf.publish(0..leaf.words().len());
            }
            self.stale = false;
        }
        for (substream, cd) in cds {
            let at = leaf_of(substream);
            let Some(leaf) = self.leaves.get(&at) else { continue };
            put(leaf, substream, &cd);
            let from = within(substream) * WORDS;
            leaf.publish(from..from + WORDS);
            // Not `Err`: `new_leaf` has looked.
            if let Ok(descriptor) = ContextTableDescriptor::new(leaf.address()) {
                self.store(LeafSwap { at, descriptor });
            }
        }
    }

    /// Note that the next STE that leads to the table needs all its CDs anew.
    pub(crate) fn set_stale(&mut self) {
        self.stale = true;
    }

    pub(crate) const fn is_stale(&self) -> bool {
        self.stale
    }

    fn is_linked(&self, leaf: u32) -> bool {
        let word = self.root.words().get(leaf as usize);
        word.is_some_and(|word| word.load(Ordering::Relaxed) != 0)
    }
}

fn slot<B: DmaBlock>(leaf: &B, substream: usize) -> Option<EntrySlot<'_, B>> {
    EntrySlot::new(leaf, within(substream))
}

fn put<B: DmaBlock>(leaf: &B, substream: usize, cd: &Cd) {
    let from = within(substream) * WORDS;
    // Not `None`: `allocate` refused a block that is too short.
    let Some(cells) = leaf.words().get(from..from + WORDS) else { return };
    for (cell, word) in cells.iter().zip(cd.words()) {
        cell.store(word, Ordering::Relaxed);
    }
}
