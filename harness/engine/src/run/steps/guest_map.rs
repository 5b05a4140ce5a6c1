//! A guest maps a page in its stage-1 tables.

use smmu_driver::smmu_types::PhysAddr;

use crate::page_tables::Permission;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::GuestMap;

impl StepAction for GuestMap {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let (name, ipa) = (self.table.get_ref(), PhysAddr(self.ipa));
        rig.guest_table(name)?.tables.map(self.iova, ipa, Permission::ReadWrite)?;
        rig.show_guest_memory(name)?;
        settled(rig)
    }
}
