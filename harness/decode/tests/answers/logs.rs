//! Logs as syslog, collectors and mail programs leave them.

use rstest::rstest;
use smmu_decode::{FoundWords, ScanItem};

use crate::{LINUX, linux_event, scan};

const WORDS: [u64; 4] = [0x4402_0000_0010, 0x200_0000_0000, 0xfe00_1000, 0];

fn found(log: &str) -> Vec<FoundWords> {
    let found = scan(log).into_iter().filter_map(|item| match item {
        ScanItem::Found(found) => Some(found),
        ScanItem::Broken(error) => panic!("{error}\n{log}"),
        _ => None,
    });
    found.collect()
}

fn words(log: &str) -> Vec<Vec<u64>> {
    found(log).into_iter().map(|found| found.words).collect()
}

/// Every line of the log is in one item.
fn each_line_once(log: &str) {
    let mut seen = vec![0; log.lines().count() + 1];
    for item in scan(log) {
        match item {
            ScanItem::Found(found) => found.lines.iter().for_each(|line| seen[*line] += 1),
            ScanItem::Note { line, .. } | ScanItem::Again { line } => seen[line] += 1,
            ScanItem::Other(line) => seen[line.number] += 1,
            ScanItem::Broken(_) => {}
        }
    }
    assert!(seen[1..].iter().all(|times| *times == 1), "{seen:?}\n{log}");
}

#[rstest]
#[case::rsyslog("Nov 29 11:12:00 host kernel: [   55.1] ", "#011")]
#[case::cat_v("[   55.1] ", "^I")]
#[case::kmsg("<4>[   55.1] ", r"\x09")]
#[case::lost_escapes("[32m[   55.1] [0m[33m", "[0m\t")]
#[case::escapes("\x1b[32m[   55.1] \x1b[0m", "\t")]
#[case::mail("> [   55.1] ", "=09")]
fn a_tab_and_a_prefix_have_many_forms(#[case] before: &str, #[case] tab: &str) {
    let log: String = linux_event(0x10, WORDS)
        .lines()
        .map(|line| format!("{before}{}\n", line.replace('\t', tab)))
        .collect();
    assert_eq!(words(&log), [WORDS]);
    assert_eq!(found(&log)[0].smmu, "arm-smmu-v3.4.auto");
    each_line_once(&log);
}

#[test]
fn a_line_of_json_is_its_message() {
    let log: String = linux_event(0x02, [0x4400_0000_0002, 0, 0, 0])
        .lines()
        .map(|line| {
            format!("{{\"PRIORITY\":\"3\",\"MESSAGE\":\"{}\"}}\n", line.replace('\t', "\\t"))
        })
        .collect();
    assert!(log.contains(r"\t0x0000440000000002"));
    assert_eq!(words(&log), [[0x4400_0000_0002, 0, 0, 0]]);
}

#[test]
fn a_word_may_have_a_blank_in_it() {
    let log = linux_event(0x10, WORDS)
        .replace("0x0000440200000010", "0x00004402 00000010")
        .replace("0x0000020000000000", "0x000002000000000 0");
    assert_eq!(words(&log), [WORDS]);
    let plain = "0x00004402 00000010 0x0000020000000000 0x00000000fe001000 0x0000000000000000\n";
    assert_eq!(words(plain), [WORDS]);
}

#[rstest]
#[case::soft_break("0x0000440200000010", "0x00004402=\n00000010")]
#[case::word("0x0000440200000010", "0x00004402\n00000010")]
#[case::all_of_the_word("\t0x0000440200000010", "\n0x0000440200000010")]
#[case::quoted_reply("\t0x0000440200000010", "\n> 0x0000440200000010")]
#[case::headline("event 0x10 received:", "event 0x10\nreceived:")]
fn a_line_may_be_wrapped(#[case] whole: &str, #[case] wrapped: &str) {
    let log = linux_event(0x10, WORDS).replacen(whole, wrapped, 1);
    assert_ne!(log, linux_event(0x10, WORDS));
    assert_eq!(words(&log), [WORDS], "{log}");
    each_line_once(&log);
}

#[rstest]
#[case("CMD_SYNC timeout at 0x00012044 [hwprod 0x00012045, hwcons\n0x00011e00]", &[0x1_2045, 0x1_1e00])]
#[case("CMD_SYNC timeout at 0x00012044\n[hwprod 0x00012045, hwcons 0x00011e00]", &[0x1_2045, 0x1_1e00])]
#[case("unexpected global error reported\n(0x00000001), this could be serious", &[1])]
#[case("CMDQ error (cons\n0x0302bb84): ATC invalidate timeout", &[0x0302_bb84])]
fn a_bracket_may_be_on_the_next_line(#[case] message: &str, #[case] want: &[u64]) {
    let log = format!("{LINUX} {message}\n{}", linux_event(0x10, WORDS));
    assert_eq!(words(&log), [want.to_vec(), WORDS.to_vec()]);
    each_line_once(&log);
}

/// A line that no format knows takes nothing from the next one.
#[test]
fn a_line_that_is_not_wrapped_takes_nothing() {
    let log = format!(
        "{LINUX} something new\n{}{LINUX} option (mask 0x0\nnvme nvme0: reset\n{LINUX} x\n\n{LINUX} y",
        linux_event(0x10, WORDS)
    );
    assert_eq!(words(&log), [WORDS]);
    assert_eq!(found(&log)[0].lines, [2, 3, 4, 5, 6]);
    each_line_once(&log);
    let others = scan(&log).iter().filter(|item| matches!(item, ScanItem::Other(_))).count();
    assert_eq!(others, 6);
}

/// One bad record loses nothing else.
#[test]
fn a_bad_record_loses_nothing_else() {
    let good = linux_event(0x10, WORDS);
    let lying = good.replacen("event 0x10", "event 0x04", 1);
    let log = format!("{good}{lying}{good}");
    let items = scan(&log);
    let found = items.iter().filter(|item| matches!(item, ScanItem::Found(_))).count();
    let broken = items.iter().filter(|item| matches!(item, ScanItem::Broken(_))).count();
    assert_eq!((found, broken), (2, 1), "{items:?}");
}

#[test]
fn a_record_has_the_time_of_the_log() {
    let log: String =
        linux_event(0x10, WORDS).lines().map(|line| format!("[   55.123456] {line}\n")).collect();
    assert_eq!(found(&log)[0].time, "55.123456");
    assert_eq!(found(&linux_event(0x10, WORDS))[0].time, "");
}
