//! Changes a descriptor past the driver.

use crate::page_tables::Permission;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::Poke;

impl StepAction for Poke {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let domain = self.domain.get_ref();
        match &self.page {
            Some(page) => {
                let address = rig.page(page.get_ref())?;
                rig.tables(domain)?.overwrite(self.iova, address, Permission::ReadWrite)?;
            }
            None => rig.tables(domain)?.unmap(self.iova)?,
        }
        Ok(())
    }
}
