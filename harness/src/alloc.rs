//! The program's allocator: it fails the allocations that a scenario names.
//!
//! So a scenario finds an allocation whose failure the driver does not handle.

use std::alloc::{GlobalAlloc, Layout, System};

use smmu_engine::alloc_fault::fails;

/// The system's allocator, with failures on request.
#[derive(Debug)]
struct FaultAllocator;

#[global_allocator]
static ALLOCATOR: FaultAllocator = FaultAllocator;

// SAFETY: each call goes to the system's allocator unchanged, or returns null, which the trait
// always allows. `fails` does not allocate.
unsafe impl GlobalAlloc for FaultAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller guarantees what `System` requires of `layout`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller guarantees what `System` requires of `layout`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: `pointer` came from `System`; the caller guarantees the rest.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System`; the caller guarantees the rest.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use smmu_engine::alloc_fault::Armed;

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
}
