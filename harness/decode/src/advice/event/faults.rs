//! Advice on translation faults.

use smmu_types::{EventClass, EventRecord, Iova, Ipa};

use super::Advice;
use crate::context::DecodeContext;

/// The number of the stage.
pub(super) fn stage(record: &EventRecord) -> u8 {
    if record.is_stage2() { 2 } else { 1 }
}

/// The access in words, such as "a privileged read of instructions".
pub(super) fn access(record: &EventRecord) -> String {
    let privileged = if record.0[1] >> 33 & 1 != 0 { "a privileged" } else { "an unprivileged" };
    let fetch = if record.0[1] >> 34 & 1 != 0 { " of instructions" } else { "" };
    let access = if record.is_read() { "read" } else { "write" };
    format!("{privileged} {access}{fetch}")
}

/// Whether a fault of stage 2 has neither a class nor an intermediate address, as QEMU before 9.1
/// records it.
fn is_left_empty(record: &EventRecord) -> bool {
    record.kind().is_translation_fault()
        && record.is_stage2()
        && record.class() == EventClass::Cd
        && record.ipa().0 == 0
}

/// The intermediate address of a fault of stage 2. A record that was left empty has the input
/// address instead, as for a stream whose stage 1 is bypassed.
fn ipa(record: &EventRecord) -> Ipa {
    if is_left_empty(record) { Ipa(record.address().0 & !0xfff) } else { record.ipa() }
}

/// What no SMMU writes, or what cannot be trusted, in a record.
pub(crate) fn impossible(record: &EventRecord) -> Vec<String> {
    let (class, ipa) = (record.0[1] >> 40 & 3, ipa(record));
    if is_left_empty(record) {
        return vec![format!(
            "CLASS = 0 (CD fetch) with IPA = 0 is not to be trusted: QEMU before 9.1 leaves both empty in faults of stage 2; if stage 1 is bypassed, the IPA is the input address, page {ipa}"
        )];
    }
    if record.kind().is_translation_fault() && !record.is_stage2() && class != 2 {
        return vec![format!(
            "CLASS = {class} with S2 = 0 cannot be: a fault of stage 1 has CLASS = 2 (IHI 0070, 7.3.13); QEMU before 9.1 leaves CLASS 0, any other writer is wrong"
        )];
    }
    Vec::new()
}

/// Whether the access looks like a message-signalled interrupt. `GITS_TRANSLATER` of an ITS and the
/// doorbell of a GICv2m frame are at offset 0x040 of their page.
pub(super) fn msi(record: &EventRecord) -> Option<String> {
    let address = record.address().0;
    let doorbell = !record.is_read() && !record.is_instruction() && address & 0xfff == 0x040;
    (doorbell && record.kind().is_translation_fault()).then(|| {
        format!(
            "a write at page offset 0x040 is mostly an MSI (GITS_TRANSLATER of an ITS, or a GICv2m frame): is page {} mapped for writes in this domain?",
            Iova(address & !0xfff)
        )
    })
}

/// What the SMMU was to translate.
pub(super) fn target(record: &EventRecord) -> String {
    let ipa = ipa(record);
    match (record.is_stage2(), record.class()) {
        (false, _) => format!("input address {}", record.address()),
        (true, _) if is_left_empty(record) => {
            format!("IPA page {ipa} (input address {})", record.address())
        }
        (true, EventClass::In) => format!("IPA page {ipa} (input address {})", record.address()),
        (true, EventClass::Tt) => format!(
            "IPA page {ipa}, where the stage-1 table for input address {} lies",
            record.address()
        ),
        (true, EventClass::Cd) => format!("IPA page {ipa}, where the context descriptor lies"),
        (true, EventClass::Reserved) => format!("IPA page {ipa}"),
    }
}

/// The owner of the table that the fault is about.
fn owner(record: &EventRecord) -> String {
    if record.is_stage2() {
        "the owner of stage 2 (the hypervisor)".into()
    } else {
        format!("the owner of the domain of stream {} (its driver)", record.stream())
    }
}

pub(super) fn translation(record: &EventRecord, context: &DecodeContext) -> Advice {
    let advice = Advice::new(format!(
        "{} found no translation at stage {} for {}",
        access(record),
        stage(record),
        target(record)
    ));
    let advice = own_access(record).into_iter().fold(advice, Advice::then);
    let advice = advice.then(format!(
        "{} should have mapped it: not yet mapped, already unmapped while the device still used it, or the device was given a wrong address",
        owner(record)
    ));
    let address = record.address().0;
    let advice = if !record.is_stage2() && address == 0 {
        advice.then("address 0 is mostly a device that runs with a descriptor or base register that was never filled")
    } else if !record.is_stage2() && address >> 48 != 0 {
        advice.then("the address has more than 48 bits: it may lie outside of what CD.T0SZ and T1SZ cover, which faults whatever the tables say")
    } else {
        advice
    };
    let advice = if record.is_stage2()
        && record.class() == EventClass::In
        && record.ipa().0 == 0
        && address >> 12 != 0
    {
        advice.then("IPA 0: either stage 1 maps the input address to page 0, or the writer of the record left the IPA empty")
    } else {
        advice
    };
    advice.then(walk(record, context))
}

pub(super) fn permission(record: &EventRecord, context: &DecodeContext) -> Advice {
    let advice = Advice::new(format!(
        "{} of {} is not permitted at stage {}",
        access(record),
        target(record),
        stage(record)
    ));
    let advice = if let Some(own) = own_access(record) {
        let advice = advice.then(own);
        match record.is_table_read() {
            Some(true) => advice.then("TTRnW = 1: the walk read the table; stage 2 must let the SMMU read it"),
            Some(false) => advice.then("TTRnW = 0: the walk wrote the table, to update an access flag or a dirty state (CD.HA, CD.HD); stage 2 must let the SMMU write it"),
            None => advice,
        }
    } else if record.is_read() {
        advice.then("the entry is there: check its AP or S2AP bits, and PXN/UXN if it was a fetch of instructions")
    } else {
        advice.then("the entry is there, but read-only: was the buffer mapped for the right direction of DMA? With dirty tracking (HD) the entry may be clean instead")
    };
    advice
        .then("remember that permissions of upper levels (APTable) and of both stages add up")
        .then(walk(record, context))
}

/// The indices of the table walk. The record does not say at which level the walk ended.
pub(super) fn walk(record: &EventRecord, context: &DecodeContext) -> String {
    let stage2 = record.is_stage2();
    let address = if stage2 { ipa(record).0 } else { record.address().0 };
    let known = context.walk(stage2, address);
    let (shift, input) = known.unwrap_or((12, 48));
    // Addresses of TTB1 begin with ones.
    let upper = !stage2 && address >> 55 & 1 != 0;
    let above = address >> input;
    let inside = above == if upper { u64::MAX >> input } else { 0 };
    if known.is_some() && !inside {
        return format!(
            "the descriptor that was given translates {input} bits of input, and the address has more: no table is consulted"
        );
    }
    let address = address & (u64::MAX >> (64 - input));
    let bits = shift - 3;
    // Stage 2 may begin one level lower, with tables side by side, which makes the first index
    // larger.
    let levels = (input - shift).div_ceil(bits).max(1);
    let start = context.start_level(stage2).unwrap_or(4 - levels as i8);
    let levels = (4 - start).unsigned_abs() as u32;
    let indices: Vec<String> = (0..levels)
        .map(|n| {
            let low = shift + (levels - 1 - n) * bits;
            let top = if n == 0 { 64 } else { low + bits };
            let index = address >> low & (u64::MAX >> (64 - (top - low).min(64)));
            format!("L{}[{index}]", start + n as i8)
        })
        .collect();
    let size = 1u32 << (shift - 10);
    let given = match known {
        Some(_) => format!("the descriptor that was given, {size} KiB pages and {input} bits,"),
        None => format!("{size} KiB pages and {input} bits of input"),
    };
    format!(
        "the record does not say at which level the walk ended; with {given} it goes {}",
        indices.join(" ")
    )
}

/// The SMMU's own access, if that faulted.
fn own_access(record: &EventRecord) -> Option<&'static str> {
    match (record.is_stage2(), record.class()) {
        _ if is_left_empty(record) => None,
        (true, EventClass::Tt) => Some(
            "it is the SMMU's own access to a stage-1 table that stage 2 refuses, not the device's: look at what stage 2 says of the guest's tables",
        ),
        (true, EventClass::Cd) => Some(
            "it is the SMMU's own read of a context descriptor that stage 2 refuses, not the device's access: look at what stage 2 says of the guest's CDs",
        ),
        _ => None,
    }
}
