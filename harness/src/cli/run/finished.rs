//! A scenario that has run, with all that is printed about it.

use std::time::Duration;

use smmu_engine::record::{RECORD_SCHEMA, ScenarioRecord, SnapshotRecord};
use smmu_engine::run::{RunOutcome, RunReport};

use super::own_snapshot::Compared;

/// A scenario that has run.
#[derive(Debug)]
pub(super) struct Finished<'a> {
    pub(super) report: &'a RunReport,
    pub(super) title: &'a str,
    pub(super) compared: Compared,
    pub(super) took: Duration,
    pub(super) named: bool,
}

impl Finished<'_> {
    /// The record of the run.
    pub(super) fn record(&self) -> ScenarioRecord {
        let Finished { report, title, compared, took, .. } = self;
        let reason = match &report.outcome {
            RunOutcome::Skipped { reason } => Some(reason.clone()),
            _ => None,
        };
        let difference = match compared {
            Compared::Differs(why) | Compared::Unusable(why) => Some(why.clone()),
            _ => None,
        };
        ScenarioRecord {
            schema: RECORD_SCHEMA,
            scenario: report.scenario.clone(),
            title: (*title).to_owned(),
            backend: report.backend.clone(),
            outcome: report.outcome.name().into(),
            failure: report.outcome.failure().cloned(),
            reason,
            snapshot: SnapshotRecord { state: compared.name().into(), difference },
            clock: report.clock,
            rows: report.rows.clone(),
            transcript: report.transcript.clone(),
            notes: report.notes.clone(),
            unchecked: report.unchecked.clone(),
            seconds: took.as_secs_f64(),
        }
    }
}
