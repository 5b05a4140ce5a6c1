//! The scanner: takes an input line by line, and returns what is complete.

mod wrapped;

use crate::block::WordBlock;
use crate::formats::dump::{self, Dump};
use crate::formats::pending::PendingRecords;
use crate::formats::{
    bao, board, braces, freebsd, indexed, linux, qemu, registers, smmudxe, smmuv2, tf_rmm,
};
use crate::item::{FoundWords, ScanError, ScanItem, others};
use crate::kind::{KindError, StructureKind};
use crate::line::LogLine;
use crate::structures::{decode, doubts, segments};
use crate::text::time_of;
use wrapped::{HeldLine, is_cut, is_of_smmu};

use crate::words::{Before, InputPlace, LineShape, PlainLine, Word, WordWidth, tokens};

/// Scans an input line by line for structures of an SMMU.
#[derive(Debug, Default)]
pub struct Scanner {
    kind: Option<StructureKind>,
    width: Option<WordWidth>,
    waiting: PendingRecords,
    dump: Dump,
    /// The plain words of the lines before this one.
    plain: WordBlock,
    linux: linux::LinuxSenders,
    /// A line that may go on in the next one.
    held: Option<HeldLine>,
    /// The input has lines that are not words.
    prose: bool,
}

impl Scanner {
    /// Makes a scanner. `kind` is the kind of plain words and dumps; a log names its own kinds.
    #[must_use]
    pub fn new(kind: Option<StructureKind>, width: Option<WordWidth>) -> Self {
        Scanner { kind, width, ..Scanner::default() }
    }

    /// Takes a line, with or without its end. Returns what this line completes.
    pub fn line(&mut self, number: usize, raw: &[u8]) -> Vec<ScanItem> {
        let line = LogLine { number, raw: raw.to_vec() };
        let text = line.text();
        let mut out = Vec::new();
        self.waiting.give_up(number, &mut out);
        self.linux.give_up(number, &mut out);
        if let Some(held) = self.held.take() {
            if let Some(whole) = held.with(&text)
                && self.of_a_log(&held.line, &whole, &mut out)
            {
                self.end_of_log_line(held.line.number, &whole, &mut out);
                out.push(ScanItem::Again { line: number });
                return out;
            }
            self.held_alone(held, &mut out);
        }
        let of_smmu = is_of_smmu(&text);
        if of_smmu && is_cut(&text) {
            self.held = Some(HeldLine { line, text, unknown: false });
        } else if self.of_a_log(&line, &text, &mut out) {
            self.end_of_log_line(number, &text, &mut out);
        } else if of_smmu {
            self.held = Some(HeldLine { line, text, unknown: true });
        } else {
            self.words(line, &text, &mut out);
        }
        out
    }

    /// Takes a line whose rest did not come.
    fn held_alone(&mut self, held: HeldLine, out: &mut Vec<ScanItem>) {
        let HeldLine { line, text, unknown } = held;
        let text = text.strip_suffix('=').unwrap_or(&text);
        if !unknown && self.of_a_log(&line, text, out) {
            self.end_of_log_line(line.number, text, out);
        } else {
            self.words(line, text, out);
        }
    }

    fn end_of_log_line(&mut self, number: usize, text: &str, out: &mut Vec<ScanItem>) {
        self.prose = true;
        once(number, out);
        timed(text, out);
        self.end_of_words(out);
    }

    /// Takes a line that belongs to no log format.
    fn words(&mut self, line: LogLine, text: &str, out: &mut Vec<ScanItem>) {
        let number = line.number;
        match self.dump.take(&line, text) {
            dump::DumpStep::More => return,
            dump::DumpStep::New(before) | dump::DumpStep::Ended(before) => {
                self.end_of_plain(out);
                self.decode(before, out);
                return;
            }
            dump::DumpStep::No(before) => self.decode(before, out),
        }
        let shape = LineShape::of(text);
        if !shape.has_other && self.named(&line, text, out) {
            return;
        }
        if text.contains('{')
            && let Some((kind, words)) = braces::list(text, number)
            && self.list(&line, kind.or(self.kind), &words, out)
        {
            return;
        }
        let before = out.len();
        if registers::line(number, text, out) {
            let mut found = out.split_off(before);
            self.end_of_plain(out);
            out.append(&mut found);
            self.prose = true;
            once(number, out);
            timed(text, out);
            return;
        }
        let place = InputPlace::Line { number, column: 1 };
        // Numbers that may be no words do not make words of the next line.
        let before = match self.plain.before() {
            Before::Words if self.plain.perhaps => Before::Nothing,
            before => before,
        };
        let plain = match shape.is_prose {
            true => PlainLine::Prose,
            false => PlainLine::of(text, number, before),
        };
        match plain {
            PlainLine::Words(words) => {
                self.plain.perhaps = false;
                self.plain.words.extend(words);
                self.plain.lines.push(line);
                self.complete_plain(out);
            }
            PlainLine::Bytes(bytes) => {
                self.plain.perhaps = false;
                self.plain.push_bytes(bytes, place);
                self.plain.lines.push(line);
                self.complete_plain(out);
            }
            PlainLine::Perhaps(words) => {
                self.plain.perhaps = self.kind.is_none();
                self.plain.words.extend(words);
                self.plain.lines.push(line);
                self.complete_plain(out);
            }
            PlainLine::Blank => {
                // A structure may be spread over paragraphs.
                if self.decodes(&self.plain) {
                    self.end_of_plain(out);
                }
                out.push(ScanItem::Other(line));
            }
            PlainLine::Star if !self.plain.is_empty() => {
                out.push(ScanItem::Broken(ScanError::Repeated { line: number }));
                self.plain.lines.push(line);
                others(std::mem::take(&mut self.plain).lines, out);
            }
            PlainLine::Broken(error) => {
                // The words before it are cut off, and would decode as something else.
                out.push(ScanItem::Broken(error.into()));
                self.plain.lines.push(line);
                others(std::mem::take(&mut self.plain).lines, out);
            }
            PlainLine::Star | PlainLine::Prose => {
                self.prose = true;
                self.end_of_plain(out);
                out.push(ScanItem::Other(line));
            }
        }
    }

    /// Ends the input. Returns what is left.
    pub fn finish(&mut self) -> Vec<ScanItem> {
        let mut out = Vec::new();
        if let Some(held) = self.held.take() {
            self.held_alone(held, &mut out);
        }
        self.linux.finish(&mut out);
        let block = self.dump.end();
        self.decode(block, &mut out);
        // The numbers of an input without any other text are words.
        // Numbers alone are meant as words, unless they are few or small.
        self.plain.perhaps &= self.prose || is_small(&self.plain);
        self.end_of_plain(&mut out);
        self.waiting.finish(&mut out);
        out
    }

    /// Tries the log formats in turn; the first that knows the line takes it.
    fn of_a_log(&mut self, line: &LogLine, text: &str, out: &mut Vec<ScanItem>) -> bool {
        linux::line(&mut self.linux, &mut self.waiting, line, text, out)
            || qemu::line(line.number, text, out)
            || freebsd::line(&mut self.waiting, line, text, out)
            || smmudxe::line(&mut self.waiting, line, text, out)
            || bao::line(line.number, text, out)
            || board::line(line.number, text, out)
            || tf_rmm::line(line.number, text, out)
            || smmuv2::line(line.number, text, out)
            || indexed::line(&mut self.waiting, line, text, out)
    }

    /// Lines that say themselves what they are: `ste 0x... 0x...`, `GERROR=0x1`.
    fn named(&mut self, line: &LogLine, text: &str, out: &mut Vec<ScanItem>) -> bool {
        let text = text.split('#').next().unwrap_or_default();
        let place = |column| InputPlace::Line { number: line.number, column: column + 1 };
        let tokens: Vec<(InputPlace, &str)> =
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
                    out.push(ScanItem::Broken(error.into()));
                    out.push(ScanItem::Other(line.clone()));
                    return true;
                }
            }
        }
        give_lines(&mut found, vec![line.number]);
        out.extend(found.into_iter().map(ScanItem::Found));
        true
    }

    /// Takes a list of words; returns whether they are structures.
    fn list(
        &mut self,
        line: &LogLine,
        kind: Option<StructureKind>,
        words: &[Word],
        out: &mut Vec<ScanItem>,
    ) -> bool {
        let Ok(mut found) = decode(kind, self.width, words) else { return false };
        self.end_of_plain(out);
        give_lines(&mut found, vec![line.number]);
        out.extend(found.into_iter().map(ScanItem::Found));
        true
    }

    /// PlainLine words that are a whole record already are not kept back.
    fn complete_plain(&mut self, out: &mut Vec<ScanItem>) {
        let each = match self.kind {
            // A pair of pointers, or the ID registers, is a line.
            Some(StructureKind::Queue | StructureKind::IdRegisters) => 1,
            Some(kind) => {
                // Whether words without leading zeros have 32 or 64 bits shows only at the end.
                let wide = self.plain.words.iter().any(|word| word.digits > 8);
                match (self.width, wide) {
                    (Some(WordWidth::Bits32), _) => 2 * kind.words().unwrap_or(1),
                    (Some(WordWidth::Bits64), _) | (None, true) => kind.words().unwrap_or(1),
                    (None, false) => usize::MAX,
                }
            }
            None => usize::MAX,
        };
        if self.plain.words.len().is_multiple_of(each) || self.plain.is_full() {
            self.end_of_plain(out);
        }
    }

    fn end_of_words(&mut self, out: &mut Vec<ScanItem>) {
        let block = self.dump.end();
        self.decode(block, out);
        self.end_of_plain(out);
    }

    fn end_of_plain(&mut self, out: &mut Vec<ScanItem>) {
        let mut block = std::mem::take(&mut self.plain);
        block.close();
        self.decode(block, out);
    }

    fn decodes(&self, block: &WordBlock) -> bool {
        !block.words.is_empty() && decode(self.kind, self.width, &block.words).is_ok()
    }

    fn decode(&self, block: WordBlock, out: &mut Vec<ScanItem>) {
        if block.is_empty() {
            return;
        }
        let numbers = block.lines.iter().map(|line| line.number).collect();
        match self.best(&block) {
            Ok(mut found) => {
                give_lines(&mut found, numbers);
                out.extend(found.into_iter().map(ScanItem::Found));
            }
            // Logs have dumps of other things, and texts have numbers.
            Err(_) if self.kind.is_none() && (block.of_a_log || block.perhaps) => {
                others(block.lines, out);
            }
            Err(error) => {
                out.push(ScanItem::Broken(error.into()));
                others(block.lines, out);
            }
        }
    }

    /// Decodes a block in the byte order that raises fewer doubts.
    fn best(&self, block: &WordBlock) -> Result<Vec<FoundWords>, KindError> {
        let native = decode(self.kind, self.width, &block.words);
        let doubts = |found: &Result<Vec<FoundWords>, KindError>| match found {
            Ok(found) => found.iter().map(|f| doubts(f.kind, &f.words)).sum(),
            Err(_) => u32::MAX,
        };
        let found = match block.either_order && doubts(&native) > 0 {
            true => {
                let swapped = decode(self.kind, self.width, &block.swapped());
                if doubts(&swapped) < doubts(&native) { swapped } else { native }
            }
            false => native,
        };
        // In a log, and among other numbers, only words without any doubt are a structure.
        if self.kind.is_none()
            && (block.of_a_log && doubts(&found) > 0
                || block.perhaps && (is_small(block) || doubts(&found) > 0))
        {
            let place =
                block.words.first().map_or(InputPlace::Line { number: 0, column: 1 }, |w| w.place);
            let (candidates, found) = (Vec::new(), block.words.len());
            return Err(KindError::Unclear { candidates, found, place });
        }
        found
    }
}

/// Whether numbers are too few or too small for words: "46 0" is a line of a table.
fn is_small(block: &WordBlock) -> bool {
    block.words.len() < 8 || block.words.iter().all(|word| word.value < 0x1_0000)
}

/// Gives the lines of a block to the first of its structures.
fn give_lines(found: &mut [FoundWords], lines: Vec<usize>) {
    found.iter_mut().for_each(|found| found.lines.clear());
    if let Some(first) = found.first_mut() {
        first.lines = lines;
    }
}

/// Gives the time of a line to what was found on it.
fn timed(text: &str, out: &mut [ScanItem]) {
    for item in out {
        if let ScanItem::Found(FoundWords { time, .. }) | ScanItem::Note { time, .. } = item
            && time.is_empty()
        {
            *time = time_of(text);
        }
    }
}

/// Leaves a line to the first of several structures on it.
fn once(line: usize, out: &mut [ScanItem]) {
    let mut taken = false;
    for item in out {
        if let ScanItem::Found(found) = item
            && found.lines.contains(&line)
            && std::mem::replace(&mut taken, true)
        {
            found.lines.retain(|other| *other != line);
        }
    }
}

#[cfg(test)]
mod tests;
