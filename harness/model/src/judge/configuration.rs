//! Compares a stream's cached STE, CD and level-1 descriptor with memory.

use smmu_types::seam::TableEntry;
use smmu_types::{Cd, Command, Leaf, Ste, StreamId, SubstreamId};

use crate::config::decode_ste::{Stream, decode_ste};
use crate::hazard::Hazard;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;

impl ModelSmmu {
    /// The hazard of a cached level-1 descriptor, STE or CD that differs from memory in used bits.
    pub(crate) fn stale_configuration(&self, ram: &ModelRam, stream: StreamId) -> Option<Hazard> {
        self.stale_l1(ram, stream).or_else(|| self.stale_entry(ram, stream))
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

    /// The hazard of the stream's cached STE or CD.
    pub(crate) fn stale_entry(&self, ram: &ModelRam, stream: StreamId) -> Option<Hazard> {
        let table = self.stream_table();
        let ste = self.config.stes.get(&stream.0)?;
        let at = table.locate(stream, |_, address| ram.read64(address)).ok();
        let memory = at.and_then(|at| ram.read_words(at)).map(Ste);
        if memory.is_none_or(|now| differ(&ste.0, &ste.used(), &now.0, &now.used())) {
            let missing = Command::CfgiSte { stream, leaf: Leaf::Last };
            return self.stale(stream, TableEntry::Ste, missing);
        }
        let cd = self.config.cds.get(&stream.0)?;
        let Ok(Stream::Stage1 { cd: at, .. }) = decode_ste(ste, &self.profile, self.e2h()) else {
            return None;
        };
        let memory = ram.read_words(at).map(Cd);
        if memory.is_none_or(|now| differ(&cd.0, &cd.used(), &now.0, &now.used())) {
            let substream = SubstreamId::default();
            let missing = Command::CfgiCd { stream, substream, leaf: Leaf::Last };
            return self.stale(stream, TableEntry::Cd, missing);
        }
        None
    }
}

/// Whether two entries differ in a bit that one of them uses.
fn differ(a: &[u64; 8], used_a: &[u64; 8], b: &[u64; 8], used_b: &[u64; 8]) -> bool {
    let words = a.iter().zip(b).zip(used_a.iter().zip(used_b));
    words.into_iter().any(|((a, b), (ua, ub))| (a ^ b) & (ua | ub) != 0)
}
