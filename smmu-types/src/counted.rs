//! A counted reference whose allocation can fail, which `Arc` cannot offer.
//!
//! 1. A block lives while its count is more than 0. Each [`Counted`] adds one to the count.
//! 2. All borrows of the value are shared, until the last reference drops it.

#![expect(unsafe_code, reason = "the reference counts and frees its memory")]

use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

use crate::sync::{AtomicUsize, Barrier, Ordering, order};

/// The allocator has no memory for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for {bytes} bytes; free some and try again")]
pub struct OutOfMemory {
    /// Bytes of the request to the allocator.
    pub bytes: usize,
}

// The value comes first: it has the address of the block.
#[repr(C)]
struct CountedBlock<T> {
    value: T,
    count: AtomicUsize,
}

/// One reference to a value, as `Arc` is, in memory whose shortage is an error instead of an abort.
///
/// The last reference drops the value. Functions take the reference as an argument, so that they
/// hide no method of the value.
///
/// ```
/// use smmu_types::Counted;
///
/// let first = Counted::new([1, 2, 3])?;
/// let second = first.clone();
/// assert!(Counted::ptr_eq(&first, &second) && second[2] == 3);
/// drop(first);
/// assert_eq!(Counted::into_inner(second).unwrap(), [1, 2, 3]);
/// # Ok::<(), smmu_types::OutOfMemory>(())
/// ```
pub struct Counted<T> {
    block: NonNull<CountedBlock<T>>,
    owns: PhantomData<CountedBlock<T>>,
}

// SAFETY: like `Arc`: any thread may read the value or drop it, which `Send + Sync` allows.
unsafe impl<T: Send + Sync> Send for Counted<T> {}
// SAFETY: as above; another thread can clone the reference that it borrows.
unsafe impl<T: Send + Sync> Sync for Counted<T> {}

impl<T> Counted<T> {
    const LAYOUT: Layout = Layout::new::<CountedBlock<T>>();

    /// Bytes of the one allocation that holds the value and its count.
    pub const BYTES: usize = Self::LAYOUT.size();

    /// Moves a value into a new block.
    ///
    /// # Errors
    ///
    /// No memory for the block.
    pub fn new(value: T) -> Result<Self, OutOfMemory> {
        // SAFETY: a block has a count, so its layout is not of size 0.
        let memory = unsafe { alloc(Self::LAYOUT) };
        let Some(block) = NonNull::new(memory.cast::<CountedBlock<T>>()) else {
            return Err(OutOfMemory { bytes: Self::BYTES });
        };
        // SAFETY: the memory is new and has the layout of a block.
        unsafe { block.write(CountedBlock { value, count: AtomicUsize::new(1) }) };
        Ok(Counted { block, owns: PhantomData })
    }

    fn block(&self) -> &CountedBlock<T> {
        // SAFETY: the block is alive by invariant 1, and by 2 no borrow is mutable.
        unsafe { self.block.as_ref() }
    }

    /// How many references there are.
    #[must_use]
    pub fn count(me: &Self) -> usize {
        me.block().count.load(Ordering::Acquire)
    }

    /// Whether both lead to the same value, not to equal ones.
    #[must_use]
    pub fn ptr_eq(a: &Self, b: &Self) -> bool {
        a.block == b.block
    }

    /// Address of the value: an order among values that live.
    #[must_use]
    pub fn address(me: &Self) -> usize {
        me.block.as_ptr().addr()
    }

    /// The value, if this is the only reference to it.
    ///
    /// # Errors
    ///
    /// There is another reference. This one comes back.
    pub fn into_inner(me: Self) -> Result<T, Self> {
        // Acquire: what the holders of dropped references read, they read before the value moves.
        if Self::count(&me) != 1 {
            return Err(me);
        }
        let me = core::mem::ManuallyDrop::new(me);
        // SAFETY: the value is the first field. The only reference is this one, and nothing reads
        // the value through it again.
        let value = unsafe { me.block.cast::<T>().read() };
        // SAFETY: the count needs no drop; the block was allocated with this layout.
        unsafe { dealloc(me.block.as_ptr().cast(), Self::LAYOUT) };
        Ok(value)
    }

    /// Gives up the reference without counting it down, so the value lives for ever.
    #[must_use]
    pub fn leak(me: Self) -> &'static T
    where
        T: 'static,
    {
        let value = Self::into_raw(me);
        // SAFETY: the reference that is given up keeps the block alive, by invariants 1 and 2.
        unsafe { &*value }
    }

    /// A pointer to the value. The count does not change.
    #[must_use]
    pub fn as_ptr(me: &Self) -> *const T {
        me.block.as_ptr().cast_const().cast()
    }

    /// The reference as a pointer to the value. [`from_raw`](Self::from_raw) takes it back; without
    /// that the value is never dropped.
    #[must_use]
    pub fn into_raw(me: Self) -> *const T {
        Self::as_ptr(&core::mem::ManuallyDrop::new(me))
    }

    /// Takes a reference back.
    ///
    /// # Safety
    ///
    /// The pointer came from [`into_raw`](Self::into_raw), or from [`as_ptr`](Self::as_ptr) of a
    /// reference that was forgotten. Each such reference is taken back once at most.
    #[must_use]
    pub unsafe fn from_raw(value: *const T) -> Self {
        // SAFETY: the pointer came from a block, which a forgotten reference keeps alive.
        let block = unsafe { NonNull::new_unchecked(value.cast_mut().cast()) };
        Counted { block, owns: PhantomData }
    }
}

impl<T> Clone for Counted<T> {
    fn clone(&self) -> Self {
        // Relaxed: `self` keeps the value alive meanwhile.
        let before = self.block().count.fetch_add(1, Ordering::Relaxed);
        if before > usize::MAX / 2 {
            self.block().count.fetch_sub(1, Ordering::Relaxed);
            too_many();
        }
        Counted { block: self.block, owns: PhantomData }
    }
}

#[cold]
#[expect(
    clippy::panic,
    reason = "only after 2^31 forgotten references; a wrapped count would free under the others"
)]
fn too_many() -> ! {
    panic!("a counted value has too many references")
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        // Release: all reads through this reference come before the drop of the value.
        let release = order(Barrier::CountRelease, Ordering::Release);
        if self.block().count.fetch_sub(1, release) != 1 {
            return;
        }
        // Acquire: pairs with the release of all other references. A load, because ThreadSanitizer
        // does not know fences.
        let _ = self.block().count.load(order(Barrier::CountAcquire, Ordering::Acquire));
        // SAFETY: this was the last reference by invariant 1, so no thread can reach the value.
        unsafe { self.block.drop_in_place() };
        // SAFETY: `new` allocated the block with this layout, and no reference is left.
        unsafe { dealloc(self.block.as_ptr().cast(), Self::LAYOUT) };
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.block().value
    }
}

impl<T: fmt::Debug> fmt::Debug for Counted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use alloc::vec::Vec;

    #[test]
    fn inv_1_the_last_reference_drops_the_value() {
        let life = Arc::new(());
        let first = Counted::new(life.clone()).unwrap();
        let others: Vec<_> = (0..5).map(|_| first.clone()).collect();
        assert_eq!((Counted::count(&first), Arc::strong_count(&life)), (6, 2));
        drop(first);
        assert_eq!((Counted::count(&others[0]), Arc::strong_count(&life)), (5, 2));
        drop(others);
        assert_eq!(Arc::strong_count(&life), 1);
    }

    #[test]
    fn inv_2_only_the_last_reference_takes_the_value_out() {
        let life = Arc::new(());
        let first = Counted::new(life.clone()).unwrap();
        let second = first.clone();
        assert!(
            Counted::ptr_eq(&first, &second)
                && Counted::address(&first) == Counted::address(&second)
        );
        let first = Counted::into_inner(first).unwrap_err();
        drop(second);
        let value = Counted::into_inner(first).unwrap();
        assert_eq!(Arc::strong_count(&life), 2);
        drop(value);
        assert_eq!(Arc::strong_count(&life), 1);
    }

    #[test]
    fn inv_1_a_pointer_stands_for_a_reference() {
        let life = Arc::new(());
        let first = Counted::new(life.clone()).unwrap();
        let raw = Counted::into_raw(first.clone());
        assert_eq!((raw, Counted::count(&first)), (Counted::as_ptr(&first), 2));
        drop(first);
        assert_eq!(Arc::strong_count(&life), 2);
        // SAFETY: `raw` is taken back once.
        drop(unsafe { Counted::from_raw(raw) });
        assert_eq!(Arc::strong_count(&life), 1);
    }

    #[test]
    fn values_of_any_alignment_and_size() {
        #[repr(align(64))]
        struct Wide(u8);
        let wide = Counted::new(Wide(7)).unwrap();
        assert_eq!((wide.0, core::ptr::from_ref(&*wide).addr() % 64), (7, 0));
        assert_eq!((Counted::<Wide>::BYTES, Counted::<()>::BYTES), (128, size_of::<usize>()));
        let (a, b) = (Counted::new(()).unwrap(), Counted::new(()).unwrap());
        assert_ne!(a.block, b.block);
    }
}
