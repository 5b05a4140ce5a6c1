//! What needs memory says so when there is none; the rest needs none.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use parking_lot::RawMutex;
use smmu_invs::{InvArray, InvError, InvSpec, LockCell, Publication, invalidate_published};
use smmu_types::range::{Extent, RangeSupport};
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{
    Asid, CacheTag, Command, FlushProof, Granule, Leaf, Regime, SmmuId, StreamId, SyncProof,
};

thread_local! {
    static BARRED: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, which a thread can bar for itself.
struct Barrier;

// SAFETY: all requests go to the system's allocator unchanged, or fail, which `GlobalAlloc` allows.
unsafe impl GlobalAlloc for Barrier {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if BARRED.get() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `System.alloc` with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Barrier = Barrier;

fn without_memory<T>(work: impl FnOnce() -> T) -> T {
    BARRED.set(true);
    let result = work();
    BARRED.set(false);
    result
}

struct NullSink;

impl CommandSink for NullSink {
    type Ticket = SmmuId;

    fn issue(&self, smmu: SmmuId, _: &[Command]) -> Result<SmmuId, SinkError> {
        Ok(smmu)
    }
    fn push(&self, _: SmmuId, _: &[Command]) -> Result<(), SinkError> {
        Ok(())
    }
    fn wait(&self, ticket: SmmuId) -> Result<SyncProof, SinkError> {
        Ok(SyncProof::vouch(ticket))
    }
}

const TAG: CacheTag = CacheTag::Asid(Regime::El1, Asid(1));
const SMMU: SmmuId = SmmuId(0);

fn request() -> [InvSpec; 2] {
    [InvSpec::tagged(SMMU, TAG, RangeSupport::Single), InvSpec::ats(SMMU, StreamId(1), None)]
}

fn detaching_and_invalidating_need_no_memory<P: Publication<InvArray>>() {
    let array = InvArray::empty().merge(&request()).unwrap();
    let cell = P::new(P::node(InvArray::empty()).unwrap());
    let extent = Extent::pages(0, 511 << 12, Granule::K4, Leaf::Last);
    let purged = without_memory(|| {
        cell.publish(P::node(array).unwrap());
        invalidate_published(&cell, extent, &NullSink).unwrap();
        cell.read().unref(&request(), |_, _| {});
        invalidate_published(&cell, extent, &NullSink).unwrap();
        let proof = FlushProof::obtain(&NullSink, SMMU, TAG).unwrap();
        assert!(cell.read().settle(&proof));
        cell.read().purge().unwrap()
    });
    assert_eq!(purged.unwrap().len(), 0);
}

#[test]
fn lock_cell_needs_no_memory() {
    detaching_and_invalidating_need_no_memory::<LockCell<RawMutex, _>>();
}

#[cfg(feature = "std")]
#[test]
fn arc_swap_cell_needs_no_memory() {
    detaching_and_invalidating_need_no_memory::<smmu_invs::ArcSwapCell<_>>();
}

#[test]
fn merge_and_purge_report_that_there_is_none() {
    let merged = without_memory(|| InvArray::empty().merge(&request()));
    assert_eq!(merged.unwrap_err(), InvError::OutOfMemory { entries: 2 });

    let array = InvArray::empty().merge(&request()).unwrap();
    array.unref(&request()[1..], |_, _| {});
    let purged = without_memory(|| array.purge());
    assert_eq!(purged.unwrap_err(), InvError::OutOfMemory { entries: 1 });
    assert_eq!(array.len(), 2);

    let buffer = without_memory(|| smmu_invs::RequestBuffer::with_capacity(3));
    assert_eq!(buffer.unwrap_err(), InvError::OutOfMemory { entries: 3 });
}
