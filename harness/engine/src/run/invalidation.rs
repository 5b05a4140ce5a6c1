//! The invalidation of pages or blocks, as a driver does it after it has changed a descriptor.

use smmu_driver::smmu_types::range::Extent;
use smmu_driver::smmu_types::seam::{SinkError, Wait};
use smmu_driver::smmu_types::{Granule, Leaf};

use super::command_failure::check_failure;
use super::rig::Rig;
use super::settle::{settled, unconfirmed};
use super::stop::Stop;
use crate::page_tables::LeafSize;
use crate::prelude::*;
use crate::scenario::Unmap;

/// Invalidates pages or blocks of a domain, from an address on.
pub(super) fn invalidate(
    rig: &Rig,
    domain: &str,
    iova: u64,
    count: u32,
    size: LeafSize,
) -> Result<Result<(), SinkError>, Stop> {
    // The tables refuse to unmap leaves of another size, so the level hint is right.
    let bytes = u64::from(count) * size.bytes();
    let extent = Extent::range(iova, bytes, Granule::K4, Leaf::Last).with_leaf_hint(size.shift());
    Ok(rig.domain(domain)?.invalidate(extent).map_err(|error| error.first))
}

/// Invalidates pages that are unmapped, and checks that this ends as the step says.
pub(super) fn invalidate_or_fail(rig: &mut Rig, spec: &Unmap) -> Result<(), Stop> {
    let clock = rig.machine.clock();
    let start = clock.now();
    let outcome =
        invalidate(rig, spec.domain.get_ref(), spec.iova, spec.count(), spec.leaf_size())?;
    let waited = clock.now() - start;
    let smmu = outcome.map_or_else(|error| usize::from(error.smmu().0), |()| 0);
    let name = rig.smmu_name(smmu).to_owned();
    check_failure(rig, &name, outcome, spec.fails, waited)?;
    match spec.fails {
        None => settled(rig),
        Some(_) => unconfirmed(rig),
    }
}
