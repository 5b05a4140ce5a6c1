//! `fail_every_allocation`: fail each allocation of a preparation in turn.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::FailEveryAllocation`](crate::scenario::Step::FailEveryAllocation).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FailEveryAllocation {
    /// The device.
    pub device: SpannedName,
    /// A domain, `bypass` or `blocked`.
    pub to: SpannedName,
}

impl StepSpec for FailEveryAllocation {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.device(&self.device)?;
        names.target(&self.to)
    }

    fn text(&self) -> String {
        let (device, to) = (self.device.get_ref(), self.to.get_ref());
        format!("prepare {device} for {to}, with each allocation failing in turn")
    }
}
