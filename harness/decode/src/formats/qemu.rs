//! QEMU's trace lines (`-trace 'smmu*'`) and the messages of `-d guest_errors,unimp`.

use smmu_types::{RawCommand, fields};

use crate::advice::{command, event};
use crate::item::{FoundWords, NoteSays, ScanItem, trouble};
use crate::kind::StructureKind;
use crate::text::{hex, part, partial_event, pattern};

const SOURCE: &str = "QEMU";

pattern!(TRACE, r"^\s*(?:\d+@\d+\.\d+:)?(?P<name>smmu(?:v3)?_[a-z0-9_]+) (?P<text>.*)$");
pattern!(ILLEGAL, r"^Illegal command type: (?P<code>\d+)\s*$");
pattern!(
    MMIO,
    r"addr: (?P<at>0x[0-9a-f]+) val:\s?(?P<value>0x[0-9a-f]+) size: (?P<size>0x[0-9a-f]+)"
);
pattern!(RECORD, r"^SMMU_EVT_(?P<name>\w+) sid=(?P<sid>\w+)");
pattern!(OPCODE, r"<--- (?:SMMU_CMD_)?(?P<name>\w+)");
pattern!(
    CONSUME,
    r"^prod=(?P<prod>\d+) cons=(?P<cons>\d+) prod\.wrap=(?P<pw>\d) cons\.wrap=(?P<cw>\d)"
);
pattern!(FAILED, r"^Error on (?:SMMU_CMD_)?(?P<name>\w+) command execution: (?P<code>\d+)");
pattern!(
    GERROR,
    r"^(?P<what>toggled|acked)=(?P<bits>0x[0-9a-f]+), new (?P<name>GERRORN?)=(?P<value>0x[0-9a-f]+)"
);
pattern!(ACCEL, r"^vSID=(?P<sid>0x[0-9a-f]+) hwpt_id=\S+ ste=(?P<w1>[0-9a-f]+):(?P<w0>[0-9a-f]+)");
pattern!(TABLE, r"^(?:STE|CD) addr: (?P<at>0x[0-9a-f]+)");
pattern!(
    LEVEL,
    r"^stage=(?P<stage>\d) level=(?P<level>\d).*?\bpte@=(?P<at>0x[0-9a-f]+).*?\bpte=(?P<pte>0x[0-9a-f]+)"
);
pattern!(
    REFUSED,
    r"(?P<mr>\S+) translation failed for iova=(?P<iova>0x[0-9a-fA-F]+) \(SMMU_EVT_(?P<name>\w+)\)"
);

/// The messages of `-d`, and what they mean.
const LOGGED: &[(&str, &str)] = &[
    ("invalid STE", "C_BAD_STE: the entry has V = 0"),
    ("(L1STD span=0)", "C_BAD_STREAMID: the level-1 descriptor of this StreamID has Span = 0"),
    ("Could not read L1PTR", "F_STE_FETCH: the level-1 descriptor lies outside of memory"),
    (
        "Cannot fetch pte at address",
        "F_STE_FETCH or F_CD_FETCH: the descriptor lies outside of memory",
    ),
    ("> max_l2_ste=", "C_BAD_STREAMID: the StreamID is beyond the Span of its level-1 descriptor"),
    ("SMMUv3 bad STE S2TG", "C_BAD_STE: S2TG has a reserved value"),
    ("SMMUv3 S2TTB too large", "C_BAD_STE: S2TTB has bits beyond S2PS"),
    ("SMMUv3 bad STE S2T0SZ", "C_BAD_STE: S2T0SZ is out of range"),
    ("SMMUv3 STE stage 2 config not valid", "C_BAD_STE: S2T0SZ, S2SL0 and S2TG do not go together"),
    ("SMMUv3 S1 used but not supported", "C_BAD_STE: Config asks for stage 1, IDR0.S1P = 0"),
    ("SMMUv3 S2 used but not supported", "C_BAD_STE: Config asks for stage 2, IDR0.S2P = 0"),
    (
        "SMMUv3 STE_S2ENDI only supports LE",
        "C_BAD_STE: S2ENDI = 1, and QEMU has little-endian tables only",
    ),
    (
        "SMMUv3 AArch32 tables not supported",
        "S2AA64 or CD.AA64 = 0: QEMU walks AArch64 tables only",
    ),
    (
        "SMMUv3 does not support multiple context descriptors yet",
        "S1CDMax is not 0: QEMU has no substreams, and answers C_BAD_STE",
    ),
    ("SMMUv3 S1 stalling fault model not allowed yet", "S1STALLD = 1: QEMU answers C_BAD_STE"),
    ("SMMUv3 Stall not implemented", "S2S = 1: QEMU has no stalls, and answers C_BAD_STE"),
];

fn found(kind: StructureKind, words: Vec<u64>, line: usize, about: impl Into<String>) -> ScanItem {
    ScanItem::Found(FoundWords::new(kind, words, line, SOURCE, &about.into()))
}

/// Takes one line; returns whether it is one of QEMU's.
pub(crate) fn line(number: usize, text: &str, out: &mut Vec<ScanItem>) -> bool {
    let wrong = |text: String| ScanItem::note(number, SOURCE, text, trouble(""));
    if text.contains("smmu")
        && let Some(captures) = TRACE.captures(text)
    {
        let part = |name| part(&captures, name);
        let found = trace(number, part("name"), part("text"));
        let known = !found.is_empty();
        out.extend(found);
        return known;
    }
    if text.contains("translation failed")
        && let Some(captures) = REFUSED.captures(text)
    {
        let name = captures.name("name").map_or("", |name| name.as_str());
        let Some(record) = partial_event(name, 0, hex(&captures, "iova")) else { return false };
        let short = event::in_short(record.kind());
        out.push(wrong(format!("{} at iova {}: {short}", record.kind(), record.address())));
        return true;
    }
    if text.starts_with("Illegal")
        && let Some(captures) = ILLEGAL.captures(text)
    {
        let code = captures.name("code").and_then(|code| code.as_str().parse().ok()).unwrap_or(0);
        let name = fields::opcode_name(code).unwrap_or("an unknown command");
        out.push(wrong(format!("CERROR_ILL: opcode {code:#04x}, {name}")));
        return true;
    }
    let says = |pattern: &str| match pattern.starts_with(['(', '>']) {
        true => {
            text.contains(pattern)
                && (text.starts_with("invalid sid") || text.starts_with("l2_ste"))
        }
        false => text.trim_start().starts_with(pattern),
    };
    match LOGGED.iter().find(|(pattern, _)| says(pattern)) {
        Some((_, says)) => {
            out.push(wrong((*says).to_owned()));
            true
        }
        None => false,
    }
}

fn trace(number: usize, name: &str, text: &str) -> Vec<ScanItem> {
    let note = |text: String| vec![ScanItem::note(number, SOURCE, text, NoteSays::Nothing)];
    let wrong = |text: String| vec![ScanItem::note(number, SOURCE, text, trouble(""))];
    let register = |name: &str, value: u64, about: String| {
        let layout = fields::register_by_name(name).map(|(_, layout)| layout);
        layout.map(|layout| found(StructureKind::Register(layout), vec![value], number, about))
    };
    match name {
        "smmuv3_read_mmio" | "smmuv3_write_mmio" => {
            let Some(captures) = MMIO.captures(text) else { return Vec::new() };
            let (Some(at), Some(value)) = (hex(&captures, "at"), hex(&captures, "value")) else {
                return Vec::new();
            };
            let Ok(at) = u32::try_from(at) else { return Vec::new() };
            let how = if name == "smmuv3_read_mmio" { "read" } else { "write" };
            // QEMU folds page 1 into page 0.
            let layout = |at| fields::register(at).or_else(|| fields::register(at | 0x1_0000));
            let half = hex(&captures, "size") == Some(4);
            let lower = || at.checked_sub(4).and_then(layout).filter(|layout| layout.bits() == 64);
            match (layout(at), lower()) {
                (Some(layout), _) if layout.bits() == 64 && half => {
                    let how = format!("{how} of the lower half");
                    vec![found(StructureKind::Register(layout), vec![value], number, how)]
                }
                (Some(layout), _) => {
                    vec![found(StructureKind::Register(layout), vec![value], number, how)]
                }
                (None, Some(layout)) => {
                    let how = format!("{how} of the upper half");
                    vec![found(StructureKind::Register(layout), vec![value << 32], number, how)]
                }
                (None, None) => note(format!(
                    "{how} of {value:#x} at {at:#x}, which is no register that is known"
                )),
            }
        }
        "smmuv3_cmdq_opcode" => {
            let Some(captures) = OPCODE.captures(text) else { return Vec::new() };
            let name = captures.name("name").map_or("", |name| name.as_str());
            let opcode = (0..=u8::MAX).find(|code| {
                fields::opcode_name(*code).is_some_and(|known| spelled_alike(known, name))
            });
            match opcode {
                Some(code) => {
                    let raw = RawCommand([code.into(), 0]);
                    let means = command::advise(raw);
                    note(format!("command {name}: {}", means.means))
                }
                None => note(format!("command {name}")),
            }
        }
        "smmuv3_record_event" | "smmuv3_propagate_event" => {
            let Some(captures) = RECORD.captures(text) else { return Vec::new() };
            let name = captures.name("name").map_or("", |name| name.as_str());
            let sid = captures.name("sid").map_or("", |sid| sid.as_str());
            // Old versions print the StreamID in decimal.
            let sid = match sid.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => sid.parse().ok(),
            };
            match sid.and_then(|sid| partial_event(name, sid, None)) {
                Some(record) => wrong(format!(
                    "event {} sid={}: {}; the record itself is in the event queue",
                    record.kind(),
                    record.stream(),
                    event::in_short(record.kind())
                )),
                None => wrong(format!("event {text}")),
            }
        }
        "smmuv3_write_gerror" | "smmuv3_write_gerrorn" => {
            let Some(captures) = GERROR.captures(text) else { return Vec::new() };
            let part = |name| part(&captures, name);
            let about = format!("{} {}", part("what"), part("bits"));
            hex(&captures, "value")
                .and_then(|value| register(part("name"), value, about))
                .into_iter()
                .collect()
        }
        "smmuv3_cmdq_consume" => {
            let Some(captures) = CONSUME.captures(text) else { return Vec::new() };
            let part = |name| part(&captures, name);
            let empty = part("prod") == part("cons") && part("pw") == part("cw");
            let full = part("prod") == part("cons") && part("pw") != part("cw");
            let state = match (empty, full) {
                (true, _) => "empty",
                (_, true) => "full",
                _ => "commands wait",
            };
            note(format!(
                "command queue: PROD.WR {}, CONS.RD {}: {state}",
                part("prod"),
                part("cons")
            ))
        }
        "smmuv3_cmdq_consume_error" => {
            let Some(captures) = FAILED.captures(text) else { return Vec::new() };
            let part = |name| part(&captures, name);
            let code = part("code").parse().map_or(u8::MAX, |code: u8| code);
            let code = smmu_types::CommandErrorCode(code);
            wrong(format!("the command queue stops at {} with {code}", part("name")))
        }
        "smmuv3_accel_translate_ste" => {
            let Some(captures) = ACCEL.captures(text) else { return Vec::new() };
            let mut words = vec![0; 8];
            words[0] = hex(&captures, "w0").unwrap_or(0);
            words[1] = hex(&captures, "w1").unwrap_or(0);
            let sid = hex(&captures, "sid").unwrap_or(0);
            let about = format!("stream {sid:#x}, the first two words");
            let mut found = FoundWords::new(StructureKind::Ste, words, number, SOURCE, &about);
            found.known = 2;
            vec![ScanItem::Found(found)]
        }
        "smmuv3_get_ste" | "smmuv3_get_cd" => {
            let what = if name == "smmuv3_get_ste" { "STE" } else { "CD" };
            match TABLE.captures(text).and_then(|captures| hex(&captures, "at")) {
                Some(at) => note(format!("the SMMU reads the {what} at {at:#x}")),
                None => Vec::new(),
            }
        }
        "smmu_ptw_invalid_pte" => {
            let Some(captures) = LEVEL.captures(text) else { return Vec::new() };
            let part = |name| part(&captures, name);
            note(format!(
                "F_TRANSLATION follows: the walk of stage {} ends at level {}, where the descriptor at {} is {}, which is invalid",
                part("stage"),
                part("level"),
                part("at"),
                part("pte")
            ))
        }
        "smmuv3_translate_abort" => wrong(format!("refused without an event: {text}")),
        "smmuv3_translate_bypass" => note(format!("passed untranslated: {text}")),
        "smmuv3_translate_disable" => note(format!("passed, since CR0.SMMUEN = 0: {text}")),
        "smmuv3_translate_success" => note(format!("translated: {text}")),
        "smmuv3_trigger_irq" => {
            let which = match text.trim_start_matches("irq=").trim() {
                "0" => "event queue",
                "1" => "PRI queue",
                "2" => "CMD_SYNC",
                "3" => "global error",
                _ => "unknown",
            };
            note(format!("interrupt: {which}"))
        }
        "smmuv3_unhandled_cmd" => note(format!("a command that QEMU ignores: {text}")),
        _ => note(format!("{name} {}", text.trim())),
    }
}

/// Whether two names are of one command. QEMU writes some names in its own way: `TLBI_NSNH_ALL`,
/// `CFGI_STE_RANGE`, `SYNC`.
fn spelled_alike(known: &str, name: &str) -> bool {
    let letters = |text: &str| text.chars().filter(|c| *c != '_').collect::<String>();
    letters(known).eq_ignore_ascii_case(&letters(name))
}
