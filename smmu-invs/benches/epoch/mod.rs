//! A publication on `crossbeam-epoch`, as a baseline for the others.

use std::ops::Deref;
use std::sync::atomic::Ordering;

use crossbeam_epoch::{Atomic, Guard, Owned, pin};
use smmu_invs::{OutOfMemory, Publication};

/// A pointer to the current value. Some thread frees old values later.
pub(crate) struct EpochCell<T>(Atomic<T>);

pub(crate) struct EpochGuard<T> {
    value: *const T,
    _pinned: Guard,
}

impl<T> Deref for EpochGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value was current when this thread pinned itself, and the thread is still
        // pinned.
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
        // SAFETY: `old` is not the current value any more. Only threads that are pinned now may
        // have it.
        unsafe { pinned.defer_destroy(old) };
    }
}
