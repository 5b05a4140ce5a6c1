//! Making the n-th allocation of this thread fail.
//!
//! The harness runs on an allocator that fails on demand, so that a scenario can show that a preparation
//! survives the failure of *every* allocation it makes: also of one that nobody thought of, which would abort
//! the process.
//!
//! Two kinds of allocation cannot return an error on stable Rust or are not the heap's: a new `Arc`, and
//! a block of DMA memory. The harness counts those itself.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // 0: not armed. n: the n-th allocation from now on fails.
    static COUNTDOWN: Cell<u64> = const { Cell::new(0) };
    static SUSPENDED: Cell<u32> = const { Cell::new(0) };
}

/// The system's allocator, with a fuse.
#[derive(Debug)]
pub struct FaultAllocator;

#[global_allocator]
static ALLOCATOR: FaultAllocator = FaultAllocator;

/// Whether the allocation that is about to be made fails.
fn fails() -> bool {
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

// SAFETY: every call is passed on to the system's allocator unchanged, or answered with null, which the
// trait allows at any time. Looking at a const-initialised thread-local without a destructor does not allocate.
unsafe impl GlobalAlloc for FaultAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: `pointer` came from the same system allocator; the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from the same system allocator; the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
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
    fn the_nth_allocation_fails_and_only_that_one() {
        let armed = Armed::nth(2);
        let mut vectors = [const { Vec::<u64>::new() }; 3];
        let results = vectors.each_mut().map(|v| v.try_reserve_exact(4).is_ok());
        let fired = armed.fired();
        drop(armed);
        assert_eq!(results, [true, false, true]);
        assert!(fired);
    }

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
