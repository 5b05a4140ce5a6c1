//! `attach_group`: several devices in one transaction.

use core::ops::Range;

use serde::{Deserialize, Serialize};
use smmu_driver::smmu_types::SubstreamId;

use super::attach::AttachFailure;
use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong, substream_of};
use crate::scenario::spanned::Spanned;
use crate::scenario::step_spec::StepSpec;

/// See [`Step::AttachGroup`](crate::scenario::Step::AttachGroup).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AttachGroup {
    /// The devices. They may be behind different SMMUs.
    pub devices: Vec<SpannedName>,
    /// The substream of each device; by default their transactions without a SubstreamID.
    pub substream: Option<Spanned<u32>>,
    /// A domain, `bypass` or `blocked`.
    pub to: SpannedName,
    /// The kind of error that the attach must end with. Then no device may have changed.
    pub fails: Option<AttachFailure>,
}

impl AttachGroup {
    /// The substream, if the step is about one.
    #[must_use]
    pub fn substream(&self) -> Option<SubstreamId> {
        substream_of(self.substream.as_ref())
    }
}

impl StepSpec for AttachGroup {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        if self.devices.is_empty() {
            return Err((span, "a group has one device at least".into()));
        }
        for device in &self.devices {
            names.device(device)?;
            if let Some(substream) = &self.substream {
                names.substream(device, substream)?;
            }
        }
        names.target(&self.to)
    }

    fn text(&self) -> String {
        let devices: Vec<&str> = self.devices.iter().map(|d| d.get_ref().as_str()).collect();
        let (devices, to) = (devices.join(", "), self.to.get_ref());
        match &self.substream {
            None => format!("attach {devices} to {to} at once"),
            Some(substream) => {
                format!("attach {devices}, each ssid={:#x}, to {to} at once", substream.get_ref())
            }
        }
    }
}
