//! The program of `harness/board`: events as [`EventRecord`] prints them, and why a run failed.
//!
//! [`EventRecord`]: smmu_types::EventRecord

use crate::item::{FoundWords, ScanItem, trouble};
use crate::kind::StructureKind;
use crate::text::{hex, part, partial_event, pattern};

const SOURCE: &str = "smmu-board";

pattern!(
    EVENT,
    r"\bevent: (?P<name>[CEF]_[A-Z_]+) sid=(?P<sid>0x[0-9a-f]+)(?: ssid=(?P<ssid>0x[0-9a-f]+))?(?P<rest>[^,]*)(?:, from (?P<device>.+?))?\s*$"
);
pattern!(FAIL, r#"^\s*FAIL: (?P<what>.+); step "(?P<step>[^"]*)"\s*$"#);

/// Takes one line; returns whether it is one of the program's.
pub(crate) fn line(number: usize, text: &str, out: &mut Vec<ScanItem>) -> bool {
    if text.contains("FAIL: ")
        && let Some(captures) = FAIL.captures(text)
    {
        let (what, step) = (part(&captures, "what"), part(&captures, "step"));
        let text = format!("the run stopped in step \"{step}\": {what}");
        out.push(ScanItem::note(number, SOURCE, text, trouble("")));
        return true;
    }
    if !text.contains("event: ") {
        return false;
    }
    let Some(captures) = EVENT.captures(text) else { return false };
    let (Some(sid), rest) = (hex(&captures, "sid"), part(&captures, "rest")) else { return false };
    let Some(mut record) = partial_event(part(&captures, "name"), sid, None) else { return false };
    if let Some(substream) = hex(&captures, "ssid") {
        record.0[0] |= 1 << 11 | (substream & 0xf_ffff) << 12;
    }
    // A request of ATS or a hint has more than an access; what it prints is no whole record.
    let words: Vec<&str> = rest.split_whitespace().collect();
    if words.iter().any(|word| word.starts_with("span=")) {
        return false;
    }
    let is = |wanted: &str| words.contains(&wanted);
    let value = |key: &str| {
        let found = words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix("=0x"));
        found.and_then(|digits| u64::from_str_radix(digits, 16).ok())
    };
    let class = ["CD", "TT", "IN", "reserved"].map(|class| is(&format!("class={class}")));
    let class = class.iter().position(|is_it| *is_it).unwrap_or(0) as u64;
    // 7.3: the flags are at the same place in every record that has them.
    let flags = [
        (31, is("stall")),
        (33, is("pnu=1")),
        (34, is("ind=1")),
        (35, is("read")),
        (38, is("nsipa=1")),
        (39, is("stage=2")),
        (44, is("ttrnw=read")),
    ];
    record.0[1] |= class << 40 | value("stag").or_else(|| value("reason")).unwrap_or(0) & 0xffff;
    for (bit, set) in flags {
        record.0[1] |= u64::from(set) << bit;
    }
    record.0[2] = value("iova").unwrap_or(0);
    record.0[3] = value("ipa").or_else(|| value("fetch")).unwrap_or(0);
    let device = part(&captures, "device");
    let about = if device.is_empty() {
        "as far as the text says".into()
    } else {
        format!("{device}, as far as the text says")
    };
    let found = FoundWords::new(StructureKind::Event, record.0.to_vec(), number, SOURCE, &about);
    out.push(ScanItem::Found(FoundWords { device: device.to_owned(), ..found }));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smmu_types::{EventKind, EventRecord};

    proptest! {
        /// The record of a line prints the same line.
        #[test]
        fn a_printed_event_is_read_back(kind in prop::sample::select(vec![
            EventKind::C_BAD_STREAMID, EventKind::C_BAD_STE, EventKind::C_BAD_CD,
            EventKind::F_STE_FETCH, EventKind::F_CD_FETCH, EventKind::F_TRANSLATION,
            EventKind::F_ADDR_SIZE, EventKind::F_ACCESS, EventKind::F_PERMISSION,
            EventKind::F_STREAM_DISABLED,
        ]), low: u32, w1: u64, address: u64, other: u64) {
            let low = u64::from(low) << 32 | u64::from(low) & 0xffff_f800;
            // The implementation's own bits and the fault of granule protection are left out.
            let w1 = w1 & 0x0000_17ce_8000_ffff;
            let other = other & 0x000f_ffff_ffff_f000;
            let record = EventRecord([low | u64::from(kind.0), w1, address, other]);
            let text = record.to_string();
            let mut out = Vec::new();
            let known = line(1, &format!("  event: {text}, from /pcie@10000000 00:01.0"), &mut out);
            prop_assert!(known, "{}", text);
            let Some(ScanItem::Found(found)) = out.first() else { panic!("{text}") };
            let back = EventRecord(std::array::from_fn(|n| found.words[n]));
            prop_assert_eq!(back.to_string(), text);
            prop_assert_eq!(found.device.as_str(), "/pcie@10000000 00:01.0");
        }
    }

    #[test]
    fn other_lines_are_of_other_formats() {
        for text in [
            "event: F_TRANSLATION client: x sid: 0x8",
            "event: F_NOTHING sid=0x8",
            "FAIL: x",
            "event: E_PAGE_REQUEST sid=0x8 iova=0x0 span=1",
        ] {
            assert!(!line(1, text, &mut Vec::new()), "{text}");
        }
    }
}
