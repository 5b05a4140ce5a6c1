//! Which locks a composition takes in an unmap and in interrupt handlers.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::Cell;

use super::bench::{Bench, Composition, GUEST_PAGE, STREAM, TestClock, TestMemory, TestRegisters};
use super::bench::{TestedHazard, VmTables};
use smmu_driver::lock_api::{GuardNoSend, RawMutex};
use smmu_driver::smmu_attach::Outcome;
use smmu_driver::smmu_types::range::Extent;
use smmu_driver::smmu_types::{Granule, Leaf, SmmuId};
use smmu_driver::{Domain, Parts};
use smmu_model::Profile;

const SMMU: SmmuId = SmmuId(0);

thread_local! {
    static WAITING: Cell<u32> = const { Cell::new(0) };
    static TRIED: Cell<u32> = const { Cell::new(0) };
}

/// A lock that counts how often this thread has taken it, by `lock` and by `try_lock`.
struct Counting(parking_lot::RawMutex);

// SAFETY: passes each call on to a mutex.
#[expect(unsafe_code, reason = "a lock of the tests")]
unsafe impl RawMutex for Counting {
    const INIT: Self = Counting(parking_lot::RawMutex::INIT);
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        WAITING.set(WAITING.get() + 1);
        self.0.lock();
    }
    fn try_lock(&self) -> bool {
        TRIED.set(TRIED.get() + 1);
        self.0.try_lock()
    }
    unsafe fn unlock(&self) {
        // SAFETY: as the caller vouches.
        unsafe { self.0.unlock() }
    }
}

type Locked = Parts<TestRegisters, TestMemory, TestClock, Counting, VmTables>;
type Hazard = TestedHazard<Counting>;

/// How often the work waits for a lock, and how often it tries one.
fn locks(work: impl FnOnce()) -> (u32, u32) {
    let before = (WAITING.get(), TRIED.get());
    work();
    (WAITING.get() - before.0, TRIED.get() - before.1)
}

#[derive(Debug, PartialEq, Eq)]
struct Taken {
    unmap: (u32, u32),
    gerror: (u32, u32),
    events: (u32, u32),
    device_of: (u32, u32),
}

fn unmap<P: Composition>(domain: &Domain<P>) {
    domain.tables().map(None);
    domain.invalidate(Extent::range(GUEST_PAGE, 4096, Granule::K4, Leaf::Last)).unwrap();
}

/// Two SMMUs share the domain.
fn taken<P: Composition>() -> Taken {
    let bench = Bench::new(&[Profile::default(), Profile::default()]);
    let driver = bench.try_start_of::<P>(2, None).unwrap();
    let domain = driver.domain(VmTables::new(&bench.memory)).unwrap();
    let devices = [SMMU, SmmuId(1)].map(|smmu| driver.add_device(smmu, &[STREAM]).unwrap());
    for device in &devices {
        assert_eq!(device.attach(&domain), Ok(Outcome::Done));
    }
    bench.model.listen(0);
    let taken = Taken {
        unmap: locks(|| unmap(&domain)),
        gerror: locks(|| assert!(driver.handle_gerror(SMMU).is_ok())),
        events: locks(|| assert!(driver.drain_events(SMMU, |_| ()).is_ok())),
        device_of: locks(|| assert!(driver.device_of(SMMU, STREAM).is_ok())),
    };
    assert!(!bench.model.take_carried_out(0)[0].is_empty(), "the unmap sent commands");
    driver.shutdown().unwrap();
    taken
}

#[test]
fn an_unmap_in_hazard_slots_takes_no_lock() {
    let taken = taken::<Hazard>();
    assert_eq!(taken, Taken { unmap: (0, 0), gerror: (0, 0), events: (0, 1), device_of: (1, 0) });
}

#[test]
fn an_unmap_behind_a_lock_takes_it_for_the_array_and_for_each_command_call() {
    let taken = taken::<Locked>();
    // The array, and for each SMMU at least the issue and the wait.
    assert!(taken.unmap.0 >= 5 && taken.unmap.1 == 0, "{taken:?}");
    assert_eq!((taken.gerror, taken.events, taken.device_of), ((1, 0), (0, 1), (1, 0)));
}

/// A CPU has 8 slots, and an unmap needs two at a time.
#[test]
fn an_unmap_beyond_the_slots_of_its_cpu_locks_and_is_complete() {
    let bench = Bench::new(&[Profile::default()]);
    let driver = bench.try_start_of::<Hazard>(1, None).unwrap();
    let domain = driver.domain(VmTables::new(&bench.memory)).unwrap();
    let device = driver.add_device(SMMU, &[STREAM]).unwrap();
    assert_eq!(device.attach(&domain), Ok(Outcome::Done));
    let main = &driver.sink().queues().first().unwrap().inner().queues()[0];
    // Each round runs inside one more reader of the queue.
    fn nested<P: Composition>(
        depth: u32,
        main: &smmu_driver::DriverQueue<P>,
        then: &mut dyn FnMut(u32),
    ) {
        then(depth);
        if depth < 9 {
            main.with(|_| nested::<P>(depth + 1, main, then)).unwrap();
        }
    }
    let mut waited = Vec::new();
    nested::<Hazard>(0, main, &mut |_| {
        waited.push(locks(|| unmap(&domain)).0 > 0);
        assert!(bench.model.dma_write32(0, STREAM, GUEST_PAGE, 7).is_err());
    });
    let free_slots = [false; 7].into_iter().chain([true; 3]);
    assert_eq!(waited, free_slots.collect::<Vec<_>>());
    assert_eq!(bench.model.take_hazards(), []);
    driver.drain_events(SMMU, |_| ()).unwrap();
    let _ = device.block();
    driver.shutdown().unwrap();
}
