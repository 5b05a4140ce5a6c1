//! The harness as a library.

pub mod machine;
pub mod model;
