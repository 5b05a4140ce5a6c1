//! One decoded structure, as text and as JSON.

use std::io::{self, Write};

use serde_json::{Value, json};
use smmu_types::layout::{FieldValue, Residue};

use crate::advice::Advice;
use crate::kind::StructureKind;

/// One decoded structure.
#[derive(Clone, Debug)]
pub struct StructureReport {
    /// What it is.
    pub kind: StructureKind,
    /// Its name in the architecture's words: `F_TRANSLATION`, `TLBI_NH_VA`, `STE`, `CR0`.
    pub name: String,
    /// The structure in one line; empty if the fields say it better.
    pub summary: String,
    /// Its words.
    pub words: Vec<u64>,
    /// The number of its bits.
    pub bits: u16,
    /// Its fields.
    pub rows: Vec<FieldRow>,
    /// Set bits that belong to no field.
    pub residue: Vec<Residue>,
    /// What it means, and what to check next.
    pub advice: Advice,
    /// What an SMMU with the given ID registers objects to.
    pub findings: Vec<String>,
}

/// One field of a report.
#[derive(Clone, Debug)]
pub struct FieldRow {
    /// Its name.
    pub name: &'static str,
    /// The highest bit.
    pub hi: u16,
    /// The lowest bit.
    pub lo: u16,
    /// The value as a number.
    pub value: u64,
    /// The value as it is printed.
    pub shown: String,
    /// What the value means, or else what the field is.
    pub meaning: String,
    /// The architecture reserves this value.
    pub reserved: bool,
}

impl FieldRow {
    pub(crate) fn new(part: FieldValue, name: &str) -> Self {
        let meaning = part.meaning().map(|meaning| meaning.to_string());
        let meaning = match part.field.name() {
            "EventNumber" | "Opcode" => Some(name.to_owned()),
            _ => meaning,
        };
        let text = || part.field.text().trim_end_matches('.').replace('`', "");
        FieldRow {
            name: part.field.name(),
            hi: part.field.hi(),
            lo: part.field.lo(),
            value: part.value,
            shown: part.to_string(),
            meaning: meaning.unwrap_or_else(text),
            reserved: part.is_reserved(),
        }
    }
}

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

impl StructureReport {
    /// Writes the report as text. `origin` says where the structure was found.
    ///
    /// # Errors
    ///
    /// The output cannot be written.
    pub fn human(&self, out: &mut dyn Write, origin: &str) -> io::Result<()> {
        self.headline(out, origin)?;
        let digits = if self.bits <= 32 { 8 } else { 16 };
        for line in self.words.chunks(4) {
            let words: Vec<String> =
                line.iter().map(|word| format!("0x{word:0digits$x}")).collect();
            writeln!(out, "  {DIM}{}{PLAIN}", words.join(" "))?;
        }
        let widest = |of: fn(&FieldRow) -> usize| self.rows.iter().map(of).max().unwrap_or(0);
        let names = widest(|row| row.name.len());
        let values = widest(|row| row.shown.len());
        let bits = self.rows.iter().map(|row| bits(row.hi, row.lo).len()).max().unwrap_or(0);
        for row in &self.rows {
            let colour = match row {
                FieldRow { reserved: true, .. } => RED,
                FieldRow { value: 0, .. } => DIM,
                _ => "",
            };
            writeln!(
                out,
                "  {colour}{:>bits$}  {:names$}  {:>values$}  {}{PLAIN}",
                self::bits(row.hi, row.lo),
                row.name,
                row.shown,
                row.meaning
            )?;
        }
        if !self.residue.is_empty() {
            let runs: Vec<String> =
                self.residue.iter().map(|run| self::bits(run.hi, run.lo)).collect();
            let what = if runs.len() == 1 { "is" } else { "are" };
            let runs = runs.join(", ");
            writeln!(out, "  {YELLOW}{runs:>bits$}  {what} set, but of no field{PLAIN}")?;
        }
        for finding in &self.findings {
            let finding = wrapped(finding, "           ");
            writeln!(out, "  {RED}finding{PLAIN}  {finding}")?;
        }
        if !self.advice.means.is_empty() {
            let means = wrapped(&self.advice.means, "         ");
            writeln!(out, "  {BOLD}means{PLAIN}  {means}")?;
        }
        for (n, next) in self.advice.next.iter().enumerate() {
            let label = if n == 0 { "check" } else { "     " };
            writeln!(out, "  {BOLD}{label}{PLAIN}  - {}", wrapped(next, "           "))?;
        }
        Ok(())
    }

    /// Writes the report as one line of text.
    ///
    /// # Errors
    ///
    /// The output cannot be written.
    pub fn brief(&self, out: &mut dyn Write, origin: &str) -> io::Result<()> {
        self.headline(out, origin)
    }

    fn headline(&self, out: &mut dyn Write, origin: &str) -> io::Result<()> {
        let kind = match self.kind {
            StructureKind::Command
            | StructureKind::Event
            | StructureKind::Register(_)
            | StructureKind::Queue => self.kind.name(),
            _ => "",
        };
        let name = self.name.trim_start_matches("event ");
        write!(out, "{BOLD}{}{PLAIN}", format!("{kind} {name}").trim_start())?;
        if !self.summary.is_empty() {
            write!(out, " {}", self.summary)?;
        }
        if !origin.is_empty() {
            write!(out, "  {DIM}({origin}){PLAIN}")?;
        }
        writeln!(out)
    }

    /// The report as JSON. Words and values are strings, because JSON's numbers lose bits.
    #[must_use]
    pub fn json(&self) -> Value {
        let digits = if self.bits <= 32 { 8 } else { 16 };
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.name, "hi": row.hi, "lo": row.lo,
                    "value": format!("{:#x}", row.value), "text": row.shown,
                    "meaning": row.meaning, "reserved": row.reserved,
                })
            })
            .collect();
        let residue: Vec<Value> =
            self.residue.iter().map(|run| json!({ "hi": run.hi, "lo": run.lo })).collect();
        json!({
            "kind": self.kind.name(),
            "name": self.name,
            "summary": self.summary,
            "words": self.words.iter().map(|word| format!("0x{word:0digits$x}")).collect::<Vec<_>>(),
            "fields": rows,
            "reserved_bits_set": residue,
            "findings": self.findings,
            "means": self.advice.means,
            "check": self.advice.next,
        })
    }
}

/// Bits in the architecture's notation: `7:0`, or `11` for a single bit.
fn bits(hi: u16, lo: u16) -> String {
    if hi == lo { lo.to_string() } else { format!("{hi}:{lo}") }
}

/// Wraps a text at 100 characters; all lines but the first are indented.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut room = 100usize.saturating_sub(indent.len());
    for word in text.split(' ') {
        let length = word.chars().count() + 1;
        if length > room && !lines.is_empty() {
            lines.push('\n');
            lines.push_str(indent);
            room = 100usize.saturating_sub(indent.len());
        } else if !lines.is_empty() {
            lines.push(' ');
        }
        lines.push_str(word);
        room = room.saturating_sub(length);
    }
    lines
}
