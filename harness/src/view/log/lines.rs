//! What else a log has: each line is counted, and what names an SMMU is kept.

use std::collections::VecDeque;
use std::fmt::{self, Write};

use smmu_decode::{FoundWords, LogLine, StructureKind};

use super::number::Counted;
use crate::view::page::Text;

/// How many lines and notes of each list are kept, and how many characters of each.
const KEPT: usize = 100;
const LONGEST: usize = 240;
/// How many lines are kept for what comes before a fault.
const BEFORE: usize = 3;

/// A list of texts, each once, with the number of times that it came.
#[derive(Debug, Default)]
struct Kept {
    rows: Vec<(String, u64, usize, Option<usize>)>,
    /// Those that found no room.
    more: u64,
}

impl Kept {
    fn add(&mut self, text: &str, line: usize, structure: Option<usize>) {
        let text = cut(text);
        let room = self.rows.len() < KEPT;
        match self.rows.iter_mut().find(|(known, ..)| *known == text) {
            Some((_, count, ..)) => *count += 1,
            None if room => self.rows.push((text, 1, line, structure)),
            None => self.more += 1,
        }
    }

    fn write(&self, out: &mut String, title: &str, intro: &str) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        write!(
            out,
            "<section><h2>{title}</h2><p class=facts>{intro}</p><div class=wide tabindex=0><table class=storms>"
        )?;
        write!(out, "<tr><th>count<th>first line<th>text")?;
        for (text, count, line, structure) in &self.rows {
            let line = if *line == 0 { "-".into() } else { line.to_string() };
            write!(out, "<tr><td class=n>{count}<td class=n>{line}<td class=text>")?;
            match structure {
                Some(number) => write!(out, "<button data-s={number}>{}</button>", Text(text))?,
                None => write!(out, "{}", Text(text))?,
            }
        }
        write!(out, "</table></div>")?;
        if self.more > 0 {
            write!(out, "<p class=facts>and {} more</p>", Counted(self.more, "line"))?;
        }
        write!(out, "</section>")
    }
}

/// The beginning of a text, without its end of line.
fn cut(text: &str) -> String {
    let text = text.trim_end();
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The lines of a log that tell of no fault.
#[derive(Debug, Default)]
pub(super) struct Lines {
    decoded: u64,
    others: u64,
    /// The last line that was no SMMU's. A long line comes in pieces.
    last: Option<usize>,
    recent: VecDeque<String>,
    unknown: Kept,
    unknown_count: u64,
    notes: Kept,
    structures: Kept,
    broken: Kept,
    broken_count: u64,
}

impl Lines {
    /// Counts lines that are decoded. An argument has the number 0, and is no line.
    pub(super) fn decoded(&mut self, lines: &[usize]) {
        self.decoded += lines.iter().filter(|line| **line > 0).count() as u64;
    }

    /// All lines.
    pub(super) fn count(&self) -> u64 {
        self.decoded + self.others
    }

    /// Whether something stands in the log of an SMMU beside faults.
    pub(super) fn says_something(&self) -> bool {
        !(self.notes.rows.is_empty() && self.structures.rows.is_empty())
    }

    /// How many records cannot be decoded.
    pub(super) fn broken_count(&self) -> u64 {
        self.broken_count
    }

    pub(super) fn note(&mut self, line: usize, source: &str, text: &str) {
        self.notes.add(&format!("{text} ({source})"), line, None);
    }

    /// Keeps a structure that is no fault.
    pub(super) fn structure(&mut self, found: &FoundWords, number: Option<usize>) {
        let name = match found.kind {
            StructureKind::Register(layout) => layout.name().to_owned(),
            kind => kind.name().to_owned(),
        };
        let about = if found.about.is_empty() { found.source } else { &found.about };
        let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
        let words: Vec<String> = found.words.iter().map(|word| format!("{word:#x}")).collect();
        self.structures.add(&format!("{name}{about}: {}", words.join(" ")), found.line, number);
    }

    pub(super) fn broken(&mut self, error: String) {
        self.broken_count += 1;
        self.broken.add(&error, 0, None);
    }

    /// Counts a line that belongs to nothing. One that names an SMMU is kept.
    pub(super) fn other(&mut self, line: &LogLine) {
        let first_piece = self.last.replace(line.number) != Some(line.number);
        if !first_piece {
            return;
        }
        self.others += 1;
        let text = line.text();
        if text.trim().is_empty() {
            return;
        }
        if ["smmu", "SMMU", "iommu", "IOMMU"].iter().any(|name| text.contains(name)) {
            self.unknown_count += 1;
            self.unknown.add(&text, line.number, None);
        }
        if self.recent.len() >= BEFORE {
            self.recent.pop_front();
        }
        self.recent.push_back(cut(&text));
    }

    /// Takes the latest lines between the fault before and this one that are no SMMU's.
    pub(super) fn before(&mut self, is_fault: bool) -> Vec<String> {
        if is_fault { self.recent.drain(..).collect() } else { Vec::new() }
    }

    /// Writes what the log has beside faults.
    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        self.notes.write(out, "What the log says of its SMMUs", "In the architecture's words.")?;
        self.structures.write(out, "Other structures", "Decoded, and no fault for certain.")?;
        self.broken.write(
            out,
            "Records that cannot be decoded",
            "Their lines are counted below.",
        )?;
        self.unknown.write(
            out,
            "Lines that name an SMMU or an IOMMU, and are unknown",
            "As the log has them.",
        )?;
        write!(
            out,
            "<p class=facts id=lines>{} in all: {} decoded, {} not of an SMMUv3; {} of these name an SMMU or an IOMMU.</p>",
            Counted(self.count(), "line"),
            Counted(self.decoded, "line"),
            Counted(self.others, "line"),
            Counted(self.unknown_count, "line"),
        )
    }
}
