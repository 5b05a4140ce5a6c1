//! Commands from and to their 16 bytes.

use super::Span;
use super::{
    AtcScope, AtcSpan, Command, Completion, Leaf, MsiAttributes, PrefetchSpan, PriResponse,
    RawCommand, ResumeAction, SteRange,
};
use crate::fields::commands::opcode::*;
use crate::fields::commands::*;
use crate::layout::Key;
use crate::{Asid, Iova, PrgIndex, StreamId, SubstreamId, Vmid};

/// The `Range` that makes a `CMD_CFGI_STE_RANGE` a `CMD_CFGI_ALL`.
pub(super) const RANGE_ALL: u64 = 31;

const fn start(opcode: u64) -> RawCommand {
    RawCommand([0; 2]).put(any_command::OPCODE, opcode)
}

const fn leaf_bit(leaf: Leaf) -> u64 {
    matches!(leaf, Leaf::Last) as u64
}

impl RawCommand {
    /// Puts an optional SubstreamID; `SSV` is set with it.
    #[inline(always)]
    const fn put_substream(self, substream: Option<SubstreamId>) -> Self {
        match substream {
            Some(substream) => {
                self.put(atc_inv::SSV, 1).put(atc_inv::SUBSTREAMID, substream.get() as u64)
            }
            None => self,
        }
    }

    /// The same command with zero in a field.
    pub(crate) const fn without(mut self, key: Key<Self>) -> Self {
        self.0[key.word()] &= !key.mask();
        self
    }
}

/// Whether a command invalidates translations of addresses.
pub(super) const fn is_tlbi_by_address(opcode: u64) -> bool {
    matches!(opcode, TLBI_NH_VA | TLBI_NH_VAA | TLBI_EL2_VA | TLBI_EL2_VAA | TLBI_S2_IPA)
}

impl Command {
    /// A `CMD_SYNC` without a signal: the caller polls `CMDQ_CONS`.
    pub const SYNC: Command = Command::sync(Completion::None);

    /// A `CMD_SYNC` with the MSI attributes of cacheable memory, with or without an MSI.
    #[must_use]
    pub const fn sync(completion: Completion) -> Command {
        Command::Sync { completion, attributes: MsiAttributes::WRITE_BACK }
    }

    /// The 16 bytes of the command.
    // Inlined, because almost every caller knows the variant: two shifts remain of the match. A
    // call would build the enum in memory and jump through a table.
    #[must_use]
    #[inline(always)]
    pub const fn encode(self) -> RawCommand {
        match self {
            Command::PrefetchConfig { stream, substream } => start(PREFETCH_CONFIG)
                .put(prefetch_config::STREAMID, stream.0 as u64)
                .put_substream(substream),
            Command::PrefetchAddr { stream, substream, span } => {
                let command = start(PREFETCH_ADDR).put(prefetch_addr::STREAMID, stream.0 as u64);
                span.encode(command.put_substream(substream))
            }
            Command::CfgiSte { stream, leaf } => start(CFGI_STE)
                .put(cfgi_ste::STREAMID, stream.0 as u64)
                .put(cfgi_ste::LEAF, leaf_bit(leaf)),
            Command::CfgiSteRange { stream, range } => start(CFGI_STE_RANGE)
                .put(cfgi_ste_range::STREAMID, stream.0 as u64)
                .put(cfgi_ste_range::RANGE, range.get() as u64),
            Command::CfgiAll => start(CFGI_STE_RANGE).put(cfgi_ste_range::RANGE, RANGE_ALL),
            Command::CfgiCd { stream, substream, leaf } => start(CFGI_CD)
                .put(cfgi_cd::STREAMID, stream.0 as u64)
                .put(cfgi_cd::SUBSTREAMID, substream.get() as u64)
                .put(cfgi_cd::LEAF, leaf_bit(leaf)),
            Command::CfgiCdAll { stream } => {
                start(CFGI_CD_ALL).put(cfgi_cd_all::STREAMID, stream.0 as u64)
            }
            Command::CfgiVmsPidm { vmid } => {
                start(CFGI_VMS_PIDM).put(cfgi_vms_pidm::VMID, vmid.0 as u64)
            }
            Command::TlbiNhAll { vmid } => start(TLBI_NH_ALL).put(tlbi_nh_all::VMID, vmid.0 as u64),
            Command::TlbiNhAsid { vmid, asid } => start(TLBI_NH_ASID)
                .put(tlbi_nh_asid::VMID, vmid.0 as u64)
                .put(tlbi_nh_asid::ASID, asid.0 as u64),
            Command::TlbiNhVa { vmid, asid, span } => {
                let command = start(TLBI_NH_VA).put(tlbi_nh_va::VMID, vmid.0 as u64);
                span.encode(command.put(tlbi_nh_va::ASID, asid.0 as u64))
            }
            Command::TlbiNhVaa { vmid, span } => {
                span.encode(start(TLBI_NH_VAA).put(tlbi_nh_vaa::VMID, vmid.0 as u64))
            }
            Command::TlbiEl2All => start(TLBI_EL2_ALL),
            Command::TlbiEl2Asid { asid } => {
                start(TLBI_EL2_ASID).put(tlbi_el2_asid::ASID, asid.0 as u64)
            }
            Command::TlbiEl2Va { asid, span } => {
                span.encode(start(TLBI_EL2_VA).put(tlbi_el2_va::ASID, asid.0 as u64))
            }
            Command::TlbiEl2Vaa { span } => span.encode(start(TLBI_EL2_VAA)),
            Command::TlbiS12Vmall { vmid } => {
                start(TLBI_S12_VMALL).put(tlbi_s12_vmall::VMID, vmid.0 as u64)
            }
            Command::TlbiS2Ipa { vmid, span } => {
                span.encode(start(TLBI_S2_IPA).put(tlbi_s2_ipa::VMID, vmid.0 as u64))
            }
            Command::TlbiNsnhAll => start(TLBI_NSNH_ALL),
            Command::AtcInv { stream, substream, scope, span } => start(ATC_INV)
                .put(atc_inv::STREAMID, stream.0 as u64)
                .put_substream(substream)
                .put(atc_inv::GLOBAL, matches!(scope, AtcScope::Global) as u64)
                .put(atc_inv::SIZE, span.size() as u64)
                .put(atc_inv::ADDRESS, span.address().0),
            Command::PriResp { stream, substream, group, response } => start(PRI_RESP)
                .put(pri_resp::STREAMID, stream.0 as u64)
                .put_substream(substream)
                .put(pri_resp::PRGINDEX, group.get() as u64)
                .put(pri_resp::RESP, response as u64),
            Command::DptiAll => start(DPTI_ALL),
            Command::Resume { stream, tag, action } => start(RESUME)
                .put(resume::STREAMID, stream.0 as u64)
                .put(resume::STAG, tag as u64)
                .put(resume::AC, matches!(action, ResumeAction::Retry) as u64)
                .put(resume::AB, matches!(action, ResumeAction::Abort) as u64),
            Command::StallTerm { stream } => {
                start(STALL_TERM).put(stall_term::STREAMID, stream.0 as u64)
            }
            Command::Sync { completion, attributes } => {
                attributes.encode(completion.encode(start(SYNC)))
            }
            Command::Unknown(raw) => raw,
        }
    }

    /// Decodes 16 bytes, bit by bit.
    ///
    /// Decoding cannot fail. An unknown opcode, a set reserved bit and operands without a defined
    /// effect give [`Command::Unknown`], so `decode(raw).encode() == raw` always holds. An SMMU
    /// carries out some of these; an emulator calls [`interpret`](Self::interpret).
    #[must_use]
    pub fn decode(raw: RawCommand) -> Command {
        let known = Self::decode_fields(raw);
        match known {
            Some(command) if command.encode() == raw => command,
            _ => Command::Unknown(raw),
        }
    }

    fn decode_fields(raw: RawCommand) -> Option<Command> {
        // All commands with one of these fields have it in the same place.
        let stream = StreamId(raw.get(cfgi_ste::STREAMID) as u32);
        let vmid = Vmid(raw.get(tlbi_nh_va::VMID) as u16);
        let asid = Asid(raw.get(tlbi_nh_va::ASID) as u16);
        let leaf = if raw.is_set(cfgi_ste::LEAF) { Leaf::Last } else { Leaf::All };
        let substream = match raw.is_set(atc_inv::SSV) {
            true => Some(SubstreamId::new(raw.get(atc_inv::SUBSTREAMID) as u32)?),
            false => None,
        };
        Some(match raw.get(any_command::OPCODE) {
            PREFETCH_CONFIG => Command::PrefetchConfig { stream, substream },
            PREFETCH_ADDR => {
                Command::PrefetchAddr { stream, substream, span: PrefetchSpan::decode(raw)? }
            }
            CFGI_STE => Command::CfgiSte { stream, leaf },
            CFGI_STE_RANGE => match raw.get(cfgi_ste_range::RANGE) {
                RANGE_ALL => Command::CfgiAll,
                range => {
                    let range = SteRange::new(range as u8).ok()?;
                    Command::CfgiSteRange { stream, range }
                }
            },
            CFGI_CD => {
                let substream = SubstreamId::new(raw.get(cfgi_cd::SUBSTREAMID) as u32)?;
                Command::CfgiCd { stream, substream, leaf }
            }
            CFGI_CD_ALL => Command::CfgiCdAll { stream },
            CFGI_VMS_PIDM => Command::CfgiVmsPidm { vmid },
            TLBI_NH_ALL => Command::TlbiNhAll { vmid },
            TLBI_NH_ASID => Command::TlbiNhAsid { vmid, asid },
            TLBI_NH_VA => Command::TlbiNhVa { vmid, asid, span: Span::decode(raw)? },
            TLBI_NH_VAA => Command::TlbiNhVaa { vmid, span: Span::decode(raw)? },
            TLBI_EL2_ALL => Command::TlbiEl2All,
            TLBI_EL2_ASID => Command::TlbiEl2Asid { asid },
            TLBI_EL2_VA => Command::TlbiEl2Va { asid, span: Span::decode(raw)? },
            TLBI_EL2_VAA => Command::TlbiEl2Vaa { span: Span::decode(raw)? },
            TLBI_S12_VMALL => Command::TlbiS12Vmall { vmid },
            TLBI_S2_IPA => Command::TlbiS2Ipa { vmid, span: Span::decode(raw)? },
            TLBI_NSNH_ALL => Command::TlbiNsnhAll,
            ATC_INV => Command::AtcInv {
                stream,
                substream,
                scope: match raw.is_set(atc_inv::GLOBAL) {
                    true => AtcScope::Global,
                    false => AtcScope::Substream,
                },
                span: AtcSpan::new(Iova(raw.get(atc_inv::ADDRESS)), raw.get(atc_inv::SIZE) as u8)
                    .ok()?,
            },
            PRI_RESP => Command::PriResp {
                stream,
                substream,
                group: PrgIndex::new(raw.get(pri_resp::PRGINDEX) as u16)?,
                response: match raw.get(pri_resp::RESP) {
                    0 => PriResponse::Failure,
                    1 => PriResponse::Invalid,
                    2 => PriResponse::Success,
                    _ => return None,
                },
            },
            DPTI_ALL => Command::DptiAll,
            RESUME => Command::Resume {
                stream,
                tag: raw.get(resume::STAG) as u16,
                action: match (raw.is_set(resume::AC), raw.is_set(resume::AB)) {
                    (false, false) => ResumeAction::Terminate,
                    (true, false) => ResumeAction::Retry,
                    (false, true) => ResumeAction::Abort,
                    (true, true) => return None,
                },
            },
            STALL_TERM => Command::StallTerm { stream },
            SYNC => Command::Sync {
                completion: Completion::decode(raw)?,
                attributes: MsiAttributes::decode(raw)?,
            },
            _ => return None,
        })
    }
}
