//! Prints what a scanner finds.

use std::collections::HashSet;
use std::io::{self, BufRead, Read, Write};

use serde_json::json;
use smmu_decode::{
    DecodeContext, FoundWords, LogLine, LogSays, Occurrence, ScanItem, Scanner, StormTable,
    StructureKind, TextView, WordWidth, reports,
};
use smmu_types::StreamId;

use super::input::{ring_slots, unreadable};
use crate::cli::exit::Exit;
use crate::cli::output_format::{OutputFormat, json_line};
use crate::view::log::LogReport;

/// How much is printed of each structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// The whole report.
    Report,
    /// One line.
    Brief,
    /// Nothing but the table of events at the end.
    Summary,
}

pub(super) struct Printer<'r> {
    pub(super) out: io::BufWriter<io::StdoutLock<'static>>,
    pub(super) colour: bool,
    pub(super) context: DecodeContext<'r>,
    pub(super) format: OutputFormat,
    pub(super) view: TextView,
    pub(super) detail: Detail,
    pub(super) pass: bool,
    /// The page that is collected.
    pub(super) report: Option<LogReport>,
    found: usize,
    broken: usize,
    /// The number of the last passed line, if it has no end yet.
    open_line: Option<usize>,
    storm: StormTable,
    /// What was printed already, so that a storm of it is printed once.
    printed: HashSet<(String, Vec<u64>)>,
    repeated: u64,
}

/// A longer line is not of a log.
const LONGEST_LINE: u64 = 1 << 20;
/// How many different notes and registers are remembered.
const PRINTED: usize = 4096;

impl<'r> Printer<'r> {
    pub(super) fn new(context: DecodeContext<'r>, format: OutputFormat) -> Self {
        let colour = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        Printer {
            out: io::BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            colour,
            context,
            format,
            view: TextView::default(),
            detail: Detail::Report,
            pass: false,
            report: None,
            found: 0,
            broken: 0,
            open_line: None,
            storm: StormTable::default(),
            printed: HashSet::new(),
            repeated: 0,
        }
    }

    pub(super) fn stream(
        &mut self,
        mut input: impl BufRead,
        kind: Option<StructureKind>,
        width: Option<WordWidth>,
    ) -> Result<(), Exit> {
        let mut scanner = Scanner::new(kind, width);
        let mut bytes = Vec::new();
        let (mut number, mut too_long) = (0, false);
        loop {
            bytes.clear();
            // A slow input: what is decoded so far must be seen.
            if input.fill_buf().map_err(unreadable)?.len() < 4096 {
                self.out.flush()?;
            }
            match input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(unreadable(error)),
            }
            number += usize::from(!too_long);
            let ended = bytes.last() == Some(&b'\n');
            // Such a line is not of a log: it passes in pieces.
            if too_long || !ended && bytes.len() as u64 == LONGEST_LINE {
                too_long = !ended;
                self.item(ScanItem::Other(LogLine { number, raw: bytes.clone() }))?;
                continue;
            }
            for item in scanner.line(number, &bytes) {
                self.item(item)?;
            }
        }
        for item in scanner.finish() {
            self.item(item)?;
        }
        if self.found + self.broken == 0 && !self.pass {
            let lines = if number == 1 { "1 line".into() } else { format!("{number} lines") };
            let _ = writeln!(
                io::stderr(),
                "nothing of an SMMU in {lines}; give lines with the words of a record, or name what the words are: `decode event WORD ...`"
            );
        }
        Ok(())
    }

    /// Prints the structures of a ring. Slots of zeros were never filled.
    pub(super) fn ring(&mut self, input: impl Read, kind: StructureKind) -> Result<(), Exit> {
        let want = kind.words().unwrap_or(1);
        let mut empty: Option<(u64, u64)> = None;
        for slot in ring_slots(input, want) {
            let slot = slot.map_err(unreadable)?;
            if slot.bytes == want * 8 && slot.words.iter().all(|word| *word == 0) {
                empty = Some((empty.map_or(slot.index, |(first, _)| first), slot.index));
                continue;
            }
            self.empty(empty.take())?;
            let mut found = FoundWords::plain(kind, slot.words);
            found.about =
                format!("slot {:#x}, offset {:#x}", slot.index, slot.index * want as u64 * 8);
            if slot.bytes < want * 8 {
                found.known = slot.bytes / 8;
                if found.known == 0 {
                    let left = slot.bytes;
                    self.broken += 1;
                    let _ =
                        writeln!(io::stderr(), "error: the last {left} bytes are no whole word");
                    continue;
                }
            }
            self.context.remember(&found);
            self.item(ScanItem::Found(found))?;
        }
        self.empty(empty)
    }

    fn empty(&mut self, slots: Option<(u64, u64)>) -> Result<(), Exit> {
        let Some((first, last)) = slots.filter(|_| self.detail != Detail::Summary) else {
            return Ok(());
        };
        self.found += 1;
        let slots = match first == last {
            true => format!("slot {first:#x} is zero"),
            false => format!("slots {first:#x} to {last:#x} are zero"),
        };
        match self.format {
            OutputFormat::Human => self.write(format!("note {slots}\n").as_bytes())?,
            OutputFormat::Json => {
                let note = json!({ "kind": "note", "line": 0, "source": "", "note": slots });
                self.write(format!("{}\n", json_line("note", note)).as_bytes())?;
            }
        }
        Ok(())
    }

    pub(super) fn item(&mut self, item: ScanItem) -> Result<(), Exit> {
        if let Some(report) = &mut self.report {
            report.item(&item, &self.context);
        }
        match item {
            ScanItem::Found(found) => self.found(&found)?,
            ScanItem::Note { line, source, text, .. } => {
                self.found += 1;
                if self.detail == Detail::Summary || self.is_old(source, &text, &[]) {
                    return Ok(());
                }
                let note = match self.format {
                    OutputFormat::Human => {
                        format!("note {text}  \x1b[2m({})\x1b[0m\n", origin(line, source, ""))
                    }
                    OutputFormat::Json => {
                        let note =
                            json!({ "kind": "note", "line": line, "source": source, "note": text });
                        format!("{}\n", json_line("note", note))
                    }
                };
                self.write(note.as_bytes())?;
            }
            ScanItem::Other(line) if self.pass => self.other(&line)?,
            ScanItem::Other(_) | ScanItem::Again { .. } => {}
            ScanItem::Broken(error) => {
                self.broken += 1;
                self.out.flush()?;
                let _ = writeln!(io::stderr(), "error: {error}");
            }
        }
        Ok(())
    }

    fn other(&mut self, line: &LogLine) -> Result<(), Exit> {
        match self.format {
            OutputFormat::Human => {
                // The next piece continues its line.
                if self.open_line != Some(line.number) {
                    self.end_line()?;
                }
                self.out.write_all(&line.raw)?;
                self.open_line = (line.raw.last() != Some(&b'\n')).then_some(line.number);
            }
            OutputFormat::Json => {
                let other = json!({ "kind": "other", "line": line.number, "text": line.text() });
                self.write(format!("{}\n", json_line("other", other)).as_bytes())?;
            }
        }
        Ok(())
    }

    fn found(&mut self, found: &FoundWords) -> Result<(), Exit> {
        self.found += 1;
        let detail = match (self.storm.count(found), self.detail) {
            (_, Detail::Summary) => return Ok(()),
            // Machines and one-liners get each record.
            (_, detail) if self.format == OutputFormat::Json => detail,
            (_, Detail::Brief) => Detail::Brief,
            (Some(Occurrence::Repeated), _) if self.pass => Detail::Brief,
            (Some(Occurrence::Repeated), _) => return Ok(()),
            (Some(_), detail) => detail,
            (None, detail) => match self.is_old(found.source, &found.about, &found.words) {
                true => return Ok(()),
                false => detail,
            },
        };
        let origin = origin(found.line, found.source, &found.about);
        for report in reports(found, &self.context) {
            let mut text = Vec::new();
            match self.format {
                OutputFormat::Human if detail == Detail::Brief => {
                    report.brief(&mut text, &origin)?;
                }
                OutputFormat::Human => report.human(&mut text, &origin, self.view)?,
                OutputFormat::Json => {
                    let mut object = report.json();
                    if let Some(object) = object.as_object_mut() {
                        object.insert("line".into(), json!(found.line));
                        object.insert("source".into(), json!(found.source));
                        object.insert("about".into(), json!(found.about));
                        if let LogSays::SyncTimeout { at } = found.says {
                            object.insert("sync".into(), json!(format!("{at:#x}")));
                        }
                    }
                    writeln!(text, "{}", json_line("structure", object))?;
                }
            }
            self.write(&text)?;
        }
        Ok(())
    }

    /// Whether a note or a register of a driver was printed before, word for word. QEMU's traces
    /// are a chronicle, and keep all.
    fn is_old(&mut self, source: &str, text: &str, words: &[u64]) -> bool {
        let storms = matches!(source, "Linux" | "Xen" | "FreeBSD");
        if !storms || self.format == OutputFormat::Json || self.detail == Detail::Brief || self.pass
        {
            return false;
        }
        let key = (text.to_owned(), words.to_vec());
        if self.printed.contains(&key) {
            self.repeated += 1;
            return true;
        }
        if self.printed.len() < PRINTED {
            self.printed.insert(key);
        }
        false
    }

    /// Writes decoded text, without its colours if the output takes none.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.end_line()?;
        match self.colour {
            true => self.out.write_all(text),
            false => self.out.write_all(&anstream::adapter::strip_bytes(text).into_vec()),
        }
    }

    fn end_line(&mut self) -> io::Result<()> {
        if self.open_line.take().is_some() { self.out.write_all(b"\n") } else { Ok(()) }
    }

    /// The table of events, and what else was left out.
    fn table(&mut self) -> Result<(), Exit> {
        let summary = self.detail == Detail::Summary;
        match self.format {
            OutputFormat::Json if summary => {
                let rows: Vec<_> = self.storm.rows().into_iter().map(row).collect();
                for row in rows {
                    self.write(format!("{row}\n").as_bytes())?;
                }
            }
            OutputFormat::Human
                if summary || self.detail == Detail::Report && self.storm.has_repeats() =>
            {
                let empty = self.storm.rows().is_empty();
                let table = if empty { "no events\n".into() } else { self.storm.to_string() };
                let title = if summary { "" } else { "\x1b[1mall events\x1b[0m\n" };
                self.write(format!("{title}{table}").as_bytes())?;
                let others =
                    self.found as u64 - self.storm.rows().iter().map(|row| row.count).sum::<u64>();
                if summary && others > 0 {
                    let rest =
                        format!("besides events: {others} notes, registers and other structures\n");
                    self.write(rest.as_bytes())?;
                }
            }
            _ => {}
        }
        if self.repeated > 0 {
            let rest = format!("repeated word for word, and printed once: {}\n", self.repeated);
            self.write(rest.as_bytes())?;
        }
        Ok(())
    }

    pub(super) fn end(mut self) -> Result<(), Exit> {
        self.table()?;
        self.out.flush()?;
        match (self.broken, self.found) {
            (1.., 0) => Err(Exit::Complained),
            (0, 0) if !self.pass => Err(Exit::Failed),
            _ => Ok(()),
        }
    }
}

/// A row of the table as JSON.
fn row(row: &smmu_decode::StormRow) -> serde_json::Value {
    let StreamId(stream) = row.stream;
    let address = |value: Option<u64>| value.map(|value| format!("{value:#x}"));
    let fields = json!({
        "kind": "events",
        "smmu": row.smmu,
        "event": row.event.to_string(),
        "stream": format!("{stream:#x}"),
        "count": row.count,
        "lowest_address": address(row.addresses.map(|range| range.0)),
        "highest_address": address(row.addresses.map(|range| range.1)),
        "first": row.first,
        "last": row.last,
    });
    json_line("events", fields)
}

/// The line, the source and the sender of a structure, as text.
fn origin(line: usize, source: &str, about: &str) -> String {
    let line = if line == 0 { String::new() } else { format!("line {line}") };
    let parts = [line.as_str(), source, about.trim()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}
