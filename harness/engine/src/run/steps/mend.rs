//! Takes back every fault of an SMMU.

use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::MendStep;

impl StepAction for MendStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        Ok(rig.machine.mend(rig.smmu_index(self.smmu.get_ref())?)?)
    }
}
