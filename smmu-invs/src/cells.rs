//! Two publications: [`LockCell`] and `ArcSwapCell`.
//!
//! 1. `node` allocates the block of a value, and reports an error if it cannot. Nothing else
//!    allocates.
//! 2. The last reference to a replaced value drops it, on the writer's thread or on a reader's.

use core::fmt;
use core::mem;
use core::ops::Deref;

use lock_api::{Mutex, RawMutex};

use crate::{Counted, OutOfMemory, Publication};

/// A value in the memory that its publication needs.
#[derive(Debug)]
#[must_use = "nothing is published yet"]
pub struct Node<T>(Counted<T>);

/// A replaced value. Readers may still use it.
#[derive(Debug)]
pub struct Replaced<T>(Counted<T>);

impl<T> Replaced<T> {
    /// Whether a reader still uses the value. Once `false`, it stays `false`.
    #[must_use]
    pub fn is_read(&self) -> bool {
        Counted::count(&self.0) > 1
    }
}

/// A publication behind the integrator's lock, for `no_std`.
///
/// The simplest one. With several CPUs, take a [`HazardCell`](crate::HazardCell), whose readers
/// take no lock.
///
/// Readers and writers hold the lock while they count a reference, never while they walk or wait.
///
/// If interrupt handlers read arrays, the lock must disable interrupts. The allocator's `dealloc`
/// must work in an interrupt handler too, because a reader may drop the last reference to an array.
pub struct LockCell<R, T>(Mutex<R, Counted<T>>);

impl<R: RawMutex, T> LockCell<R, T> {
    /// Replaces the current value. The result tells when its last reader is done.
    pub fn replace(&self, node: Node<T>) -> Replaced<T> {
        Replaced(mem::replace(&mut *self.0.lock(), node.0))
    }
}

impl<R: RawMutex, T: fmt::Debug> fmt::Debug for LockCell<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0.lock().clone();
        f.debug_tuple("LockCell").field(&value).finish()
    }
}

/// Keeps a value of a [`LockCell`] alive.
#[derive(Debug)]
pub struct LockGuard<T>(Counted<T>);

impl<T> Deref for LockGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<R: RawMutex, T> Publication<T> for LockCell<R, T> {
    type Node = Node<T>;
    type Guard<'a>
        = LockGuard<T>
    where
        Self: 'a;

    fn node(value: T) -> Result<Node<T>, OutOfMemory> {
        Counted::new(value).map(Node)
    }

    fn new(node: Node<T>) -> Self {
        LockCell(Mutex::new(node.0))
    }

    fn read(&self) -> LockGuard<T> {
        LockGuard(self.0.lock().clone())
    }

    fn publish(&self, node: Node<T>) {
        // `replace` has released the lock, so the drop of the old value runs without it.
        drop(self.replace(node));
    }
}

#[cfg(feature = "std")]
pub use self::swap::{ArcSwapCell, ArcSwapGuard};

#[cfg(feature = "std")]
mod swap {
    #![expect(unsafe_code, reason = "tells arc-swap how a reference becomes a pointer")]

    use arc_swap::{ArcSwapAny, RefCnt};

    use super::{Counted, Deref, Node, OutOfMemory, Publication, Replaced, fmt};

    /// A reference that `arc-swap` may hold: neither its trait nor the reference is of this crate.
    struct SwapRef<T>(Counted<T>);

    impl<T> Clone for SwapRef<T> {
        fn clone(&self) -> Self {
            SwapRef(self.0.clone())
        }
    }

    // SAFETY: a pointer to the value is a pointer to its block, which has its own count. `into_ptr`
    // and `as_ptr` give the same pointer and do not change the count; `from_ptr` takes such a
    // pointer back. Only a clone panics, beyond `usize::MAX / 2` references, and each of them needs
    // a guard.
    unsafe impl<T> RefCnt for SwapRef<T> {
        type Base = T;

        fn into_ptr(me: Self) -> *mut T {
            Counted::into_raw(me.0).cast_mut()
        }

        fn as_ptr(me: &Self) -> *mut T {
            Counted::as_ptr(&me.0).cast_mut()
        }

        unsafe fn from_ptr(pointer: *const T) -> Self {
            // SAFETY: the pointer came from `into_ptr` or `as_ptr`, as the caller vouches.
            SwapRef(unsafe { Counted::from_raw(pointer) })
        }
    }

    /// A publication whose readers take no lock.
    ///
    /// The first read of a thread, of any cell, registers the thread and may allocate. A thread
    /// that must not allocate reads once in advance. `new` reads once on its own thread.
    ///
    /// `cargo bench -p smmu-invs --features std` compares it with a cell on `crossbeam-epoch`,
    /// which this crate does not offer. A read costs about the same (4 ns here, 3 ns there). Beside
    /// a thread that only publishes, the other cell is about twice as fast, but attaches are rare
    /// beside invalidations. Its drawbacks weigh more: a publication allocates now and then, to
    /// queue the old array, and no caller knows when the last reader of an array is done.
    pub struct ArcSwapCell<T>(ArcSwapAny<SwapRef<T>>);

    impl<T> ArcSwapCell<T> {
        /// Replaces the current value. The result tells when its last reader is done.
        pub fn replace(&self, node: Node<T>) -> Replaced<T> {
            Replaced(self.0.swap(SwapRef(node.0)).0)
        }
    }

    impl<T: fmt::Debug> fmt::Debug for ArcSwapCell<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_tuple("ArcSwapCell").field(&*self.0.load().0).finish()
        }
    }

    /// Keeps a value of an [`ArcSwapCell`] alive.
    pub struct ArcSwapGuard<T>(arc_swap::Guard<SwapRef<T>>);

    impl<T: fmt::Debug> fmt::Debug for ArcSwapGuard<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_tuple("ArcSwapGuard").field(&**self).finish()
        }
    }

    impl<T> Deref for ArcSwapGuard<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0.0
        }
    }

    impl<T> Publication<T> for ArcSwapCell<T> {
        type Node = Node<T>;
        type Guard<'a>
            = ArcSwapGuard<T>
        where
            Self: 'a;

        fn node(value: T) -> Result<Node<T>, OutOfMemory> {
            Counted::new(value).map(Node)
        }

        fn new(node: Node<T>) -> Self {
            let cell = ArcSwapCell(ArcSwapAny::new(SwapRef(node.0)));
            // Registers this thread, so that its later reads do not allocate.
            drop(cell.read());
            cell
        }

        fn read(&self) -> ArcSwapGuard<T> {
            ArcSwapGuard(self.0.load())
        }

        fn publish(&self, node: Node<T>) {
            drop(self.replace(node));
        }
    }
}
