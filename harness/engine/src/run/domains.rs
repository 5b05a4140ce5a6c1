//! The domains of a scenario.

use alloc::collections::BTreeMap;

use smmu_driver::{Domain, DriverError};

use super::platform::{Dma, Harness, SharedTables};
use super::rig_error::RigError;
use crate::page_tables::PageTables;
use crate::prelude::*;
use crate::scenario::Scenario;

/// The domains of a scenario, in the order of the file, each made by `make`.
pub(super) fn domains_by(
    scenario: &Scenario,
    dma: &Dma,
    make: impl Fn(SharedTables) -> Result<Domain<Harness>, DriverError>,
) -> Result<BTreeMap<String, Domain<Harness>>, RigError> {
    let mut domains = BTreeMap::new();
    for spec in &scenario.file.domains {
        for name in spec.names() {
            let start_level = spec.start_level.as_ref().map_or(1, |level| *level.get_ref());
            let tables = PageTables::new(spec.stage, dma.clone())?;
            let tables = SharedTables::new(tables.claiming_start_level(start_level));
            domains.insert(name, make(tables)?);
        }
    }
    Ok(domains)
}
