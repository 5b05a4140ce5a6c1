//! `resume`: the driver wakes an SMMU.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Resume`](crate::scenario::Step::Resume).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResumeStep {
    /// The SMMU.
    pub smmu: SpannedName,
}

impl StepSpec for ResumeStep {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.smmu(&self.smmu)
    }

    fn text(&self) -> String {
        format!("wake {}", self.smmu.get_ref())
    }
}
