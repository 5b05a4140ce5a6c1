//! A publication on `crossbeam-epoch`, to measure the others against.

use std::ops::Deref;
use std::sync::atomic::Ordering;

use crossbeam_epoch::{Atomic, Guard, Owned, pin};
use smmu_invs::{OutOfMemory, Publication};

/// A pointer to the current value; old ones are freed when some thread collects.
pub(crate) struct EpochCell<T>(Atomic<T>);

pub(crate) struct EpochGuard<T> {
    value: *const T,
    _pinned: Guard,
}

impl<T> Deref for EpochGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value was current when the thread was pinned, which it still is.
        unsafe { &*self.value }
    }
}

impl<T: Send + Sync + 'static> Publication<T> for EpochCell<T> {
    type Node = Owned<T>;
    type Guard<'a> = EpochGuard<T>;

    fn node(value: T) -> Result<Owned<T>, OutOfMemory> {
        Ok(Owned::new(value))
    }

    fn new(node: Owned<T>) -> Self {
        EpochCell(Atomic::from(node))
    }

    fn read(&self) -> EpochGuard<T> {
        let pinned = pin();
        let value = self.0.load(Ordering::Acquire, &pinned).as_raw();
        EpochGuard { value, _pinned: pinned }
    }

    fn publish(&self, node: Owned<T>) {
        let pinned = pin();
        let old = self.0.swap(node, Ordering::AcqRel, &pinned);
        // SAFETY: it is not the current value any more, so nobody comes to have it who is not
        // pinned now.
        unsafe { pinned.defer_destroy(old) };
    }
}
