//! Counts events, so that a storm of them is explained once and told as a table.

use std::collections::HashMap;
use std::fmt;

use smmu_types::{EventKind, EventRecord, StreamId};

use crate::item::FoundWords;
use crate::kind::StructureKind;

/// Whether an event needs an explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// The first with its SMMU, number, stream, page and access.
    New,
    /// One like it was explained before, or many of its stream were.
    Repeated,
}

/// All events with one number, from one SMMU and stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StormRow {
    /// The SMMU as the log names it; empty if the log does not say.
    pub smmu: String,
    /// The event.
    pub event: EventKind,
    /// The stream.
    pub stream: StreamId,
    /// How many there are.
    pub count: u64,
    /// The lowest and the highest input address; `None` if no record has one.
    pub addresses: Option<(u64, u64)>,
    /// The time of the first, as the log has it.
    pub first: String,
    /// The time of the last.
    pub last: String,
    /// The pages and accesses that were explained.
    explained: Vec<(u64, u64)>,
}

/// Counts events by SMMU, number and stream. Its size is bounded, whatever the input.
#[derive(Debug, Default)]
pub struct StormTable {
    rows: Vec<StormRow>,
    places: HashMap<(usize, u8, u32), usize>,
    smmus: Vec<String>,
    /// Events that found no row.
    uncounted: u64,
}

/// The maximum number of rows.
const ROWS: usize = 4096;
/// The maximum number of SMMUs with rows of their own.
const SMMUS: usize = 64;
/// How many pages of a stream are explained, for each access. A storm may be at many pages.
const PAGES: usize = 4;

impl StormTable {
    /// Counts a structure. `None` if it is no event.
    pub fn count(&mut self, found: &FoundWords) -> Option<Occurrence> {
        if found.kind != StructureKind::Event {
            return None;
        }
        let word = |n: usize| found.words.get(n).copied().unwrap_or(0);
        let record = EventRecord(std::array::from_fn(word));
        let (event, stream) = (record.kind(), record.stream());
        let Some(at) = self.row(&found.smmu, event, stream) else {
            self.uncounted += 1;
            return Some(Occurrence::Repeated);
        };
        let row = self.rows.get_mut(at)?;
        row.count += 1;
        if row.count == 1 {
            row.first.clone_from(&found.time);
        }
        if !found.time.is_empty() {
            row.last.clone_from(&found.time);
        }
        let address = found.input_address();
        if let Some(address) = address {
            let (low, high) = row.addresses.unwrap_or((address, address));
            row.addresses = Some((low.min(address), high.max(address)));
        }
        // PnU, InD, RnW, S2 and CLASS; the words that are known make a difference too.
        let access = word(1) & 0x38e_0000_0000 | found.known as u64;
        let key = (address.unwrap_or(0) >> 12, access);
        let pages = row.explained.iter().filter(|(_, other)| *other == access).count();
        if row.explained.contains(&key) || pages >= PAGES || row.explained.len() >= 8 * PAGES {
            return Some(Occurrence::Repeated);
        }
        row.explained.push(key);
        Some(Occurrence::New)
    }

    /// The index of a row, which is new if there is room.
    fn row(&mut self, smmu: &str, event: EventKind, stream: StreamId) -> Option<usize> {
        let who = match self.smmus.iter().position(|known| known == smmu) {
            Some(who) => who,
            None if self.smmus.len() < SMMUS => {
                self.smmus.push(smmu.to_owned());
                self.smmus.len() - 1
            }
            None => return None,
        };
        let key = (who, event.0, stream.0);
        if let Some(at) = self.places.get(&key) {
            return Some(*at);
        }
        if self.rows.len() >= ROWS {
            return None;
        }
        self.rows.push(StormRow {
            smmu: smmu.to_owned(),
            event,
            stream,
            count: 0,
            addresses: None,
            first: String::new(),
            last: String::new(),
            explained: Vec::new(),
        });
        self.places.insert(key, self.rows.len() - 1);
        Some(self.rows.len() - 1)
    }

    /// The rows, the most frequent first.
    #[must_use]
    pub fn rows(&self) -> Vec<&StormRow> {
        let mut rows: Vec<&StormRow> = self.rows.iter().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows
    }

    /// Events beyond the bounds of the table.
    #[must_use]
    pub const fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// Whether any event came more than once.
    #[must_use]
    pub fn has_repeats(&self) -> bool {
        self.uncounted > 0 || self.rows.iter().any(|row| row.count > 1)
    }
}

/// A table with a row for each SMMU, event and stream.
impl fmt::Display for StormTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["count", "SMMU", "event", "stream", "addresses", "first", "last"];
        let mut cells = vec![head.map(str::to_owned)];
        for row in self.rows() {
            let known = |text: &str| if text.is_empty() { "-".into() } else { text.to_owned() };
            let addresses = match row.addresses {
                None => "-".into(),
                Some((low, high)) if low == high => format!("{low:#x}"),
                Some((low, high)) => format!("{low:#x} to {high:#x}"),
            };
            cells.push([
                row.count.to_string(),
                known(&row.smmu),
                row.event.to_string(),
                row.stream.to_string(),
                addresses,
                known(&row.first),
                known(&row.last),
            ]);
        }
        let mut widths = [0; 7];
        for line in &cells {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        for line in &cells {
            let mut text = String::new();
            for (n, (cell, width)) in line.iter().zip(widths).enumerate() {
                // The count is a number.
                match n {
                    0 => text.push_str(&format!("{cell:>width$}")),
                    _ => text.push_str(&format!("  {cell:width$}")),
                }
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        if self.uncounted > 0 {
            writeln!(f, "{} more events of other SMMUs and streams are in no row", self.uncounted)?;
        }
        Ok(())
    }
}
