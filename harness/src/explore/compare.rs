//! What two machines saw, side by side and in words.

use smmu_types::EventRecord;

use super::raw_op::RawOp;
use super::rig::{Seen, Stream};

/// One difference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    /// The operation.
    pub(super) op: &'a RawOp,
    /// What the judge saw.
    pub(super) wanted: &'a Seen,
    /// The fault for which the judge refused a DMA, recorded or not.
    pub(super) fault: Option<EventRecord>,
    /// What the machine saw.
    pub(super) got: &'a Seen,
    /// What the judge's memory has for the device of a DMA.
    pub(super) stream: Stream,
}

impl Case<'_> {
    /// Whether the judge refused the DMA, for a fault of the kind that `is` tells.
    pub(super) fn is_refused(&self, is: impl Fn(&EventRecord) -> bool) -> bool {
        self.wanted.landed.is_none() && self.fault.as_ref().is_some_and(is)
    }

    /// What the judge and the machine saw. Events that read alike come with their words.
    pub(super) fn words(&self) -> [String; 2] {
        let texts = [self.wanted, self.got].map(Seen::to_string);
        if texts.iter().skip(1).any(|text| Some(text) != texts.first()) {
            return texts;
        }
        [self.wanted, self.got].map(|seen| {
            let records = seen.events.iter().map(|(_, event)| format!("; {:#018x?}", event.0));
            records.fold(seen.to_string(), |text, words| text + &words)
        })
    }
}
