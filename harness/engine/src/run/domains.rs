//! The domains of a scenario.

use alloc::collections::BTreeMap;
use core::ops::Range;

use smmu_driver::smmu_attach::WalkAttributes;
use smmu_driver::smmu_types::PhysAddr;
use smmu_driver::{Domain, DriverError};

use super::platform::{Dma, Harness, SharedTables};
use super::rig_error::RigError;
use crate::machine::{Coherency, Machine};
use crate::page_tables::{PAGE, PageTables, Permission, TableError};
use crate::prelude::*;
use crate::scenario::Scenario;

/// The rings of a scenario's devices, which lie behind the streams of their DMA.
pub(super) fn own_memory(scenario: &Scenario, machine: &dyn Machine) -> Vec<Range<u64>> {
    let devices = scenario.file.devices.iter();
    let count: usize = devices.map(|spec| spec.each().count() + spec.further().count()).sum();
    (0..count).filter_map(|device| machine.own_memory(device)).collect()
}

/// Maps memory page by page, from `iova` on. A page that is there already stays.
pub(super) fn map_range(
    tables: &SharedTables,
    iova: u64,
    memory: Range<u64>,
) -> Result<(), TableError> {
    let mut tables = tables.lock();
    for (page, address) in memory.step_by(PAGE as usize).enumerate() {
        let (iova, address) = (iova + page as u64 * PAGE, PhysAddr(address));
        if !tables.maps(iova, address) {
            tables.map(iova, address, Permission::ReadWrite)?;
        }
    }
    Ok(())
}

/// What a machine asks of every domain.
pub(super) struct DomainNeeds {
    /// The rings of its devices are mapped.
    rings: Vec<Range<u64>>,
    /// Every SMMU can walk the tables.
    walk: WalkAttributes,
}

impl DomainNeeds {
    pub(super) fn of(scenario: &Scenario, machine: &dyn Machine) -> Self {
        let snoops = |smmu: usize| machine.coherency(smmu) == Coherency::Snoops;
        let all_snoop = (0..scenario.file.smmus.len()).all(snoops);
        DomainNeeds {
            rings: own_memory(scenario, machine),
            walk: if all_snoop { WalkAttributes::COHERENT } else { WalkAttributes::NON_COHERENT },
        }
    }
}

/// The domains of a scenario, in the order of the file, each made by `make`.
pub(super) fn domains_by(
    scenario: &Scenario,
    needs: &DomainNeeds,
    dma: &Dma,
    make: impl Fn(SharedTables) -> Result<Domain<Harness>, DriverError>,
) -> Result<BTreeMap<String, Domain<Harness>>, RigError> {
    let mut domains = BTreeMap::new();
    for spec in &scenario.file.domains {
        for name in spec.names() {
            let start_level = spec.start_level.as_ref().map_or(1, |level| *level.get_ref());
            let tables = PageTables::new(spec.stage, dma.clone())?;
            let tables = tables.claiming_start_level(start_level).walked_as(needs.walk);
            let tables = SharedTables::new(tables);
            for memory in &needs.rings {
                map_range(&tables, memory.start, memory.clone())?;
            }
            domains.insert(name, make(tables)?);
        }
    }
    Ok(domains)
}
