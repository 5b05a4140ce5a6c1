//! A guest takes a mapping away, and sends no command yet.

use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::GuestUnmap;

impl StepAction for GuestUnmap {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        Ok(rig.guest_table(self.table.get_ref())?.tables.unmap(self.iova)?)
    }
}
