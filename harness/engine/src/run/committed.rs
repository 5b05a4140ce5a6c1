//! What a finished attach must have left behind.

use smmu_driver::smmu_attach::Committed;

use super::rig::Rig;
use super::stop::Stop;
use crate::transcript::LineKind;

/// Checks that the SMMU confirmed an attach, and records the tag that it freed.
pub(super) fn committed(rig: &Rig, done: Committed) -> Result<(), Stop> {
    done.config?;
    if let Some(tag) = done.quarantined {
        return Err(format!("the flush of {tag} could not be proven").into());
    }
    if let Some(tag) = done.freed {
        rig.recorder.note(LineKind::Check, || format!("the last user of {tag} is gone"));
    }
    Ok(())
}
