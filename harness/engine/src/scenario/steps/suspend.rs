//! `suspend`: the driver puts an SMMU to sleep.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Suspend`](crate::scenario::Step::Suspend).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SuspendStep {
    /// The SMMU.
    pub smmu: SpannedName,
}

impl StepSpec for SuspendStep {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.smmu(&self.smmu)
    }

    fn text(&self) -> String {
        format!("put {} to sleep", self.smmu.get_ref())
    }
}
