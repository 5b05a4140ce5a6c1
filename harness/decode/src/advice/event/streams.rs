//! Advice on events about a configuration: the stream, its STE and its CDs.

use smmu_types::EventRecord;
use smmu_types::fields::ste;
use smmu_types::legal::{Effect, Finding};

use super::Advice;
use crate::context::DecodeContext;
use crate::judge::Judgement;

pub(super) fn bad_stream_id(record: &EventRecord) -> Advice {
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

/// What the rules say about the structure that the input has.
fn judged_advice(judged: &Judgement, mut advice: Advice, what: &str) -> Advice {
    let illegal = |finding: &&Finding| matches!(finding.effect(), Effect::Illegal(_));
    let mut found = false;
    for finding in judged.findings.iter().filter(illegal) {
        advice = advice.then(format!("illegal: {finding}"));
        found = true;
    }
    for missing in &judged.not_judged {
        advice = advice.then(format!("not judged: {missing}"));
    }
    if found || !judged.not_judged.is_empty() {
        return advice;
    }
    advice.then(format!(
        "the {what} that was given is legal for these ID registers: the SMMU saw another one, or an older one from its cache"
    ))
}

pub(super) fn bad_ste(record: &EventRecord, context: &DecodeContext) -> Advice {
    let sid = record.stream();
    let advice = Advice::new(format!(
        "the stream table entry of stream {sid} is invalid, or illegal for this SMMU"
    ));
    let advice = match (context.judged_ste(), context.ste) {
        (Some(judged), _) => judged_advice(&judged, advice, "entry"),
        (None, Some(_)) => advice.then("give the ID registers (--idr) to learn which field of the entry is illegal"),
        (None, None) => advice.then(format!(
            "give the entry and the ID registers to learn which field is illegal: decode event ... ste <8 words of stream {sid}> --idr IDR0=...,IDR1=...,IDR3=...,IDR5=..."
        )),
    };
    advice
        .then("V = 0 is the usual state of a stream that was never attached: did the device do DMA before its driver was ready?")
        .then("after the entry was written, CFGI_STE and a SYNC must follow; the word with V goes last")
}

pub(super) fn bad_cd(record: &EventRecord, context: &DecodeContext) -> Advice {
    let place = match record.substream() {
        Some(ssid) => format!("stream {}, substream {ssid}", record.stream()),
        None => format!("stream {}", record.stream()),
    };
    let advice = Advice::new(format!(
        "the context descriptor of {place} is invalid, or illegal for this SMMU"
    ));
    let advice = match (context.judged_cd(), context.cd) {
        (Some(judged), _) => judged_advice(&judged, advice, "descriptor"),
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

/// The record has no SubstreamID (7.3.7), so it does not say which of the two causes it is.
pub(super) fn stream_disabled(record: &EventRecord, context: &DecodeContext) -> Advice {
    let sid = record.stream();
    let advice = Advice::new(format!(
        "stream {sid} sent a transaction without a SubstreamID while STE.S1DSS = 0, or with SubstreamID 0 while S1DSS = 2; the record does not say which"
    ));
    let advice = match context.ste.map(|ste| ste.get(ste::S1DSS)) {
        Some(0 | 3) => advice.then("the STE that was given has S1DSS = 0: the transaction had no SubstreamID"),
        Some(2) => advice.then("the STE that was given has S1DSS = 2: the transaction had SubstreamID 0"),
        Some(_) => advice.then("the STE that was given has S1DSS = 1, which disables neither: the SMMU used another one"),
        None => advice.then("Linux mostly writes S1DSS = 2, and then the device sent PASID 0: its driver must use another PASID, or none"),
    };
    advice
        .then("S1DSS = 0 refuses all traffic without a PASID: is the PASID enabled at the device, and does the device send it?")
        .then("S1DSS = 1 lets transactions without a SubstreamID bypass stage 1, S1DSS = 2 gives them the CD of substream 0")
}

/// The causes are those of 7.3.8.
pub(super) fn translated_refused(record: &EventRecord, context: &DecodeContext) -> Advice {
    let sid = record.stream();
    let advice = Advice::new(format!(
        "stream {sid} sent a transaction that a device marked as translated already (ATS), which this stream may not do"
    ));
    let advice = match context.ste.map(|ste| (ste.get(ste::CONFIG), ste.get(ste::EATS))) {
        Some((4, _)) => advice.then("the STE that was given has Config = 4 (bypass), which refuses translated transactions"),
        Some((_, 0)) => advice.then("the STE that was given has EATS = 0, which refuses translated transactions while CR0.ATSCHK = 1"),
        Some((_, 3)) => advice.then("the STE that was given has EATS = 3: the device permission table refused the access"),
        _ => advice,
    };
    advice
        .then("ATS is on at the device and off for its stream: turn ATS off at the device (its ATS capability, as firmware may have left it on), or set STE.EATS = 1 for it")
        .then("the SMMU refuses translated transactions with CR0.ATSCHK = 1 and STE.EATS = 0; with STE.Config = 4, which Linux writes for an identity domain; with CR0.SMMUEN = 0; and with EATS = 3 if the device permission table (DPT) refuses the address")
        .then("a device that never had ATS on tries to reach physical memory past the SMMU: its driver, or the guest that controls it, is wrong")
        .then("this is event 0x07 and not C_BAD_STREAMID (0x02); turning the event queue off hides the record, and the SMMU goes on refusing the transactions")
}

pub(super) fn bad_substream_id(record: &EventRecord) -> Advice {
    let ssid = record.substream().map_or(0, |ssid| ssid.get());
    let needed = (32 - ssid.leading_zeros()).max(1);
    Advice::new(format!("SubstreamID {ssid:#x} of stream {} has no place in the CD table", record.stream()))
        .then(format!(
            "STE.S1CDMax must be {needed} or more for it, and IDR1.SSIDSIZE too; S1CDMax = 0 allows no SubstreamID at all, and neither does a stream without stage 1"
        ))
        .then("two-level CD table: the level-1 descriptor of this SubstreamID must have V = 1")
}
