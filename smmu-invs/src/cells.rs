//! Two publications.
//!
//! 1. `node` allocates the block of a value and says so when it cannot; nothing else allocates.
//! 2. A value that was replaced is dropped by whoever gives up its last reference: the writer, or the last reader.

use core::fmt;
use core::mem;
use core::ops::Deref;

use lock_api::{Mutex, RawMutex};

use crate::counted::Counted;
use crate::{OutOfMemory, Publication};

/// A value with the memory that it needs to be published.
#[derive(Debug)]
#[must_use = "nothing is published yet"]
pub struct Node<T>(Counted<T>);

/// A value that was replaced, which readers may still have.
#[derive(Debug)]
pub struct Replaced<T>(Counted<T>);

impl<T> Replaced<T> {
    /// Whether a reader still has it. Once nobody has, nobody will.
    #[must_use]
    pub fn is_read(&self) -> bool {
        Counted::count(&self.0) > 1
    }
}

/// A publication behind the integrator's lock, for where there is no `std`.
///
/// A reader holds the lock for as long as it takes to count a reference, never while it walks or
/// waits; so does a writer. If arrays are read in interrupt context, the lock must disable
/// interrupts, and the allocator's `dealloc` be usable there: a reader may drop the last reference to an array.
pub struct LockCell<R, T>(Mutex<R, Counted<T>>);

impl<R: RawMutex, T> LockCell<R, T> {
    /// Replace the current value, and say when its last reader is done.
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

/// Keeps a value of a [`LockCell`].
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
        // The old value is dropped where no lock is held.
        drop(self.replace(node));
    }
}

#[cfg(feature = "std")]
pub use self::swap::{ArcSwapCell, ArcSwapGuard};

#[cfg(feature = "std")]
mod swap {
    use arc_swap::ArcSwapAny;

    use super::{Counted, Deref, Node, OutOfMemory, Publication, Replaced, fmt};

    /// A publication that readers read without a lock.
    ///
    /// The first read of each thread, of any cell, registers the thread and may allocate; a thread
    /// that must not allocate reads once before. `new` does it for its own thread.
    ///
    /// A cell on `crossbeam-epoch` was measured beside it (`cargo bench -p smmu-invs --features std`) and is not offered.
    /// A read costs about the same (4 ns against 3), and beside a thread that does nothing but publish the other is
    /// about twice as fast. But attaches are rare beside invalidations, and what the other takes for it weighs more:
    /// publishing allocates now and then, to queue the old array up, and the array is freed only when some thread
    /// happens to collect, so that nobody knows when its last reader is done.
    pub struct ArcSwapCell<T>(ArcSwapAny<Counted<T>>);

    impl<T> ArcSwapCell<T> {
        /// Replace the current value, and say when its last reader is done.
        pub fn replace(&self, node: Node<T>) -> Replaced<T> {
            Replaced(self.0.swap(node.0))
        }
    }

    impl<T: fmt::Debug> fmt::Debug for ArcSwapCell<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_tuple("ArcSwapCell").field(&*self.0.load()).finish()
        }
    }

    /// Keeps a value of an [`ArcSwapCell`].
    #[derive(Debug)]
    pub struct ArcSwapGuard<T>(arc_swap::Guard<Counted<T>>);

    impl<T> Deref for ArcSwapGuard<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
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
            let cell = ArcSwapCell(ArcSwapAny::new(node.0));
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
