//! Fetches of configuration and translations, through the caches or past them.

use smmu_types::regs::cr2;
use smmu_types::{Cd, EventKind, Ste, StreamId};

use crate::config::stream_table::Absent;
use crate::config::treatment::{Refusal, Treatment, resolve};
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::walk::table_walk::{WalkFault, walk};
use crate::walk::translation::Translation;

impl ModelSmmu {
    /// A stream's configuration. The cache keeps every structure that this fetches.
    pub(crate) fn configuration(
        &mut self,
        ram: &ModelRam,
        stream: StreamId,
    ) -> Result<Treatment, Refusal> {
        let table = self.stream_table();
        let ste = self
            .config
            .ste(ram, &table, stream)
            .map_err(|absent| Refusal::absent(absent, EventKind::F_STE_FETCH))?;
        let (profile, config) = (&self.profile, &mut self.config);
        let e2h = self.regs.cr2 & cr2::E2H != 0;
        resolve(&ste, profile, e2h, |at| config.cd(ram, stream, at))
    }

    /// A stream's configuration in memory now. The cache stays unchanged.
    pub(crate) fn current_configuration(
        &self,
        ram: &ModelRam,
        stream: StreamId,
    ) -> Option<Treatment> {
        let at = self.stream_table().locate(stream, |_, address| ram.read64(address)).ok()?;
        let ste = Ste(ram.read_words(at)?);
        let cd = |at| ram.read_words(at).map(Cd).ok_or(Absent::Abort(at));
        resolve(&ste, &self.profile, self.e2h(), cd).ok()
    }

    /// A stream's cached STE with its cached CD, or with the CD in memory if none is cached.
    pub(crate) fn cached_configuration(
        &self,
        ram: &ModelRam,
        stream: StreamId,
    ) -> Option<Treatment> {
        let ste = self.config.stes.get(&stream.0)?;
        let cached = self.config.cds.get(&stream.0);
        let cd = |at| match cached {
            Some(cd) => Ok(*cd),
            None => ram.read_words(at).map(Cd).ok_or(Absent::Abort(at)),
        };
        resolve(ste, &self.profile, self.e2h(), cd).ok()
    }

    /// Walk, and cache the table descriptors and the leaf. A fault caches the table descriptors
    /// only.
    pub(crate) fn walk_and_keep(
        &mut self,
        ram: &ModelRam,
        stream: StreamId,
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
        self.tlb.insert(t.space, iova, &found.result?, root, stream);
        Ok(())
    }
}
