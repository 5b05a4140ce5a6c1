//! What a run has shown.

use alloc::borrow::Cow;
use core::fmt;

use crate::machine::HazardReport;
use crate::prelude::*;
use crate::transcript::{LineKind, TranscriptLine};

/// Why a scenario did not pass.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(all(feature = "record", feature = "schema"), derive(schemars::JsonSchema))]
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
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
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
///
/// It serialises without loss, so a board can print it as a line of JSON, and a host can read it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct RunReport {
    /// The scenario.
    pub scenario: String,
    /// The backend.
    pub backend: Cow<'static, str>,
    /// How it ended.
    pub outcome: RunOutcome,
    /// What happened, alike on every backend.
    pub transcript: Vec<TranscriptLine>,
    /// What this backend alone can tell: hazards that a step expected and the model found.
    pub notes: Vec<String>,
    /// Checks of the scenario that this backend cannot make.
    pub unchecked: Vec<String>,
    /// Kinds of lines that this machine cannot record. [`unchecked`](Self::unchecked) names them too.
    pub unrecorded: Vec<LineKind>,
    /// What happened, with all values. Only a run with the feature `record` has them.
    #[cfg(feature = "record")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<crate::transcript::Row>,
    /// What the times of the rows count.
    #[cfg(feature = "record")]
    #[serde(default)]
    pub clock: crate::row::TimeUnit,
}

/// Before a check that was not made, in a snapshot.
const NOT_CHECKED: &str = "not checked: ";
const NO_INTERRUPTS: &str = "whether interrupts came: the machine sees none";

impl RunReport {
    /// A report of a scenario of which nothing happened yet.
    #[must_use]
    pub const fn new(scenario: String, backend: Cow<'static, str>, outcome: RunOutcome) -> Self {
        RunReport {
            scenario,
            backend,
            outcome,
            transcript: Vec::new(),
            notes: Vec::new(),
            unchecked: Vec::new(),
            unrecorded: Vec::new(),
            #[cfg(feature = "record")]
            rows: Vec::new(),
            #[cfg(feature = "record")]
            clock: crate::row::TimeUnit::Steps,
        }
    }

    /// The machine sees no interrupts.
    pub(super) fn sees_no_interrupts(&mut self) {
        self.unrecorded.push(LineKind::Interrupt);
        self.unchecked.push(NO_INTERRUPTS.into());
    }

    /// The transcript, and each check that was not made: what a snapshot keeps.
    #[must_use]
    pub fn snapshot(&self) -> String {
        let mut text = String::new();
        for line in &self.transcript {
            text += &format!("{line}\n");
        }
        for note in &self.unchecked {
            text += &format!("{NOT_CHECKED}{note}\n");
        }
        text
    }

    /// A snapshot without the lines that this run could not record. Two snapshots are alike if this
    /// makes the same of both.
    #[must_use]
    pub fn comparable<'s>(&self, snapshot: &'s str) -> Cow<'s, str> {
        if self.unrecorded.is_empty() {
            return Cow::Borrowed(snapshot);
        }
        let unrecorded = |line: &str| {
            self.unrecorded.iter().any(|kind| kind.is_kind_of(line))
                || line.strip_prefix(NOT_CHECKED) == Some(NO_INTERRUPTS)
        };
        let lines = snapshot.split_inclusive('\n');
        lines.filter(|line| !unrecorded(line.trim_end_matches('\n'))).collect::<String>().into()
    }
}
