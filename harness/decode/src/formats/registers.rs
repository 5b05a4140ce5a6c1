//! Registers by name on a line of a log: firmware, test suites, and drivers of vendors.

use smmu_types::fields;

use crate::item::{FoundWords, ScanItem, trouble};
use crate::kind::StructureKind;
use crate::text::{hex, part, pattern};

pattern!(
    NAMED,
    r"(?:^|[\s(,])(?P<smmu>SMMU_)?(?P<name>[A-Z][A-Z0-9_]{1,20})\s?[:=]\s*(?P<value>0[xX][0-9a-fA-F]{1,16})\b"
);
pattern!(PAIR, r"\b(?P<name>CR0|GERROR|IRQ):\[(?P<a>0x[0-9a-fA-F]+) (?P<b>0x[0-9a-fA-F]+)\]");
// Arm's compliance suites print these three lines behind a time-out.
pattern!(
    ACS,
    r"^\s*(?:ERROR:\s*)?(?P<name>prod_reg|cons_reg|gerror)\s*=\s*(?P<value>0x[0-9a-fA-F]+),?\s*$"
);
pattern!(POLL, r"\bCMDQ poll timeout at (?P<prod>0x[0-9a-fA-F]+)");
// MediaTek's driver.
pattern!(
    EVTQ_INFO,
    r"evt\{\[0\]:(?P<a>0x[0-9a-fA-F]+), \[1\]:(?P<b>0x[0-9a-fA-F]+), \[2\]:(?P<c>0x[0-9a-fA-F]+)(?:, \[3\]:(?P<d>0x[0-9a-fA-F]+))?\}"
);
pattern!(WHO, r"(?P<who>[\w.@-]+): smmu:");

fn register(
    name: &str,
    value: u64,
    line: usize,
    source: &'static str,
    smmu: &str,
) -> Option<ScanItem> {
    let (_, layout) = fields::register_by_name(name)?;
    if layout.bits() < 64 && value >> layout.bits() != 0 {
        return None;
    }
    let kind = StructureKind::Register(layout);
    Some(ScanItem::Found(FoundWords::new(kind, vec![value], line, source, smmu).of(smmu)))
}

/// Takes one line; returns whether it has registers by name.
pub(crate) fn line(number: usize, text: &str, out: &mut Vec<ScanItem>) -> bool {
    if !text.contains("0x") && !text.contains("0X") {
        return false;
    }
    if let Some(captures) = EVTQ_INFO.captures(text) {
        let word = |name| hex(&captures, name).unwrap_or(0);
        let words = vec![word("a"), word("b"), word("c"), word("d")];
        let who = WHO.captures(text).map_or("", |found| part(&found, "who"));
        let mut found =
            FoundWords::new(StructureKind::Event, words, number, "MediaTek", who).of(who);
        if captures.name("d").is_none() {
            found.known = 3;
        }
        out.push(ScanItem::Found(found));
        return true;
    }
    if let Some(captures) = POLL.captures(text) {
        let at = part(&captures, "prod");
        let text = format!(
            "the command queue did not become empty up to CMDQ_PROD {at}: compare prod_reg with cons_reg, and look at gerror and at the error in bits 30:24 of cons_reg"
        );
        out.push(ScanItem::note(number, "ACS", text, trouble("")));
        return true;
    }
    if let Some(captures) = ACS.captures(text) {
        let name = match part(&captures, "name") {
            "prod_reg" => "CMDQ_PROD",
            "cons_reg" => "CMDQ_CONS",
            _ => "GERROR",
        };
        let value = hex(&captures, "value").unwrap_or(0);
        let found = register(name, value, number, "ACS", "");
        let known = found.is_some();
        out.extend(found);
        return known;
    }
    named(number, text, out)
}

fn named(number: usize, text: &str, out: &mut Vec<ScanItem>) -> bool {
    let mut found = Vec::new();
    let mut sure = text.to_ascii_lowercase().contains("smmu");
    for captures in NAMED.captures_iter(text) {
        let value = hex(&captures, "value").unwrap_or(0);
        if let Some(register) = register(part(&captures, "name"), value, number, "", "") {
            sure |= captures.name("smmu").is_some();
            found.push((captures.get(0).map_or(0, |found| found.start()), register));
        }
    }
    for captures in PAIR.captures_iter(text) {
        let at = captures.get(0).map_or(0, |found| found.start());
        let names = match part(&captures, "name") {
            "CR0" => ["CR0", "CR0ACK"],
            "GERROR" => ["GERROR", "GERRORN"],
            _ => ["IRQ_CTRL", "IRQ_CTRLACK"],
        };
        for (name, value) in names.into_iter().zip(["a", "b"]) {
            let value = hex(&captures, value).unwrap_or(0);
            found.extend(register(name, value, number, "", "").map(|register| (at, register)));
        }
    }
    found.sort_by_key(|(at, _)| *at);
    // One name without a prefix may be of any device.
    if found.is_empty() || !sure && found.len() < 3 {
        return false;
    }
    out.extend(found.into_iter().map(|(_, register)| register));
    true
}
