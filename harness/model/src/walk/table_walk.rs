//! The walk of one stage: VMSAv8-64 (Arm ARM, D8).

use smmu_types::{EventClass, EventKind, Granule, Ipa, PhysAddr};

use crate::hazard::{Now, Permissions};
use crate::model_ram::ModelRam;
use crate::walk::translation::{
    CachedTable, LeafMapping, Level, Limits, Translation, WalkStage, WalkStep,
};
use crate::word::bit;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalkFault {
    pub(crate) kind: EventKind,
    /// Level of the descriptor that faulted.
    pub(crate) level: Level,
    /// Address of the descriptor whose fetch aborted, for `F_WALK_EABT`.
    pub(crate) fetch: Option<PhysAddr>,
    /// The stage records its faults (`CD.R`, `STE.S2R`).
    pub(crate) records: bool,
    /// The stage stalls at its faults (`CD.S`, `STE.S2S`).
    pub(crate) stalls: bool,
    /// What stage 2 was asked for; `None` for a fault of stage 1.
    pub(crate) stage2: Option<Stage2Access>,
}

/// An access to an IPA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stage2Access {
    pub(crate) class: EventClass,
    pub(crate) ipa: Ipa,
}

impl WalkFault {
    /// A fault of a stage at an input address.
    pub(crate) fn of(t: &Translation, kind: EventKind, level: Level, input: u64) -> Self {
        let access = Stage2Access { class: EventClass::In, ipa: Ipa(input) };
        WalkFault {
            kind,
            level,
            fetch: None,
            records: t.records,
            stalls: t.stalls,
            stage2: (t.stage == WalkStage::Two).then_some(access),
        }
    }

    /// The same fault of stage 2, in a fetch that the SMMU itself makes.
    pub(crate) fn in_fetch(mut self, class: EventClass) -> Self {
        if let Some(access) = &mut self.stage2 {
            access.class = class;
        }
        self
    }
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
        match &self.result {
            Ok(mapping) => mapping.level.shift(),
            Err(fault) => fault.level.shift(),
        }
    }
}

const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// Finds where a table lies: its own address, or what stage 2 makes of it.
pub(crate) type Place<'a> = &'a mut dyn FnMut(u64) -> Result<PhysAddr, WalkFault>;

/// Walk one stage for `input`, from the root or from a cached table descriptor.
pub(crate) fn walk_stage(
    ram: &ModelRam,
    t: &Translation,
    input: u64,
    from: Option<&CachedTable>,
    place: Place<'_>,
) -> TableWalk {
    let mut steps = Vec::new();
    let result = descend(ram, t, input, from, place, &mut steps);
    TableWalk { steps, result }
}

fn descend(
    ram: &ModelRam,
    t: &Translation,
    input: u64,
    from: Option<&CachedTable>,
    place: Place<'_>,
    steps: &mut Vec<WalkStep>,
) -> Result<LeafMapping, WalkFault> {
    let fault = |kind, level| WalkFault::of(t, kind, level, input);
    // A table that stage 2 does not give covers what the descriptors of this level cover.
    let mut place = |table, level| place(table).map_err(|fault| WalkFault { level, ..fault });
    if !t.walks || !t.takes(input) {
        return Err(fault(EventKind::F_TRANSLATION, t.start_level));
    }
    let (mut level, mut table, mut limits) = match from {
        Some(CachedTable { step, .. }) => (step.level.next(), step.table, step.limits),
        None => (t.start_level, place(t.root.0, t.start_level)?, Limits::default()),
    };
    loop {
        // The root may be several concatenated tables, so its index may have more bits than another.
        let index_mask = if from.is_none() && level == t.start_level {
            u64::MAX
        } else {
            (1 << level.index_bits()) - 1
        };
        let index = input >> level.shift() & index_mask;
        let fetch = PhysAddr(table.0 + index * 8);
        let Some(descriptor) = ram.read64(fetch) else {
            let fault = fault(EventKind::F_WALK_EABT, level);
            return Err(WalkFault { fetch: Some(fetch), ..fault });
        };
        // Only the granule of 4 KiB has blocks of level 1.
        let block = level.number == 2 || level.number == 1 && level.granule == Granule::K4;
        let leaf = match (descriptor & 3, level.number) {
            (3, 3) => true,
            (1, _) if block => true,
            (3, 0..3) => false,
            _ => return Err(fault(EventKind::F_TRANSLATION, level)),
        };
        let output = descriptor & ADDRESS & !(level.granule.bytes() - 1);
        if output >> t.output_bits != 0 {
            return Err(fault(EventKind::F_ADDR_SIZE, level));
        }
        if leaf {
            if t.access_flag && !bit(descriptor, 10) {
                return Err(fault(EventKind::F_ACCESS, level));
            }
            return Ok(LeafMapping {
                level,
                output: output & !(level.bytes() - 1),
                permissions: permissions(t.stage, descriptor, limits),
                global: t.stage == WalkStage::One && !bit(descriptor, 11),
                stage1: None,
            });
        }
        if t.stage == WalkStage::One {
            limits.no_unprivileged |= bit(descriptor, 61);
            limits.no_write |= bit(descriptor, 62);
        }
        table = place(output, level.next())?;
        steps.push(WalkStep { level, table, named: output, limits });
        level = level.next();
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
