//! The entry of the process, and what the kernel has put on its stack.

use alloc::vec::Vec;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::auxvec::AT_PAGESZ;

/// The page of the kernel, which the auxiliary vector tells.
static PAGE_BYTES: AtomicU64 = AtomicU64::new(4096);

/// Bytes of a page of the kernel.
#[must_use]
pub fn page_bytes() -> u64 {
    PAGE_BYTES.load(Ordering::Relaxed)
}

/// Reads the initial stack: the arguments without the name of the program, and the page size. What
/// is no UTF-8 becomes an argument that no program has.
///
/// # Safety
///
/// `stack` is the stack pointer as it was at the entry of the process.
#[must_use]
pub unsafe fn arguments(stack: *const usize) -> Vec<&'static str> {
    // SAFETY: the kernel puts there the number of arguments, the arguments and 0, the environment
    // and 0, then pairs of the auxiliary vector up to one that begins with 0.
    let word = |at: usize| unsafe { stack.wrapping_add(at).read() };
    let count = word(0);
    let texts = (1..count).map(|n| {
        let text = word(1 + n) as *const core::ffi::c_char;
        // SAFETY: each argument is a string that ends with 0 and stays for ever.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("\u{fffd}")
    });
    let mut at = 2 + count;
    while word(at) != 0 {
        at += 1;
    }
    at += 1;
    while word(at) != 0 {
        if word(at) == AT_PAGESZ as usize {
            PAGE_BYTES.store(word(at + 1) as u64, Ordering::Relaxed);
        }
        at += 2;
    }
    texts.collect()
}

/// Defines the entry of a process: `linux_main!(main)`, where `main` is
/// `fn(*const usize) -> u8`: it takes the initial stack for [`arguments`], and returns the exit
/// status. It first gives the heap its memory.
#[macro_export]
macro_rules! linux_main {
    ($main:path) => {
        core::arch::global_asm!(
            ".global _start",
            "_start:",
            // No frame is above this one.
            "mov x29, #0",
            "mov x30, #0",
            "mov x0, sp",
            "b {begin}",
            begin = sym __linux_begin,
        );

        extern "C" fn __linux_begin(stack: *const usize) -> ! {
            $crate::linux::process::exit($main(stack))
        }
    };
}
