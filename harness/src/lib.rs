//! The harness as a library.

pub mod machine;
pub mod model;
pub mod qemu;
