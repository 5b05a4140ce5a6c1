//! Commands of the command queue (IHI 0070, chapter 4): 16 bytes each.

mod codec;
mod display;
mod effective;
mod error;
mod operands;
mod range_granule;
mod span;
#[cfg(test)]
mod tests;

use core::fmt;

pub use error::CommandErrorCode;
pub use operands::{
    AtcScope, AtcSpan, Completion, Leaf, MsiAttributes, PrefetchSpan, PriResponse, ResumeAction,
    SteRange, SyncMsi,
};
pub use range_granule::RangeGranule;
pub use span::{Level, LevelHint, Span, SpanAddress};

use crate::fields::commands::any_command;
use crate::{Asid, Iova, Ipa, PrgIndex, RawCommand, StreamId, SubstreamId, Vmid};

impl RawCommand {
    /// Size of a command in bytes.
    pub const BYTES: usize = 16;

    /// The opcode, bits 7:0 of the first word.
    #[must_use]
    pub const fn opcode(self) -> u8 {
        self.get(any_command::OPCODE) as u8
    }

    /// Whether the opcode lies among those of `CFGI_*` and Non-secure `TLBI_*` (4.1.1); see
    /// [`Command::is_invalidation`].
    #[must_use]
    #[inline]
    pub const fn is_invalidation(self) -> bool {
        matches!(self.opcode(), 0x03..=0x07 | 0x10..=0x3f)
    }
}

impl fmt::Display for RawCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x} {:#018x}", self.0[0], self.0[1])
    }
}

/// A command of a Non-secure queue, typed.
///
/// [`Command::Unknown`] keeps unknown opcodes, reserved encodings, and the commands of Secure state
/// and EL3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// `CMD_PREFETCH_CONFIG`: a hint to read the STE and the CD of a stream ahead.
    PrefetchConfig {
        /// The stream.
        stream: StreamId,
        /// The substream, if the stream has substreams.
        substream: Option<SubstreamId>,
    },
    /// `CMD_PREFETCH_ADDR`: a hint to read translations ahead.
    PrefetchAddr {
        /// The stream.
        stream: StreamId,
        /// The substream, if the stream has substreams.
        substream: Option<SubstreamId>,
        /// The addresses.
        span: PrefetchSpan,
    },
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
        /// How many.
        range: SteRange,
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
    /// `CMD_CFGI_VMS_PIDM`: forget a PARTID map that is cached by VMID (`IDR3.MPAM`).
    CfgiVmsPidm {
        /// The VMID.
        vmid: Vmid,
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
    /// `CMD_TLBI_NH_VAA`: stage-1 entries of a span of addresses, for every ASID.
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
    /// `CMD_TLBI_EL2_VAA`: EL2 entries of a span of addresses, for every ASID.
    TlbiEl2Vaa {
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
    /// `CMD_ATC_INV`: translations in a device's own cache.
    AtcInv {
        /// The stream.
        stream: StreamId,
        /// The substream. `None` for requests without a substream; the device then drops the
        /// entries of every substream as well.
        substream: Option<SubstreamId>,
        /// Whether the device drops entries of other PASIDs as well.
        scope: AtcScope,
        /// The addresses.
        span: AtcSpan,
    },
    /// `CMD_PRI_RESP`: answer a page request group.
    PriResp {
        /// The stream.
        stream: StreamId,
        /// The substream, for an answer with a PASID.
        substream: Option<SubstreamId>,
        /// The group.
        group: PrgIndex,
        /// The answer.
        response: PriResponse,
    },
    /// `CMD_DPTI_ALL`: forget all device permissions (`IDR3.DPT`).
    DptiAll,
    /// `CMD_RESUME`: end the stall of one transaction.
    Resume {
        /// The stream.
        stream: StreamId,
        /// `STAG` of the event record.
        tag: u16,
        /// What the SMMU does with the transaction.
        action: ResumeAction,
    },
    /// `CMD_STALL_TERM`: abort every stalled transaction of a stream whose STE aborts new ones
    /// already.
    StallTerm {
        /// The stream.
        stream: StreamId,
    },
    /// `CMD_SYNC`: complete when every command before it is complete.
    Sync {
        /// How the SMMU signals its completion.
        completion: Completion,
        /// The attributes of the MSI write; without a meaning for other completions.
        attributes: MsiAttributes,
    },
    /// Any other opcode or encoding, unchanged.
    Unknown(RawCommand),
}

impl Command {
    /// Whether the command drops what the SMMU itself has cached: `CFGI_*` or `TLBI_*`.
    ///
    /// `ATC_INV` drops what a device has cached, so it is none. An unknown command is one if its
    /// opcode lies among those of `CFGI_*` and Non-secure `TLBI_*` (4.1.1).
    #[must_use]
    pub const fn is_invalidation(&self) -> bool {
        match self {
            Command::CfgiSte { .. }
            | Command::CfgiSteRange { .. }
            | Command::CfgiAll
            | Command::CfgiCd { .. }
            | Command::CfgiCdAll { .. }
            | Command::CfgiVmsPidm { .. }
            | Command::TlbiNhAll { .. }
            | Command::TlbiNhAsid { .. }
            | Command::TlbiNhVa { .. }
            | Command::TlbiNhVaa { .. }
            | Command::TlbiEl2All
            | Command::TlbiEl2Asid { .. }
            | Command::TlbiEl2Va { .. }
            | Command::TlbiEl2Vaa { .. }
            | Command::TlbiS12Vmall { .. }
            | Command::TlbiS2Ipa { .. }
            | Command::TlbiNsnhAll => true,
            Command::PrefetchConfig { .. }
            | Command::PrefetchAddr { .. }
            | Command::AtcInv { .. }
            | Command::PriResp { .. }
            | Command::DptiAll
            | Command::Resume { .. }
            | Command::StallTerm { .. }
            | Command::Sync { .. } => false,
            Command::Unknown(raw) => raw.is_invalidation(),
        }
    }
}
