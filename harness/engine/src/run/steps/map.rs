//! Maps a page.

use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::Map;

impl StepAction for Map {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        for (iova, page) in self.each() {
            let address = rig.page(page.get_ref())?;
            rig.tables(self.domain.get_ref())?.map(iova, address, self.access)?;
        }
        settled(rig)
    }
}
