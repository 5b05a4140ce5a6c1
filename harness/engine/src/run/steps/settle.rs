//! Asks an SMMU again for all that it did not confirm.

use smmu_driver::smmu_types::seam::SinkError;

use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::{settled, unconfirmed};
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{SettleFailure, SettleStep};

impl StepAction for SettleStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let smmu = rig.smmu(rig.smmu_index(self.smmu.get_ref())?)?.clone();
        match (smmu.settle(), self.fails) {
            (Ok(()), None) => {
                rig.record_arrays();
                settled(rig)
            }
            (Err(SinkError::Timeout { .. }), Some(SettleFailure::Timeout)) => unconfirmed(rig),
            (Ok(()), Some(_)) => {
                Err(Stop::unmet("the SMMU gives no answer", "it confirmed everything"))
            }
            (Err(error), _) => Err(error.into()),
        }
    }
}
