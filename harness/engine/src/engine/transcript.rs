//! What happened, line by line.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::alloc_fault;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
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

impl Kind {
    const fn label(self) -> &'static str {
        match self {
            Kind::Step => "",
            Kind::Command => "command  ",
            Kind::Acknowledge => "ack      ",
            Kind::Tag => "tag      ",
            Kind::Entry => "entry    ",
            Kind::Array => "array    ",
            Kind::Dma => "dma      ",
            Kind::Event => "event    ",
            Kind::Interrupt => "interrupt",
            Kind::Error => "error    ",
            Kind::Check => "check    ",
        }
    }
}

/// One line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// What it is about.
    pub kind: Kind,
    /// The SMMU, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smmu: Option<String>,
    /// What happened. No addresses of the machine, no register values: the same on every backend.
    pub text: String,
    /// The words as they were, of a command or an event; these do differ between backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<Vec<String>>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Step {
            return f.write_str(&self.text);
        }
        write!(f, "    {} ", self.kind.label())?;
        if let Some(smmu) = &self.smmu {
            write!(f, "{smmu} ")?;
        }
        f.write_str(&self.text)
    }
}

/// Takes lines from every part of a run, in the order in which things happen.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<Line>>>);

impl Recorder {
    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line about no SMMU in particular.
    pub(crate) fn note(&self, kind: Kind, text: impl FnOnce() -> String) {
        self.push(|| Line { kind, smmu: None, text: text(), raw: None });
    }

    /// A line about an SMMU.
    pub(crate) fn about(&self, kind: Kind, smmu: &str, text: impl FnOnce() -> String) {
        self.push(|| Line { kind, smmu: Some(smmu.to_owned()), text: text(), raw: None });
    }

    /// A line about an SMMU, with words as they were.
    pub(crate) fn raw(&self, kind: Kind, smmu: &str, words: &[u64], text: impl FnOnce() -> String) {
        self.push(|| Line {
            kind,
            smmu: Some(smmu.to_owned()),
            text: text(),
            raw: Some(words.iter().map(|word| format!("{word:#018x}")).collect()),
        });
    }

    fn push(&self, line: impl FnOnce() -> Line) {
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
    pub(crate) fn drop_from(&self, from: usize) -> Vec<Line> {
        let mut lines = self.lines();
        let from = from.min(lines.len());
        lines.split_off(from)
    }

    /// All lines.
    #[must_use]
    pub fn transcript(&self) -> Vec<Line> {
        self.lines().clone()
    }
}
