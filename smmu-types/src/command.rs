//! Commands of the command queue (IHI 0070, chapter 4): 16 bytes each.

use core::fmt;

use crate::bits::{bit, get, mask, put};
use crate::range::{RangeGranule, Span};
use crate::{Asid, Iova, Ipa, PhysAddr, StreamId, SubstreamId, Vmid};

/// A command as it lies in the queue: two little-endian 64-bit words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RawCommand(pub [u64; 2]);

impl RawCommand {
    /// Size of a command in bytes.
    pub const BYTES: usize = 16;

    /// The opcode, bits 7:0 of the first word.
    #[must_use]
    pub const fn opcode(self) -> u8 {
        self.0[0] as u8
    }
}

impl fmt::Display for RawCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x} {:#018x}", self.0[0], self.0[1])
    }
}

/// Whether an invalidation may keep what was cached of the levels above the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// Only the last level changed: `Leaf` = 1.
    Last,
    /// Any level may have changed: `Leaf` = 0.
    All,
}

/// How a `CMD_SYNC` tells that it is complete (`CS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Completion {
    /// `SIG_NONE`: only `CMDQ_CONS` passes it.
    None,
    /// `SIG_IRQ` without an address: the wired interrupt of `CMD_SYNC`.
    Interrupt,
    /// `SIG_IRQ` with an address: 32 bits of data are written there.
    Msi {
        /// Where the data goes; aligned to 4 bytes.
        address: PhysAddr,
        /// The data.
        data: u32,
    },
    /// `SIG_SEV`: an event for `WFE`.
    Event,
}

/// A command, typed. Unknown opcodes and reserved encodings are kept as [`Command::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// `CMD_CFGI_STE`: forget the STE of one stream (and, with [`Leaf::All`], the L1 descriptor).
    CfgiSte {
        /// The stream.
        stream: StreamId,
        /// Whether level 1 of the stream table may have changed as well.
        leaf: Leaf,
    },
    /// `CMD_CFGI_STE_RANGE`: forget 2^(range+1) STEs, aligned.
    CfgiSteRange {
        /// A stream of the range.
        stream: StreamId,
        /// log2 of the number of STEs, less one; below 31.
        range: u8,
    },
    /// `CMD_CFGI_ALL`: forget all configuration.
    CfgiAll,
    /// `CMD_CFGI_CD`: forget one context descriptor.
    CfgiCd {
        /// The stream.
        stream: StreamId,
        /// The substream; 0 for a stream without substreams.
        substream: SubstreamId,
        /// Whether level 1 of the CD table may have changed as well.
        leaf: Leaf,
    },
    /// `CMD_CFGI_CD_ALL`: forget all context descriptors of a stream.
    CfgiCdAll {
        /// The stream.
        stream: StreamId,
    },
    /// `CMD_TLBI_NH_ALL`: all stage-1 entries of a VMID.
    TlbiNhAll {
        /// The VMID.
        vmid: Vmid,
    },
    /// `CMD_TLBI_NH_ASID`: all non-global stage-1 entries of an ASID.
    TlbiNhAsid {
        /// The VMID; 0 where stage 2 is not in use.
        vmid: Vmid,
        /// The ASID.
        asid: Asid,
    },
    /// `CMD_TLBI_NH_VA`: stage-1 entries of a span of addresses and an ASID.
    TlbiNhVa {
        /// The VMID; 0 where stage 2 is not in use.
        vmid: Vmid,
        /// The ASID.
        asid: Asid,
        /// The addresses.
        span: Span<Iova>,
    },
    /// `CMD_TLBI_NH_VAA`: the same for every ASID.
    TlbiNhVaa {
        /// The VMID; 0 where stage 2 is not in use.
        vmid: Vmid,
        /// The addresses.
        span: Span<Iova>,
    },
    /// `CMD_TLBI_EL2_ALL`: all entries of the EL2 regime.
    TlbiEl2All,
    /// `CMD_TLBI_EL2_ASID`: all non-global entries of an ASID of the EL2-E2H regime.
    TlbiEl2Asid {
        /// The ASID.
        asid: Asid,
    },
    /// `CMD_TLBI_EL2_VA`: EL2 entries of a span of addresses and an ASID.
    TlbiEl2Va {
        /// The ASID.
        asid: Asid,
        /// The addresses.
        span: Span<Iova>,
    },
    /// `CMD_TLBI_S12_VMALL`: all entries of a VMID, both stages.
    TlbiS12Vmall {
        /// The VMID.
        vmid: Vmid,
    },
    /// `CMD_TLBI_S2_IPA`: stage-2 entries of a span of intermediate addresses.
    TlbiS2Ipa {
        /// The VMID.
        vmid: Vmid,
        /// The addresses.
        span: Span<Ipa>,
    },
    /// `CMD_TLBI_NSNH_ALL`: all Non-secure entries outside EL2.
    TlbiNsnhAll,
    /// `CMD_ATC_INV`: translations that a device has cached itself.
    AtcInv {
        /// The stream.
        stream: StreamId,
        /// The substream; `None` for requests without one, which drops the entries of every
        /// substream as well.
        substream: Option<SubstreamId>,
        /// First address, aligned to the size.
        address: Iova,
        /// log2 of the number of 4 KiB pages; 52 and above for everything.
        size: u8,
    },
    /// `CMD_SYNC`: complete once everything before it is.
    Sync {
        /// How its completion is told.
        completion: Completion,
    },
    /// An opcode or encoding that is none of the above, kept as it was.
    Unknown(RawCommand),
}

const CFGI_STE: u64 = 0x03;
const CFGI_STE_RANGE: u64 = 0x04;
const CFGI_CD: u64 = 0x05;
const CFGI_CD_ALL: u64 = 0x06;
const TLBI_NH_ALL: u64 = 0x10;
const TLBI_NH_ASID: u64 = 0x11;
const TLBI_NH_VA: u64 = 0x12;
const TLBI_NH_VAA: u64 = 0x13;
const TLBI_EL2_ALL: u64 = 0x20;
const TLBI_EL2_ASID: u64 = 0x21;
const TLBI_EL2_VA: u64 = 0x22;
const TLBI_S12_VMALL: u64 = 0x28;
const TLBI_S2_IPA: u64 = 0x2a;
const TLBI_NSNH_ALL: u64 = 0x30;
const ATC_INV: u64 = 0x40;
const SYNC: u64 = 0x46;

const SSV: u64 = 1 << 11;
const RANGE_ALL: u64 = 31;
// Inner Shareable, Normal Inner and Outer Write-Back: what a SYNC's MSI is written with. It has no
// meaning without an MSI, and is set alike so that every SYNC of a queue looks the same.
const SYNC_ATTRIBUTES: u64 = put(3, 23, 22) | put(0xf, 27, 24);

impl Command {
    /// A `CMD_SYNC` that is seen to be complete by polling `CMDQ_CONS`.
    pub const SYNC: Command = Command::Sync { completion: Completion::None };

    /// The 16 bytes of the command.
    #[must_use]
    #[inline]
    pub fn encode(self) -> RawCommand {
        let sid = |s: StreamId| put(s.0.into(), 63, 32);
        let vm = |v: Vmid| put(v.0.into(), 47, 32);
        let asp = |a: Asid| put(a.0.into(), 63, 48);
        let leaf_bit = |l: Leaf| u64::from(l == Leaf::Last);
        RawCommand(match self {
            Command::CfgiSte { stream, leaf } => [CFGI_STE | sid(stream), leaf_bit(leaf)],
            Command::CfgiSteRange { stream, range } => {
                [CFGI_STE_RANGE | sid(stream), put(range.into(), 4, 0)]
            }
            Command::CfgiAll => [CFGI_STE_RANGE, RANGE_ALL],
            Command::CfgiCd { stream, substream, leaf } => {
                [CFGI_CD | sid(stream) | put(substream.get().into(), 31, 12), leaf_bit(leaf)]
            }
            Command::CfgiCdAll { stream } => [CFGI_CD_ALL | sid(stream), 0],
            Command::TlbiNhAll { vmid } => [TLBI_NH_ALL | vm(vmid), 0],
            Command::TlbiNhAsid { vmid, asid } => [TLBI_NH_ASID | vm(vmid) | asp(asid), 0],
            Command::TlbiNhVa { vmid, asid, span } => {
                encode_span(TLBI_NH_VA | vm(vmid) | asp(asid), span.map(|a| a.0))
            }
            Command::TlbiNhVaa { vmid, span } => {
                encode_span(TLBI_NH_VAA | vm(vmid), span.map(|a| a.0))
            }
            Command::TlbiEl2All => [TLBI_EL2_ALL, 0],
            Command::TlbiEl2Asid { asid } => [TLBI_EL2_ASID | asp(asid), 0],
            Command::TlbiEl2Va { asid, span } => {
                encode_span(TLBI_EL2_VA | asp(asid), span.map(|a| a.0))
            }
            Command::TlbiS12Vmall { vmid } => [TLBI_S12_VMALL | vm(vmid), 0],
            Command::TlbiS2Ipa { vmid, span } => {
                encode_span(TLBI_S2_IPA | vm(vmid), span.map(|a| a.0))
            }
            Command::TlbiNsnhAll => [TLBI_NSNH_ALL, 0],
            Command::AtcInv { stream, substream, address, size } => {
                let ssid = substream.map_or(0, |s| SSV | put(s.get().into(), 31, 12));
                [ATC_INV | sid(stream) | ssid, put(size.into(), 5, 0) | address.0 & mask(63, 12)]
            }
            Command::Sync { completion } => {
                let (cs, address, data) = match completion {
                    Completion::None => (0, 0, 0),
                    Completion::Interrupt => (1, 0, 0),
                    Completion::Msi { address, data } => (1, address.0 & mask(51, 2), data),
                    Completion::Event => (2, 0, 0),
                };
                [SYNC | put(cs, 13, 12) | SYNC_ATTRIBUTES | put(data.into(), 63, 32), address]
            }
            Command::Unknown(raw) => raw.0,
        })
    }

    /// The command that 16 bytes mean.
    ///
    /// Total: an opcode that is not known, or reserved bits that are set, give
    /// [`Command::Unknown`], so `decode(raw).encode() == raw` always holds.
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
        let span = decode_span(w0, w1);
        Some(match get(w0, 7, 0) {
            CFGI_STE => Command::CfgiSte { stream, leaf },
            CFGI_STE_RANGE if get(w1, 4, 0) == RANGE_ALL => Command::CfgiAll,
            CFGI_STE_RANGE => Command::CfgiSteRange { stream, range: get(w1, 4, 0) as u8 },
            CFGI_CD => {
                let substream = SubstreamId::new(get(w0, 31, 12) as u32)?;
                Command::CfgiCd { stream, substream, leaf }
            }
            CFGI_CD_ALL => Command::CfgiCdAll { stream },
            TLBI_NH_ALL => Command::TlbiNhAll { vmid },
            TLBI_NH_ASID => Command::TlbiNhAsid { vmid, asid },
            TLBI_NH_VA => Command::TlbiNhVa { vmid, asid, span: span.map(Iova) },
            TLBI_NH_VAA => Command::TlbiNhVaa { vmid, span: span.map(Iova) },
            TLBI_EL2_ALL => Command::TlbiEl2All,
            TLBI_EL2_ASID => Command::TlbiEl2Asid { asid },
            TLBI_EL2_VA => Command::TlbiEl2Va { asid, span: span.map(Iova) },
            TLBI_S12_VMALL => Command::TlbiS12Vmall { vmid },
            TLBI_S2_IPA => Command::TlbiS2Ipa { vmid, span: span.map(Ipa) },
            TLBI_NSNH_ALL => Command::TlbiNsnhAll,
            ATC_INV => Command::AtcInv {
                stream,
                substream: match w0 & SSV {
                    0 => None,
                    _ => Some(SubstreamId::new(get(w0, 31, 12) as u32)?),
                },
                address: Iova(w1 & mask(63, 12)),
                size: get(w1, 5, 0) as u8,
            },
            SYNC => {
                let address = PhysAddr(w1 & mask(51, 2));
                let data = get(w0, 63, 32) as u32;
                let completion = match get(w0, 13, 12) {
                    0 => Completion::None,
                    1 if address.0 == 0 => Completion::Interrupt,
                    1 => Completion::Msi { address, data },
                    2 => Completion::Event,
                    _ => return None,
                };
                Command::Sync { completion }
            }
            _ => return None,
        })
    }

    /// The architecture's name of the command, without its `CMD_` prefix where it has one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Command::CfgiSte { .. } => "CFGI_STE",
            Command::CfgiSteRange { .. } => "CFGI_STE_RANGE",
            Command::CfgiAll => "CFGI_ALL",
            Command::CfgiCd { .. } => "CFGI_CD",
            Command::CfgiCdAll { .. } => "CFGI_CD_ALL",
            Command::TlbiNhAll { .. } => "TLBI_NH_ALL",
            Command::TlbiNhAsid { .. } => "TLBI_NH_ASID",
            Command::TlbiNhVa { .. } => "TLBI_NH_VA",
            Command::TlbiNhVaa { .. } => "TLBI_NH_VAA",
            Command::TlbiEl2All => "TLBI_EL2_ALL",
            Command::TlbiEl2Asid { .. } => "TLBI_EL2_ASID",
            Command::TlbiEl2Va { .. } => "TLBI_EL2_VA",
            Command::TlbiS12Vmall { .. } => "TLBI_S12_VMALL",
            Command::TlbiS2Ipa { .. } => "TLBI_S2_IPA",
            Command::TlbiNsnhAll => "TLBI_NSNH_ALL",
            Command::AtcInv { .. } => "ATC_INV",
            Command::Sync { .. } => "SYNC",
            Command::Unknown(_) => "UNKNOWN",
        }
    }
}

#[inline]
fn encode_span(w0: u64, span: Span<u64>) -> [u64; 2] {
    [
        w0 | put(span.num.into(), 16, 12) | put(span.scale.into(), 24, 20),
        u64::from(span.leaf == Leaf::Last)
            | put(span.ttl.into(), 9, 8)
            | put(span.tg.encoding(), 11, 10)
            | span.address & mask(63, 12),
    ]
}

fn decode_span(w0: u64, w1: u64) -> Span<u64> {
    Span {
        address: w1 & mask(63, 12),
        leaf: if bit(w1, 0) { Leaf::Last } else { Leaf::All },
        num: get(w0, 16, 12) as u8,
        scale: get(w0, 24, 20) as u8,
        tg: RangeGranule::from_encoding(get(w1, 11, 10)),
        ttl: get(w1, 9, 8) as u8,
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Leaf::Last => "leaf=1",
            Leaf::All => "leaf=0",
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match *self {
            Command::CfgiSte { stream, leaf } => write!(f, " sid={stream} {leaf}"),
            Command::CfgiSteRange { stream, range } => write!(f, " sid={stream} range={range}"),
            Command::CfgiCd { stream, substream, leaf } => {
                write!(f, " sid={stream} ssid={substream} {leaf}")
            }
            Command::CfgiCdAll { stream } => write!(f, " sid={stream}"),
            Command::TlbiNhAll { vmid } | Command::TlbiS12Vmall { vmid } => {
                write!(f, " vmid={vmid}")
            }
            Command::TlbiNhAsid { vmid, asid } => write!(f, " vmid={vmid} asid={asid}"),
            Command::TlbiNhVa { vmid, asid, span } => {
                write!(f, " vmid={vmid} asid={asid} va={span}")
            }
            Command::TlbiNhVaa { vmid, span } => write!(f, " vmid={vmid} va={span}"),
            Command::TlbiEl2Asid { asid } => write!(f, " asid={asid}"),
            Command::TlbiEl2Va { asid, span } => write!(f, " asid={asid} va={span}"),
            Command::TlbiS2Ipa { vmid, span } => write!(f, " vmid={vmid} ipa={span}"),
            Command::AtcInv { stream, substream, address, size } => {
                write!(f, " sid={stream}")?;
                if let Some(substream) = substream {
                    write!(f, " ssid={substream}")?;
                }
                write!(f, " iova={address} size={size}")
            }
            Command::CfgiAll | Command::TlbiEl2All | Command::TlbiNsnhAll => Ok(()),
            Command::Sync { completion } => match completion {
                Completion::None => Ok(()),
                Completion::Interrupt => f.write_str(" cs=irq"),
                Completion::Msi { address, data } => write!(f, " cs=irq msi={address}:{data:#x}"),
                Completion::Event => f.write_str(" cs=sev"),
            },
            Command::Unknown(raw) => write!(f, " opcode={:#04x} raw={raw}", raw.opcode()),
        }
    }
}

/// Why the command queue stopped: `CMDQ_CONS.ERR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommandErrorCode(pub u8);

impl CommandErrorCode {
    /// No error.
    pub const NONE: Self = Self(0);
    /// `CERROR_ILL`: the command is illegal.
    pub const ILL: Self = Self(1);
    /// `CERROR_ABT`: the command could not be fetched.
    pub const ABT: Self = Self(2);
    /// `CERROR_ATC_INV_SYNC`: an ATC invalidation before this `CMD_SYNC` timed out.
    pub const ATC_INV_SYNC: Self = Self(3);
}

impl fmt::Display for CommandErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("CERROR_NONE"),
            Self::ILL => f.write_str("CERROR_ILL"),
            Self::ABT => f.write_str("CERROR_ABT"),
            Self::ATC_INV_SYNC => f.write_str("CERROR_ATC_INV_SYNC"),
            Self(code) => write!(f, "CERROR {code:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::string::ToString;

    extern crate std;

    fn leaf_page(address: u64) -> Span<Iova> {
        Span {
            address: Iova(address),
            leaf: Leaf::Last,
            num: 0,
            scale: 0,
            tg: RangeGranule::K4,
            ttl: 3,
        }
    }

    // Values from outside: what Linux's driver sends.
    #[rstest]
    #[case(Command::CfgiSte { stream: StreamId(0x123), leaf: Leaf::Last }, [0x0000_0123_0000_0003, 1])]
    #[case(Command::CfgiAll, [0x4, 0x1f])]
    #[case(
        Command::TlbiNhVa { vmid: Vmid(0), asid: Asid(0x7cd), span: leaf_page(0x1000) },
        [0x07cd_0000_0000_0012, 0x1701]
    )]
    #[case(Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(0x7cd) }, [0x07cd_0000_0000_0011, 0])]
    #[case(Command::TlbiS12Vmall { vmid: Vmid(5) }, [0x0000_0005_0000_0028, 0])]
    #[case(
        Command::AtcInv {
            stream: StreamId(0x123),
            substream: SubstreamId::new(7),
            address: Iova(0x8000),
            size: 2,
        },
        [0x0000_0123_0000_7840, 0x8002]
    )]
    #[case(Command::SYNC, [0x0fc0_0046, 0])]
    fn matches_vectors(#[case] command: Command, #[case] words: [u64; 2]) {
        assert_eq!(command.encode(), RawCommand(words));
        assert_eq!(Command::decode(RawCommand(words)), command);
    }

    #[rstest]
    #[case(Command::CfgiSteRange { stream: StreamId(0x40), range: 5 }, 0x04)]
    #[case(
        Command::CfgiCd { stream: StreamId(8), substream: SubstreamId::new(7).unwrap(), leaf: Leaf::All },
        0x05
    )]
    #[case(Command::CfgiCdAll { stream: StreamId(8) }, 0x06)]
    #[case(Command::TlbiNhAll { vmid: Vmid(3) }, 0x10)]
    #[case(Command::TlbiNhVaa { vmid: Vmid(3), span: leaf_page(0x8000) }, 0x13)]
    #[case(Command::TlbiEl2All, 0x20)]
    #[case(Command::TlbiEl2Asid { asid: Asid(9) }, 0x21)]
    #[case(Command::TlbiEl2Va { asid: Asid(9), span: leaf_page(0x8000) }, 0x22)]
    #[case(Command::TlbiS2Ipa { vmid: Vmid(3), span: leaf_page(0x8000).map(|a| Ipa(a.0)) }, 0x2a)]
    #[case(Command::TlbiNsnhAll, 0x30)]
    #[case(Command::Sync { completion: Completion::Interrupt }, 0x46)]
    #[case(Command::Sync { completion: Completion::Msi { address: PhysAddr(0x1004), data: 7 } }, 0x46)]
    #[case(Command::Sync { completion: Completion::Event }, 0x46)]
    fn opcode_and_round_trip(#[case] command: Command, #[case] opcode: u8) {
        let raw = command.encode();
        assert_eq!(raw.opcode(), opcode);
        assert_eq!(Command::decode(raw), command);
    }

    #[rstest]
    #[case::unknown_opcode([0xff, 0])]
    #[case::opcode_zero([0, 0])]
    #[case::secure_stream([0x0000_0123_0000_0003 | 1 << 10, 1])]
    #[case::reserved_sync_signal([0x0fc0_3046, 0])]
    #[case::reserved_bits([0x07cd_0000_0000_0011, 1 << 40])]
    fn keeps_what_it_does_not_know(#[case] words: [u64; 2]) {
        let command = Command::decode(RawCommand(words));
        assert_eq!(command, Command::Unknown(RawCommand(words)));
        assert_eq!(command.encode().0, words);
        assert!(command.to_string().starts_with("UNKNOWN opcode=0x"));
    }
}
