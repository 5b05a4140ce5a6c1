//! Moves a mapping: break, invalidate, make.

use crate::run::invalidation::invalidate;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::Remap;

impl StepAction for Remap {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let Remap(map) = self;
        let domain = map.domain.get_ref();
        let size = map.leaf_size();
        let mut count = 0;
        for (iova, page) in map.each() {
            // A page of this name exists before a mapping is broken.
            rig.page(page.get_ref())?;
            rig.tables(domain)?.unmap_leaf(size, iova)?;
            count += 1;
        }
        invalidate(rig, domain, map.iova, count, size)??;
        for (iova, page) in map.each() {
            let address = rig.page(page.get_ref())?;
            rig.tables(domain)?.map_leaf(size, iova, address, map.access)?;
        }
        settled(rig)
    }
}
