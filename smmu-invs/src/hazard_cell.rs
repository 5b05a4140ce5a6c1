//! A publication whose readers take no lock, without `std`: [`HazardCell`].

#![expect(unsafe_code, reason = "a slot keeps a value alive without counting a reference")]

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::{self, NonNull};

use lock_api::{Mutex, RawMutex};

use crate::sync::{AtomicPtr, Barrier, Ordering, model_fence, order, seq_cst};
use crate::{Counted, OutOfMemory, Publication};

/// How many slots a CPU has. Loom's tests fill them with one reader.
const DEPTH: usize = if cfg!(loom) { 1 } else { 8 };

/// The hazard slots of one CPU, in a cache line of their own: 8 on a 64-bit machine.
///
/// A slot is empty, or holds the address of a value that a reader uses.
#[derive(Debug)]
#[repr(align(64))]
pub struct CpuSlots([AtomicPtr<()>; DEPTH]);

impl CpuSlots {
    /// Empty slots.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        CpuSlots([const { AtomicPtr::new(ptr::null_mut()) }; DEPTH])
    }

    /// Empty slots.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        CpuSlots(core::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())))
    }
}

impl Default for CpuSlots {
    fn default() -> Self {
        Self::new()
    }
}

/// The CPUs whose threads and interrupt handlers read a [`HazardCell`].
///
/// ```
/// use smmu_invs::{CpuSlots, HazardSlots};
///
/// /// The CPUs of a board.
/// struct Cpus;
///
/// impl HazardSlots for Cpus {
///     fn slots() -> &'static [CpuSlots] {
///         static SLOTS: [CpuSlots; 4] = [const { CpuSlots::new() }; 4];
///         &SLOTS
///     }
///     fn cpu() -> usize {
///         # let mpidr_el1 = 0x8000_0002_usize;
///         mpidr_el1 & 0xff
///     }
/// }
/// # assert_eq!(Cpus::cpu(), 2);
/// ```
pub trait HazardSlots {
    /// The slots, one element for each CPU. All cells may share them. A cell asks once, when it is
    /// made.
    fn slots() -> &'static [CpuSlots];

    /// The number of the CPU that calls it.
    ///
    /// Any number is correct: it says where a reader looks for an empty slot. So a thread may move
    /// to another CPU at any time. CPUs that give the same number slow each other down.
    fn cpu() -> usize;
}

/// A published value, and its place in the list of replaced values.
struct Link<T> {
    value: T,
    // The owner of a list of replaced values uses this, and no reader.
    next: Cell<Option<Counted<Link<T>>>>,
}

// SAFETY: threads share `value`. `next` is used by the thread that owns the list: it has taken the
// list from the mutex, or holds the mutex.
unsafe impl<T: Send + Sync> Sync for Link<T> {}

impl<T: fmt::Debug> fmt::Debug for Link<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// A value in the memory that a [`HazardCell`] needs.
#[derive(Debug)]
#[must_use = "nothing is published yet"]
pub struct HazardNode<T>(Counted<Link<T>>);

type Retired<T> = Option<Counted<Link<T>>>;

/// A publication whose readers take no lock, for `no_std`.
///
/// A reader writes the address of the value into a *hazard slot* of its CPU. A writer frees a
/// replaced value only if no slot has its address. `S` has the slots, and tells the CPU's number.
///
/// # Interrupts, and more readers than slots
///
/// A CPU has 8 slots. An interrupt handler that reads while the interrupted code uses a slot takes
/// the next one. So does a thread that runs while another thread of its CPU waits for a `CMD_SYNC`.
/// No reader ever writes a slot that another reader uses, wherever it was interrupted.
///
/// A reader that finds 8 slots taken locks `R`, as a reader of a [`LockCell`](crate::LockCell)
/// always does, and counts a reference. Its value is as safe; only this reader is slower. `R` must
/// disable interrupts if a handler may find no slot: if handlers read more than 8 deep, or if more
/// than 8 threads of one CPU read at once. A handler must not wait for a lock that it interrupted.
///
/// # What frees a value
///
/// A reader frees nothing, so an interrupt handler that reads never calls the allocator. A writer
/// frees replaced values after its publication. It keeps those that readers still use on a list,
/// and looks at them again at the next publication or [`reclaim`](Self::reclaim). The list needs no
/// memory of its own. It is bounded: a value is on it only if a reader used it when a writer last
/// looked, and a reader uses one value. A guard that is leaked keeps its value for as long as the
/// cell, and its slot for ever.
///
/// # Why no value is freed under a reader
///
/// 1. Reader: it reads the pointer to the current value. It writes that address into an empty slot
///    of its CPU, by one compare-exchange.
/// 2. Reader: **a full barrier**, then it reads the pointer again, **an acquire**. Another pointer:
///    it writes that one into its slot, and repeats this step. The same pointer: it may use the
///    value.
/// 3. Writer: it swaps the pointer, **a release**, with the mutex locked; then **a full barrier**.
/// 4. Writer: it looks at every slot, **an acquire**. It frees a replaced value whose address is in
///    no slot.
/// 5. One of the two barriers comes first. The reader's: the writer sees the slot, and keeps the
///    value. The writer's: the reader sees the new pointer in 2, and does not use the old value.
/// 6. Reader: it empties its slot, **a release**. A writer that sees the slot empty, or in later
///    use, sees that the reader is done. The claim in 1 is **an acquire** for that: a later user of
///    the slot hands on what the earlier one released.
/// 7. Reader without a slot: it locks the mutex, reads the pointer and counts a reference. A writer
///    swaps the pointer under the same mutex. So the reference is counted before the value is
///    replaced, or is one to the new value. The writer frees a value whose only reference is its
///    own, with the release and the acquire of [`Counted`].
///
/// The full barriers are sequentially consistent accesses: the compare-exchange and the second read
/// of the reader, the swap and the look of the writer. Loom knows such an order for fences only, so
/// its tests have a fence in each of the two places. The reader's two acquires are part of its
/// barrier. For each other barrier a test leaves it out, and fails (`hazard_step_..._without_...`).
pub struct HazardCell<S, R: RawMutex, T> {
    // Owns one reference.
    current: AtomicPtr<Link<T>>,
    // Kept here, so that readers and writers of this cell never disagree.
    slots: &'static [CpuSlots],
    retired: Mutex<R, Retired<T>>,
    cpus: PhantomData<fn() -> S>,
}

impl<S: HazardSlots, R: RawMutex, T> HazardCell<S, R, T> {
    /// Step 1. `None` if all slots of this CPU are taken.
    #[inline]
    fn claim(&self, value: *mut Link<T>) -> Option<&'static AtomicPtr<()>> {
        let cpu = S::cpu();
        let line = match self.slots.get(cpu) {
            Some(line) => line,
            None => self.slots.get(cpu.checked_rem(self.slots.len())?)?,
        };
        let success = seq_cst(Ordering::Acquire);
        line.0.iter().find(|slot| {
            slot.load(Ordering::Relaxed).is_null()
                && slot
                    .compare_exchange(ptr::null_mut(), value.cast(), success, Ordering::Relaxed)
                    .is_ok()
        })
    }
}

impl<S, R: RawMutex, T> HazardCell<S, R, T> {
    /// Step 7.
    #[cold]
    fn read_counted(&self) -> HazardGuard<'_, T> {
        let list = self.retired.lock();
        // Relaxed: the mutex orders this after the swap.
        let current = self.current.load(Ordering::Relaxed);
        // SAFETY: the cell's own reference is alive while the mutex is locked, and is not dropped
        // here.
        let current = ManuallyDrop::new(unsafe { Counted::from_raw(current) });
        let counted = Counted::clone(&current);
        drop(list);
        // SAFETY: a reference is never null.
        let value = unsafe { NonNull::new_unchecked(Counted::into_raw(counted).cast_mut()) };
        HazardGuard { value, slot: None, cell: PhantomData }
    }

    /// Frees replaced values that no reader uses any more. Returns how many are left.
    ///
    /// [`publish`](Publication::publish) does this too. Call it to free memory before the next
    /// publication. Any thread may call it; it does not wait for readers.
    pub fn reclaim(&self) -> usize {
        let list = self.retired.lock().take();
        self.free_unread(list)
    }

    /// Step 4, for each value of a list. Returns how many readers still use.
    fn free_unread(&self, mut list: Retired<T>) -> usize {
        model_fence(Barrier::HazardWriter);
        let (mut kept, mut number) = (None, 0);
        while let Some(node) = list {
            list = node.next.take();
            if self.is_read(&node) {
                node.next.set(kept);
                kept = Some(node);
                number += 1;
            }
        }
        while let Some(node) = kept {
            kept = node.next.take();
            let mut retired = self.retired.lock();
            node.next.set(retired.take());
            *retired = Some(node);
        }
        number
    }

    /// Whether a reader may use this replaced value.
    fn is_read(&self, node: &Counted<Link<T>>) -> bool {
        let address = Counted::as_ptr(node).cast::<()>();
        let look = seq_cst(order(Barrier::HazardScan, Ordering::Acquire));
        let slots = self.slots.iter().flat_map(|cpu| &cpu.0);
        Counted::count(node) > 1
            || slots.into_iter().any(|slot| slot.load(look) == address.cast_mut())
    }
}

impl<S: HazardSlots, R: RawMutex, T> Publication<T> for HazardCell<S, R, T> {
    type Node = HazardNode<T>;
    type Guard<'a>
        = HazardGuard<'a, T>
    where
        Self: 'a;

    fn node(value: T) -> Result<HazardNode<T>, OutOfMemory> {
        Counted::new(Link { value, next: Cell::new(None) }).map(HazardNode)
    }

    fn new(node: HazardNode<T>) -> Self {
        HazardCell {
            current: AtomicPtr::new(Counted::into_raw(node.0).cast_mut()),
            slots: S::slots(),
            retired: Mutex::new(None),
            cpus: PhantomData,
        }
    }

    #[inline]
    fn read(&self) -> HazardGuard<'_, T> {
        // Relaxed: step 2 reads again.
        let mut seen = self.current.load(Ordering::Relaxed);
        let Some(slot) = self.claim(seen) else { return self.read_counted() };
        loop {
            model_fence(Barrier::HazardReader);
            let now = self.current.load(seq_cst(Ordering::Acquire));
            if now == seen {
                // SAFETY: the pointer came from a reference, so it is not null.
                let value = unsafe { NonNull::new_unchecked(seen) };
                return HazardGuard { value, slot: Some(slot), cell: PhantomData };
            }
            // Each round needs another publication, so some thread always makes progress.
            seen = now;
            slot.swap(seen.cast(), seq_cst(Ordering::Relaxed));
        }
    }

    fn publish(&self, node: HazardNode<T>) {
        let new = Counted::into_raw(node.0).cast_mut();
        let mut retired = self.retired.lock();
        let old = self.current.swap(new, seq_cst(order(Barrier::HazardPublish, Ordering::Release)));
        // SAFETY: this is the cell's own reference, which `into_raw` gave.
        let old = unsafe { Counted::from_raw(old) };
        old.next.set(retired.take());
        // Values are freed without the lock.
        drop(retired);
        self.free_unread(Some(old));
    }

    fn reclaim_replaced(&self) {
        self.reclaim();
    }
}

impl<S, R: RawMutex, T> Drop for HazardCell<S, R, T> {
    fn drop(&mut self) {
        // A guard borrows the cell, so no reader is left.
        // SAFETY: this is the cell's own reference, which `into_raw` gave.
        drop(unsafe { Counted::from_raw(self.current.load(Ordering::Relaxed)) });
        // One after the other: the drop of a long chain must not nest.
        let mut list = self.retired.get_mut().take();
        while let Some(node) = list {
            list = node.next.take();
        }
    }
}

impl<S: HazardSlots, R: RawMutex, T: fmt::Debug> fmt::Debug for HazardCell<S, R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HazardCell").field(&*self.read()).finish()
    }
}

/// Keeps a value of a [`HazardCell`] alive.
pub struct HazardGuard<'a, T> {
    // Not a reference: once the slot is empty, the value may go while the guard still exists.
    value: NonNull<Link<T>>,
    // `None`: the guard has counted a reference.
    slot: Option<&'static AtomicPtr<()>>,
    cell: PhantomData<&'a T>,
}

// SAFETY: a guard is a shared borrow of the value, and a slot or a reference, which any thread may
// give up.
unsafe impl<T: Send + Sync> Send for HazardGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for HazardGuard<'_, T> {}

impl<T> Deref for HazardGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot or the counted reference keeps the value alive until the guard's drop.
        unsafe { &self.value.as_ref().value }
    }
}

impl<T> Drop for HazardGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        match self.slot {
            // Step 6.
            Some(slot) => {
                slot.store(ptr::null_mut(), order(Barrier::HazardLeave, Ordering::Release));
            }
            // SAFETY: `read_counted` made a pointer of its reference, and this takes it back. It is
            // never the last: the cell has one until it sees that this one is gone.
            None => drop(unsafe { Counted::from_raw(self.value.as_ptr()) }),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for HazardGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HazardGuard").field(&**self).finish()
    }
}
