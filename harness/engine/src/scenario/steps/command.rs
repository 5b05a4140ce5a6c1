//! `command`: put commands into a queue, past the driver.

use core::ops::Range;

use crate::prelude::*;
use crate::scenario::spanned::Spanned;
use serde::{Deserialize, Serialize};

use crate::machine::QueueName;
use crate::page_tables::PAGE;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Command`](crate::scenario::Step::Command).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CommandStep {
    /// The SMMU.
    pub smmu: SpannedName,
    /// Which of its queues; `"main"` by default.
    pub queue: Option<Spanned<QueueName>>,
    /// The commands.
    pub send: Vec<CommandSpec>,
    /// How they must fail.
    pub fails: Option<WantedFailure>,
    /// The commands of another caller. The step queues them behind `send` at once, and waits for
    /// them first. They must not fail.
    #[serde(default)]
    pub beside: Vec<CommandSpec>,
}

/// How the commands of a step may be expected to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum WantedFailure {
    /// `"CERROR_ILL"`: the SMMU does not know the command.
    #[serde(rename = "CERROR_ILL")]
    Ill,
    /// `"CERROR_ABT"`: the SMMU could not fetch the command.
    #[serde(rename = "CERROR_ABT")]
    Abt,
    /// `"CERROR_ATC_INV_SYNC"`: an ATC invalidation before it timed out.
    #[serde(rename = "CERROR_ATC_INV_SYNC")]
    AtcInvSync,
    /// `"timeout"`: the SMMU does not get to the `CMD_SYNC`. It may have carried out any of the
    /// commands.
    #[serde(rename = "timeout")]
    Timeout,
    /// `"lost"`: `CMDQ_CONS` cannot be right, so the SMMU was reset. Nothing works before `restart`.
    #[serde(rename = "lost")]
    Lost,
}

/// One command of a [`CommandStep`].
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NoArguments {}

/// A device's first StreamID.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StreamArgument {
    /// The device.
    pub device: SpannedName,
}

/// An ASID.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AsidArgument {
    /// The ASID.
    pub asid: Option<Spanned<u16>>,
    /// Instead of `asid`: the one that this domain has on the SMMU.
    pub domain: Option<SpannedName>,
    /// The VMID.
    #[serde(default)]
    pub vmid: u16,
}

/// An ASID and an address.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VmidArgument {
    /// The VMID.
    pub vmid: u16,
}

/// A VMID and an address.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IpaArguments {
    /// The VMID.
    pub vmid: u16,
    /// The address.
    pub ipa: u64,
}

/// A device's first StreamID, and an address.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AtcArguments {
    /// The device.
    pub device: SpannedName,
    /// The address.
    pub iova: Option<Spanned<u64>>,
}

impl StepSpec for CommandStep {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.smmu(&self.smmu)?;
        names.queue(self.smmu.get_ref(), &self.queue)?;
        self.send.iter().chain(&self.beside).try_for_each(|spec| spec.check(&span, names))
    }

    fn text(&self) -> String {
        let name = self.smmu.get_ref();
        match self.queue() {
            QueueName::Main => format!("past the driver: commands for {name}"),
            QueueName::Second => {
                format!("past the driver: commands for the second queue of {name}")
            }
        }
    }
}

impl CommandSpec {
    /// Checks the command of a step against the head of the file. `span` is the whole step.
    pub(super) fn check(&self, span: &Range<usize>, names: &Declared) -> Result<(), Wrong> {
        match self {
            CommandSpec::CfgiSte(of) | CommandSpec::CfgiCd(of) => names.device(&of.device),
            CommandSpec::AtcInv(of) => {
                names.device(&of.device)?;
                of.iova.as_ref().map_or(Ok(()), |iova| match iova.get_ref() % PAGE {
                    0 => Ok(()),
                    _ => Err((iova.span(), format!("the iova is not aligned to {PAGE} bytes"))),
                })
            }
            CommandSpec::TlbiNhAsid(of) => match (&of.asid, &of.domain) {
                (Some(_), None) => Ok(()),
                (None, Some(domain)) => names.domain(domain),
                _ => Err((span.clone(), "TLBI_NH_ASID needs either `asid` or `domain`".into())),
            },
            _ => Ok(()),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            CommandSpec::CfgiSte(_) => "CFGI_STE",
            CommandSpec::CfgiCd(_) => "CFGI_CD",
            CommandSpec::CfgiAll(_) => "CFGI_ALL",
            CommandSpec::TlbiNhAsid(_) => "TLBI_NH_ASID",
            CommandSpec::TlbiNhVa(_) => "TLBI_NH_VA",
            CommandSpec::TlbiNhAll(_) => "TLBI_NH_ALL",
            CommandSpec::TlbiS12Vmall(_) => "TLBI_S12_VMALL",
            CommandSpec::TlbiS2Ipa(_) => "TLBI_S2_IPA",
            CommandSpec::TlbiNsnhAll(_) => "TLBI_NSNH_ALL",
            CommandSpec::AtcInv(_) => "ATC_INV",
            CommandSpec::Raw(_) => "two words",
        }
    }
}

impl CommandStep {
    /// The queue.
    #[must_use]
    pub fn queue(&self) -> QueueName {
        self.queue.as_ref().map_or(QueueName::Main, |queue| *queue.get_ref())
    }
}
