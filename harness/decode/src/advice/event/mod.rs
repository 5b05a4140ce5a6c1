//! Advice on event records.

mod faults;
mod streams;

pub(crate) use faults::impossible;

use smmu_types::fields::events::e_page_request;
use smmu_types::{EventKind, EventRecord};

use super::Advice;
use crate::context::DecodeContext;
use faults::{access, permission, stage, target, translation, walk};
use streams::{
    bad_cd, bad_ste, bad_stream_id, bad_substream_id, stream_disabled, translated_refused,
};

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
        EventKind::F_STREAM_DISABLED => stream_disabled(record, context),
        EventKind::F_TRANSL_FORBIDDEN => translated_refused(record, context),
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
            "a hint: stream {sid} is about to need the page at input address {:#x}; no transaction was refused",
            record.get(e_page_request::INPUTADDR)
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
    if let Some(msi) = faults::msi(record) {
        advice.next.insert(0, msi);
    }
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
        EventKind::F_STREAM_DISABLED => {
            "transactions without a SubstreamID, or with SubstreamID 0, are off"
        }
        EventKind::F_TRANSL_FORBIDDEN => "translated traffic (ATS) that is not allowed",
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
