//! Two publications in safe code.
//!
//! Neither asks for memory to publish. [`Arc`] cannot report that there is none, so the blocks are
//! allocated with the cell, and go round.
//!
//! 1. A block is written only while nobody else has a reference to it.
//! 2. At most [`SPARES`] blocks wait; one that readers hold beyond that is theirs to drop.
//! 3. A value that was replaced is dropped by the first `publish` after its last reader, if not
//!    before.

use core::fmt;
use core::mem;
use core::ops::Deref;

use lock_api::{Mutex, RawMutex};

use crate::sync::Arc;
use crate::{OutOfMemory, Publication};

/// Older values that can be read all at once before a further publication allocates.
const SPARES: usize = 4;

struct Spares<T>([Option<Arc<T>>; SPARES]);

/// Values, and a block, that are to be dropped where no lock is held.
type Garbage<T> = ([Option<T>; SPARES], Option<Arc<T>>);

impl<T: Default> Spares<T> {
    fn new() -> Self {
        Spares(core::array::from_fn(|_| Some(Arc::default())))
    }

    /// A block with `value`, and what was in it before.
    fn fill(&mut self, value: T) -> (Arc<T>, Option<T>) {
        let unread = self.0.iter_mut().find_map(|slot| {
            let unread = slot.as_mut().is_some_and(|block| Arc::get_mut(block).is_some());
            if unread { slot.take() } else { None }
        });
        if let Some(mut block) = unread
            && let Some(place) = Arc::get_mut(&mut block)
        {
            let before = mem::replace(place, value);
            return (block, Some(before));
        }
        (Arc::new(value), None)
    }

    /// Keep a block that was replaced, and give up the values that nobody reads any more.
    fn keep(&mut self, replaced: Arc<T>) -> Garbage<T> {
        let surplus = match self.0.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => {
                *slot = Some(replaced);
                None
            }
            None => Some(replaced),
        };
        let unread = self.0.each_mut().map(|slot| {
            let place = slot.as_mut().and_then(Arc::get_mut);
            place.map(mem::take)
        });
        (unread, surplus)
    }
}

struct Current<T> {
    block: Arc<T>,
    spares: Spares<T>,
}

/// A publication behind the integrator's lock, for where there is no `std`.
///
/// A reader holds the lock for as long as it takes to count a reference, never while it walks or
/// waits; so does a writer. If arrays are read in interrupt context, the lock must disable
/// interrupts, and the allocator be usable there (a reader may drop the last reference to a block).
///
/// `new` allocates five small blocks and, where there is no memory, does what [`Arc::new`] does.
/// `node` and `publish` need no memory, unless readers hold five values at once.
pub struct LockCell<R, T>(Mutex<R, Current<T>>);

impl<R: RawMutex, T: fmt::Debug> fmt::Debug for LockCell<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let block = self.0.lock().block.clone();
        f.debug_tuple("LockCell").field(&block).finish()
    }
}

/// Keeps a value of a [`LockCell`].
#[derive(Debug)]
pub struct LockGuard<T>(Arc<T>);

impl<T> Deref for LockGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<R: RawMutex, T: Default> Publication<T> for LockCell<R, T> {
    type Node = T;
    type Guard<'a>
        = LockGuard<T>
    where
        Self: 'a;

    fn node(value: T) -> Result<T, OutOfMemory> {
        Ok(value)
    }

    fn new(node: T) -> Self {
        LockCell(Mutex::new(Current { block: Arc::new(node), spares: Spares::new() }))
    }

    fn read(&self) -> LockGuard<T> {
        LockGuard(self.0.lock().block.clone())
    }

    fn publish(&self, node: T) {
        let mut current = self.0.lock();
        let (block, before) = current.spares.fill(node);
        let replaced = mem::replace(&mut current.block, block);
        let garbage = current.spares.keep(replaced);
        drop(current);
        drop((before, garbage));
    }
}

#[cfg(feature = "std")]
pub use self::swap::{ArcSwapCell, ArcSwapGuard};

#[cfg(feature = "std")]
mod swap {
    extern crate std;

    use arc_swap::ArcSwap;
    use std::sync::{Mutex, PoisonError};

    use super::{Arc, Deref, OutOfMemory, Publication, Spares, fmt};

    /// A publication that readers read without a lock.
    ///
    /// The first read of each thread, of any cell, registers the thread and may allocate; a thread
    /// that must not allocate reads once before. `new` does it for its own thread, and allocates
    /// five small blocks; where there is no memory, it does what [`Arc::new`] does. `node` and
    /// `publish` need no memory, unless readers hold five values at once.
    pub struct ArcSwapCell<T> {
        current: ArcSwap<T>,
        spares: Mutex<Spares<T>>,
    }

    impl<T: fmt::Debug> fmt::Debug for ArcSwapCell<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_tuple("ArcSwapCell").field(&*self.current.load()).finish()
        }
    }

    /// Keeps a value of an [`ArcSwapCell`].
    #[derive(Debug)]
    pub struct ArcSwapGuard<T>(arc_swap::Guard<Arc<T>>);

    impl<T> Deref for ArcSwapGuard<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T: Default> Publication<T> for ArcSwapCell<T> {
        type Node = T;
        type Guard<'a>
            = ArcSwapGuard<T>
        where
            Self: 'a;

        fn node(value: T) -> Result<T, OutOfMemory> {
            Ok(value)
        }

        fn new(node: T) -> Self {
            let cell = ArcSwapCell {
                current: ArcSwap::from_pointee(node),
                spares: Mutex::new(Spares::new()),
            };
            drop(cell.read());
            cell
        }

        fn read(&self) -> ArcSwapGuard<T> {
            ArcSwapGuard(self.current.load())
        }

        fn publish(&self, node: T) {
            // Writers only: readers never touch the spares.
            let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
            let (block, before) = spares.fill(node);
            let replaced = self.current.swap(block);
            let garbage = spares.keep(replaced);
            drop(spares);
            drop((before, garbage));
        }
    }
}
