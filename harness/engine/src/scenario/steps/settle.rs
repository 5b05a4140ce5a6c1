//! `settle`: ask an SMMU again for all that it did not confirm.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Settle`](crate::scenario::Step::Settle).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SettleStep {
    /// The SMMU.
    pub smmu: SpannedName,
    /// That the SMMU still does not answer.
    pub fails: Option<SettleFailure>,
}

/// How a settlement fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SettleFailure {
    /// `"timeout"`: no `CMD_SYNC` completion in time.
    #[serde(rename = "timeout")]
    Timeout,
}

impl StepSpec for SettleStep {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.smmu(&self.smmu)
    }

    fn text(&self) -> String {
        format!("settle what {} did not confirm", self.smmu.get_ref())
    }
}
