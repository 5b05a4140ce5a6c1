//! The prefetcher: fetches again what a command has dropped.

use smmu_types::StreamId;

use crate::config::treatment::Treatment;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::requester::Requester;

impl ModelSmmu {
    /// Fetch a translation. A prefetch belongs to no transaction, so it records no event.
    pub(crate) fn prefetch(&mut self, ram: &ModelRam, source: Requester, iova: u64) {
        if !self.translates() {
            return;
        }
        if let Some(Treatment::Translate(t)) = self.cached_configuration(ram, source)
            && t.takes(iova)
            && self.tlb.find(t.space, iova).is_none()
        {
            // The SMMU ignores the fault of a prefetch.
            let _ = self.walk_and_keep(ram, source, &t, iova);
        }
    }

    /// Fetch a stream's STE, and the first CD of its table.
    pub(crate) fn prefetch_ste(&mut self, ram: &ModelRam, stream: StreamId) {
        let table = self.stream_table();
        if self.translates() && self.config.ste(ram, &table, stream).is_ok() {
            self.prefetch_cd(ram, stream, 0);
        }
    }

    /// Fetch a CD of a stream, if its STE is cached and the table reaches so far.
    pub(crate) fn prefetch_cd(&mut self, ram: &ModelRam, stream: StreamId, index: u32) {
        if self.translates()
            && let Some(cds) = self.cached_cds(stream)
            && index < cds.len()
        {
            let _ = self.config.cd(ram, stream, &cds, index);
        }
    }
}
