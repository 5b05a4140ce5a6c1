//! From the words of a structure to a report on it.

use smmu_types::layout::Layout;
use smmu_types::{Cd, Command, EventKind, EventRecord, PriRecord, RawCommand, Ste, fields};

use crate::advice::{Advice, command, event, table};
use crate::context::DecodeContext;
use crate::item::FoundWords;
use crate::kind::StructureKind;
use crate::queue_pointers;
use crate::report::{FieldRow, StructureReport};

/// Decodes the known words of a structure. The ID registers give a report each; every other kind
/// gives one report.
#[must_use]
pub fn reports(found: &FoundWords, context: &DecodeContext) -> Vec<StructureReport> {
    let (kind, words, known) = (found.kind, found.words.as_slice(), found.known);
    if known < words.len() {
        return vec![in_part(report(kind, words, &DecodeContext::default()), known)];
    }
    match kind {
        StructureKind::IdRegisters => words
            .iter()
            .enumerate()
            .filter_map(|(n, word)| {
                let (_, layout) = fields::register_by_name(&format!("IDR{n}"))?;
                Some(report(StructureKind::Register(layout), &[*word], context))
            })
            .collect(),
        StructureKind::Queue => vec![queue_pointers::report(words)],
        _ => vec![report(kind, words, context)],
    }
}

fn report(kind: StructureKind, words: &[u64], context: &DecodeContext) -> StructureReport {
    let layout = layout(kind, words);
    let (name, summary) = title(kind, words, layout);
    let mut findings = context.findings(kind, words);
    let mut rows: Vec<FieldRow> =
        layout.split(words).map(|part| FieldRow::new(part, &name)).collect();
    if kind == StructureKind::Event {
        let record = EventRecord(std::array::from_fn(|n| words.get(n).copied().unwrap_or(0)));
        findings.extend(event::impossible(&record));
        // 7.3.16: the bit means nothing without a fault of a table walk.
        let no_walk = record.is_table_read().is_none();
        for row in rows.iter_mut().filter(|row| row.name == "TTRnW" && no_walk) {
            row.meaning = "unknown: CLASS is not a table fetch".into();
        }
    }
    StructureReport {
        kind,
        rows,
        name,
        summary,
        words: words.to_vec(),
        bits: layout.bits(),
        residue: layout.residue(words).collect(),
        advice: advise(kind, words, context),
        findings,
    }
}

/// The report on a structure whose last words are unknown.
fn in_part(mut report: StructureReport, known: usize) -> StructureReport {
    report.rows.retain(|row| usize::from(row.lo / 64) < known);
    report.words.truncate(known);
    if report.kind != StructureKind::Event {
        let whole = report.kind.words().unwrap_or(known);
        report.advice =
            Advice { means: format!("only {known} of {whole} words are known"), next: Vec::new() };
    }
    report
}

/// The table of the structure's fields.
fn layout(kind: StructureKind, words: &[u64]) -> &'static Layout {
    let low = words.first().copied().unwrap_or(0) as u8;
    match kind {
        StructureKind::Command => fields::command(low).unwrap_or(&fields::any_command::LAYOUT),
        StructureKind::Event => fields::event(EventKind(low)),
        StructureKind::Pri => &fields::page_request::LAYOUT,
        StructureKind::Ste => &fields::ste::LAYOUT,
        StructureKind::Cd => &fields::cd::LAYOUT,
        StructureKind::StreamDescriptor => &fields::l1std::LAYOUT,
        StructureKind::ContextDescriptor => &fields::l1cd::LAYOUT,
        StructureKind::Register(layout) => layout,
        StructureKind::IdRegisters | StructureKind::Queue => &fields::cmdq_prod::LAYOUT,
    }
}

/// Splits the text of a type into its name and the rest.
fn title(kind: StructureKind, words: &[u64], layout: &Layout) -> (String, String) {
    let word = |n: usize| words.get(n).copied().unwrap_or(0);
    let text = match kind {
        StructureKind::Command => {
            let raw = RawCommand([word(0), word(1)]);
            match (Command::interpret(raw), fields::opcode_name(raw.opcode())) {
                (Command::Unknown(_), Some(name)) => match fields::command(raw.opcode()) {
                    Some(_) => format!("{name} (not as a driver sends it)"),
                    None => format!("{name} (fields not decoded)"),
                },
                (command, _) => command.to_string(),
            }
        }
        StructureKind::Event => EventRecord(std::array::from_fn(word)).to_string(),
        StructureKind::Pri => {
            let text = PriRecord([word(0), word(1)]).to_string();
            format!("PRI {}", text.trim_start_matches("PRI ").trim_start_matches("page request "))
        }
        StructureKind::Ste => format!("STE {}", Ste(std::array::from_fn(word))),
        StructureKind::Cd => format!("CD {}", Cd(std::array::from_fn(word))),
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

/// What words of a kind mean.
fn advise(kind: StructureKind, words: &[u64], context: &DecodeContext) -> Advice {
    let word = |n: usize| words.get(n).copied().unwrap_or(0);
    let eight = || std::array::from_fn(word);
    match kind {
        StructureKind::Event => event::advise(&EventRecord(std::array::from_fn(word)), context),
        StructureKind::Command => command::advise(RawCommand([word(0), word(1)])),
        StructureKind::Ste => table::ste(&Ste(eight())),
        StructureKind::Cd => table::cd(&Cd(eight())),
        StructureKind::Pri => table::pri([word(0), word(1)]),
        StructureKind::StreamDescriptor => table::stream_descriptor(word(0)),
        StructureKind::ContextDescriptor => table::context_descriptor(word(0)),
        StructureKind::Register(layout) => table::register(layout, word(0)),
        StructureKind::IdRegisters | StructureKind::Queue => Advice::default(),
    }
}
