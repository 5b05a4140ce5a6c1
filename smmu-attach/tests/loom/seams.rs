//! A lock, a publication and a platform for loom, and what a test leaves out of the seams.

use std::cell::{Cell, OnceCell, RefCell, UnsafeCell};
use std::sync::Mutex as PlainMutex;

use loom::sync::atomic::{AtomicPtr, Ordering};
use loom::sync::{Mutex, MutexGuard};
use loom::thread::{ThreadId, current};
use smmu_attach::*;
use smmu_invs::{GatedCell, InvArray, OutOfMemory, Publication};

use crate::ats::Switches;
use crate::hardware::{Memory, Owners, Sink};

/// A promise of a seam that a test can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seam {
    /// The barrier of `DmaBlock::publish`.
    Publish,
    /// `DmaMemory::full_barrier`, between the mapper's store to the tables and its read of the array.
    FullBarrier,
    /// What `CFGI_STE` does to a cached STE and the stream's CDs.
    Cfgi,
    /// What `CFGI_STE` with `leaf` = 0 does to a cached level-1 descriptor.
    CfgiLevel1,
    /// What a TLBI command does.
    Tlbi,
    /// What `ATC_INV` does.
    AtcInv,
    /// The release of a published array.
    ArrayRelease,
    /// The array before the entries: readers see the array once the entries are written.
    ArrayBeforeEntries,
    /// The mutual exclusion of a lock.
    Lock,
}

type LateArray = (*const SwapCell, *mut InvArray);

thread_local! {
    // Loom runs all threads of a model on the system thread of its test.
    static LEFT_OUT: Cell<Option<Seam>> = const { Cell::new(None) };
    // The lock that each waiting thread waits for.
    static WAITING: RefCell<Vec<(ThreadId, *const LoomLock)>> = const { RefCell::new(Vec::new()) };
    // Arrays that wait for the entries, each with its cell.
    static LATE: RefCell<Vec<LateArray>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn is_kept(seam: Seam) -> bool {
    LEFT_OUT.get() != Some(seam)
}

/// Runs `model` without what a seam promises. The model is expected to panic.
pub(crate) fn without_seam(seam: Seam, model: impl FnOnce()) {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            LEFT_OUT.set(None);
        }
    }
    let _restore = Restore;
    LEFT_OUT.set(Some(seam));
    model();
}

/// A pointer swap, as with RCU. It frees an array no earlier than itself.
pub(crate) struct SwapCell {
    now: AtomicPtr<InvArray>,
    all: PlainMutex<Vec<*mut InvArray>>,
}

// SAFETY: arrays are read through shared references, and are dropped by the last owner.
unsafe impl Send for SwapCell {}
// SAFETY: as above.
unsafe impl Sync for SwapCell {}

/// An array on its way to readers.
pub(crate) struct Node(*mut InvArray);

// SAFETY: a node is the only owner of its array.
unsafe impl Send for Node {}

impl Drop for Node {
    fn drop(&mut self) {
        // SAFETY: the array was not published.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl SwapCell {
    fn swap(&self, array: *mut InvArray) {
        let release = is_kept(Seam::ArrayRelease);
        self.now.store(array, if release { Ordering::Release } else { Ordering::Relaxed });
    }
}

/// Shows readers the arrays that [`Seam::ArrayBeforeEntries`] has held back.
pub(crate) fn publish_late_arrays() {
    for (cell, array) in LATE.take() {
        // SAFETY: a domain lives through its attach.
        unsafe { &*cell }.swap(array);
    }
}

impl Publication<InvArray> for SwapCell {
    type Node = Node;
    type Guard<'a> = &'a InvArray;

    fn node(value: InvArray) -> Result<Node, OutOfMemory> {
        Ok(Node(Box::into_raw(Box::new(value))))
    }
    fn new(node: Node) -> Self {
        let array = std::mem::ManuallyDrop::new(node).0;
        SwapCell { now: AtomicPtr::new(array), all: PlainMutex::new(vec![array]) }
    }
    fn read(&self) -> &InvArray {
        // SAFETY: arrays live as long as the cell.
        unsafe { &*self.now.load(Ordering::Acquire) }
    }
    fn publish(&self, node: Node) {
        let array = std::mem::ManuallyDrop::new(node).0;
        self.all.lock().unwrap().push(array);
        if is_kept(Seam::ArrayBeforeEntries) {
            self.swap(array);
        } else {
            LATE.with_borrow_mut(|late| late.push((self, array)));
        }
    }
}

impl Drop for SwapCell {
    fn drop(&mut self) {
        for array in self.all.get_mut().unwrap().drain(..) {
            // SAFETY: no reader is left.
            drop(unsafe { Box::from_raw(array) });
        }
    }
}

/// A lock that loom sees: it orders what its holders do, and a deadlock fails the test.
pub(crate) struct LoomLock {
    // Loom's own lock has no constant to start from.
    mutex: OnceCell<Mutex<()>>,
    guard: UnsafeCell<Option<MutexGuard<'static, ()>>>,
    holder: Cell<Option<ThreadId>>,
}

// SAFETY: loom runs one thread at a time, and only the holder touches `guard`.
unsafe impl Send for LoomLock {}
// SAFETY: as above.
unsafe impl Sync for LoomLock {}

impl LoomLock {
    fn mutex(&self) -> &'static Mutex<()> {
        let mutex: *const _ = self.mutex.get_or_init(|| Mutex::new(()));
        // SAFETY: a lock lives and stays at its place while it is held.
        unsafe { &*mutex }
    }

    fn hold(&self, guard: MutexGuard<'static, ()>) {
        // SAFETY: this thread is the holder.
        unsafe { *self.guard.get() = Some(guard) };
        self.holder.set(Some(current().id()));
    }

    /// Panic if the holder waits for this thread. When loom itself finds a deadlock, it cannot
    /// unwind.
    fn check_deadlock(&self) {
        let (me, mut lock) = (current().id(), self);
        WAITING.with_borrow(|waiting| {
            while let Some(holder) = lock.holder.get() {
                assert!(
                    holder != me,
                    "deadlock: each of two threads waits for a lock of the other"
                );
                let Some((_, next)) = waiting.iter().find(|(thread, _)| *thread == holder) else {
                    return;
                };
                // SAFETY: a thread waits for it, so it is alive.
                lock = unsafe { &**next };
            }
        });
    }
}

/// Forgets the locks of an interleaving that has failed.
pub(crate) fn forget_waiting() {
    WAITING.take();
}

// SAFETY: loom's lock has one holder at a time.
unsafe impl lock_api::RawMutex for LoomLock {
    const INIT: Self =
        LoomLock { mutex: OnceCell::new(), guard: UnsafeCell::new(None), holder: Cell::new(None) };
    type GuardMarker = lock_api::GuardSend;

    fn lock(&self) {
        if !is_kept(Seam::Lock) {
            return;
        }
        self.check_deadlock();
        let me = current().id();
        WAITING.with_borrow_mut(|waiting| waiting.push((me, self)));
        let guard = self.mutex().lock().unwrap();
        WAITING.with_borrow_mut(|waiting| waiting.retain(|(thread, _)| *thread != me));
        self.hold(guard);
    }
    fn try_lock(&self) -> bool {
        if !is_kept(Seam::Lock) {
            return true;
        }
        let Ok(guard) = self.mutex().try_lock() else { return false };
        self.hold(guard);
        true
    }
    unsafe fn unlock(&self) {
        // SAFETY: this thread is the holder.
        let guard = unsafe { &mut *self.guard.get() };
        self.holder.set(None);
        drop(guard.take());
    }
}

/// The platform of all models.
pub(crate) struct Modelled;

impl Platform for Modelled {
    type Lock = LoomLock;
    type SleepLock = LoomLock;
    type Dma = Memory;
    type Sink = Sink;
    type Cell = GatedCell<SwapCell>;
    type Observer = Owners;
    type Tables = TableDescription;
    type Ats = Switches;
}
