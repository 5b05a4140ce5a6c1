//! One decoded structure, for people and for machines.

use std::io::{self, Write};

use serde_json::{Value, json};
use smmu_types::layout::{FieldValue, Layout, Residue};
use smmu_types::{Cd, Command, EventKind, EventRecord, PriRecord, RawCommand, Ste, fields};

use super::advice::{self, Advice, Context};
use super::kind::Kind;
use super::pointers;

/// One decoded structure.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it is.
    pub kind: Kind,
    /// Its name in the architecture's words: `F_TRANSLATION`, `TLBI_NH_VA`, `STE`, `CR0`.
    pub name: String,
    /// It in one line; empty where the fields say it better.
    pub summary: String,
    /// Its words.
    pub words: Vec<u64>,
    /// Bits of the whole.
    pub bits: u16,
    /// Its fields.
    pub rows: Vec<Row>,
    /// Set bits that belong to no field.
    pub residue: Vec<Residue>,
    /// What it means, and what to check next.
    pub advice: Advice,
    /// What the SMMU of the given ID registers would say to it.
    pub findings: Vec<String>,
}

/// One field of a report.
#[derive(Clone, Debug)]
pub struct Row {
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
    /// What the value means; else what the field is.
    pub meaning: String,
    /// The architecture reserves this value.
    pub reserved: bool,
}

impl Row {
    fn new(part: FieldValue, name: &str) -> Self {
        let meaning = part.meaning().map(|meaning| meaning.to_string());
        let meaning = match part.field.name() {
            "EventNumber" | "Opcode" => Some(name.to_owned()),
            _ => meaning,
        };
        let text = || part.field.text().trim_end_matches('.').replace('`', "");
        Row {
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

/// Decode words of a kind, of which the first `known` are known. The ID registers give several reports, everything
/// else one.
#[must_use]
pub fn reports(kind: Kind, words: &[u64], known: usize, context: &Context) -> Vec<Report> {
    if known < words.len() {
        return vec![in_part(report(kind, words, &Context::default()), known)];
    }
    match kind {
        Kind::IdRegisters => words
            .iter()
            .enumerate()
            .filter_map(|(n, word)| {
                let (_, layout) = fields::register_by_name(&format!("IDR{n}"))?;
                Some(report(Kind::Register(layout), &[*word], context))
            })
            .collect(),
        Kind::Queue => vec![pointers::report(words)],
        _ => vec![report(kind, words, context)],
    }
}

fn report(kind: Kind, words: &[u64], context: &Context) -> Report {
    let layout = layout(kind, words);
    let (name, summary) = title(kind, words, layout);
    Report {
        kind,
        rows: layout.split(words).map(|part| Row::new(part, &name)).collect(),
        name,
        summary,
        words: words.to_vec(),
        bits: layout.bits(),
        residue: layout.residue(words).collect(),
        advice: advice::advise(kind, words, context),
        findings: context.findings(kind, words),
    }
}

/// A report on a structure of which only the first words are known.
fn in_part(mut report: Report, known: usize) -> Report {
    report.rows.retain(|row| usize::from(row.lo / 64) < known);
    report.words.truncate(known);
    if report.kind != Kind::Event {
        let whole = report.kind.words().unwrap_or(known);
        report.advice =
            Advice { means: format!("only {known} of {whole} words are known"), next: Vec::new() };
    }
    report
}

/// The table of fields that fits.
fn layout(kind: Kind, words: &[u64]) -> &'static Layout {
    let low = words.first().copied().unwrap_or(0) as u8;
    match kind {
        Kind::Command => fields::command(low).unwrap_or(&fields::any_command::LAYOUT),
        Kind::Event => fields::event(EventKind(low)),
        Kind::Pri => &fields::page_request::LAYOUT,
        Kind::Ste => &fields::ste::LAYOUT,
        Kind::Cd => &fields::cd::LAYOUT,
        Kind::StreamDescriptor => &fields::l1std::LAYOUT,
        Kind::ContextDescriptor => &fields::l1cd::LAYOUT,
        Kind::Register(layout) => layout,
        Kind::IdRegisters | Kind::Queue => &fields::cmdq_prod::LAYOUT,
    }
}

/// The name, and the rest of the type's own text behind it.
fn title(kind: Kind, words: &[u64], layout: &Layout) -> (String, String) {
    let word = |n: usize| words.get(n).copied().unwrap_or(0);
    let text = match kind {
        Kind::Command => {
            let raw = RawCommand([word(0), word(1)]);
            match (Command::interpret(raw), fields::opcode_name(raw.opcode())) {
                (Command::Unknown(_), Some(name)) => match fields::command(raw.opcode()) {
                    Some(_) => format!("{name} (not as a driver sends it)"),
                    None => format!("{name} (fields not decoded)"),
                },
                (command, _) => command.to_string(),
            }
        }
        Kind::Event => EventRecord(std::array::from_fn(word)).to_string(),
        Kind::Pri => {
            let text = PriRecord([word(0), word(1)]).to_string();
            format!("PRI {}", text.trim_start_matches("PRI ").trim_start_matches("page request "))
        }
        Kind::Ste => format!("STE {}", Ste(std::array::from_fn(word))),
        Kind::Cd => format!("CD {}", Cd(std::array::from_fn(word))),
        _ => layout.name().to_owned(),
    };
    match text.split_once(" sid=").map(|(name, _)| name.len()).or_else(|| text.find(' ')) {
        Some(at) => {
            let (name, rest) = text.split_at(at);
            (name.to_owned(), rest.trim_start().to_owned())
        }
        None => (text, String::new()),
    }
}

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

impl Report {
    /// For people. `origin` says where it was found.
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
        let widest = |of: fn(&Row) -> usize| self.rows.iter().map(of).max().unwrap_or(0);
        let names = widest(|row| row.name.len());
        let values = widest(|row| row.shown.len());
        let bits = self.rows.iter().map(|row| bits(row.hi, row.lo).len()).max().unwrap_or(0);
        for row in &self.rows {
            let colour = match row {
                Row { reserved: true, .. } => RED,
                Row { value: 0, .. } => DIM,
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

    /// For people in a hurry: one line.
    ///
    /// # Errors
    ///
    /// The output cannot be written.
    pub fn brief(&self, out: &mut dyn Write, origin: &str) -> io::Result<()> {
        self.headline(out, origin)
    }

    fn headline(&self, out: &mut dyn Write, origin: &str) -> io::Result<()> {
        let kind = match self.kind {
            Kind::Command | Kind::Event | Kind::Register(_) | Kind::Queue => self.kind.name(),
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

    /// For machines. Words and values are strings, since JSON's numbers lose bits.
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

/// As the architecture writes it: `7:0`, or `11` for a single bit.
fn bits(hi: u16, lo: u16) -> String {
    if hi == lo { lo.to_string() } else { format!("{hi}:{lo}") }
}

/// A text on lines of at most 100 characters, all but the first indented.
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
