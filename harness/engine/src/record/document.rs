//! A record as it is written: a line of JSON for each scenario, and one for the summary.

use alloc::borrow::Cow;

use crate::prelude::*;
use crate::row::TimeUnit;
use crate::run::RunFailure;
use crate::transcript::{Row, TranscriptLine};

/// The version of the JSON that all commands print. It grows when a field changes its meaning or
/// goes away; new fields and new kinds of rows leave it alone.
pub const RECORD_SCHEMA: u32 = 1;

/// How a transcript compares with the snapshot beside its scenario.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename = "snapshot")]
pub struct SnapshotRecord {
    /// `none`, `same`, `blessed`, `differs` or `unusable`.
    pub state: Cow<'static, str>,
    /// The lines that differ, or why the snapshot cannot be used.
    pub difference: Option<String>,
}

/// The record of one scenario.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScenarioRecord {
    /// The version of the format.
    pub schema: u32,
    /// The scenario.
    pub scenario: String,
    /// What it shows.
    pub title: String,
    /// The backend.
    pub backend: Cow<'static, str>,
    /// `passed`, `failed`, `timed-out`, `broken` or `skipped`.
    pub outcome: Cow<'static, str>,
    /// Why it did not pass, if it ran.
    pub failure: Option<RunFailure>,
    /// What the backend lacks, if the scenario was skipped.
    pub reason: Option<String>,
    /// The snapshot beside the scenario's file.
    pub snapshot: SnapshotRecord,
    /// What the times of the rows count.
    #[serde(default)]
    pub clock: TimeUnit,
    /// Everything that happened.
    #[serde(default)]
    pub rows: Vec<Row>,
    /// What a snapshot keeps of the rows: lines that are the same on every backend.
    pub transcript: Vec<TranscriptLine>,
    /// What this backend alone can tell: hazards that a step expected and the model found.
    pub notes: Vec<String>,
    /// Checks of the scenario that this backend cannot make.
    pub unchecked: Vec<String>,
    /// How long the run took, in seconds.
    pub seconds: f64,
}

/// The last line of a record.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SummaryRecord {
    /// The version of the format.
    pub schema: u32,
    /// The backend.
    pub backend: String,
    /// How many scenarios passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
    /// How many the backend cannot run.
    pub skipped: usize,
    /// How many timed out.
    pub timed_out: usize,
    /// In how many the backend broke.
    pub broken: usize,
    /// How many checks the backend cannot make.
    pub unchecked: usize,
    /// The scenarios that did not pass, without those that were skipped.
    pub failures: Vec<String>,
    /// How long the run took, in seconds.
    pub seconds: f64,
}

/// One line of JSON of `run --format json`.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum RecordLine {
    /// A scenario.
    Scenario(Box<ScenarioRecord>),
    /// The summary.
    Summary(SummaryRecord),
}
