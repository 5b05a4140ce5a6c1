//! Commands from and to their 16 bytes.

use super::{
    AtcScope, AtcSpan, Command, Completion, Leaf, MsiAttributes, PrefetchSpan, PriResponse,
    RawCommand, ResumeAction, SteRange,
};
use crate::range::Span;
use crate::spec::bits::{bit, get, mask, put};
use crate::{Asid, Iova, PrgIndex, StreamId, SubstreamId, Vmid};

pub(super) const PREFETCH_CONFIG: u64 = 0x01;
pub(super) const PREFETCH_ADDR: u64 = 0x02;
const CFGI_STE: u64 = 0x03;
pub(super) const CFGI_STE_RANGE: u64 = 0x04;
const CFGI_CD: u64 = 0x05;
const CFGI_CD_ALL: u64 = 0x06;
const CFGI_VMS_PIDM: u64 = 0x07;
const TLBI_NH_ALL: u64 = 0x10;
const TLBI_NH_ASID: u64 = 0x11;
const TLBI_NH_VA: u64 = 0x12;
const TLBI_NH_VAA: u64 = 0x13;
const TLBI_EL2_ALL: u64 = 0x20;
const TLBI_EL2_ASID: u64 = 0x21;
const TLBI_EL2_VA: u64 = 0x22;
const TLBI_EL2_VAA: u64 = 0x23;
const TLBI_S12_VMALL: u64 = 0x28;
const TLBI_S2_IPA: u64 = 0x2a;
const TLBI_NSNH_ALL: u64 = 0x30;
pub(super) const ATC_INV: u64 = 0x40;
pub(super) const PRI_RESP: u64 = 0x41;
pub(super) const RESUME: u64 = 0x44;
const STALL_TERM: u64 = 0x45;
pub(super) const SYNC: u64 = 0x46;
const DPTI_ALL: u64 = 0x70;

const GLOBAL: u64 = 1 << 9;
pub(super) const SSV: u64 = 1 << 11;
pub(super) const RANGE_ALL: u64 = 31;

const fn sid(stream: StreamId) -> u64 {
    put(stream.0 as u64, 63, 32)
}

const fn ssid(substream: SubstreamId) -> u64 {
    put(substream.get() as u64, 31, 12)
}

const fn optional_ssid(substream: Option<SubstreamId>) -> u64 {
    match substream {
        Some(substream) => SSV | ssid(substream),
        None => 0,
    }
}

const fn vm(vmid: Vmid) -> u64 {
    put(vmid.0 as u64, 47, 32)
}

const fn asp(asid: Asid) -> u64 {
    put(asid.0 as u64, 63, 48)
}

const fn leaf_bit(leaf: Leaf) -> u64 {
    matches!(leaf, Leaf::Last) as u64
}

/// Whether a command invalidates translations of addresses.
pub(super) const fn is_tlbi_by_address(opcode: u64) -> bool {
    matches!(opcode, TLBI_NH_VA | TLBI_NH_VAA | TLBI_EL2_VA | TLBI_EL2_VAA | TLBI_S2_IPA)
}

impl Command {
    /// A `CMD_SYNC` that is seen to be complete by polling `CMDQ_CONS`.
    pub const SYNC: Command = Command::sync(Completion::None);

    /// A `CMD_SYNC` with the attributes of cacheable memory, for an MSI to it: all of a queue look the same.
    #[must_use]
    pub const fn sync(completion: Completion) -> Command {
        Command::Sync { completion, attributes: MsiAttributes::WRITE_BACK }
    }

    /// The 16 bytes of the command.
    // Where the command is known, as it is at almost every place that makes one, two shifts are left of the
    // match; a call would build the enum in memory and jump through a table.
    #[must_use]
    #[inline(always)]
    pub const fn encode(self) -> RawCommand {
        RawCommand(match self {
            Command::PrefetchConfig { stream, substream } => {
                [PREFETCH_CONFIG | sid(stream) | optional_ssid(substream), 0]
            }
            Command::PrefetchAddr { stream, substream, span } => {
                [PREFETCH_ADDR | sid(stream) | optional_ssid(substream), span.encode()]
            }
            Command::CfgiSte { stream, leaf } => [CFGI_STE | sid(stream), leaf_bit(leaf)],
            Command::CfgiSteRange { stream, range } => {
                [CFGI_STE_RANGE | sid(stream), range.get() as u64]
            }
            Command::CfgiAll => [CFGI_STE_RANGE, RANGE_ALL],
            Command::CfgiCd { stream, substream, leaf } => {
                [CFGI_CD | sid(stream) | ssid(substream), leaf_bit(leaf)]
            }
            Command::CfgiCdAll { stream } => [CFGI_CD_ALL | sid(stream), 0],
            Command::CfgiVmsPidm { vmid } => [CFGI_VMS_PIDM | vm(vmid), 0],
            Command::TlbiNhAll { vmid } => [TLBI_NH_ALL | vm(vmid), 0],
            Command::TlbiNhAsid { vmid, asid } => [TLBI_NH_ASID | vm(vmid) | asp(asid), 0],
            Command::TlbiNhVa { vmid, asid, span } => {
                span.encode(TLBI_NH_VA | vm(vmid) | asp(asid))
            }
            Command::TlbiNhVaa { vmid, span } => span.encode(TLBI_NH_VAA | vm(vmid)),
            Command::TlbiEl2All => [TLBI_EL2_ALL, 0],
            Command::TlbiEl2Asid { asid } => [TLBI_EL2_ASID | asp(asid), 0],
            Command::TlbiEl2Va { asid, span } => span.encode(TLBI_EL2_VA | asp(asid)),
            Command::TlbiEl2Vaa { span } => span.encode(TLBI_EL2_VAA),
            Command::TlbiS12Vmall { vmid } => [TLBI_S12_VMALL | vm(vmid), 0],
            Command::TlbiS2Ipa { vmid, span } => span.encode(TLBI_S2_IPA | vm(vmid)),
            Command::TlbiNsnhAll => [TLBI_NSNH_ALL, 0],
            Command::AtcInv { stream, substream, scope, span } => {
                let global = match scope {
                    AtcScope::Substream => 0,
                    AtcScope::Global => GLOBAL,
                };
                [
                    ATC_INV | sid(stream) | optional_ssid(substream) | global,
                    span.size() as u64 | span.address().0,
                ]
            }
            Command::PriResp { stream, substream, group, response } => [
                PRI_RESP | sid(stream) | optional_ssid(substream),
                group.get() as u64 | put(response as u64, 13, 12),
            ],
            Command::DptiAll => [DPTI_ALL, 0],
            Command::Resume { stream, tag, action } => {
                [RESUME | sid(stream) | put(action as u64, 13, 12), tag as u64]
            }
            Command::StallTerm { stream } => [STALL_TERM | sid(stream), 0],
            Command::Sync { completion, attributes } => {
                let [w0, w1] = completion.encode();
                [SYNC | w0 | attributes.encode(), w1]
            }
            Command::Unknown(raw) => raw.0,
        })
    }

    /// The command that 16 bytes mean.
    ///
    /// Total: an opcode that is not known, reserved bits that are set, or operands without a defined effect, give
    /// [`Command::Unknown`], so `decode(raw).encode() == raw` always holds. Some of these an SMMU carries out all the
    /// same; what emulates one asks [`interpret`](Self::interpret).
    #[must_use]
    pub fn decode(raw: RawCommand) -> Command {
        let known = Self::decode_fields(raw);
        match known {
            Some(command) if command.encode() == raw => command,
            _ => Command::Unknown(raw),
        }
    }

    fn decode_fields(raw: RawCommand) -> Option<Command> {
        let [w0, w1] = raw.0;
        let stream = StreamId(get(w0, 63, 32) as u32);
        let vmid = Vmid(get(w0, 47, 32) as u16);
        let asid = Asid(get(w0, 63, 48) as u16);
        let leaf = if bit(w1, 0) { Leaf::Last } else { Leaf::All };
        let substream = match w0 & SSV {
            0 => None,
            _ => Some(SubstreamId::new(get(w0, 31, 12) as u32)?),
        };
        Some(match get(w0, 7, 0) {
            PREFETCH_CONFIG => Command::PrefetchConfig { stream, substream },
            PREFETCH_ADDR => {
                Command::PrefetchAddr { stream, substream, span: PrefetchSpan::decode(w1)? }
            }
            CFGI_STE => Command::CfgiSte { stream, leaf },
            CFGI_STE_RANGE if get(w1, 4, 0) == RANGE_ALL => Command::CfgiAll,
            CFGI_STE_RANGE => {
                let range = SteRange::new(get(w1, 4, 0) as u8).ok()?;
                Command::CfgiSteRange { stream, range }
            }
            CFGI_CD => {
                let substream = SubstreamId::new(get(w0, 31, 12) as u32)?;
                Command::CfgiCd { stream, substream, leaf }
            }
            CFGI_CD_ALL => Command::CfgiCdAll { stream },
            CFGI_VMS_PIDM => Command::CfgiVmsPidm { vmid },
            TLBI_NH_ALL => Command::TlbiNhAll { vmid },
            TLBI_NH_ASID => Command::TlbiNhAsid { vmid, asid },
            TLBI_NH_VA => Command::TlbiNhVa { vmid, asid, span: Span::decode(w0, w1)? },
            TLBI_NH_VAA => Command::TlbiNhVaa { vmid, span: Span::decode(w0, w1)? },
            TLBI_EL2_ALL => Command::TlbiEl2All,
            TLBI_EL2_ASID => Command::TlbiEl2Asid { asid },
            TLBI_EL2_VA => Command::TlbiEl2Va { asid, span: Span::decode(w0, w1)? },
            TLBI_EL2_VAA => Command::TlbiEl2Vaa { span: Span::decode(w0, w1)? },
            TLBI_S12_VMALL => Command::TlbiS12Vmall { vmid },
            TLBI_S2_IPA => Command::TlbiS2Ipa { vmid, span: Span::decode(w0, w1)? },
            TLBI_NSNH_ALL => Command::TlbiNsnhAll,
            ATC_INV => Command::AtcInv {
                stream,
                substream,
                scope: if w0 & GLOBAL == 0 { AtcScope::Substream } else { AtcScope::Global },
                span: AtcSpan::new(Iova(w1 & mask(63, 12)), get(w1, 5, 0) as u8).ok()?,
            },
            PRI_RESP => Command::PriResp {
                stream,
                substream,
                group: PrgIndex::new(get(w1, 8, 0) as u16)?,
                response: match get(w1, 13, 12) {
                    0 => PriResponse::Failure,
                    1 => PriResponse::Invalid,
                    2 => PriResponse::Success,
                    _ => return None,
                },
            },
            DPTI_ALL => Command::DptiAll,
            RESUME => Command::Resume {
                stream,
                tag: get(w1, 15, 0) as u16,
                action: match get(w0, 13, 12) {
                    0 => ResumeAction::Terminate,
                    1 => ResumeAction::Retry,
                    2 => ResumeAction::Abort,
                    _ => return None,
                },
            },
            STALL_TERM => Command::StallTerm { stream },
            SYNC => Command::Sync {
                completion: Completion::decode(w0, w1)?,
                attributes: MsiAttributes::decode(w0)?,
            },
            _ => return None,
        })
    }
}
