//! Each allocation of a constructor fails once: a typed error, and no memory is lost. Nothing else
//! allocates.
#![expect(unsafe_code, reason = "implements an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use smmu_tags::{AsidSpace, Choice, Keep, SpaceConfig, TagError, TagKind, VmidSpace};
use smmu_types::fake::RecordingSink;
use smmu_types::{Asid, FlushProof, Regime, SmmuId, Vmid};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    // The number of the allocation that fails, from 1. 0: none fails.
    static FAILS: Cell<u64> = const { Cell::new(0) };
    // Bytes that this thread holds, and those of the allocation that failed.
    static HELD: Cell<i64> = const { Cell::new(0) };
    static REFUSED: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with counts. It fails on demand.
struct FailingAllocator;

// SAFETY: a request goes to the system's allocator unchanged, or fails, as `GlobalAlloc` allows.
unsafe impl GlobalAlloc for FailingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        if FAILS.get() == ALLOCATIONS.get() {
            REFUSED.set(layout.size());
            return std::ptr::null_mut();
        }
        HELD.set(HELD.get() + layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as i64);
        // SAFETY: the block came from `System` with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: FailingAllocator = FailingAllocator;

/// Runs `work` with a failing `n`-th allocation; 0: none fails. Returns the number of allocations.
fn failing<T>(n: u64, work: impl FnOnce() -> T) -> (T, u64) {
    ALLOCATIONS.set(0);
    FAILS.set(n);
    let result = work();
    FAILS.set(0);
    (result, ALLOCATIONS.get())
}

/// Each allocation of `make` fails once. Returns how many there are.
fn each_allocation_fails<S>(
    (kind, numbers): (TagKind, u32),
    make: impl Fn() -> Result<S, TagError>,
) -> u64 {
    let before = HELD.get();
    for n in 1.. {
        let (made, allocations) = failing(n, &make);
        match made {
            Ok(space) => {
                assert!(allocations < n, "allocation {n} failed without an error");
                drop(space);
                assert_eq!(HELD.get(), before, "the last handle frees the memory");
                return allocations;
            }
            Err(error) => {
                assert_eq!(allocations, n, "nothing is allocated after a failure");
                assert_eq!(error, TagError::OutOfMemory { kind, numbers, bytes: REFUSED.get() });
                assert_eq!(HELD.get(), before, "a failed constructor keeps memory");
            }
        }
    }
    unreachable!()
}

fn by_cpu() -> Choice {
    Choice::NextFitByCpu(|| 0)
}

#[test]
fn every_shortage_is_an_error() {
    let asids = (TagKind::Asid, 1 << 16);
    assert_eq!(each_allocation_fails(asids, || AsidSpace::new(16)), 2);
    let rounds = || {
        let config = SpaceConfig { choice: by_cpu(), ..SpaceConfig::default() };
        AsidSpace::with_config(16, config)
    };
    assert_eq!(each_allocation_fails(asids, rounds), 6);
    assert_eq!(each_allocation_fails((TagKind::Vmid, 256), || VmidSpace::new(SmmuId(0), 8)), 2);
}

#[test]
fn a_space_for_ever_reports_a_shortage_too() {
    let forever = || {
        let config = SpaceConfig { keep: Keep::Forever, ..SpaceConfig::default() };
        AsidSpace::with_config(8, config)
    };
    let before = HELD.get();
    for n in 1..=2 {
        let (made, _) = failing(n, forever);
        assert!(matches!(made, Err(TagError::OutOfMemory { numbers: 256, .. })));
        assert_eq!(HELD.get(), before);
    }
    let (made, allocations) = failing(0, forever);
    let bytes = made.unwrap().bytes();
    assert_eq!((HELD.get() - before, allocations), (bytes as i64, 2), "kept for ever");
}

#[test]
fn the_stated_size_is_what_the_allocator_gave() {
    for choice in [Choice::Lowest, Choice::NextFit, by_cpu()] {
        for bits in [8, 16] {
            let before = HELD.get();
            let config = SpaceConfig { choice, ..SpaceConfig::default() };
            let space = AsidSpace::with_config(bits, config).unwrap();
            assert_eq!(HELD.get() - before, space.bytes() as i64, "{choice:?}, {bits} bits");
        }
    }
}

#[test]
fn tags_allocate_nothing() {
    let asids = AsidSpace::new(16).unwrap();
    let vmids = VmidSpace::new(SmmuId(0), 8).unwrap();
    let sink = RecordingSink::new();
    let tag = asids.allocate(SmmuId(0), Regime::El1, 16).unwrap().install();
    let proof = FlushProof::obtain(&sink, SmmuId(0), tag.tag()).unwrap();
    let (result, allocations) = failing(1, || {
        tag.retire().free(proof).map(|_| ()).map_err(|_| "the proof does not fit")?;
        drop(asids.claim(SmmuId(0), Regime::El1, 16, Asid(9)).map_err(|_| "claim")?);
        drop(vmids.claim(Vmid(7)).map_err(|_| "claim")?.install());
        drop(asids.clone());
        vmids.reserve(Vmid(8)).map_err(|_| "reserve")
    });
    assert_eq!((result, allocations), (Ok(()), 0));
}
