//! `reset`: an SMMU loses its registers and caches, and the driver is not told.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::machine::Need;
use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Reset`](crate::scenario::Step::Reset).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResetStep {
    /// The SMMU.
    pub smmu: SpannedName,
}

impl StepSpec for ResetStep {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        if !names.needs.contains(&Need::Reset) {
            return Err((span, format!("a reset needs \"{}\" in `needs`", Need::Reset.name())));
        }
        names.smmu(&self.smmu)
    }

    fn text(&self) -> String {
        format!("{} is reset: its registers and caches are lost", self.smmu.get_ref())
    }
}
