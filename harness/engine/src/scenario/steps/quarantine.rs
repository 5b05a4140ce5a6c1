//! `quarantine`: block a device whose cache does not answer.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Quarantine`](crate::scenario::Step::Quarantine).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "struct Quarantine")]
pub struct QuarantineStep {
    /// The device.
    pub device: SpannedName,
}

impl StepSpec for QuarantineStep {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.device(&self.device)?;
        names.ats(&self.device, &span)
    }

    fn text(&self) -> String {
        format!("put {} in quarantine", self.device.get_ref())
    }
}
