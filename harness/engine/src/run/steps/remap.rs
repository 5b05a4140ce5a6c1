//! Moves a mapping: break, invalidate, make.

use crate::run::invalidation::invalidate;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{Map, Remap};

impl StepAction for Remap {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let Remap(Map { domain, iova, page, access }) = self;
        let domain = domain.get_ref();
        let address = rig.page(page.get_ref())?;
        rig.tables(domain)?.unmap(*iova)?;
        invalidate(rig, domain, *iova)??;
        rig.tables(domain)?.map(*iova, address, *access)?;
        settled(rig)
    }
}
