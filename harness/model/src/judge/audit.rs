//! The audit: compares every cached entry that a stream can reach with memory.

use std::collections::{BTreeMap, BTreeSet};

use smmu_types::fields::ste;
use smmu_types::{StreamId, SubstreamId};

use crate::cache::tlb::{TlbKey, TlbLine};
use crate::config::cd_table::CdTable;
use crate::config::stream_table::Absent;
use crate::config::treatment::Treatment;
use crate::dma::fetch::{cd_in_memory, ste_in_memory};
use crate::hazard::Hazard;
use crate::judge::translation::LineUse;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::requester::Requester;
use crate::walk::in_memory::walk;
use crate::walk::space::Space;
use crate::walk::translation::Stages;

impl ModelSmmu {
    /// A hazard for each cached entry that a stream can reach and that differs from memory.
    pub(crate) fn audit(&self, ram: &ModelRam) -> Vec<Hazard> {
        let mut found = Vec::new();
        if !self.translates() {
            return found;
        }
        let mut l1 = BTreeSet::new();
        let mut spaces: BTreeMap<Space, Vec<(StreamId, Stages)>> = BTreeMap::new();
        for stream in self.streams(ram) {
            // One level-1 descriptor serves many streams: report it once.
            if let Some(index) = self.stream_table().l1_index(stream)
                && l1.insert(index)
            {
                found.extend(self.stale_l1(ram, stream));
            }
            if self.has_nothing_to_compare(ram, stream) {
                continue;
            }
            match self.stale_ste(ram, stream) {
                Some(hazard) => found.push(hazard),
                None => found.extend(self.stale_cds(ram, stream)),
            }
            found.extend(self.unpredictable(ram, stream));
            found.extend(self.freed_cds(ram, stream));
            for source in self.sources(ram, stream) {
                let cached = self.cached_configuration(ram, source);
                let current = self.current_configuration(ram, source).ok();
                for config in [cached, current].into_iter().flatten() {
                    if let Treatment::Translate(stages) = config {
                        use_space(&mut spaces, stream, stages);
                    }
                }
            }
            // Stage 2 of a nested stream has entries of its own, also where no CD is valid.
            for cds in self.tables(ram, stream).iter().flatten() {
                if let Some(second) = cds.second {
                    use_space(&mut spaces, stream, Stages::one(second));
                }
            }
        }
        // A stream that the first level hides has no STE in memory, and need not have one in the cache.
        for index in self.config.l1.keys().filter(|index| !l1.contains(index)) {
            let first = self.stream_table().first_of(*index);
            found.extend(first.and_then(|stream| self.stale_l1(ram, stream)));
        }
        found.extend(self.stale_atcs(ram));
        let mut seen = BTreeSet::new();
        for (space, users) in &spaces {
            for (stream, stages) in users {
                for (key, line) in self.tlb.lines() {
                    let theirs = key.space == *space || key.space == space.global();
                    if theirs
                        && !seen.contains(key)
                        && let Some(hazard) = self.audit_line(ram, *stream, stages, key, line)
                    {
                        seen.insert(*key);
                        found.push(hazard);
                    }
                }
            }
        }
        let mut seen = BTreeSet::new();
        for (space, users) in &spaces {
            for (stream, stages) in users {
                for (key, table) in self.tlb.tables().filter(|(key, _)| key.space == *space) {
                    if !seen.contains(key)
                        && let Some(hazard) =
                            self.judge_table(ram, *stream, stages, key, table, key.base)
                    {
                        seen.insert(*key);
                        found.push(hazard);
                    }
                }
            }
        }
        found
    }

    /// The hazard at the first address at which a line is stale.
    fn audit_line(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        stages: &Stages,
        key: &TlbKey,
        line: &TlbLine,
    ) -> Option<Hazard> {
        let mut at = key.base;
        while at - key.base < key.size() {
            let fresh = walk(ram, stages, at);
            if let Some(hazard) = self.judge(ram, LineUse { stream, stages, key, line, at }, &fresh)
            {
                return Some(hazard);
            }
            // A block may have become pages: compare with each of them.
            at = (at | ((1 << fresh.shift()) - 1)) + 1;
        }
        None
    }

    /// The transactions of a stream that reach a CD, in the cache or in memory. Without substreams
    /// that is the one without a SubstreamID.
    pub(crate) fn sources(&self, ram: &ModelRam, stream: StreamId) -> BTreeSet<Requester> {
        let mut sources = BTreeSet::from([Requester::from(stream)]);
        let tables = self.tables(ram, stream);
        if !tables.iter().flatten().any(CdTable::has_substreams) {
            return sources;
        }
        let cached = self.config.cds.range((stream.0, 0)..=(stream.0, u32::MAX));
        let cached =
            cached.filter(|(_, cached)| cached.cd.is_valid()).map(|((_, index), _)| *index);
        let mut indices: BTreeSet<u32> = cached.collect();
        for cds in tables.iter().flatten() {
            indices.extend(valid_cds(ram, cds));
        }
        sources.extend(
            indices
                .into_iter()
                .map(|index| Requester { stream, substream: SubstreamId::new(index) }),
        );
        sources
    }

    /// The tables of CDs of a stream: by its cached STE, and by the one in memory.
    fn tables(&self, ram: &ModelRam, stream: StreamId) -> [Option<CdTable>; 2] {
        let memory = ste_in_memory(ram, &self.stream_table(), stream).ok();
        [self.cached_cds(stream), memory.and_then(|ste| self.cds_of(&ste))]
    }

    /// An entry of the stream whose effect the architecture leaves open.
    fn unpredictable(&self, ram: &ModelRam, stream: StreamId) -> Option<Hazard> {
        let memory = ste_in_memory(ram, &self.stream_table(), stream).ok()?;
        self.cds_of(&memory)?.is_misaligned.then_some(Hazard::Unpredictable {
            smmu: self.index,
            stream,
            rule: "has a table of CDs that is not aligned to its size",
            section: "5.2",
        })
    }

    /// Whether a stream has nothing in the configuration cache, and an STE in memory that aborts or
    /// bypasses. A linear table is full of them.
    fn has_nothing_to_compare(&self, ram: &ModelRam, stream: StreamId) -> bool {
        let mut cds = self.config.cds.range((stream.0, 0)..=(stream.0, u32::MAX));
        if self.config.stes.contains_key(&stream.0) || cds.next().is_some() {
            return false;
        }
        let memory = ste_in_memory(ram, &self.stream_table(), stream);
        // `Config` 0b000 aborts, 0b100 bypasses.
        memory.is_ok_and(|ste| matches!(ste.get(ste::CONFIG), 0 | 4))
    }

    /// The streams with a cached STE or a valid STE in memory, in ascending order.
    fn streams(&self, ram: &ModelRam) -> Vec<StreamId> {
        let mut streams = self.stream_table().valid(|at| ram.read64(at));
        streams.extend(self.config.stes.keys().copied().map(StreamId));
        streams.sort_unstable();
        streams.dedup();
        streams
    }
}

/// Note that a stream uses the entries of a space.
fn use_space(
    spaces: &mut BTreeMap<Space, Vec<(StreamId, Stages)>>,
    stream: StreamId,
    stages: Stages,
) {
    let users = spaces.entry(stages.first.space).or_default();
    if !users.iter().any(|(_, other)| *other == stages) {
        users.push((stream, stages));
    }
}

/// The indices of the valid CDs of a table in memory.
fn valid_cds(ram: &ModelRam, cds: &CdTable) -> Vec<u32> {
    let mut valid = Vec::new();
    let mut index = 0;
    while index < cds.len() {
        match cd_in_memory(ram, cds, index) {
            Ok(cd) if cd.is_valid() => valid.push(index),
            // The next page of the leaf may lie elsewhere.
            Ok(_) | Err(Absent::Fault(_)) => {}
            Err(_) => index = cds.end_of_leaf(index),
        }
        index += 1;
    }
    valid
}
