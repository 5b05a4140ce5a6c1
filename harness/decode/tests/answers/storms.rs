//! Many events: each kind explained once, all counted.

use smmu_decode::{Occurrence, ScanItem, StormTable};

use crate::{linux_event, scan};

/// Counts the events of a log; returns the lines of those that are explained.
fn explained(log: &str, table: &mut StormTable) -> Vec<usize> {
    let mut lines = Vec::new();
    for item in scan(log) {
        if let ScanItem::Found(found) = item
            && table.count(&found) == Some(Occurrence::New)
        {
            lines.push(found.line);
        }
    }
    lines
}

fn at(time: &str, event: &str) -> String {
    event.lines().map(|line| format!("[{time}] {line}\n")).collect()
}

const WRITE: u64 = 0x200_0000_0000;
const READ: u64 = 0x208_0000_0000;

fn fault(stream: u64, access: u64, address: u64) -> String {
    linux_event(0x10, [stream << 32 | 0x10, access, address, 0])
}

#[test]
fn an_event_is_explained_once_per_smmu_event_stream_page_and_access() {
    let mut table = StormTable::default();
    let base = fault(8, WRITE, 0x1_0000);
    let log = [
        at("1.000000", &base),
        at("2.000000", &base),
        // The same page.
        at("3.000000", &fault(8, WRITE, 0x1_0ff8)),
        // Another access, page, stream, event, SMMU.
        at("4.000000", &fault(8, READ, 0x1_0000)),
        at("5.000000", &fault(8, WRITE, 0x2_0000)),
        at("6.000000", &fault(9, WRITE, 0x1_0000)),
        at("7.000000", &linux_event(0x13, [8 << 32 | 0x13, WRITE, 0x1_0000, 0])),
        at("8.000000", &base.replace("v3.4", "v3.5")),
    ]
    .concat();
    assert_eq!(explained(&log, &mut table), [1, 16, 21, 26, 31, 36]);
    let rows = table.rows();
    assert_eq!(rows.len(), 4);
    let first = rows[0];
    assert_eq!((first.count, first.smmu.as_str()), (5, "arm-smmu-v3.4.auto"));
    assert_eq!(first.addresses, Some((0x1_0000, 0x2_0000)));
    assert_eq!((first.first.as_str(), first.last.as_str()), ("1.000000", "5.000000"));
    assert!(rows[1..].iter().all(|row| row.count == 1));
}

/// A storm over many pages is not explained page by page.
#[test]
fn a_storm_is_short_and_bounded() {
    let log: String = (0..20_000).map(|n| fault(8 + n % 2, WRITE, n << 12)).collect();
    let mut table = StormTable::default();
    let lines = explained(&log, &mut table);
    assert!(lines.len() <= 16, "{}", lines.len());
    assert_eq!(table.rows().iter().map(|row| row.count).sum::<u64>(), 20_000);
    assert_eq!(table.to_string().lines().count(), 3);

    let mut table = StormTable::default();
    let log: String = (0..5_000).map(|n| fault(n, WRITE, 0x1000)).collect();
    explained(&log, &mut table);
    let counted: u64 = table.rows().iter().map(|row| row.count).sum();
    assert!(table.rows().len() <= 4096 && counted + table.uncounted() == 5_000);
}

/// An event without an input address has none in the table.
#[test]
fn a_row_says_only_what_is_known() {
    let mut table = StormTable::default();
    explained(&linux_event(0x02, [0x4400_0000_0002, 0, 0, 0]), &mut table);
    assert_eq!(table.rows()[0].addresses, None);
    assert!(!table.has_repeats());
    let text = table.to_string();
    let row = text.lines().nth(1).unwrap();
    assert_eq!(
        row.split_whitespace().collect::<Vec<_>>(),
        ["1", "arm-smmu-v3.4.auto", "C_BAD_STREAMID", "0x4400", "-", "-", "-"]
    );
}
