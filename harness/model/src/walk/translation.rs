//! What a table walk starts from, and what it finds.

use smmu_types::{Granule, PhysAddr};

use crate::hazard::Permissions;
use crate::walk::space::Space;

/// A level of the tables of a granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Level {
    pub(crate) granule: Granule,
    /// 0 to 3.
    pub(crate) number: u8,
}

impl Level {
    /// The levels whose descriptors may be pages or blocks (Arm ARM, D8; output of 48 bits at most).
    pub(crate) const LEAVES: [Level; 7] = [
        Level { granule: Granule::K4, number: 1 },
        Level { granule: Granule::K4, number: 2 },
        Level { granule: Granule::K4, number: 3 },
        Level { granule: Granule::K16, number: 2 },
        Level { granule: Granule::K16, number: 3 },
        Level { granule: Granule::K64, number: 2 },
        Level { granule: Granule::K64, number: 3 },
    ];

    /// The first level of a walk of stage 1.
    pub(crate) fn first(granule: Granule, input_bits: u32) -> Self {
        let index_bits = input_bits.saturating_sub(granule.shift());
        let levels = index_bits.div_ceil(granule.shift() - 3).clamp(1, 4);
        Level { granule, number: 4 - levels as u8 }
    }

    /// The level below.
    pub(crate) fn next(self) -> Self {
        Level { number: (self.number + 1).min(3), ..self }
    }

    /// log2 of the descriptors of a table.
    pub(crate) const fn index_bits(self) -> u32 {
        self.granule.shift() - 3
    }

    /// log2 of the bytes that a descriptor covers.
    pub(crate) const fn shift(self) -> u32 {
        let below = if self.number > 3 { 0 } else { 3 - self.number as u32 };
        self.granule.shift() + below * self.index_bits()
    }

    /// The bytes that a descriptor covers.
    pub(crate) const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// The one of two levels whose descriptors cover less.
    pub(crate) fn smaller(self, other: Self) -> Self {
        if other.shift() < self.shift() { other } else { self }
    }
}

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
    pub(crate) start_level: Level,
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
        self.input_bits.saturating_sub(self.start_level.shift()) + 3
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

/// The stages that translate a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stages {
    /// The stage that takes the address of the transaction.
    pub(crate) first: Translation,
    /// Stage 2 behind a stage 1: it translates the fetches of stage 1, and then the output.
    pub(crate) second: Option<Translation>,
}

impl Stages {
    /// One stage alone.
    pub(crate) fn one(first: Translation) -> Self {
        Stages { first, second: None }
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots { first: self.first.root, second: self.second.map(|second| second.root) }
    }
}

/// The root tables that an entry was cached from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roots {
    pub(crate) first: PhysAddr,
    /// `None` for an entry that went through one stage.
    pub(crate) second: Option<PhysAddr>,
}

/// What stage 1 alone says of a mapping through both stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stage1Part {
    /// Level of the leaf of stage 1. A TLBI of stage 1 goes by it, also where stage 2 has split the
    /// leaf.
    pub(crate) level: Level,
    /// IPA of the first address of the mapping.
    pub(crate) ipa: u64,
    pub(crate) permissions: Permissions,
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
    pub(crate) level: Level,
    /// Where the next-level table lies.
    pub(crate) table: PhysAddr,
    /// The next-level table as the descriptor names it: an IPA, if stage 2 translates the fetch.
    pub(crate) named: u64,
    pub(crate) limits: Limits,
}

/// A mapping that a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeafMapping {
    pub(crate) level: Level,
    /// First address of the block or page.
    pub(crate) output: u64,
    pub(crate) permissions: Permissions,
    pub(crate) global: bool,
    /// `None` if one stage alone translates.
    pub(crate) stage1: Option<Stage1Part>,
}

impl LeafMapping {
    pub(crate) fn at(&self, input: u64) -> PhysAddr {
        PhysAddr(self.output | input & (self.level.bytes() - 1))
    }

    /// This leaf of stage 1, with what stage 2 says of its output for `input`. It covers what both
    /// leaves cover, and allows what both allow.
    pub(crate) fn through(&self, stage2: &LeafMapping, input: u64) -> Self {
        let level = self.level.smaller(stage2.level);
        let first = !(level.bytes() - 1);
        let ipa = self.at(input).0;
        let (one, two) = (self.permissions, stage2.permissions);
        LeafMapping {
            level,
            output: stage2.at(ipa).0 & first,
            permissions: Permissions { read: one.read && two.read, write: one.write && two.write },
            global: self.global,
            stage1: Some(Stage1Part { level: self.level, ipa: ipa & first, permissions: one }),
        }
    }
}

/// A cached table descriptor: a later walk may start from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CachedTable {
    pub(crate) step: WalkStep,
    pub(crate) roots: Roots,
}
