//! From what a scenario says of its SMMUs to a driver that runs them.

use alloc::sync::Arc;
use core::time::Duration;

use smmu_driver::smmu_attach::faults::{SieveConfig, StormConfig};
use smmu_driver::smmu_cmdq::{Opcodes, SyncBy};
use smmu_driver::smmu_hw_mmio::{Interrupts, probe};
use smmu_driver::smmu_types::MsiAttributes;
use smmu_driver::smmu_types::pool::Pool;
use smmu_driver::{Driver, Setup, SmmuOptions};

use super::doorbell::Doorbell;
use super::options::RunOptions;
use super::pages::Pages;
use super::platform::{Dma, Harness, Names, Sink};
use super::reserved::Early;
use super::rig_error::RigError;
use super::smmu_taps::SmmuTaps;
use super::switches::Switches;
use super::tap::Tap;
use crate::lock::Mutex;
use crate::machine::{AtsPower, Machine, SecondQueueKind};
use crate::prelude::*;
use crate::scenario::{Scenario, SmmuSpec, SpannedName, SyncMethod};
use crate::transcript::Recorder;

/// Starts the SMMUs of a scenario, with a tap on each command queue.
pub(super) fn start(
    scenario: &Scenario,
    machine: &Arc<dyn Machine>,
    recorder: &Recorder,
    options: RunOptions,
) -> Result<(Driver<Harness>, Vec<SmmuTaps>, Early), RigError> {
    let dma = Dma(Pool::with_lock(machine.ram()));
    let (setup, taps) = compose(scenario, machine, recorder, dma.clone())?;
    let names = |names: &'_ [SpannedName]| -> Vec<String> {
        names.iter().map(|name| name.get_ref().clone()).collect()
    };
    let (pages, blocks) = (names(&scenario.file.pages), names(&scenario.file.blocks));
    let (pages, blocks) = (pages.iter().map(String::as_str), blocks.iter().map(String::as_str));
    let mut early = Early::new(scenario, Pages::new(pages, blocks, &dma)?, &**machine);
    page_requests_off(scenario, machine)?;
    early.run_firmware(machine, &taps)?;
    let driver = setup.start_with(
        |queues| Sink::new(queues, options.sabotage),
        |boot| early.attach(scenario, boot),
    )?;
    Ok((driver, taps, early))
}

/// Devices whose page requests the driver switches have them off at power-on.
fn page_requests_off(scenario: &Scenario, machine: &Arc<dyn Machine>) -> Result<(), RigError> {
    let specs = scenario.file.devices.iter();
    let asking = specs.flat_map(|spec| spec.each().map(|_| spec.has_page_requests()));
    for (device, _) in asking.enumerate().filter(|(_, asks)| *asks) {
        machine.switch_page_requests(device, AtsPower::Off)?;
    }
    Ok(())
}

/// A driver of the scenario's SMMUs that has written nothing yet, with a tap on each command queue.
pub(super) fn compose(
    scenario: &Scenario,
    machine: &Arc<dyn Machine>,
    recorder: &Recorder,
    dma: Dma,
) -> Result<(Setup<Harness>, Vec<SmmuTaps>), RigError> {
    let file = &scenario.file;
    let ram = machine.ram();
    let observer = Names {
        recorder: recorder.clone(),
        smmus: file.smmus.iter().map(|spec| spec.name.get_ref().clone()).collect(),
        domains: file.domains.iter().flat_map(|spec| spec.names()).collect(),
        freed: Mutex::default(),
    };
    let mut setup = Setup::with_ats(
        dma.clone(),
        machine.clock(),
        observer,
        Switches::new(file, Arc::clone(machine)),
    );
    let mut taps = Vec::new();
    for (n, spec) in file.smmus.iter().enumerate() {
        let name = spec.name.get_ref();
        let main = Tap::new(machine.registers(n)?, ram.clone(), recorder.clone(), name);
        let mut options = smmu_options(spec);
        let mut doorbell = None;
        if spec.interrupts_by_msi() {
            let memory = Doorbell::new(&dma)?;
            options.interrupts = by_msi(name, &main, &memory)?;
            doorbell = Some(Arc::new(memory));
        }
        let smmu = setup.smmu(main.clone(), options)?;
        let mut second = None;
        if let Some(kind) = &spec.second_queue {
            let (registers, name) = (machine.second_queue(n)?, format!("{name}/second"));
            let tap = Tap::on_second(registers, ram.clone(), recorder.clone(), &name);
            setup.virtual_queue(smmu, tap.clone(), opcodes(*kind.get_ref()))?;
            second = Some(tap);
        }
        taps.push(SmmuTaps { main, second, doorbell });
    }
    if scenario.checks_commands()
        && let Some(insight) = machine.insight()
    {
        for (n, SmmuTaps { main, second, .. }) in taps.iter().enumerate() {
            main.keep();
            second.iter().for_each(Tap::keep);
            insight.listen(n);
        }
    }
    Ok((setup, taps))
}

/// The interrupts of an SMMU, as MSIs to `doorbell`.
fn by_msi(name: &str, registers: &Tap, doorbell: &Doorbell) -> Result<Interrupts, RigError> {
    let probed = probe(registers).map_err(|error| RigError::Probe(name.into(), error))?;
    let msis = doorbell.msis(probed.caps.pri)?;
    Interrupts::msis(&probed.caps, msis).map_err(|error| RigError::Msi(name.into(), error))
}

/// What a scenario chooses of an SMMU.
fn smmu_options(spec: &SmmuSpec) -> SmmuOptions {
    let sync_by = match spec.completion() {
        SyncMethod::Polling => SyncBy::Polling,
        SyncMethod::Event => SyncBy::Event,
        SyncMethod::Msi => SyncBy::Msi(MsiAttributes::WRITE_BACK),
    };
    let defaults = SmmuOptions { interrupts: Interrupts::Wired, ..SmmuOptions::default() };
    let command_queue_log2 = match &spec.queue_entries {
        Some(entries) => entries.get_ref().max(&1).ilog2() as u8,
        None => defaults.command_queue_log2,
    };
    let event_queue_log2 = match &spec.event_entries {
        Some(entries) => entries.get_ref().max(&1).ilog2() as u8,
        None => defaults.event_queue_log2,
    };
    let burst = spec.event_burst.as_ref().map_or(u32::MAX, |burst| *burst.get_ref());
    let storm = StormConfig { window: Duration::from_secs(1), burst };
    SmmuOptions {
        timeout: spec.timeout(),
        sync_by: Some(sync_by),
        command_queue_log2,
        event_queue_log2,
        pri_queue_log2: spec.page_entries.as_ref().map(|n| n.get_ref().max(&1).ilog2() as u8),
        sieve: SieveConfig { storm, ..SieveConfig::default() },
        ..defaults
    }
}

/// The opcodes that a second queue accepts.
const fn opcodes(kind: SecondQueueKind) -> Opcodes {
    match kind {
        SecondQueueKind::Full => Opcodes::ALL,
        SecondQueueKind::Restricted => Opcodes::VCMDQ_GUEST,
    }
}
