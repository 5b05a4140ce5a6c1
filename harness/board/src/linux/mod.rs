//! A process of Linux without a C library: one static file for any AArch64 system.
//!
//! The program is built for the bare target, so `std` and `libc` are not there. This module has the
//! few system calls that it needs.
//!
//! | module | what |
//! |---|---|
//! | [`start`] | the entry, the arguments |
//! | [`syscall`] | the instruction, and errors |
//! | [`files`] | files, directories, links; [`KernelFiles`](files::KernelFiles) |
//! | [`mapping`] | registers, BARs and a huge page as memory |
//! | [`process`] | the second process, signals, the end |
//! | [`threads`] | callers that run at the same time |
//! | [`pci_device`] | a PCI function that the process uses |
//! | [`restore`] | everything that must be as before at the end |
//! | [`terminal`] | a console as a line without editing |

pub mod files;
pub mod mapping;
pub mod pci_device;
pub mod process;
pub mod restore;
pub mod start;
pub mod syscall;
pub mod terminal;
pub mod threads;
