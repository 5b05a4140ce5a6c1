//! Invalidates again.

use crate::run::invalidation::invalidate_or_fail;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::Invalidate;

impl StepAction for Invalidate {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        invalidate_or_fail(rig, &self.0)
    }
}
