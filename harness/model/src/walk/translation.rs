//! What a table walk starts from, and what it finds.

use smmu_types::PhysAddr;

use crate::hazard::Permissions;
use crate::walk::space::Space;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WalkStage {
    One,
    Two,
}

/// One stage of translation, as an STE or CD configures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    pub(crate) space: Space,
    pub(crate) stage: WalkStage,
    /// The root table, or the first of several concatenated ones.
    pub(crate) root: PhysAddr,
    pub(crate) input_bits: u32,
    pub(crate) start_level: u8,
    pub(crate) output_bits: u32,
    /// A clear access flag faults.
    pub(crate) access_flag: bool,
    /// Walks are allowed (`EPD0` = 0).
    pub(crate) walks: bool,
    /// Faults are recorded (`CD.R`, `STE.S2R`).
    pub(crate) records: bool,
    /// Faults stall (`CD.S`, `STE.S2S`).
    pub(crate) stalls: bool,
}

impl Translation {
    /// log2 of the bytes of the table at `root`.
    fn root_shift(&self) -> u32 {
        self.input_bits.saturating_sub(level_shift(self.start_level)) + 3
    }

    /// Clear the bits of `root` below its alignment, as the SMMU does. `None` if `root` exceeds the
    /// output size.
    pub(crate) fn with_root_rounded_down(mut self) -> Option<Self> {
        if self.root.0 >> self.output_bits != 0 {
            return None;
        }
        self.root.0 &= !((1 << self.root_shift()) - 1);
        Some(self)
    }

    pub(crate) fn takes(&self, input: u64) -> bool {
        input >> self.input_bits == 0
    }
}

/// Permissions that the table descriptors of a walk remove from the leaf (`APTable`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) no_write: bool,
    pub(crate) no_unprivileged: bool,
}

/// A table descriptor on the path of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalkStep {
    /// Level of the descriptor.
    pub(crate) level: u8,
    /// The next-level table.
    pub(crate) table: PhysAddr,
    pub(crate) limits: Limits,
}

/// A leaf descriptor that translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeafMapping {
    pub(crate) level: u8,
    /// First address of the block or page.
    pub(crate) output: u64,
    pub(crate) permissions: Permissions,
    pub(crate) global: bool,
}

impl LeafMapping {
    pub(crate) fn at(&self, input: u64) -> PhysAddr {
        PhysAddr(self.output | input & ((1 << level_shift(self.level)) - 1))
    }
}

/// A cached table descriptor: a later walk may start from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CachedTable {
    pub(crate) table: PhysAddr,
    pub(crate) limits: Limits,
    pub(crate) root: PhysAddr,
}

/// log2 of the bytes that a descriptor of `level` covers.
pub(crate) const fn level_shift(level: u8) -> u32 {
    39 - 9 * if level > 3 { 3 } else { level as u32 }
}
