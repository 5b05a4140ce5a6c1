//! Reads the stream and CD tables of a running SMMU as they lie in memory.

use alloc::vec::Vec;

use smmu_types::fields::ste as field;
use smmu_types::legal::{self, Effect, El2Regime, Finding, SmmuView, StreamLookup};
use smmu_types::regs::strtab::{DecodedBase, DecodedConfig, Levels, Split};
use smmu_types::{
    Asid, Capabilities, Cd, ContextTableDescriptor, PhysAddr, Regime, Ste, SteConfig, StreamId,
    StreamTableDescriptor, StreamWorld, TableConfig, Vmid,
};

use super::doubt::{Doubt, Place};
use super::memory::PhysicalMemory;
use crate::BrokenRule;

/// Words that are read at once: eight entries.
const CHUNK: usize = 64;
const ENTRY_WORDS: usize = 8;

/// The most words that a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBudget(u64);

impl ReadBudget {
    /// At most this many 64-bit words. Each word of a table counts twice, because it is read twice.
    #[must_use]
    pub const fn new(words: u64) -> Self {
        ReadBudget(words)
    }
}

impl Default for ReadBudget {
    /// 2^25 words: 65,536 streams with 16 CDs each.
    fn default() -> Self {
        ReadBudget(1 << 25)
    }
}

/// The tables of a running SMMU, by its registers.
#[derive(Clone, Copy, Debug)]
pub struct RunningTables {
    base: u64,
    config: u32,
    smmu: SmmuView,
}

/// The stream table that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTableShape {
    /// Where the first level is.
    pub base: PhysAddr,
    /// log2 of the StreamIDs that the table covers.
    pub log2: u8,
    /// How many low bits of a StreamID the second level indexes; `None` for a linear table.
    pub split: Option<Split>,
    /// The second-level arrays, ascending by index. Empty for a linear table.
    pub arrays: Vec<SteArray>,
}

impl StreamTableShape {
    /// Where an array is, and how many of its STEs the SMMU uses: those of its descriptor's `Span`,
    /// but none at or beyond 2^`log2`. `None` if the descriptor leads to no array.
    #[must_use]
    pub fn stes(&self, array: &SteArray) -> Option<(PhysAddr, u64)> {
        let (address, log2) = array.descriptor.array()?;
        Some((address, 1 << log2.min(self.log2)))
    }
}

/// A second-level array of STEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteArray {
    /// Index of the level-1 descriptor.
    pub index: u32,
    /// The descriptor.
    pub descriptor: StreamTableDescriptor,
}

/// A stream with a valid STE.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LiveStream<'a> {
    /// The StreamID.
    pub stream: StreamId,
    /// The entry, bit for bit.
    pub ste: Ste,
    /// What the SMMU does with the stream.
    pub kind: StreamKind<'a>,
}

/// What an SMMU does with the transactions of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamKind<'a> {
    /// It aborts them.
    Abort,
    /// It passes them unchanged.
    Bypass,
    /// Stage 1 translates them.
    Stage1 {
        /// The table of CDs.
        table: TableConfig,
        /// The regime. [`Regime::El2`] without `CR2.E2H` has no ASIDs.
        regime: Regime,
        /// The ASIDs of all valid CDs, ascending, each once.
        asids: &'a [Asid],
    },
    /// Stage 2 translates them.
    Stage2 {
        /// The VMID.
        vmid: Vmid,
    },
    /// Both stages translate them. The CDs are in a guest's memory and are not read. Their ASIDs
    /// count within the VMID alone.
    Nested {
        /// The guest's table of CDs.
        table: TableConfig,
        /// The VMID.
        vmid: Vmid,
    },
}

impl RunningTables {
    /// The tables that `STRTAB_BASE` and `STRTAB_BASE_CFG` name.
    ///
    /// `smmu` has the ID registers, and the settings as they run: `CR2.E2H` by
    /// [`with_el2`](SmmuView::with_el2), `CR0.ATSCHK` by
    /// [`with_translated`](SmmuView::with_translated).
    #[must_use]
    pub const fn new(strtab_base: u64, strtab_base_cfg: u32, smmu: SmmuView) -> Self {
        RunningTables { base: strtab_base, config: strtab_base_cfg, smmu }
    }

    /// The SMMU as the reader sees it.
    #[must_use]
    pub const fn smmu(&self) -> &SmmuView {
        &self.smmu
    }

    /// Read all tables, and call `each` for every stream with a valid STE, ascending by StreamID.
    ///
    /// Writes nothing. Returns for every content of the memory: `budget` bounds the reads, and the
    /// memory for bookkeeping by that. An error makes what `each` has seen before worthless.
    ///
    /// # Errors
    ///
    /// The first [`Doubt`], or that of `each`.
    pub fn visit<M: PhysicalMemory + ?Sized>(
        &self,
        memory: &M,
        budget: ReadBudget,
        each: &mut dyn FnMut(&LiveStream<'_>) -> Result<(), Doubt>,
    ) -> Result<StreamTableShape, Doubt> {
        let caps = Capabilities::decode(self.smmu.id);
        let reader = Reader {
            memory,
            smmu: &self.smmu,
            substreams: caps.ssid_bits != 0,
            two_level_cd: caps.two_level_cd,
            // As the rules: a reserved size counts as 48 bits.
            output_bits: caps.output_size.map_or(48, |size| size.bits() as u8),
            left: budget.0,
            budget: budget.0,
            regions: Vec::new(),
            asids: Vec::new(),
            known: None,
            each,
        };
        if caps.relative_bases && caps.tables_preset {
            return Err(Doubt::Relative);
        }
        reader.stream_table(self.base, self.config, caps.sid_bits)
    }
}

/// Memory that a table takes.
struct Region {
    start: u64,
    end: u64,
    place: Place,
    /// Streams may share one table of CDs, but only a whole one.
    shareable: bool,
}

struct Reader<'a, M: ?Sized> {
    memory: &'a M,
    smmu: &'a SmmuView,
    substreams: bool,
    two_level_cd: bool,
    output_bits: u8,
    left: u64,
    budget: u64,
    regions: Vec<Region>,
    /// Those of the table of CDs that was read last.
    asids: Vec<Asid>,
    /// The STE that leads to that table.
    known: Option<Ste>,
    each: &'a mut dyn FnMut(&LiveStream<'_>) -> Result<(), Doubt>,
}

impl<M: PhysicalMemory + ?Sized> Reader<'_, M> {
    fn stream_table(
        mut self,
        base: u64,
        config: u32,
        sid_bits: u8,
    ) -> Result<StreamTableShape, Doubt> {
        let place = Place::Registers;
        let lookup = StreamLookup { config, descriptor: None };
        judged(place, |report| {
            legal::stream_id(StreamId(0), lookup, self.smmu, report);
        })?;
        let config_word = config;
        let config = DecodedConfig::decode(config);
        let log2 = config.covered_bits(sid_bits);
        if log2 > 32 {
            return Err(Doubt::StreamBits { bits: log2 });
        }
        let address = DecodedBase::decode(base).address;
        // `alignment` has a value: the table covers at most 2^32 STEs of 2^6 bytes.
        let align = config.alignment().unwrap_or(u64::MAX);
        if !address.0.is_multiple_of(align) {
            return Err(Doubt::Misaligned { place, address, align });
        }
        // A reserved split is a doubt already.
        let split = (config.levels == Levels::Two).then_some(config.split);
        let mut shape = StreamTableShape { base: address, log2, split, arrays: Vec::new() };
        match split {
            None => self.stes(place, address, 0, 1 << log2)?,
            Some(split) => self.descriptors(config_word, split.bits(), &mut shape)?,
        }
        self.check_overlaps()?;
        Ok(shape)
    }

    /// Read the level-1 descriptors, and the arrays behind them.
    fn descriptors(
        &mut self,
        config: u32,
        split: u8,
        shape: &mut StreamTableShape,
    ) -> Result<(), Doubt> {
        let count = 1u64 << shape.log2.saturating_sub(split);
        self.claim(Place::Registers, shape.base, count * 8, false)?;
        let mut words = [0; CHUNK];
        for from in (0..count).step_by(CHUNK) {
            let len = (count - from).min(CHUNK as u64) as usize;
            self.load(Place::Registers, shape.base.0 + from * 8, &mut words[..len])?;
            for (n, &word) in words[..len].iter().enumerate() {
                let descriptor = StreamTableDescriptor([word]);
                // Not beyond 2^32: the table covers at most so many StreamIDs.
                let index = (from + n as u64) as u32;
                let first = StreamId(index << split);
                let place = Place::StreamDescriptor(first);
                let lookup = StreamLookup { config, descriptor: Some(descriptor) };
                judged(place, |report| legal::stream_id(first, lookup, self.smmu, report))?;
                let array = SteArray { index, descriptor };
                let Some((address, stes)) = shape.stes(&array) else { continue };
                shape.arrays.try_reserve(1).map_err(|_| Doubt::OutOfMemory)?;
                shape.arrays.push(array);
                self.stes(place, address, first.0, stes)?;
            }
        }
        Ok(())
    }

    /// Read an array of STEs.
    fn stes(&mut self, place: Place, at: PhysAddr, first: u32, count: u64) -> Result<(), Doubt> {
        self.claim(place, at, count * Ste::BYTES as u64, false)?;
        let mut words = [0; CHUNK];
        let per_chunk = (CHUNK / ENTRY_WORDS) as u64;
        for from in (0..count).step_by(per_chunk as usize) {
            let len = (count - from).min(per_chunk) as usize * ENTRY_WORDS;
            let start = StreamId(first.wrapping_add(from as u32));
            let address = at.0 + from * Ste::BYTES as u64;
            self.load(Place::Ste(start), address, &mut words[..len])?;
            for (n, entry) in entries(&words[..len]).enumerate() {
                self.ste(StreamId(start.0.wrapping_add(n as u32)), Ste(entry))?;
            }
        }
        Ok(())
    }

    fn ste(&mut self, stream: StreamId, ste: Ste) -> Result<(), Doubt> {
        let config = ste.decode();
        if config == SteConfig::Invalid {
            return Ok(());
        }
        let place = Place::Ste(stream);
        judged(place, |report| legal::ste(&ste, self.smmu, report))?;
        if config != SteConfig::Abort && ste.get(field::CONT) != 0 {
            return Err(Doubt::Contiguous { stream });
        }
        let vmid = |vmid| match vmid {
            Vmid(0) => Err(Doubt::VmidZero { stream }),
            other => Ok(other),
        };
        if let SteConfig::Stage1(table) = &config {
            self.contexts(stream, &ste, table)?;
            // A caller may do work for each, also for those of a table that is not read again.
            self.spend(place, self.asids.len() as u64)?;
        }
        let asids = core::mem::take(&mut self.asids);
        let kind = match config {
            SteConfig::Abort => StreamKind::Abort,
            SteConfig::Bypass => StreamKind::Bypass,
            SteConfig::Stage1(table) => {
                let regime = match table.world {
                    StreamWorld::El2 => Regime::El2,
                    _ => Regime::El1,
                };
                StreamKind::Stage1 { table, regime, asids: &asids }
            }
            SteConfig::Stage2(config) => StreamKind::Stage2 { vmid: vmid(config.vmid)? },
            SteConfig::Stage2Other { vmid: found } => StreamKind::Stage2 { vmid: vmid(found)? },
            SteConfig::Nested(table, config) => {
                StreamKind::Nested { table, vmid: vmid(config.vmid)? }
            }
            SteConfig::NestedOther { table, vmid: found } => {
                StreamKind::Nested { table, vmid: vmid(found)? }
            }
            _ => return Err(Doubt::Unknown { place }),
        };
        let result = (self.each)(&LiveStream { stream, ste, kind });
        self.asids = asids;
        result
    }

    /// Collect the ASIDs of a table of CDs.
    fn contexts(&mut self, stream: StreamId, ste: &Ste, table: &TableConfig) -> Result<(), Doubt> {
        // The streams of one device are neighbours and share the table.
        if self.known == Some(*ste) {
            return Ok(());
        }
        self.known = None;
        self.asids.clear();
        // `S1Fmt` and `S1CDMax` count with substreams only.
        let log2 = if self.substreams { table.cd_max } else { 0 };
        let leaf_log2 = match table.format {
            _ if log2 == 0 || !self.two_level_cd => None,
            1 => Some(6),
            2 => Some(10),
            _ => None,
        };
        match leaf_log2 {
            None => {
                self.cds((stream, ste), Place::Ste(stream), table.context, 0, 1 << log2)?;
            }
            Some(leaf) => self.context_descriptors((stream, ste), table.context, log2, leaf)?,
        }
        self.asids.sort_unstable();
        self.asids.dedup();
        self.known = Some(*ste);
        Ok(())
    }

    fn context_descriptors(
        &mut self,
        (stream, ste): (StreamId, &Ste),
        at: PhysAddr,
        log2: u8,
        leaf: u8,
    ) -> Result<(), Doubt> {
        let count = 1u64 << log2.saturating_sub(leaf);
        self.claim(Place::Ste(stream), at, count * 8, true)?;
        let mut words = [0; CHUNK];
        for from in (0..count).step_by(CHUNK) {
            let len = (count - from).min(CHUNK as u64) as usize;
            let first = (from << leaf) as u32;
            let place = Place::ContextDescriptor(stream, first);
            self.load(place, at.0 + from * 8, &mut words[..len])?;
            for (n, &word) in words[..len].iter().enumerate() {
                let descriptor = ContextTableDescriptor([word]);
                let Some(address) = descriptor.table() else { continue };
                let first = ((from + n as u64) << leaf) as u32;
                let place = Place::ContextDescriptor(stream, first);
                judged(place, |report| {
                    legal::context_table(descriptor, ste, self.smmu, report);
                })?;
                self.cds((stream, ste), place, address, first, 1 << leaf.min(log2))?;
            }
        }
        Ok(())
    }

    /// Collect the ASIDs of an array of CDs.
    fn cds(
        &mut self,
        (stream, ste): (StreamId, &Ste),
        place: Place,
        at: PhysAddr,
        first: u32,
        count: u64,
    ) -> Result<(), Doubt> {
        self.claim(place, at, count * Cd::BYTES as u64, true)?;
        let has_asids = self.smmu.el2 == El2Regime::El2E2h
            || !matches!(
                ste.decode(),
                SteConfig::Stage1(TableConfig { world: StreamWorld::El2, .. })
            );
        let mut words = [0; CHUNK];
        let per_chunk = (CHUNK / ENTRY_WORDS) as u64;
        for from in (0..count).step_by(per_chunk as usize) {
            let len = (count - from).min(per_chunk) as usize * ENTRY_WORDS;
            let start = first.wrapping_add(from as u32);
            let address = at.0 + from * Cd::BYTES as u64;
            self.load(Place::Cd(stream, start), address, &mut words[..len])?;
            for (n, entry) in entries(&words[..len]).enumerate() {
                let cd = Cd(entry);
                if !cd.is_valid() {
                    continue;
                }
                let place = Place::Cd(stream, start.wrapping_add(n as u32));
                judged(place, |report| legal::cd(&cd, ste, self.smmu, report))?;
                if has_asids && self.asids.last() != Some(&cd.asid()) {
                    self.asids.try_reserve(1).map_err(|_| Doubt::OutOfMemory)?;
                    self.asids.push(cd.asid());
                }
            }
        }
        Ok(())
    }

    /// Note the memory of a table, before any of it is read.
    fn claim(
        &mut self,
        place: Place,
        address: PhysAddr,
        bytes: u64,
        shareable: bool,
    ) -> Result<(), Doubt> {
        let (bits, limit) = (self.output_bits, 1 << self.output_bits);
        let end = address.0.checked_add(bytes).filter(|end| *end <= limit);
        let end = end.ok_or(Doubt::BeyondOutput { place, address, bytes, bits })?;
        // A table that cannot be read whole is refused before the first word.
        if bytes / 4 > self.left {
            return Err(Doubt::TooLarge { place, words: self.budget });
        }
        self.regions.try_reserve(1).map_err(|_| Doubt::OutOfMemory)?;
        self.regions.push(Region { start: address.0, end, place, shareable });
        Ok(())
    }

    /// Read words twice. An owner that still changes them shows.
    fn load(&mut self, place: Place, address: u64, words: &mut [u64]) -> Result<(), Doubt> {
        self.spend(place, 2 * words.len() as u64)?;
        let mut again = [0; CHUNK];
        let again = &mut again[..words.len()];
        for read in [&mut *words, &mut *again] {
            let unreadable = Doubt::Unreadable { place, address: PhysAddr(address) };
            self.memory.read(PhysAddr(address), read).map_err(|_| unreadable)?;
        }
        match words.iter().zip(&*again).position(|(first, second)| first != second) {
            Some(n) => Err(Doubt::Changing { place, address: PhysAddr(address + 8 * n as u64) }),
            None => Ok(()),
        }
    }

    fn spend(&mut self, place: Place, words: u64) -> Result<(), Doubt> {
        let refused = Doubt::TooLarge { place, words: self.budget };
        self.left = self.left.checked_sub(words).ok_or(refused)?;
        Ok(())
    }

    fn check_overlaps(&mut self) -> Result<(), Doubt> {
        self.regions.sort_unstable_by_key(|region| (region.start, region.end));
        for pair in self.regions.windows(2) {
            let [first, second] = pair else { continue };
            let same = first.shareable
                && second.shareable
                && (first.start, first.end) == (second.start, second.end);
            // The regions before `first` end before it starts, or are the same.
            if second.start < first.end && !same {
                let (place, other) = (second.place, first.place);
                return Err(Doubt::Overlap { place, other, address: PhysAddr(second.start) });
            }
        }
        Ok(())
    }
}

fn entries(words: &[u64]) -> impl Iterator<Item = [u64; ENTRY_WORDS]> {
    words.as_chunks().0.iter().copied()
}

/// Refuse a structure that the SMMU does not use as its fields say.
///
/// An ignored field does no harm. Neither does a CD whose walks are off: its owner has taken the tables
/// away, and transactions fault. An absent second level is usual.
fn judged(place: Place, judge: impl FnOnce(&mut dyn FnMut(Finding))) -> Result<(), Doubt> {
    let mut broken = None;
    judge(&mut |finding| match finding.effect() {
        Effect::Ignored | Effect::FaultsLater(_) => {}
        _ if matches!(finding.rule(), legal::Rule::NoSpan) => {}
        _ if broken.is_none() => broken = Some(BrokenRule::of(&finding)),
        _ => {}
    });
    broken.map_or(Ok(()), |broken| Err(Doubt::Rule { place, broken }))
}
