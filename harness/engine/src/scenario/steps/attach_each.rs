//! `attach_each`: many devices, each to the domain of the same number.

use core::ops::Range;

use crate::prelude::*;
use crate::scenario::spanned::Spanned;
use serde::{Deserialize, Serialize};

use crate::scenario::names::{Declared, SpannedName, Wrong, counted};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::AttachEach`](crate::scenario::Step::AttachEach).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AttachEach {
    /// The devices' common name.
    pub devices: SpannedName,
    /// The domains' common name.
    pub domains: SpannedName,
    /// How many.
    pub count: Spanned<u32>,
}

impl StepSpec for AttachEach {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        for n in 0..counted(&self.count)? {
            let nth = |name: &SpannedName| {
                SpannedName::new(name.span(), format!("{}{n}", name.get_ref()))
            };
            names.device(&nth(&self.devices))?;
            names.domain(&nth(&self.domains))?;
        }
        Ok(())
    }

    fn text(&self) -> String {
        let (devices, domains) = (self.devices.get_ref(), self.domains.get_ref());
        let last = self.count.get_ref().saturating_sub(1);
        format!("attach {devices}0 to {domains}0, ... {devices}{last} to {domains}{last}")
    }
}
