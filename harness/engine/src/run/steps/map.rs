//! Maps pages or a block, or checks that the tables refuse it.

use crate::alloc_fault::Armed;
use crate::page_tables::TableError;
use crate::prelude::*;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{Map, MapFailure};
use crate::transcript::LineKind;

impl StepAction for Map {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        if let Some(want) = &self.fails {
            refused(rig, self, *want.get_ref())?;
            return settled(rig);
        }
        for (iova, page) in self.each() {
            let address = rig.page(page.get_ref())?;
            rig.tables(self.domain.get_ref())?.map_leaf(
                self.leaf_size(),
                iova,
                address,
                self.access,
            )?;
        }
        settled(rig)
    }
}

/// The tables refuse the mapping for the reason that the step says, and map what they mapped before.
fn refused(rig: &Rig, spec: &Map, want: MapFailure) -> Result<(), Stop> {
    for (iova, page) in spec.each() {
        let address = rig.page(page.get_ref())?;
        let mut tables = rig.tables(spec.domain.get_ref())?;
        let before = tables.descriptor(iova);
        let armed = (want == MapFailure::NoMemory).then(|| Armed::nth(1));
        let result = tables.map_leaf(spec.leaf_size(), iova, address, spec.access);
        drop(armed);
        let after = tables.descriptor(iova);
        let expected = || format!("the map fails with \"{}\"", want.name());
        match result {
            Ok(()) => return Err(Stop::unmet(expected(), "it did not")),
            Err(error) if reason(&error) == Some(want) => {
                rig.recorder.note(LineKind::Error, || error.to_string());
            }
            Err(error) => {
                return Err(Stop::unmet(expected(), format!("it failed otherwise: {error}")));
            }
        }
        if before != after {
            let happened = format!("the descriptor was {before:#x}, and is {after:#x}");
            return Err(Stop::unmet("a refused map changes nothing", rig.named(&happened)));
        }
    }
    Ok(())
}

/// The reason of an error, if a scenario can expect it.
const fn reason(error: &TableError) -> Option<MapFailure> {
    match error {
        TableError::Range(_) => Some(MapFailure::OutOfRange),
        TableError::Misaligned(_) | TableError::MisalignedBlock(_) => Some(MapFailure::Misaligned),
        TableError::Mapped(_) | TableError::InBlock(_) => Some(MapFailure::Mapped),
        TableError::HasTable(_) => Some(MapFailure::HasTable),
        TableError::Dma(_) => Some(MapFailure::NoMemory),
        TableError::NotMapped(_) => None,
    }
}
