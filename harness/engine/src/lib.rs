//! Runs one scenario on one machine, over the seams, and writes down what happened.

pub mod alloc_fault;
pub mod engine;
pub mod machine;
pub mod page_tables;
pub mod scenario;
