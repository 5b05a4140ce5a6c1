//! How much of a table is read.

/// A longer table is refused: work grows with the size. Those of servers have 10 to 50 KiB.
pub const MAX_BYTES: usize = 256 << 10;
/// More nodes are refused: each mapping looks its target up among them.
pub const MAX_NODES: usize = 4096;
