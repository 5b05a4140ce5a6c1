//! Takes a mapping away and invalidates.

use crate::run::invalidation::invalidate_or_fail;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::Unmap;

impl StepAction for Unmap {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        for iova in self.each() {
            rig.tables(self.domain.get_ref())?.unmap_leaf(self.leaf_size(), iova)?;
        }
        invalidate_or_fail(rig, self)
    }
}
