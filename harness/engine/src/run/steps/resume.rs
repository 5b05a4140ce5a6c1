//! Lets the driver wake an SMMU.

use smmu_driver::smmu_types::SmmuId;

use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::ResumeStep;

impl StepAction for ResumeStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        rig.driver.resume(SmmuId(rig.smmu_index(self.smmu.get_ref())? as u16))?;
        settled(rig)
    }
}
