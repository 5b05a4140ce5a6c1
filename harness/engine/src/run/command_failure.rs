//! Whether commands failed as a step says.

use core::time::Duration;

use smmu_driver::smmu_types::seam::SinkError;
use smmu_driver::smmu_types::{Command, CommandErrorCode};

use super::rig::Rig;
use super::stop::Stop;
use crate::prelude::*;
use crate::scenario::WantedFailure;
use crate::transcript::LineKind;

/// Checks that commands ended as the scenario says. Records an expected failure in the transcript.
pub(super) fn check_failure(
    rig: &Rig,
    smmu: &str,
    outcome: Result<(), SinkError>,
    wanted: Option<WantedFailure>,
    waited: Duration,
) -> Result<(), Stop> {
    let code = match wanted {
        None | Some(WantedFailure::Timeout | WantedFailure::Lost) => None,
        Some(WantedFailure::Ill) => Some(CommandErrorCode::ILL),
        Some(WantedFailure::Abt) => Some(CommandErrorCode::ABT),
        Some(WantedFailure::AtcInvSync) => Some(CommandErrorCode::ATC_INV_SYNC),
    };
    match (outcome, wanted) {
        (Ok(()), None) => Ok(()),
        (Err(SinkError::Command { command, code: got, .. }), Some(_)) if Some(got) == code => {
            rig.recorder
                .about(LineKind::Error, smmu, || format!("{got} on {}", Command::decode(command)));
            Ok(())
        }
        (Err(SinkError::Timeout { stall, .. }), Some(WantedFailure::Timeout)) => {
            let timeout = rig.timeout(smmu)?;
            if waited < timeout {
                return Err(Stop::unmet(
                    format!("the driver waits for {} ms", timeout.as_millis()),
                    format!("it gave up after {} us", waited.as_micros()),
                ));
            }
            let Some(stall) = stall else {
                return Err("the time-out does not say where the queue stands".to_owned().into());
            };
            rig.recorder
                .about(LineKind::Error, smmu, || format!("no answer in {timeout:?}: {stall}"));
            Ok(())
        }
        (Err(SinkError::Lost { .. }), Some(WantedFailure::Lost)) => {
            rig.recorder.about(LineKind::Error, smmu, || {
                "CMDQ_CONS lies outside the commands in flight: the SMMU was reset or is gone"
                    .into()
            });
            Ok(())
        }
        (Ok(()), Some(wanted)) => {
            let other = if wanted == WantedFailure::Lost { "a reset" } else { "a time-out" };
            let want = code.map_or(other.into(), |code| code.to_string());
            Err(Stop::unmet(format!("the driver reports {want}"), "all commands were carried out"))
        }
        (Err(error), _) => Err(error.into()),
    }
}
