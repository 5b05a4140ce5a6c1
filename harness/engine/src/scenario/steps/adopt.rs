//! `adopt`: a new driver takes over the SMMUs that the old one has left running.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::spanned::Spanned;
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Adopt`](crate::scenario::Step::Adopt).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AdoptStep {
    /// The devices that run on, on the tables of the old driver. The SMMUs abort all others.
    #[serde(default)]
    pub keep: Vec<SpannedName>,
    /// Why the new driver must refuse. Then the old driver goes on.
    pub refused: Option<Spanned<AdoptDoubt>>,
    /// Why the new driver must reset an SMMU instead, which this step allows it to do.
    pub reset: Option<Spanned<AdoptDoubt>>,
    /// A device that writes after each sync of the new driver.
    pub watch: Option<AdoptWatch>,
}

/// What is in doubt about a running SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AdoptDoubt {
    /// `"registers"`: its registers or queues.
    Registers,
    /// `"tables"`: its stream table, or a table of context descriptors.
    Tables,
}

/// DMA on the way.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AdoptWatch {
    /// The device.
    pub device: SpannedName,
    /// The address that it writes to.
    pub iova: Spanned<u64>,
    /// The page that each write must reach.
    pub reaches: SpannedName,
}

impl AdoptDoubt {
    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            AdoptDoubt::Registers => "registers",
            AdoptDoubt::Tables => "tables",
        }
    }
}

impl StepSpec for AdoptStep {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        for device in &self.keep {
            names.device(device)?;
        }
        if let (Some(_), Some(reset)) = (&self.refused, &self.reset) {
            return Err((reset.span(), "`reset` and `refused` exclude each other".into()));
        }
        let Some(watch) = &self.watch else { return Ok(()) };
        names.device(&watch.device)?;
        names.page(&watch.reaches)?;
        let kept = self.keep.iter().any(|name| name.get_ref() == watch.device.get_ref());
        if !kept || self.refused.is_some() || self.reset.is_some() {
            let message = "`watch` is for a device that the step keeps";
            return Err((span, message.into()));
        }
        Ok(())
    }

    fn text(&self) -> String {
        let kept: Vec<&str> = self.keep.iter().map(|name| name.get_ref().as_str()).collect();
        let kept = if kept.is_empty() { "nothing".to_owned() } else { kept.join(", ") };
        format!("a new driver takes the SMMUs over and keeps {kept}")
    }
}
