//! Calls that allocate report a lack of memory; all other calls allocate nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use parking_lot::RawMutex;
use smmu_invs::{
    CpuSlots, GatedCell, HazardCell, HazardSlots, InvArray, InvError, InvSpec, LockCell,
    Publication, invalidate_published,
};
use smmu_types::range::{Extent, RangeSupport};
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{
    Asid, CacheTag, Command, FlushProof, Granule, Leaf, Regime, SmmuId, StreamId, SyncProof,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static FREES: Cell<u64> = const { Cell::new(0) };
    // The number of the allocation that fails, from 1. 0: none fails.
    static FAILS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with a count of allocations. It fails on demand.
struct FailingAllocator;

fn fails() -> bool {
    let number = ALLOCATIONS.get() + 1;
    ALLOCATIONS.set(number);
    FAILS.get() == number
}

// SAFETY: a request goes to the system's allocator unchanged, or fails, as `GlobalAlloc` allows.
unsafe impl GlobalAlloc for FailingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the block came from `System` with this layout; the caller keeps the rest of the
        // contract.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        FREES.set(FREES.get() + 1);
        // SAFETY: the block came from `System` with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: FailingAllocator = FailingAllocator;

/// The number of allocations that `work` makes on this thread.
fn allocations<T>(work: impl FnOnce() -> T) -> (T, u64) {
    ALLOCATIONS.set(0);
    let result = work();
    (result, ALLOCATIONS.get())
}

/// Runs `work` with a failing `n`-th allocation. The flag says whether `work` got so far.
fn failing<T>(n: u64, work: impl FnOnce() -> T) -> (T, bool) {
    ALLOCATIONS.set(0);
    FAILS.set(n);
    let result = work();
    FAILS.set(0);
    (result, ALLOCATIONS.get() >= n)
}

struct NullSink;

impl CommandSink for NullSink {
    type Ticket = SmmuId;
    type Pushed = SmmuId;

    fn issue(&self, smmu: SmmuId, _: &[Command]) -> Result<SmmuId, SinkError> {
        Ok(smmu)
    }
    fn push(&self, smmu: SmmuId, _: Option<SmmuId>, _: &[Command]) -> Result<SmmuId, SinkError> {
        Ok(smmu)
    }
    fn prove(&self, pushed: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        self.issue(pushed, commands)
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

fn array() -> InvArray {
    InvArray::empty().merge(&request()).unwrap()
}

fn cell<P: Publication<InvArray>>() -> P {
    P::new(P::node(InvArray::empty()).unwrap())
}

fn detach_and_invalidation_allocate_nothing<P: Publication<InvArray>>() {
    let (array, cell) = (P::node(array()).unwrap(), cell::<P>());
    let extent = Extent::range(0, 511 << 12, Granule::K4, Leaf::Last).with_page_hint();
    let (purged, number) = allocations(|| {
        cell.publish(array);
        invalidate_published(&cell, extent, &NullSink).unwrap();
        cell.read().unref(&request(), |_, _| {});
        invalidate_published(&cell, extent, &NullSink).unwrap();
        let proof = FlushProof::obtain(&NullSink, SMMU, TAG).unwrap();
        assert!(cell.read().settle(&proof));
        assert_eq!(cell.read().remove_smmu(SMMU), 0);
        cell.read().purge().unwrap()
    });
    assert_eq!((purged.unwrap().len(), number), (0, 0));
}

/// Readers may keep any number of old arrays.
fn publish_allocates_nothing_beside_readers<P: Publication<InvArray>>() {
    let cell = cell::<P>();
    let nodes: Vec<_> = (0..40).map(|_| P::node(array()).unwrap()).collect();
    let mut guards = Vec::with_capacity(nodes.len());
    let ((), number) = allocations(|| {
        for node in nodes {
            cell.publish(node);
            guards.push(cell.read());
        }
    });
    assert_eq!(number, 0);
    assert!(guards.iter().all(|array| array.len() == 2));
}

/// An attach and a detach, in which each allocation fails once. Each failure is an error, and the
/// cell does not change.
fn every_allocation_may_fail<P: Publication<InvArray>>() {
    let attach = |cell: &P| -> Result<(), Box<dyn std::error::Error>> {
        let array = cell.read().merge(&request())?;
        cell.publish(P::node(array)?);
        Ok(())
    };
    let new = |n| failing(n, || P::node(InvArray::empty()).map(P::new).is_ok());
    assert_eq!(new(1), (false, true));
    assert_eq!(new(2), (true, false));

    // First the entries, then the node.
    for n in 1..=2 {
        let cell = cell::<P>();
        assert_eq!(failing(n, || attach(&cell).is_ok()), (false, true));
        assert!(cell.read().is_empty(), "allocation {n}");
    }
    let empty = cell::<P>();
    assert_eq!(failing(3, || attach(&empty).is_ok()), (true, false));

    let cell = cell::<P>();
    attach(&cell).unwrap();
    attach(&cell).unwrap();
    cell.read().unref(&request()[1..], |_, _| {});
    cell.read().unref(&request()[1..], |_, _| {});
    let before = cell.read().to_string();
    let purge = || cell.read().purge().is_ok_and(|p| p.is_some_and(|p| P::node(p).is_ok()));
    for n in 1..=2 {
        assert_eq!(failing(n, purge), (false, true));
        assert_eq!(cell.read().to_string(), before);
    }
    assert_eq!(failing(3, purge), (true, false));
}

#[test]
fn lock_cell_allocates_nothing() {
    detach_and_invalidation_allocate_nothing::<LockCell<RawMutex, _>>();
    publish_allocates_nothing_beside_readers::<LockCell<RawMutex, _>>();
    detach_and_invalidation_allocate_nothing::<GatedCell<LockCell<RawMutex, _>>>();
}

#[test]
fn lock_cell_survives_every_failed_allocation() {
    every_allocation_may_fail::<LockCell<RawMutex, _>>();
}

/// One CPU.
struct OneCpu;

impl HazardSlots for OneCpu {
    fn slots() -> &'static [CpuSlots] {
        static SLOTS: [CpuSlots; 1] = [const { CpuSlots::new() }; 1];
        &SLOTS
    }
    fn cpu() -> usize {
        0
    }
}

#[test]
fn hazard_cell_allocates_nothing() {
    detach_and_invalidation_allocate_nothing::<HazardCell<OneCpu, RawMutex, _>>();
    publish_allocates_nothing_beside_readers::<HazardCell<OneCpu, RawMutex, _>>();
    detach_and_invalidation_allocate_nothing::<GatedCell<HazardCell<OneCpu, RawMutex, _>>>();
}

#[test]
fn hazard_cell_survives_every_failed_allocation() {
    every_allocation_may_fail::<HazardCell<OneCpu, RawMutex, _>>();
}

/// Readers of a [`HazardCell`] free nothing, with a slot or without, even the last of a value.
#[test]
fn readers_of_a_hazard_cell_free_nothing() {
    type Hazard = HazardCell<OneCpu, RawMutex, InvArray>;
    let cell = cell::<Hazard>();
    let mut guards: Vec<_> = (0..12).map(|_| cell.read()).collect();
    cell.publish(Hazard::node(array()).unwrap());
    FREES.set(0);
    guards.drain(..8).for_each(drop);
    assert_eq!((cell.reclaim(), FREES.get()), (1, 0), "four counted references are left");
    for guard in guards.drain(..) {
        assert!(guard.is_empty());
        drop(guard);
    }
    drop(cell.read());
    assert_eq!(FREES.get(), 0);
    assert_eq!(cell.reclaim(), 0);
    assert!(FREES.get() > 0);
}

#[cfg(feature = "std")]
#[test]
fn arc_swap_cell_allocates_nothing() {
    detach_and_invalidation_allocate_nothing::<smmu_invs::ArcSwapCell<_>>();
    publish_allocates_nothing_beside_readers::<smmu_invs::ArcSwapCell<_>>();
}

#[cfg(feature = "std")]
#[test]
fn arc_swap_cell_survives_every_failed_allocation() {
    // The first read of a thread allocates, and no later one.
    drop(cell::<smmu_invs::ArcSwapCell<_>>());
    every_allocation_may_fail::<smmu_invs::ArcSwapCell<_>>();
}

#[test]
fn merge_and_purge_report_a_lack_of_memory() {
    let merge = |n| failing(n, || InvArray::empty().merge(&request()).map(|array| array.len()));
    assert_eq!(merge(1), (Err(InvError::OutOfMemory { entries: 2 }), true));
    assert_eq!(merge(2), (Ok(2), false), "one allocation and no more");

    let array = array();
    array.unref(&request()[1..], |_, _| {});
    let purge = |n| failing(n, || array.purge().map(|purged| purged.map(|array| array.len())));
    assert_eq!(purge(1), (Err(InvError::OutOfMemory { entries: 1 }), true));
    assert_eq!(purge(2), (Ok(Some(1)), false), "one allocation and no more");
    assert_eq!(array.len(), 2);

    let buffer = |n| failing(n, || smmu_invs::RequestBuffer::with_capacity(3).map(|_| ()));
    assert_eq!(buffer(1), (Err(InvError::OutOfMemory { entries: 3 }), true));
    assert_eq!(buffer(2), (Ok(()), false));
}

/// The memory of requests is allocated with the device.
#[test]
fn requests_allocate_nothing() {
    let mut buffer = smmu_invs::RequestBuffer::with_capacity(2).unwrap();
    let ((), number) = allocations(|| {
        for _ in 0..3 {
            buffer.clear();
            for spec in request() {
                buffer.push(spec).unwrap();
            }
            buffer.push(request()[0]).unwrap_err();
        }
    });
    assert_eq!((buffer.as_slice(), number), (&request()[..], 0));
}
