//! Arithmetic for a driver: an address range to commands, and the state of a queue.

pub mod queue;
pub mod range;
