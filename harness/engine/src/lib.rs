//! Runs one scenario on one machine, over the seams, and writes down what happened.

pub mod alloc_fault;
pub mod engine;
pub mod machine;
pub mod page_tables;
pub mod scenario;

// The tests run on the harness's own backend, whose source names this crate from outside.
#[cfg(test)]
extern crate self as smmu_engine;
#[cfg(test)]
#[path = "../../src/backend/mock.rs"]
#[expect(unreachable_pub, reason = "the backend is public where it is at home")]
mod mock;
