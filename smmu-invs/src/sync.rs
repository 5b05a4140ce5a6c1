//! The one door through which atomics and barriers come in, so that a model checker can put its own in their place, and
//! leave one out to see whether somebody notices.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(not(loom))]
use core::sync::atomic::fence;
#[cfg(loom)]
use loom::sync::atomic::fence;

smmu_types::barriers! {
    /// The mapper's full fence between the table and the array.
    Mapper,
    /// The release of a state that becomes trash.
    TrashRelease,
    /// The acquire of a state that is read.
    TrashAcquire,
    /// The reader's full fence in the gate, between its count and the array.
    GateReader,
    /// The writer's full fence in the gate, between the array and the counts.
    GateWriter,
    /// The release with which a reader leaves the gate.
    GateLeave,
    /// The acquire with which the writer sees that a reader has left.
    GateWait,
    /// The release with which a reference to a published value is given up.
    CountRelease,
    /// The acquire before a value that nobody refers to is dropped.
    CountAcquire,
}
