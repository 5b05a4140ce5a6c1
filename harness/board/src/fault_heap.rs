//! A heap that fails the allocations which a scenario names.

use core::alloc::{GlobalAlloc, Layout};
use core::ops::Deref;
use core::ptr;

use smmu_engine::alloc_fault::fails;

/// The heap behind, with failures on request.
#[derive(Debug)]
pub struct FaultHeap<A>(pub A);

impl<A> Deref for FaultHeap<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.0
    }
}

// SAFETY: each call goes to the heap behind unchanged, or returns null, which the trait always
// allows. `fails` does not allocate.
unsafe impl<A: GlobalAlloc> GlobalAlloc for FaultHeap<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return ptr::null_mut();
        }
        // SAFETY: the caller guarantees what the heap requires of `layout`.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from the heap behind, with this layout.
        unsafe { self.0.dealloc(pointer, layout) }
    }
}
