//! SmmuDxe, the driver of EDK2 and Project Mu.

use smmu_types::fields;

use crate::formats::pending::{PendingRecord, PendingRecords};
use crate::item::{FoundWords, ScanItem};
use crate::kind::StructureKind;
use crate::line::LogLine;
use crate::text::{hex, part, pattern};

pattern!(EVENT, r"SmmuV3LogErrors: (?P<base>[0-9a-fA-F]+) FaultRecord:");
pattern!(GERROR, r"SmmuV3LogErrors: (?P<base>[0-9a-fA-F]+) GError: (?P<value>0x[0-9a-fA-F]+)");

const SOURCE: &str = "SmmuDxe";

/// Takes one line; returns whether it is one of SmmuDxe's.
pub(crate) fn line(
    waiting: &mut PendingRecords,
    line: &LogLine,
    text: &str,
    out: &mut Vec<ScanItem>,
) -> bool {
    if !text.contains("SmmuV3LogErrors") {
        return false;
    }
    if let Some(captures) = EVENT.captures(text) {
        let mut pending = PendingRecord::event(SOURCE, String::new(), line.number);
        pending.about = format!("SMMU at 0x{}", part(&captures, "base"));
        pending.smmu.clone_from(&pending.about);
        waiting.announce(pending, line, out);
        return true;
    }
    let Some(captures) = GERROR.captures(text) else { return false };
    let Some((_, layout)) = fields::register_by_name("GERROR") else { return false };
    let about = format!("SMMU at 0x{}", part(&captures, "base"));
    let words = vec![hex(&captures, "value").unwrap_or(0)];
    let kind = StructureKind::Register(layout);
    out.push(ScanItem::Found(FoundWords::new(kind, words, line.number, SOURCE, &about).of(&about)));
    true
}
