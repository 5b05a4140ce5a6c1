//! `dma`: let a device write or read 4 bytes.

use core::ops::Range;

use crate::prelude::*;
use crate::scenario::spanned::Spanned;
use serde::{Deserialize, Serialize};
use smmu_driver::smmu_types::{EventKind, SubstreamId};

use crate::machine::{DmaSource, Need};
use crate::scenario::names::{Declared, SpannedName, Wrong, substream_of};
use crate::scenario::nearest::nearest;
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Dma`](crate::scenario::Step::Dma).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "struct Dma")]
pub struct DmaStep {
    /// The device.
    pub device: SpannedName,
    /// The StreamID that the device uses; its first one by default.
    pub stream: Option<Spanned<u32>>,
    /// The SubstreamID that the device sends; none by default.
    pub substream: Option<Spanned<u32>>,
    /// The device translates the address itself: it takes the translation from its cache, or asks the
    /// SMMU for one. Needs a device with `ats`.
    #[serde(default)]
    pub translated: bool,
    /// Whether the device writes or reads; `"write"` by default.
    pub access: Option<Spanned<DmaDirection>>,
    /// The address that the device accesses.
    pub iova: Option<Spanned<u64>>,
    /// Instead of `iova`: the physical address of this page or block.
    pub at: Option<SpannedName>,
    /// The page or block that the access must reach: the data goes there, or comes from there.
    pub reaches: Option<SpannedName>,
    /// The event that the access must end with.
    pub faults: Option<SpannedName>,
    /// The SMMU must refuse the access without an event.
    #[serde(default)]
    pub refused: bool,
    /// The access must wait for the driver. Needs `access = "write"`, and a device with `stalls`.
    #[serde(default)]
    pub stalls: bool,
}

/// What a device does with memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DmaDirection {
    /// `"write"`: it writes.
    #[default]
    Write,
    /// `"read"`: it reads. Needs `"dma-reads"`.
    Read,
}

impl DmaDirection {
    /// As it is written in a file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DmaDirection::Write => "write",
            DmaDirection::Read => "read",
        }
    }
}

impl DmaStep {
    /// What the device sends beside the address.
    #[must_use]
    pub fn source(&self) -> DmaSource {
        DmaSource { substream: substream_of(self.substream.as_ref()), translated: self.translated }
    }

    /// Whether the device writes or reads.
    #[must_use]
    pub fn direction(&self) -> DmaDirection {
        self.access.as_ref().map_or(DmaDirection::Write, |access| *access.get_ref())
    }
}

impl StepSpec for DmaStep {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.device(&self.device)?;
        if let Some(stream) = &self.stream {
            names.stream(&self.device, stream)?;
        }
        if let Some(substream) = &self.substream {
            if !names.needs.contains(&Need::Substreams) {
                let need = Need::Substreams.name();
                return Err((substream.span(), format!("substream needs \"{need}\" in `needs`")));
            }
            if SubstreamId::new(*substream.get_ref()).is_none() {
                return Err((substream.span(), "a SubstreamID has 20 bits at most".into()));
            }
        }
        if self.translated {
            names.ats(&self.device, &span)?;
            if self.stalls {
                return Err((span, "the SMMU stalls no request of ATS".into()));
            }
        }
        for page in self.at.iter().chain(&self.reaches) {
            names.memory(page)?;
        }
        if let Some(access) = &self.access
            && *access.get_ref() == DmaDirection::Read
            && !names.needs.contains(&Need::DmaReads)
        {
            let need = Need::DmaReads.name();
            return Err((access.span(), format!("a read needs \"{need}\" in `needs`")));
        }
        if self.iova.is_some() == self.at.is_some() {
            return Err((span, "a dma needs either `iova` or `at`".into()));
        }
        if let Some(iova) = &self.iova
            && iova.get_ref() % 4 != 0
        {
            return Err((iova.span(), "a dma is 4 bytes, aligned to 4 bytes".into()));
        }
        if self.stalls && !names.needs.contains(&Need::Stalls) {
            let need = Need::Stalls.name();
            return Err((span, format!("a dma that stalls needs \"{need}\" in `needs`")));
        }
        if self.stalls && self.direction() == DmaDirection::Read {
            return Err((span, "only a write can stall here".into()));
        }
        if let Some(kind) = &self.faults
            && EventKind::from_name(kind.get_ref()).is_none()
        {
            let numbers = 0..=u8::MAX;
            let names: Vec<String> = numbers.map(|n| EventKind(n).to_string()).collect();
            let near = nearest(kind.get_ref(), names.iter().map(String::as_str));
            let hint = near.map_or_else(
                || "one is F_TRANSLATION, another C_BAD_STE".to_owned(),
                |near| format!("did you mean \"{near}\"?"),
            );
            let message = format!("no event is named \"{}\"; {hint}", kind.get_ref());
            return Err((kind.span(), message));
        }
        let ends = [self.reaches.is_some(), self.faults.is_some(), self.refused, self.stalls];
        if ends.into_iter().filter(|&end| end).count() != 1 {
            let message =
                "a dma needs one of `reaches`, `faults`, `refused = true` and `stalls = true`";
            return Err((span, message.into()));
        }
        Ok(())
    }

    fn text(&self) -> String {
        let address = match (&self.iova, &self.at) {
            (Some(iova), _) => format!("{:#x}", iova.get_ref()),
            (None, Some(page)) => format!("the physical address of page {}", page.get_ref()),
            (None, None) => String::new(),
        };
        let device = self.device.get_ref();
        let does = match self.direction() {
            DmaDirection::Write => "writes to",
            DmaDirection::Read => "reads from",
        };
        let stream = self.stream.as_ref().map(|stream| format!(" as sid={:#x}", stream.get_ref()));
        let substream = self.substream.as_ref();
        let substream = substream.map(|substream| format!(" with ssid={:#x}", substream.get_ref()));
        let (stream, substream) = (stream.unwrap_or_default(), substream.unwrap_or_default());
        let how = if self.translated { " by ATS" } else { "" };
        format!("{device}{stream}{substream} {does} {address}{how}")
    }
}
