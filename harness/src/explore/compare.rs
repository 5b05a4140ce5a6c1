//! What two machines saw, side by side and in words.

use std::fmt;

use super::raw_op::RawOp;
use super::rig::{Landed, Seen, Stream};

/// One difference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    /// The operation.
    pub(super) op: &'a RawOp,
    /// What the judge saw.
    pub(super) wanted: &'a Seen,
    /// What the machine saw.
    pub(super) got: &'a Seen,
    /// What the judge's memory has for the device of a DMA.
    pub(super) stream: Stream,
}

impl Case<'_> {
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

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landed {
            Some(Landed::At(at)) => write!(f, "written to {at:#x}")?,
            Some(Landed::Elsewhere) => f.write_str("written elsewhere")?,
            None => f.write_str("nothing written")?,
        }
        for (index, error) in &self.refused {
            write!(f, "; command {index}: {error}")?;
        }
        for (smmu, event) in &self.events {
            write!(f, "; smmu{smmu} {event}")?;
        }
        for (smmu, irq) in &self.interrupts {
            write!(f, "; smmu{smmu} interrupt {irq}")?;
        }
        if self.errors != 0 {
            write!(f, "; GERROR {:#x}", self.errors)?;
        }
        Ok(())
    }
}
