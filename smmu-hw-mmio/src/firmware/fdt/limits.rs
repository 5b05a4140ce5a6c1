//! How much of a tree is read.

/// A longer blob is refused: work grows with the size. Linux takes no more either.
pub const MAX_BYTES: usize = 2 << 20;
/// More levels of nodes are refused.
pub const MAX_DEPTH: usize = 64;
/// A longer name is refused.
pub const MAX_NAME: usize = 255;
/// More references from reserved memory to devices are refused: each costs a pass over the tree.
pub const MAX_REFERENCES: usize = 256;
