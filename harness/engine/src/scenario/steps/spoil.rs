//! `spoil`: break the STE of a device past the driver.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Spoil`](crate::scenario::Step::Spoil).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SpoilStep {
    /// The device. Its first StreamID counts.
    pub device: SpannedName,
    /// How.
    pub ste: SpoiltSte,
}

/// A broken STE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SpoiltSte {
    /// `"reserved"`: `STE.Config` has a reserved value.
    Reserved,
    /// `"torn"`: the first word is that of another STE, so the entry leads to a table of context
    /// descriptors that is not in memory.
    Torn,
}

impl StepSpec for SpoilStep {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.device(&self.device)
    }

    fn text(&self) -> String {
        let how = match self.ste {
            SpoiltSte::Reserved => "has a reserved value",
            SpoiltSte::Torn => "is torn",
        };
        format!("past the driver: the STE of {} {how}", self.device.get_ref())
    }
}
