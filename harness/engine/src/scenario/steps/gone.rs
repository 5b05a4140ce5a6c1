//! `gone`: turn an SMMU off past the driver, and tell the driver.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Gone`](crate::scenario::Step::Gone).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GoneStep {
    /// The SMMU.
    pub smmu: SpannedName,
}

impl StepSpec for GoneStep {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.smmu(&self.smmu)
    }

    fn text(&self) -> String {
        format!("{} is off for good, and the driver is told", self.smmu.get_ref())
    }
}
