//! One write of a device, how it ended, and what it reached.

use alloc::sync::Arc;

use super::pages::{DmaWrite, Pages, Reached};
use crate::lock::Mutex;
use crate::machine::{BackendError, DmaWriteOutcome, Machine};
use crate::prelude::*;
use crate::row::Detail;

/// Where writes arrived, in order.
pub(super) type Seen = Arc<Mutex<Vec<Reached>>>;

/// How a DMA ended, as far as the device can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was carried out.
    CarriedOut,
    /// The SMMU refused it.
    Refused,
    /// It waits.
    Stalled,
}

impl Ended {
    /// A DMA that ended so, as a row of a record.
    pub(crate) fn detail(self, access: &str, reached: &Reached) -> Detail {
        let (outcome, page) = match (reached, self) {
            (Reached::Page(page), _) => ("page", Some(page.clone())),
            (Reached::Nothing, Ended::Refused) => ("refused", None),
            (Reached::Nothing, Ended::Stalled) => ("stalled", None),
            (Reached::Nothing, Ended::CarriedOut) => ("unknown", None),
            (Reached::Damage(_), _) => ("damage", None),
        };
        Detail::Dma { access: access.to_owned(), outcome: outcome.to_owned(), page }
    }
}

/// Let a device write to pages that have their own content, and say what it reached.
pub(super) fn write_and_look(
    machine: &dyn Machine,
    pages: &Pages,
    device: usize,
    write: &DmaWrite,
) -> Result<(Ended, Reached), BackendError> {
    pages.expect(write);
    let ended = carry_out(machine, device, write)?;
    Ok((ended, pages.reached(write)))
}

/// Let a device write.
pub(super) fn carry_out(
    machine: &dyn Machine,
    device: usize,
    write: &DmaWrite,
) -> Result<Ended, BackendError> {
    Ok(match write.carry_out(machine, device)? {
        DmaWriteOutcome::Written => Ended::CarriedOut,
        DmaWriteOutcome::Refused => Ended::Refused,
        DmaWriteOutcome::Stalled => Ended::Stalled,
    })
}
