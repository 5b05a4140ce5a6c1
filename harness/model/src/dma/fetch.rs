//! Fetches of configuration and translations, through the caches or past them.

use smmu_types::regs::cr2;
use smmu_types::{Cd, Ste, StreamId};

use crate::config::cd_table::CdTable;
use crate::config::decode_ste::{Stream, decode_ste};
use crate::config::stream_table::{Absent, StreamTableLayout};
use crate::config::treatment::{Refusal, Treatment, resolve};
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::requester::Requester;
use crate::walk::table_walk::{WalkFault, walk};
use crate::walk::translation::Translation;

impl ModelSmmu {
    /// The configuration for a transaction. The cache keeps every structure that this fetches.
    pub(crate) fn configuration(
        &mut self,
        ram: &ModelRam,
        from: Requester,
    ) -> Result<Treatment, Refusal> {
        let table = self.stream_table();
        let ste = self.config.ste(ram, &table, from.stream).map_err(Refusal::no_ste)?;
        let (profile, config) = (&self.profile, &mut self.config);
        let e2h = self.regs.cr2 & cr2::E2H != 0;
        resolve(&ste, profile, e2h, from.substream, |cds, index| {
            config.cd(ram, from.stream, cds, index)
        })
    }

    /// The configuration for a transaction in memory now. The cache stays unchanged.
    pub(crate) fn current_configuration(
        &self,
        ram: &ModelRam,
        from: Requester,
    ) -> Result<Treatment, Refusal> {
        let table = self.stream_table();
        let ste = ste_in_memory(ram, &table, from.stream).map_err(Refusal::no_ste)?;
        resolve(&ste, &self.profile, self.e2h(), from.substream, |cds, index| {
            cd_in_memory(ram, cds, index)
        })
    }

    /// The configuration for a transaction: the cached STE with the cached CD, or with the CD in
    /// memory if none is cached. `None` without a cached STE.
    pub(crate) fn cached_configuration(
        &self,
        ram: &ModelRam,
        from: Requester,
    ) -> Option<Treatment> {
        let ste = self.config.stes.get(&from.stream.0)?;
        let cd = |cds: &CdTable, index| match self.config.cds.get(&(from.stream.0, index)) {
            Some(cached) => Ok(cached.cd),
            None => cd_in_memory(ram, cds, index),
        };
        resolve(ste, &self.profile, self.e2h(), from.substream, cd).ok()
    }

    /// The table of CDs of a stream's cached STE. `None` without a cached STE of stage 1.
    pub(crate) fn cached_cds(&self, stream: StreamId) -> Option<CdTable> {
        self.cds_of(self.config.stes.get(&stream.0)?)
    }

    /// The table of CDs of an STE. `None` if the SMMU refuses the STE, or without stage 1.
    pub(crate) fn cds_of(&self, ste: &Ste) -> Option<CdTable> {
        match decode_ste(ste, &self.profile, self.e2h()) {
            Ok(Stream::Stage1 { cds, .. }) => Some(cds),
            _ => None,
        }
    }

    /// Walk, and cache the table descriptors and the leaf. A fault caches the table descriptors
    /// only.
    pub(crate) fn walk_and_keep(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        t: &Translation,
        iova: u64,
    ) -> Result<(), WalkFault> {
        let from = self.tlb.find_table(t.space, iova).map(|(key, table)| (key.level, table));
        let found = walk(ram, t, iova, from);
        // An entry reached through a cached descriptor belongs to that descriptor's root table.
        let root = from.map_or(t.root, |(_, table)| table.root);
        for step in &found.steps {
            self.tlb.insert_table(t.space, iova, step, root);
        }
        self.tlb.insert(t.space, iova, &found.result?, root, source);
        Ok(())
    }
}

/// A stream's STE in memory.
pub(crate) fn ste_in_memory(
    ram: &ModelRam,
    table: &StreamTableLayout,
    stream: StreamId,
) -> Result<Ste, Absent> {
    let at = table.locate(stream, |_, address| ram.read64(address))?;
    ram.read_words(at).map(Ste).ok_or(Absent::Abort(at))
}

/// A CD of a table, in memory.
fn cd_in_memory(ram: &ModelRam, cds: &CdTable, index: u32) -> Result<Cd, Absent> {
    let at = cds.locate(index, |_, address| ram.read64(address))?;
    ram.read_words(at).map(Cd).ok_or(Absent::Abort(at))
}
