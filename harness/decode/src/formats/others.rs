//! FreeBSD, Project Mu's and EDK2's SmmuDxe, Bao.

use smmu_types::fields;

use super::super::kind::Kind;
use super::super::words::Width;
use super::line::Line;
use super::pending::{Pending, Waiting, number_of};
use super::{Found, Item, hex, pattern};

pattern!(BSD_EVENT, r"(?P<who>smmu\d+): Event (?P<name>\w+)(?: \([^)]*\))? received");
pattern!(BSD_SID, r"(?P<who>smmu\d+): SID [0-9a-f]+, Input Address: [0-9a-f]+");
pattern!(
    BSD_WORD,
    r"(?:(?P<who>smmu\d+): )?(?P<what>evt|ste|cd)\[(?P<n>\d+)\] (?:== )?(?P<word>[0-9a-f]{1,16})\s*$"
);
pattern!(BSD_L1, r"(?P<who>smmu\d+): L1 ste == (?P<word>[0-9a-f]{1,16})\s*$");
pattern!(MU_EVENT, r"SmmuV3LogErrors: (?P<base>[0-9a-fA-F]+) FaultRecord:");
pattern!(MU_GERROR, r"SmmuV3LogErrors: (?P<base>[0-9a-fA-F]+) GError: (?P<value>0x[0-9a-fA-F]+)");
pattern!(
    BAO,
    r"smmuv3 FAULT: type=(?P<id>0x[0-9a-fA-F]+) stream=\d+ addr=(?P<addr>0x[0-9a-fA-F]+) \[(?P<w0>[0-9a-fA-F]+) (?P<w1>[0-9a-fA-F]+)\]"
);

pattern!(
    BAO_TIMEOUT,
    r"smmuv3: CMD_SYNC timed out \(CONS=(?P<cons>0x[0-9a-fA-F]+) PROD=(?P<prod>0x[0-9a-fA-F]+)\)"
);
pattern!(RMM, r"CMDQ encountered error: (?P<code>CERROR_(?:ILL|ABT|ATC_INV_SYNC))");
pattern!(BSD_NOTE, r"^(?P<who>smmu\d+): (?P<what>SMMU Global Error|Failed to sync)\s*$");

/// Look at one line; says whether it is one of these.
pub(super) fn line(waiting: &mut Waiting, line: &Line, text: &str, out: &mut Vec<Item>) -> bool {
    let number = line.number;
    if let Some(captures) = BSD_WORD.captures(text) {
        return freebsd_word(waiting, line, &captures, out);
    }
    let part = |captures: &regex::Captures<'_>, name: &str| {
        captures.name(name).map_or_else(String::new, |found| found.as_str().to_owned())
    };
    if let Some(captures) = BSD_EVENT.captures(text) {
        let mut pending = freebsd(&part(&captures, "who"), "evt", number);
        let name = part(&captures, "name");
        pending.said = number_of(&name).or_else(|| {
            name.strip_prefix("0x").and_then(|digits| u8::from_str_radix(digits, 16).ok())
        });
        waiting.announce(pending, line, out);
        return true;
    }
    if let Some(captures) = BSD_SID.captures(text) {
        return waiting.attach(&format!("{} evt", part(&captures, "who")), line);
    }
    let found = |kind, words, source, about: &str| {
        Item::Found(Found::new(kind, words, number, source, about))
    };
    if let Some(captures) = BSD_L1.captures(text) {
        let word = hex(&captures, "word").unwrap_or(0);
        let who = part(&captures, "who");
        out.push(found(Kind::StreamDescriptor, vec![word], "FreeBSD", &who));
    } else if let Some(captures) = MU_EVENT.captures(text) {
        let mut pending = Pending::event("SmmuDxe", String::new(), number);
        pending.about = format!("SMMU at 0x{}", part(&captures, "base"));
        waiting.announce(pending, line, out);
    } else if let Some(captures) = MU_GERROR.captures(text) {
        let Some((_, layout)) = fields::register_by_name("GERROR") else { return false };
        let about = format!("SMMU at 0x{}", part(&captures, "base"));
        let value = hex(&captures, "value").unwrap_or(0);
        out.push(found(Kind::Register(layout), vec![value], "SmmuDxe", &about));
    } else if let Some(captures) = BAO.captures(text) {
        let word = |name: &str| hex(&captures, name).unwrap_or(0);
        let words = vec![word("w0"), word("w1"), word("addr"), 0];
        let mut found =
            Found::new(Kind::Event, words, number, "Bao", "the last word is not printed");
        found.known = 3;
        out.push(Item::Found(found));
    } else if let Some(captures) = BAO_TIMEOUT.captures(text) {
        let word = |name: &str| hex(&captures, name).unwrap_or(0);
        out.push(found(Kind::Queue, vec![word("prod"), word("cons")], "Bao", "CMD_SYNC timed out"));
    } else if let Some(captures) = RMM.captures(text) {
        let text = format!("the command queue stopped with {}", part(&captures, "code"));
        out.push(Item::Note { line: number, source: "TF-RMM", text });
    } else if let Some(captures) = BSD_NOTE.captures(text) {
        let text = match part(&captures, "what").as_str() {
            "Failed to sync" => "a CMD_SYNC did not complete in time; look at GERROR and CMDQ_CONS",
            _ => "a global error; look at GERROR and GERRORN, which are not printed",
        };
        out.push(Item::Note { line: number, source: "FreeBSD", text: text.to_owned() });
    } else {
        return false;
    }
    true
}

/// An event is 8 words of 32 bits, an STE and a CD 8 of 64.
fn freebsd(who: &str, what: &str, line: usize) -> Pending {
    let mut pending = Pending::event("FreeBSD", format!("{who} {what}"), line);
    pending.about = who.to_owned();
    pending.want = 8;
    match what {
        "evt" => pending.width = Width::Bits32,
        "ste" => (pending.what, pending.kind) = ("an STE", Kind::Ste),
        _ => (pending.what, pending.kind) = ("a CD", Kind::Cd),
    }
    pending
}

fn freebsd_word(
    waiting: &mut Waiting,
    line: &Line,
    captures: &regex::Captures<'_>,
    out: &mut Vec<Item>,
) -> bool {
    let part = |name: &str| captures.name(name).map_or("", |found| found.as_str());
    let sender = format!("{} {}", part("who"), part("what"));
    let index = part("n").parse().unwrap_or(usize::MAX);
    let value = hex(captures, "word").unwrap_or(0);
    // STEs and CDs have no headline: their first word begins them.
    if index == 0 && part("what") != "evt" {
        waiting.begin(freebsd(part("who"), part("what"), line.number), out);
    }
    waiting.words_of(&sender) == Some(index) && waiting.take(&sender, value, line, out)
}
