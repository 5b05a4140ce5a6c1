//! Carries out one scenario on one machine, over the seams.
//!
//! From the bottom up: [`Tap`] listens at the registers, `platform` and `setup` make a driver,
//! `rig` joins it to the machine and to the scenario's names, `settle` checks what must hold after
//! each step, `steps` holds the steps, and [`run`] goes through a scenario.

mod command_failure;
mod committed;
mod destination;
mod device_write;
mod domains;
mod doorbell;
#[cfg(feature = "record")]
mod entries;
#[cfg(feature = "guest")]
mod guest_host;
#[cfg(feature = "guest")]
mod guests;
mod held_fault;
mod invalidation;
mod memory;
mod options;
mod pages;
mod platform;
mod probe;
mod refusal;
mod report;
mod reserved;
mod rig;
mod rig_error;
mod runner;
mod sabotage;
mod settle;
mod setup;
mod smmu_taps;
mod step_action;
mod steps;
mod stop;
mod switches;
mod tap;

use alloc::sync::Arc;

use smmu_driver::DriverError;
use smmu_driver::smmu_hw_mmio::BringupError;
use smmu_driver::smmu_types::OutputSize;

use crate::machine::{Backend, Machine, MachineSmmu, MachineSpec, Need, RamSpec, Time};
use crate::page_tables::TableStage;
use crate::prelude::*;
use crate::scenario::{Scenario, Spanned, Step, StreamTableKind, SyncMethod};
use crate::transcript::{LineKind, Recorder};
use rig::Rig;
use stop::{Cause, Stop};

pub use options::RunOptions;
pub use platform::{Cell, Dma, Harness, Names, Sink};
pub use probe::probe;
pub use report::{RunFailure, RunOutcome, RunReport};
pub use rig_error::RigError;
pub use runner::Runner;
pub use sabotage::Sabotage;
pub use tap::Tap;

impl From<RigError> for Stop {
    fn from(error: RigError) -> Self {
        match error {
            RigError::Backend(error) => error.into(),
            RigError::Driver(error) => error.into(),
            _ => Stop::failed(error),
        }
    }
}

impl From<DriverError> for Stop {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::Bringup { error: BringupError::Invalidate(error), .. } => error.into(),
            DriverError::Bringup { error: BringupError::NoAck { .. }, .. }
            | DriverError::VirtualQueue { .. }
            | DriverError::VirtualQueueRuns { .. } => Stop::timed_out(error),
            DriverError::Attach(error) => error.into(),
            _ => Stop::failed(error),
        }
    }
}

/// The machine that a scenario asks for.
fn machine_spec(scenario: &Scenario) -> MachineSpec {
    let smmus = &scenario.file.smmus;
    let several =
        scenario.file.steps.iter().any(|step| matches!(step.get_ref(), Step::Parallel(_)));
    MachineSpec {
        smmus: smmus
            .iter()
            .map(|smmu| MachineSmmu {
                asid_bits: smmu.asid_bits.as_ref().map_or(16, |bits| *bits.get_ref()),
                vmid_bits: smmu.vmid_bits.as_ref().map_or(16, |bits| *bits.get_ref()),
                // `Scenario::parse` has checked that there is such a size.
                output_size: smmu.output_size().unwrap_or(OutputSize::Bits44),
                stage1: smmu.has_stage(TableStage::Stage1),
                stage2: smmu.has_stage(TableStage::Stage2),
                granules: smmu.granules(),
                range: smmu.range.as_ref().is_none_or(|range| *range.get_ref()),
                two_level: smmu
                    .stream_table
                    .as_ref()
                    .is_none_or(|kind| *kind.get_ref() == StreamTableKind::TwoLevel),
                ats: smmu.has_ats(),
                msi: smmu.has_msis(),
                sev: smmu.completion() == SyncMethod::Event,
                stalls: smmu.has_stalls(),
                page_requests: smmu.page_entries.is_some(),
                substream_bits: smmu.substream_bits.as_ref().map_or(0, |bits| *bits.get_ref()),
                two_level_cd: smmu.has_two_level_cds(),
                second_queue: smmu.second_queue.as_ref().map(|kind| *kind.get_ref()),
            })
            .collect(),
        devices: scenario.file.places(),
        time: if several { Time::Real } else { Time::Virtual },
        ram: RamSpec::default(),
    }
}

/// Run a scenario on a backend.
#[must_use]
pub fn run(scenario: &Scenario, backend: &dyn Backend, options: RunOptions) -> RunReport {
    let (name, backend_name) = (scenario.name.clone(), backend.name().into());
    let mut report = RunReport::new(name, backend_name, RunOutcome::Passed);
    // Without the feature, the program has no host for guests.
    let has = |need: Need| need != Need::Nesting || cfg!(feature = "guest");
    let lacking = scenario.file.needs.iter().filter(|n| !(has(**n) && backend.offers(**n)));
    let lacks: Vec<&str> = lacking.map(|n| n.name()).collect();
    if !lacks.is_empty() {
        let reason = format!("{} has no {}", backend.name(), lacks.join(", "));
        report.outcome = RunOutcome::Skipped { reason };
        return report;
    }
    let recorder = Recorder::default();
    let mut step = 0;
    let stopped = run_steps(scenario, backend, options, &recorder, &mut report, &mut step);
    if let Err(stop) = stopped {
        let failure = |Cause { expected, happened, hazards }| {
            let at = step.checked_sub(1);
            let line = at.and_then(|at| scenario.lines.get(at)).copied().unwrap_or(1);
            let spec = at.and_then(|at| scenario.file.steps.get(at));
            let text = spec.map_or_else(|| "set up".to_owned(), |spec| spec.get_ref().text());
            let file = scenario.path.clone();
            RunFailure { step, file, line, text, expected, happened, hazards }
        };
        report.outcome = match stop {
            Stop::Failed(cause) => RunOutcome::Failed(failure(cause)),
            Stop::TimedOut(cause) => RunOutcome::TimedOut(failure(cause)),
            Stop::Broken(cause) => RunOutcome::Broken(failure(cause)),
            Stop::Skipped(reason) => RunOutcome::Skipped { reason },
        };
    }
    report.transcript = recorder.transcript();
    #[cfg(feature = "record")]
    {
        report.rows = recorder.rows();
    }
    report
}

fn run_steps(
    scenario: &Scenario,
    backend: &dyn Backend,
    options: RunOptions,
    recorder: &Recorder,
    report: &mut RunReport,
    step: &mut usize,
) -> Result<(), Stop> {
    let machine: Arc<dyn Machine> = backend.start(&machine_spec(scenario))?.into();
    #[cfg(not(feature = "std"))]
    crate::lock::board::number_cpus(machine.cpu_number());
    if !machine.sees_interrupts() {
        report.sees_no_interrupts();
    }
    #[cfg(feature = "record")]
    if machine.tells_time() {
        report.clock = crate::row::TimeUnit::Nanoseconds;
        recorder.tell_time(machine.clock());
    }
    recorder.note(LineKind::Step, || "0 set up".into());
    machine.step_begins(0, "set up");
    let started = setup::start(scenario, &machine, recorder, options);
    // A machine that is gone explains all errors of the driver.
    machine.check()?;
    let (driver, taps, early) = started?;
    let mut last = Arc::new(driver);
    let (first, shared) = (Arc::clone(&last), Arc::clone(&machine));
    let rig = Rig::new(scenario, shared, recorder.clone(), options, first, taps, early);
    let done = rig.and_then(|mut rig| {
        let done = carry_out(&mut rig, &scenario.file.steps, report, step);
        // A step may have changed the driver.
        last = Arc::clone(&rig.driver);
        done
    });
    // A transcript ends with the last step.
    let lines = recorder.len();
    let down = match Arc::into_inner(last) {
        Some(driver) => driver.shutdown().map_err(Stop::from),
        None => Err(Stop::failed("a step still uses the driver at the end")),
    };
    recorder.drop_from(lines);
    // The first error is the one to tell.
    done.and(down)
}

/// Carries out all steps, and checks what must hold at the end.
fn carry_out(
    rig: &mut Rig<'_>,
    steps: &[Spanned<Step>],
    report: &mut RunReport,
    step: &mut usize,
) -> Result<(), Stop> {
    #[cfg(feature = "guest")]
    guest_host::make(rig, &rig.scenario.file)?;
    let machine = Arc::clone(&rig.machine);
    for (n, spec) in steps.iter().enumerate() {
        *step = n + 1;
        machine.step_begins(*step, &spec.get_ref().text());
        let done = steps::run(rig, *step, spec.get_ref(), report);
        machine.check()?;
        done.map_err(|stop| settle::with_hazards(rig, stop))?;
    }
    settle::finish(rig)
}
