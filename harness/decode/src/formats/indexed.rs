//! Words with their index: `STE[0] = 0x...`, one or several on a line.

use crate::formats::pending::{PendingRecord, PendingRecords};
use crate::item::ScanItem;
use crate::kind::StructureKind;
use crate::line::LogLine;
use crate::text::{hex, part, pattern};

pattern!(
    WORD,
    r"(?i)\b(?P<what>ste|cd|cmd|command|evt|event)\[(?P<n>\d{1,2})\]\s*[:=]{1,2}\s*(?P<word>0x[0-9a-f]{1,16}|[0-9a-f]{16})\b"
);

/// The ends of the names before an index.
const KEYS: [&str; 12] =
    ["te[", "TE[", "cd[", "CD[", "md[", "MD[", "nd[", "ND[", "vt[", "VT[", "nt[", "NT["];

/// Takes one line; returns whether it has indexed words.
pub(crate) fn line(
    waiting: &mut PendingRecords,
    line: &LogLine,
    text: &str,
    out: &mut Vec<ScanItem>,
) -> bool {
    // A search for a word is much faster than the pattern.
    if !KEYS.iter().any(|key| text.contains(key)) {
        return false;
    }
    let mut taken = false;
    for captures in WORD.captures_iter(text) {
        let Some(kind) = StructureKind::from_name(part(&captures, "what")) else { continue };
        let index: usize = part(&captures, "n").parse().unwrap_or(usize::MAX);
        let sender = format!("indexed {}", kind.name());
        if index == 0 {
            let mut pending = PendingRecord::event("", sender.clone(), line.number);
            pending.kind = kind;
            pending.want = kind.words().unwrap_or(1);
            pending.what = match kind {
                StructureKind::Ste => "an STE",
                StructureKind::Cd => "a CD",
                StructureKind::Command => "a command",
                _ => "an event record",
            };
            waiting.begin(pending, out);
        }
        if waiting.words_of(&sender) == Some(index) {
            let value = hex(&captures, "word").unwrap_or(0);
            taken |= waiting.take_of(&sender, value, line, !taken, out);
        }
    }
    taken
}
