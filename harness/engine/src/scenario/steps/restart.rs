//! `restart`: the driver brings an SMMU up again over the same tables.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Restart`](crate::scenario::Step::Restart).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RestartStep {
    /// The SMMU.
    pub smmu: SpannedName,
}

impl StepSpec for RestartStep {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.smmu(&self.smmu)
    }

    fn text(&self) -> String {
        format!("restart {} over the same tables", self.smmu.get_ref())
    }
}
