//! The context descriptors of one device.

use smmu_types::seam::DmaBlock;
use smmu_types::{Cd, PhysAddr};

use crate::entry::EntrySlot;

/// Two context descriptors; the STE leads to at most one.
///
/// A new CD goes into the other slot, where no STE leads. One store to the STE then replaces old by
/// new.
pub(crate) struct ContextDescriptors<B> {
    pub(crate) block: B,
    /// Index of the CD that the STE leads to, or led to last.
    pub(crate) current: usize,
}

impl<B: DmaBlock> ContextDescriptors<B> {
    pub(crate) const BYTES: u64 = 2 * Cd::BYTES as u64;

    pub(crate) const fn new(block: B) -> Self {
        ContextDescriptors { block, current: 0 }
    }

    /// Physical address of a CD.
    pub(crate) fn address(&self, place: usize) -> PhysAddr {
        PhysAddr(self.block.address().0 + (place * Cd::BYTES) as u64)
    }

    pub(crate) fn read(&self, place: usize) -> Option<Cd> {
        Some(EntrySlot::new(&self.block, place)?.read())
    }
}
