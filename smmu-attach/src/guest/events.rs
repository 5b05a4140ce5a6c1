//! From the host's event records to the guest's.

use core::fmt;

use smmu_types::fields::events::{
    any, c_bad_substreamid, e_page_request, f_bad_ats_treq, f_permission, f_transl_forbidden,
    f_translation, f_uut,
};
use smmu_types::layout::Key;
use smmu_types::{EventKind, EventRecord, StallModel};

use super::entry::GuestConfig;
use super::smmu::GuestSmmu;
use super::streams::StreamMap;

/// Who handles an event of the host's SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOwner {
    /// The guest: its SMMU records this.
    Guest(EventRecord),
    /// The host.
    Host(HostReason),
}

/// Why an event is the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostReason {
    /// The stream is of no device of the guest.
    UnknownStream,
    /// The guest reached something that the host's stage 2 does not map, or not so. The host may
    /// map it and resume a stalled transaction.
    Stage2,
    /// The host's own tables or memory are at fault. The record has physical addresses.
    HostMemory,
    /// The guest's STE does not lead to such an event: the host has another STE installed than the
    /// [`StreamMap`] says, or the event is older than it.
    NotOfThisEntry,
    /// The transaction waits, and the guest's SMMU has no stalls. The host ends it with a `RESUME`.
    Stalled,
    /// The guest's SMMU has no ATS.
    NoAts,
    /// The event number is reserved or implementation defined.
    UnknownKind,
}

impl fmt::Display for HostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HostReason::UnknownStream => "the stream is of no device of the guest",
            HostReason::Stage2 => "stage 2 of the host is at fault",
            HostReason::HostMemory => "tables or memory of the host are at fault",
            HostReason::NotOfThisEntry => "the guest's STE does not lead to such an event",
            HostReason::Stalled => "the transaction waits, and the guest's SMMU has no stalls",
            HostReason::NoAts => "the guest's SMMU has no ATS",
            HostReason::UnknownKind => "the event number is not known",
        })
    }
}

/// The fields that the guest gets, beside number and StreamID. All other bits are 0.
fn fields(kind: EventKind) -> &'static [Key<EventRecord>] {
    match kind {
        EventKind::F_UUT => {
            &[any::SSV, any::SUBSTREAMID, f_uut::PNU, f_uut::IND, f_uut::RNW, f_uut::INPUTADDR]
        }
        EventKind::C_BAD_STE | EventKind::C_BAD_CD => &[any::SSV, any::SUBSTREAMID],
        EventKind::F_BAD_ATS_TREQ => &[
            any::SSV,
            any::SUBSTREAMID,
            f_bad_ats_treq::SPAN,
            f_bad_ats_treq::PRIV,
            f_bad_ats_treq::X,
            f_bad_ats_treq::W,
            f_bad_ats_treq::R,
            f_bad_ats_treq::INPUTADDR,
        ],
        EventKind::F_TRANSL_FORBIDDEN => &[f_transl_forbidden::RNW, f_transl_forbidden::INPUTADDR],
        EventKind::C_BAD_SUBSTREAMID => &[c_bad_substreamid::SUBSTREAMID],
        EventKind::F_TRANSLATION | EventKind::F_ADDR_SIZE | EventKind::F_ACCESS => FAULT,
        EventKind::F_PERMISSION => PERMISSION,
        EventKind::F_TLB_CONFLICT => &[
            any::SSV,
            any::SUBSTREAMID,
            f_translation::PNU,
            f_translation::IND,
            f_translation::RNW,
            f_translation::INPUTADDR,
        ],
        EventKind::E_PAGE_REQUEST => &[
            any::SSV,
            any::SUBSTREAMID,
            e_page_request::UX,
            e_page_request::UW,
            e_page_request::UR,
            e_page_request::PX,
            e_page_request::PW,
            e_page_request::PR,
            e_page_request::SPAN,
            e_page_request::INPUTADDR,
        ],
        _ => &[],
    }
}

const FAULT: &[Key<EventRecord>] = &[
    any::SSV,
    any::SUBSTREAMID,
    f_translation::STAG,
    f_translation::STALL,
    f_translation::PNU,
    f_translation::IND,
    f_translation::RNW,
    f_translation::CLASS,
    f_translation::INPUTADDR,
];

const PERMISSION: &[Key<EventRecord>] = &[
    any::SSV,
    any::SUBSTREAMID,
    f_permission::STAG,
    f_permission::STALL,
    f_permission::PNU,
    f_permission::IND,
    f_permission::RNW,
    f_permission::CLASS,
    f_permission::TTRNW,
    f_permission::INPUTADDR,
];

impl GuestSmmu {
    /// Whether an event of the host's SMMU is the guest's, and the record that the guest gets.
    ///
    /// | event | the guest's if |
    /// |---|---|
    /// | `F_UUT`, `C_BAD_SUBSTREAMID` | its STE bypasses or translates |
    /// | `C_BAD_STE` | its STE is invalid or refused ([`HostEntry::INVALID_WITH_EVENTS`](super::HostEntry::INVALID_WITH_EVENTS)) |
    /// | `F_BAD_ATS_TREQ`, `F_TRANSL_FORBIDDEN` | the same as `F_UUT`, and the guest sees ATS |
    /// | `F_STREAM_DISABLED`, `C_BAD_CD`, `E_PAGE_REQUEST` | its STE translates |
    /// | `F_TRANSLATION`, `F_ADDR_SIZE`, `F_ACCESS`, `F_PERMISSION`, `F_TLB_CONFLICT` | its STE translates, and `S2` = 0 |
    /// | all others | never |
    ///
    /// The record has the guest's StreamID. Only fields that are the guest's are copied: no
    /// intermediate or physical address, no implementation defined field. A stalled transaction
    /// keeps `STAG`, for the guest's `RESUME`.
    #[must_use]
    pub fn event<M: StreamMap + ?Sized>(&self, record: &EventRecord, map: &M) -> EventOwner {
        let kind = record.kind();
        let Some(device) = map.guest(record.stream()) else {
            return EventOwner::Host(HostReason::UnknownStream);
        };
        let ats = matches!(kind, EventKind::F_BAD_ATS_TREQ | EventKind::F_TRANSL_FORBIDDEN);
        let stage = kind.is_translation_fault() || kind == EventKind::F_TLB_CONFLICT;
        let reason = match kind {
            EventKind::C_BAD_STREAMID
            | EventKind::F_STE_FETCH
            | EventKind::F_CD_FETCH
            | EventKind::F_WALK_EABT
            | EventKind::F_CFG_CONFLICT
            | EventKind::F_VMS_FETCH => Some(HostReason::HostMemory),
            _ if kind.name().is_none() => Some(HostReason::UnknownKind),
            _ if stage && record.is_stage2() => Some(HostReason::Stage2),
            _ if !leads_to(device.config, kind) => Some(HostReason::NotOfThisEntry),
            _ if ats && !self.guest_caps.ats => Some(HostReason::NoAts),
            _ if record.is_stalled()
                && self.guest_caps.stall_model == StallModel::TerminateOnly =>
            {
                Some(HostReason::Stalled)
            }
            _ => None,
        };
        if let Some(reason) = reason {
            return EventOwner::Host(reason);
        }
        let mut told = EventRecord::new(kind, device.stream);
        for key in fields(kind) {
            // `STAG` is unknown unless the transaction waits.
            let mask = match key.name() {
                "STAG" if !record.is_stalled() => 0,
                _ => key.mask(),
            };
            if let (Some(word), Some(from)) = (told.0.get_mut(key.word()), record.0.get(key.word()))
            {
                *word |= from & mask;
            }
        }
        EventOwner::Guest(told)
    }
}

/// Whether a transaction through such an STE of the guest can end in the event.
fn leads_to(config: GuestConfig, kind: EventKind) -> bool {
    match kind {
        EventKind::C_BAD_STE => config == GuestConfig::Invalid,
        EventKind::F_UUT
        | EventKind::C_BAD_SUBSTREAMID
        | EventKind::F_BAD_ATS_TREQ
        | EventKind::F_TRANSL_FORBIDDEN => {
            matches!(config, GuestConfig::Bypass | GuestConfig::Stage1)
        }
        _ => config == GuestConfig::Stage1,
    }
}
