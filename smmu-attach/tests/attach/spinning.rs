//! What happens while the lock of the stream table is held.
#![expect(unsafe_code, reason = "implements a lock, an allocator, and the promise of DMA memory")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell as ThreadCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lock_api::RawMutex;
use smmu_attach::*;
use smmu_invs::{ArcSwapCell, InvArray};
use smmu_types::fake::*;
use smmu_types::seam::{DmaError, DmaLayout, DmaMemory};
use smmu_types::*;

use crate::common::*;

thread_local! {
    static HELD: ThreadCell<bool> = const { ThreadCell::new(false) };
    /// Allocations of this thread while it holds the lock.
    static UNDER_LOCK: ThreadCell<u32> = const { ThreadCell::new(0) };
}
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static SENT: AtomicUsize = AtomicUsize::new(0);

struct WatchfulAllocator;

// SAFETY: all memory is the system's.
unsafe impl GlobalAlloc for WatchfulAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        UNDER_LOCK.set(UNDER_LOCK.get() + u32::from(HELD.get()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; all memory came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: WatchfulAllocator = WatchfulAllocator;

/// A spinning lock whose holder must not allocate.
pub(crate) struct SpinLock(AtomicBool);

// SAFETY: the flag is set by one holder at a time, with the orderings of a lock.
unsafe impl RawMutex for SpinLock {
    const INIT: Self = SpinLock(AtomicBool::new(false));
    type GuardMarker = lock_api::GuardSend;

    fn lock(&self) {
        while !self.try_lock() {
            std::hint::spin_loop();
        }
    }
    fn try_lock(&self) -> bool {
        let got = !self.0.swap(true, Ordering::Acquire);
        if got {
            HELD.set(true);
        }
        got
    }
    unsafe fn unlock(&self) {
        HELD.set(false);
        self.0.store(false, Ordering::Release);
        assert_eq!(UNDER_LOCK.take(), 0, "allocations under the spinning lock");
    }
}

/// The lock of devices and domains: it comes before the spinning lock.
struct OuterLock(AtomicBool);

// SAFETY: the flag is set by one holder at a time, with the orderings of a lock.
unsafe impl RawMutex for OuterLock {
    const INIT: Self = OuterLock(AtomicBool::new(false));
    type GuardMarker = lock_api::GuardSend;

    fn lock(&self) {
        while !self.try_lock() {
            std::hint::spin_loop();
        }
    }
    fn try_lock(&self) -> bool {
        assert!(!HELD.get(), "a lock of a device or domain is taken under the spinning lock");
        !self.0.swap(true, Ordering::Acquire)
    }
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

struct WatchedMemory(Pool<HeapWindow>);

// SAFETY: blocks are the pool's.
unsafe impl DmaMemory for WatchedMemory {
    type Block = PoolBlock<HeapWindow>;

    fn allocate(&self, layout: DmaLayout) -> Result<Self::Block, DmaError> {
        assert!(!HELD.get(), "{} bytes are asked for under the spinning lock", layout.bytes());
        ALLOCATED.fetch_add(1, Ordering::Relaxed);
        self.0.allocate(layout)
    }

    fn full_barrier(&self) {
        self.0.full_barrier();
    }
}

struct Spinning;
impl Platform for Spinning {
    type Lock = SpinLock;
    type SleepLock = OuterLock;
    type Dma = WatchedMemory;
    type Sink = RecordingSink;
    type Cell = ArcSwapCell<InvArray>;
    type Observer = ();
    type Tables = TableDescription;
    type Ats = ();
}

/// r2: no DMA memory is asked for, no command is sent, and no other lock is taken, under the
/// spinning lock.
#[test]
fn r2_the_spinning_lock_is_held_for_look_ups_and_stores_alone() {
    let sink = RecordingSink::failing(|_| {
        assert!(!HELD.get(), "a command is sent under the spinning lock");
        SENT.fetch_add(1, Ordering::Relaxed);
        None
    });
    let env = Env::<Spinning>::new(WatchedMemory(heap_pool(4 << 20)), sink, ()).unwrap();
    let smmu = Smmu::new(&env, SmmuId(0), ID_REGISTERS, caps(), SmmuConfig::default()).unwrap();
    let streams: Vec<_> = (0..16).map(|n| StreamId(n << 8)).collect();
    let device = smmu.add_device(&streams).unwrap();
    // The level-1 table, and 16 tables of 16 KiB; all of them are announced by one `CMD_SYNC`.
    assert_eq!((ALLOCATED.load(Ordering::Relaxed), SENT.load(Ordering::Relaxed)), (17, 2));
    // A second-level table serves the later devices of its streams.
    let second = smmu.add_device(&[StreamId(1)]).unwrap();
    assert_eq!((ALLOCATED.load(Ordering::Relaxed), SENT.load(Ordering::Relaxed)), (17, 2));
    assert_eq!(smmu.remove_device(&second), Ok(()));
    let domain = Domain::new(&env, DomainId(1), tables(S1, 0x8000_0000).0).unwrap();
    assert_eq!(device.attach(&domain), Ok(Outcome::Done));
    assert!(device.block().freed().is_some());
    assert_eq!(smmu.settle(), Ok(()));
    assert_eq!(smmu.remove_device(&device), Ok(()));
    assert_eq!(smmu.gone(&GoneProof::vouch(SmmuId(0))), Ok(()));
}

/// Devices come and go from several threads, over the same second-level tables.
#[test]
fn devices_are_added_and_removed_in_parallel() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let smmu = &smmu;
            scope.spawn(move || {
                for round in 0..50u32 {
                    let mine: Vec<_> =
                        (0..8).map(|n| StreamId((n << 8) + (thread << 4) + round % 16)).collect();
                    let device = smmu.add_device(&mine).unwrap();
                    for stream in mine {
                        assert!(smmu.device_of(stream).unwrap().is_same(&device));
                    }
                    assert_eq!(smmu.remove_device(&device), Ok(()));
                }
            });
        }
    });
    let all: Vec<_> = (0..2048).map(StreamId).collect();
    assert!(all.iter().all(|stream| smmu.device_of(*stream).is_none()));
    let device = smmu.add_device(&all).unwrap();
    assert_eq!(device.streams().len(), 2048);
}
