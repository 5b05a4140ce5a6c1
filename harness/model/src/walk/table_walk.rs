//! Table walks: VMSAv8-64 with the 4 KiB granule (Arm ARM, D8).

use smmu_types::{EventKind, PhysAddr};

use crate::hazard::{Now, Permissions};
use crate::model_ram::ModelRam;
use crate::walk::translation::{
    CachedTable, LeafMapping, Limits, Translation, WalkStage, WalkStep, level_shift,
};
use crate::word::bit;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalkFault {
    pub(crate) kind: EventKind,
    /// Level of the descriptor that faulted.
    pub(crate) level: u8,
    /// Address of the descriptor whose fetch aborted, for `F_WALK_EABT`.
    pub(crate) fetch: Option<PhysAddr>,
}

#[derive(Debug)]
pub(crate) struct TableWalk {
    pub(crate) steps: Vec<WalkStep>,
    pub(crate) result: Result<LeafMapping, WalkFault>,
}

impl TableWalk {
    pub(crate) fn now(&self, input: u64) -> Now {
        match &self.result {
            Ok(mapping) => {
                Now::Page { address: mapping.at(input), permissions: mapping.permissions }
            }
            Err(fault) => Now::Fault(fault.kind),
        }
    }

    /// log2 of the bytes that the last descriptor of the walk covers.
    pub(crate) fn shift(&self) -> u32 {
        level_shift(match &self.result {
            Ok(mapping) => mapping.level,
            Err(fault) => fault.level,
        })
    }
}

const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// Walk for `input`, from the root or from a cached table descriptor and its level.
pub(crate) fn walk(
    ram: &ModelRam,
    t: &Translation,
    input: u64,
    from: Option<(u8, CachedTable)>,
) -> TableWalk {
    let mut steps = Vec::new();
    let result = descend(ram, t, input, from, &mut steps);
    TableWalk { steps, result }
}

fn descend(
    ram: &ModelRam,
    t: &Translation,
    input: u64,
    from: Option<(u8, CachedTable)>,
    steps: &mut Vec<WalkStep>,
) -> Result<LeafMapping, WalkFault> {
    let fault = |kind, level| WalkFault { kind, level, fetch: None };
    if !t.walks || !t.takes(input) {
        return Err(fault(EventKind::F_TRANSLATION, t.start_level));
    }
    let (mut level, mut table, mut limits) = match from {
        Some((above, cached)) => (above + 1, cached.table, cached.limits),
        None => (t.start_level, t.root, Limits::default()),
    };
    loop {
        // The root may be several concatenated tables, so its index may have more than 9 bits.
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
            return Ok(LeafMapping {
                level,
                output: output & !((1 << level_shift(level)) - 1),
                permissions: permissions(t.stage, descriptor, limits),
                global: t.stage == WalkStage::One && !bit(descriptor, 11),
            });
        }
        if t.stage == WalkStage::One {
            limits.no_unprivileged |= bit(descriptor, 61);
            limits.no_write |= bit(descriptor, 62);
        }
        table = PhysAddr(output);
        steps.push(WalkStep { level, table, limits });
        level += 1;
    }
}

/// The model treats every DMA as an unprivileged data access.
fn permissions(stage: WalkStage, descriptor: u64, limits: Limits) -> Permissions {
    match stage {
        WalkStage::One => {
            let read = bit(descriptor, 6) && !limits.no_unprivileged;
            Permissions { read, write: read && !bit(descriptor, 7) && !limits.no_write }
        }
        WalkStage::Two => Permissions { read: bit(descriptor, 6), write: bit(descriptor, 7) },
    }
}
