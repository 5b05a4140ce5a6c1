//! The SMMU driver on a CPU beside an SMMU: from the device tree to DMA through the SMMU.
//!
//! A program on a board does five things with this library. The binary `tour` does all of them.
//!
//! | step | with |
//! |---|---|
//! | 1. start, at EL1 or EL2 | [`bare_main!`](crate::bare_main) |
//! | 2. find the machine | [`machine::Machine`], read from the device tree |
//! | 3. start its SMMUs | [`bare::composition`]: the seams of `smmu-driver` on this CPU |
//! | 4. find a device, and let it do DMA | [`pci`], [`dma`] |
//! | 5. hear of faults | [`bare::gic`], [`bare::smmu_interrupts`] |
//!
//! Modules outside of [`bare`] need no privilege. A process of Linux uses them too.
//!
//! # Hazard
//!
//! The device tree is believed: a wrong address in it becomes an access to that address.
//!
//! # Features
//!
//! - `bare` (default): [`bare`], on targets without an operating system.
//! - `scenarios`: `scenarios`, the harness's scenarios on this CPU.
//! - `devmem`: `devmem` and `linux`, the same in a process of Linux, through `/dev/mem`.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

#[cfg(all(feature = "bare", target_os = "none"))]
pub mod bare;
#[cfg(feature = "devmem")]
pub mod devmem;
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
pub mod dma;
pub mod exception_words;
#[cfg(feature = "scenarios")]
pub mod fault_heap;
#[cfg(all(feature = "devmem", target_os = "none", target_arch = "aarch64"))]
pub mod linux;
pub mod machine;
pub mod page_tables;
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
pub mod pci;
#[cfg(feature = "scenarios")]
pub mod scenarios;
#[cfg(target_arch = "aarch64")]
pub mod timer;
#[cfg(target_arch = "aarch64")]
pub mod window;

/// The code of the page for boards compiles.
#[cfg(doctest)]
#[doc = include_str!("../BRINGUP.md")]
struct BringupExamples;
