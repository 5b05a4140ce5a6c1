//! What a finished attach must have left behind.

use smmu_driver::smmu_attach::Outcome;

use super::rig::Rig;
use super::stop::Stop;
use crate::transcript::LineKind;

/// Checks that the SMMU confirmed an attach, and records the tag that it freed.
pub(super) fn committed(rig: &Rig, outcome: Outcome) -> Result<(), Stop> {
    outcome.confirmed()?;
    if let Outcome::Unflushed(tag, _) = outcome {
        return Err(format!("the flush of {tag} could not be proven").into());
    }
    if let Some(tag) = outcome.freed() {
        rig.recorder.note(LineKind::Check, || format!("the last user of {tag} is gone"));
    }
    Ok(())
}
