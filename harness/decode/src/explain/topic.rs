//! What a name means: of an event, a command, an error, a register or a field.

use std::fmt;

use smmu_types::layout::{Layout, Meaning};
use smmu_types::{EventKind, RawCommand, fields};

use super::events;
use crate::advice::command;

/// A name explained.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Topic {
    /// The name in the architecture's spelling.
    pub name: String,
    /// What it is, such as "event 0x10".
    pub what: String,
    /// What it means.
    pub means: String,
    /// Causes, the most frequent first.
    pub causes: Vec<String>,
    /// What to look at.
    pub look: Vec<String>,
    /// What makes an SMMU refuse it.
    pub illegal: Option<String>,
    /// The section of IHI 0070.
    pub section: String,
}

impl Topic {
    fn new(name: &str, what: String, means: &str, section: &str) -> Self {
        Topic {
            name: name.to_owned(),
            what,
            means: means.to_owned(),
            causes: Vec::new(),
            look: Vec::new(),
            illegal: None,
            section: section.to_owned(),
        }
    }
}

/// Explains a name. Its case does not matter, nor does `CMD_` before a command.
#[must_use]
pub fn topic(name: &str) -> Option<Topic> {
    let name = name.trim().to_ascii_uppercase();
    let bare = name.strip_prefix("CMD_").unwrap_or(&name);
    event(&name)
        .or_else(|| error(&name))
        .or_else(|| (0..=u8::MAX).find_map(|opcode| of_command(opcode, bare)))
        .or_else(|| register(&name))
        .or_else(|| field(&name))
}

/// The names that [`topic`] knows, without fields.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let events = (0..=u8::MAX).filter_map(|number| EventKind(number).name());
    let commands = (0..=u8::MAX).filter_map(fields::opcode_name);
    let mut names: Vec<&str> =
        events.chain(commands).chain(ERRORS.iter().map(|error| error.0)).collect();
    names.dedup();
    names
}

fn event(name: &str) -> Option<Topic> {
    let kind = EventKind::from_name(name)?;
    let told = events::told(kind)?;
    let layout = fields::event(kind);
    let what = format!("event {:#04x}", kind.0);
    let mut topic = Topic::new(name, what, told.means, layout.section());
    topic.causes = told.causes.iter().map(|cause| (*cause).to_owned()).collect();
    topic.look = told.look.iter().map(|look| (*look).to_owned()).collect();
    Some(topic)
}

/// Name, what it is, meaning, causes, what to look at, section.
type ErrorText = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static str,
);

const ERRORS: &[ErrorText] = &[
    (
        "CERROR_NONE",
        "CMDQ_CONS.ERR = 0",
        "no command was refused",
        &[],
        &["GERROR.CMDQ_ERR: without it, ERR is of an older error"],
        "7.1",
    ),
    (
        "CERROR_ILL",
        "CMDQ_CONS.ERR = 1",
        "the command at CMDQ_CONS.RD is illegal; the queue has stopped there, and commands before it are consumed",
        &[
            "the command needs a feature that the SMMU does not have: `explain COMMAND` names the ID bit",
            "the slot was not filled when CMDQ_PROD passed it: a missing barrier, or no cache maintenance where IDR0.COHACC = 0",
            "a reserved field is set, such as a range where IDR3.RIL = 0, or CS = 3 of a SYNC",
            "the ring is somewhere else: CMDQ_BASE has another address or size than the driver writes to",
        ],
        &[
            "the two words at CMDQ_BASE.ADDR + 16 * RD (RD without its wrap bit): decode them with `decode cmd`",
            "IDR0, IDR1 and IDR3, with `probe`",
        ],
        "7.1",
    ),
    (
        "CERROR_ABT",
        "CMDQ_CONS.ERR = 2",
        "the SMMU could not read the command at CMDQ_CONS.RD; acknowledging GERROR.CMDQ_ERR makes it try again",
        &[
            "CMDQ_BASE is not memory that the SMMU reaches: beyond IDR5.OAS, protected, or freed",
            "the memory of the queue has an uncorrectable error",
        ],
        &["CMDQ_BASE, and CR1.QUEUE_* for the attributes of the access"],
        "7.1",
    ),
    (
        "CERROR_ATC_INV_SYNC",
        "CMDQ_CONS.ERR = 3",
        "an ATC_INV before the SYNC at CMDQ_CONS.RD was not answered in time; the device may still use what it has cached",
        &[
            "the device is gone, off, in reset, or behind a link that is down",
            "ATS is off at the device, or it is no PCIe endpoint with ATS",
            "the StreamID of the ATC_INV is not the device's requester ID",
        ],
        &[
            "the ATC_INV commands between the last SYNC and this one: their StreamIDs name the devices",
            "the AER and link status of these devices",
        ],
        "7.1",
    ),
    (
        "CMDQ_ERR",
        "GERROR bit 0",
        "the command queue has stopped at a command",
        &["see CERROR_ILL, CERROR_ABT and CERROR_ATC_INV_SYNC"],
        &["CMDQ_CONS.ERR and CMDQ_CONS.RD"],
        "6.3.19, 7.5",
    ),
    (
        "EVENTQ_ABT_ERR",
        "GERROR bit 2",
        "an access to the event queue was aborted, and events are lost",
        &["EVENTQ_BASE is not memory that the SMMU can write"],
        &["EVENTQ_BASE"],
        "6.3.19, 7.5",
    ),
    (
        "PRIQ_ABT_ERR",
        "GERROR bit 3",
        "an access to the PRI queue was aborted, and page requests are lost",
        &["PRIQ_BASE is not memory that the SMMU can write"],
        &["PRIQ_BASE"],
        "6.3.19, 7.5",
    ),
    (
        "MSI_CMDQ_ABT_ERR",
        "GERROR bit 4",
        "the MSI of a CMD_SYNC was aborted",
        &["MSIAddress is not a doorbell or memory that the SMMU can write"],
        &["MSIAddress of the CMD_SYNC"],
        "6.3.19, 7.5",
    ),
    (
        "MSI_EVENTQ_ABT_ERR",
        "GERROR bit 5",
        "the MSI of the event queue was aborted",
        &["EVENTQ_IRQ_CFG0 is not a doorbell that the SMMU can write; it is a physical address"],
        &["EVENTQ_IRQ_CFG0 to 2"],
        "6.3.19, 7.5",
    ),
    (
        "MSI_PRIQ_ABT_ERR",
        "GERROR bit 6",
        "the MSI of the PRI queue was aborted",
        &["PRIQ_IRQ_CFG0 is not a doorbell that the SMMU can write; it is a physical address"],
        &["PRIQ_IRQ_CFG0 to 2"],
        "6.3.19, 7.5",
    ),
    (
        "MSI_GERROR_ABT_ERR",
        "GERROR bit 7",
        "the MSI of global errors was aborted",
        &["GERROR_IRQ_CFG0 is not a doorbell that the SMMU can write; it is a physical address"],
        &["GERROR_IRQ_CFG0 to 2"],
        "6.3.19, 7.5",
    ),
    (
        "SFM_ERR",
        "GERROR bit 8",
        "the SMMU entered service failure mode: it may no longer translate, and must be reset",
        &["an uncorrectable error inside the SMMU"],
        &["the RAS records of the SMMU, and its manual"],
        "6.3.19, 12.3",
    ),
    (
        "CMDQP_ERR",
        "GERROR bit 9",
        "an enhanced command queue has stopped",
        &["see CERROR_ILL, CERROR_ABT and CERROR_ATC_INV_SYNC"],
        &["the CONS register of each enhanced queue"],
        "6.3.19, 7.5",
    ),
    (
        "DPT_ERR",
        "GERROR bit 10",
        "a lookup in the device permission table failed",
        &["the table is not memory that the SMMU can read, or an entry is invalid"],
        &["DPT_CFG_FAR"],
        "6.3.19, 7.5",
    ),
];

fn error(name: &str) -> Option<Topic> {
    let (name, what, means, causes, look, section) =
        ERRORS.iter().find(|(known, ..)| *known == name)?;
    let mut topic = Topic::new(name, (*what).to_owned(), means, section);
    topic.causes = causes.iter().map(|cause| (*cause).to_owned()).collect();
    topic.look = look.iter().map(|look| (*look).to_owned()).collect();
    Some(topic)
}

fn of_command(opcode: u8, name: &str) -> Option<Topic> {
    let known = fields::opcode_name(opcode).filter(|known| *known == name)?;
    let advice = command::advise(RawCommand([opcode.into(), 0]));
    let section = fields::command(opcode).map_or("4", Layout::section);
    let mut topic = Topic::new(known, format!("command {opcode:#04x}"), &advice.means, section);
    topic.look = advice.next;
    topic.illegal = illegal(opcode).map(str::to_owned);
    Some(topic)
}

/// Where a command of a Non-secure queue is illegal, by the ID register that says so.
fn illegal(opcode: u8) -> Option<&'static str> {
    Some(match opcode {
        0x05 | 0x06 => "IDR0.S1P = 0: the SMMU has no stage 1, and so no CDs",
        0x07 => "IDR3.MPAM = 0: the SMMU has no memory partitioning",
        0x10 | 0x11 => "IDR0.S1P = 0: the SMMU has no stage 1",
        0x12 | 0x13 => {
            "IDR0.S1P = 0: the SMMU has no stage 1; a range (TG, SCALE, NUM) or TTL with IDR3.RIL = 0 may be refused too"
        }
        0x20 | 0x21 => "IDR0.Hyp = 0: the SMMU has no EL2 regime; or IDR0.S1P = 0",
        0x22 | 0x23 => {
            "IDR0.Hyp = 0: the SMMU has no EL2 regime; or IDR0.S1P = 0; a range (TG, SCALE, NUM) or TTL with IDR3.RIL = 0 may be refused too"
        }
        0x28 => "IDR0.S2P = 0: the SMMU has no stage 2",
        0x2a => {
            "IDR0.S2P = 0: the SMMU has no stage 2; a range (TG, SCALE, NUM) or TTL with IDR3.RIL = 0 may be refused too"
        }
        0x40 => "IDR0.ATS = 0: the SMMU has no ATS",
        0x41 => "IDR0.PRI = 0: the SMMU has no page request interface",
        0x44 | 0x45 => "IDR0.STALL_MODEL = 1: the SMMU never stalls",
        0x46 => "CS = 3 is reserved",
        0x70 | 0x73 => "IDR3.DPT = 0: the SMMU has no device permission table",
        0x18 | 0x1a | 0x50..=0x60 => {
            "on every Non-secure queue: it is a command of the Secure state"
        }
        0x80..=0x8f => "if the implementation does not define it",
        _ => return None,
    })
}

fn register(name: &str) -> Option<Topic> {
    let (_, layout) = fields::register_by_name(name)?;
    let mut topic = Topic::new(layout.name(), "register".into(), "", layout.section());
    topic.look = layout
        .fields()
        .iter()
        .map(|field| {
            let bits = if field.hi() == field.lo() {
                field.lo().to_string()
            } else {
                format!("{}:{}", field.hi(), field.lo())
            };
            format!("{} ({bits}): {}", field.name(), field.text().replace('`', ""))
        })
        .collect();
    topic.means = format!(
        "{} bits; its fields are below, and `decode {}=0x...` splits a value",
        layout.bits(),
        layout.name()
    );
    Some(topic)
}

fn field(name: &str) -> Option<Topic> {
    let layouts: [&'static Layout; 2] = [&fields::ste::LAYOUT, &fields::cd::LAYOUT];
    let (layout, field) = layouts.into_iter().find_map(|layout| {
        let found = layout.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name))?;
        Some((layout, found))
    })?;
    let what = format!("field of {}, bits {}:{}", layout.name(), field.hi(), field.lo());
    let text = field.text().replace('`', "");
    let mut topic = Topic::new(field.name(), what, text.trim_end_matches('.'), layout.section());
    topic.look = match field.meaning() {
        Meaning::Flag { clear, set } => vec![format!("0: {clear}"), format!("1: {set}")],
        Meaning::Choice(values) => {
            values.iter().map(|value| format!("{}: {}", value.value, value.text)).collect()
        }
        _ => Vec::new(),
    };
    Some(topic)
}

/// As text of several lines.
impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} (IHI 0070, {})", self.name, self.what, self.section)?;
        let mut paragraph = |title: &str, lines: &[String]| {
            if lines.is_empty() {
                return Ok(());
            }
            writeln!(f, "\n{title}")?;
            lines
                .iter()
                .try_for_each(|line| writeln!(f, "- {}", crate::report::wrapped(line, "  ")))
        };
        paragraph("What it means", std::slice::from_ref(&self.means))?;
        paragraph("Causes, the most frequent first", &self.causes)?;
        paragraph("CERROR_ILL where", self.illegal.as_slice())?;
        paragraph("What to look at", &self.look)
    }
}
