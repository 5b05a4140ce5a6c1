//! The publication of arrays, and the guarantee that it gives with the walk.

use core::ops::Deref;

use smmu_types::range::Extent;
use smmu_types::seam::CommandSink;

use crate::sync::{Barrier, full_fence};
use crate::{AtsGate, InvArray, InvalidateError, OutOfMemory, SmmuFailure};

/// A cell with a value that many readers read and one writer replaces.
///
/// # What an implementor owes
///
/// - `read` returns the last published value, or a value that a writer replaces meanwhile. A reader
///   never waits for a writer that waits for something else. The cell keeps nothing for each
///   thread: a cache of the last value would break the ordering.
/// - `publish` is a release and `read` an acquire on the same location. A reader of a value sees
///   all that its writer did before.
/// - `read` takes part in the total order of sequentially consistent fences. A read after such a
///   fence never returns a value that was replaced before the fence in that order. An atomic load
///   after the fence satisfies this, and so does a lock.
/// - A replaced value does not change until its last reader is done. The cell drops it after that:
///   at the latest at the next `publish` or `reclaim_replaced`, or with the cell.
/// - `node` takes all resources that `publish` needs. `publish` neither fails nor allocates.
///
/// The caller serialises writers.
///
/// # The guarantee
///
/// **An invalidation that returns success has flushed what was removed for every device. Once it
/// has returned, a device reaches only what the tables lead to, even if an attach or a detach ran
/// beside it.**
///
/// Three parties take part: a *mapper* that removes translations and invalidates; an *attacher*,
/// the writer that holds the domain's lock; and the *walker* in the SMMU. W(x) is a store, R(x) a
/// load. Barriers are in bold. Beside each stands the test that fails without it. All tests are in
/// `tests/loom.rs`, and explore every interleaving with up to three preemptions.
///
/// An unmap does not miss an attach:
///
/// 1. Mapper: W(table), **a full barrier**, R(array). The barrier must order W(table) for the
///    walker too: [`invalidate_published_after`] takes the one of the DMA memory. In
///    [`invalidate_published`] it is a `SeqCst` fence
///    (`without_the_mappers_fence_an_attach_is_missed`).
/// 2. Attacher: W(array) in [`Publication::publish`], **the DMA barrier** before every store to an
///    STE or CD, W(STE) (`without_the_dma_barrier_an_attach_is_missed`).
/// 3. Walker: R(STE), then R(table), whose address depends on it.
/// 4. Suppose that the mapper reads the *old* array. Then its R(array) comes before W(array).
/// 5. By 1 its W(table) is visible before that read completes. A weaker fence would let the read
///    overtake the store. By 2 W(array) comes before W(STE).
/// 6. So a walker that sees the new STE also sees the changed table, and needs no invalidation.
///    Otherwise the mapper read the new array, and invalidates for the new device too.
///
/// An unmap does not overtake a detach:
///
/// 7. Attacher: W(STE) and the sync of its `CFGI`; `unref` (the tag is retiring); the flush of the
///    tag and its `CMD_SYNC`; `settle` (trash, by **a release store**,
///    `without_the_release_of_trash_a_detach_is_overtaken`); `purge`; and publish, which is **a
///    release** as well (`without_the_release_of_publish_a_detach_is_overtaken`). *Retiring*
///    prevents the mistake of a `settle` before the flush
///    (`settled_before_the_flush_a_detach_is_overtaken`).
/// 8. A mapper that finds the entry live or retiring sends the commands of the entry as usual.
/// 9. Another mapper finds trash, by **an acquire load**
///    (`without_the_acquire_of_trash_a_detach_is_overtaken`), or an array without the entry, by
///    **the acquire** in [`Publication::read`]
///    (`without_the_acquire_of_read_a_detach_is_overtaken`). By 7 it comes after the flush's
///    `CMD_SYNC`. No STE or CD names the tag, no cache has it, and DMA that used it is complete:
///    the mapper may return.
///
/// A mapper leaves a device's own cache out only if the cache is empty and stays empty:
///
/// 10. Attacher: the STE turns ATS off, and is synced; an `ATC_INV` of everything and its
///     `CMD_SYNC`; and only then `unref`, which turns ATS entries into trash, with the release of
///     7. A mapper that finds trash comes after that, as in 9.
/// 11. No late `ATC_INV` may reach a device whose ATS is off either. See [`AtsGate`], with **a full
///     fence** on either side, **a release** and **an acquire**
///     (`without_the_..._of_the_gate_...`).
///
/// No array is freed under a reader: the publication owes that. Where this crate's publications
/// count references, the drop of a reference is **a release**, and the drop of the array follows
/// **an acquire** (`without_the_..._of_the_count_...`). [`HazardCell`](crate::HazardCell) has an
/// argument of its own for readers with a slot (`hazard_step_..._without_...`).
pub trait Publication<T>: Sized {
    /// A value with all resources that `publish` needs.
    type Node;
    /// Keeps a value alive that a reader got.
    type Guard<'a>: Deref<Target = T>
    where
        Self: 'a;

    /// Prepares a value for `publish`.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]. The value is dropped.
    fn node(value: T) -> Result<Self::Node, OutOfMemory>;

    /// A cell with its first value.
    fn new(node: Self::Node) -> Self;

    /// The current value.
    fn read(&self) -> Self::Guard<'_>;

    /// Replaces the current value.
    fn publish(&self, node: Self::Node);

    /// Drops the replaced values that no reader uses any more, if the cell has kept some.
    ///
    /// A writer that waits until the last reader of a value is done calls it at each look. It waits
    /// for no reader. The default does nothing, for a cell whose last reader drops the value.
    fn reclaim_replaced(&self) {}

    /// The gate for ATS entries. A publication without a gate must not have arrays with ATS
    /// entries: use [`GatedCell`](crate::GatedCell).
    fn gate(&self) -> Option<&AtsGate> {
        None
    }
}

/// Invalidates `extent` for all devices of the domain, and waits until it is done.
///
/// Call it after the stores that removed the translations, in any context that may read the cell
/// and use the sink. It takes no lock of its own and does not allocate.
///
/// It orders those stores by a `SeqCst` fence. Where an SMMU is an observer outside the CPUs' Inner
/// Shareable domain, that does not suffice: use [`invalidate_published_after`].
///
/// # Errors
///
/// [`InvalidateError`] if at least one SMMU did not confirm it.
pub fn invalidate_published<P, S>(cell: &P, extent: Extent, sink: &S) -> Result<(), InvalidateError>
where
    P: Publication<InvArray>,
    S: CommandSink + ?Sized,
{
    invalidate_published_reporting(cell, extent, sink, &mut |_| {})
}

/// Like [`invalidate_published`]; `report` gets each failure, as in
/// [`InvArray::invalidate_reporting`].
///
/// # Errors
///
/// [`InvalidateError`] if at least one SMMU did not confirm it.
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
    invalidate_published_after(cell, extent, sink, || full_fence(Barrier::Mapper), report)
}

/// Like [`invalidate_published_reporting`], with the barrier between the stores that removed the
/// translations and the read of the array.
///
/// `full_barrier` orders all earlier loads and stores of this thread before all later ones, as CPUs
/// and SMMUs see them, such as
/// [`DmaMemory::full_barrier`](smmu_types::seam::DmaMemory::full_barrier). With a weaker one the
/// call can miss a device that another thread attaches.
///
/// # Errors
///
/// [`InvalidateError`] if at least one SMMU did not confirm it.
pub fn invalidate_published_after<P, S>(
    cell: &P,
    extent: Extent,
    sink: &S,
    full_barrier: impl FnOnce(),
    report: &mut dyn FnMut(SmmuFailure),
) -> Result<(), InvalidateError>
where
    P: Publication<InvArray>,
    S: CommandSink + ?Sized,
{
    // Step 1 of the argument at `Publication`.
    full_barrier();
    let array = cell.read();
    let Some(gate) = cell.gate().filter(|_| array.has_ats()) else {
        return array.invalidate_reporting(extent, sink, report);
    };
    drop(array);
    // Read again inside the gate: the gate may not wait for the change that replaced the first
    // array.
    let _passage = gate.enter();
    cell.read().invalidate_reporting(extent, sink, report)
}
