//! Lets the driver put an SMMU to sleep.

use smmu_driver::smmu_types::SmmuId;

use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::SuspendStep;

impl StepAction for SuspendStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        // The step before this one has reported its events, so none is left.
        Ok(rig.driver.suspend(SmmuId(rig.smmu_index(self.smmu.get_ref())? as u16), |_| ())?)
    }
}
