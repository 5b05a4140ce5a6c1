//! The right answers to what people report, by the sections of IHI 0070 and by what they asked.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod events;
mod formats;
mod logs;
mod names;
mod storms;
mod structures;

use smmu_decode::{DecodeContext, ScanItem, Scanner, StructureReport, reports};

/// What a scanner finds in a text.
fn scan(text: &str) -> Vec<ScanItem> {
    let mut scanner = Scanner::default();
    let mut items: Vec<ScanItem> = text
        .split_inclusive('\n')
        .enumerate()
        .flat_map(|(n, line)| scanner.line(n + 1, line.as_bytes()))
        .collect();
    items.extend(scanner.finish());
    items
}

/// The reports on all structures in a text.
fn all(text: &str) -> Vec<StructureReport> {
    let context = DecodeContext::default();
    scan(text)
        .iter()
        .filter_map(|item| match item {
            ScanItem::Found(found) => Some(reports(found, &context)),
            _ => None,
        })
        .flatten()
        .collect()
}

/// The report on the only structure of a text.
fn only(text: &str) -> StructureReport {
    let mut reports = all(text);
    assert_eq!(reports.len(), 1, "{:?}", scan(text));
    reports.pop().unwrap()
}

/// The value of a field.
fn field(report: &StructureReport, name: &str) -> u64 {
    report.rows.iter().find(|row| row.name == name).unwrap().value
}

const LINUX: &str = "arm-smmu-v3 arm-smmu-v3.4.auto:";

/// An event as Linux prints it.
fn linux_event(number: u8, words: [u64; 4]) -> String {
    let lines: String = words.iter().map(|word| format!("{LINUX} \t{word:#018x}\n")).collect();
    format!("{LINUX} event {number:#04x} received:\n{lines}")
}
