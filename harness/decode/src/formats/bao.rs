//! The Bao hypervisor: faults, and `CMD_SYNC`s that time out.

use crate::item::{FoundWords, ScanItem};
use crate::kind::StructureKind;
use crate::text::{hex, pattern};

pattern!(
    FAULT,
    r"smmuv3 FAULT: type=(?P<id>0x[0-9a-fA-F]+) stream=\d+ addr=(?P<addr>0x[0-9a-fA-F]+) \[(?P<w0>[0-9a-fA-F]+) (?P<w1>[0-9a-fA-F]+)\]"
);
pattern!(
    TIMEOUT,
    r"smmuv3: CMD_SYNC timed out \(CONS=(?P<cons>0x[0-9a-fA-F]+) PROD=(?P<prod>0x[0-9a-fA-F]+)\)"
);

const SOURCE: &str = "Bao";

/// Takes one line; returns whether it is one of Bao's.
pub(crate) fn line(number: usize, text: &str, out: &mut Vec<ScanItem>) -> bool {
    if !text.contains("smmuv3") {
        return false;
    }
    if let Some(captures) = FAULT.captures(text) {
        let word = |name| hex(&captures, name).unwrap_or(0);
        let words = vec![word("w0"), word("w1"), word("addr"), 0];
        let about = "the last word is not printed";
        let mut found = FoundWords::new(StructureKind::Event, words, number, SOURCE, about);
        found.known = 3;
        out.push(ScanItem::Found(found));
        return true;
    }
    let Some(captures) = TIMEOUT.captures(text) else { return false };
    let word = |name| hex(&captures, name).unwrap_or(0);
    let words = vec![word("prod"), word("cons")];
    out.push(ScanItem::Found(FoundWords::new(
        StructureKind::Queue,
        words,
        number,
        SOURCE,
        "CMD_SYNC timed out",
    )));
    true
}
