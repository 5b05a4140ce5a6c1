//! Tables of CDs in memory that the driver has freed.

use smmu_types::{PhysAddr, StreamId};

use crate::config::cd_table::CdTable;
use crate::dma::fetch::{l1cd_in_memory, place_in_memory, ste_in_memory};
use crate::hazard::Hazard;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;

/// The smallest piece that stage 2 maps.
const PAGE: u64 = 0x1000;

impl ModelSmmu {
    /// The hazards of a stream whose STE or level-1 CD descriptors, cached or in memory, lead to
    /// memory that the driver has freed.
    pub(crate) fn freed_cds(&self, ram: &ModelRam, stream: StreamId) -> Vec<Hazard> {
        let mut found = Vec::new();
        if !ram.has_freed() {
            return found;
        }
        let mut report = |at: PhysAddr, bytes: u64| {
            let hazard = Hazard::FreedMemory { smmu: self.index, stream, at };
            if ram.is_freed(at, bytes) && !found.contains(&hazard) {
                found.push(hazard);
            }
        };
        // Behind stage 2 each page of a table lies somewhere else.
        let mut report_table = |cds: &CdTable, at: PhysAddr, bytes: u64| {
            let piece = if cds.second.is_some() { bytes.min(PAGE) } else { bytes };
            for at in (0..bytes).step_by(piece.max(1) as usize).map(|n| PhysAddr(at.0 + n)) {
                if let Ok(at) = place_in_memory(ram, cds, at) {
                    report(at, piece);
                }
            }
        };
        let memory = ste_in_memory(ram, &self.stream_table(), stream).ok();
        let now = memory.and_then(|ste| self.cds_of(&ste));
        for cds in [self.cached_cds(stream), now].iter().flatten() {
            report_table(cds, cds.l1_address(0), cds.bytes());
            for l1 in 0..cds.l1_len() {
                let cached = self.config.l1cds.get(&(stream.0, l1)).copied();
                let descriptors = [cached, l1cd_in_memory(ram, cds, cds.l1_address(l1)).ok()];
                for leaf in descriptors.iter().flatten().filter_map(|d| cds.leaf_table(*d)) {
                    report_table(cds, leaf, cds.leaf_bytes());
                }
            }
        }
        let cached = self.config.cds.range((stream.0, 0)..=(stream.0, u32::MAX));
        for (_, cached) in cached.filter(|(_, cached)| cached.cd.is_valid()) {
            report(cached.at, CdTable::CD_BYTES);
        }
        found
    }
}
