//! Arithmetic a driver plans with: from an address range to commands, and where a queue stands.

pub mod queue;
pub mod range;
