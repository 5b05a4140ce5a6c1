//! Compares a stream's cached STE, CDs and level-1 descriptors with memory.

use smmu_types::seam::TableEntry;
use smmu_types::{Command, Leaf, StreamId, SubstreamId};

use crate::config::cd_table::{CdChoice, CdTable};
use crate::dma::fetch::{cd_in_memory, l1cd_in_memory, ste_in_memory};
use crate::hazard::Hazard;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::requester::Requester;

impl ModelSmmu {
    /// The hazard of a cached level-1 descriptor, STE or CD that differs from memory in used bits.
    pub(crate) fn stale_configuration(&self, ram: &ModelRam, from: Requester) -> Option<Hazard> {
        self.stale_l1(ram, from.stream).or_else(|| self.stale_entry(ram, from))
    }

    fn stale(&self, stream: StreamId, entry: TableEntry, missing: Command) -> Option<Hazard> {
        Some(Hazard::StaleConfiguration { smmu: self.index, stream, entry, missing })
    }

    /// The hazard of the stream's cached level-1 descriptor.
    pub(crate) fn stale_l1(&self, ram: &ModelRam, stream: StreamId) -> Option<Hazard> {
        let table = self.stream_table();
        let index = table.l1_index(stream)?;
        let cached = self.config.l1.get(&index)?;
        if ram.read64(table.l1_address(index)) == Some(*cached) {
            return None;
        }
        let missing = Command::CfgiSte { stream, leaf: Leaf::All };
        self.stale(stream, TableEntry::Ste, missing)
    }

    /// The hazard of the cached STE or CD of a transaction, or of the level-1 descriptor that leads
    /// to the CD.
    pub(crate) fn stale_entry(&self, ram: &ModelRam, from: Requester) -> Option<Hazard> {
        self.stale_ste(ram, from.stream).or_else(|| {
            let cds = self.cached_cds(from.stream)?;
            let CdChoice::Cd(index) = cds.choose(from.substream).ok()? else { return None };
            let l1 = cds.l1_index(index).and_then(|l1| self.stale_l1cd(ram, from.stream, &cds, l1));
            l1.or_else(|| self.stale_cd(ram, from.stream, &cds, index))
        })
    }

    /// The hazard of the stream's cached STE.
    pub(crate) fn stale_ste(&self, ram: &ModelRam, stream: StreamId) -> Option<Hazard> {
        let ste = self.config.stes.get(&stream.0)?;
        let memory = ste_in_memory(ram, &self.stream_table(), stream).ok();
        if memory.is_some_and(|now| !differ(&ste.0, &ste.used(), &now.0, &now.used())) {
            return None;
        }
        let missing = Command::CfgiSte { stream, leaf: Leaf::Last };
        self.stale(stream, TableEntry::Ste, missing)
    }

    /// The hazards of the cached CDs of a stream, and of the level-1 descriptors that lead to them.
    pub(crate) fn stale_cds(&self, ram: &ModelRam, stream: StreamId) -> Vec<Hazard> {
        let Some(cds) = self.cached_cds(stream) else { return Vec::new() };
        let whole = (stream.0, 0)..=(stream.0, u32::MAX);
        let l1cds = self.config.l1cds.range(whole.clone());
        let l1cds = l1cds.filter_map(|((_, l1), _)| self.stale_l1cd(ram, stream, &cds, *l1));
        let entries = self.config.cds.range(whole);
        let entries =
            entries.filter_map(|((_, index), _)| self.stale_cd(ram, stream, &cds, *index));
        l1cds.chain(entries).collect()
    }

    fn stale_l1cd(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        cds: &CdTable,
        l1: u32,
    ) -> Option<Hazard> {
        let cached = self.config.l1cds.get(&(stream.0, l1))?;
        let now = l1cd_in_memory(ram, cds, cds.l1_address(l1)).unwrap_or(0);
        if cds.leaf_table(now) == cds.leaf_table(*cached) {
            return None;
        }
        let substream = SubstreamId::new(cds.first_of(l1)).unwrap_or_default();
        let missing = Command::CfgiCd { stream, substream, leaf: Leaf::All };
        self.stale(stream, TableEntry::Cd, missing)
    }

    fn stale_cd(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        cds: &CdTable,
        index: u32,
    ) -> Option<Hazard> {
        let cd = self.config.cds.get(&(stream.0, index))?.cd;
        let memory = cd_in_memory(ram, cds, index).ok();
        // An invalid CD of a table that is gone aborts, as a fetch would.
        let current =
            memory.map_or(!cd.is_valid(), |now| !differ(&cd.0, &cd.used(), &now.0, &now.used()));
        if current {
            return None;
        }
        let substream = SubstreamId::new(index).unwrap_or_default();
        let missing = Command::CfgiCd { stream, substream, leaf: Leaf::Last };
        self.stale(stream, TableEntry::Cd, missing)
    }
}

/// Whether two entries differ in a bit that one of them uses.
fn differ(a: &[u64; 8], used_a: &[u64; 8], b: &[u64; 8], used_b: &[u64; 8]) -> bool {
    let words = a.iter().zip(b).zip(used_a.iter().zip(used_b));
    words.into_iter().any(|((a, b), (ua, ub))| (a ^ b) & (ua | ub) != 0)
}
