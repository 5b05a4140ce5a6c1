//! The crate's atomics, from `core` or from the model checker, and its barriers by name.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

#[cfg(not(loom))]
use core::sync::atomic::fence;
#[cfg(loom)]
use loom::sync::atomic::fence;

smmu_types::barriers! {
    /// `Acquire` load of a committed batch's cell, by the owner of `CMDQ_PROD`.
    CommitAcquire,
    /// `DmaBlock::publish` between other callers' batches and the write of `CMDQ_PROD`.
    PublishCommitted,
    /// `Acquire` load of an acknowledgement that another caller's write of the producer's register
    /// carries.
    AckAcquire,
    /// `Release` with which the owner of `CMDQ_PROD` leaves ownership in a cell.
    OwnerRelease,
    /// `Acquire` with which a caller takes ownership from a cell.
    OwnerAcquire,
    /// `DmaBlock::publish` between filled slots and their commit.
    Publish,
    /// `DmaBlock::observe` between the read of `CMDQ_CONS` and the use of its value.
    Observe,
    /// `Release` store of the consumer's position.
    ConsumerRelease,
    /// `Acquire` load of the consumer's position.
    ConsumerAcquire,
    /// `Release` with which room is added to the word of reservations.
    RoomRelease,
    /// `Acquire` with which a caller takes room from that word.
    RoomAcquire,
    /// `DmaBlock::observe` between the load of an MSI's word and the use of its value.
    ObserveMsi,
    /// `Release` store of a failure record's key.
    RecordRelease,
    /// `Acquire` load of a failure record's key.
    RecordAcquire,
    /// `Release` with which a record is evicted, behind the store of the position that replaces it.
    EvictRelease,
    /// `Acquire` of a waiter that finds its record evicted.
    EvictAcquire,
    /// `Release` with which a caller leaves the error handler.
    GerrorRelease,
    /// `Acquire` with which a caller enters the error handler.
    GerrorAcquire,
    /// `Release` with which an interrupt handler leaves a request to the caller inside.
    GerrorRequest,
    /// `Acquire` with which the caller inside takes a request.
    GerrorTake,
    /// The work for a request, before the caller inside leaves.
    GerrorHandOver,
    /// `Release` store of the reason for which the queue halts.
    HaltRelease,
    /// `Acquire` load of that reason.
    HaltAcquire,
    /// `DmaBlock::publish` between the `CMD_SYNC` that replaces a refused command and the
    /// acknowledgement.
    PublishReplaced,
    /// `DmaBlock::publish` before a write of `GERRORN` that repeats that acknowledgement.
    PublishRepeated,
}
