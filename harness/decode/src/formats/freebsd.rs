//! FreeBSD's `smmu` driver: events with their 32-bit words, the STE, the level-1 descriptor, CDs.

use crate::formats::pending::{PendingRecord, PendingRecords};
use crate::item::{FoundWords, ScanItem, trouble};
use crate::kind::StructureKind;
use crate::line::LogLine;
use crate::text::{hex, number_of, part, pattern};
use crate::words::WordWidth;

pattern!(EVENT, r"(?P<who>smmu\d+): Event (?P<name>\w+)(?: \([^)]*\))? received");
pattern!(SID, r"(?P<who>smmu\d+): SID [0-9a-f]+, Input Address: [0-9a-f]+");
pattern!(
    WORD,
    r"(?:(?P<who>smmu\d+): )?(?P<what>evt|ste|cd)\[(?P<n>\d+)\] (?:== )?(?P<word>[0-9a-f]{1,16})\s*$"
);
pattern!(L1, r"(?P<who>smmu\d+): L1 ste == (?P<word>[0-9a-f]{1,16})\s*$");
pattern!(NOTE, r"^(?P<who>smmu\d+): (?P<what>SMMU Global Error|Failed to sync)\s*$");

const SOURCE: &str = "FreeBSD";

/// Takes one line; returns whether it is one of FreeBSD's.
pub(crate) fn line(
    waiting: &mut PendingRecords,
    line: &LogLine,
    text: &str,
    out: &mut Vec<ScanItem>,
) -> bool {
    let number = line.number;
    if !["smmu", "evt[", "ste[", "cd["].into_iter().any(|key| text.contains(key)) {
        return false;
    }
    if let Some(captures) = WORD.captures(text) {
        return word(waiting, line, &captures, out);
    }
    if let Some(captures) = EVENT.captures(text) {
        let mut pending = record(part(&captures, "who"), "evt", number);
        let name = part(&captures, "name");
        pending.said = number_of(name).or_else(|| {
            name.strip_prefix("0x").and_then(|digits| u8::from_str_radix(digits, 16).ok())
        });
        waiting.announce(pending, line, out);
        return true;
    }
    if let Some(captures) = SID.captures(text) {
        return waiting.attach(&format!("{} evt", part(&captures, "who")), line);
    }
    if let Some(captures) = L1.captures(text) {
        let words = vec![hex(&captures, "word").unwrap_or(0)];
        let who = part(&captures, "who");
        let found =
            FoundWords::new(StructureKind::StreamDescriptor, words, number, SOURCE, who).of(who);
        out.push(ScanItem::Found(found));
        return true;
    }
    if let Some(captures) = NOTE.captures(text) {
        let text = match part(&captures, "what") {
            "Failed to sync" => "a CMD_SYNC did not complete in time; look at GERROR and CMDQ_CONS",
            _ => "a global error; look at GERROR and GERRORN, which are not printed",
        };
        out.push(ScanItem::note(number, SOURCE, text, trouble(part(&captures, "who"))));
        return true;
    }
    false
}

/// An event is 8 words of 32 bits, an STE and a CD 8 of 64.
fn record(who: &str, what: &str, line: usize) -> PendingRecord {
    let mut pending = PendingRecord::event(SOURCE, format!("{who} {what}"), line);
    pending.about = who.to_owned();
    pending.smmu = who.to_owned();
    pending.want = 8;
    match what {
        "evt" => pending.width = WordWidth::Bits32,
        "ste" => (pending.what, pending.kind) = ("an STE", StructureKind::Ste),
        _ => (pending.what, pending.kind) = ("a CD", StructureKind::Cd),
    }
    pending
}

fn word(
    waiting: &mut PendingRecords,
    line: &LogLine,
    captures: &regex::Captures<'_>,
    out: &mut Vec<ScanItem>,
) -> bool {
    let part = |name| part(captures, name);
    let sender = format!("{} {}", part("who"), part("what"));
    let index = part("n").parse().unwrap_or(usize::MAX);
    let value = hex(captures, "word").unwrap_or(0);
    // STEs and CDs have no headline: their first word begins them.
    if index == 0 && part("what") != "evt" {
        waiting.begin(record(part("who"), part("what"), line.number), out);
    }
    waiting.words_of(&sender) == Some(index) && waiting.take(&sender, value, line, out)
}
