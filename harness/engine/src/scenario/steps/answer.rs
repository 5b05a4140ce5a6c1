//! `answer`: answer the oldest fault of a device that waits.

use crate::prelude::*;
use core::ops::Range;

use serde::{Deserialize, Serialize};
use smmu_driver::smmu_types::SubstreamId;

use crate::machine::Need;
use crate::scenario::names::{Declared, SpannedName, Wrong, substream_of};
use crate::scenario::spanned::Spanned;
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Answer`](crate::scenario::Step::Answer).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "struct Answer")]
pub struct AnswerStep {
    /// The device.
    pub device: SpannedName,
    /// The substream whose oldest fault is answered; by default the oldest fault of the device, of
    /// whatever substream.
    pub substream: Option<Spanned<u32>>,
    /// The answer. A stalled write gets `"retry"`, `"terminate"`, `"abort"` or `"drop"`; a group of
    /// page requests gets `"success"`, `"invalid"`, `"failure"` or `"drop"`.
    pub with: Spanned<AnswerWith>,
    /// The page that the stalled write must reach then.
    pub reaches: Option<SpannedName>,
    /// The stalled write must end without reaching anything.
    #[serde(default)]
    pub refused: bool,
    /// The stalled write must stall again.
    #[serde(default)]
    pub stalls: bool,
    /// The fault was answered before, when its device left: the driver must send nothing.
    #[serde(default)]
    pub withdrawn: bool,
}

/// An answer to a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AnswerWith {
    /// `"retry"`: the write tries again.
    Retry,
    /// `"terminate"`: the write ends as if it had succeeded, where the SMMU can do that.
    Terminate,
    /// `"abort"`: the write ends with an abort.
    Abort,
    /// `"success"`: every page of the group is there.
    Success,
    /// `"invalid"`: a page of the group is not there, and will not be.
    Invalid,
    /// `"failure"`: the device stops asking.
    Failure,
    /// `"drop"`: the handler forgets the fault, which the driver answers.
    Drop,
}

impl AnswerWith {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            AnswerWith::Retry => "retry",
            AnswerWith::Terminate => "terminate",
            AnswerWith::Abort => "abort",
            AnswerWith::Success => "success",
            AnswerWith::Invalid => "invalid",
            AnswerWith::Failure => "failure",
            AnswerWith::Drop => "drop",
        }
    }
}

impl AnswerStep {
    /// The substream of the fault, if the step names one.
    #[must_use]
    pub fn substream(&self) -> Option<SubstreamId> {
        substream_of(self.substream.as_ref())
    }
}

impl StepSpec for AnswerStep {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.device(&self.device)?;
        self.substream.iter().try_for_each(|id| names.substream(&self.device, id))?;
        self.reaches.iter().try_for_each(|page| names.memory(page))?;
        let with = *self.with.get_ref();
        let ends = [self.reaches.is_some(), self.refused, self.stalls];
        let count = ends.into_iter().filter(|&end| end).count();
        let of_group =
            matches!(with, AnswerWith::Success | AnswerWith::Invalid | AnswerWith::Failure);
        let (need, what) = if of_group {
            (Need::PageRequests, "the answer to a group")
        } else {
            (Need::Stalls, "the answer to a stalled write")
        };
        let drop = with == AnswerWith::Drop;
        if !drop && !names.needs.contains(&need) {
            let message = format!("{what} needs \"{}\" in `needs`", need.name());
            return Err((self.with.span(), message));
        }
        if count > 1 || (of_group || self.withdrawn) && count > 0 {
            let message = "an answer has one of `reaches`, `refused = true`, `stalls = true` and \
                           `withdrawn = true` at most; that to a group has none of the first three";
            return Err((span, message.into()));
        }
        if !drop && !of_group && !self.withdrawn && count == 0 {
            let message = "the answer to a stalled write needs `reaches`, `refused = true`, \
                           `stalls = true` or `withdrawn = true`";
            return Err((span, message.into()));
        }
        Ok(())
    }

    fn text(&self) -> String {
        let (device, with) = (self.device.get_ref(), self.with.get_ref());
        let substream = self.substream().map(|id| format!(" ssid={id}")).unwrap_or_default();
        format!("answer the oldest fault of {device}{substream} with {}", with.name())
    }
}
