//! Commands in words.

use core::fmt;

use super::{AtcScope, Command, Completion, MsiAttributes};
use crate::SubstreamId;
use crate::fields::opcode_name;

impl Command {
    /// The architecture's name of the command, without its `CMD_` prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Command::PrefetchConfig { .. } => "PREFETCH_CONFIG",
            Command::PrefetchAddr { .. } => "PREFETCH_ADDR",
            Command::CfgiSte { .. } => "CFGI_STE",
            Command::CfgiSteRange { .. } => "CFGI_STE_RANGE",
            Command::CfgiAll => "CFGI_ALL",
            Command::CfgiCd { .. } => "CFGI_CD",
            Command::CfgiCdAll { .. } => "CFGI_CD_ALL",
            Command::CfgiVmsPidm { .. } => "CFGI_VMS_PIDM",
            Command::TlbiNhAll { .. } => "TLBI_NH_ALL",
            Command::TlbiNhAsid { .. } => "TLBI_NH_ASID",
            Command::TlbiNhVa { .. } => "TLBI_NH_VA",
            Command::TlbiNhVaa { .. } => "TLBI_NH_VAA",
            Command::TlbiEl2All => "TLBI_EL2_ALL",
            Command::TlbiEl2Asid { .. } => "TLBI_EL2_ASID",
            Command::TlbiEl2Va { .. } => "TLBI_EL2_VA",
            Command::TlbiEl2Vaa { .. } => "TLBI_EL2_VAA",
            Command::TlbiS12Vmall { .. } => "TLBI_S12_VMALL",
            Command::TlbiS2Ipa { .. } => "TLBI_S2_IPA",
            Command::TlbiNsnhAll => "TLBI_NSNH_ALL",
            Command::AtcInv { .. } => "ATC_INV",
            Command::PriResp { .. } => "PRI_RESP",
            Command::DptiAll => "DPTI_ALL",
            Command::Resume { .. } => "RESUME",
            Command::StallTerm { .. } => "STALL_TERM",
            Command::Sync { .. } => "SYNC",
            Command::Unknown(_) => "UNKNOWN",
        }
    }
}

fn with_ssid(f: &mut fmt::Formatter<'_>, substream: Option<SubstreamId>) -> fmt::Result {
    substream.map_or(Ok(()), |substream| write!(f, " ssid={substream}"))
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match *self {
            Command::PrefetchConfig { stream, substream } => {
                write!(f, " sid={stream}")?;
                with_ssid(f, substream)
            }
            Command::PrefetchAddr { stream, substream, span } => {
                write!(f, " sid={stream}")?;
                with_ssid(f, substream)?;
                write!(f, " iova={span}")
            }
            Command::CfgiSte { stream, leaf } => write!(f, " sid={stream} {leaf}"),
            Command::CfgiSteRange { stream, range } => write!(f, " sid={stream} range={range}"),
            Command::CfgiCd { stream, substream, leaf } => {
                write!(f, " sid={stream} ssid={substream} {leaf}")
            }
            Command::CfgiCdAll { stream } | Command::StallTerm { stream } => {
                write!(f, " sid={stream}")
            }
            Command::TlbiNhAll { vmid }
            | Command::TlbiS12Vmall { vmid }
            | Command::CfgiVmsPidm { vmid } => write!(f, " vmid={vmid}"),
            Command::TlbiNhAsid { vmid, asid } => write!(f, " vmid={vmid} asid={asid}"),
            Command::TlbiNhVa { vmid, asid, span } => {
                write!(f, " vmid={vmid} asid={asid} va={span}")
            }
            Command::TlbiNhVaa { vmid, span } => write!(f, " vmid={vmid} va={span}"),
            Command::TlbiEl2Asid { asid } => write!(f, " asid={asid}"),
            Command::TlbiEl2Va { asid, span } => write!(f, " asid={asid} va={span}"),
            Command::TlbiEl2Vaa { span } => write!(f, " va={span}"),
            Command::TlbiS2Ipa { vmid, span } => write!(f, " vmid={vmid} ipa={span}"),
            Command::AtcInv { stream, substream, scope, span } => {
                write!(f, " sid={stream}")?;
                with_ssid(f, substream)?;
                write!(f, " iova={span}")?;
                match scope {
                    AtcScope::Substream => Ok(()),
                    AtcScope::Global => f.write_str(" global=1"),
                }
            }
            Command::PriResp { stream, substream, group, response } => {
                write!(f, " sid={stream}")?;
                with_ssid(f, substream)?;
                write!(f, " group={group} resp={response}")
            }
            Command::Resume { stream, tag, action } => {
                write!(f, " sid={stream} stag={tag:#x} action={action}")
            }
            Command::CfgiAll | Command::TlbiEl2All | Command::TlbiNsnhAll | Command::DptiAll => {
                Ok(())
            }
            Command::Sync { completion, attributes } => {
                write!(f, "{completion}")?;
                match (completion, attributes) {
                    (Completion::Msi(_), MsiAttributes::WRITE_BACK) => Ok(()),
                    (Completion::Msi(_), other) => {
                        let shareability = other.shareability() as u8;
                        write!(f, " msh={shareability} attr={:#x}", other.memory())
                    }
                    _ => Ok(()),
                }
            }
            Command::Unknown(raw) => {
                write!(f, " opcode={:#04x}", raw.opcode())?;
                if let Some(name) = opcode_name(raw.opcode()) {
                    write!(f, " {name}")?;
                }
                write!(f, " raw={raw}")
            }
        }
    }
}
