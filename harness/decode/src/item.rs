//! What a scanner returns: structures, notes, and the lines that belong to neither.

use smmu_types::{EventKind, StreamId, fields};

use crate::kind::{KindError, StructureKind};
use crate::line::LogLine;
use crate::words::WordError;

/// What a scanner found. Every line of the input is in exactly one of them.
#[derive(Clone, Debug)]
pub enum ScanItem {
    /// A structure.
    Found(FoundWords),
    /// A line about an SMMU without a structure in it.
    Note {
        /// Its number, from 1.
        line: usize,
        /// Who wrote it, such as "Linux".
        source: &'static str,
        /// What it says, in the architecture's words.
        text: String,
        /// The time that the log has for the line; empty without one.
        time: String,
        /// What it is about.
        says: NoteSays,
    },
    /// A line that belongs to an earlier item: it repeats a structure in words, or is the rest of a
    /// wrapped line.
    Again {
        /// Its number, from 1.
        line: usize,
    },
    /// A line that is not about an SMMU.
    Other(LogLine),
    /// A structure that cannot be decoded. Its lines follow, as [`ScanItem::Other`].
    Broken(ScanError),
}

impl ScanItem {
    pub(crate) fn note(
        line: usize,
        source: &'static str,
        text: impl Into<String>,
        says: NoteSays,
    ) -> Self {
        ScanItem::Note { line, source, text: text.into(), time: String::new(), says }
    }
}

/// What a note is about, for programs that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoteSays {
    /// What the SMMU can do, or what it did.
    #[default]
    Nothing,
    /// Something is wrong.
    Trouble {
        /// The SMMU as the log names it; empty if the log does not say.
        smmu: String,
    },
    /// The device behind a stream.
    Device {
        /// The SMMU as the log names it; empty if the log does not say.
        smmu: String,
        /// The stream.
        stream: StreamId,
        /// The device as the log names it; empty if no device has the stream.
        name: String,
    },
}

/// Something is wrong at an SMMU; its name is empty if it is unknown.
pub(crate) fn trouble(smmu: &str) -> NoteSays {
    NoteSays::Trouble { smmu: smmu.to_owned() }
}

/// A structure in the input.
#[derive(Clone, Debug)]
pub struct FoundWords {
    /// What it is.
    pub kind: StructureKind,
    /// Its words.
    pub words: Vec<u64>,
    /// How many of them the input has; the others are unknown.
    pub known: usize,
    /// The line on which it begins, from 1; 0 for arguments.
    pub line: usize,
    /// Who wrote it, such as "Linux"; empty for plain words.
    pub source: &'static str,
    /// The sender, such as "arm-smmu-v3.0.auto", or what else is known of it.
    pub about: String,
    /// The SMMU as the log names it, such as "arm-smmu-v3.0.auto"; empty if the log does not say.
    pub smmu: String,
    /// The time that the log has for its first line; empty without one.
    pub time: String,
    /// The device as the log names it; empty if the log does not say.
    pub device: String,
    /// What the log says about the words besides their values.
    pub says: LogSays,
    /// The lines of its words. If several structures share a line, the first has it.
    pub lines: Vec<usize>,
}

impl FoundWords {
    pub(crate) fn new(
        kind: StructureKind,
        words: Vec<u64>,
        line: usize,
        source: &'static str,
        about: &str,
    ) -> Self {
        let known = words.len();
        let (about, lines) = (about.to_owned(), vec![line]);
        let (smmu, time, device) = (String::new(), String::new(), String::new());
        let says = LogSays::Nothing;
        FoundWords { kind, words, known, line, source, about, smmu, time, device, says, lines }
    }

    /// Words that are in no log.
    #[must_use]
    pub fn plain(kind: StructureKind, words: Vec<u64>) -> Self {
        FoundWords { lines: Vec::new(), ..FoundWords::new(kind, words, 0, "", "") }
    }

    /// The input address of an event record; `None` if it has none, or if the log does not have that
    /// word.
    #[must_use]
    pub fn input_address(&self) -> Option<u64> {
        if self.kind != StructureKind::Event {
            return None;
        }
        let kind = EventKind(self.words.first().copied().unwrap_or(0) as u8);
        let field = fields::event(kind).field("InputAddr")?;
        (field.word() < self.known).then(|| field.get(&self.words))
    }

    /// The same words of a known SMMU.
    pub(crate) fn of(mut self, smmu: &str) -> Self {
        self.smmu = smmu.to_owned();
        self
    }
}

/// What a log says about words besides their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogSays {
    /// Nothing.
    #[default]
    Nothing,
    /// The bits of `GERROR` are active errors: the driver has compared it with `GERRORN`.
    ActiveBits,
    /// `GERROR.CMDQ_ERR` is active, so that `CMDQ_CONS.ERR` is of this moment.
    ActiveError,
    /// The SMMU refused the command.
    Refused,
    /// A `CMD_SYNC` timed out.
    SyncTimeout {
        /// Where the `CMD_SYNC` is, in the form of `CMDQ_PROD`.
        at: u32,
    },
}

/// Why a part of the input cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// A text is no word.
    #[error(transparent)]
    Word(#[from] WordError),
    /// The words are no structure.
    #[error(transparent)]
    StructureKind(#[from] KindError),
    /// A headline announces a record, and some of its words are missing.
    #[error("line {line}: {what} is announced here, but only {found} of {want} words follow")]
    Incomplete {
        /// The line of the headline.
        line: usize,
        /// The record.
        what: &'static str,
        /// How many words follow.
        found: usize,
        /// How many words the record has.
        want: usize,
    },
    /// The headline and the words have different event numbers.
    #[error(
        "line {line}: the headline says event {said:#04x}, the words say {found:#04x}: lines are missing or mixed up; give the words of one record alone, as `decode event WORD WORD WORD WORD`"
    )]
    Contradiction {
        /// The line of the headline.
        line: usize,
        /// The number that it has.
        said: u8,
        /// The number that the words have.
        found: u8,
    },
    /// `*` for repeated lines, in a dump without addresses.
    #[error(
        "line {line}: `*` stands for an unknown number of lines here; dump with addresses, or with `od -v`"
    )]
    Repeated {
        /// The line.
        line: usize,
    },
}

/// Returns lines unchanged.
pub(crate) fn others(lines: Vec<LogLine>, out: &mut Vec<ScanItem>) {
    out.extend(lines.into_iter().map(ScanItem::Other));
}
