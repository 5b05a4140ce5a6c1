//! Records whose words come line by line.

use std::collections::VecDeque;

use smmu_types::EventKind;

use super::super::kind::{self, Kind};
use super::super::words::Width;
use super::line::Line;
use super::{Found, Item, ScanError, others};

/// Words that are being collected.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) what: &'static str,
    pub(super) kind: Kind,
    /// What must precede a word for it to belong here.
    pub(super) sender: String,
    pub(super) line: usize,
    pub(super) source: &'static str,
    pub(super) about: String,
    /// The event number that the headline said.
    pub(super) said: Option<u8>,
    /// How many words there will be, and of which width.
    pub(super) want: usize,
    pub(super) width: Width,
    /// Nobody says that it is of an SMMU: if it is not complete it is something else.
    pub(super) quiet: bool,
    headless: bool,
    pub(super) words: Vec<u64>,
    pub(super) lines: Vec<Line>,
}

impl Pending {
    /// An event record of `want` words.
    pub(super) fn event(source: &'static str, sender: String, line: usize) -> Self {
        Pending {
            what: "an event record",
            kind: Kind::Event,
            sender,
            line,
            source,
            about: String::new(),
            said: None,
            want: 4,
            width: Width::Bits64,
            quiet: false,
            headless: false,
            words: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Words of an SMMU whose headline is not there.
    pub(super) fn headless(sender: &str, line: usize) -> Self {
        let mut pending = Pending::event("Linux", sender.to_owned(), line);
        pending.about = format!("{}, no headline", super::linux::device(sender));
        pending.what = "a record without a headline";
        pending.headless = true;
        pending
    }

    fn found(&self) -> Found {
        let words: Vec<u64> = match self.width {
            Width::Bits64 => self.words.clone(),
            Width::Bits32 => self
                .words
                .chunks(2)
                .map(|pair| pair.iter().rev().fold(0, |word, half| word << 32 | half & 0xffff_ffff))
                .collect(),
        };
        let mut found = Found::new(self.kind, words, self.line, self.source, &self.about);
        found.lines = self.lines.iter().map(|line| line.number).collect();
        found
    }

    /// All words are there.
    fn complete(self, out: &mut Vec<Item>) {
        let found = self.words.first().copied().unwrap_or(0) as u8;
        match self.said {
            Some(said) if said != found => {
                out.push(Item::Broken(ScanError::Contradiction { line: self.line, said, found }));
                others(self.lines, out);
            }
            // Without a headline, four words may be anything.
            None if self.headless && kind::doubts(self.kind, &self.words) >= 100 => {
                others(self.lines, out);
            }
            _ => out.push(Item::Found(self.found())),
        }
    }

    fn incomplete(mut self, out: &mut Vec<Item>) {
        let raw = [self.words.first(), self.words.get(1)].map(|word| word.copied().unwrap_or(0));
        let command = self.words.len() == 2 && kind::doubts(Kind::Command, &raw) == 0;
        if self.headless && command {
            self.kind = Kind::Command;
            out.push(Item::Found(self.found()));
            return;
        }
        if !self.quiet {
            let (line, what, found, want) = (self.line, self.what, self.words.len(), self.want);
            out.push(Item::Broken(ScanError::Incomplete { line, what, found, want }));
        }
        others(self.lines, out);
    }
}

/// How many senders may have a record under way at once. More than that is not a log of SMMUs.
const SENDERS: usize = 64;
/// After how many lines a record will not be complete any more.
const PATIENCE: usize = 200;

/// The records that are under way.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<Pending>);

impl Waiting {
    /// A headline.
    pub(super) fn announce(&mut self, mut pending: Pending, line: &Line, out: &mut Vec<Item>) {
        pending.lines.push(line.clone());
        self.begin(pending, out);
    }

    /// A record without a headline of its own.
    pub(super) fn begin(&mut self, pending: Pending, out: &mut Vec<Item>) {
        let same = |old: &Pending| old.sender == pending.sender && old.source == pending.source;
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

    /// A word of a sender; says whether somebody waited for it.
    pub(super) fn take(
        &mut self,
        sender: &str,
        value: u64,
        line: &Line,
        out: &mut Vec<Item>,
    ) -> bool {
        let Some(at) = self.0.iter().position(|pending| pending.sender == sender) else {
            return false;
        };
        let Some(pending) = self.0.get_mut(at) else { return false };
        pending.words.push(value);
        pending.lines.push(line.clone());
        if pending.words.len() == pending.want
            && let Some(pending) = self.0.remove(at)
        {
            pending.complete(out);
        }
        true
    }

    /// A line that goes with the record of a sender, without a word.
    pub(super) fn attach(&mut self, sender: &str, line: &Line) -> bool {
        let found = self.0.iter_mut().find(|pending| pending.sender == sender);
        found.is_some_and(|pending| {
            pending.lines.push(line.clone());
            true
        })
    }

    /// How many words a sender has sent, if its record is under way.
    pub(super) fn words_of(&self, sender: &str) -> Option<usize> {
        let found = self.0.iter().find(|pending| pending.sender == sender);
        found.map(|pending| pending.words.len())
    }

    /// Hand back what will not be complete any more.
    pub(super) fn give_up(&mut self, number: usize, out: &mut Vec<Item>) {
        while self.0.front().is_some_and(|pending| number > pending.line + PATIENCE) {
            if let Some(old) = self.0.pop_front() {
                old.incomplete(out);
            }
        }
    }

    pub(super) fn finish(&mut self, out: &mut Vec<Item>) {
        for pending in self.0.drain(..) {
            pending.incomplete(out);
        }
    }
}

/// The number of an event by its name, as headlines have it.
pub(super) fn number_of(name: &str) -> Option<u8> {
    EventKind::from_name(name).map(|kind| kind.0)
}
