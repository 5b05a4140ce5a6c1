//! Fetches of configuration and translations, through the caches or past them.

use smmu_types::{Cd, EventClass, EventKind, PhysAddr, Ste, StreamId};

use crate::config::cd_table::CdTable;
use crate::config::decode_ste::{Stream, decode_ste};
use crate::config::stream_table::{Absent, StreamTableLayout};
use crate::config::treatment::{Plan, Refusal, Treatment, plan, resolve};
use crate::dma::transaction::skips_stage1;
use crate::hazard::{Now, Permissions};
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::requester::Requester;
use crate::walk::in_memory::{read_through, walk};
use crate::walk::table_walk::{WalkFault, walk_stage};
use crate::walk::translation::{Stages, Translation};

const READ: Permissions = Permissions { read: true, write: false };

impl ModelSmmu {
    /// The configuration for a transaction. The cache keeps every structure that this fetches.
    pub(crate) fn configuration(
        &mut self,
        ram: &ModelRam,
        from: Requester,
    ) -> Result<Treatment, Refusal> {
        let table = self.stream_table();
        let ste = self.config.ste(ram, &table, from.stream).map_err(Refusal::no_ste)?;
        match plan(&ste, &self.profile, self.e2h(), from.substream)? {
            Plan::Done(treatment) => Ok(treatment),
            Plan::NeedsCd(needs) => {
                let cd = self.cd(ram, from, &needs.cds, needs.index).map_err(Refusal::no_cd)?;
                needs.with(&cd, &self.profile)
            }
        }
    }

    /// A CD of a stream's table, through the configuration cache and, behind stage 2, the IOTLB.
    pub(crate) fn cd(
        &mut self,
        ram: &ModelRam,
        from: Requester,
        cds: &CdTable,
        index: u32,
    ) -> Result<Cd, Absent> {
        // Stage 2 needs all of the SMMU but the configuration cache.
        let mut config = std::mem::take(&mut self.config);
        let cd = config.cd(ram, from.stream, cds, index, &mut |at| match &cds.second {
            Some(second) => self.read_through_tlb(ram, from, second, at, EventClass::Cd),
            None => Ok(PhysAddr(at)),
        });
        self.config = config;
        cd
    }

    /// Where an IPA lies that the SMMU itself reads, through the IOTLB.
    fn read_through_tlb(
        &mut self,
        ram: &ModelRam,
        from: Requester,
        second: &Translation,
        ipa: u64,
        class: EventClass,
    ) -> Result<PhysAddr, WalkFault> {
        let found = self.find_or_walk(ram, from, &Stages::one(*second), ipa, READ);
        let (key, line) = found.map_err(|fault| fault.in_fetch(class))?;
        if !line.permissions.read {
            let fault = WalkFault::of(second, EventKind::F_PERMISSION, key.level, ipa);
            return Err(fault.in_fetch(class));
        }
        Ok(line.mapping(&key).at(ipa))
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

    /// Where a transaction goes by what is in memory now. `None` while translation is off.
    pub(crate) fn in_memory(&self, ram: &ModelRam, from: Requester, iova: u64) -> Option<Now> {
        if !self.translates() {
            return None;
        }
        Some(match self.current_configuration(ram, from) {
            Ok(Treatment::Abort) => Now::Abort,
            Ok(treatment) if skips_stage1(&treatment) && self.is_too_large(iova) => {
                Now::Fault(EventKind::F_ADDR_SIZE)
            }
            Ok(Treatment::Bypass) => {
                let permissions = Permissions { read: true, write: true };
                Now::Page { address: PhysAddr(iova), permissions }
            }
            Ok(Treatment::Translate(stages)) => walk(ram, &stages, iova).now(iova),
            Err(refusal) => Now::Fault(refusal.kind),
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

    /// Stage 2 of a stream's cached STE, if it is nested.
    pub(crate) fn cached_second(&self, stream: StreamId) -> Option<Translation> {
        self.cached_cds(stream)?.second
    }

    /// The table of CDs of an STE. `None` if the SMMU refuses the STE, or without stage 1.
    pub(crate) fn cds_of(&self, ste: &Ste) -> Option<CdTable> {
        match decode_ste(ste, &self.profile, self.e2h()) {
            Ok(Stream::Stage1 { cds, .. }) => Some(cds),
            _ => None,
        }
    }

    /// Walk, and cache the table descriptors and the mapping. A fault caches the table descriptors
    /// only.
    ///
    /// Stage 1 must allow an access of `wanted`, or else its fault comes before those of stage 2.
    pub(crate) fn walk_and_keep(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        stages: &Stages,
        iova: u64,
        wanted: Permissions,
    ) -> Result<(), WalkFault> {
        let Stages { first, second } = stages;
        let from = self
            .tlb
            .find_table(first.space, first.start_level.granule, iova)
            .map(|(_, table)| table);
        let found = walk_stage(ram, first, iova, from.as_ref(), &mut |table| match second {
            Some(second) => self.read_through_tlb(ram, source, second, table, EventClass::Tt),
            None => Ok(PhysAddr(table)),
        });
        // An entry reached through a cached descriptor belongs to that descriptor's root table.
        let roots = from.map_or(stages.roots(), |table| table.roots);
        for step in &found.steps {
            self.tlb.insert_table(first.space, iova, step, roots);
        }
        let mut mapping = found.result?;
        if let Some(second) = second {
            let one = mapping.permissions;
            let denied = !(one.read && wanted.read || one.write && wanted.write);
            let ipa = mapping.at(iova).0;
            // The SMMU may translate what stage 1 denies ahead of any need, and cache the result.
            let below = self.find_or_walk(ram, source, &Stages::one(*second), ipa, wanted);
            let (key, line) = below.map_err(|fault| match denied {
                true => WalkFault::of(first, EventKind::F_PERMISSION, mapping.level, iova),
                false => fault,
            })?;
            mapping = mapping.through(&line.mapping(&key), iova);
        }
        self.tlb.insert(first.space, iova, &mapping, roots, source);
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

/// Where an address of a table of CDs lies, by stage 2 in memory.
pub(crate) fn place_in_memory(
    ram: &ModelRam,
    cds: &CdTable,
    at: PhysAddr,
) -> Result<PhysAddr, Absent> {
    match &cds.second {
        Some(second) => read_through(ram, second, at.0, EventClass::Cd).map_err(Absent::Fault),
        None => Ok(at),
    }
}

/// A level-1 descriptor of a table of CDs, in memory.
pub(crate) fn l1cd_in_memory(ram: &ModelRam, cds: &CdTable, at: PhysAddr) -> Result<u64, Absent> {
    let at = place_in_memory(ram, cds, at)?;
    ram.read64(at).ok_or(Absent::Abort(at))
}

/// A CD of a table, in memory.
pub(crate) fn cd_in_memory(ram: &ModelRam, cds: &CdTable, index: u32) -> Result<Cd, Absent> {
    let at = cds.locate(index, |_, address| l1cd_in_memory(ram, cds, address))?;
    let at = place_in_memory(ram, cds, at)?;
    ram.read_words(at).map(Cd).ok_or(Absent::Abort(at))
}
