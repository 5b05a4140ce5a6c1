//! Walks of all stages in memory, past the caches.

use smmu_types::{EventClass, EventKind, PhysAddr};

use crate::model_ram::ModelRam;
use crate::walk::table_walk::{TableWalk, WalkFault, walk_stage};
use crate::walk::translation::{Stages, Translation};

/// Walk for `input`, from the root tables.
pub(crate) fn walk(ram: &ModelRam, stages: &Stages, input: u64) -> TableWalk {
    let Some(second) = &stages.second else { return alone(ram, &stages.first, input) };
    let mut place = |table| read_through(ram, second, table, EventClass::Tt);
    let mut found = walk_stage(ram, &stages.first, input, None, &mut place);
    found.result = found.result.and_then(|leaf| {
        let below = alone(ram, second, leaf.at(input).0).result;
        // The smaller of both: the fault of a page says nothing of the rest of a block.
        let below = below.map_err(|f| WalkFault { level: f.level.smaller(leaf.level), ..f })?;
        Ok(leaf.through(&below, input))
    });
    found
}

fn alone(ram: &ModelRam, t: &Translation, input: u64) -> TableWalk {
    walk_stage(ram, t, input, None, &mut |table| Ok(PhysAddr(table)))
}

/// Where an IPA lies that the SMMU itself reads.
pub(crate) fn read_through(
    ram: &ModelRam,
    second: &Translation,
    ipa: u64,
    class: EventClass,
) -> Result<PhysAddr, WalkFault> {
    let leaf = alone(ram, second, ipa).result.map_err(|fault| fault.in_fetch(class))?;
    if !leaf.permissions.read {
        let fault = WalkFault::of(second, EventKind::F_PERMISSION, leaf.level, ipa);
        return Err(fault.in_fetch(class));
    }
    Ok(leaf.at(ipa))
}
