//! The prefetcher: fetches again what a command has dropped.

use smmu_types::StreamId;

use crate::config::treatment::Treatment;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;

impl ModelSmmu {
    /// Fetch a translation. A prefetch belongs to no transaction, so it records no event.
    pub(crate) fn prefetch(&mut self, ram: &ModelRam, stream: StreamId, iova: u64) {
        if !self.translates() {
            return;
        }
        if let Some(Treatment::Translate(t)) = self.cached_configuration(ram, stream)
            && t.takes(iova)
            && self.tlb.find(t.space, iova).is_none()
        {
            // The SMMU ignores the fault of a prefetch.
            let _ = self.walk_and_keep(ram, stream, &t, iova);
        }
    }

    /// Fetch a stream's STE, and the CD that it points to.
    pub(crate) fn prefetch_ste(&mut self, ram: &ModelRam, stream: StreamId) {
        if self.translates() {
            let _ = self.configuration(ram, stream);
        }
    }

    /// Fetch a stream's CD, if its STE is cached.
    pub(crate) fn prefetch_cd(&mut self, ram: &ModelRam, stream: StreamId) {
        if self.config.stes.contains_key(&stream.0) {
            self.prefetch_ste(ram, stream);
        }
    }
}
