//! What happened, line by line.

use alloc::sync::Arc;
use core::fmt;

use crate::alloc_fault;
use crate::lock::{Mutex, MutexGuard};
use crate::prelude::*;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineKind {
    /// A step of the scenario begins.
    Step,
    /// A command was shown to an SMMU.
    Command,
    /// A global error was acknowledged.
    Acknowledge,
    /// What became of a tag.
    Tag,
    /// A table entry was written.
    Entry,
    /// An invalidation array after a change.
    Array,
    /// A DMA and where it went.
    Dma,
    /// An event record.
    Event,
    /// An interrupt.
    Interrupt,
    /// An error that the driver reported.
    Error,
    /// A check that held.
    Check,
}

/// Before every line but that of a step.
const INDENT: &str = "    ";

impl LineKind {
    const fn label(self) -> &'static str {
        match self {
            LineKind::Step => "",
            LineKind::Command => "command  ",
            LineKind::Acknowledge => "ack      ",
            LineKind::Tag => "tag      ",
            LineKind::Entry => "entry    ",
            LineKind::Array => "array    ",
            LineKind::Dma => "dma      ",
            LineKind::Event => "event    ",
            LineKind::Interrupt => "interrupt",
            LineKind::Error => "error    ",
            LineKind::Check => "check    ",
        }
    }

    /// Whether a line, as it is printed, is of this kind.
    #[must_use]
    pub fn is_kind_of(self, line: &str) -> bool {
        match line.strip_prefix(INDENT) {
            None => self == LineKind::Step,
            Some(rest) => {
                let after = rest.strip_prefix(self.label());
                self != LineKind::Step && after.is_some_and(|after| after.starts_with(' '))
            }
        }
    }
}

/// One line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(tag = "type", rename = "line")]
pub struct TranscriptLine {
    /// What it is about.
    pub kind: LineKind,
    /// The SMMU, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smmu: Option<String>,
    /// What happened. No addresses of the machine, no register values: the same on every backend.
    pub text: String,
    /// The words as they were, of a command or an event; these do differ between backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<Vec<String>>,
}

impl fmt::Display for TranscriptLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == LineKind::Step {
            return f.write_str(&self.text);
        }
        write!(f, "{INDENT}{} ", self.kind.label())?;
        if let Some(smmu) = &self.smmu {
            write!(f, "{smmu} ")?;
        }
        f.write_str(&self.text)
    }
}

/// Takes lines from every part of a run, in the order in which things happen.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<TranscriptLine>>>);

impl Recorder {
    fn lines(&self) -> MutexGuard<'_, Vec<TranscriptLine>> {
        self.0.lock()
    }

    /// A line about no SMMU in particular.
    pub(crate) fn note(&self, kind: LineKind, text: impl FnOnce() -> String) {
        self.push(|| TranscriptLine { kind, smmu: None, text: text(), raw: None });
    }

    /// A line about an SMMU.
    pub(crate) fn about(&self, kind: LineKind, smmu: &str, text: impl FnOnce() -> String) {
        self.push(|| TranscriptLine { kind, smmu: Some(smmu.to_owned()), text: text(), raw: None });
    }

    /// A line about an SMMU, with words as they were.
    pub(crate) fn raw(
        &self,
        kind: LineKind,
        smmu: &str,
        words: &[u64],
        text: impl FnOnce() -> String,
    ) {
        self.push(|| TranscriptLine {
            kind,
            smmu: Some(smmu.to_owned()),
            text: text(),
            raw: Some(words.iter().map(|word| format!("{word:#018x}")).collect()),
        });
    }

    fn push(&self, line: impl FnOnce() -> TranscriptLine) {
        // The driver may be running under injected allocation failures; its transcript is not.
        alloc_fault::suspended(|| self.lines().push(line()));
    }

    /// Number of lines so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines().len()
    }

    /// Whether there is no line yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines().is_empty()
    }

    /// Take out the lines from a position on.
    pub(crate) fn drop_from(&self, from: usize) -> Vec<TranscriptLine> {
        let mut lines = self.lines();
        let from = from.min(lines.len());
        lines.split_off(from)
    }

    /// The commands to an SMMU among the lines from a position on.
    pub(crate) fn commands_since(&self, from: usize, smmu: &str) -> Vec<String> {
        let lines = self.lines();
        let later = lines.iter().skip(from);
        let of = |line: &&TranscriptLine| {
            line.kind == LineKind::Command && line.smmu.as_deref() == Some(smmu)
        };
        later.filter(of).map(|line| line.text.clone()).collect()
    }

    /// The first command among the lines from a position on.
    pub(crate) fn command_since(&self, from: usize) -> Option<String> {
        let lines = self.lines();
        let mut later = lines.iter().skip(from);
        later.find(|line| line.kind == LineKind::Command).map(|line| line.text.clone())
    }

    /// All lines.
    #[must_use]
    pub fn transcript(&self) -> Vec<TranscriptLine> {
        self.lines().clone()
    }
}
