//! Records with one word a line.

use std::collections::VecDeque;

use smmu_types::EventKind;

use crate::advice::event::in_short;
use crate::item::{FoundWords, LogSays, ScanError, ScanItem, others, trouble};
use crate::kind::StructureKind;
use crate::line::LogLine;
use crate::structures::doubts;
use crate::text::time_of;
use crate::words::WordWidth;

/// A record under way.
#[derive(Clone, Debug)]
pub(crate) struct PendingRecord {
    pub(crate) what: &'static str,
    pub(crate) kind: StructureKind,
    /// The sender that must precede a word of this record.
    pub(crate) sender: String,
    pub(crate) line: usize,
    pub(crate) source: &'static str,
    pub(crate) about: String,
    /// The SMMU, as the log names it.
    pub(crate) smmu: String,
    /// The event number of the headline.
    pub(crate) said: Option<u8>,
    /// How many words the record has, and their width.
    pub(crate) want: usize,
    pub(crate) width: WordWidth,
    /// No headline says that it is of an SMMU. If it stays incomplete, it is something else.
    pub(crate) quiet: bool,
    /// What the log says about it.
    pub(crate) says: LogSays,
    pub(crate) headless: bool,
    pub(crate) words: Vec<u64>,
    pub(crate) lines: Vec<LogLine>,
}

impl PendingRecord {
    /// An event record of `want` words.
    pub(crate) fn event(source: &'static str, sender: String, line: usize) -> Self {
        PendingRecord {
            what: "an event record",
            kind: StructureKind::Event,
            sender,
            line,
            source,
            about: String::new(),
            smmu: String::new(),
            said: None,
            want: 4,
            width: WordWidth::Bits64,
            quiet: false,
            says: LogSays::Nothing,
            headless: false,
            words: Vec::new(),
            lines: Vec::new(),
        }
    }

    fn found(&self) -> FoundWords {
        let words: Vec<u64> = match self.width {
            WordWidth::Bits64 => self.words.clone(),
            WordWidth::Bits32 => self
                .words
                .chunks(2)
                .map(|pair| pair.iter().rev().fold(0, |word, half| word << 32 | half & 0xffff_ffff))
                .collect(),
        };
        let mut found = FoundWords::new(self.kind, words, self.line, self.source, &self.about);
        found.lines = self.lines.iter().map(|line| line.number).collect();
        found.says = self.says;
        found.time = self.lines.first().map_or_else(String::new, |line| time_of(&line.text()));
        found.of(&self.smmu)
    }

    /// Decodes a complete record.
    fn complete(self, out: &mut Vec<ScanItem>) {
        let found = self.words.first().copied().unwrap_or(0) as u8;
        match self.said {
            Some(said) if said != found => {
                out.push(ScanItem::Broken(ScanError::Contradiction {
                    line: self.line,
                    said,
                    found,
                }));
                others(self.lines, out);
            }
            // Without a headline, four words may be anything.
            None if self.headless && doubts(self.kind, &self.words) >= 100 => {
                others(self.lines, out);
            }
            _ => out.push(ScanItem::Found(self.found())),
        }
    }

    fn incomplete(mut self, out: &mut Vec<ScanItem>) {
        let raw = [self.words.first(), self.words.get(1)].map(|word| word.copied().unwrap_or(0));
        let command = self.words.len() == 2 && doubts(StructureKind::Command, &raw) == 0;
        if self.headless && command {
            self.kind = StructureKind::Command;
            out.push(ScanItem::Found(self.found()));
            return;
        }
        if !self.quiet && !self.headless {
            self.cut_off(out);
            return;
        }
        if !self.quiet {
            let (line, what, found, want) = (self.line, self.what, self.words.len(), self.want);
            out.push(ScanItem::Broken(ScanError::Incomplete { line, what, found, want }));
        }
        others(self.lines, out);
    }
}

impl PendingRecord {
    /// Decodes a record of which words are missing.
    fn cut_off(self, out: &mut Vec<ScanItem>) {
        let whole = self.kind.words().unwrap_or(0);
        // Half a word says nothing for certain.
        let known = self.words.len() * self.width.bits() as usize / 64;
        let first = self.words.first().copied().unwrap_or(0) as u8;
        match self.said {
            Some(said) if known > 0 && said != first => {
                let (line, found) = (self.line, first);
                out.push(ScanItem::Broken(ScanError::Contradiction { line, said, found }));
                others(self.lines, out);
            }
            _ if known > 0 => {
                let mut found = self.found();
                found.words.resize(whole, 0);
                found.known = known;
                out.push(ScanItem::Found(found));
            }
            Some(said) => {
                let (kind, who) = (EventKind(said), self.about.as_str());
                let of = if who.is_empty() { String::new() } else { format!(" of {who}") };
                let text = format!(
                    "event {kind}{of}: {}; its {whole} words are missing, and with them the StreamID",
                    in_short(kind)
                );
                out.push(ScanItem::note(self.line, self.source, text, trouble(&self.smmu)));
                let more = self.lines.iter().filter(|line| line.number != self.line);
                out.extend(more.map(|line| ScanItem::Again { line: line.number }));
            }
            None => {
                let (line, what, found, want) = (self.line, self.what, self.words.len(), self.want);
                out.push(ScanItem::Broken(ScanError::Incomplete { line, what, found, want }));
                others(self.lines, out);
            }
        }
    }
}

/// The maximum number of records under way, one for each sender. A log of SMMUs has fewer.
const SENDERS: usize = 64;
/// After this number of lines, a record counts as incomplete.
const PATIENCE: usize = 200;

/// The records that are under way.
#[derive(Debug, Default)]
pub(crate) struct PendingRecords(VecDeque<PendingRecord>);

impl PendingRecords {
    /// Takes a headline.
    pub(crate) fn announce(
        &mut self,
        mut pending: PendingRecord,
        line: &LogLine,
        out: &mut Vec<ScanItem>,
    ) {
        pending.lines.push(line.clone());
        self.begin(pending, out);
    }

    /// Begins a record that has no headline.
    pub(crate) fn begin(&mut self, pending: PendingRecord, out: &mut Vec<ScanItem>) {
        let same =
            |old: &PendingRecord| old.sender == pending.sender && old.source == pending.source;
        if let Some(old) = self.0.iter().position(same).and_then(|at| self.0.remove(at)) {
            old.incomplete(out);
        }
        if self.0.len() >= SENDERS
            && let Some(old) = self.0.pop_front()
        {
            old.incomplete(out);
        }
        self.0.push_back(pending);
    }

    /// Takes a word of a sender; returns whether a record waits for it.
    pub(crate) fn take(
        &mut self,
        sender: &str,
        value: u64,
        line: &LogLine,
        out: &mut Vec<ScanItem>,
    ) -> bool {
        self.take_of(sender, value, line, true, out)
    }

    /// The same for a word that may share its line with others; the first of them owns the line.
    pub(crate) fn take_of(
        &mut self,
        sender: &str,
        value: u64,
        line: &LogLine,
        owns_line: bool,
        out: &mut Vec<ScanItem>,
    ) -> bool {
        let Some(at) = self.0.iter().position(|pending| pending.sender == sender) else {
            return false;
        };
        let Some(pending) = self.0.get_mut(at) else { return false };
        pending.words.push(value);
        if owns_line {
            pending.lines.push(line.clone());
        }
        if pending.words.len() == pending.want
            && let Some(pending) = self.0.remove(at)
        {
            pending.complete(out);
        }
        true
    }

    /// Takes a line of a sender's record that has no word.
    pub(crate) fn attach(&mut self, sender: &str, line: &LogLine) -> bool {
        let found = self.0.iter_mut().find(|pending| pending.sender == sender);
        found.is_some_and(|pending| {
            pending.lines.push(line.clone());
            true
        })
    }

    /// The number of words of the sender's record, if one is under way.
    pub(crate) fn words_of(&self, sender: &str) -> Option<usize> {
        let found = self.0.iter().find(|pending| pending.sender == sender);
        found.map(|pending| pending.words.len())
    }

    /// Returns the records that stay incomplete.
    pub(crate) fn give_up(&mut self, number: usize, out: &mut Vec<ScanItem>) {
        while self.0.front().is_some_and(|pending| number > pending.line + PATIENCE) {
            if let Some(old) = self.0.pop_front() {
                old.incomplete(out);
            }
        }
    }

    pub(crate) fn finish(&mut self, out: &mut Vec<ScanItem>) {
        for pending in self.0.drain(..) {
            pending.incomplete(out);
        }
    }
}
