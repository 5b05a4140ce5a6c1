//! How readers find the current array.

use core::ops::Deref;

use smmu_types::range::Extent;
use smmu_types::seam::CommandSink;

use crate::sync::{Ordering, fence};
use crate::{InvArray, InvalidateError, OutOfMemory};

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
/// - What `node` takes is all that `publish` needs: `publish` does not fail.
///
/// Writers are serialised by the caller.
///
/// # Why no translation survives
///
/// `tests/loom.rs` checks these steps under every interleaving; without one of the fences of 1 and 2, or with `settle`
/// before the flush of 7, it fails.
///
/// Three parties: a *mapper* that removes translations and invalidates; an *attacher*, the writer
/// that holds the domain's lock; and the *walker* in the SMMU. W(x) is a store, R(x) a load.
///
/// An attach must not be missed:
///
/// 1. Mapper: W(table), a full fence, R(array). The fence is in [`invalidate_published`].
/// 2. Attacher: W(array) in [`Publication::publish`], the DMA barrier that stands before every
///    store to an STE or CD, W(STE).
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
///    tag, its `CMD_SYNC`, `settle` (trash, a release store), `purge` and publish.
/// 8. A mapper that finds the entry live or retiring invalidates there, as if nothing had happened.
/// 9. A mapper that finds trash (an acquire load), or an array without the entry (the acquire in
///    [`Publication::read`]), comes after the flush's `CMD_SYNC` by 7. No STE or CD names the tag,
///    no cache holds it, and DMA that had used it is complete: the mapper may return.
///
/// An array must not be freed under a reader: the publication owes that.
///
/// ATS is not covered by this. A device that is blocked must have no `ATC_INV` outstanding, and a
/// reader of an older array may still send one; that needs a gate which readers pass and a detach
/// closes. Until there is one, do not put ATS entries into an array that is published.
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
    // Step 1 of the argument at `Publication`.
    fence(Ordering::SeqCst);
    cell.read().invalidate(extent, sink)
}
