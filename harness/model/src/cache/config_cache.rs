//! The configuration cache: STEs, CDs and level-1 descriptors of both tables, as fetched.

use std::collections::BTreeMap;

use smmu_types::{Cd, Leaf, PhysAddr, Ste, StreamId};

use crate::config::cd_table::CdTable;
use crate::config::stream_table::{Absent, StreamTableLayout};
use crate::model_ram::ModelRam;
use crate::profile::Profile;
use crate::walk::table_walk::Place;

/// Structures as the SMMU fetched them. It keeps invalid and illegal ones like any other; only an
/// aborted fetch leaves nothing (IHI 0070, 3.21.3).
#[derive(Debug, Default)]
pub(crate) struct ConfigCache {
    /// The SMMU fetches ahead what lies beside a CD.
    ahead: bool,
    /// Level-1 descriptors, by index.
    pub(crate) l1: BTreeMap<u32, u64>,
    pub(crate) stes: BTreeMap<u32, Ste>,
    /// CDs, by StreamID and index in the stream's table: a CD is local to its stream (4.3.3).
    pub(crate) cds: BTreeMap<(u32, u32), CachedCd>,
    /// Level-1 descriptors of tables of CDs, by StreamID and index.
    pub(crate) l1cds: BTreeMap<(u32, u32), u64>,
}

/// A CD as the SMMU fetched it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CachedCd {
    /// Where it was fetched from: a physical address, also behind stage 2.
    pub(crate) at: PhysAddr,
    pub(crate) cd: Cd,
}

/// What a command dropped.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    pub(crate) stes: Vec<(u32, Ste)>,
    pub(crate) cds: Vec<((u32, u32), CachedCd)>,
}

/// The level-1 descriptors that a command drops, by index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct L1Range {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

impl ConfigCache {
    pub(crate) fn of(profile: &Profile) -> Self {
        ConfigCache { ahead: profile.prefetch, ..ConfigCache::default() }
    }

    /// How many structures are cached.
    pub(crate) fn entries(&self) -> usize {
        self.l1.len() + self.stes.len() + self.cds.len() + self.l1cds.len()
    }

    /// Drop the STEs of the streams `first` to `last`, everything below them (4.3.1), and a range of
    /// level-1 descriptors of the stream table.
    pub(crate) fn drop_streams(&mut self, first: u32, last: u32, l1: Option<L1Range>) -> Dropped {
        let inside = |stream: &u32| (first..=last).contains(stream);
        let mut gone = self.drop_cds(first, last);
        gone.stes = self.stes.iter().filter(|(s, _)| inside(s)).map(|(s, e)| (*s, *e)).collect();
        self.stes.retain(|stream, _| !inside(stream));
        if let Some(range) = l1 {
            self.l1.retain(|index, _| !(range.first..=range.last).contains(index));
        }
        gone
    }

    /// Drop the CDs of the streams `first` to `last`, and the level-1 descriptors that lead to them.
    pub(crate) fn drop_cds(&mut self, first: u32, last: u32) -> Dropped {
        let inside = |stream: &u32| (first..=last).contains(stream);
        self.l1cds.retain(|(stream, _), _| !inside(stream));
        let cds = self.cds.iter().filter(|((s, _), _)| inside(s)).map(|(k, c)| (*k, *c)).collect();
        self.cds.retain(|(stream, _), _| !inside(stream));
        Dropped { stes: Vec::new(), cds }
    }

    /// Drop one CD and, with [`Leaf::All`], the level-1 descriptor that leads to it. `table` is the
    /// table of the cached STE: a level-1 descriptor is cached only with its STE.
    pub(crate) fn drop_cd(
        &mut self,
        stream: StreamId,
        index: u32,
        table: Option<&CdTable>,
        leaf: Leaf,
    ) -> Option<CachedCd> {
        if leaf == Leaf::All
            && let Some(l1) = table.and_then(|table| table.l1_index(index))
        {
            self.l1cds.remove(&(stream.0, l1));
        }
        self.cds.remove(&(stream.0, index))
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

    /// A CD of a stream's table: the cached one, or else a fetch that the cache keeps. `place`
    /// finds where an address of the table lies.
    pub(crate) fn cd(
        &mut self,
        ram: &ModelRam,
        stream: StreamId,
        table: &CdTable,
        index: u32,
        place: Place<'_>,
    ) -> Result<Cd, Absent> {
        if let Some(cached) = self.cds.get(&(stream.0, index)) {
            return Ok(cached.cd);
        }
        let cd = self.fetch_cd(ram, stream, table, index, place);
        if self.ahead && table.has_substreams() {
            self.fetch_neighbours(ram, stream, table, index, place);
        }
        cd
    }

    fn fetch_cd(
        &mut self,
        ram: &ModelRam,
        stream: StreamId,
        table: &CdTable,
        index: u32,
        place: Place<'_>,
    ) -> Result<Cd, Absent> {
        let l1cds = &mut self.l1cds;
        let at = table.locate(index, |l1, address| {
            if let Some(descriptor) = l1cds.get(&(stream.0, l1)) {
                return Ok(*descriptor);
            }
            let address = place(address.0).map_err(Absent::Fault)?;
            let descriptor = ram.read64(address).ok_or(Absent::Abort(address))?;
            l1cds.insert((stream.0, l1), descriptor);
            Ok(descriptor)
        })?;
        let at = place(at.0).map_err(Absent::Fault)?;
        let cd = Cd(ram.read_words(at).ok_or(Absent::Abort(at))?);
        self.cds.insert((stream.0, index), CachedCd { at, cd });
        Ok(cd)
    }

    /// Fetch ahead what lies beside a CD: the CDs of its 4 KiB, and the level-1 descriptors of its
    /// 64 bytes. The SMMU may read any of them while the table is reachable (3.21.3).
    fn fetch_neighbours(
        &mut self,
        ram: &ModelRam,
        stream: StreamId,
        table: &CdTable,
        index: u32,
        place: Place<'_>,
    ) {
        if let Some(l1) = table.l1_index(index) {
            for near in line(l1, 8, table.l1_len()) {
                let at = place(table.l1_address(near).0).ok();
                if let Some(descriptor) = at.and_then(|at| ram.read64(at)) {
                    self.l1cds.entry((stream.0, near)).or_insert(descriptor);
                }
            }
        }
        for near in line(index, 64, table.len()) {
            if !self.cds.contains_key(&(stream.0, near)) {
                // An aborted fetch leaves nothing, and records nothing: no transaction caused it.
                let _ = self.fetch_cd(ram, stream, table, near, place);
            }
        }
    }
}

/// The indices of the aligned group of `size` that holds `index`, below `len`.
fn line(index: u32, size: u32, len: u32) -> std::ops::Range<u32> {
    let first = index & !(size - 1);
    first..(first + size).min(len)
}
