//! The crate's only source of atomics and barriers, so that loom can replace them, and tests can
//! leave a barrier out.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

#[cfg(not(loom))]
use core::sync::atomic::fence;
#[cfg(loom)]
use loom::sync::atomic::fence;

/// [`Ordering::SeqCst`] for an access whose place in the total order is a full barrier.
#[cfg(not(loom))]
#[inline]
pub(crate) const fn seq_cst(_: Ordering) -> Ordering {
    Ordering::SeqCst
}

/// Loom knows a total order for fences only. So the access has the rest of its ordering, and a
/// [`model_fence`] stands beside it.
#[cfg(loom)]
pub(crate) fn seq_cst(rest: Ordering) -> Ordering {
    rest
}

/// Nothing: [`seq_cst`] accesses are the barrier.
#[cfg(not(loom))]
#[inline]
pub(crate) const fn model_fence(_: Barrier) {}

/// The full barrier that [`seq_cst`] accesses are.
///
/// Loom tries the orders of accesses to one place, not of fences. So each fence follows an access
/// to a common place, and loom tries their orders too.
#[cfg(loom)]
pub(crate) fn model_fence(barrier: Barrier) {
    loom::lazy_static! {
        static ref FENCES: AtomicU32 = AtomicU32::new(0);
    }
    FENCES.fetch_add(1, Ordering::Relaxed);
    full_fence(barrier);
}

smmu_types::barriers! {
    /// The mapper's full fence between the table and the array.
    Mapper,
    /// The release store that turns an entry into trash.
    TrashRelease,
    /// The acquire load of an entry's state.
    TrashAcquire,
    /// The reader's full fence in the gate, between its count and its read of the array.
    GateReader,
    /// The writer's full fence in the gate, between its change of the array and its look at the
    /// counts.
    GateWriter,
    /// The release of a reader that leaves the gate.
    GateLeave,
    /// The acquire of the writer that waits at the gate.
    GateWait,
    /// The reader's full barrier, between its slot and its second read of the pointer.
    HazardReader,
    /// The release of the writer that swaps the pointer.
    HazardPublish,
    /// The writer's full barrier, between its swap and its look at the slots.
    HazardWriter,
    /// The acquire of that look.
    HazardScan,
    /// The release of a reader that empties its slot.
    HazardLeave,
}
