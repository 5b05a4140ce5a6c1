//! The one door through which atomics come in, so that a model checker can put its own in their place, and leave an
//! ordering out to see whether somebody notices.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

#[cfg(not(loom))]
use core::sync::atomic::fence;
#[cfg(loom)]
use loom::sync::atomic::fence;

smmu_types::barriers! {
    /// The acquire of a batch that somebody else has filled.
    CommitAcquire,
    /// The barrier of the seam between others' batches and `CMDQ_PROD`.
    PublishCommitted,
    /// The acquire of an acknowledgement that somebody else's write of `CMDQ_PROD` tells.
    AckAcquire,
    /// The release with which the turn to write `CMDQ_PROD` is left for the next batch.
    OwnerRelease,
    /// The acquire with which the next batch takes it.
    OwnerAcquire,
    /// The barrier of the seam between filled slots and what tells of them.
    Publish,
    /// The barrier of the seam between `CMDQ_CONS` and whatever relies on it.
    Observe,
    /// The release of slots that the SMMU has left.
    ConsumerRelease,
    /// The acquire of such slots.
    ConsumerAcquire,
    /// The same release, where room is counted.
    FreeRelease,
    /// The same acquire, where room is counted.
    FreeAcquire,
    /// The acquire and release of the place that one gets for counted room.
    NextAcqRel,
    /// The barrier of the seam between an MSI and whatever relies on it.
    ObserveMsi,
    /// The release of a failure's record.
    RecordRelease,
    /// The acquire of a failure's record.
    RecordAcquire,
    /// The release with which a record goes, behind the doubt that takes its place.
    EvictRelease,
    /// The acquire of whoever finds no record any more.
    EvictAcquire,
    /// The release with which the handler of errors is left.
    GerrorRelease,
    /// The acquire with which it is locked.
    GerrorAcquire,
    /// The release with which the queue gives up.
    HaltRelease,
    /// The acquire of what it has given up for.
    HaltAcquire,
    /// The barrier of the seam between a mended slot and the acknowledgement of its error.
    PublishReplaced,
}
