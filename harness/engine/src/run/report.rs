//! What a run has shown.

use crate::transcript::TranscriptLine;

/// Why a scenario did not pass.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RunFailure {
    /// The number of the step, from 1; 0 for the set-up.
    pub step: usize,
    /// What was expected, and what happened.
    pub message: String,
}

/// How a scenario ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Every step and every expectation held.
    Passed,
    /// A step or an expectation did not hold.
    Failed(RunFailure),
    /// An SMMU did not answer in time.
    TimedOut(RunFailure),
    /// The backend broke, which says nothing about the driver.
    Broken(RunFailure),
    /// The backend cannot do what the scenario needs.
    Skipped {
        /// What it lacks.
        reason: String,
    },
}

/// What a run has shown.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RunReport {
    /// The scenario.
    pub scenario: String,
    /// The backend.
    pub backend: &'static str,
    /// How it ended.
    pub outcome: RunOutcome,
    /// What happened, alike on every backend.
    pub transcript: Vec<TranscriptLine>,
    /// What this backend alone can tell: hazards that a step expected and the model found.
    pub notes: Vec<String>,
    /// Checks of the scenario that this backend cannot make.
    pub unchecked: Vec<String>,
}
