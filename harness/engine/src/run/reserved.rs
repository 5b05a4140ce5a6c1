//! What firmware left running before a scenario's driver starts: devices with reserved memory.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::convert::Infallible;

use smmu_driver::smmu_attach::DeviceConfig;
use smmu_driver::smmu_hw_mmio::firmware::ReservedWindow;
use smmu_driver::smmu_hw_mmio::{Bringup, BringupConfig, ExitPolicy, probe};
use smmu_driver::smmu_types::{PhysAddr, SmmuId, StreamId};
use smmu_driver::windows::Window;
use smmu_driver::{Boot, Device, Domain, DriverError};

use super::device_write::{Seen, write_and_look};
use super::domains::{DomainNeeds, domains_by, map_range};
use super::pages::{DmaWrite, Pages, Reached};
use super::platform::{Harness, SharedTables};
use super::rig_error::RigError;
use super::smmu_taps::SmmuTaps;
use super::stop::Stop;
use crate::machine::Machine;
use crate::page_tables::{PAGE, TableError};
use crate::prelude::*;
use crate::scenario::{Scenario, SmmuSpec, SpannedName};
use crate::transcript::{LineKind, Recorder};

/// What is there before the rig: pages, and the devices and domains of reserved memory.
pub(super) struct Early {
    pub(super) pages: Arc<Pages>,
    /// All domains of the file, if there is reserved memory.
    pub(super) domains: Option<BTreeMap<String, Domain<Harness>>>,
    pub(super) devices: BTreeMap<String, Device<Harness>>,
    needs: DomainNeeds,
    running: Vec<Running>,
    /// Where the devices' writes to each page arrived.
    writes: Vec<(String, String, Seen)>,
}

/// A device that runs before the driver does.
struct Running {
    name: String,
    domain: String,
    /// Its reserved pages, by name.
    pages: Vec<(String, PhysAddr)>,
    /// Its number in the machine.
    index: usize,
    smmu: usize,
    streams: Vec<StreamId>,
    config: DeviceConfig,
}

impl Early {
    pub(super) fn new(scenario: &Scenario, pages: Pages, machine: &dyn Machine) -> Self {
        let file = &scenario.file;
        let all = file.devices.iter().flat_map(|spec| spec.each().map(move |one| (one, spec)));
        let all: Vec<_> = all.enumerate().collect();
        let mut running = Vec::new();
        for reserved in &file.reserved {
            let wanted = reserved.device.get_ref();
            let Some((index, ((_, first), spec))) = all.iter().find(|(_, one)| one.0.0 == *wanted)
            else {
                continue;
            };
            let named = |other: &SmmuSpec| other.name.get_ref() == spec.smmu.get_ref();
            let Some(smmu) = file.smmus.iter().position(named) else { continue };
            let page = |page: &SpannedName| {
                let name = page.get_ref();
                pages.address(name).map(|address| (name.clone(), address))
            };
            running.push(Running {
                name: wanted.clone(),
                domain: reserved.domain.get_ref().clone(),
                pages: reserved.pages.iter().filter_map(page).collect(),
                index: *index,
                smmu,
                streams: core::iter::once(*first).chain(spec.further()).collect(),
                config: spec.config(),
            });
        }
        let (devices, writes) = (BTreeMap::new(), Vec::new());
        let needs = DomainNeeds::of(scenario, machine);
        Early { pages: Arc::new(pages), domains: None, devices, needs, running, writes }
    }

    /// As firmware, lets each SMMU of a device with reserved memory pass all, and lets these devices
    /// write whenever the driver changes `CR0`.
    pub(super) fn run_firmware(
        &mut self,
        machine: &Arc<dyn Machine>,
        taps: &[SmmuTaps],
    ) -> Result<(), RigError> {
        for (smmu, tap) in taps.iter().enumerate() {
            let mut writes = Vec::new();
            for device in self.running.iter().filter(|device| device.smmu == smmu) {
                for (name, address) in &device.pages {
                    let (write, seen) =
                        (DmaWrite::of(&**machine, device.index, address.0)?, Seen::default());
                    writes.push((device.index, write, Arc::clone(&seen)));
                    self.writes.push((device.name.clone(), name.clone(), seen));
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
        if self.running.is_empty() {
            return Ok(());
        }
        let domains = match self.domains.take() {
            Some(domains) => domains,
            None => domains_by(scenario, &self.needs, boot.dma(), |tables| boot.domain(tables))?,
        };
        let domains = self.domains.insert(domains);
        for device in self.running.iter().filter(|one| one.smmu == usize::from(boot.smmu().0)) {
            let Some(domain) = domains.get(&device.domain) else { continue };
            let windows = device.pages.iter().map(|(_, at)| ReservedWindow::identity(*at, PAGE));
            let (attached, _) = boot.attach_reserved(
                &device.streams,
                device.config,
                domain,
                windows.map(Ok::<_, Infallible>),
                &[],
                map_window,
            )?;
            self.devices.insert(device.name.clone(), attached);
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

/// Maps a window. A page that another device of the domain has reserved as well is there.
fn map_window(tables: &SharedTables, window: &Window) -> Result<(), TableError> {
    let memory = window.memory.0;
    map_range(tables, window.iova.0, memory..memory + window.length)
}
