//! A suite for every publication, and readers beside a writer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "a lock that counts")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RawMutex;
use smmu_invs::{
    CpuSlots, GatedCell, HazardCell, HazardSlots, InvArray, InvSpec, LockCell, Publication,
    Replaced, UnrefOutcome, invalidate_published,
};
use smmu_types::fake::{RecordingSink, SinkCall};
use smmu_types::range::{Extent, RangeSupport};
use smmu_types::seam::{CountingWait, TimedOut, Wait};
use smmu_types::{Asid, CacheTag, Command, FlushProof, Granule, Leaf, Regime, SmmuId, StreamId};

/// A value that shows whether it is dropped.
#[derive(Default)]
struct Tracked(u64, Option<Arc<()>>);

fn conforms<P: Publication<Tracked>>() {
    let node = |number, life: &Arc<()>| P::node(Tracked(number, Some(life.clone()))).unwrap();
    let alive = |life: &Arc<()>| Arc::strong_count(life) - 1;

    let lives: Vec<Arc<()>> = (0..40).map(|_| Arc::new(())).collect();
    let cell = P::new(node(0, &lives[0]));
    assert_eq!(cell.read().0, 0);

    // A reader keeps its value. A replaced value without a reader is dropped at once.
    let first = cell.read();
    cell.publish(node(1, &lives[1]));
    cell.publish(node(2, &lives[2]));
    assert_eq!((first.0, cell.read().0), (0, 2));
    assert_eq!(lives[..3].iter().map(alive).collect::<Vec<_>>(), [1, 0, 1]);

    // After the last reader, the next publication drops the value at the latest.
    drop(first);
    cell.publish(node(3, &lives[3]));
    assert_eq!(alive(&lives[0]), 0);

    // Readers may keep any number of values at once, and no value changes.
    let guards: Vec<_> = (4..20)
        .map(|number| {
            cell.publish(node(number, &lives[number as usize]));
            cell.read()
        })
        .collect();
    assert!(guards.iter().map(|guard| guard.0).eq(4..20));
    assert!(guards.iter().all(|guard| guard.1.is_some()));
    drop(guards);
    for number in 20..40 {
        cell.publish(node(number, &lives[number as usize]));
        assert_eq!(cell.read().0, number);
    }
    let left: usize = lives.iter().map(alive).sum();
    assert_eq!(left, 1, "only the current value is left");

    // Without a publication, `reclaim_replaced` drops what has no reader, and nothing else.
    let (early, now) = (Arc::new(()), Arc::new(()));
    cell.publish(node(40, &early));
    let guards = [cell.read(), cell.read()];
    cell.publish(node(41, &now));
    for guard in guards {
        cell.reclaim_replaced();
        assert_eq!((guard.0, alive(&early), alive(&now)), (40, 1, 1));
    }
    cell.reclaim_replaced();
    assert_eq!((alive(&early), alive(&now)), (0, 1));

    drop(cell);
    assert_eq!(lives.iter().map(alive).sum::<usize>(), 0);

    // The drop of an unpublished node drops its value.
    drop(node(0, &lives[0]));
    assert_eq!(alive(&lives[0]), 0);
}

/// Readers see only whole values, and never an older value after a newer one.
fn readers_go_forward<P: Publication<(u64, u64)> + Sync>() {
    let cell = P::new(P::node((0, 0)).unwrap());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let value = cell.read();
                    assert_eq!(value.1, value.0 * 3);
                    assert!(value.0 >= last);
                    last = value.0;
                }
            });
        }
        for number in 1..20_000 {
            cell.publish(P::node((number, number * 3)).unwrap());
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// An invalidation never misses a lasting user while others come and go.
fn a_lasting_user_always_gets_its_command<P: Publication<InvArray> + Sync>() {
    let tag = |asid| CacheTag::Asid(Regime::El1, Asid(asid));
    let spec = |smmu, asid| InvSpec::tagged(SmmuId(smmu), tag(asid), RangeSupport::Ril);
    let lasting = spec(1, 1);
    let array = InvArray::empty().merge(&[lasting]).unwrap();
    let cell = P::new(P::node(array).unwrap());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let sink = RecordingSink::new();
                while !stop.load(Ordering::Relaxed) {
                    invalidate_published(&cell, PAGE, &sink).unwrap();
                    let its = |call: &SinkCall| match call {
                        SinkCall::Issue(smmu, commands) => {
                            *smmu == SmmuId(1) && commands.len() == 1
                        }
                        SinkCall::Push(..) | SinkCall::Wait(_) => false,
                    };
                    assert_eq!(sink.take().iter().filter(|call| its(call)).count(), 1);
                }
            });
        }
        let sink = RecordingSink::new();
        for round in 0..3000u16 {
            let smmu = if round % 2 == 0 { 0 } else { 2 };
            let request = [spec(smmu, 1 + round % 7)];
            let merged = cell.read().merge(&request).unwrap();
            cell.publish(P::node(merged).unwrap());
            cell.read().unref(&request, |_, _| {});
            let proof = FlushProof::obtain(&sink, SmmuId(smmu), tag(1 + round % 7)).unwrap();
            assert!(cell.read().settle(&proof));
            let purged = cell.read().purge().unwrap().unwrap();
            cell.publish(P::node(purged).unwrap());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(cell.read().to_string(), "smmu1 S1_ASID 1 users=1");
}

/// `Replaced` tells when the last reader of a value is done.
fn last_readers_are_known<C, P>(replace: impl Fn(&C, P) -> Replaced<Tracked>)
where
    C: Publication<Tracked, Node = P>,
{
    let node = |number| C::node(Tracked(number, None)).unwrap();
    let cell = C::new(node(0));
    assert!(!replace(&cell, node(1)).is_read());
    let (first, second) = (cell.read(), cell.read());
    let replaced = replace(&cell, node(2));
    assert!(replaced.is_read());
    drop(first);
    assert!(replaced.is_read());
    drop(second);
    assert!(!replaced.is_read());
}

/// Holds back the `CMD_SYNC`s of a sink.
struct Hold {
    held: AtomicBool,
    waiting: AtomicBool,
}

impl Hold {
    /// A sink whose `CMD_SYNC`s complete after [`Hold::release`].
    fn sink() -> (Arc<Hold>, RecordingSink) {
        let hold = Arc::new(Hold { held: true.into(), waiting: false.into() });
        let sink = RecordingSink::failing({
            let hold = Arc::clone(&hold);
            move |call| {
                if matches!(call, SinkCall::Wait(_)) {
                    hold.waiting.store(true, Ordering::SeqCst);
                    spin_until(|| !hold.held.load(Ordering::SeqCst));
                }
                None
            }
        });
        (hold, sink)
    }

    /// Returns when a reader waits for a `CMD_SYNC`.
    fn wait_for_reader(&self) {
        spin_until(|| self.waiting.load(Ordering::SeqCst));
    }

    fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
    }
}

fn spin_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

/// A clock that shows that a thread waits.
struct Signal(AtomicBool);

impl Wait for Signal {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
    fn relax(&self, _: u32) {
        self.0.store(true, Ordering::SeqCst);
        std::thread::yield_now();
    }
}

const PAGE: Extent = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint();

#[test]
fn a_wait_at_the_gate_is_bounded() {
    type Cell = GatedCell<LockCell<RawMutex, InvArray>>;
    let ats = [InvSpec::ats(SmmuId(0), StreamId(1), None)];
    let cell = Cell::new(Cell::node(InvArray::empty().merge(&ats).unwrap()).unwrap());
    let (hold, slow) = Hold::sink();
    let timeout = Duration::from_micros(50);
    let drain = || cell.ats_gate().drain(&CountingWait::new(), timeout);
    assert!(drain().is_ok());
    std::thread::scope(|scope| {
        scope.spawn(|| invalidate_published(&cell, PAGE, &slow).unwrap());
        hold.wait_for_reader();
        assert_eq!(drain(), Err(TimedOut { timeout }));
        assert_eq!(drain(), Err(TimedOut { timeout }), "a second call still waits for the reader");
        hold.release();
    });
    assert!(drain().is_ok());
}

/// Readers of an array without ATS entries do not pass the gate.
#[test]
fn the_gate_does_not_wait_for_readers_without_ats_entries() {
    type Cell = GatedCell<LockCell<RawMutex, InvArray>>;
    let tag = CacheTag::Asid(Regime::El1, Asid(1));
    let request = [InvSpec::tagged(SmmuId(0), tag, RangeSupport::Ril)];
    let cell = Cell::new(Cell::node(InvArray::empty().merge(&request).unwrap()).unwrap());
    let (hold, slow) = Hold::sink();
    std::thread::scope(|scope| {
        scope.spawn(|| invalidate_published(&cell, PAGE, &slow).unwrap());
        hold.wait_for_reader();
        assert!(cell.ats_gate().drain(&CountingWait::new(), Duration::ZERO).is_ok());
        hold.release();
    });
}

#[test]
fn the_gate_waits_for_earlier_readers_only() {
    type Cell = GatedCell<LockCell<RawMutex, InvArray>>;
    let ats = [InvSpec::ats(SmmuId(0), StreamId(1), None)];
    let cell = Cell::new(Cell::node(InvArray::empty().merge(&ats).unwrap()).unwrap());
    let (first_hold, first) = Hold::sink();
    let (second_hold, second) = Hold::sink();
    std::thread::scope(|scope| {
        scope.spawn(|| invalidate_published(&cell, PAGE, &first).unwrap());
        first_hold.wait_for_reader();

        // A writer publishes another array and changes only that one. The reader still has the
        // older array.
        let other = [InvSpec::ats(SmmuId(0), StreamId(2), None)];
        let merged = cell.read().merge(&other).unwrap();
        cell.publish(Cell::node(merged).unwrap());
        cell.read().unref(&ats, |_, outcome| assert_eq!(outcome, UnrefOutcome::LastUserGone));
        let signal = Signal(AtomicBool::new(false));
        std::thread::scope(|scope| {
            let drain = scope.spawn(|| cell.ats_gate().drain(&signal, Duration::MAX));
            spin_until(|| signal.0.load(Ordering::SeqCst));
            // A later reader runs beside the writer, which does not wait for it.
            let later = scope.spawn(|| invalidate_published(&cell, PAGE, &second).unwrap());
            second_hold.wait_for_reader();
            assert!(!drain.is_finished());
            first_hold.release();
            let _ = drain.join().unwrap().unwrap();
            assert!(!later.is_finished());
            second_hold.release();
        });
    });
    let atc_invs = |call| match call {
        SinkCall::Push(_, commands) | SinkCall::Issue(_, commands) => {
            commands.iter().filter(|command| matches!(command, Command::AtcInv { .. })).count()
        }
        SinkCall::Wait(_) => 0,
    };
    let sent: usize = second.take().into_iter().map(atc_invs).sum();
    assert_eq!(sent, 1, "no command for the detached stream");
}

#[test]
fn lock_cell_conforms() {
    conforms::<LockCell<RawMutex, _>>();
    last_readers_are_known::<LockCell<RawMutex, _>, _>(LockCell::replace);
    readers_go_forward::<LockCell<RawMutex, _>>();
    a_lasting_user_always_gets_its_command::<LockCell<RawMutex, _>>();
}

#[cfg(feature = "std")]
#[test]
fn arc_swap_cell_conforms() {
    use smmu_invs::ArcSwapCell;
    conforms::<ArcSwapCell<_>>();
    last_readers_are_known::<ArcSwapCell<_>, _>(ArcSwapCell::replace);
    readers_go_forward::<ArcSwapCell<_>>();
    a_lasting_user_always_gets_its_command::<ArcSwapCell<_>>();
    a_lasting_user_always_gets_its_command::<smmu_invs::GatedCell<ArcSwapCell<_>>>();
}

thread_local!(static CPU: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

/// Two CPUs; a test says on which of them its thread runs.
struct TwoCpus;

impl HazardSlots for TwoCpus {
    fn slots() -> &'static [CpuSlots] {
        static SLOTS: [CpuSlots; 2] = [const { CpuSlots::new() }; 2];
        &SLOTS
    }
    fn cpu() -> usize {
        CPU.get()
    }
}

/// A machine whose integrator gave no slots.
struct NoCpus;

impl HazardSlots for NoCpus {
    fn slots() -> &'static [CpuSlots] {
        &[]
    }
    fn cpu() -> usize {
        7
    }
}

#[test]
fn hazard_cell_conforms() {
    for cpu in [0, 1, 5, usize::MAX] {
        CPU.set(cpu);
        conforms::<HazardCell<TwoCpus, RawMutex, _>>();
    }
    conforms::<HazardCell<NoCpus, RawMutex, _>>();
    readers_go_forward::<HazardCell<NoCpus, RawMutex, _>>();
    a_lasting_user_always_gets_its_command::<HazardCell<NoCpus, RawMutex, _>>();
}

/// All threads of these share the slots of one CPU, as the threads of a preemptive kernel may.
#[test]
fn hazard_cell_conforms_with_all_threads_on_one_cpu() {
    readers_go_forward::<HazardCell<TwoCpus, RawMutex, _>>();
    a_lasting_user_always_gets_its_command::<HazardCell<TwoCpus, RawMutex, _>>();
    a_lasting_user_always_gets_its_command::<GatedCell<HazardCell<TwoCpus, RawMutex, _>>>();
}

thread_local!(static LOCKED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });

/// A lock that counts how often its thread locked it.
struct CountingLock(RawMutex);

// SAFETY: the lock inside excludes other threads.
unsafe impl lock_api::RawMutex for CountingLock {
    const INIT: Self = CountingLock(RawMutex::INIT);
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        LOCKED.set(LOCKED.get() + 1);
        self.0.lock();
    }
    fn try_lock(&self) -> bool {
        self.0.try_lock()
    }
    unsafe fn unlock(&self) {
        // SAFETY: the caller holds the lock.
        unsafe { self.0.unlock() }
    }
}

/// Interrupt handlers that interrupt each other read 8 deep without a lock. The ninth takes it.
/// Each keeps its value.
#[test]
fn a_reader_takes_the_lock_only_when_its_cpu_has_no_slot_left() {
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
    type Cell = HazardCell<OneCpu, CountingLock, u64>;
    fn nested(cell: &Cell, depth: u64) {
        let guard = cell.read();
        assert_eq!(u64::from(LOCKED.get()), (depth + 1).saturating_sub(8), "depth {depth}");
        assert_eq!(*guard, 7);
        if depth < 9 {
            nested(cell, depth + 1);
        }
        assert_eq!(*guard, 7);
    }
    let cell = Cell::new(Cell::node(7).unwrap());
    for _ in 0..3 {
        LOCKED.set(0);
        nested(&cell, 0);
        assert_eq!(LOCKED.get(), 2, "a reader does not lock when it leaves");
    }
}

/// The list of replaced values is no longer than the number of readers, and `reclaim` empties it.
#[test]
fn replaced_values_that_wait_are_bounded_by_the_readers() {
    CPU.set(1);
    type Cell = HazardCell<TwoCpus, RawMutex, Tracked>;
    let life = Arc::new(());
    let node = |number| Cell::node(Tracked(number, Some(life.clone()))).unwrap();
    let cell = Cell::new(node(0));
    let mut guards = Vec::new();
    for number in 1..1000 {
        if number % 100 == 0 {
            guards.push((number - 1, cell.read()));
        }
        cell.publish(node(number));
        // The current value, and one for each reader.
        assert_eq!(Arc::strong_count(&life) - 1, 1 + guards.len());
    }
    assert_eq!(cell.reclaim(), 9);
    assert!(guards.iter().all(|(number, guard)| guard.0 == *number));
    for left in (0..9).rev() {
        guards.swap_remove(left / 2);
        assert_eq!(cell.reclaim(), left);
        assert_eq!(Arc::strong_count(&life) - 1, 1 + left);
        assert!(guards.iter().all(|(number, guard)| guard.0 == *number));
    }
}

/// A leaked guard keeps its value, also beyond the cell, and its slot; other readers go on.
#[test]
fn a_leaked_guard_keeps_only_its_own_value() {
    // Slots of its own: the leaked ones stay taken.
    struct Leaky;
    impl HazardSlots for Leaky {
        fn slots() -> &'static [CpuSlots] {
            static SLOTS: [CpuSlots; 1] = [const { CpuSlots::new() }; 1];
            &SLOTS
        }
        fn cpu() -> usize {
            0
        }
    }
    type Cell = HazardCell<Leaky, RawMutex, Tracked>;
    let life = Arc::new(());
    let node = |number| Cell::node(Tracked(number, Some(life.clone()))).unwrap();
    for _ in 0..10 {
        let cell = Cell::new(node(0));
        std::mem::forget(cell.read());
        for number in 1..4 {
            cell.publish(node(number));
            assert_eq!(cell.read().0, number);
        }
        assert_eq!(cell.reclaim(), 1);
    }
    // The last two counted a reference, which nothing gives back.
    assert_eq!(Arc::strong_count(&life) - 1, 2);
}

/// Slots are shared by all cells, and an address in them stands for one value only.
#[test]
fn cells_of_different_types_share_the_slots() {
    CPU.set(0);
    let one = HazardCell::<TwoCpus, RawMutex, u8>::new(
        HazardCell::<TwoCpus, RawMutex, u8>::node(1).unwrap(),
    );
    type Other = HazardCell<TwoCpus, RawMutex, Tracked>;
    let life = Arc::new(());
    let other = Other::new(Other::node(Tracked(2, Some(life.clone()))).unwrap());
    let guard = one.read();
    other.publish(Other::node(Tracked(3, None)).unwrap());
    assert_eq!((Arc::strong_count(&life), *guard, other.read().0), (1, 1, 3));
    assert_eq!(format!("{one:?} {guard:?}"), "HazardCell(1) HazardGuard(1)");
}
