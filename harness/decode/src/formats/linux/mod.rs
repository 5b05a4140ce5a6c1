//! Linux's `arm-smmu-v3`, and drivers with the same messages (Xen, small hypervisors).

mod messages;
mod senders;

use smmu_types::{EventKind, EventRecord, StreamId, fields};

use crate::formats::pending::{PendingRecord, PendingRecords};
use crate::item::{FoundWords, LogSays, NoteSays, ScanItem, trouble};
use crate::kind::StructureKind;
use crate::line::LogLine;
use crate::text::{hex, part, partial_event, pattern};

use messages::Message;
use senders::Described;
pub(crate) use senders::LinuxSenders;

/// The source of a record. Xen's driver is an old version of Linux's.
fn source(text: &str) -> &'static str {
    if text.contains("(XEN)") { "Xen" } else { "Linux" }
}

/// What the format did with a line.
enum LinuxLine {
    /// The line is of another format.
    No,
    /// The line is complete.
    Done,
    /// Words follow.
    Begins(PendingRecord),
}

/// A structure of a sender.
fn found(
    kind: StructureKind,
    words: Vec<u64>,
    line: usize,
    text: &str,
    sender: &str,
    about: &str,
) -> ScanItem {
    ScanItem::Found(FoundWords::new(kind, words, line, source(text), about).of(device(sender)))
}

/// Whether the sender is the driver of an SMMU.
fn is_smmu(sender: &str) -> bool {
    sender.starts_with("arm-smmu-v3 ") || sender.starts_with("SMMUv3: ")
}

/// The text behind time stamps, priorities and quotation marks at the beginning of a line.
fn behind_marks(text: &str) -> &str {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c == '>' || c.is_whitespace());
        let close = match rest.chars().next() {
            Some('<') => '>',
            Some('[') => ']',
            Some('(') => ')',
            _ => return rest,
        };
        let Some((mark, behind)) = rest.split_once(close) else { return rest };
        let number = mark.get(1..).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        if close == '>' && (!number || mark.len() < 2) {
            return rest;
        }
        rest = behind;
    }
}

/// The sender of a line: the last two words before the message, without time stamps.
fn sender(before: &str) -> String {
    let rest = behind_marks(before);
    // Glued marks, as in `[pid:134,cpu0]arm-smmu-v3 ...`.
    let rest = rest.rsplit(']').next().unwrap_or(rest);
    let words: Vec<&str> = rest.trim().trim_end_matches(':').split_whitespace().collect();
    words.get(words.len().saturating_sub(2)..).unwrap_or_default().join(" ")
}

// A mail program put a blank into the word.
pattern!(
    TORN,
    r"^(?P<before>.*:)\s*0[xX](?P<word>[0-9a-fA-F]{1,15})[ \t]+(?P<rest>[0-9a-fA-F]{1,15})\s*$"
);

/// The sender and the value of a line that is one word.
fn word_of(text: &str) -> Option<(String, u64)> {
    let text = text.trim_end();
    if !text.ends_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let at =
        text.rfind(['x', 'X']).filter(|at| text.get(..*at).is_some_and(|t| t.ends_with('0')))?;
    let (before, digits) = (text.get(..at - 1)?, text.get(at + 1..)?);
    if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && (1..=16).contains(&digits.len()) {
        let sender = sender(before);
        let bare = sender.is_empty() || before.trim_end().ends_with(':');
        return bare.then(|| Some((sender, u64::from_str_radix(digits, 16).ok()?)))?;
    }
    let captures = TORN.captures(text)?;
    let digits = format!("{}{}", part(&captures, "word"), part(&captures, "rest"));
    let value = u64::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 16)?;
    Some((sender(part(&captures, "before")), value))
}

pattern!(MARK, r"\[[^\]]*\]");
pattern!(
    EVENT,
    r"^(?P<before>.*?)\bevent (?P<id>0[xX][0-9a-fA-F]{1,2})(?P<received> received)?:?(?P<rest>.*)$"
);
pattern!(
    NAMED,
    r"^(?P<before>.*?)\bevent: (?P<name>\w+) client: (?P<client>\(unassigned sid\)|\S+) sid: (?P<sid>\w+) ssid: (?P<ssid>\w+)(?: iova: (?P<iova>\w+) ipa: (?P<ipa>\w+)| fetch_addr: (?P<fetch>\w+))?"
);
pattern!(
    ACCESS,
    r#"^(?P<before>.*?)\b(?P<priv>priv|unpriv) (?P<ind>inst|data) (?P<rw>read|write) (?P<stage>s1|s2) "(?P<class>[^"]*)"(?P<ttd> ttd_read| ttd_write)?(?P<stall> stall)? stag: (?P<stag>\w+)"#
);
pattern!(CONS, r"^(?P<before>.*?)\bCMDQ error \(cons (?P<cons>0x[0-9a-fA-F]+)\)");
pattern!(SKIPPING, r"^(?P<before>.*?)\bskipping command in error state");
pattern!(
    GERROR,
    r"^(?P<before>.*?)\bunexpected global error reported \((?P<active>0x[0-9a-fA-F]+)\)"
);
pattern!(
    TIMEOUT,
    r"^(?P<before>.*?)\bCMD_SYNC timeout at (?P<prod>0x[0-9a-fA-F]+)(?: 0x[0-9a-fA-F]+)? \[hwprod (?P<hwprod>0x[0-9a-fA-F]+), hwcons (?P<hwcons>0x[0-9a-fA-F]+)\]"
);
pattern!(ALLOCATED, r"^(?P<before>.*?)\ballocated (?P<entries>\d+) entries for cmdq");
pattern!(
    PRI,
    r"^(?P<before>.*?)\bsid (?P<sid>0x[0-9a-fA-F]+)\.(?P<ssid>0x[0-9a-fA-F]+): \[(?P<group>\d+)(?P<last>L?)\] (?P<un>un)?privileged (?P<access>[RWX]*) access at iova (?P<iova>0x[0-9a-fA-F]+)"
);
pattern!(
    TEGRA,
    r"^(?P<before>.*?)\bGERRORN=(?P<gerrorn>0x[0-9a-fA-F]+), GERROR=(?P<gerror>0x[0-9a-fA-F]+), CONS=(?P<cons>0x[0-9a-fA-F]+)"
);

/// Takes one line; returns whether it is one of these.
pub(crate) fn line(
    state: &mut LinuxSenders,
    waiting: &mut PendingRecords,
    line: &LogLine,
    text: &str,
    out: &mut Vec<ScanItem>,
) -> bool {
    if word(state, waiting, line, text, out) {
        return true;
    }
    match headline(state, line.number, text, out) {
        LinuxLine::No => false,
        LinuxLine::Done => true,
        LinuxLine::Begins(pending) => {
            waiting.announce(pending, line, out);
            true
        }
    }
}

/// Takes a line that is one word of a record.
fn word(
    state: &mut LinuxSenders,
    waiting: &mut PendingRecords,
    line: &LogLine,
    text: &str,
    out: &mut Vec<ScanItem>,
) -> bool {
    let Some((sender, value)) = word_of(text) else { return false };
    if waiting.take(&sender, value, line, out) {
        state.dumped(&sender, out);
        return true;
    }
    if is_smmu(&sender) {
        waiting.begin(headless(&sender, line.number), out);
        return waiting.take(&sender, value, line, out);
    }
    false
}

/// Words of an SMMU without their headline.
fn headless(sender: &str, line: usize) -> PendingRecord {
    let mut pending = PendingRecord::event("Linux", sender.to_owned(), line);
    pending.about = about(device(sender), "no headline");
    pending.smmu = device(sender).to_owned();
    pending.what = "a record without a headline";
    pending.headless = true;
    pending
}

/// One of these is in every line that a pattern takes.
const KEYS: &[&str] = &[
    "event 0",
    "event: ",
    " stag: ",
    "CMDQ error",
    "skipping command",
    "global error reported",
    "SYNC timeout at",
    "entries for cmdq",
    "access at iova",
    "GERRORN=",
];

fn headline(
    state: &mut LinuxSenders,
    number: usize,
    text: &str,
    out: &mut Vec<ScanItem>,
) -> LinuxLine {
    // A search for a word is much faster than a pattern, and most lines of a log have none.
    if !KEYS.iter().any(|key| text.contains(key)) {
        return plain(number, text, out);
    }
    if text.to_ascii_lowercase().contains("ummu ") {
        return LinuxLine::No;
    }
    if let Some(captures) = ACCESS.captures(text) {
        return second_line(state, number, text, &captures, out);
    }
    if let Some(captures) = EVENT.captures(text) {
        return event(state, number, text, &captures, out);
    }
    if let Some(captures) = NAMED.captures(text) {
        return named(state, number, text, &captures, out);
    }
    registers(state, number, text, out).unwrap_or_else(|| plain(number, text, out))
}

fn before(captures: &regex::Captures<'_>) -> String {
    sender(part(captures, "before"))
}

/// The device in a sender.
fn device(sender: &str) -> &str {
    sender.rsplit(' ').next().unwrap_or(sender).trim_end_matches(':')
}

/// A device and what its words are. A line without a device names none.
fn about(device: &str, what: &str) -> String {
    if device.is_empty() { what.to_owned() } else { format!("{device}, {what}") }
}

fn event(
    state: &mut LinuxSenders,
    number: usize,
    text: &str,
    captures: &regex::Captures<'_>,
    out: &mut Vec<ScanItem>,
) -> LinuxLine {
    let sender = before(captures);
    // Some drivers print the whole record on one line.
    let rest = part(captures, "rest");
    let words: Vec<u64> = MARK
        .replace_all(rest, " ")
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter_map(|token| token.strip_prefix("0x").or_else(|| token.strip_prefix("0X")))
        .filter_map(|digits| u64::from_str_radix(digits, 16).ok())
        .collect();
    if let [a, b, c, d] = words[..] {
        let words = vec![a, b, c, d];
        out.push(found(StructureKind::Event, words, number, text, &sender, device(&sender)));
        state.dumped(&sender, out);
        return LinuxLine::Done;
    }
    if captures.name("received").is_none() {
        return LinuxLine::No;
    }
    let mut pending = PendingRecord::event(source(text), sender, number);
    // Other drivers print events too.
    pending.quiet = !text.to_ascii_lowercase().contains("smmu");
    pending.said = hex(captures, "id").map(|id| id as u8);
    pending.smmu = device(&pending.sender).to_owned();
    let stream = rest.trim().trim_matches(['[', ']', '(', ')']);
    pending.about = format!("{} {stream}", device(&pending.sender)).trim_end().to_owned();
    LinuxLine::Begins(pending)
}

fn named(
    state: &mut LinuxSenders,
    number: usize,
    text: &str,
    captures: &regex::Captures<'_>,
    out: &mut Vec<ScanItem>,
) -> LinuxLine {
    let part = |name| part(captures, name);
    let (name, client) = (part("name"), part("client"));
    let name_of_sender = before(captures);
    let sid = hex(captures, "sid").unwrap_or(0);
    let known = if client == "(unassigned sid)" { "" } else { client };
    let whose = match known {
        "" => format!("no device of this system has StreamID {sid:#x}"),
        client => format!("StreamID {sid:#x} is device {client}"),
    };
    let kind = EventKind::from_name(name);
    let iova = hex(captures, "iova");
    let mut notes = Vec::new();
    let sender = state.of(&name_of_sender, &mut notes);
    out.append(&mut notes);
    sender.described.take().into_iter().for_each(|described| described.note(out));
    let again = sender.dumped.take_if(|record| {
        u64::from(record.stream().0) == sid
            && kind.is_none_or(|kind| kind == record.kind())
            && iova.is_none_or(|iova| iova == record.address().0)
    });
    let faults = kind.is_some_and(EventKind::is_translation_fault);
    sender.half_said = again.is_some() && faults;
    let record = if again.is_none() { partial_event(name, sid, iova) } else { None };
    let Some(mut record) = record else {
        let says = NoteSays::Device {
            smmu: device(&name_of_sender).to_owned(),
            stream: StreamId(sid as u32),
            name: known.to_owned(),
        };
        out.push(ScanItem::note(number, source(text), whose, says));
        return LinuxLine::Done;
    };
    if let Some(ssid @ 1..) = hex(captures, "ssid") {
        record.0[0] |= 1 << 11 | (ssid & 0xf_ffff) << 12;
    }
    if let Some(address) = hex(captures, "fetch").or_else(|| hex(captures, "ipa")) {
        record.0[3] = address;
    }
    let who = format!("{} {client}", device(&name_of_sender));
    let about = about(who.trim(), "as far as the text says");
    if faults {
        let (smmu, device) = (device(&name_of_sender).to_owned(), known.to_owned());
        sender.described = Some(Described { record, line: number, about, smmu, device });
    } else {
        let words = record.0.to_vec();
        let found = FoundWords::new(StructureKind::Event, words, number, source(text), &about);
        let found = FoundWords { device: known.to_owned(), ..found };
        out.push(ScanItem::Found(found.of(device(&name_of_sender))));
    }
    LinuxLine::Done
}

/// The second line of a description.
fn second_line(
    state: &mut LinuxSenders,
    number: usize,
    text: &str,
    captures: &regex::Captures<'_>,
    out: &mut Vec<ScanItem>,
) -> LinuxLine {
    let mut notes = Vec::new();
    let sender = state.of(&before(captures), &mut notes);
    out.append(&mut notes);
    if let Some(described) = sender.described.take() {
        let words = access(described.record, captures).0.to_vec();
        let mut found = FoundWords::new(
            StructureKind::Event,
            words,
            described.line,
            source(text),
            &described.about,
        )
        .of(device(&before(captures)));
        found.device = described.device;
        found.lines.push(number);
        out.push(ScanItem::Found(found));
        return LinuxLine::Done;
    }
    if std::mem::take(&mut sender.half_said) {
        out.push(ScanItem::Again { line: number });
        return LinuxLine::Done;
    }
    LinuxLine::No
}

/// The record with what the second line of a description says.
fn access(mut record: EventRecord, captures: &regex::Captures<'_>) -> EventRecord {
    let is = |name: &str, text: &str| captures.name(name).is_some_and(|m| m.as_str() == text);
    let class = part(captures, "class");
    let class = match class {
        "CD fetch" => 0,
        "Stage 1 translation table fetch" => 1,
        "Input address caused fault" => 2,
        _ => 3,
    };
    let flags = [
        (31, captures.name("stall").is_some()),
        (33, is("priv", "priv")),
        (34, is("ind", "inst")),
        (35, is("rw", "read")),
        (39, is("stage", "s2")),
        (44, record.kind() == EventKind::F_PERMISSION && is("ttd", " ttd_read")),
    ];
    record.0[1] |= hex(captures, "stag").unwrap_or(0) & 0xffff | class << 40;
    for (bit, set) in flags {
        record.0[1] |= u64::from(set) << bit;
    }
    record
}

fn registers(
    state: &mut LinuxSenders,
    number: usize,
    text: &str,
    out: &mut Vec<ScanItem>,
) -> Option<LinuxLine> {
    let mut register = |name: &str, value: u64, about: &str, smmu: &str, says: LogSays| {
        if let Some((_, layout)) = fields::register_by_name(name) {
            let kind = StructureKind::Register(layout);
            let found = FoundWords::new(kind, vec![value], number, source(text), about).of(smmu);
            out.push(ScanItem::Found(FoundWords { says, ..found }));
        }
    };
    if let Some(captures) = CONS.captures(text) {
        let sender = before(&captures);
        let smmu = device(&sender);
        register("CMDQ_CONS", hex(&captures, "cons")?, smmu, smmu, LogSays::ActiveError);
    } else if let Some(captures) = GERROR.captures(text) {
        let sender = before(&captures);
        let smmu = device(&sender);
        let about = about(smmu, "the active bits");
        register("GERROR", hex(&captures, "active")?, &about, smmu, LogSays::ActiveBits);
    } else if let Some(captures) = TEGRA.captures(text) {
        let sender = before(&captures);
        let smmu = device(&sender);
        let (gerrorn, gerror) = (hex(&captures, "gerrorn")?, hex(&captures, "gerror")?);
        register("GERRORN", gerrorn, smmu, smmu, LogSays::Nothing);
        register("GERROR", gerror, smmu, smmu, LogSays::Nothing);
        let active = (gerror ^ gerrorn) & 1 != 0;
        let says = if active { LogSays::ActiveError } else { LogSays::Nothing };
        register("CMDQ_CONS", hex(&captures, "cons")?, smmu, smmu, says);
    } else if let Some(captures) = TIMEOUT.captures(text) {
        let sender = before(&captures);
        let mut words = vec![hex(&captures, "hwprod")?, hex(&captures, "hwcons")?];
        let mut notes = Vec::new();
        words.extend(state.of(&sender, &mut notes).queue);
        out.append(&mut notes);
        let waited = hex(&captures, "prod")?;
        let smmu = device(&sender);
        let about = about(smmu, &format!("CMD_SYNC timeout at {waited:#x}"));
        let found = FoundWords::new(StructureKind::Queue, words, number, source(text), &about);
        let says = LogSays::SyncTimeout { at: waited as u32 };
        out.push(ScanItem::Found(FoundWords { says, ..found.of(smmu) }));
    } else if let Some(captures) = ALLOCATED.captures(text) {
        let entries: u64 = captures.name("entries")?.as_str().parse().ok()?;
        let log2 = entries.is_power_of_two().then(|| u64::from(entries.ilog2()));
        let mut notes = Vec::new();
        state.of(&before(&captures), &mut notes).queue = log2;
        out.append(&mut notes);
        return Some(LinuxLine::No);
    } else if let Some(captures) = PRI.captures(text) {
        let is = |name: &str, letter: char| {
            u64::from(captures.name(name).is_some_and(|m| m.as_str().contains(letter)))
        };
        let ssid = hex(&captures, "ssid")?;
        let first = hex(&captures, "sid")? & 0xffff_ffff
            | (ssid & 0xf_ffff) << 32
            | (1 - is("un", 'u')) << 58
            | is("access", 'X') << 59
            | is("access", 'R') << 60
            | is("access", 'W') << 61
            | is("last", 'L') << 62
            | u64::from(ssid != 0) << 63;
        let group: u64 = captures.name("group")?.as_str().parse().ok()?;
        let words = vec![first, hex(&captures, "iova")? & !0xfff | group & 0x1ff];
        let sender = before(&captures);
        out.push(found(StructureKind::Pri, words, number, text, &sender, device(&sender)));
    } else if let Some(captures) = SKIPPING.captures(text) {
        let mut pending = PendingRecord::event(source(text), before(&captures), number);
        pending.about = about(device(&pending.sender), "the illegal command");
        pending.smmu = device(&pending.sender).to_owned();
        (pending.what, pending.kind, pending.want) = ("a command", StructureKind::Command, 2);
        pending.says = LogSays::Refused;
        return Some(LinuxLine::Begins(pending));
    } else {
        return None;
    }
    Some(LinuxLine::Done)
}

fn plain(number: usize, text: &str, out: &mut Vec<ScanItem>) -> LinuxLine {
    let of_smmu = ["smmu", "SMMU"].into_iter().any(|name| text.contains(name))
        && !text.to_ascii_lowercase().contains("ummu ");
    if !of_smmu {
        return LinuxLine::No;
    }
    match messages::meaning(text) {
        Some(Message { text: meaning, trouble_at }) => {
            let says = trouble_at.map_or(NoteSays::Nothing, |at| {
                let sender = sender(text.get(..at).unwrap_or_default());
                trouble(if is_smmu(&sender) { device(&sender) } else { "" })
            });
            out.push(ScanItem::note(number, source(text), meaning, says));
            LinuxLine::Done
        }
        None => LinuxLine::No,
    }
}
