//! Runs one scenario on one machine, over the seams, and writes down what happened.
//!
//! [`scenario`] is the file format, [`machine`] is what a backend provides, and [`run`] carries out
//! the first on the second. CONTRIBUTING.md has the map, and says how to add a step.
//!
//! # What needs `std`
//!
//! The crate opens no file, starts no thread and measures no time. These uses of `std` are left:
//!
//! - `thread_local!` in [`alloc_fault`]: the countdown belongs to one thread.
//! - [`StdWait`](smmu_driver::smmu_types::seam::StdWait) in [`machine::Clock::default`]: a backend
//!   without its own clock waits by that of the standard library.
//! - `std::sync::Mutex` in [`transcript`], and in the tap, the sink, the observer and the rig below
//!   [`run`].
//! - `parking_lot::RawMutex`, the lock of the driver that [`run`] composes.
//! - The features `std` of `toml`, `serde` and `thiserror`.

extern crate alloc;

pub mod alloc_fault;
pub mod machine;
pub mod page_tables;
pub mod run;
pub mod scenario;
pub mod transcript;

// The tests run on the harness's own backend, whose source names this crate from outside.
#[cfg(test)]
extern crate self as smmu_engine;
#[cfg(test)]
#[path = "../../src/backend/mock.rs"]
#[expect(unreachable_pub, reason = "the backend is public where it is at home")]
mod mock;
