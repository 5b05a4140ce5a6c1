//! From the words of a structure to a report on it.

use smmu_types::fields::{cd, ste};
use smmu_types::layout::{Layout, Meaning};
use smmu_types::legal::Finding;
use smmu_types::regs::cmdq_cons;
use smmu_types::{
    Cd, Command, EventKind, EventRecord, PriRecord, RawCommand, Ste, StreamId, fields,
};

use crate::advice::{Advice, command, event, table};
use crate::context::DecodeContext;
use crate::item::{FoundWords, LogSays};
use crate::judge::NotJudged;
use crate::kind::StructureKind;
use crate::partial::in_part;
use crate::report::{FieldRow, StructureReport};
use crate::{queue_pointers, resolver};

/// Decodes the known words of a structure. The ID registers give a report each; every other kind
/// gives one report.
#[must_use]
pub fn reports(found: &FoundWords, context: &DecodeContext<'_>) -> Vec<StructureReport> {
    let (kind, words, known) = (found.kind, found.words.as_slice(), found.known);
    if known < words.len() {
        // A part is not judged.
        let context = DecodeContext { resolver: context.resolver, ..DecodeContext::default() };
        return vec![in_part(report(found, kind, words, &context), known)];
    }
    match kind {
        StructureKind::IdRegisters => words
            .iter()
            .enumerate()
            .filter_map(|(n, word)| {
                let (_, layout) = fields::register_by_name(&format!("IDR{n}"))?;
                Some(report(found, StructureKind::Register(layout), &[*word], context))
            })
            .collect(),
        StructureKind::Queue => vec![queue_pointers::report(words, found.says)],
        _ => vec![report(found, kind, words, context)],
    }
}

fn report(
    found: &FoundWords,
    kind: StructureKind,
    words: &[u64],
    context: &DecodeContext<'_>,
) -> StructureReport {
    let layout = layout(kind, words);
    let word = |n: usize| words.get(n).copied().unwrap_or(0);
    let (name, summary) = title(kind, words, layout);
    let advice = advise(kind, words, found.says, context);
    let judged = context.judged(kind, words).unwrap_or_default();
    let mut report = StructureReport {
        kind,
        rows: layout.split(words).map(|part| FieldRow::new(part, &name)).collect(),
        name,
        summary,
        words: words.to_vec(),
        bits: layout.bits(),
        residue: layout.residue(words).collect(),
        findings: judged.findings.iter().map(described).collect(),
        not_judged: judged.not_judged.iter().map(NotJudged::to_string).collect(),
        device: None,
        cut_off: None,
        advice,
    };
    match kind {
        StructureKind::Event => {
            let record = EventRecord(std::array::from_fn(word));
            report.findings.extend(event::impossible(&record));
            // 7.3.16: the bit means nothing without a fault of a table walk.
            let no_walk = record.is_table_read().is_none();
            for row in report.rows.iter_mut().filter(|row| row.name == "TTRnW" && no_walk) {
                row.meaning = "unknown: CLASS is not a table fetch".into();
            }
            let stream = record.stream();
            report.device = Some(resolver::device(context.resolver, &found.smmu, stream));
        }
        StructureKind::Pri => {
            let stream = StreamId(word(0) as u32);
            report.device = Some(resolver::device(context.resolver, &found.smmu, stream));
        }
        StructureKind::Ste => {
            let ste = Ste(std::array::from_fn(word));
            count(&mut report.rows, layout, counting_ste(&ste));
        }
        StructureKind::Cd => {
            let cd = Cd(std::array::from_fn(word));
            count(&mut report.rows, layout, counting_cd(&cd));
        }
        StructureKind::Register(layout) if matches!(layout.name(), "GERROR" | "GERRORN") => {
            report.rows.iter_mut().for_each(|row| row.counts = false);
        }
        StructureKind::StreamDescriptor | StructureKind::ContextDescriptor => {
            report.summary.clone_from(&report.advice.means);
        }
        _ => {}
    }
    report
}

fn described(finding: &Finding) -> String {
    format!("{finding} ({}; {})", finding.effect(), finding.rule().remedy())
}

/// Marks the rows of the fields that count.
fn count(rows: &mut [FieldRow], layout: &'static Layout, counting: [u64; 8]) {
    for (row, field) in rows.iter_mut().zip(layout.fields()) {
        let bits = counting.get(field.word()).copied().unwrap_or(0);
        let own = matches!(field.meaning(), Meaning::ImplementationDefined | Meaning::Ignored);
        row.counts = bits & field.mask() != 0 && !own;
    }
}

/// The fields of an STE that its `Config` makes count. The overrides of attributes count under any
/// `Config`, and 0 leaves the attributes as they come.
fn counting_ste(ste: &Ste) -> [u64; 8] {
    let bypass = Ste([BYPASS, 0, 0, 0, 0, 0, 0, 0]).used();
    let used = ste.used();
    if !ste.is_set(ste::V) || ste.get(ste::CONFIG) == 4 {
        return used;
    }
    let always = [ste::V.mask() | ste::CONFIG.mask(), 0, 0, 0, 0, 0, 0, 0];
    std::array::from_fn(|n| used[n] & !bypass[n] | always[n])
}

/// `V` = 1 and `Config` = 4.
const BYPASS: u64 = 0b1001;

/// The fields of a CD that count: of what it uses, those of a table that is walked, and those that
/// every CD has. A feature that is off is 0.
fn counting_cd(cd: &Cd) -> [u64; 8] {
    if !cd.is_valid() {
        return cd.used();
    }
    let mut keys =
        vec![cd::V, cd::EPD0, cd::EPD1, cd::IPS, cd::AA64, cd::ENDI, cd::ASID, cd::A, cd::R, cd::S];
    if !cd.is_set(cd::EPD0) {
        keys.extend([cd::T0SZ, cd::TG0, cd::IR0, cd::OR0, cd::SH0, cd::TTB0]);
    }
    if !cd.is_set(cd::EPD1) {
        keys.extend([cd::T1SZ, cd::TG1, cd::IR1, cd::OR1, cd::SH1, cd::TTB1]);
    }
    keys.extend([cd::MAIR0, cd::MAIR1]);
    let mut counting = [0; 8];
    for key in keys {
        counting[key.word()] |= key.mask();
    }
    counting
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
        StructureKind::Ste => ste_title(&Ste(std::array::from_fn(word))),
        StructureKind::Cd => cd_title(&Cd(std::array::from_fn(word))),
        StructureKind::Register(_) => {
            return (layout.name().to_owned(), register_summary(layout, word(0)));
        }
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

fn ste_title(ste: &Ste) -> String {
    let mut title = format!("STE {ste}");
    let config = ste.get(ste::CONFIG);
    if ste.is_set(ste::V) && config & 5 == 5 {
        title.push_str(&format!(" S1ContextPtr={:#x}", ste.get(ste::S1CONTEXTPTR)));
    }
    if ste.is_set(ste::V) && config & 6 == 6 {
        title.push_str(&format!(" S2TTB={:#x}", ste.get(ste::S2TTB)));
    }
    title
}

fn cd_title(cd: &Cd) -> String {
    let walked = cd.is_valid() && !cd.is_set(cd::EPD0);
    let table = if walked { format!(" TTB0={:#x}", cd.get(cd::TTB0)) } else { String::new() };
    format!("CD {cd}{table}")
}

/// The fields of a register that are set: flags by name, others with their value.
fn register_summary(layout: &Layout, word: u64) -> String {
    let words = [word];
    if layout.name() == "CMDQ_CONS" {
        let consumer = word as u32;
        let index = fields::cmdq_cons::RD.get(&words);
        return format!("rd={index:#x} {}", cmdq_cons::error(consumer));
    }
    let set: Vec<String> = layout
        .split(&words)
        .filter(|part| part.value != 0)
        .map(|part| match part.field.hi() == part.field.lo() {
            true => part.field.name().to_owned(),
            false => format!("{}={part}", part.field.name()),
        })
        .collect();
    if set.is_empty() { "0".into() } else { set.join(" ") }
}

/// What words of a kind mean.
fn advise(
    kind: StructureKind,
    words: &[u64],
    says: LogSays,
    context: &DecodeContext<'_>,
) -> Advice {
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
        StructureKind::Register(layout) => table::register(layout, word(0), says),
        StructureKind::IdRegisters | StructureKind::Queue => Advice::default(),
    }
}
