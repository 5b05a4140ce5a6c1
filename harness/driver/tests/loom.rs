//! An unmap beside a sleep of the SMMU under loom: every interleaving with three preemptions.
//!
//!     RUSTFLAGS="--cfg loom" cargo test --release -p smmu-driver --test loom
//!
//! The slot of the command queue is the driver's own. Its publication swaps a pointer, as RCU does:
//! a lock would order what the barriers order. The SMMU reads the table at any time while it
//! translates, and keeps what it read. A page is plain memory to loom, so a DMA that is not ordered
//! before its reuse fails the test.
//!
//! Each step of the slot's argument that concerns the sleep is left out once, and `unmap_beside_sleep`
//! must notice it:
//!
//! | left out | step |
//! |---|---|
//! | `Step::QuiesceBeforeAsleep` | 3: the SMMU translates nothing before the slot is asleep |
//! | `Step::FlushBeforeOpen` | 3: the flush before translation |
//! | `Barrier::TableBeforeSecondLook` | 4 |
//! | `Step::OpenBeforeTranslation` | 5: the slot is open before translation |
//! | `Step::BarrierBeforeTranslation` | 5: the full barrier of `CR0` |
#![cfg(loom)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(unsafe_code, reason = "doubles of a publication and of a page")]

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex as PlainMutex};

use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
use loom::thread;
use rstest::rstest;
use smmu_driver::QueueSlot;
use smmu_driver::slot::{self, Found, Owed, SlotState};
use smmu_driver::sync::{Barrier, without};
use smmu_invs::{Counted, OutOfMemory, Publication};

/// A step of the sleep or the wake that a test leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    QuiesceBeforeAsleep,
    FlushBeforeOpen,
    OpenBeforeTranslation,
    BarrierBeforeTranslation,
}

thread_local! {
    // Loom runs all threads of a model on the system thread of its test.
    static LEFT_OUT: Cell<Option<Step>> = const { Cell::new(None) };
}

fn is_kept(step: Step) -> bool {
    LEFT_OUT.get() != Some(step)
}

#[derive(Default)]
struct Caches {
    /// `CR0.SMMUEN`.
    translates: bool,
    /// The page is cached.
    line: bool,
}

/// One SMMU, and a table of one entry in memory.
struct Smmu {
    /// Whether the entry leads to the page.
    entry: AtomicBool,
    caches: Mutex<Caches>,
    page: UnsafeCell<u32>,
}

// SAFETY: loom checks each access to the page.
unsafe impl Sync for Smmu {}
// SAFETY: as above.
unsafe impl Send for Smmu {}

impl Smmu {
    fn new() -> Self {
        let caches = Caches { translates: true, line: false };
        Smmu { entry: AtomicBool::new(true), caches: Mutex::new(caches), page: UnsafeCell::new(0) }
    }

    /// A device reads the page. The lock stands for the wait of a `CMD_SYNC` and of `CR0ACK` for
    /// transactions under way.
    fn dma(&self) {
        let mut caches = self.caches.lock().unwrap();
        if caches.translates && (caches.line || self.entry.load(Ordering::Relaxed)) {
            caches.line = true;
            // SAFETY: loom fails the test if another thread may write now.
            self.page.with(|page| unsafe { page.read() });
        }
    }

    fn flush(&self) {
        self.caches.lock().unwrap().line = false;
    }

    fn quiesce(&self) {
        *self.caches.lock().unwrap() = Caches::default();
    }

    /// With power again, the caches have any contents.
    fn power_returns(&self) {
        self.caches.lock().unwrap().line = true;
    }

    fn translate(&self) {
        self.caches.lock().unwrap().translates = true;
    }
}

/// A command queue, whose only command is complete when the call returns.
struct Queue(Arc<Smmu>);

/// A pointer swap. What was published lives as long as the cell.
struct SwapCell {
    now: AtomicPtr<QueueSlot<Queue>>,
    all: PlainMutex<Vec<*mut QueueSlot<Queue>>>,
}

// SAFETY: values are read through shared references, and are dropped with the cell.
unsafe impl Send for SwapCell {}
// SAFETY: as above.
unsafe impl Sync for SwapCell {}

struct Node(*mut QueueSlot<Queue>);

// SAFETY: a node is the only owner of its value.
unsafe impl Send for Node {}

impl Drop for Node {
    fn drop(&mut self) {
        // SAFETY: the value was not published.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl Publication<QueueSlot<Queue>> for SwapCell {
    type Node = Node;
    type Guard<'a> = &'a QueueSlot<Queue>;

    fn node(value: QueueSlot<Queue>) -> Result<Node, OutOfMemory> {
        Ok(Node(Box::into_raw(Box::new(value))))
    }
    fn new(node: Node) -> Self {
        let value = ManuallyDrop::new(node).0;
        SwapCell { now: AtomicPtr::new(value), all: PlainMutex::new(vec![value]) }
    }
    fn read(&self) -> &QueueSlot<Queue> {
        // SAFETY: values live as long as the cell.
        unsafe { &*self.now.load(Ordering::Acquire) }
    }
    fn publish(&self, node: Node) {
        let value = ManuallyDrop::new(node).0;
        self.all.lock().unwrap().push(value);
        self.now.store(value, Ordering::Release);
    }
}

impl Drop for SwapCell {
    fn drop(&mut self) {
        for value in self.all.get_mut().unwrap().drain(..) {
            // SAFETY: no reader is left.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

fn node(state: SlotState<Queue>) -> Node {
    SwapCell::node(QueueSlot::new(state).unwrap()).unwrap()
}

fn open(smmu: &Arc<Smmu>) -> Node {
    node(SlotState::Open(Counted::new(Queue(smmu.clone())).unwrap()))
}

/// The sleep, as `Driver::suspend` has it.
fn suspend(smmu: &Smmu, slot: &SwapCell) {
    let asleep = [node(SlotState::Asleep), node(SlotState::Asleep)];
    if is_kept(Step::QuiesceBeforeAsleep) {
        smmu.quiesce();
        let _replaced = slot::replace(slot, asleep);
    } else {
        let _replaced = slot::replace(slot, asleep);
        smmu.quiesce();
    }
}

/// The wake, as `Driver::resume` has it.
fn resume(smmu: &Arc<Smmu>, slot: &SwapCell) {
    smmu.power_returns();
    let queue = open(smmu);
    if is_kept(Step::FlushBeforeOpen) {
        smmu.flush();
    }
    if is_kept(Step::OpenBeforeTranslation) {
        slot.publish(queue);
        if is_kept(Step::BarrierBeforeTranslation) {
            fence(Ordering::SeqCst);
        }
        smmu.translate();
    } else {
        fence(Ordering::SeqCst);
        smmu.translate();
        slot.publish(queue);
    }
}

/// Takes the page away, and reuses it as soon as its invalidation is done or owed.
fn unmap(smmu: &Smmu, slot: &SwapCell) {
    smmu.entry.store(false, Ordering::Relaxed);
    // The entry before the command, and no more: as an attach has it.
    fence(Ordering::Release);
    match slot::find(slot, Owed::All, |queue| queue.0.flush()) {
        Found::Queue(()) | Found::Owed => {}
        other => panic!("{other:?}"),
    }
    // SAFETY: loom fails the test if a DMA may still read.
    smmu.page.with_mut(|page| unsafe { page.write(1) });
}

/// What one thread does beside the unmap.
#[derive(Clone, Copy, Debug)]
enum Beside {
    Sleep,
    Wake,
    SleepAndWake,
}

/// An SMMU falls asleep or wakes, beside an unmap and the DMA of a device.
fn unmap_beside_sleep(beside: Beside) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let smmu = Arc::new(Smmu::new());
        let slot = Arc::new(SwapCell::new(open(&smmu)));
        smmu.dma();
        if let Beside::Wake = beside {
            suspend(&smmu, &slot);
        }
        let mapper = {
            let (smmu, slot) = (smmu.clone(), slot.clone());
            thread::spawn(move || unmap(&smmu, &slot))
        };
        let device = {
            let smmu = smmu.clone();
            thread::spawn(move || smmu.dma())
        };
        if let Beside::Sleep | Beside::SleepAndWake = beside {
            suspend(&smmu, &slot);
        }
        if let Beside::Wake | Beside::SleepAndWake = beside {
            resume(&smmu, &slot);
        }
        smmu.dma();
        mapper.join().unwrap();
        device.join().unwrap();
        // What the unmap was told holds: no way to the page is left, now or after a wake.
        if let Beside::Sleep = beside {
            resume(&smmu, &slot);
        }
        let caches = smmu.caches.lock().unwrap();
        assert!(!caches.line && !smmu.entry.load(Ordering::Relaxed), "the page is cached");
    });
}

#[rstest]
fn an_unmap_beside_a_sleep_is_done_or_owed(
    #[values(Beside::Sleep, Beside::Wake, Beside::SleepAndWake)] beside: Beside,
) {
    unmap_beside_sleep(beside);
}

/// The model fails, because a DMA reaches a page that was taken away.
fn must_fail(test: impl FnOnce()) {
    let Err(message) = catch_unwind(AssertUnwindSafe(test)) else {
        panic!("no interleaving notices");
    };
    let message = message.downcast_ref::<String>().map_or_else(
        || message.downcast_ref::<&str>().copied().unwrap_or_default(),
        |message| message.as_str(),
    );
    let wanted = ["Causality violation", "the page is cached"];
    assert!(wanted.iter().any(|why| message.contains(why)), "another failure: {message}");
}

#[rstest]
#[case::quiesce_before_asleep(Step::QuiesceBeforeAsleep, Beside::Sleep)]
#[case::flush_before_open(Step::FlushBeforeOpen, Beside::Wake)]
#[case::open_before_translation(Step::OpenBeforeTranslation, Beside::Wake)]
#[case::barrier_before_translation(Step::BarrierBeforeTranslation, Beside::Wake)]
fn without_a_step(#[case] step: Step, #[case] beside: Beside) {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            LEFT_OUT.set(None);
        }
    }
    let _restore = Restore;
    LEFT_OUT.set(Some(step));
    must_fail(|| unmap_beside_sleep(beside));
}

#[test]
fn without_the_barrier_before_the_second_look() {
    must_fail(|| {
        without(Barrier::TableBeforeSecondLook, || unmap_beside_sleep(Beside::Wake));
    });
}
