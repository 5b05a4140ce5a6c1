//! What an SMMU and devices may fetch without any DMA: all that the tables hold.

use smmu_types::StreamId;

use crate::config::treatment::Treatment;
use crate::hazard::Permissions;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::requester::Requester;
use crate::walk::in_memory::walk;
use crate::walk::translation::Stages;

const ANY_ACCESS: Permissions = Permissions { read: true, write: true };

impl ModelSmmu {
    /// Fetch the configuration that [`Profile::ahead`](crate::Profile::ahead) names, where nothing is
    /// cached.
    pub(crate) fn fetch_ahead(&mut self, ram: &ModelRam) {
        for n in 0..self.profile.ahead.len() {
            let stream = self.profile.ahead[n];
            self.prefetch_ste(ram, stream);
        }
    }

    /// With [`Profile::translations_ahead`](crate::Profile::translations_ahead) fetch all that the
    /// tables of these streams hold, where nothing is cached.
    pub(crate) fn fetch_translations_ahead(&mut self, ram: &ModelRam) {
        if !self.profile.translations_ahead || !self.translates() {
            return;
        }
        self.fetch_ahead(ram);
        for n in 0..self.profile.ahead.len() {
            let stream = self.profile.ahead[n];
            for source in self.sources(ram, stream) {
                if let Some(substream) = source.substream {
                    self.prefetch_cd(ram, stream, substream.get());
                }
                if let Some(Treatment::Translate(stages)) = self.cached_configuration(ram, source) {
                    self.fetch_all(ram, stream, source, &stages);
                }
            }
        }
    }

    fn fetch_all(&mut self, ram: &ModelRam, stream: StreamId, source: Requester, stages: &Stages) {
        for input in mapped(ram, stages) {
            if self.tlb.find(stages.first.space, input).is_none() {
                // The SMMU ignores the fault of a prefetch.
                let _ =
                    self.quietly(|smmu| smmu.walk_and_keep(ram, source, stages, input, ANY_ACCESS));
            }
            let device = self.devices.get(&stream.0).filter(|device| device.on);
            if device.is_some_and(|device| device.find(source.substream, input).is_none()) {
                self.ask_ahead(ram, source, input);
            }
        }
    }
}

/// The first address of each page and block that the tables in memory map.
fn mapped(ram: &ModelRam, stages: &Stages) -> Vec<u64> {
    let mut found = Vec::new();
    let mut at = 0;
    while stages.first.walks && stages.first.takes(at) {
        let walk = walk(ram, stages, at);
        if walk.result.is_ok() {
            found.push(at);
        }
        at = (at | ((1 << walk.shift()) - 1)) + 1;
    }
    found
}
