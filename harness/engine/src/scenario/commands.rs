//! Commands that a scenario sends past the driver.

use serde::Deserialize;
use toml::Spanned;

use super::Name;
use crate::machine::QueueName;

/// See [`Step::Command`](super::Step::Command).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandStep {
    /// The SMMU.
    pub smmu: Name,
    /// Which of its queues; `"main"` when it is left out.
    pub queue: Option<Spanned<QueueName>>,
    /// The commands.
    pub send: Vec<CommandSpec>,
    /// How they must fail.
    pub fails: Option<CommandFailure>,
    /// Those of another caller, which are queued behind them at once and waited for first. They must not fail.
    #[serde(default)]
    pub beside: Vec<CommandSpec>,
}

/// How commands may be expected to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum CommandFailure {
    /// `"CERROR_ILL"`: the SMMU does not know it.
    #[serde(rename = "CERROR_ILL")]
    Ill,
    /// `"CERROR_ABT"`: it could not be fetched.
    #[serde(rename = "CERROR_ABT")]
    Abt,
    /// `"CERROR_ATC_INV_SYNC"`: an ATC invalidation before it timed out.
    #[serde(rename = "CERROR_ATC_INV_SYNC")]
    AtcInvSync,
    /// `"timeout"`: the SMMU does not get to the `CMD_SYNC`. Whether anything was carried out is not known.
    #[serde(rename = "timeout")]
    Timeout,
}

/// One command of a [`CommandStep`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CommandSpec {
    /// `CFGI_STE`.
    CfgiSte(StreamArgument),
    /// `CFGI_CD`.
    CfgiCd(StreamArgument),
    /// `CFGI_ALL`.
    CfgiAll(NoArguments),
    /// `TLBI_NH_ASID`.
    TlbiNhAsid(AsidArgument),
    /// `TLBI_NH_VA`.
    TlbiNhVa(VaArguments),
    /// `TLBI_NH_ALL`.
    TlbiNhAll(VmidArgument),
    /// `TLBI_S12_VMALL`.
    TlbiS12Vmall(VmidArgument),
    /// `TLBI_S2_IPA`.
    TlbiS2Ipa(IpaArguments),
    /// `TLBI_NSNH_ALL`.
    TlbiNsnhAll(NoArguments),
    /// `ATC_INV` of a device's first stream: of the 4 KiB at `iova`, or of everything.
    AtcInv(AtcArguments),
    /// Any 16 bytes, as two 64-bit words.
    Raw([u64; 2]),
}

/// No arguments: `{}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoArguments {}

/// A device's first StreamID.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamArgument {
    /// The device.
    pub device: Name,
}

/// An ASID.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AsidArgument {
    /// The ASID.
    pub asid: u16,
    /// The VMID.
    #[serde(default)]
    pub vmid: u16,
}

/// An ASID and an address.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaArguments {
    /// The ASID.
    pub asid: u16,
    /// The VMID.
    #[serde(default)]
    pub vmid: u16,
    /// The address.
    pub va: u64,
}

/// A VMID.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmidArgument {
    /// The VMID.
    pub vmid: u16,
}

/// A VMID and an address.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IpaArguments {
    /// The VMID.
    pub vmid: u16,
    /// The address.
    pub ipa: u64,
}

/// A device's first StreamID, and an address.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtcArguments {
    /// The device.
    pub device: Name,
    /// The address.
    pub iova: Option<Spanned<u64>>,
}
