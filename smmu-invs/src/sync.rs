//! The crate's only source of atomics and barriers, so that loom can replace them, and tests can
//! leave a barrier out.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(not(loom))]
use core::sync::atomic::fence;
#[cfg(loom)]
use loom::sync::atomic::fence;

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
}
