//! `find_unanswering`: ask the devices of a domain which of them do not answer.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::FindUnanswering`](crate::scenario::Step::FindUnanswering).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FindUnanswering {
    /// The domain whose devices are asked.
    pub domain: SpannedName,
    /// The SMMU that they are behind.
    pub smmu: SpannedName,
    /// The devices that do not answer, in the order of their StreamIDs.
    pub finds: Vec<SpannedName>,
}

impl StepSpec for FindUnanswering {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.domain(&self.domain)?;
        names.smmu(&self.smmu)?;
        self.finds.iter().try_for_each(|device| names.device(device))
    }

    fn text(&self) -> String {
        let (domain, smmu) = (self.domain.get_ref(), self.smmu.get_ref());
        format!("ask which devices of {domain} behind {smmu} do not answer")
    }
}
