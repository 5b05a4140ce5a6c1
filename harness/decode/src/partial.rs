//! Reports on structures of which some words are missing.

use smmu_types::{EventKind, EventRecord};

use crate::advice::{Advice, event};
use crate::kind::StructureKind;
use crate::report::StructureReport;

/// The report without what the missing words would say.
pub(crate) fn in_part(mut report: StructureReport, known: usize) -> StructureReport {
    let whole = report.kind.words().unwrap_or(known);
    report.rows.retain(|row| usize::from(row.lo / 64) < known);
    report.words.truncate(known);
    report.findings.clear();
    report.not_judged.clear();
    report.cut_off = Some(format!("{known} of {whole} words"));
    match report.kind {
        StructureKind::Event => {
            let word = |n: usize| report.words.get(n).copied().unwrap_or(0);
            let record = EventRecord(std::array::from_fn(word));
            report.summary = known_parts(&report.summary, known);
            if known >= needed(&record, known) {
                report.findings = if known > 3 { event::impossible(&record) } else { Vec::new() };
            } else {
                report.advice = cut_off(&record, known, whole);
            }
        }
        StructureKind::Command => report.summary.clear(),
        _ => {
            let means = format!("only {known} of {whole} words are known");
            report.advice = Advice { means, next: Vec::new() };
        }
    }
    report
}

/// How many words the advice on an event is about.
fn needed(record: &EventRecord, known: usize) -> usize {
    let kind = record.kind();
    match kind {
        // The intermediate address is in the fourth word.
        _ if kind.is_translation_fault() && (known < 2 || record.is_stage2()) => 4,
        _ if kind.is_translation_fault() => 3,
        EventKind::E_PAGE_REQUEST => 3,
        EventKind::F_STE_FETCH
        | EventKind::F_CD_FETCH
        | EventKind::F_VMS_FETCH
        | EventKind::F_WALK_EABT => 4,
        _ => 1,
    }
}

fn cut_off(record: &EventRecord, known: usize, whole: usize) -> Advice {
    let (short, stream) = (event::in_short(record.kind()), record.stream());
    let unknown = match known {
        1 => "the access and the addresses are unknown",
        2 => "the addresses are unknown",
        _ => "the last address is unknown",
    };
    Advice::new(format!(
        "stream {stream}: {short}; the log has {known} of {whole} words, so {unknown}"
    ))
    .then("look for a whole record of the same stream, before or after this one")
}

/// The parts of a summary whose words are known.
fn known_parts(summary: &str, known: usize) -> String {
    let word = |part: &str| match part.split('=').next().unwrap_or_default() {
        "sid" | "ssid" => 0,
        "iova" => 2,
        "ipa" | "fetch" => 3,
        _ => 1,
    };
    let parts: Vec<&str> = summary.split(' ').filter(|part| word(part) < known).collect();
    parts.join(" ")
}
