//! The configuration cache: STEs, CDs and level-1 descriptors as they were fetched.

use std::collections::BTreeMap;

use smmu_types::{Cd, PhysAddr, Ste, StreamId};

use crate::config::stream_table::{Absent, StreamTableLayout};
use crate::model_ram::ModelRam;

/// Structures as the SMMU fetched them. It keeps invalid and illegal ones like any other; only an
/// aborted fetch leaves nothing (IHI 0070, 3.21.3).
#[derive(Debug, Default)]
pub(crate) struct ConfigCache {
    /// Level-1 descriptors, by index.
    pub(crate) l1: BTreeMap<u32, u64>,
    pub(crate) stes: BTreeMap<u32, Ste>,
    pub(crate) cds: BTreeMap<u32, Cd>,
}

/// The level-1 descriptors that a command drops, by index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct L1Range {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

impl ConfigCache {
    /// Drop the STEs and CDs of the streams `first` to `last`, and a range of level-1 descriptors.
    /// Returns the streams whose STE was cached.
    pub(crate) fn drop_streams(&mut self, first: u32, last: u32, l1: Option<L1Range>) -> Vec<u32> {
        let inside = |stream: &u32| (first..=last).contains(stream);
        let gone = self.stes.keys().copied().filter(inside).collect();
        self.stes.retain(|stream, _| !inside(stream));
        self.cds.retain(|stream, _| !inside(stream));
        if let Some(range) = l1 {
            self.l1.retain(|index, _| !(range.first..=range.last).contains(index));
        }
        gone
    }

    /// A stream's STE: the cached one, or else a fetch that the cache keeps.
    pub(crate) fn ste(
        &mut self,
        ram: &ModelRam,
        table: &StreamTableLayout,
        stream: StreamId,
    ) -> Result<Ste, Absent> {
        if let Some(ste) = self.stes.get(&stream.0) {
            return Ok(*ste);
        }
        let l1 = &mut self.l1;
        let address = table.locate(stream, |index, address| {
            if let Some(descriptor) = l1.get(&index) {
                return Some(*descriptor);
            }
            let descriptor = ram.read64(address)?;
            l1.insert(index, descriptor);
            Some(descriptor)
        })?;
        let ste = Ste(ram.read_words(address).ok_or(Absent::Abort(address))?);
        self.stes.insert(stream.0, ste);
        Ok(ste)
    }

    /// A stream's CD: the cached one, or else a fetch from `at` that the cache keeps.
    pub(crate) fn cd(
        &mut self,
        ram: &ModelRam,
        stream: StreamId,
        at: PhysAddr,
    ) -> Result<Cd, Absent> {
        if let Some(cd) = self.cds.get(&stream.0) {
            return Ok(*cd);
        }
        let cd = Cd(ram.read_words(at).ok_or(Absent::Abort(at))?);
        self.cds.insert(stream.0, cd);
        Ok(cd)
    }
}
