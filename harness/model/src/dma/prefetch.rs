//! The prefetcher: fetches again what a command has dropped.

use smmu_types::StreamId;

use crate::cache::tlb::TlbKey;
use crate::config::treatment::Treatment;
use crate::hazard::Permissions;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::requester::Requester;
use crate::walk::space::Space;
use crate::walk::translation::Stages;

/// A prefetch wants whatever the tables allow.
const ANY_ACCESS: Permissions = Permissions { read: true, write: true };

impl ModelSmmu {
    /// Fetch the translation of a dropped line again. A prefetch belongs to no transaction, so it
    /// records no event.
    pub(crate) fn prefetch(&mut self, ram: &ModelRam, source: Requester, dropped: &TlbKey) {
        if !self.translates() {
            return;
        }
        let stages = match (dropped.space, self.cached_second(source.stream)) {
            // An IPA, which stage 2 of a nested stream had translated.
            (Space::Stage2 { .. }, Some(second)) => Stages::one(second),
            _ => match self.cached_configuration(ram, source) {
                Some(Treatment::Translate(stages)) => stages,
                _ => return,
            },
        };
        let (first, input) = (&stages.first, dropped.base);
        if first.takes(input) && self.tlb.find(first.space, input).is_none() {
            // The SMMU ignores the fault of a prefetch.
            let _ =
                self.quietly(|smmu| smmu.walk_and_keep(ram, source, &stages, input, ANY_ACCESS));
        }
    }

    /// Act ahead of a need, and report nothing: the driver may be in the middle of a change. The
    /// audit and the next use tell what it owes.
    pub(super) fn quietly<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let known = self.hazards.len();
        let result = act(self);
        self.hazards.truncate(known);
        result
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
            let _ = self.quietly(|smmu| smmu.cd(ram, stream.into(), &cds, index));
        }
    }
}
