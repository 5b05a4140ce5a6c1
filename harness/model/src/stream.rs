//! Stream table entries and context descriptors: where they are, and what they mean.

use std::collections::BTreeMap;

use smmu_types::{
    Asid, Cd, EventKind, Granule, OutputSize, PhysAddr, Regime, Stage2Config, Ste, SteConfig,
    StreamId, StreamWorld, Vmid,
};

use super::memory::Ram;
use super::profile::Profile;
use super::tlb::Space;
use super::walk::{Stage, Translation, level_shift};

/// Where the stream table is, as the registers say.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamTable {
    pub(super) base: u64,
    /// log2 of the number of StreamIDs.
    pub(super) log2: u32,
    /// log2 of the STEs of one second-level table.
    pub(super) split: Option<u32>,
}

/// Why there is no entry to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// `C_BAD_STREAMID`.
    BadStream,
    /// The fetch from this address aborted.
    Abort(PhysAddr),
}

impl StreamTable {
    /// Index of the level-1 descriptor of a stream.
    pub(super) fn l1_index(&self, stream: StreamId) -> Option<u32> {
        let split = self.split?;
        self.covers(stream).then(|| stream.0.checked_shr(split).unwrap_or(0))
    }

    fn covers(&self, stream: StreamId) -> bool {
        u64::from(stream.0) >> self.log2 == 0
    }

    /// Bytes of the first level, a power of two.
    pub(super) fn bytes(&self) -> u64 {
        match self.split {
            None => 64 << self.log2,
            Some(split) => (8 << self.log2.saturating_sub(split)).max(64),
        }
    }

    pub(super) fn l1_address(&self, index: u32) -> PhysAddr {
        PhysAddr(self.base + u64::from(index) * 8)
    }

    /// The address of a stream's STE; `l1` reads a level-1 descriptor.
    pub(super) fn locate(
        &self,
        stream: StreamId,
        l1: impl FnOnce(u32, PhysAddr) -> Option<u64>,
    ) -> Result<PhysAddr, Absent> {
        if !self.covers(stream) {
            return Err(Absent::BadStream);
        }
        let Some(split) = self.split else {
            return Ok(PhysAddr(self.base + u64::from(stream.0) * Ste::BYTES as u64));
        };
        let index = stream.0.checked_shr(split).unwrap_or(0);
        let address = self.l1_address(index);
        let descriptor = l1(index, address).ok_or(Absent::Abort(address))?;
        let within = u64::from(stream.0) & ((1 << split) - 1);
        match descriptor & 0x1f {
            // Zero, reserved, or more than the split leaves room for.
            span if span == 0 || span > 11 || span > u64::from(split) + 1 => Err(Absent::BadStream),
            span if within >> (span - 1) != 0 => Err(Absent::BadStream),
            span => {
                let table = descriptor & 0x00ff_ffff_ffff_ffc0 & !((64 << (span - 1)) - 1);
                Ok(PhysAddr(table + within * Ste::BYTES as u64))
            }
        }
    }
}

/// Structures as they were fetched. Invalid and illegal ones are kept like any other: only an
/// aborted fetch leaves nothing behind (IHI 0070, 3.21.3).
#[derive(Debug, Default)]
pub(super) struct ConfigCache {
    /// Level-1 descriptors, by index.
    pub(super) l1: BTreeMap<u32, u64>,
    pub(super) stes: BTreeMap<u32, Ste>,
    pub(super) cds: BTreeMap<u32, Cd>,
}

/// Which level-1 descriptors go with the entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct L1Range {
    pub(super) first: u32,
    pub(super) last: u32,
}

impl ConfigCache {
    /// Drop the STEs and CDs of a range of streams; returns the streams that had an STE here.
    pub(super) fn drop_streams(&mut self, first: u32, last: u32, l1: Option<L1Range>) -> Vec<u32> {
        let inside = |stream: &u32| (first..=last).contains(stream);
        let gone = self.stes.keys().copied().filter(inside).collect();
        self.stes.retain(|stream, _| !inside(stream));
        self.cds.retain(|stream, _| !inside(stream));
        if let Some(range) = l1 {
            self.l1.retain(|index, _| !(range.first..=range.last).contains(index));
        }
        gone
    }

    /// Fetch through the cache.
    pub(super) fn ste(
        &mut self,
        ram: &Ram,
        table: &StreamTable,
        stream: StreamId,
    ) -> Result<Ste, Absent> {
        if let Some(ste) = self.stes.get(&stream.0) {
            return Ok(*ste);
        }
        let l1 = &mut self.l1;
        let address = table.locate(stream, |index, address| {
            if let Some(descriptor) = l1.get(&index) {
                return Some(*descriptor);
            }
            let descriptor = ram.read64(address)?;
            l1.insert(index, descriptor);
            Some(descriptor)
        })?;
        let ste = Ste(ram.read_words(address).ok_or(Absent::Abort(address))?);
        self.stes.insert(stream.0, ste);
        Ok(ste)
    }

    /// Fetch through the cache.
    pub(super) fn cd(&mut self, ram: &Ram, stream: StreamId, at: PhysAddr) -> Result<Cd, Absent> {
        if let Some(cd) = self.cds.get(&stream.0) {
            return Ok(*cd);
        }
        let cd = Cd(ram.read_words(at).ok_or(Absent::Abort(at))?);
        self.cds.insert(stream.0, cd);
        Ok(cd)
    }
}

/// What an STE asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    Abort,
    Bypass,
    Stage1 { cd: PhysAddr, vmid: Vmid, regime: Regime, tagged: Tagged },
    Stage2(Translation),
}

/// Whether stage-1 entries carry an ASID. The EL2 regime without E2H has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tagged {
    Asid,
    No,
}

/// Why an entry cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// The architecture calls it illegal.
    Illegal,
    /// It is legal, but the model does not have this.
    Unsupported(&'static str),
}

fn field(word: u64, hi: u32, lo: u32) -> u64 {
    word << (63 - hi) >> (63 - hi + lo)
}

fn bit(word: u64, n: u32) -> bool {
    word >> n & 1 != 0
}

/// The meaning of an STE.
///
/// Illegal, and so `C_BAD_STE`: `V` = 0; a stage that is not there; `S1ContextPtr` beyond OAS; `S1STALLD`, as
/// there are no stalls; a reserved `STRW` where EL2 exists; a VMID wider than
/// supported; and for stage 2 AArch32 or big-endian tables, hardware updates (`S2HA`, `S2HD`),
/// stalls (`S2S`), a granule other than 4 KiB, `S2T0SZ` outside 64 - OAS to 39, `S2SL0` that does
/// not fit to it, `S2TTB` beyond `S2PS`.
pub(super) fn decode_ste(ste: &Ste, profile: &Profile, e2h: bool) -> Result<Stream, Bad> {
    let [w0, w1, w2, w3, ..] = ste.0;
    let config = field(w0, 3, 1);
    if !bit(w0, 0) {
        return Err(Bad::Illegal);
    }
    if config & 4 == 0 {
        return Ok(Stream::Abort);
    }
    if config == 4 {
        return Ok(Stream::Bypass);
    }
    let (s1, s2) = (config & 1 != 0, config & 2 != 0);
    if s1 && !profile.stage1 || s2 && !profile.stage2 {
        return Err(Bad::Illegal);
    }
    let (regime, tagged) = match field(w1, 31, 30) {
        _ if s2 || !profile.hyp => (Regime::El1, Tagged::Asid),
        w if w == StreamWorld::El1 as u64 => (Regime::El1, Tagged::Asid),
        w if w == StreamWorld::El2 as u64 && e2h => (Regime::El2, Tagged::Asid),
        w if w == StreamWorld::El2 as u64 => (Regime::El2, Tagged::No),
        _ => return Err(Bad::Illegal),
    };
    let vmid = match regime {
        Regime::El1 if profile.stage2 => Vmid(field(w2, 15, 0) as u16),
        _ => Vmid(0),
    };
    if profile.vmid_bits == 8 && vmid.0 > 0xff {
        return Err(Bad::Illegal);
    }
    if s1 && bit(w1, 27) {
        return Err(Bad::Illegal);
    }
    if s1 && s2 {
        return Err(Bad::Unsupported("nested translation (STE.Config = 7)"));
    }
    if s1 {
        let cd = PhysAddr(w0 & 0x00ff_ffff_ffff_ffc0);
        if cd.0 >> profile.output_bits() != 0 {
            return Err(Bad::Illegal);
        }
        return Ok(Stream::Stage1 { cd, vmid, regime, tagged });
    }
    // Endianness, HD, HA, S.
    let illegal = bit(w2, 52) || bit(w2, 55) || bit(w2, 56) || bit(w2, 57);
    let SteConfig::Stage2(config) = with_known_size(ste, 2, 50, 48).decode() else {
        return Err(Bad::Illegal);
    };
    if illegal || config.granule != Granule::K4 {
        return Err(Bad::Illegal);
    }
    decode_stage2(&config, profile, !bit(w2, 53), w3).ok_or(Bad::Illegal).map(Stream::Stage2)
}

/// A reserved output size counts as the largest.
fn with_known_size(ste: &Ste, word: usize, hi: u32, lo: u32) -> Ste {
    let mut ste = *ste;
    if field(ste.0[word], hi, lo) == 7 {
        ste.0[word] &= !(1 << lo);
    }
    ste
}

fn decode_stage2(
    config: &Stage2Config,
    profile: &Profile,
    access_flag: bool,
    w3: u64,
) -> Option<Translation> {
    let input_bits = 64 - u32::from(config.t0sz);
    let start_level = match config.start_level {
        0 => 2,
        1 => 1,
        2 => 0,
        _ => return None,
    };
    // Sixteen tables side by side are the most that a walk may start from.
    let index_bits = input_bits.checked_sub(level_shift(start_level))?;
    if config.t0sz > 39 || input_bits > profile.output_bits() || !(1..=13).contains(&index_bits) {
        return None;
    }
    if start_level == 0 && profile.output_bits() < 44 {
        return None;
    }
    let output_bits = config.output_size.bits().min(profile.output_bits());
    let mut t = Translation {
        space: Space::Stage2 { vmid: config.vmid },
        stage: Stage::Two,
        root: PhysAddr(w3 & 0x000f_ffff_ffff_fff0),
        input_bits,
        start_level,
        output_bits,
        access_flag,
        walks: true,
        records: config.record,
    };
    align_root(&mut t)
}

/// The meaning of a CD.
///
/// Illegal, and so `C_BAD_CD`: `V` = 0; AArch32 or big-endian tables; an ASID wider than
/// supported; hardware updates (`HA`, `HD`); `S`, as there are no stalls; `A` = 0, as faults always
/// abort here; and while `EPD0` = 0, `T0SZ` outside 16 to 39, a granule other than 4 KiB, `TTB0` beyond
/// `IPS`. Reserved bits are not looked at.
pub(super) fn decode_cd(
    cd: &Cd,
    profile: &Profile,
    vmid: Vmid,
    regime: Regime,
    tagged: Tagged,
) -> Result<Translation, Bad> {
    let [w0, w1, ..] = cd.0;
    let el2_without_e2h = tagged == Tagged::No;
    let walks = !bit(w0, 14) || el2_without_e2h;
    let upper = !bit(w0, 30) && !el2_without_e2h;
    let wide_asid = profile.asid_bits == 8 && cd.asid().0 > 0xff && !el2_without_e2h;
    let endian = bit(w0, 15) && (walks || upper);
    // HD, HA, S.
    let refused = bit(w0, 42) || bit(w0, 43) || bit(w0, 44) || !cd.aborts();
    if !cd.is_valid() || !bit(w0, 41) || wide_asid || endian || refused {
        return Err(Bad::Illegal);
    }
    if upper {
        return Err(Bad::Unsupported("the upper table TTB1 (CD.EPD1 = 0)"));
    }
    let asid = match tagged {
        Tagged::Asid => Some(cd.asid()),
        Tagged::No => None::<Asid>,
    };
    let size = OutputSize::from_encoding(field(w0, 34, 32) as u8).unwrap_or(OutputSize::Bits52);
    let t0sz = field(w0, 5, 0) as u32;
    if walks && (!(16..=39).contains(&t0sz) || field(w0, 7, 6) != 0) {
        return Err(Bad::Illegal);
    }
    let input_bits = 64 - t0sz.clamp(16, 39);
    let mut t = Translation {
        space: Space::Stage1 { regime, vmid, asid },
        stage: Stage::One,
        root: PhysAddr(w1 & 0x000f_ffff_ffff_fff0),
        input_bits,
        start_level: (4 - (input_bits - 12).div_ceil(9)) as u8,
        output_bits: size.bits().min(profile.output_bits()),
        access_flag: !bit(w0, 35),
        walks,
        records: cd.records(),
    };
    if !walks {
        t.root = PhysAddr(0);
        return Ok(t);
    }
    align_root(&mut t).ok_or(Bad::Illegal)
}

/// The low bits of a base that its size implies are taken as zero.
fn align_root(t: &mut Translation) -> Option<Translation> {
    if t.root.0 >> t.output_bits != 0 {
        return None;
    }
    t.root.0 &= !((1 << t.root_shift()) - 1);
    Some(*t)
}

/// The event that tells of an entry that cannot be found.
pub(super) fn absent_kind(absent: Absent, abort: EventKind) -> EventKind {
    match absent {
        Absent::BadStream => EventKind::C_BAD_STREAMID,
        Absent::Abort(_) => abort,
    }
}
