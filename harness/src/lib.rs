//! The harness as a library: scenarios, the engine that runs them, and the backends they run on.
//!
//! The binary `smmu-harness` is a thin command line over it. The other crates of the workspace are
//! composed here, and nowhere else: [`engine`] builds a driver from them over the seams, so the same
//! scenario drives the built-in [`model`] and [`qemu`].

pub mod alloc_fault;
pub mod backend;
pub mod cli;
pub mod decode;
pub mod engine;
pub mod explain;
pub mod machine;
pub mod model;
pub mod qemu;
pub mod random;
pub mod scenario;
pub mod tables;
pub mod verdict;
