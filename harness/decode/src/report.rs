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
    /// What cannot be, and what an SMMU with the given ID registers objects to.
    pub findings: Vec<String>,
    /// Fields that cannot be judged, because ID registers are unknown.
    pub not_judged: Vec<String>,
    /// The device behind the StreamID of an event or a page request.
    pub device: Option<String>,
    /// How much of a cut-off record is there, such as "3 of 4 words".
    pub cut_off: Option<String>,
}

/// What of a report is printed as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextView {
    /// The rows.
    pub rows: RowChoice,
    /// Whether the words are printed as bits as well.
    pub bits: BitView,
}

/// Which rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowChoice {
    /// The fields that are set, and those that count.
    #[default]
    Counting,
    /// All fields.
    All,
}

/// Whether words are printed as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BitView {
    /// No.
    #[default]
    Off,
    /// A row for each word of 64 bits, with runs of zeros folded.
    On,
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
    /// The field counts, though it may be 0.
    pub counts: bool,
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
            counts: true,
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
    pub fn human(&self, out: &mut dyn Write, origin: &str, view: TextView) -> io::Result<()> {
        self.headline(out, origin)?;
        self.answer(out)?;
        let digits = if self.bits <= 32 { 8 } else { 16 };
        for line in self.words.chunks(4) {
            let words: Vec<String> =
                line.iter().map(|word| format!("0x{word:0digits$x}")).collect();
            writeln!(out, "  {DIM}{}{PLAIN}", words.join(" "))?;
        }
        if view.bits == BitView::On {
            for (n, word) in self.words.iter().enumerate() {
                let label = format!("{}:{}", n * 64 + 63, n * 64);
                writeln!(out, "  {label:>7}  {}", folded_bits(*word, self.bits.min(64)))?;
            }
        }
        self.table(out, view.rows)
    }

    /// What it means and what to check: what a reader wants first.
    fn answer(&self, out: &mut dyn Write) -> io::Result<()> {
        for (text, colour) in
            self.findings.iter().map(|finding| (finding.clone(), RED)).chain(
                self.not_judged.iter().map(|fields| (format!("not judged: {fields}"), YELLOW)),
            )
        {
            writeln!(out, "  {colour}finding{PLAIN}  {}", wrapped(&text, "           "))?;
        }
        if !self.advice.means.is_empty() {
            let means = wrapped(&self.advice.means, "           ");
            writeln!(out, "  {BOLD}means{PLAIN}    {means}")?;
        }
        for (n, next) in self.advice.next.iter().enumerate() {
            let label = if n == 0 { "check" } else { "     " };
            writeln!(out, "  {BOLD}{label}{PLAIN}    - {}", wrapped(next, "             "))?;
        }
        if let Some(device) = &self.device {
            writeln!(out, "  {BOLD}device{PLAIN}   {}", wrapped(device, "           "))?;
        }
        Ok(())
    }

    fn table(&self, out: &mut dyn Write, choice: RowChoice) -> io::Result<()> {
        let shown = |row: &&FieldRow| choice == RowChoice::All || row.counts || row.value != 0;
        let rows: Vec<&FieldRow> = self.rows.iter().filter(shown).collect();
        let widest = |of: fn(&FieldRow) -> usize| rows.iter().map(|row| of(row)).max().unwrap_or(0);
        let names = widest(|row| row.name.len());
        let values = widest(|row| row.shown.len());
        let bits = widest(|row| bits(row.hi, row.lo).len());
        for row in &rows {
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
        let hidden = self.rows.len() - rows.len();
        if hidden > 0 {
            let (fields, are) = if hidden == 1 { ("field", "is") } else { ("fields", "are") };
            writeln!(out, "  {DIM}{hidden} more {fields} {are} 0; --all shows them{PLAIN}")?;
        }
        if !self.residue.is_empty() {
            let runs: Vec<String> =
                self.residue.iter().map(|run| self::bits(run.hi, run.lo)).collect();
            let what = if runs.len() == 1 { "is" } else { "are" };
            let runs = runs.join(", ");
            writeln!(out, "  {YELLOW}{runs:>bits$}  {what} set, but of no field{PLAIN}")?;
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
        if let Some(cut_off) = &self.cut_off {
            write!(out, " {YELLOW}({cut_off}){PLAIN}")?;
        }
        if !origin.is_empty() {
            write!(out, "  {DIM}({origin}){PLAIN}")?;
        }
        writeln!(out)
    }

    /// The report as JSON; every object has a `type`. Words and values are strings, because JSON's
    /// numbers lose bits.
    #[must_use]
    pub fn json(&self) -> Value {
        let digits = if self.bits <= 32 { 8 } else { 16 };
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "type": "field", "name": row.name, "hi": row.hi, "lo": row.lo,
                    "value": format!("{:#x}", row.value), "text": row.shown,
                    "meaning": row.meaning, "reserved": row.reserved,
                })
            })
            .collect();
        let residue: Vec<Value> = self
            .residue
            .iter()
            .map(|run| json!({ "type": "bits", "hi": run.hi, "lo": run.lo }))
            .collect();
        let mut object = json!({
            "type": "structure",
            "kind": self.kind.name(),
            "name": self.name,
            "summary": self.summary,
            "words": self.words.iter().map(|word| format!("0x{word:0digits$x}")).collect::<Vec<_>>(),
            "fields": rows,
            "reserved_bits_set": residue,
            "findings": self.findings,
            "means": self.advice.means,
            "check": self.advice.next,
        });
        if let Some(object) = object.as_object_mut() {
            if !self.not_judged.is_empty() {
                object.insert("not_judged".into(), json!(self.not_judged));
            }
            if let Some(device) = &self.device {
                object.insert("device".into(), json!(device));
            }
            if let Some(cut_off) = &self.cut_off {
                object.insert("cut_off".into(), json!(cut_off));
            }
        }
        object
    }
}

/// Bits in the architecture's notation: `7:0`, or `11` for a single bit.
fn bits(hi: u16, lo: u16) -> String {
    if hi == lo { lo.to_string() } else { format!("{hi}:{lo}") }
}

/// Wraps a text at 100 characters; all lines but the first are indented.
pub(crate) fn wrapped(text: &str, indent: &str) -> String {
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

/// The bits of a word from the highest down. A run of eight zeros or more is folded: `0{28}`.
fn folded_bits(word: u64, bits: u16) -> String {
    let digits: Vec<bool> = (0..bits).rev().map(|bit| word >> bit & 1 != 0).collect();
    let runs: Vec<String> = digits
        .chunk_by(|a, b| a == b)
        .map(|run| match (run.first(), run.len()) {
            (Some(true), length) => "1".repeat(length),
            (_, length) if length >= 8 => format!(" 0{{{length}}} "),
            (_, length) => "0".repeat(length),
        })
        .collect();
    runs.concat().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn runs_of_zeros_are_folded() {
        assert_eq!(folded_bits(0, 64), "0{64}");
        assert_eq!(folded_bits(u64::MAX, 64), "1".repeat(64));
        assert_eq!(folded_bits(0xf800_0000_4000_000b, 64), "11111 0{28} 1 0{26} 1011");
        assert_eq!(folded_bits(0x54, 64), "0{57} 1010100");
        assert_eq!(folded_bits(0x8000_0001, 32), "1 0{30} 1");
    }

    proptest! {
        #[test]
        fn folded_bits_are_the_word(word: u64, mask: u64) {
            let (word, mut value) = (word & mask, 0u64);
            for run in folded_bits(word, 64).split(' ') {
                match run.strip_prefix("0{") {
                    Some(count) => {
                        let count: u32 = count.trim_end_matches('}').parse().unwrap();
                        value = value.checked_shl(count).unwrap_or(0);
                    }
                    None => run.chars().for_each(|bit| value = value << 1 | u64::from(bit == '1')),
                }
            }
            prop_assert_eq!(value, word);
        }
    }
}
