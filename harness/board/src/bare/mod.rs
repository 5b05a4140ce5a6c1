//! A program without an operating system, at EL1 or EL2 of AArch64.
//!
//! [`bare_main!`](crate::bare_main) starts it: memory map, heap, console, exceptions. Build it for
//! `aarch64-unknown-none-softfloat`: the exception vectors save no SIMD register.

pub mod composition;
pub mod console;
pub mod cpu;
pub mod cpus;
mod exceptions;
pub mod exit;
pub mod failure;
pub mod gic;
pub mod irq_mutex;
pub mod memory_map;
pub mod report;
pub mod smmu_interrupts;
mod start;
#[cfg(feature = "scenarios")]
pub mod together;

#[doc(hidden)]
pub use aarch64_rt;
pub use start::{Board, StartError, image, loaded_bytes, run};

/// Defines the entry of a program: `bare_main!(main)`, where `main` is
/// `fn(Board) -> Result<(), E>` with an `E` that prints.
///
/// `Ok` ends the program with status 0. `Err` prints the error, and ends it with status 1.
#[macro_export]
macro_rules! bare_main {
    ($main:path) => {
        // The header of a Linux image (Documentation/arch/arm64/booting.rst of Linux): boot
        // loaders read where to load it, and how much memory it needs with its stacks.
        core::arch::global_asm!(
            ".section .head, \"ax\"",
            "b entry",
            ".long 0",
            ".quad 0x200000",
            ".quad smmu_board_image_bytes",
            // Little endian, pages of 4 KiB, near the start of RAM.
            ".quad 0x2",
            ".quad 0, 0, 0",
            ".ascii \"ARM\\x64\"",
            ".long 0",
            ".text",
        );

        // Pages of the first CPU's stack. A build for size copies large values more often: the start
        // of the SMMUs needs more than 40.
        $crate::bare::aarch64_rt::entry!(__smmu_board_entry, 80);

        fn __smmu_board_entry(device_tree: u64, _: u64, _: u64, _: u64) -> ! {
            $crate::bare::run(device_tree, $main)
        }
    };
}
