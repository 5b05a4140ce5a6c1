//! Making the n-th allocation fail.
//!
//! A scenario can show that a preparation survives the failure of *every* allocation it makes. The
//! program's allocator asks [`fails`] before each allocation. If the allocator does not ask, the
//! program sees only the failures that the engine counts itself: a new `Arc`, which cannot return
//! an error on stable Rust, and a block of DMA memory.
//!
//! With `std` each thread has a countdown of its own. Without `std` there is one for the program:
//! while a countdown runs, no other CPU and no interrupt handler may allocate.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One countdown. `Relaxed` everywhere: one thread at a time uses it.
struct Countdown {
    // 0: not armed. n: the n-th allocation from now on fails.
    left: AtomicU64,
    suspended: AtomicU32,
}

impl Countdown {
    const fn new() -> Self {
        Countdown { left: AtomicU64::new(0), suspended: AtomicU32::new(0) }
    }

    fn fails(&self) -> bool {
        if self.suspended.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let counted = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted) == Ok(1)
    }
}

#[cfg(feature = "std")]
fn with<T>(use_it: impl FnOnce(&Countdown) -> T) -> Option<T> {
    std::thread_local! {
        static COUNTDOWN: Countdown = const { Countdown::new() };
    }
    // A thread that is being torn down has no countdown any more.
    COUNTDOWN.try_with(use_it).ok()
}

#[cfg(not(feature = "std"))]
fn with<T>(use_it: impl FnOnce(&Countdown) -> T) -> Option<T> {
    static COUNTDOWN: Countdown = Countdown::new();
    Some(use_it(&COUNTDOWN))
}

/// Whether the allocation that the caller is about to make fails. Counts it. Does not allocate.
#[must_use]
pub fn fails() -> bool {
    with(Countdown::fails).unwrap_or(false)
}

/// While it lives, the `n`-th allocation fails, counted from 1.
#[derive(Debug)]
#[must_use]
pub struct Armed(());

impl Armed {
    /// Arm.
    pub fn nth(n: u64) -> Self {
        with(|countdown| countdown.left.store(n, Ordering::Relaxed));
        Armed(())
    }

    /// Whether the failure has happened.
    #[must_use]
    pub fn fired(&self) -> bool {
        with(|countdown| countdown.left.load(Ordering::Relaxed) == 0).unwrap_or(false)
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        with(|countdown| countdown.left.store(0, Ordering::Relaxed));
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
            with(|countdown| countdown.suspended.fetch_sub(1, Ordering::Relaxed));
        }
    }
    with(|countdown| countdown.suspended.fetch_add(1, Ordering::Relaxed));
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
