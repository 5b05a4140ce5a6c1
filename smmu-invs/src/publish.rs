//! How readers find the current array.

use core::ops::Deref;

use smmu_types::range::Extent;
use smmu_types::seam::CommandSink;

use crate::sync::{Barrier, full_fence};
use crate::{AtsGate, InvArray, InvalidateError, OutOfMemory, SmmuFailure};

/// A cell that readers read without waiting, and one writer replaces.
///
/// # What an implementor owes
///
/// - A reader gets the value that was published last, or one that is replaced while it reads; it
///   never waits for a writer that waits for something else. Nothing is kept per thread: a cache
///   of the last value seen would break the ordering.
/// - `publish` is a release and `read` an acquire on the same location: who reads a value sees all
///   that its writer did before.
/// - `read` takes part in a single total order with sequentially consistent fences: a read after
///   such a fence does not return a value that was replaced before the fence took its place in
///   that order. An atomic load, or a lock taken, after the fence does.
/// - A replaced value stays as it is until its last reader is done, and is dropped after that: at
///   the latest by the next `publish` after it, or with the cell.
/// - What `node` takes is all that `publish` needs: `publish` does not fail and does not allocate.
///
/// Writers are serialised by the caller.
///
/// # The guarantee
///
/// **An invalidation that returns success has flushed what was removed for every device: whatever a device can still reach
/// once it has returned, the tables still led to; also if an attach or a detach ran beside it.**
///
/// Three parties: a *mapper* that removes translations and invalidates; an *attacher*, the writer
/// that holds the domain's lock; and the *walker* in the SMMU. W(x) is a store, R(x) a load. Barriers are in bold, each
/// with the test that fails without it; all are in `tests/loom.rs`, which looks at every interleaving with up to three
/// preemptions.
///
/// An attach must not be missed:
///
/// 1. Mapper: W(table), **a full fence**, R(array). The fence is in [`invalidate_published`]
///    (`without_the_mappers_fence_an_attach_is_missed`).
/// 2. Attacher: W(array) in [`Publication::publish`], **the DMA barrier** that stands before every
///    store to an STE or CD, W(STE) (`without_the_dma_barrier_an_attach_is_missed`).
/// 3. Walker: R(STE), then R(table), whose address depends on it.
/// 4. Suppose that the mapper reads the *old* array. Then its R(array) comes before W(array).
/// 5. By 1 its W(table) is visible before that read is done; a weaker fence would let the read
///    overtake the store. By 2 W(array) comes before W(STE).
/// 6. So a walker that sees the new STE also sees the changed table, and there is nothing to
///    invalidate. Otherwise the mapper read the new array, and invalidates there too.
///
/// A detach must not be overtaken:
///
/// 7. Attacher: W(STE) and the sync of its `CFGI`, `unref` (the tag is retiring), the flush of the
///    tag, its `CMD_SYNC`, `settle` (trash, by **a release store**,
///    `without_the_release_of_trash_a_detach_is_overtaken`), `purge`, and publish, which is **a release** as well
///    (`without_the_release_of_publish_a_detach_is_overtaken`). `settle` before the flush is the mistake that *retiring*
///    is there to prevent (`settled_before_the_flush_a_detach_is_overtaken`).
/// 8. A mapper that finds the entry live or retiring invalidates there, as if nothing had happened.
/// 9. A mapper that finds trash, by **an acquire load** (`without_the_acquire_of_trash_a_detach_is_overtaken`), or an array
///    without the entry, by **the acquire** in [`Publication::read`]
///    (`without_the_acquire_of_read_a_detach_is_overtaken`), comes after the flush's `CMD_SYNC` by 7. No STE or CD names
///    the tag, no cache holds it, and DMA that had used it is complete: the mapper may return.
///
/// A device's own cache is left out only when it is empty and stays so:
///
/// 10. Attacher: ATS is off in the STE and that is synced, an `ATC_INV` of everything and its `CMD_SYNC`, and only then
///     `unref`, which makes ATS entries trash, with the release of 7. A mapper that finds trash comes after that, as in 9.
/// 11. Nor may a late `ATC_INV` reach a device whose ATS is off: see [`AtsGate`], with **a full fence** on either side,
///     **a release** and **an acquire** (`without_the_..._of_the_gate_...`).
///
/// An array must not be freed under a reader: the publication owes that. In this crate's own, giving up a reference is **a
/// release**, and dropping the array comes behind **an acquire** (`without_the_..._of_the_count_...`).
pub trait Publication<T>: Sized {
    /// A value with all that it needs to be published.
    type Node;
    /// Keeps the value that was read.
    type Guard<'a>: Deref<Target = T>
    where
        Self: 'a;

    /// Make a value ready to be published.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; the value is dropped.
    fn node(value: T) -> Result<Self::Node, OutOfMemory>;

    /// A cell with its first value.
    fn new(node: Self::Node) -> Self;

    /// The current value.
    fn read(&self) -> Self::Guard<'_>;

    /// Replace the current value.
    fn publish(&self, node: Self::Node);

    /// The gate of the array's ATS entries. A publication without one must not have such entries: use
    /// [`GatedCell`](crate::GatedCell).
    fn gate(&self) -> Option<&AtsGate> {
        None
    }
}

/// Invalidate `extent` wherever the domain of `cell` is in use, and wait for it.
///
/// Call it after the stores that removed the translations, from any context in which the cell may
/// be read and the sink be used. It takes no lock of its own and does not allocate.
///
/// # Errors
///
/// [`InvalidateError`] if any SMMU did not confirm it.
pub fn invalidate_published<P, S>(cell: &P, extent: Extent, sink: &S) -> Result<(), InvalidateError>
where
    P: Publication<InvArray>,
    S: CommandSink + ?Sized,
{
    invalidate_published_reporting(cell, extent, sink, &mut |_| {})
}

/// The same, and tell `report` of every SMMU that failed, as [`InvArray::invalidate_reporting`] does.
///
/// # Errors
///
/// [`InvalidateError`] if any SMMU did not confirm it.
pub fn invalidate_published_reporting<P, S>(
    cell: &P,
    extent: Extent,
    sink: &S,
    report: &mut dyn FnMut(SmmuFailure),
) -> Result<(), InvalidateError>
where
    P: Publication<InvArray>,
    S: CommandSink + ?Sized,
{
    // Step 1 of the argument at `Publication`.
    full_fence(Barrier::Mapper);
    let array = cell.read();
    let Some(gate) = cell.gate().filter(|_| array.has_ats()) else {
        return array.invalidate_reporting(extent, sink, report);
    };
    drop(array);
    // What counts is an array that is read behind the gate: the one from before may be older than a change that the
    // gate no longer waits for.
    let _passage = gate.enter();
    cell.read().invalidate_reporting(extent, sink, report)
}
