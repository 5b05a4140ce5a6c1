//! Logs, dumps and plain words, line by line.
//!
//! A [`Scanner`] takes lines as they come, so that `dmesg --follow` can be piped through: whatever is complete is
//! handed out at once. Words that belong together are collected for each sender, since other drivers' lines come in
//! between.

mod dump;
mod line;
mod linux;
mod others;
mod pending;
mod qemu;
#[cfg(test)]
mod tests;

use smmu_types::{EventKind, EventRecord, Iova, StreamId, fields};

use super::kind::{self, Kind, KindError};
use super::words::{Place, Plain, Width, Word, WordError, tokens};
use dump::Dump;
use line::Block;
pub use line::Line;
use pending::{Pending, Waiting};

/// What a scanner found. Every line of the input is in exactly one of them.
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
    /// A line that only repeats, in words, what a structure before it says.
    Again {
        /// Its number, from 1.
        line: usize,
    },
    /// A line that is not about an SMMU.
    Other(Line),
    /// Something that is meant to be decoded but cannot be. Its lines follow, as [`Item::Other`].
    Broken(ScanError),
}

/// A structure in the input.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
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

impl Found {
    fn new(kind: Kind, words: Vec<u64>, line: usize, source: &'static str, about: &str) -> Self {
        let known = words.len();
        let (about, lines) = (about.to_owned(), vec![line]);
        Found { kind, words, known, line, source, about, lines }
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
    /// Repetitions that a dump without addresses left out.
    #[error(
        "line {line}: `*` stands for an unknown number of lines here; dump with addresses, or with `od -v`"
    )]
    Repeated {
        /// The line.
        line: usize,
    },
}

/// Takes an input line by line.
#[derive(Debug, Default)]
pub struct Scanner {
    kind: Option<Kind>,
    width: Option<Width>,
    waiting: Waiting,
    dump: Dump,
    /// Plain words of the lines before this one.
    plain: Block,
    linux: linux::State,
    /// Lines that are not words have been seen.
    prose: bool,
}

impl Scanner {
    /// A scanner. `kind` says what plain words and dumps are; logs say that of themselves.
    #[must_use]
    pub fn new(kind: Option<Kind>, width: Option<Width>) -> Self {
        Scanner { kind, width, ..Scanner::default() }
    }

    /// Take a line, with or without its end. What is complete with it comes back.
    pub fn line(&mut self, number: usize, raw: &[u8]) -> Vec<Item> {
        let line = Line { number, raw: raw.to_vec() };
        let text = line.text();
        let mut out = Vec::new();
        self.waiting.give_up(number, &mut out);
        self.linux.give_up(number, &mut out);
        if self.of_a_log(&line, &text, &mut out) {
            once(number, &mut out);
            self.end_of_words(&mut out);
            self.prose = true;
            return out;
        }
        match self.dump.take(&line, &text) {
            dump::Taken::More => return out,
            dump::Taken::New(before) | dump::Taken::Ended(before) => {
                self.end_of_plain(&mut out);
                self.decode(before, &mut out);
                return out;
            }
            dump::Taken::No(before) => self.decode(before, &mut out),
        }
        if self.named(&line, &text, &mut out) {
            return out;
        }
        let place = Place::Line { number, column: 1 };
        match Plain::of(&text, number, self.plain.before()) {
            Plain::Words(words) => {
                self.plain.perhaps = false;
                self.plain.words.extend(words);
                self.plain.lines.push(line);
                self.complete_plain(&mut out);
            }
            Plain::Bytes(bytes) => {
                self.plain.perhaps = false;
                self.plain.push_bytes(bytes, place);
                self.plain.lines.push(line);
                self.complete_plain(&mut out);
            }
            Plain::Perhaps(words) => {
                self.plain.perhaps = self.kind.is_none();
                self.plain.words.extend(words);
                self.plain.lines.push(line);
                self.complete_plain(&mut out);
            }
            Plain::Blank => {
                // A structure may be spread over paragraphs.
                if self.decodes(&self.plain) {
                    self.end_of_plain(&mut out);
                }
                out.push(Item::Other(line));
            }
            Plain::Star if !self.plain.is_empty() => {
                out.push(Item::Broken(ScanError::Repeated { line: number }));
                self.plain.lines.push(line);
                others(std::mem::take(&mut self.plain).lines, &mut out);
            }
            Plain::Broken(error) => {
                // The words before it are cut off, and would be taken for something else.
                out.push(Item::Broken(error.into()));
                self.plain.lines.push(line);
                others(std::mem::take(&mut self.plain).lines, &mut out);
            }
            Plain::Star | Plain::Prose => {
                self.prose = true;
                self.end_of_plain(&mut out);
                out.push(Item::Other(line));
            }
        }
        out
    }

    /// The input has ended: what is left.
    pub fn finish(&mut self) -> Vec<Item> {
        let mut out = Vec::new();
        self.linux.finish(&mut out);
        let block = self.dump.end();
        self.decode(block, &mut out);
        // An input that is nothing but numbers is meant to be words.
        self.plain.perhaps &= self.prose;
        self.end_of_plain(&mut out);
        self.waiting.finish(&mut out);
        out
    }

    fn of_a_log(&mut self, line: &Line, text: &str, out: &mut Vec<Item>) -> bool {
        if let Some((sender, value)) = linux::word_of(text) {
            if self.waiting.take(&sender, value, line, out) {
                self.linux.dumped(&sender, out);
                return true;
            }
            if linux::is_smmu(&sender) {
                self.waiting.begin(Pending::headless(&sender, line.number), out);
                return self.waiting.take(&sender, value, line, out);
            }
        }
        match linux::line(&mut self.linux, line.number, text, out) {
            linux::Line::No => {}
            linux::Line::Done => return true,
            linux::Line::Begins(pending) => {
                self.waiting.announce(pending, line, out);
                return true;
            }
        }
        if qemu::line(line.number, text, out) {
            return true;
        }
        others::line(&mut self.waiting, line, text, out)
    }

    /// Lines that say themselves what they are: `ste 0x... 0x...`, `GERROR=0x1`.
    fn named(&mut self, line: &Line, text: &str, out: &mut Vec<Item>) -> bool {
        let text = text.split('#').next().unwrap_or_default();
        let place = |column| Place::Line { number: line.number, column: column + 1 };
        let tokens: Vec<(Place, &str)> =
            tokens(text).map(|(column, token)| (place(column), token)).collect();
        let Ok(segments) = segments(&tokens) else { return false };
        if segments.iter().all(|(kind, _)| kind.is_none())
            || segments.iter().any(|(_, words)| words.is_empty())
        {
            return false;
        }
        self.end_of_plain(out);
        let mut found = Vec::new();
        for (kind, words) in segments {
            match decode(kind, self.width, &words) {
                Ok(more) => found.extend(more),
                Err(error) => {
                    out.push(Item::Broken(error.into()));
                    out.push(Item::Other(line.clone()));
                    return true;
                }
            }
        }
        give_lines(&mut found, vec![line.number]);
        out.extend(found.into_iter().map(Item::Found));
        true
    }

    /// Plain words that are a whole record already are not kept back.
    fn complete_plain(&mut self, out: &mut Vec<Item>) {
        let each = match self.kind {
            // A pair of pointers, or the ID registers, is a line.
            Some(Kind::Queue | Kind::IdRegisters) => 1,
            Some(kind) => {
                // Whether words without leading zeros have 32 or 64 bits shows only at the end.
                let wide = self.plain.words.iter().any(|word| word.digits > 8);
                match (self.width, wide) {
                    (Some(Width::Bits32), _) => 2 * kind.words().unwrap_or(1),
                    (Some(Width::Bits64), _) | (None, true) => kind.words().unwrap_or(1),
                    (None, false) => usize::MAX,
                }
            }
            None => usize::MAX,
        };
        if self.plain.words.len().is_multiple_of(each) || self.plain.is_full() {
            self.end_of_plain(out);
        }
    }

    fn end_of_words(&mut self, out: &mut Vec<Item>) {
        let block = self.dump.end();
        self.decode(block, out);
        self.end_of_plain(out);
    }

    fn end_of_plain(&mut self, out: &mut Vec<Item>) {
        let mut block = std::mem::take(&mut self.plain);
        block.close();
        self.decode(block, out);
    }

    fn decodes(&self, block: &Block) -> bool {
        !block.words.is_empty() && decode(self.kind, self.width, &block.words).is_ok()
    }

    fn decode(&self, block: Block, out: &mut Vec<Item>) {
        if block.is_empty() {
            return;
        }
        let numbers = block.lines.iter().map(|line| line.number).collect();
        match self.best(&block) {
            Ok(mut found) => {
                give_lines(&mut found, numbers);
                out.extend(found.into_iter().map(Item::Found));
            }
            // Logs have dumps of other things, and texts have numbers.
            Err(_) if self.kind.is_none() && (block.of_a_log || block.perhaps) => {
                others(block.lines, out);
            }
            Err(error) => {
                out.push(Item::Broken(error.into()));
                others(block.lines, out);
            }
        }
    }

    /// The words of a block in the order that makes more sense.
    fn best(&self, block: &Block) -> Result<Vec<Found>, KindError> {
        let native = decode(self.kind, self.width, &block.words);
        let doubts = |found: &Result<Vec<Found>, KindError>| match found {
            Ok(found) => found.iter().map(|f| kind::doubts(f.kind, &f.words)).sum(),
            Err(_) => u32::MAX,
        };
        let found = match block.either_order && doubts(&native) > 0 {
            true => {
                let swapped = decode(self.kind, self.width, &block.swapped());
                if doubts(&swapped) < doubts(&native) { swapped } else { native }
            }
            false => native,
        };
        // In a log, and among other numbers, only what fits without a doubt is one of ours.
        if self.kind.is_none() && (block.of_a_log || block.perhaps) && doubts(&found) > 0 {
            let place =
                block.words.first().map_or(Place::Line { number: 0, column: 1 }, |w| w.place);
            let (candidates, found) = (Vec::new(), block.words.len());
            return Err(KindError::Unclear { candidates, found, place });
        }
        found
    }
}

/// The first of several structures gets the lines that they were made of.
fn give_lines(found: &mut [Found], lines: Vec<usize>) {
    found.iter_mut().for_each(|found| found.lines.clear());
    if let Some(first) = found.first_mut() {
        first.lines = lines;
    }
}

/// Of several structures on one line the first has it.
fn once(line: usize, out: &mut [Item]) {
    let mut taken = false;
    for item in out {
        if let Item::Found(found) = item
            && found.lines.contains(&line)
            && std::mem::replace(&mut taken, true)
        {
            found.lines.retain(|other| *other != line);
        }
    }
}

fn others(lines: Vec<Line>, out: &mut Vec<Item>) {
    out.extend(lines.into_iter().map(Item::Other));
}

/// A kind, and the words behind it.
pub type Segment = (Option<Kind>, Vec<Word>);

/// Cut tokens at the kinds among them: `ste 0x... cd 0x... GERROR=0x1`. Words before any kind are of no kind; a kind
/// at the end has no words.
///
/// # Errors
///
/// What is not a kind is not a word either.
pub fn segments(tokens: &[(Place, &str)]) -> Result<Vec<Segment>, WordError> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut open = false;
    for (place, token) in tokens {
        if let Some((name, value)) = token.split_once('=')
            && let Some((_, layout)) = fields::register_by_name(name)
        {
            let word = Word::parse(value, place.shifted(name.len() + 1))?;
            segments.push((Some(Kind::Register(layout)), vec![word]));
            open = false;
        } else if let Some(kind) = Kind::from_name(token) {
            segments.push((Some(kind), Vec::new()));
            open = true;
        } else {
            let word = Word::parse(token, *place)?;
            match segments.last_mut() {
                Some((_, words)) if open => words.push(word),
                _ => {
                    segments.push((None, vec![word]));
                    open = true;
                }
            }
        }
    }
    Ok(segments)
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
        Found::new(kind, words, line, "", "")
    };
    match kind {
        Some(kind) => {
            let cut = kind::cut(kind, words, width)?;
            Ok(cut.into_iter().map(|(words, place)| found(kind, words, place)).collect())
        }
        None => {
            let (kind, words, _) = kind::guess(words, width, &kind::GUESSED)?;
            Ok(vec![found(kind, words, first.place)])
        }
    }
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
