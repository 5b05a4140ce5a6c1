//! Logs, dumps and plain words, line by line.
//!
//! A [`Scanner`] takes lines as they come, so that `dmesg --follow` can be piped through: whatever is complete is
//! handed out at once. Words that belong together are collected for each sender, since other drivers' lines come in
//! between.

mod dump;
mod linux;
mod others;
mod qemu;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use smmu_types::{EventKind, EventRecord, Iova, StreamId};

use super::kind::{self, Kind, KindError};
use super::words::{self, Place, Width, Word, WordError};
use dump::{Block, Dump};

/// What a scanner found.
#[derive(Clone, Debug)]
pub enum Item {
    /// A structure.
    Found(Found),
    /// A line that says something about an SMMU, but has no structure in it.
    Note {
        /// Its number, from 1.
        line: usize,
        /// Who wrote it, such as "Linux".
        source: &'static str,
        /// What it says, in the architecture's words.
        text: String,
    },
    /// A line that is not about an SMMU.
    Other {
        /// Its number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// Something that is meant to be decoded but cannot be.
    Broken(ScanError),
}

/// A structure in the input.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Its words.
    pub words: Vec<u64>,
    /// The line on which it begins, from 1; 0 for arguments.
    pub line: usize,
    /// Who wrote it, such as "Linux"; empty for plain words.
    pub source: &'static str,
    /// The sender, such as "arm-smmu-v3.0.auto", or what else is known of it.
    pub about: String,
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
    Kind(#[from] KindError),
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
}

/// Words that are being collected.
#[derive(Clone, Debug)]
struct Pending {
    what: &'static str,
    kind: Kind,
    /// What must precede a word for it to belong here.
    sender: String,
    line: usize,
    source: &'static str,
    about: String,
    /// The event number that the headline said.
    said: Option<u8>,
    /// How many words there will be, and of which width.
    want: usize,
    width: Width,
    words: Vec<u64>,
    lines: Vec<(usize, String)>,
}

impl Pending {
    /// Take a word; says whether it was the last one.
    fn take(&mut self, value: u64, number: usize, text: &str, out: &mut Vec<Item>) -> bool {
        self.words.push(value);
        self.lines.push((number, text.to_owned()));
        if self.words.len() < self.want {
            return false;
        }
        let words: Vec<u64> = match self.width {
            Width::Bits64 => std::mem::take(&mut self.words),
            Width::Bits32 => self
                .words
                .chunks(2)
                .map(|pair| pair.iter().rev().fold(0, |word, half| word << 32 | half & 0xffff_ffff))
                .collect(),
        };
        let found = words.first().copied().unwrap_or(0) as u8;
        match self.said {
            Some(said) if said != found => {
                out.push(Item::Broken(ScanError::Contradiction { line: self.line, said, found }));
                others(std::mem::take(&mut self.lines), out);
            }
            _ => out.push(Item::Found(Found {
                kind: self.kind,
                words,
                line: self.line,
                source: self.source,
                about: self.about.clone(),
            })),
        }
        true
    }

    fn incomplete(self, out: &mut Vec<Item>) {
        let (line, what, found, want) = (self.line, self.what, self.words.len(), self.want);
        out.push(Item::Broken(ScanError::Incomplete { line, what, found, want }));
        others(self.lines, out);
    }
}

fn others(lines: Vec<(usize, String)>, out: &mut Vec<Item>) {
    out.extend(lines.into_iter().map(|(line, text)| Item::Other { line, text }));
}

/// How many senders may have a record under way at once. More than that is not a log of SMMUs.
const PENDING: usize = 64;

/// Takes an input line by line.
#[derive(Debug, Default)]
pub struct Scanner {
    kind: Option<Kind>,
    width: Option<Width>,
    pending: VecDeque<Pending>,
    dump: Dump,
    /// Plain words of the lines before this one.
    plain: Block,
    linux: linux::State,
}

impl Scanner {
    /// A scanner for words of one kind, or for anything.
    #[must_use]
    pub fn new(kind: Option<Kind>, width: Option<Width>) -> Self {
        Scanner { kind, width, ..Scanner::default() }
    }

    /// Take a line. What is complete with it comes back.
    pub fn line(&mut self, number: usize, text: &str) -> Vec<Item> {
        let mut out = Vec::new();
        let text = text.trim_end_matches(['\r', '\n']);
        if self.kind.is_none() && self.of_a_log(number, text, &mut out) {
            self.end_of_words(&mut out);
            return self.remember(out);
        }
        match self.dump.take(number, text) {
            dump::Taken::More => return self.remember(out),
            dump::Taken::New(before) | dump::Taken::Ended(before) => {
                self.end_of_plain(&mut out);
                self.decode(before, &mut out);
                return self.remember(out);
            }
            dump::Taken::No(before) => self.decode(before, &mut out),
        }
        let comment = text.trim_start().starts_with('#');
        let asked = self.kind.is_some() && !comment && !text.trim().is_empty();
        let words = match words::of_line(text, number) {
            None if asked => Some(strict(text, number)),
            words => words,
        };
        match words {
            Some(Ok(words)) => {
                self.plain.words.extend(words);
                self.plain.lines.push((number, text.to_owned()));
                self.complete_plain(&mut out);
            }
            Some(Err(error)) => {
                // The words before it are cut off, and would be taken for something else.
                others(std::mem::take(&mut self.plain).lines, &mut out);
                out.push(Item::Broken(error.into()));
                out.push(Item::Other { line: number, text: text.to_owned() });
            }
            None => {
                self.end_of_plain(&mut out);
                out.push(Item::Other { line: number, text: text.to_owned() });
            }
        }
        self.remember(out)
    }

    /// The input has ended: what is left.
    pub fn finish(&mut self) -> Vec<Item> {
        let mut out = Vec::new();
        self.linux.finish(&mut out);
        self.end_of_words(&mut out);
        for pending in self.pending.drain(..) {
            pending.incomplete(&mut out);
        }
        out
    }

    fn of_a_log(&mut self, number: usize, text: &str, out: &mut Vec<Item>) -> bool {
        if let Some((sender, value)) = linux::word_of(text) {
            let mine = |pending: &Pending| pending.sender == sender && pending.source != "FreeBSD";
            if let Some(at) = self.pending.iter().position(mine) {
                if self
                    .pending
                    .get_mut(at)
                    .is_some_and(|pending| pending.take(value, number, text, out))
                {
                    self.pending.remove(at);
                }
                return true;
            }
        }
        let mut pending = match linux::line(&mut self.linux, number, text, out) {
            linux::Line::No => {
                if qemu::line(number, text, out) {
                    return true;
                }
                match others::line(&mut self.pending, number, text, out) {
                    others::Line::No => return false,
                    others::Line::Done => return true,
                    others::Line::Begins(pending) => pending,
                }
            }
            linux::Line::Done => return true,
            linux::Line::Begins(pending) => pending,
        };
        let same = |old: &Pending| old.sender == pending.sender && old.source == pending.source;
        if let Some(old) = self.pending.iter().position(same).and_then(|at| self.pending.remove(at))
        {
            old.incomplete(out);
        }
        if self.pending.len() >= PENDING
            && let Some(old) = self.pending.pop_front()
        {
            old.incomplete(out);
        }
        pending.lines.push((number, text.to_owned()));
        self.pending.push_back(pending);
        true
    }

    /// Plain words that are a whole record already are not kept back.
    fn complete_plain(&mut self, out: &mut Vec<Item>) {
        let Some(want) = self.kind.and_then(Kind::words) else { return };
        // Whether words without leading zeros have 32 or 64 bits shows only at the end.
        let sure = self.width.is_some() || self.plain.words.iter().any(|word| word.digits > 8);
        let each = if self.width == Some(Width::Bits32) { 2 * want } else { want };
        if sure && self.plain.words.len().is_multiple_of(each) {
            self.end_of_plain(out);
        }
    }

    fn end_of_words(&mut self, out: &mut Vec<Item>) {
        let block = self.dump.end();
        self.decode(block, out);
        self.end_of_plain(out);
    }

    fn end_of_plain(&mut self, out: &mut Vec<Item>) {
        let block = std::mem::take(&mut self.plain);
        self.decode(block, out);
    }

    fn decode(&self, block: Block, out: &mut Vec<Item>) {
        match decode(self.kind, self.width, &block.words) {
            Ok(found) => out.extend(found.into_iter().map(Item::Found)),
            // Logs have dumps of other things.
            Err(_) if self.kind.is_none() && block.of_a_log => others(block.lines, out),
            Err(error) => {
                out.push(Item::Broken(error.into()));
                others(block.lines, out);
            }
        }
    }

    /// Keep what later lines refer to.
    fn remember(&mut self, out: Vec<Item>) -> Vec<Item> {
        for item in &out {
            if let Item::Found(Found {
                kind: Kind::Event, words, source: "Linux" | "Xen", ..
            }) = item
            {
                self.linux.dumped(words);
            }
        }
        out
    }
}

/// Cut plain words into structures.
///
/// # Errors
///
/// They are not of the kind, or of no kind that can be found out.
pub fn decode(
    kind: Option<Kind>,
    width: Option<Width>,
    words: &[Word],
) -> Result<Vec<Found>, KindError> {
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    let found = |kind, words, place| {
        let line = match place {
            Place::Argument { .. } => 0,
            Place::Line { number, .. } => number,
        };
        Found { kind, words, line, source: "", about: String::new() }
    };
    match kind {
        Some(kind) => {
            let cut = kind::cut(kind, words, width)?;
            Ok(cut.into_iter().map(|(words, place)| found(kind, words, place)).collect())
        }
        None => {
            let (kind, words) = kind::guess(words, width)?;
            Ok(vec![found(kind, words, first.place)])
        }
    }
}

/// All tokens of a line as words.
fn strict(text: &str, number: usize) -> Result<Vec<Word>, WordError> {
    words::tokens(text)
        .map(|(column, token)| Word::parse(token, Place::Line { number, column: column + 1 }))
        .collect()
}

/// A record of which a log line says only a part.
fn partial_event(name: &str, stream: u64, address: Option<u64>) -> Option<EventRecord> {
    let kind = EventKind::from_name(name)?;
    let record = EventRecord::new(kind, StreamId(u32::try_from(stream).ok()?));
    Some(match address {
        Some(address) => EventRecord([record.0[0], record.0[1], Iova(address).0, record.0[3]]),
        None => record,
    })
}

/// A constant pattern.
macro_rules! pattern {
    ($name:ident, $pattern:literal) => {
        static $name: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| {
            regex::Regex::new($pattern).expect("a pattern that compiles")
        });
    };
}
use pattern;

/// A number of a match, hexadecimal with or without `0x`.
fn hex(captures: &regex::Captures<'_>, name: &str) -> Option<u64> {
    let text = captures.name(name)?.as_str();
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    u64::from_str_radix(digits, 16).ok()
}
