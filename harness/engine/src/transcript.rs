//! What happened, line by line.

use alloc::sync::Arc;
use core::fmt;

use crate::alloc_fault;
use crate::lock::{Mutex, MutexGuard};
#[cfg(feature = "record")]
use crate::machine::Clock;
use crate::prelude::*;
use crate::row::Facts;
#[cfg(feature = "record")]
use crate::row::{Detail, Hex};

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[cfg_attr(all(feature = "record", feature = "schema"), derive(schemars::JsonSchema))]
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
    /// Words of a table entry. Only a record has such rows.
    Store,
    /// What the model found wrong. Only a record has such rows.
    Hazard,
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
            LineKind::Store => "store    ",
            LineKind::Hazard => "hazard   ",
        }
    }

    /// Every kind.
    pub const ALL: [LineKind; 13] = [
        LineKind::Step,
        LineKind::Command,
        LineKind::Acknowledge,
        LineKind::Tag,
        LineKind::Entry,
        LineKind::Array,
        LineKind::Dma,
        LineKind::Event,
        LineKind::Interrupt,
        LineKind::Error,
        LineKind::Check,
        LineKind::Store,
        LineKind::Hazard,
    ];

    /// Whether a transcript has lines of this kind.
    #[must_use]
    pub const fn is_in_transcripts(self) -> bool {
        !matches!(self, LineKind::Store | LineKind::Hazard)
    }

    /// Whether a line, as it is printed, is of this kind.
    #[must_use]
    pub fn is_kind_of(self, line: &str) -> bool {
        self.text_of(line).is_some()
    }

    /// What a line says, as it is printed, without its kind. `None` if it is of another kind.
    #[must_use]
    pub fn text_of(self, line: &str) -> Option<&str> {
        match line.strip_prefix(INDENT) {
            None => (self == LineKind::Step).then_some(line),
            Some(_) if self == LineKind::Step => None,
            Some(rest) => rest.strip_prefix(self.label())?.strip_prefix(' '),
        }
    }
}

/// One line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(all(feature = "record", feature = "schema"), derive(schemars::JsonSchema))]
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

/// One thing that happened.
#[cfg(feature = "record")]
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename = "row")]
pub struct Row {
    /// What it is about.
    pub kind: LineKind,
    /// The number of the step, from 1; 0 for the set-up.
    pub step: usize,
    /// When, by the record's `clock`.
    pub time: u64,
    /// The SMMU, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smmu: Option<String>,
    /// The device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The StreamID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<u32>,
    /// The SubstreamID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub substream: Option<u32>,
    /// The domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The input address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iova: Option<Hex>,
    /// In words, as in the transcript.
    pub text: String,
    /// The words as they were, of a command, an event or a table entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Vec<Hex>>,
    /// What only rows of this kind have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

#[cfg(feature = "record")]
impl Row {
    pub(crate) fn new(line: TranscriptLine, step: usize, time: u64, facts: Facts) -> Self {
        let TranscriptLine { kind, smmu, text, raw } = line;
        let Facts { smmu: about, device, stream, substream, domain, iova, detail } = facts;
        let smmu = smmu.or(about);
        let number = |word: &String| {
            let digits = word.strip_prefix("0x")?;
            u64::from_str_radix(digits, 16).ok().map(Hex)
        };
        Row {
            kind,
            step,
            time,
            // The second queue's lines have a name of their own.
            smmu: smmu.map(|name| name.trim_end_matches("/second").to_owned()),
            device,
            stream: stream.map(|stream| stream.0),
            substream: substream.map(|substream| substream.get()),
            domain,
            iova: iova.map(Hex),
            text,
            raw: raw.map(|words| words.iter().filter_map(number).collect()),
            detail,
        }
    }

    /// The row of a transcript that was written without a record.
    #[must_use]
    pub fn of_line(line: TranscriptLine, step: usize, time: u64) -> Self {
        Row::new(line, step, time, Facts::default())
    }
}

/// A line, and what it is about.
#[derive(Clone, Debug)]
struct Logged {
    line: TranscriptLine,
    #[cfg(feature = "record")]
    step: usize,
    #[cfg(feature = "record")]
    serial: u64,
    #[cfg(feature = "record")]
    time: u64,
    #[cfg(feature = "record")]
    facts: Facts,
}

#[derive(Debug, Default)]
struct Log {
    lines: Vec<Logged>,
    #[cfg(feature = "record")]
    step: usize,
    /// How many lines there were, with those that were taken out.
    #[cfg(feature = "record")]
    serial: u64,
    #[cfg(feature = "record")]
    clock: Option<(Clock, core::time::Duration)>,
}

#[cfg(feature = "record")]
impl Log {
    /// Nanoseconds since the clock was told; without a clock, the number of the next line.
    fn now(&self) -> u64 {
        use smmu_driver::smmu_types::seam::Wait;
        self.clock.as_ref().map_or(self.serial, |(clock, start)| {
            u64::try_from(clock.now().saturating_sub(*start).as_nanos()).unwrap_or(u64::MAX)
        })
    }
}

/// Takes lines from every part of a run, in the order in which things happen.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Log>>);

impl Recorder {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock()
    }

    /// A line about no SMMU in particular.
    pub(crate) fn note(&self, kind: LineKind, text: impl FnOnce() -> String) {
        self.typed(kind, None, &[], Facts::default, text);
    }

    /// A line about an SMMU.
    pub(crate) fn about(&self, kind: LineKind, smmu: &str, text: impl FnOnce() -> String) {
        self.typed(kind, Some(smmu), &[], Facts::default, text);
    }

    /// A line with words as they were, and with what it is about. Without the feature `record`
    /// nothing asks for the facts.
    pub(crate) fn typed(
        &self,
        kind: LineKind,
        smmu: Option<&str>,
        words: &[u64],
        facts: impl FnOnce() -> Facts,
        text: impl FnOnce() -> String,
    ) {
        // The driver may be running under injected allocation failures; its transcript is not.
        alloc_fault::suspended(|| {
            let raw = match words {
                [] => None,
                words => Some(words.iter().map(|word| format!("{word:#018x}")).collect()),
            };
            let line = TranscriptLine { kind, smmu: smmu.map(str::to_owned), text: text(), raw };
            #[cfg(not(feature = "record"))]
            let _ = facts;
            #[cfg(feature = "record")]
            let facts = facts();
            let log = &mut *self.log();
            #[cfg(feature = "record")]
            let (time, step, serial) = (log.now(), log.step, log.serial);
            #[cfg(feature = "record")]
            {
                log.serial += 1;
            }
            log.lines.push(Logged {
                line,
                #[cfg(feature = "record")]
                step,
                #[cfg(feature = "record")]
                serial,
                #[cfg(feature = "record")]
                time,
                #[cfg(feature = "record")]
                facts,
            });
        });
    }

    /// Number of lines so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.log().lines.len()
    }

    /// Whether there is no line yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.log().lines.is_empty()
    }

    /// Take out the lines from a position on.
    pub(crate) fn drop_from(&self, from: usize) -> Vec<TranscriptLine> {
        let mut log = self.log();
        let from = from.min(log.lines.len());
        in_transcript(log.lines.split_off(from).into_iter().map(|logged| logged.line)).collect()
    }

    /// The commands to an SMMU among the lines from a position on.
    pub(crate) fn commands_since(&self, from: usize, smmu: &str) -> Vec<String> {
        let log = self.log();
        let later = log.lines.iter().skip(from).map(|logged| &logged.line);
        let of = |line: &&TranscriptLine| {
            line.kind == LineKind::Command && line.smmu.as_deref() == Some(smmu)
        };
        later.filter(of).map(|line| line.text.clone()).collect()
    }

    /// The first command among the lines from a position on.
    pub(crate) fn command_since(&self, from: usize) -> Option<String> {
        let log = self.log();
        let mut later = log.lines.iter().skip(from).map(|logged| &logged.line);
        later.find(|line| line.kind == LineKind::Command).map(|line| line.text.clone())
    }

    /// All lines.
    #[must_use]
    pub fn transcript(&self) -> Vec<TranscriptLine> {
        in_transcript(self.log().lines.iter().map(|logged| logged.line.clone())).collect()
    }
}

fn in_transcript(
    lines: impl Iterator<Item = TranscriptLine>,
) -> impl Iterator<Item = TranscriptLine> {
    lines.filter(|line| line.kind.is_in_transcripts())
}

/// What a record has beyond a transcript.
#[cfg(feature = "record")]
impl Recorder {
    /// Rows have the time of this clock from now on, counted from now.
    pub(crate) fn tell_time(&self, clock: Clock) {
        use smmu_driver::smmu_types::seam::Wait;
        let start = clock.now();
        self.log().clock = Some((clock, start));
    }

    /// The next lines belong to this step.
    pub(crate) fn begin_step(&self, number: usize) {
        self.log().step = number;
    }

    /// The number that the next line has, in a count that also has lines that were taken out.
    pub(crate) fn serial(&self) -> u64 {
        self.log().serial
    }

    /// The SMMU has consumed the command of the line with this number.
    pub(crate) fn consumed(&self, serial: u64) {
        let log = &mut *self.log();
        let now = log.now();
        let found = log.lines.binary_search_by_key(&serial, |logged| logged.serial);
        let facts = found.ok().and_then(|at| log.lines.get_mut(at)).map(|logged| &mut logged.facts);
        if let Some(Detail::Command { consumed, .. }) =
            facts.and_then(|facts| facts.detail.as_mut())
        {
            *consumed = Some(now);
        }
    }

    /// All rows.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let row = |logged: &Logged| {
            let Logged { line, step, time, facts, .. } = logged.clone();
            Row::new(line, step, time, facts)
        };
        self.log().lines.iter().map(row).collect()
    }
}
