//! One run of one scenario.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smmu_driver::smmu_attach::AttachError;
use smmu_driver::smmu_hw_mmio::BringupError;
use smmu_driver::smmu_types::seam::{DmaError, SinkError};

use super::rig::{Rig, RigError};
use super::sabotage::Sabotage;
use super::steps;
use super::transcript::{Kind, Line, Recorder};
use crate::machine::{
    Backend, BackendError, Machine, MachineDevice, MachineSmmu, MachineSpec, Time,
};
use crate::page_tables::TableError;
use crate::scenario::{Completion, Scenario};

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Break the driver.
    pub sabotage: Option<Sabotage>,
}

/// Why a scenario did not pass.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    /// The number of the step, from 1; 0 for the set-up.
    pub step: usize,
    /// What was expected, and what happened.
    pub message: String,
}

/// How a scenario ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every step and every expectation held.
    Passed,
    /// Something did not.
    Failed(Failure),
    /// An SMMU did not answer in time.
    TimedOut(Failure),
    /// The backend broke, which says nothing about the driver.
    Broken(Failure),
    /// The backend cannot do what the scenario needs.
    Skipped {
        /// What it lacks.
        reason: String,
    },
}

/// What a run has shown.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// The backend.
    pub backend: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What happened, alike on every backend.
    pub transcript: Vec<Line>,
    /// What only this backend can tell: hazards that were looked for and found.
    pub notes: Vec<String>,
    /// Checks of the scenario that this backend cannot make.
    pub unchecked: Vec<String>,
    /// How long it took.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub elapsed: Duration,
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(elapsed.as_secs_f64())
}

/// What stops a run.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The driver, or an expectation, failed.
    Failed(String),
    /// An SMMU did not answer.
    TimedOut(String),
    /// The backend broke.
    Broken(String),
    /// The backend cannot do what the scenario needs.
    Skipped(String),
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Stop::Failed(message)
    }
}

impl From<SinkError> for Stop {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Timeout { .. } => Stop::TimedOut(error.to_string()),
            _ => Stop::Failed(error.to_string()),
        }
    }
}

impl From<AttachError> for Stop {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Sink(error) => error.into(),
            _ => Stop::Failed(error.to_string()),
        }
    }
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Impossible(_) => Stop::Skipped(error.to_string()),
            _ => Stop::Broken(error.to_string()),
        }
    }
}

impl From<TableError> for Stop {
    fn from(error: TableError) -> Self {
        Stop::Failed(error.to_string())
    }
}

impl From<DmaError> for Stop {
    fn from(error: DmaError) -> Self {
        Stop::Failed(error.to_string())
    }
}

impl From<RigError> for Stop {
    fn from(error: RigError) -> Self {
        match error {
            RigError::Backend(error) => error.into(),
            RigError::Sink(error) => error.into(),
            RigError::Bringup(_, BringupError::NoAck { .. }) | RigError::SecondQueue(..) => {
                Stop::TimedOut(error.to_string())
            }
            RigError::Attach(error) => error.into(),
            _ => Stop::Failed(error.to_string()),
        }
    }
}

/// The machine that a scenario asks for.
fn machine_spec(scenario: &Scenario) -> MachineSpec {
    let smmus = &scenario.file.smmus;
    let index = |name: &str| smmus.iter().position(|smmu| smmu.name.get_ref() == name);
    let devices = scenario.file.devices.iter().flat_map(|device| {
        // The check of the file has made sure that the SMMU exists.
        let smmu = index(device.smmu.get_ref()).unwrap_or(0);
        device.each().map(move |(_, stream)| MachineDevice { smmu, stream })
    });
    MachineSpec {
        smmus: smmus
            .iter()
            .map(|smmu| MachineSmmu {
                asid_bits: smmu.asid_bits.as_ref().map_or(16, |bits| *bits.get_ref()),
                ats: smmu.has_ats(),
                msi: smmu.completion() == Completion::Msi,
                sev: smmu.completion() == Completion::Event,
                second_queue: smmu.second_queue.as_ref().map(|kind| *kind.get_ref()),
            })
            .collect(),
        devices: devices.collect(),
        time: Time::Virtual,
    }
}

/// Run a scenario on a backend.
#[must_use]
pub fn run(scenario: &Scenario, backend: &dyn Backend, options: Options) -> Report {
    let start = Instant::now();
    let mut report = Report {
        scenario: scenario.name.clone(),
        backend: backend.name(),
        outcome: Outcome::Passed,
        transcript: Vec::new(),
        notes: Vec::new(),
        unchecked: Vec::new(),
        elapsed: Duration::ZERO,
    };
    let lacks: Vec<&str> =
        scenario.file.needs.iter().filter(|n| !backend.offers(**n)).map(|n| n.name()).collect();
    if !lacks.is_empty() {
        let reason = format!("{} has no {}", backend.name(), lacks.join(", "));
        report.outcome = Outcome::Skipped { reason };
        return report;
    }
    let recorder = Recorder::default();
    let mut step = 0;
    let stopped = run_steps(scenario, backend, options, &recorder, &mut report, &mut step);
    if let Err(stop) = stopped {
        let failure = |message| Failure { step, message };
        report.outcome = match stop {
            Stop::Failed(message) => Outcome::Failed(failure(message)),
            Stop::TimedOut(message) => Outcome::TimedOut(failure(message)),
            Stop::Broken(message) => Outcome::Broken(failure(message)),
            Stop::Skipped(reason) => Outcome::Skipped { reason },
        };
    }
    report.transcript = recorder.transcript();
    report.elapsed = start.elapsed();
    report
}

fn run_steps(
    scenario: &Scenario,
    backend: &dyn Backend,
    options: Options,
    recorder: &Recorder,
    report: &mut Report,
    step: &mut usize,
) -> Result<(), Stop> {
    let machine: Arc<dyn Machine> = backend.start(&machine_spec(scenario))?.into();
    recorder.note(Kind::Step, || "0 set up".into());
    let rig = Rig::new(scenario, Arc::clone(&machine), recorder.clone(), options);
    // A machine that is gone explains whatever the driver ran into.
    machine.check()?;
    let mut rig = rig?;
    for (n, spec) in scenario.file.steps.iter().enumerate() {
        *step = n + 1;
        let done = steps::run(&mut rig, *step, spec.get_ref(), report);
        machine.check()?;
        done?;
    }
    steps::finish(&rig)
}
