//! Making the n-th allocation of this thread fail.
//!
//! A scenario can show that a preparation survives the failure of *every* allocation it makes. The
//! program's allocator asks [`fails`] before each allocation. If the allocator does not ask, the
//! program sees only the failures that the engine counts itself: a new `Arc`, which cannot return
//! an error on stable Rust, and a block of DMA memory.

use core::cell::Cell;

thread_local! {
    // 0: not armed. n: the n-th allocation from now on fails.
    static COUNTDOWN: Cell<u64> = const { Cell::new(0) };
    static SUSPENDED: Cell<u32> = const { Cell::new(0) };
}

/// Whether the allocation that this thread is about to make fails. Counts it. Does not allocate.
#[must_use]
pub fn fails() -> bool {
    // A thread that is being torn down has no countdown any more, and never fails.
    let suspended = SUSPENDED.try_with(Cell::get).unwrap_or(1) > 0;
    if suspended {
        return false;
    }
    COUNTDOWN
        .try_with(|countdown| match countdown.get() {
            0 => false,
            n => {
                countdown.set(n - 1);
                n == 1
            }
        })
        .unwrap_or(false)
}

/// While it lives, the `n`-th allocation of this thread fails, counted from 1.
#[derive(Debug)]
#[must_use]
pub struct Armed(());

impl Armed {
    /// Arm.
    pub fn nth(n: u64) -> Self {
        COUNTDOWN.set(n);
        Armed(())
    }

    /// Whether the failure has happened.
    #[must_use]
    pub fn fired(&self) -> bool {
        COUNTDOWN.get() == 0
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        COUNTDOWN.set(0);
    }
}

/// Count one allocation that the heap does not see. `Err` when it is the one that fails.
pub(crate) fn checkpoint() -> Result<(), Failed> {
    if fails() { Err(Failed) } else { Ok(()) }
}

/// The allocation is the one that fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

/// Run something whose allocations are not the driver's.
pub(crate) fn suspended<T>(run: impl FnOnce() -> T) -> T {
    struct Resume;
    impl Drop for Resume {
        fn drop(&mut self) {
            SUSPENDED.set(SUSPENDED.get() - 1);
        }
    }
    SUSPENDED.set(SUSPENDED.get() + 1);
    let _resume = Resume;
    run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_drivers_does_not_count() {
        let armed = Armed::nth(1);
        let kept = suspended(|| vec![1u8; 100]);
        let first = checkpoint().is_err();
        let second = checkpoint().is_ok();
        drop(armed);
        assert_eq!((kept.len(), first, second), (100, true, true));
    }
}
