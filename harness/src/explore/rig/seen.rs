//! What an operation did, as a driver and a device see it.

use std::fmt;

use smmu_engine::machine::{AtsAnswer, PageAnswer};
use smmu_types::{CommandErrorCode, EventRecord, Irq, PriRecord};

/// Where the write of a device went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landed {
    /// To this address.
    At(u64),
    /// Nowhere that raw work looks.
    Elsewhere,
}

/// What an operation did, as a driver and a device see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Where a write went; `None` if it was refused or waits.
    pub landed: Option<Landed>,
    /// The write waits for the driver.
    pub stalled: bool,
    /// The writes that had waited and have ended: the device, and whether it wrote.
    pub ended: Vec<(usize, bool)>,
    /// Where writes that had waited went.
    pub late: Vec<u64>,
    /// The answer to a translation request.
    pub translation: Option<AtsAnswer>,
    /// The commands that the SMMU refused: index in the batch, and the error.
    pub refused: Vec<(u32, CommandErrorCode)>,
    /// The events, with the index of their SMMU.
    pub events: Vec<(usize, EventRecord)>,
    /// The page requests, with the index of their SMMU.
    pub requests: Vec<(usize, PriRecord)>,
    /// The answers that devices got to page requests.
    pub answers: Vec<(usize, PageAnswer)>,
    /// The SMMUs whose event queue, or PRI queue, has lost a record.
    pub lost: Vec<usize>,
    /// The interrupts, each once.
    pub interrupts: Vec<(usize, Irq)>,
    /// Errors that are active in `GERROR` afterwards, other than that of the command queue.
    pub errors: u32,
}

impl Seen {
    /// A DMA that reached nothing, and of which nobody was told.
    pub(in crate::explore) fn is_silent(&self) -> bool {
        self.landed.is_none() && self.events.is_empty()
    }

    /// Nothing was written, now or late, and no translation was given.
    pub(in crate::explore) fn reaches_nothing(&self) -> bool {
        let given = matches!(self.translation, Some(AtsAnswer::Granted { .. }));
        self.landed.is_none() && self.late.is_empty() && !given
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landed {
            Some(Landed::At(at)) => write!(f, "written to {at:#x}")?,
            Some(Landed::Elsewhere) => f.write_str("written elsewhere")?,
            None if self.stalled => f.write_str("the write waits")?,
            None => f.write_str("nothing written")?,
        }
        for (device, wrote) in &self.ended {
            let how = if *wrote { "written" } else { "refused" };
            write!(f, "; the waiting write of device {device} is {how}")?;
        }
        for at in &self.late {
            write!(f, "; late to {at:#x}")?;
        }
        match self.translation {
            None => {}
            Some(AtsAnswer::Granted { address, read, write }) => {
                let [read, write] =
                    [(read, "r"), (write, "w")].map(|(may, c)| if may { c } else { "-" });
                write!(f, "; the device gets {address} {read}{write}")?;
            }
            Some(other) => write!(f, "; the device gets {other:?}")?,
        }
        for (index, error) in &self.refused {
            write!(f, "; command {index}: {error}")?;
        }
        for (smmu, event) in &self.events {
            write!(f, "; smmu{smmu} {event}")?;
        }
        for (smmu, request) in &self.requests {
            write!(f, "; smmu{smmu} {request}")?;
        }
        for (smmu, PageAnswer { stream, group, response, automatic }) in &self.answers {
            let by = if *automatic { " by itself" } else { "" };
            write!(f, "; smmu{smmu} answers stream {stream} group {group}: {response:?}{by}")?;
        }
        for smmu in &self.lost {
            write!(f, "; smmu{smmu} lost a record")?;
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
