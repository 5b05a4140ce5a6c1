//! `install`: write a context descriptor and an STE past the driver.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::page_tables::TableStage;
use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Install`](crate::scenario::Step::Install).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// The device.
    pub device: SpannedName,
    /// The stage-1 domain whose tables the device gets.
    pub domain: SpannedName,
    /// The ASID.
    pub asid: u16,
}

impl StepSpec for Install {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.device(&self.device)?;
        names.domain(&self.domain)?;
        match names.domains.get(self.domain.get_ref()) {
            Some(TableStage::Stage1) => Ok(()),
            _ => Err((self.domain.span(), "only a domain of stage \"s1\" has an ASID".into())),
        }
    }

    fn text(&self) -> String {
        let (device, domain) = (self.device.get_ref(), self.domain.get_ref());
        format!("past the driver: {device} gets {domain} with ASID {}", self.asid)
    }
}
