//! Advice on event records.

use smmu_types::{EventClass, EventKind, EventRecord};

use super::Advice;
use crate::context::DecodeContext;

/// What an event means, and what to check next.
pub(crate) fn advise(record: &EventRecord, context: &DecodeContext) -> Advice {
    let sid = record.stream();
    let fetch = fetch_address(record);
    let kind = record.kind();
    let mut advice = match kind {
        EventKind::F_UUT => Advice::new("the SMMU was sent a transaction of a kind that it does not support").then(
            "find the client behind this StreamID; the reason field is the implementation's own: see the manual of this SMMU",
        ),
        EventKind::C_BAD_STREAMID => bad_stream_id(record),
        EventKind::F_STE_FETCH => Advice::new(format!(
            "the stream table entry of stream {sid} could not be read: the fetch from {fetch:#x} was aborted"
        ))
        .then(format!(
            "a linear table has this entry at STRTAB_BASE.ADDR + {:#x}; check that the address above agrees",
            u64::from(sid.0) * 64
        ))
        .then("check that the table is memory that this SMMU can reach, and that CR1 gives it attributes that the memory allows")
        .then("with a two-level table: check L2Ptr of the level-1 descriptor, which was followed"),
        EventKind::C_BAD_STE => bad_ste(record, context),
        EventKind::F_BAD_ATS_TREQ => Advice::new(format!(
            "a device sent an ATS translation request that stream {sid} does not allow"
        ))
        .then("STE.EATS says whether requests are answered: 1 or 2; and IDR0.ATS whether they can be")
        .then("turn ATS off at the device before EATS is cleared, and on only after EATS is set"),
        EventKind::F_STREAM_DISABLED => stream_disabled(record),
        EventKind::F_TRANSL_FORBIDDEN => Advice::new(format!(
            "stream {sid} sent a transaction that says it is translated already, which is not allowed to it"
        ))
        .then("with CR0.ATSCHK set such transactions need STE.EATS = 1 or 2: did software clear EATS while the device still had ATS on?")
        .then("if the device never had ATS on, it (or who controls it) tries to reach physical memory past the SMMU"),
        EventKind::C_BAD_SUBSTREAMID => bad_substream_id(record),
        EventKind::F_CD_FETCH => Advice::new(format!(
            "the context descriptor of stream {sid} could not be read: the fetch from {fetch:#x} was aborted"
        ))
        .then("the address comes from STE.S1ContextPtr and the SubstreamID (64 bytes for each CD; two-level tables have L2Ptr between)")
        .then("with nested translation S1ContextPtr is an IPA: check what stage 2 makes of it"),
        EventKind::C_BAD_CD => bad_cd(record, context),
        EventKind::F_WALK_EABT => Advice::new(format!(
            "a translation table walk of stage {} was aborted at {fetch:#x}",
            stage(record)
        ))
        .then("check that the table at this address is memory that the SMMU can reach; a table freed too early, or a descriptor with a wrong address, looks like this")
        .then("check the cacheability and shareability of walks (CD.IR0/OR0/SH0, STE.S2IR0/S2OR0/S2SH0)"),
        EventKind::F_TRANSLATION => translation(record, context),
        EventKind::F_ADDR_SIZE => Advice::new(format!(
            "an address that stage {} put out, or a table address on the way, is larger than configured",
            stage(record)
        ))
        .then(match record.is_stage2() {
            false => "compare CD.IPS with the output addresses in the table; CD.IPS above IDR5.OAS counts as OAS",
            true => "compare STE.S2PS with the output addresses in the table",
        })
        .then(walk(record, context)),
        EventKind::F_ACCESS => Advice::new(format!(
            "{}: the entry of {} is there, but its access flag is clear",
            access(record),
            target(record)
        ))
        .then("set AF in the descriptor when you map (most DMA drivers do), or set CD.HA / STE.S2HA where IDR0.HTTU allows it, or CD.AFFD / STE.S2AFFD to ignore it")
        .then(walk(record, context)),
        EventKind::F_PERMISSION => permission(record, context),
        EventKind::F_TLB_CONFLICT => Advice::new("the TLB found two entries for one address")
            .then("a block was replaced by a table, or the size of a mapping was changed, without break-before-make: invalid entry, TLBI and SYNC, then the new entry")
            .then("or an ASID or VMID is in use for two tables: see that tags are freed only after their flush"),
        EventKind::F_CFG_CONFLICT => Advice::new(format!("the configuration cache found two entries for stream {sid}"))
            .then("an STE or CD was changed without CFGI_STE or CFGI_CD and a SYNC, or STE.CONT promises neighbours that are not alike"),
        EventKind::E_PAGE_REQUEST => Advice::new(format!(
            "a hint: stream {sid} is about to need {}; no transaction was refused",
            target(record)
        ))
        .then("map the page early, or ignore the hint"),
        EventKind::F_VMS_FETCH => Advice::new(format!(
            "the virtual machine structure of stream {sid} could not be read: the fetch from {fetch:#x} was aborted"
        ))
        .then("check STE.VMSPtr, and send CFGI_VMS_PIDM after the structure changed"),
        EventKind(0xe0..=0xef) => Advice::new("an event that is this implementation's own")
            .then("see the manual of this SMMU; only the number, and where SSV and StreamID are used, is common"),
        EventKind(number) => Advice::new(format!("the architecture defines no event {number:#04x}"))
            .then("check that these are the words of one record, in order, and little-endian: the number is in the lowest byte of the first word"),
    };
    if record.is_stalled() && may_stall(kind) {
        advice = advice.then(format!(
            "the transaction is stalled and waits: answer with CMD_RESUME sid={sid} STAG={}, or CMD_STALL_TERM",
            record.stall_tag()
        ));
    }
    advice
}

/// A kind of event in a few words, if only its number is known.
pub(crate) fn in_short(kind: EventKind) -> &'static str {
    match kind {
        EventKind::F_UUT => "a kind of transaction that is not supported",
        EventKind::C_BAD_STREAMID => "no place in the stream table",
        EventKind::F_STE_FETCH => "the STE could not be read",
        EventKind::C_BAD_STE => "the STE is invalid or illegal",
        EventKind::F_BAD_ATS_TREQ => "an ATS request that is not allowed",
        EventKind::F_STREAM_DISABLED => "transactions without (or with) a SubstreamID are off",
        EventKind::F_TRANSL_FORBIDDEN => "translated traffic that is not allowed",
        EventKind::C_BAD_SUBSTREAMID => "no place in the CD table",
        EventKind::F_CD_FETCH => "the CD could not be read",
        EventKind::C_BAD_CD => "the CD is invalid or illegal",
        EventKind::F_WALK_EABT => "a table could not be read",
        EventKind::F_TRANSLATION => "no translation",
        EventKind::F_ADDR_SIZE => "an address is too large",
        EventKind::F_ACCESS => "the access flag is clear",
        EventKind::F_PERMISSION => "not permitted",
        EventKind::F_TLB_CONFLICT => "two TLB entries for one address",
        EventKind::F_CFG_CONFLICT => "two cached configurations of one stream",
        EventKind::E_PAGE_REQUEST => "a hint that a page will be needed",
        EventKind::F_VMS_FETCH => "the VMS could not be read",
        _ => "a number that the architecture does not define",
    }
}

fn may_stall(kind: EventKind) -> bool {
    kind.is_translation_fault() || kind == EventKind::F_WALK_EABT
}

fn fetch_address(record: &EventRecord) -> u64 {
    record.0[3] & 0x00ff_ffff_ffff_fff8
}

fn stage(record: &EventRecord) -> u8 {
    if record.is_stage2() { 2 } else { 1 }
}

/// The access in words, such as "a privileged read of instructions".
fn access(record: &EventRecord) -> String {
    let privileged = if record.0[1] >> 33 & 1 != 0 { "a privileged" } else { "an unprivileged" };
    let fetch = if record.0[1] >> 34 & 1 != 0 { " of instructions" } else { "" };
    let access = if record.is_read() { "read" } else { "write" };
    format!("{privileged} {access}{fetch}")
}

/// What the SMMU was to translate.
fn target(record: &EventRecord) -> String {
    match (record.is_stage2(), record.class()) {
        (false, _) => format!("input address {}", record.address()),
        (true, EventClass::In) => {
            format!("IPA page {} (input address {})", record.ipa(), record.address())
        }
        (true, EventClass::Tt) => format!(
            "IPA page {}, where the stage-1 table for input address {} lies",
            record.ipa(),
            record.address()
        ),
        (true, EventClass::Cd) => {
            format!("IPA page {}, where the context descriptor lies", record.ipa())
        }
        (true, EventClass::Reserved) => format!("IPA page {}", record.ipa()),
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

fn translation(record: &EventRecord, context: &DecodeContext) -> Advice {
    let advice = Advice::new(format!(
        "{} found no translation at stage {} for {}",
        access(record),
        stage(record),
        target(record)
    ));
    let advice = match own_access(record) {
        Some(own) => advice.then(own),
        None => advice,
    };
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
    advice.then(walk(record, context))
}

fn permission(record: &EventRecord, context: &DecodeContext) -> Advice {
    let advice = Advice::new(format!(
        "{} of {} is not permitted at stage {}",
        access(record),
        target(record),
        stage(record)
    ));
    let advice = if let Some(own) = own_access(record) {
        advice.then(own)
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
fn walk(record: &EventRecord, context: &DecodeContext) -> String {
    let stage2 = record.is_stage2();
    let address = if stage2 { record.ipa().0 } else { record.address().0 };
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
        (true, EventClass::Tt) => Some(
            "it is the SMMU's own access to a stage-1 table that stage 2 refuses, not the device's: look at what stage 2 says of the guest's tables",
        ),
        (true, EventClass::Cd) => Some(
            "it is the SMMU's own read of a context descriptor that stage 2 refuses, not the device's access: look at what stage 2 says of the guest's CDs",
        ),
        _ => None,
    }
}

fn bad_stream_id(record: &EventRecord) -> Advice {
    let sid = record.stream().0;
    let needed = 32 - sid.leading_zeros();
    Advice::new(format!("stream {sid:#x} has no place in the stream table"))
        .then(format!(
            "STRTAB_BASE_CFG.LOG2SIZE must be {needed} or more for this StreamID, and IDR1.SIDSIZE too"
        ))
        .then(format!(
            "two-level table: level-1 descriptor {:#x} (with SPLIT = 8) needs a Span that reaches entry {:#x} of its second level; Span 0 means no second level",
            sid >> 8,
            sid & 0xff
        ))
        .then("check that the StreamID is the one that the platform describes (IORT, iommu-map): an unexpected one is often a bridge or a phantom function")
        .then("after a level-1 descriptor was written, CFGI_STE with Leaf = 0 and a SYNC must follow")
}

fn bad_ste(record: &EventRecord, context: &DecodeContext) -> Advice {
    let sid = record.stream();
    let advice = Advice::new(format!(
        "the stream table entry of stream {sid} is invalid, or illegal for this SMMU"
    ));
    let advice = match (context.illegal_ste(), context.ste) {
        (Some(reasons), _) if !reasons.is_empty() => {
            reasons.into_iter().fold(advice, |advice, reason| advice.then(format!("illegal: {reason}")))
        }
        (Some(_), _) => advice.then(
            "the entry that was given is legal for these ID registers: the SMMU saw another one, or an older one from its cache",
        ),
        (None, Some(_)) => advice.then("give the ID registers (--idr) to learn which field of the entry is illegal"),
        (None, None) => advice.then(format!(
            "give the entry and the ID registers to learn which field is illegal: decode event ... ste <8 words of stream {sid}> --idr IDR0=...,IDR1=...,IDR3=...,IDR5=..."
        )),
    };
    advice
        .then("V = 0 is the usual state of a stream that was never attached: did the device do DMA before its driver was ready?")
        .then("after the entry was written, CFGI_STE and a SYNC must follow; the word with V goes last")
}

fn bad_cd(record: &EventRecord, context: &DecodeContext) -> Advice {
    let place = match record.substream() {
        Some(ssid) => format!("stream {}, substream {ssid}", record.stream()),
        None => format!("stream {}", record.stream()),
    };
    let advice = Advice::new(format!(
        "the context descriptor of {place} is invalid, or illegal for this SMMU"
    ));
    let advice = match (context.illegal_cd(), context.cd) {
        (Some(reasons), _) if !reasons.is_empty() => {
            reasons.into_iter().fold(advice, |advice, reason| advice.then(format!("illegal: {reason}")))
        }
        (Some(_), _) => advice.then(
            "the descriptor that was given is legal for these ID registers: the SMMU saw another one, or an older one from its cache",
        ),
        (None, Some(_)) => advice.then("give the ID registers (--idr) to learn which field of the descriptor is illegal"),
        (None, None) => advice.then(
            "give the descriptor and the ID registers to learn which field is illegal: decode event ... cd <8 words> --idr IDR0=...,IDR1=...,IDR3=...,IDR5=...",
        ),
    };
    advice
        .then("V = 0: nothing is attached to this substream")
        .then("after the descriptor was written, CFGI_CD and a SYNC must follow; the word with V goes last")
        .then("check STE.S1ContextPtr: the SMMU may look at other memory than you do")
}

fn stream_disabled(record: &EventRecord) -> Advice {
    let sid = record.stream();
    let advice = match record.substream() {
        None => Advice::new(format!(
            "stream {sid} sent a transaction without a SubstreamID, and STE.S1DSS = 0 terminates those"
        )),
        Some(ssid) => Advice::new(format!(
            "stream {sid} used SubstreamID {ssid}, which STE.S1DSS = 2 keeps for transactions without one"
        )),
    };
    advice
        .then("S1DSS = 1 lets transactions without a SubstreamID bypass stage 1, S1DSS = 2 gives them the CD of substream 0")
        .then("or the device should have used a PASID: check that it is enabled at the device")
}

fn bad_substream_id(record: &EventRecord) -> Advice {
    let ssid = record.substream().map_or(0, |ssid| ssid.get());
    let needed = (32 - ssid.leading_zeros()).max(1);
    Advice::new(format!("SubstreamID {ssid:#x} of stream {} has no place in the CD table", record.stream()))
        .then(format!(
            "STE.S1CDMax must be {needed} or more for it, and IDR1.SSIDSIZE too; S1CDMax = 0 allows no SubstreamID at all, and neither does a stream without stage 1"
        ))
        .then("two-level CD table: the level-1 descriptor of this SubstreamID must have V = 1")
}
