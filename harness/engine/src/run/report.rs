//! What a run has shown.

use core::fmt;

use crate::machine::HazardReport;
use crate::transcript::TranscriptLine;

/// Why a scenario did not pass.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "type", rename = "failure")]
pub struct RunFailure {
    /// The number of the step, from 1; 0 for the set-up.
    pub step: usize,
    /// The file of the scenario.
    pub file: String,
    /// The line of the step; 1 for the set-up.
    pub line: usize,
    /// What the step was to do, as the transcript says it.
    pub text: String,
    /// What was expected, if the step says it.
    pub expected: Option<String>,
    /// What happened.
    pub happened: String,
    /// What the model found wrong at that moment, each with the missing command if it knows it.
    pub hazards: Vec<HazardReport>,
}

/// One sentence, without the place.
impl fmt::Display for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(expected) = &self.expected {
            write!(f, "expected: {expected}, but ")?;
        }
        f.write_str(&self.happened)?;
        self.hazards.iter().try_for_each(|hazard| write!(f, "; {}", hazard.text))
    }
}

/// How a scenario ended.
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl RunOutcome {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            RunOutcome::Passed => "passed",
            RunOutcome::Failed(_) => "failed",
            RunOutcome::TimedOut(_) => "timed-out",
            RunOutcome::Broken(_) => "broken",
            RunOutcome::Skipped { .. } => "skipped",
        }
    }

    /// Why it did not pass, if it ran.
    #[must_use]
    pub const fn failure(&self) -> Option<&RunFailure> {
        match self {
            RunOutcome::Failed(why) | RunOutcome::TimedOut(why) | RunOutcome::Broken(why) => {
                Some(why)
            }
            RunOutcome::Passed | RunOutcome::Skipped { .. } => None,
        }
    }
}

/// What a run has shown.
#[derive(Clone, Debug)]
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
