//! `guest_command`: a guest sends commands to its virtual SMMU.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use super::command::CommandSpec;
use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::spanned::Spanned;
use crate::scenario::step_spec::StepSpec;

/// See [`Step::GuestCommand`](crate::scenario::Step::GuestCommand).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GuestCommand {
    /// The guest.
    pub guest: SpannedName,
    /// The commands, with the guest's own VMIDs and ASIDs. A device is one of the guest's.
    pub send: Vec<CommandSpec>,
    /// The command that the host refuses, from 0: the guest's queue stops at it.
    pub stops_at: Option<Spanned<u32>>,
}

impl StepSpec for GuestCommand {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.guest(&self.guest)?;
        if self.send.is_empty() {
            return Err((span, "a guest sends one command at least".into()));
        }
        self.send.iter().try_for_each(|command| command.check(&span, names))
    }

    fn text(&self) -> String {
        let commands: Vec<&str> = self.send.iter().map(CommandSpec::name).collect();
        format!("the guest {} sends {}", self.guest.get_ref(), commands.join(", "))
    }
}
