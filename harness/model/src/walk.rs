//! Table walks: VMSAv8-64 with the 4 KiB granule (Arm ARM, D8).

use smmu_types::{EventKind, PhysAddr};

use super::hazard::{Now, Permissions};
use super::memory::Ram;
use super::tlb::{Space, Table};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    One,
    Two,
}

/// One stage of translation, as the configuration describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Translation {
    pub(super) space: Space,
    pub(super) stage: Stage,
    /// The table, or the first of several side by side.
    pub(super) root: PhysAddr,
    pub(super) input_bits: u32,
    pub(super) start_level: u8,
    pub(super) output_bits: u32,
    /// A clear access flag faults.
    pub(super) access_flag: bool,
    /// Walks are allowed (`EPD0` = 0).
    pub(super) walks: bool,
    /// Faults are recorded (`CD.R`, `STE.S2R`).
    pub(super) records: bool,
}

impl Translation {
    /// log2 of the bytes of the table at `root`.
    pub(super) fn root_shift(&self) -> u32 {
        self.input_bits.saturating_sub(level_shift(self.start_level)) + 3
    }

    pub(super) fn takes(&self, input: u64) -> bool {
        input >> self.input_bits == 0
    }
}

/// What the table descriptors on the way take from the leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    no_write: bool,
    no_unprivileged: bool,
}

/// A table descriptor that a walk passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Level of the descriptor.
    pub(super) level: u8,
    /// The table of the next level.
    pub(super) table: PhysAddr,
    pub(super) limits: Limits,
}

/// A leaf descriptor that translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) level: u8,
    /// Where the block or page begins.
    pub(super) output: u64,
    pub(super) permissions: Permissions,
    pub(super) global: bool,
}

impl Mapping {
    pub(super) fn at(&self, input: u64) -> PhysAddr {
        PhysAddr(self.output | input & ((1 << level_shift(self.level)) - 1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WalkFault {
    pub(super) kind: EventKind,
    /// Level of the descriptor that faulted.
    pub(super) level: u8,
    /// Where the descriptor was fetched from, for `F_WALK_EABT`.
    pub(super) fetch: Option<PhysAddr>,
}

#[derive(Debug)]
pub(super) struct Walk {
    pub(super) steps: Vec<Step>,
    pub(super) result: Result<Mapping, WalkFault>,
}

impl Walk {
    pub(super) fn now(&self, input: u64) -> Now {
        match &self.result {
            Ok(mapping) => {
                Now::Page { address: mapping.at(input), permissions: mapping.permissions }
            }
            Err(fault) => Now::Fault(fault.kind),
        }
    }

    /// log2 of the bytes around the input for which the walk ends at the same descriptor.
    pub(super) fn shift(&self) -> u32 {
        level_shift(match &self.result {
            Ok(mapping) => mapping.level,
            Err(fault) => fault.level,
        })
    }
}

/// log2 of the bytes that a descriptor of `level` covers.
pub(super) const fn level_shift(level: u8) -> u32 {
    39 - 9 * if level > 3 { 3 } else { level as u32 }
}

const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

fn bit(word: u64, n: u32) -> bool {
    word >> n & 1 != 0
}

/// Walk for `input`, from the root or from a table descriptor that was cached earlier.
pub(super) fn walk(ram: &Ram, t: &Translation, input: u64, from: Option<(u8, Table)>) -> Walk {
    let mut steps = Vec::new();
    let result = descend(ram, t, input, from, &mut steps);
    Walk { steps, result }
}

fn descend(
    ram: &Ram,
    t: &Translation,
    input: u64,
    from: Option<(u8, Table)>,
    steps: &mut Vec<Step>,
) -> Result<Mapping, WalkFault> {
    let fault = |kind, level| WalkFault { kind, level, fetch: None };
    if !t.walks || !t.takes(input) {
        return Err(fault(EventKind::F_TRANSLATION, t.start_level));
    }
    let (mut level, mut table, mut limits) = match from {
        Some((above, cached)) => (above + 1, cached.table, cached.limits),
        None => (t.start_level, t.root, Limits::default()),
    };
    loop {
        let index_mask = if from.is_none() && level == t.start_level { u64::MAX } else { 0x1ff };
        let index = input >> level_shift(level) & index_mask;
        let fetch = PhysAddr(table.0 + index * 8);
        let Some(descriptor) = ram.read64(fetch) else {
            return Err(WalkFault { kind: EventKind::F_WALK_EABT, level, fetch: Some(fetch) });
        };
        let leaf = match (descriptor & 3, level) {
            (3, 3) | (1, 1 | 2) => true,
            (3, 0..3) => false,
            _ => return Err(fault(EventKind::F_TRANSLATION, level)),
        };
        let output = descriptor & ADDRESS;
        if output >> t.output_bits != 0 {
            return Err(fault(EventKind::F_ADDR_SIZE, level));
        }
        if leaf {
            if t.access_flag && !bit(descriptor, 10) {
                return Err(fault(EventKind::F_ACCESS, level));
            }
            return Ok(Mapping {
                level,
                output: output & !((1 << level_shift(level)) - 1),
                permissions: permissions(t.stage, descriptor, limits),
                global: t.stage == Stage::One && !bit(descriptor, 11),
            });
        }
        if t.stage == Stage::One {
            limits.no_unprivileged |= bit(descriptor, 61);
            limits.no_write |= bit(descriptor, 62);
        }
        table = PhysAddr(output);
        steps.push(Step { level, table, limits });
        level += 1;
    }
}

/// Devices access as unprivileged data accesses.
fn permissions(stage: Stage, descriptor: u64, limits: Limits) -> Permissions {
    match stage {
        Stage::One => {
            let read = bit(descriptor, 6) && !limits.no_unprivileged;
            Permissions { read, write: read && !bit(descriptor, 7) && !limits.no_write }
        }
        Stage::Two => Permissions { read: bit(descriptor, 6), write: bit(descriptor, 7) },
    }
}
