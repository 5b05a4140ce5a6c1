//! What firmware left running before a scenario's driver starts: devices with reserved memory.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use smmu_driver::smmu_attach::Outcome;
use smmu_driver::smmu_hw_mmio::{Bringup, BringupConfig, ExitPolicy, probe};
use smmu_driver::smmu_types::{SmmuId, StreamId};
use smmu_driver::{Boot, Device, Domain, DriverError};

use super::device_write::{Seen, write_and_look};
use super::domains::domains_by;
use super::pages::{DmaWrite, Pages, Reached};
use super::platform::{Harness, SharedTables};
use super::rig_error::RigError;
use super::stop::Stop;
use super::tap::SmmuTaps;
use crate::machine::Machine;
use crate::page_tables::{LeafSize, Permission};
use crate::prelude::*;
use crate::scenario::{Scenario, SpannedName};
use crate::transcript::{LineKind, Recorder};

/// What is there before the rig: pages, and the devices and domains of reserved memory.
pub(super) struct Early {
    pub(super) pages: Arc<Pages>,
    /// All domains of the file, if there is reserved memory.
    pub(super) domains: Option<BTreeMap<String, Domain<Harness>>>,
    pub(super) devices: BTreeMap<String, Device<Harness>>,
    /// Where the devices' writes to each page arrived.
    writes: Vec<(String, String, Seen)>,
}

impl Early {
    pub(super) fn new(pages: Pages) -> Self {
        let (devices, writes) = (BTreeMap::new(), Vec::new());
        Early { pages: Arc::new(pages), domains: None, devices, writes }
    }

    /// As firmware, lets each SMMU of a device with reserved memory pass all, and lets these devices
    /// write whenever the driver changes `CR0`.
    pub(super) fn run_firmware(
        &mut self,
        scenario: &Scenario,
        machine: &Arc<dyn Machine>,
        taps: &[SmmuTaps],
    ) -> Result<(), RigError> {
        for (smmu, tap) in taps.iter().enumerate() {
            let mut writes = Vec::new();
            for spec in &scenario.file.reserved {
                let Some((index, at)) = place(scenario, spec.device.get_ref()) else { continue };
                if at != smmu {
                    continue;
                }
                for page in &spec.pages {
                    let name = page.get_ref();
                    let Some(address) = self.pages.address(name) else { continue };
                    let (write, seen) =
                        (DmaWrite::of(&**machine, index, address.0)?, Seen::default());
                    writes.push((index, write, Arc::clone(&seen)));
                    self.writes.push((spec.device.get_ref().clone(), name.clone(), seen));
                }
            }
            if writes.is_empty() {
                continue;
            }
            let registers = machine.registers(smmu)?;
            let id = SmmuId(smmu as u16);
            let found =
                probe(&registers).map_err(|error| DriverError::Probe { smmu: id, error })?;
            let config = BringupConfig::new(&found.caps);
            Bringup::begin(&registers, machine.clock(), config)
                .and_then(|smmu| smmu.leave(ExitPolicy::Bypass))
                .map_err(|error| DriverError::Bringup { smmu: id, error })?;
            let (machine, pages) = (Arc::clone(machine), Arc::clone(&self.pages));
            tap.main.set_watch(Some(Arc::new(move || {
                for (index, write, seen) in &writes {
                    let reached = write_and_look(&*machine, &pages, *index, write).map_or_else(
                        |error| Reached::Damage(error.to_string()),
                        |(_, reached)| reached,
                    );
                    seen.lock().push(reached);
                }
            })));
        }
        Ok(())
    }

    /// Attaches the devices of an SMMU that is about to translate.
    pub(super) fn attach(
        &mut self,
        scenario: &Scenario,
        boot: &Boot<'_, Harness>,
    ) -> Result<(), RigError> {
        if scenario.file.reserved.is_empty() {
            return Ok(());
        }
        if self.domains.is_none() {
            self.domains = Some(domains_by(scenario, boot.dma(), |tables| boot.domain(tables))?);
        }
        for spec in &scenario.file.reserved {
            let name = spec.device.get_ref();
            let here =
                place(scenario, name).is_some_and(|(_, smmu)| smmu == usize::from(boot.smmu().0));
            let domains = self.domains.as_ref();
            let Some(domain) = domains.and_then(|all| all.get(spec.domain.get_ref())) else {
                continue;
            };
            if !here {
                continue;
            }
            for address in spec.pages.iter().filter_map(|page| self.pages.address(page.get_ref())) {
                let tables: &SharedTables = domain.tables();
                let mut tables = tables.lock();
                if tables.descriptor(address.0) & 1 == 0 {
                    tables.map_leaf(LeafSize::Page, address.0, address, Permission::ReadWrite)?;
                }
            }
            let Some((streams, config)) = scenario.file.devices.iter().find_map(|device| {
                let first = device.each().find(|(known, _)| known == name)?.1;
                let all: Vec<StreamId> = core::iter::once(first).chain(device.further()).collect();
                Some((all, device.config()))
            }) else {
                continue;
            };
            let device = boot.add_device(&streams, config)?;
            let outcome: Outcome = device.attach(domain).map_err(DriverError::from)?;
            outcome.settled().map_err(|error| DriverError::Answer { smmu: boot.smmu(), error })?;
            self.devices.insert(name.clone(), device);
        }
        Ok(())
    }

    /// Each write has reached its page. From here on the devices write when a step says so.
    pub(super) fn check(&self, recorder: &Recorder, taps: &[SmmuTaps]) -> Result<(), Stop> {
        for tap in taps {
            tap.main.set_watch(None);
        }
        for (device, page, seen) in &self.writes {
            let (seen, want) = (seen.lock(), Reached::Page(page.clone()));
            if let Some(other) = seen.iter().find(|reached| **reached != want) {
                let expected = format!("each write of {device} on the way reaches page {page}");
                return Err(Stop::unmet(expected, format!("one reached {other:?}")));
            }
            recorder.note(LineKind::Check, || {
                format!("after each of {} changes of CR0, {device} reached page {page}", seen.len())
            });
        }
        Ok(())
    }
}

/// The machine's number of a device, and the index of its SMMU.
fn place(scenario: &Scenario, device: &str) -> Option<(usize, usize)> {
    let each = scenario
        .file
        .devices
        .iter()
        .flat_map(|spec| spec.each().map(move |(name, _)| (name, &spec.smmu)));
    let all: Vec<(String, &SpannedName)> = each.collect();
    let index = all.iter().position(|(name, _)| name == device)?;
    let smmu = all.get(index)?.1.get_ref();
    let at = scenario.file.smmus.iter().position(|spec| spec.name.get_ref() == smmu)?;
    Some((index, at))
}
