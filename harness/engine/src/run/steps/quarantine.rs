//! Blocks a device whose cache does not answer.

use crate::run::committed::committed;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::QuarantineStep;

impl StepAction for QuarantineStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let outcome = rig.device(self.device.get_ref())?.quarantine();
        committed(rig, outcome)?;
        rig.record_arrays();
        settled(rig)
    }
}
