//! The difference of two runs of a scenario: what each step does in one and not in the other.

mod compare;
mod read;

pub use compare::{Change, RunDifference, StepDifference, compare};
pub use read::{ReadError, read};

use smmu_engine::transcript::LineKind;

/// A run, as far as a difference needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComparedRun {
    /// The scenario; empty for a transcript that does not say it.
    pub scenario: String,
    /// The backend; empty if it is unknown.
    pub backend: String,
    /// How it ended; empty if it is unknown.
    pub outcome: String,
    /// Its steps, with the set-up first.
    pub steps: Vec<ComparedStep>,
}

/// A step, as far as a difference needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComparedStep {
    /// Its number; 0 for the set-up.
    pub number: usize,
    /// What it does, without the number.
    pub text: String,
    /// What happened in it.
    pub lines: Vec<ComparedLine>,
}

/// A line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedLine {
    /// What it is about.
    pub kind: LineKind,
    /// Its text with the name of the SMMU, as a transcript has it behind the kind.
    pub text: String,
}

impl ComparedLine {
    /// Whether it is a command.
    #[must_use]
    pub fn is_command(&self) -> bool {
        self.kind == LineKind::Command
    }
}

impl ComparedRun {
    /// The same run with the lines of some kinds alone.
    #[must_use]
    pub fn with_lines(mut self, keep: impl Fn(&ComparedLine) -> bool) -> Self {
        for step in &mut self.steps {
            step.lines.retain(&keep);
        }
        self
    }
}
