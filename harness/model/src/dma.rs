//! A transaction's way through the SMMU.

use smmu_types::seam::TableEntry;
use smmu_types::{
    Cd, Command, EventClass, EventKind, EventRecord, Iova, Ipa, Leaf, PhysAddr, Ste, StreamId,
    SubstreamId,
};

use super::device::Smmu;
use super::hazard::{Hazard, Permissions};
use super::memory::Ram;
use super::stream::{Absent, Bad, Stream, absent_kind, decode_cd, decode_ste};
use super::walk::{Stage, Translation, WalkFault, walk};
use smmu_types::regs::cr2;

/// What a device does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Access {
    fn allowed(self, permissions: Permissions) -> bool {
        match self {
            Access::Read => permissions.read,
            Access::Write => permissions.write,
        }
    }
}

/// What becomes of a stream's transactions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Config {
    Abort,
    Bypass,
    Translate(Translation),
}

/// Why there is no configuration.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    kind: EventKind,
    fetch: Option<PhysAddr>,
    unsupported: Option<&'static str>,
}

impl Refusal {
    fn absent(absent: Absent, abort: EventKind) -> Self {
        let fetch = match absent {
            Absent::BadStream => None,
            Absent::Abort(address) => Some(address),
        };
        Refusal { kind: absent_kind(absent, abort), fetch, unsupported: None }
    }

    fn bad(bad: Bad, kind: EventKind) -> Self {
        let unsupported = match bad {
            Bad::Illegal => None,
            Bad::Unsupported(feature) => Some(feature),
        };
        Refusal { kind, fetch: None, unsupported }
    }
}

impl Smmu {
    /// Where an access goes, or `None` when it is refused.
    pub(super) fn translate(
        &mut self,
        ram: &Ram,
        stream: StreamId,
        iova: u64,
        access: Access,
    ) -> Option<PhysAddr> {
        if !self.translates() {
            return (!self.regs.aborts_all()).then_some(PhysAddr(iova));
        }
        let configured = self.configuration(ram, stream);
        if let Some(hazard) = self.stale_configuration(ram, stream) {
            self.hazard(hazard);
        }
        match configured {
            Ok(Config::Abort) => None,
            Ok(Config::Bypass) if iova >> self.profile.output_bits() != 0 => {
                let kind = EventKind::F_ADDR_SIZE;
                let event = EventRecord::new(kind, stream)
                    .with_access(Iova(iova), access == Access::Read)
                    .with_class(EventClass::In);
                self.record(ram, event);
                None
            }
            Ok(Config::Bypass) => Some(PhysAddr(iova)),
            Ok(Config::Translate(t)) => self.look_up(ram, stream, &t, iova, access),
            Err(refusal) => {
                self.refuse(ram, stream, refusal);
                None
            }
        }
    }

    fn refuse(&mut self, ram: &Ram, stream: StreamId, refusal: Refusal) {
        if let Some(feature) = refusal.unsupported {
            self.unsupported(stream, feature);
        }
        // Streams that the table does not have are only recorded on request.
        let silent = self.regs.cr2 & cr2::RECINVSID == 0;
        if refusal.kind == EventKind::C_BAD_STREAMID && silent {
            return;
        }
        let mut event = EventRecord::new(refusal.kind, stream);
        if let Some(fetch) = refusal.fetch {
            event.0[3] = fetch.0;
        }
        self.record(ram, event);
    }

    /// A stream's configuration through the cache, which keeps whatever is fetched.
    fn configuration(&mut self, ram: &Ram, stream: StreamId) -> Result<Config, Refusal> {
        let table = self.stream_table();
        let ste = self
            .config
            .ste(ram, &table, stream)
            .map_err(|absent| Refusal::absent(absent, EventKind::F_STE_FETCH))?;
        let (profile, config) = (&self.profile, &mut self.config);
        let e2h = self.regs.cr2 & cr2::E2H != 0;
        resolve(&ste, profile, e2h, |at| config.cd(ram, stream, at))
    }

    /// A stream's configuration as it is in memory now.
    pub(super) fn current_configuration(&self, ram: &Ram, stream: StreamId) -> Option<Config> {
        let at = self.stream_table().locate(stream, |_, address| ram.read64(address)).ok()?;
        let ste = Ste(ram.read_words(at)?);
        let cd = |at| ram.read_words(at).map(Cd).ok_or(Absent::Abort(at));
        resolve(&ste, &self.profile, self.e2h(), cd).ok()
    }

    /// A stream's configuration as far as it is cached; what is missing comes from memory.
    pub(super) fn cached_configuration(&self, ram: &Ram, stream: StreamId) -> Option<Config> {
        let ste = self.config.stes.get(&stream.0)?;
        let cached = self.config.cds.get(&stream.0);
        let cd = |at| match cached {
            Some(cd) => Ok(*cd),
            None => ram.read_words(at).map(Cd).ok_or(Absent::Abort(at)),
        };
        resolve(ste, &self.profile, self.e2h(), cd).ok()
    }

    /// Whether a cached entry of the stream differs from memory in bits that matter.
    fn stale_configuration(&self, ram: &Ram, stream: StreamId) -> Option<Hazard> {
        self.stale_l1(ram, stream).or_else(|| self.stale_entry(ram, stream))
    }

    fn stale(&self, stream: StreamId, entry: TableEntry, missing: Command) -> Option<Hazard> {
        Some(Hazard::StaleConfiguration { smmu: self.index, stream, entry, missing })
    }

    /// The same for the level-1 descriptor alone.
    pub(super) fn stale_l1(&self, ram: &Ram, stream: StreamId) -> Option<Hazard> {
        let table = self.stream_table();
        let index = table.l1_index(stream)?;
        let cached = self.config.l1.get(&index)?;
        if ram.read64(table.l1_address(index)) == Some(*cached) {
            return None;
        }
        let missing = Command::CfgiSte { stream, leaf: Leaf::All };
        self.stale(stream, TableEntry::Ste, missing)
    }

    /// The same for the STE and the CD.
    pub(super) fn stale_entry(&self, ram: &Ram, stream: StreamId) -> Option<Hazard> {
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

    fn look_up(
        &mut self,
        ram: &Ram,
        stream: StreamId,
        t: &Translation,
        iova: u64,
        access: Access,
    ) -> Option<PhysAddr> {
        let fault = |kind| WalkFault { kind, level: t.start_level, fetch: None };
        // The input size is checked by the walk: a line that is there serves what it covers.
        let mut way = None;
        if self.tlb.find(t.space, iova).is_none() {
            way = self.stale_way(ram, stream, t, iova);
            if let Err(fault) = self.walk_and_keep(ram, stream, t, iova) {
                if let Some(hazard) = way {
                    self.hazard(hazard);
                }
                self.fault(ram, stream, t, iova, access, fault);
                return None;
            }
        }
        let (key, line) = self.tlb.find(t.space, iova)?;
        if let Some(hazard) = self.stale_line(ram, stream, t, &key, &line, iova).or(way) {
            self.hazard(hazard);
        }
        if !access.allowed(line.permissions) {
            self.fault(ram, stream, t, iova, access, fault(EventKind::F_PERMISSION));
            return None;
        }
        Some(PhysAddr(line.output | iova & (key.size() - 1)))
    }

    /// Walk, and cache what was found; a fault caches nothing but the way there.
    fn walk_and_keep(
        &mut self,
        ram: &Ram,
        stream: StreamId,
        t: &Translation,
        iova: u64,
    ) -> Result<(), WalkFault> {
        let from = self.tlb.find_table(t.space, iova).map(|(key, table)| (key.level, table));
        let found = walk(ram, t, iova, from);
        // What was reached through a cached descriptor belongs to the table that it came from.
        let root = from.map_or(t.root, |(_, table)| table.root);
        for step in &found.steps {
            self.tlb.insert_table(t.space, iova, step, root);
        }
        self.tlb.insert(t.space, iova, &found.result?, root, stream);
        Ok(())
    }

    fn fault(
        &mut self,
        ram: &Ram,
        stream: StreamId,
        t: &Translation,
        iova: u64,
        access: Access,
        fault: WalkFault,
    ) {
        if fault.kind.is_translation_fault() && !t.records {
            return;
        }
        let mut event = EventRecord::new(fault.kind, stream)
            .with_access(Iova(iova), access == Access::Read)
            .with_class(EventClass::In);
        if t.stage == Stage::Two {
            event = event.with_stage2(Ipa(iova));
        }
        if let Some(fetch) = fault.fetch {
            event.0[3] = fetch.0;
        }
        self.record(ram, event);
    }

    /// Fetch a translation as a prefetcher does: without a transaction, so without an event.
    pub(super) fn prefetch(&mut self, ram: &Ram, stream: StreamId, iova: u64) {
        if !self.translates() {
            return;
        }
        if let Some(Config::Translate(t)) = self.cached_configuration(ram, stream)
            && t.takes(iova)
            && self.tlb.find(t.space, iova).is_none()
        {
            // A prefetch that faults leaves no trace.
            let _ = self.walk_and_keep(ram, stream, &t, iova);
        }
    }

    /// Fetch an STE again, and the CD that it leads to.
    pub(super) fn prefetch_ste(&mut self, ram: &Ram, stream: StreamId) {
        if self.translates() {
            let _ = self.configuration(ram, stream);
        }
    }

    pub(super) fn prefetch_cd(&mut self, ram: &Ram, stream: StreamId) {
        if self.config.stes.contains_key(&stream.0) {
            self.prefetch_ste(ram, stream);
        }
    }
}

fn differ(a: &[u64; 8], used_a: &[u64; 8], b: &[u64; 8], used_b: &[u64; 8]) -> bool {
    let words = a.iter().zip(b).zip(used_a.iter().zip(used_b));
    words.into_iter().any(|((a, b), (ua, ub))| (a ^ b) & (ua | ub) != 0)
}

fn resolve(
    ste: &Ste,
    profile: &super::Profile,
    e2h: bool,
    cd: impl FnOnce(PhysAddr) -> Result<Cd, Absent>,
) -> Result<Config, Refusal> {
    let stream =
        decode_ste(ste, profile, e2h).map_err(|bad| Refusal::bad(bad, EventKind::C_BAD_STE))?;
    match stream {
        Stream::Abort => Ok(Config::Abort),
        Stream::Bypass => Ok(Config::Bypass),
        Stream::Stage2(t) => Ok(Config::Translate(t)),
        Stream::Stage1 { cd: at, vmid, regime, tagged } => {
            let cd = cd(at).map_err(|absent| Refusal::absent(absent, EventKind::F_CD_FETCH))?;
            decode_cd(&cd, profile, vmid, regime, tagged)
                .map(Config::Translate)
                .map_err(|bad| Refusal::bad(bad, EventKind::C_BAD_CD))
        }
    }
}
