//! What a scanner hands out: structures, notes, and the lines that belong to neither.

use crate::kind::{KindError, StructureKind};
use crate::line::LogLine;
use crate::words::WordError;

/// What a scanner found. Every line of the input is in exactly one of them.
#[derive(Clone, Debug)]
pub enum ScanItem {
    /// A structure.
    Found(FoundWords),
    /// A line that says something about an SMMU, but has no structure in it.
    Note {
        /// Its number, from 1.
        line: usize,
        /// Who wrote it, such as "Linux".
        source: &'static str,
        /// What it says, in the architecture's words.
        text: String,
    },
    /// A line that only repeats, in words, what a structure before it says.
    Again {
        /// Its number, from 1.
        line: usize,
    },
    /// A line that is not about an SMMU.
    Other(LogLine),
    /// Something that is meant to be decoded but cannot be. Its lines follow, as [`ScanItem::Other`].
    Broken(ScanError),
}

/// A structure in the input.
#[derive(Clone, Debug)]
pub struct FoundWords {
    /// What it is.
    pub kind: StructureKind,
    /// Its words.
    pub words: Vec<u64>,
    /// How many of them the input has; the others are not known.
    pub known: usize,
    /// The line on which it begins, from 1; 0 for arguments.
    pub line: usize,
    /// Who wrote it, such as "Linux"; empty for plain words.
    pub source: &'static str,
    /// The sender, such as "arm-smmu-v3.0.auto", or what else is known of it.
    pub about: String,
    /// The lines that it was made of. Of several structures on one line the first has it.
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
        FoundWords { kind, words, known, line, source, about, lines }
    }
}

/// Why something cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// A word is not one.
    #[error(transparent)]
    Word(#[from] WordError),
    /// The words are no structure.
    #[error(transparent)]
    StructureKind(#[from] KindError),
    /// A record was announced, but not all of it came.
    #[error("line {line}: {what} is announced here, but only {found} of {want} words follow")]
    Incomplete {
        /// The line that announces it.
        line: usize,
        /// What it announces.
        what: &'static str,
        /// How many words came.
        found: usize,
        /// How many there should be.
        want: usize,
    },
    /// The number in the headline is not the one in the words.
    #[error(
        "line {line}: the headline says event {said:#04x}, the words say {found:#04x}: lines are missing or mixed up"
    )]
    Contradiction {
        /// The line of the headline.
        line: usize,
        /// The number that it has.
        said: u8,
        /// The number that the words have.
        found: u8,
    },
    /// Repetitions that a dump without addresses left out.
    #[error(
        "line {line}: `*` stands for an unknown number of lines here; dump with addresses, or with `od -v`"
    )]
    Repeated {
        /// The line.
        line: usize,
    },
}

/// Hands lines out as they came.
pub(crate) fn others(lines: Vec<LogLine>, out: &mut Vec<ScanItem>) {
    out.extend(lines.into_iter().map(ScanItem::Other));
}
