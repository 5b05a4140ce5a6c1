//! Resets an SMMU past the driver.

use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::ResetStep;

impl StepAction for ResetStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        Ok(rig.machine.reset(rig.smmu_index(self.smmu.get_ref())?)?)
    }
}
