//! `hazard`: check that the model noticed a cached translation that should not be there.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, Wrong};
use crate::scenario::step_spec::StepSpec;

/// The commands whose lack can be a hazard.
const REMEDIES: [&str; 12] = [
    "CFGI_ALL",
    "CFGI_CD",
    "CFGI_CD_ALL",
    "CFGI_STE",
    "CFGI_STE_RANGE",
    "TLBI_NH_ALL",
    "TLBI_NH_ASID",
    "TLBI_NH_VA",
    "TLBI_NH_VAA",
    "TLBI_NSNH_ALL",
    "TLBI_S12_VMALL",
    "TLBI_S2_IPA",
];

/// See [`Step::Hazard`](crate::scenario::Step::Hazard).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HazardStep {
    /// The missing command as a transcript prints it: its name, then as many of its operands as the
    /// scenario wants.
    pub missing: String,
}

impl StepSpec for HazardStep {
    fn check(&self, span: Range<usize>, _: &Declared) -> Result<(), Wrong> {
        let name = self.missing.split(' ').next().unwrap_or_default();
        if REMEDIES.contains(&name) {
            return Ok(());
        }
        let all = REMEDIES.join(", ");
        Err((span, format!("no hazard is the lack of \"{name}\"; it can be of: {all}")))
    }

    fn text(&self) -> String {
        format!("the missing command is {}", self.missing)
    }
}
