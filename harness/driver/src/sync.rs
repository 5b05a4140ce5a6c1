//! The barrier of a command queue's slot, which a loom test can leave out.

use core::sync::atomic::Ordering;
#[cfg(not(loom))]
use core::sync::atomic::fence;
#[cfg(loom)]
use loom::sync::atomic::fence;

smmu_types::barriers! {
    /// Step 4 of a slot: the full barrier between a caller's table entry and its second look.
    TableBeforeSecondLook,
}

/// A full barrier, also towards the SMMU.
#[cfg(not(loom))]
#[inline]
pub(crate) fn full_barrier(_: Barrier) {
    smmu_types::seam::dma_barrier::full_barrier();
}

#[cfg(loom)]
pub(crate) fn full_barrier(barrier: Barrier) {
    full_fence(barrier);
}
