//! FreeBSD, Project Mu's and EDK2's SmmuDxe, Bao.

use std::collections::VecDeque;

use smmu_types::fields;

use super::super::kind::Kind;
use super::super::words::Width;
use super::{Found, Item, Pending, hex, pattern};

/// What became of a line.
pub(super) enum Line {
    /// It is not one of these.
    No,
    /// It is dealt with.
    Done,
    /// Words will follow.
    Begins(Pending),
}

pattern!(BSD_EVENT, r"(?P<who>smmu\d+): Event (?P<name>\w+)(?: \([^)]*\))? received");
pattern!(BSD_SID, r"smmu\d+: SID [0-9a-f]+, Input Address: [0-9a-f]+");
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

/// Look at one line.
pub(super) fn line(
    pending: &mut VecDeque<Pending>,
    number: usize,
    text: &str,
    out: &mut Vec<Item>,
) -> Line {
    if let Some(captures) = BSD_WORD.captures(text) {
        return freebsd_word(pending, number, text, &captures, out);
    }
    if let Some(captures) = BSD_EVENT.captures(text) {
        let who = captures.name("who").map_or("", |who| who.as_str());
        return Line::Begins(freebsd(who, "evt", number));
    }
    if BSD_SID.is_match(text) {
        return Line::Done;
    }
    let found = |kind, words, source, about: String| {
        Item::Found(Found { kind, words, line: number, source, about })
    };
    if let Some(captures) = BSD_L1.captures(text) {
        let who = captures.name("who").map_or("", |who| who.as_str());
        let word = hex(&captures, "word").unwrap_or(0);
        out.push(found(Kind::StreamDescriptor, vec![word], "FreeBSD", who.to_owned()));
        return Line::Done;
    }
    if let Some(captures) = MU_EVENT.captures(text) {
        let base = captures.name("base").map_or("", |base| base.as_str());
        return Line::Begins(Pending {
            what: "an event record",
            kind: Kind::Event,
            sender: String::new(),
            line: number,
            source: "SmmuDxe",
            about: format!("SMMU at 0x{base}"),
            said: None,
            want: 4,
            width: Width::Bits64,
            words: Vec::new(),
            lines: Vec::new(),
        });
    }
    if let Some(captures) = MU_GERROR.captures(text) {
        let base = captures.name("base").map_or("", |base| base.as_str());
        let value = hex(&captures, "value").unwrap_or(0);
        if let Some((_, layout)) = fields::register_by_name("GERROR") {
            let about = format!("SMMU at 0x{base}");
            out.push(found(Kind::Register(layout), vec![value], "SmmuDxe", about));
        }
        return Line::Done;
    }
    if let Some(captures) = BAO.captures(text) {
        let word = |name: &str| hex(&captures, name).unwrap_or(0);
        let words = vec![word("w0"), word("w1"), word("addr"), 0];
        let about = "the last word is not printed".to_owned();
        out.push(found(Kind::Event, words, "Bao", about));
        return Line::Done;
    }
    Line::No
}

/// An event is 8 words of 32 bits, an STE and a CD 8 of 64.
fn freebsd(who: &str, what: &str, line: usize) -> Pending {
    let (kind, name, width) = match what {
        "evt" => (Kind::Event, "an event record", Width::Bits32),
        "ste" => (Kind::Ste, "an STE", Width::Bits64),
        _ => (Kind::Cd, "a CD", Width::Bits64),
    };
    Pending {
        what: name,
        kind,
        sender: format!("{who} {what}"),
        line,
        source: "FreeBSD",
        about: who.to_owned(),
        said: None,
        want: 8,
        width,
        words: Vec::new(),
        lines: Vec::new(),
    }
}

fn freebsd_word(
    pending: &mut VecDeque<Pending>,
    number: usize,
    text: &str,
    captures: &regex::Captures<'_>,
    out: &mut Vec<Item>,
) -> Line {
    let part = |name: &str| captures.name(name).map_or("", |found| found.as_str());
    let sender = format!("{} {}", part("who"), part("what"));
    let index = part("n").parse().unwrap_or(usize::MAX);
    let value = hex(captures, "word").unwrap_or(0);
    let at = pending.iter().position(|p| p.source == "FreeBSD" && p.sender == sender);
    let at = match at {
        Some(at) if pending.get(at).is_some_and(|p| p.words.len() == index) => at,
        // STEs and CDs have no headline: their first word begins them.
        _ if index == 0 && part("what") != "evt" && pending.len() < super::PENDING => {
            if let Some(old) = at.and_then(|at| pending.remove(at)) {
                old.incomplete(out);
            }
            pending.push_back(freebsd(part("who"), part("what"), number));
            pending.len() - 1
        }
        _ => return Line::No,
    };
    if pending.get_mut(at).is_some_and(|p| p.take(value, number, text, out)) {
        pending.remove(at);
    }
    Line::Done
}
