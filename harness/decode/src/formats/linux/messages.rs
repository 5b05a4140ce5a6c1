//! Messages of Linux's `arm-smmu-v3` without words of a structure, and what each means.

use crate::text::{hex, part, pattern};

/// Messages without numbers that count, and their meaning in the architecture's words. The first
/// that fits counts.
const MESSAGES: &[(&str, &str)] = &[
    (
        "unexpected PRI request received:",
        "a page request that no handler can answer; it follows. Turn PRI off at the device, or give its domain a handler of page faults",
    ),
    (
        "EVTQ overflow detected -- events lost",
        "EVENTQ_PROD.OVFLG differs from EVENTQ_CONS.OVACKFLG: the event queue was full, and later events were lost; begin with the first event before this line",
    ),
    (
        "PRIQ overflow detected -- requests lost",
        "PRIQ_PROD.OVFLG differs from PRIQ_CONS.OVACKFLG: the PRI queue was full, and page requests were lost; let each device have fewer requests outstanding (its Outstanding Page Request Allocation)",
    ),
    (
        "device has entered Service Failure Mode!",
        "GERROR.SFM_ERR: the SMMU has given up translating, and must be reset",
    ),
    (
        "GERROR MSI write aborted",
        "GERROR.MSI_GERROR_ABT_ERR: the MSI of a global error was aborted; check GERROR_IRQ_CFG0",
    ),
    (
        "PRIQ MSI write aborted",
        "GERROR.MSI_PRIQ_ABT_ERR: the MSI of the PRI queue was aborted; check PRIQ_IRQ_CFG0",
    ),
    (
        "EVTQ MSI write aborted",
        "GERROR.MSI_EVENTQ_ABT_ERR: the MSI of the event queue was aborted; check EVENTQ_IRQ_CFG0",
    ),
    (
        "CMDQ MSI write aborted",
        "GERROR.MSI_CMDQ_ABT_ERR: the MSI of a CMD_SYNC was aborted; check its MSIAddress",
    ),
    (
        "PRIQ write aborted",
        "GERROR.PRIQ_ABT_ERR: a page request could not be written; check PRIQ_BASE",
    ),
    (
        "EVTQ write aborted",
        "GERROR.EVENTQ_ABT_ERR: an event could not be written; check EVENTQ_BASE",
    ),
    (
        "retrying command fetch",
        "CMDQ_CONS.ERR = CERROR_ABT: the SMMU could not read a command; check CMDQ_BASE",
    ),
    (
        "callbacks suppressed",
        "events were printed no more, since there were too many: some are lost to this log; begin with the first of them",
    ),
    (
        "failed to convert to CMD_SYNC",
        "the illegal command could not be overwritten; decode its words with `decode cmd`",
    ),
    // Interrupts.
    (
        "no evtq irq - events will not be reported",
        "firmware gives no interrupt for the event queue: faults and bad configurations stay unseen; check the interrupt in the IORT or the device tree",
    ),
    (
        "no gerr irq - errors will not be reported",
        "firmware gives no interrupt for GERROR: a stopped command queue stays unseen until a CMD_SYNC times out; check the interrupt in the IORT or the device tree",
    ),
    (
        "no priq irq - PRI will be broken",
        "firmware gives no interrupt for the PRI queue: page requests stay unanswered; check the interrupt in the IORT or the device tree",
    ),
    (
        "failed to enable evtq irq",
        "the interrupt of the event queue was not granted: events stay unseen; check the interrupt in the IORT or the device tree",
    ),
    (
        "failed to enable gerr irq",
        "the interrupt of GERROR was not granted: global errors stay unseen; check the interrupt in the IORT or the device tree",
    ),
    (
        "failed to enable gerror irq",
        "the interrupt of GERROR was not granted: global errors stay unseen; check the interrupt in the IORT or the device tree",
    ),
    (
        "failed to enable priq irq",
        "the interrupt of the PRI queue was not granted: page requests stay unanswered; check the interrupt in the IORT or the device tree",
    ),
    (
        "failed to enable combined irq",
        "the one interrupt of all queues was not granted: events and errors stay unseen; check the interrupt in the IORT or the device tree",
    ),
    (
        "failed to disable irqs",
        "IRQ_CTRLACK did not follow IRQ_CTRL: the SMMU does not answer; is it powered and clocked?",
    ),
    (
        "failed to enable irqs",
        "IRQ_CTRLACK did not follow IRQ_CTRL: the SMMU does not answer; is it powered and clocked?",
    ),
    (
        "falling back to wired irqs",
        "the SMMU can send MSIs and gets none: its queues use wired interrupts",
    ),
    // Bring-up.
    (
        "SMMU currently enabled! Resetting",
        "firmware left CR0.SMMUEN = 1: the driver resets the SMMU, and devices that firmware left running (display, crash kernel) lose their mappings",
    ),
    (
        "failed to clear cr0",
        "CR0ACK did not follow CR0 = 0: the SMMU does not answer; is it powered and clocked?",
    ),
    (
        "failed to enable command queue",
        "CR0ACK.CMDQEN did not follow CR0: the SMMU does not answer; is it powered and clocked?",
    ),
    (
        "failed to enable event queue",
        "CR0ACK.EVENTQEN did not follow CR0: the SMMU does not answer",
    ),
    ("failed to enable PRI queue", "CR0ACK.PRIQEN did not follow CR0: the SMMU does not answer"),
    ("failed to enable ATS check", "CR0ACK.ATSCHK did not follow CR0: the SMMU does not answer"),
    (
        "failed to enable SMMU interface",
        "CR0ACK.SMMUEN did not follow CR0: the SMMU does not translate",
    ),
    (
        "GBPA not responding to update",
        "GBPA.UPDATE stayed 1: the SMMU does not answer; is it powered and clocked?",
    ),
    (
        "IDR0.COHACC overridden",
        "firmware says another coherency than IDR0.COHACC, and the driver follows firmware: if firmware is wrong, the SMMU reads old tables and queues",
    ),
    (
        "overridden by FW configuration",
        "firmware says another feature than the ID register, and the driver follows firmware; check the IORT flags if that is wrong",
    ),
    (
        "no translation support!",
        "IDR0.S1P and IDR0.S2P are 0, or the registers read as 0: is the base address right, and the SMMU powered?",
    ),
    (
        "AArch64 table format not supported",
        "IDR0.TTF has no VMSAv8-64 tables, and the driver has no others",
    ),
    (
        "unknown/unsupported TT endianness",
        "IDR0.TTENDIAN has no endianness that this kernel can write",
    ),
    (
        "embedded implementation not supported",
        "IDR1.TABLES_PRESET or QUEUES_PRESET is 1: tables or queues are fixed, and the driver cannot use them",
    ),
    ("command queue size", "IDR1.CMDQS is too small for a batch of the driver"),
    ("unknown output address size", "IDR5.OAS has a reserved value: the driver takes 48 bits"),
    (
        "failed to set DMA mask for table walker",
        "the platform cannot allocate memory that the SMMU reaches",
    ),
    (
        "MMIO region too small",
        "firmware describes fewer registers than the SMMU has; check the size in the IORT or the device tree",
    ),
    // Tables and streams.
    (
        "failed to allocate l1 stream table",
        "no memory for the level-1 stream table: IDR1.SIDSIZE asks for more contiguous memory than there is",
    ),
    (
        "failed to allocate linear stream table",
        "no memory for the stream table: without two levels it has 64 bytes for each StreamID of IDR1.SIDSIZE",
    ),
    (
        "failed to allocate l2 stream table",
        "no memory for the STEs of this StreamID: its device stays without translation",
    ),
    ("failed to allocate queue", "no memory for a queue of this size"),
    (
        "already in tree",
        "two devices have the same StreamID; check the IORT or iommu-map: the second is refused",
    ),
    (
        "Aliasing StreamID",
        "two devices have the same StreamID; check the IORT or iommu-map: the second is refused",
    ),
    (
        "aliasing StreamID",
        "two devices have the same StreamID; check the IORT or iommu-map: the second is refused",
    ),
    ("Failed to enable ATS", "the PCI core refused ATS: the device works without its own TLB"),
    // Last, since others begin like it.
    ("CMDQ timeout", "the command queue stayed full; look at GERROR and CMDQ_CONS"),
    ("CMD_SYNC timeout", "a CMD_SYNC did not complete in time; look at GERROR and CMDQ_CONS"),
];

pattern!(
    FEATURES,
    r"\bias (?P<ias>\d+)-bit, oas (?P<oas>\d+)-bit \(features (?P<features>0x[0-9a-fA-F]+)\)"
);
pattern!(COVERS, r"2-level strtab only covers (?P<covers>\d+)/(?P<bits>\d+) bits of SID");
pattern!(OPTIONS, r"\boption mask (?P<mask>0x[0-9a-fA-F]+)");

/// What a line of the driver says.
#[derive(Debug)]
pub(super) struct Message {
    /// It in the architecture's words.
    pub(super) text: String,
    /// Where the message begins behind its sender, if it says that something is wrong.
    pub(super) trouble_at: Option<usize>,
}

impl Message {
    fn harmless(text: String) -> Self {
        Message { text, trouble_at: None }
    }
}

/// Messages that only inform.
const HARMLESS: &[&str] = &[
    "falling back to wired irqs",
    "SMMU currently enabled! Resetting",
    "IDR0.COHACC overridden",
    "overridden by FW configuration",
];

/// What a line of the driver says; `None` if it is unknown.
pub(super) fn meaning(text: &str) -> Option<Message> {
    if let Some(captures) = FEATURES.captures(text) {
        let (ias, oas) = (part(&captures, "ias"), part(&captures, "oas"));
        let features = features(hex(&captures, "features")?);
        let text = format!("intermediate addresses of {ias} bits, output of {oas}; {features}");
        return Some(Message::harmless(text));
    }
    if let Some(captures) = COVERS.captures(text) {
        let (covers, bits) = (part(&captures, "covers"), part(&captures, "bits"));
        let first = covers.parse::<u32>().ok().and_then(|covers| 1u64.checked_shl(covers))?;
        return Some(Message::harmless(format!(
            "the stream table has StreamIDs of {covers} bits, and IDR1.SIDSIZE says {bits}: a StreamID from {first:#x} on ends in C_BAD_STREAMID; harmless if no device has one"
        )));
    }
    if let Some(captures) = OPTIONS.captures(text) {
        let mask = hex(&captures, "mask")?;
        let options = named(mask, OPTION_BITS);
        let options = if options.is_empty() { "none".into() } else { options.join(", ") };
        let text = format!("the options that the driver took from firmware: {options}");
        return Some(Message::harmless(text));
    }
    let (pattern, meaning) = MESSAGES.iter().find(|(pattern, _)| text.contains(pattern))?;
    let trouble_at = text.find(pattern).filter(|_| !HARMLESS.contains(pattern));
    Some(Message { text: (*meaning).to_owned(), trouble_at })
}

/// The driver's own numbers for features, which are in no register. Bits 0 to 18 have the same
/// names in all kernels that have them.
const FEATURE_BITS: &[&str] = &[
    "two-level stream table",
    "two-level CD table",
    "little-endian tables",
    "big-endian tables",
    "PRI",
    "ATS",
    "SEV",
    "MSI",
    "coherent",
    "stage 1",
    "stage 2",
    "stalls",
    "EL2 (Hyp)",
    "stalls are forced",
    "52-bit virtual addresses (VAX)",
    "range invalidation (RIL)",
    "broadcast TLB maintenance (BTM)",
    "shared virtual addressing (SVA)",
    "EL2 with E2H",
];
/// Bits 19 and up in mainline Linux, as in 6.13.
const MAINLINE: &[&str] = &[
    "nesting",
    "attribute types can be overridden (ATTR_TYPES_OVR)",
    "access flag by hardware (HA)",
    "dirty state by hardware (HD)",
    "forced write-back at stage 2 (S2FWB)",
];
/// The same bits in openEuler's kernels 5.10 and 6.6.
const OPENEULER: &[&str] = &["HA", "HD", "BBML1", "BBML2", "ECMDQ", "MPAM"];
const OPTION_BITS: &[&str] = &[
    "no prefetch commands (SKIP_PREFETCH)",
    "registers in page 0 only (PAGE0_REGS_ONLY)",
    "CMD_SYNC by polling a word in memory (MSIPOLL)",
    "a CMD_SYNC after each batch (CMDQ_FORCE_SYNC)",
    "virtual command queues of Tegra241",
];

fn named(mask: u64, names: &[&str]) -> Vec<String> {
    (0..64)
        .filter(|bit| mask >> bit & 1 != 0)
        .map(|bit| {
            names.get(bit).map_or_else(|| format!("bit {bit}, unknown"), |name| (*name).into())
        })
        .collect()
}

/// The features by name.
fn features(mask: u64) -> String {
    let all: Vec<&str> = FEATURE_BITS.iter().chain(MAINLINE).copied().collect();
    let names = named(mask, &all).join(", ");
    let first = FEATURE_BITS.len();
    let others = named(mask >> first, OPENEULER).join(", ");
    if mask >> first == 0 {
        return format!("features: {names}");
    }
    format!(
        "features: {names} (bits {first} and up as in Linux 6.13; the number of a bit differs between kernels, and in openEuler's 5.10 and 6.6 they are: {others})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// 0x001c1e8f: bits 0 to 3, 7, 9 to 12, 18 to 20.
    #[test]
    fn features_have_names() {
        let text =
            meaning("arm-smmu-v3 a: ias 48-bit, oas 48-bit (features 0x001c1e8f)").unwrap().text;
        for name in [
            "two-level stream table",
            "two-level CD table",
            "little-endian",
            "big-endian",
            "MSI",
            "stage 1",
            "stage 2",
            "stalls",
            "EL2 (Hyp)",
            "E2H",
            "nesting",
            "ATTR_TYPES_OVR",
            "Linux 6.13",
            "openEuler",
        ] {
            assert!(text.contains(name), "{name}: {text}");
        }
        for name in ["coherent", "SVA", "ATS", "PRI", "forced", "S2FWB", "unknown"] {
            assert!(!text.contains(name), "{name}: {text}");
        }
    }

    #[rstest]
    #[case("features 0x00000f1f", &["coherent", "PRI"], &["openEuler", "ATS"])]
    #[case("features 0x80000001", &["two-level stream table", "bit 31, unknown"], &[])]
    fn unknown_features_are_kept(
        #[case] features: &str,
        #[case] has: &[&str],
        #[case] lacks: &[&str],
    ) {
        let text =
            meaning(&format!("arm-smmu-v3 a: ias 44-bit, oas 44-bit ({features})")).unwrap().text;
        assert!(has.iter().all(|name| text.contains(name)), "{text}");
        assert!(!lacks.iter().any(|name| text.contains(name)), "{text}");
    }

    #[test]
    fn a_short_stream_table_says_from_where() {
        let text = meaning("2-level strtab only covers 25/32 bits of SID").unwrap().text;
        assert!(text.contains("0x2000000") && text.contains("C_BAD_STREAMID"), "{text}");
    }
}
