//! `expect`: check what the driver says of a domain, of a tag space or of a command queue.

use core::ops::Range;

use crate::prelude::*;
use crate::scenario::spanned::Spanned;
use serde::{Deserialize, Serialize};

use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Expect`](crate::scenario::Step::Expect).
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The SMMU.
    pub smmu: SpannedName,
    /// The domain whose tag the step checks.
    pub domain: Option<SpannedName>,
    /// Its tag there, such as `ASID 1`, or `none`.
    pub tag: Option<Spanned<String>>,
    /// The number of users of the tag.
    pub users: Option<u32>,
    /// How many ASIDs of the SMMU are in use.
    pub asids_in_use: Option<u32>,
    /// How many VMIDs of the SMMU are in use.
    pub vmids_in_use: Option<u32>,
    /// What became of all commands that the SMMU was shown so far.
    pub commands: Option<CommandsExpected>,
    /// The commands that the last step that was no `expect` sent to the SMMU: each as a transcript
    /// prints it, or the beginning of that up to a blank.
    pub sent: Option<Spanned<Vec<String>>>,
    /// How often the driver has read `CMDQ_CONS` since the last step that asked.
    pub consumer_reads: Option<ReadsExpected>,
}

/// How often a driver may be expected to read a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ReadsExpected {
    /// `"none"`: never.
    None,
    /// `"some"`: at least once.
    Some,
}

/// What may be expected of all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CommandsExpected {
    /// `"in-order"`: the SMMU carried out each command once, as it was shown and in that order, and
    /// none is left. A queue in which the driver replaced an illegal command fails this check.
    InOrder,
}

/// Whether a transcript can print a tag so.
fn is_tag(text: &str) -> bool {
    let number = text.strip_prefix("ASID ").or_else(|| text.strip_prefix("VMID "));
    let is_number = |n: &str| n.parse::<u16>().is_ok_and(|value| value.to_string() == n);
    text == "none" || number.is_some_and(is_number)
}

impl StepSpec for Expect {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.smmu(&self.smmu)?;
        if let Some(domain) = &self.domain {
            names.domain(domain)?;
        }
        let of_domain = self.tag.is_some() || self.users.is_some();
        if of_domain != self.domain.is_some() {
            return Err((span, "`domain` goes with `tag` or `users`".into()));
        }
        if let Some(tag) = &self.tag
            && !is_tag(tag.get_ref())
        {
            let message = format!(
                "no tag is written \"{}\"; write \"ASID 1\", \"VMID 1\" or \"none\"",
                tag.get_ref()
            );
            return Err((tag.span(), message));
        }
        let of_smmu = self.asids_in_use.is_some() || self.vmids_in_use.is_some();
        let of_queue =
            self.commands.is_some() || self.consumer_reads.is_some() || self.sent.is_some();
        if !of_domain && !of_smmu && !of_queue {
            return Err((span, "an expect without an expectation cannot fail".into()));
        }
        Ok(())
    }

    fn text(&self) -> String {
        format!("expect on {}", self.smmu.get_ref())
    }
}
