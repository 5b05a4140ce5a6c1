//! Advice on descriptors and registers.

use smmu_types::layout::{Field, Layout};
use smmu_types::{Cd, Ste, SteConfig};

use super::Advice;
use crate::item::LogSays;

const EXPLAIN: &str =
    "`smmu-harness explain --idr ...` says which field an SMMU would refuse, and how to mend it";

const OTHER_TABLES: &str = "VMSAv8-32 LPAE tables, or VMSAv9-128 ones where IDR5.D128 is set";

/// What an STE means.
pub(crate) fn ste(ste: &Ste) -> Advice {
    let contexts = |max: u8| match max {
        0 => "one CD (no substreams)".into(),
        max => format!("2^{max} CDs"),
    };
    match ste.decode() {
        SteConfig::Invalid => Advice::new("invalid: transactions end in C_BAD_STE"),
        SteConfig::Abort => Advice::new("transactions are aborted, without an event"),
        SteConfig::Bypass => Advice::new("transactions pass untranslated"),
        SteConfig::Stage1(table) => Advice::new(format!(
            "stage 1 translates, with {} at {}",
            contexts(table.cd_max),
            table.context
        ))
        .then(EXPLAIN),
        SteConfig::Stage2(s2) => Advice::new(format!(
            "stage 2 translates {}-bit input through the {} table at {}, tagged VMID {}",
            64 - u32::from(s2.t0sz.min(64)),
            s2.granule,
            s2.table,
            s2.vmid
        ))
        .then(EXPLAIN),
        SteConfig::Nested(table, s2) => Advice::new(format!(
            "both stages translate: stage 1 with {} at IPA {}, stage 2 through the {} table at {}, tagged VMID {}",
            contexts(table.cd_max),
            table.context,
            s2.granule,
            s2.table,
            s2.vmid
        ))
        .then(EXPLAIN),
        SteConfig::Stage2Other { vmid } => Advice::new(format!(
            "stage 2 translates through {OTHER_TABLES}, tagged VMID {vmid}"
        ))
        .then(EXPLAIN),
        SteConfig::NestedOther { table, vmid } => Advice::new(format!(
            "both stages translate: stage 1 with {} at IPA {}, stage 2 through {OTHER_TABLES}, tagged VMID {vmid}",
            contexts(table.cd_max),
            table.context
        ))
        .then(EXPLAIN),
        _ => Advice::new("stage 2 has a granule of a reserved value: see S2TG").then(EXPLAIN),
    }
}

/// What a CD means.
pub(crate) fn cd(cd: &Cd) -> Advice {
    if !cd.is_valid() {
        return Advice::new("invalid: transactions end in C_BAD_CD");
    }
    match cd.decode() {
        Some(config) => Advice::new(format!(
            "{}-bit input is translated through the {} table at {}, tagged ASID {}",
            64 - u32::from(config.t0sz.min(64)),
            config.granule,
            config.table,
            config.asid
        ))
        .then(EXPLAIN),
        None => Advice::new(
            "valid, but not one table at TTB0 alone: see EPD0, EPD1, AA64, ENDI and the sizes above",
        )
        .then(EXPLAIN),
    }
}

/// What a page request asks for.
pub(crate) fn pri(words: [u64; 2]) -> Advice {
    let bit = |n: u32| words[0] >> n & 1 != 0;
    let wants: Vec<&str> = [(60, "read"), (61, "write"), (59, "execute")]
        .into_iter()
        .filter_map(|(n, name)| bit(n).then_some(name))
        .collect();
    let group = words[1] & 0x1ff;
    let page = words[1] & !0xfff;
    if wants.is_empty() && bit(62) {
        return Advice::new(
            "a stop marker: the device has no more requests in flight for this PASID",
        )
        .then("no answer is wanted");
    }
    let last = if bit(62) { "the last of its group" } else { "more of its group follow" };
    Advice::new(format!(
        "the device asks for page {page:#x} to be mapped for {}; {last}",
        if wants.is_empty() { "nothing".into() } else { wants.join(", ") }
    ))
    .then(format!(
        "answer the group with CMD_PRI_RESP PRGIndex={group} once its last request is here"
    ))
}

/// What a level-1 stream table descriptor means.
pub(crate) fn stream_descriptor(word: u64) -> Advice {
    let table = word & 0x00ff_ffff_ffff_ffc0;
    match word & 31 {
        0 => Advice::new("invalid: every StreamID of this descriptor ends in C_BAD_STREAMID"),
        span @ 1..=11 => Advice::new(format!("2^{} STEs at {table:#x}", span - 1)).then(
            "the table must be aligned to its size; Span - 1 may not exceed STRTAB_BASE_CFG.SPLIT",
        ),
        _ => Advice::new("Span has a reserved value: StreamIDs end in C_BAD_STREAMID"),
    }
}

/// What a level-1 CD table descriptor means.
pub(crate) fn context_descriptor(word: u64) -> Advice {
    match word & 1 {
        0 => Advice::new("invalid: every SubstreamID of this descriptor ends in C_BAD_SUBSTREAMID"),
        _ => Advice::new(format!("a table of CDs at {:#x}", word & 0x00ff_ffff_ffff_f000)),
    }
}

/// Which flags of a register are set.
pub(crate) fn register(layout: &Layout, word: u64, says: LogSays) -> Advice {
    let words = [word];
    let is_flag = |field: &Field| field.hi() == field.lo();
    let set: Vec<&str> = layout
        .split(&words)
        .filter(|part| part.value != 0 && is_flag(part.field))
        .map(|part| part.field.name())
        .collect();
    let advice = match (layout.fields().iter().any(is_flag), set.is_empty()) {
        (false, _) => Advice::default(),
        (true, true) => Advice::new("no flag is set"),
        (true, false) => Advice::new(format!("set: {}", set.join(", "))),
    };
    match layout.name() {
        "GERROR" if says == LogSays::ActiveBits => active_errors(word),
        "GERROR" | "GERRORN" => advice
            .then("an error is active where GERROR and GERRORN differ: compare the two, and acknowledge by writing GERROR's value to GERRORN"),
        "CMDQ_CONS" if word >> 24 & 0x7f != 0 => {
            let (what, next) = command_error(word >> 24 & 0x7f);
            let advice = Advice { means: what.into(), next: vec![next.into()] };
            match says {
                LogSays::ActiveError => advice,
                _ => advice.then("ERR is of this moment only while GERROR.CMDQ_ERR is active"),
            }
        }
        "CR0" | "CR0ACK" if word & 1 == 0 => {
            advice.then("SMMUEN = 0: nothing is translated; GBPA says whether transactions pass or are aborted")
        }
        "GBPA" if word >> 31 & 1 != 0 => advice.then("UPDATE = 1: a write has not taken effect yet, or the value was read from what is to be written"),
        _ => advice,
    }
}

/// What `CMDQ_CONS.ERR` means, and what to do.
pub(crate) fn command_error(code: u64) -> (&'static str, &'static str) {
    match code {
        1 => (
            "CERROR_ILL: the command at RD is illegal, and the queue has stopped there",
            "read the two words at CMDQ_BASE.ADDR + 16 * RD (RD without its wrap bit) and decode them with `decode cmd`; overwrite the slot with a SYNC, then acknowledge GERROR.CMDQ_ERR",
        ),
        2 => (
            "CERROR_ABT: the SMMU could not read the command at RD",
            "check CMDQ_BASE and whether the SMMU can reach that memory; acknowledging GERROR.CMDQ_ERR makes it try again",
        ),
        3 => (
            "CERROR_ATC_INV_SYNC: an ATC_INV before the SYNC at RD was not answered in time",
            "a device with ATS is gone, or off: the caller of that ATC_INV must be told; acknowledging GERROR.CMDQ_ERR makes the queue go on",
        ),
        _ => ("ERR has a reserved value", "see the manual of this SMMU"),
    }
}

/// What the active errors of `GERROR` mean, the one that explains others first.
fn active_errors(word: u64) -> Advice {
    const ERRORS: [(u32, &str, &str); 10] = [
        (
            8,
            "SFM_ERR: the SMMU is in service failure mode, and may no longer translate",
            "reset the SMMU; the manual of the implementation says what leads to this mode",
        ),
        (
            0,
            "CMDQ_ERR: the command queue has stopped",
            "CMDQ_CONS.ERR says why: see the line `CMDQ error` next to this one, or read CMDQ_CONS",
        ),
        (
            2,
            "EVENTQ_ABT_ERR: an event could not be written, and is lost",
            "check EVENTQ_BASE, and that the SMMU can write that memory",
        ),
        (
            3,
            "PRIQ_ABT_ERR: a page request could not be written, and is lost",
            "check PRIQ_BASE, and that the SMMU can write that memory",
        ),
        (
            4,
            "MSI_CMDQ_ABT_ERR: the MSI of a CMD_SYNC was aborted",
            "check MSIAddress of the CMD_SYNC, and that the SMMU can write there",
        ),
        (
            5,
            "MSI_EVENTQ_ABT_ERR: the MSI of the event queue was aborted",
            "check EVENTQ_IRQ_CFG0: is the doorbell a physical address that the SMMU can write?",
        ),
        (
            6,
            "MSI_PRIQ_ABT_ERR: the MSI of the PRI queue was aborted",
            "check PRIQ_IRQ_CFG0: is the doorbell a physical address that the SMMU can write?",
        ),
        (
            7,
            "MSI_GERROR_ABT_ERR: the MSI of global errors was aborted",
            "check GERROR_IRQ_CFG0: is the doorbell a physical address that the SMMU can write?",
        ),
        (
            9,
            "CMDQP_ERR: an enhanced command queue has an error",
            "read the CONS register of each enhanced command queue",
        ),
        (10, "DPT_ERR: a lookup in the device permission table failed", "read DPT_CFG_FAR"),
    ];
    let active: Vec<_> = ERRORS.into_iter().filter(|(bit, ..)| word >> bit & 1 != 0).collect();
    if active.is_empty() {
        return Advice::new("no error is active");
    }
    let means: Vec<&str> = active.iter().map(|(_, means, _)| *means).collect();
    active.iter().fold(Advice::new(means.join("; ")), |advice, (.., next)| advice.then(*next))
}
