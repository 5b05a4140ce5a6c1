//! `mend`: take back every fault of an SMMU.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Mend`](crate::scenario::Step::Mend).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MendStep {
    /// The SMMU.
    pub smmu: SpannedName,
}

impl StepSpec for MendStep {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.smmu(&self.smmu)
    }

    fn text(&self) -> String {
        format!("on {} from now on: all is as it should be", self.smmu.get_ref())
    }
}
