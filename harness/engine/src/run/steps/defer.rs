//! Takes a mapping away, and leaves the invalidation to a later flush.

use smmu_driver::smmu_types::range::Extent;
use smmu_driver::smmu_types::{Granule, Leaf};

use crate::page_tables::LeafSize;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::Defer;

impl StepAction for Defer {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let (domain, page) = (self.domain.get_ref(), self.page.get_ref());
        rig.tables(domain)?.unmap_leaf(LeafSize::Page, self.iova)?;
        let extent = Extent::range(self.iova, LeafSize::Page.bytes(), Granule::K4, Leaf::Last);
        rig.deferred(domain)?.defer(extent, page.clone()).map_err(|page| {
            Stop::failed(format!("no room for one deferred unmap more, of page {page}"))
        })
    }
}
