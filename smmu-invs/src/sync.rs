//! The one door through which atomics and barriers come in, so that a model checker can put its own in their place, and
//! leave one out to see whether somebody notices.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Each barrier on which a promise of this crate rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(loom),
    expect(unreachable_pub, reason = "public for the model checker's tests alone")
)]
pub enum Barrier {
    /// The mapper's full fence between the table and the array.
    Mapper,
    /// The release of a state that becomes trash.
    TrashRelease,
    /// The acquire of a state that is read.
    TrashAcquire,
    /// The reader's full fence in the gate, between its count and the array.
    GateReader,
    /// The writer's full fence in the gate, between the array and the counts.
    GateWriter,
    /// The release with which a reader leaves the gate.
    GateLeave,
    /// The acquire with which the writer sees that a reader has left.
    GateWait,
    /// The release with which a reference to a published value is given up.
    CountRelease,
    /// The acquire before a value that nobody refers to is dropped.
    CountAcquire,
}

/// A full fence, unless the model checker is to go without.
#[inline]
pub(crate) fn full_fence(barrier: Barrier) {
    if is_kept(barrier) {
        fence(Ordering::SeqCst);
    }
}

/// An ordering, or [`Ordering::Relaxed`] if the model checker is to go without.
#[inline]
pub(crate) fn order(barrier: Barrier, order: Ordering) -> Ordering {
    if is_kept(barrier) { order } else { Ordering::Relaxed }
}

#[cfg(not(loom))]
use core::sync::atomic::fence;
#[cfg(loom)]
use loom::sync::atomic::fence;

#[cfg(not(loom))]
#[inline]
const fn is_kept(_: Barrier) -> bool {
    true
}

#[cfg(loom)]
use broken::is_kept;
#[cfg(loom)]
pub use broken::without;

#[cfg(loom)]
mod broken {
    extern crate std;

    use super::Barrier;
    use core::cell::Cell;

    std::thread_local! {
        // The model checker runs all threads of a model on the thread of its test.
        static LEFT_OUT: Cell<Option<Barrier>> = const { Cell::new(None) };
    }

    pub(crate) fn is_kept(barrier: Barrier) -> bool {
        LEFT_OUT.get() != Some(barrier)
    }

    /// Run a model without one barrier.
    pub fn without(barrier: Barrier, model: impl FnOnce()) {
        struct Restore;
        impl Drop for Restore {
            fn drop(&mut self) {
                LEFT_OUT.set(None);
            }
        }
        let _restore = Restore;
        LEFT_OUT.set(Some(barrier));
        model();
    }
}
