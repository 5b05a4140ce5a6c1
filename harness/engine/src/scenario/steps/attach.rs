//! `attach`: a device to a domain, to `bypass` or to `blocked`.

use core::ops::Range;

use serde::{Deserialize, Serialize};
use smmu_driver::smmu_types::SubstreamId;

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong, aligned, substream_of};
use crate::scenario::spanned::Spanned;
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Attach`](crate::scenario::Step::Attach).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The device.
    pub device: SpannedName,
    /// The substream; by default the device's transactions without a SubstreamID.
    pub substream: Option<Spanned<u32>>,
    /// A domain, `bypass` or `blocked`.
    pub to: SpannedName,
    /// The kind of error that the attach must end with.
    pub fails: Option<AttachFailure>,
    /// Let the device write after each sync on the way, and check what it reaches.
    pub watch: Option<AttachWatch>,
}

/// Why an attach may be expected to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AttachFailure {
    /// `"tags-exhausted"`: every tag of the SMMU is taken.
    TagsExhausted,
    /// `"cannot-share"`: the SMMU lacks what the domain's tables need. Nothing may have changed.
    CannotShare,
    /// `"illegal"`: the SMMU would refuse the domain's entries, or take a field for another value.
    /// Nothing may have changed.
    Illegal,
    /// `"no-memory"`: an allocation failed.
    NoMemory,
    /// `"refused"`: what the device has attached already excludes this attach. Nothing may have
    /// changed.
    Refused,
    /// `"timeout"`: the SMMU does not confirm the attach, so the driver frees nothing that the
    /// device used before.
    Timeout,
}

impl AttachFailure {
    /// As it is written in a file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AttachFailure::TagsExhausted => "tags-exhausted",
            AttachFailure::CannotShare => "cannot-share",
            AttachFailure::Illegal => "illegal",
            AttachFailure::NoMemory => "no-memory",
            AttachFailure::Refused => "refused",
            AttachFailure::Timeout => "timeout",
        }
    }
}

/// What a device may reach during its attach.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "struct Watch")]
pub struct AttachWatch {
    /// The address that the device writes to.
    pub iova: u64,
    /// The page that it reaches before.
    pub old: SpannedName,
    /// The page that it reaches afterwards. In between it may reach nothing, and never another
    /// page.
    pub new: SpannedName,
    /// The device reaches one of the two pages at any time, never nothing.
    #[serde(default)]
    pub hitless: bool,
    /// The device translates the address itself. Needs a device with `ats`.
    #[serde(default)]
    pub translated: bool,
}

impl Attach {
    /// The substream, if the step is about one.
    #[must_use]
    pub fn substream(&self) -> Option<SubstreamId> {
        substream_of(self.substream.as_ref())
    }
}

impl StepSpec for Attach {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.device(&self.device)?;
        if let Some(substream) = &self.substream {
            names.substream(&self.device, substream)?;
        }
        if let Some(watch) = &self.watch {
            names.page(&watch.old)?;
            names.page(&watch.new)?;
            aligned(&span, watch.iova)?;
            if watch.translated {
                names.ats(&self.device, &span)?;
            }
            if self.to.get_ref() == "blocked" {
                let message = "a blocked device reaches no page, so there is nothing to watch";
                return Err((self.to.span(), message.into()));
            }
        }
        names.target(&self.to)
    }

    fn text(&self) -> String {
        let (device, to) = (self.device.get_ref(), self.to.get_ref());
        match &self.substream {
            None => format!("attach {device} to {to}"),
            Some(substream) => format!("attach {device} ssid={:#x} to {to}", substream.get_ref()),
        }
    }
}
