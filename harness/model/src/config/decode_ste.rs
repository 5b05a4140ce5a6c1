//! Decodes an STE as this SMMU does, and says which STEs it refuses.

use smmu_types::fields::ste as field_of;
use smmu_types::{
    AtsMode, Granule, PhysAddr, Regime, Stage2Config, StallModel, Ste, SteConfig, StreamWorld, Vmid,
};

use crate::config::cd_table::CdTable;
use crate::profile::Profile;
use crate::walk::space::Space;
use crate::walk::translation::{Level, Translation, WalkStage};
use crate::word::{bit, field};

/// The configuration that an STE selects.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Abort,
    Bypass,
    /// Stage 1, and stage 2 behind it if [`CdTable::second`] has one.
    Stage1 {
        cds: CdTable,
        vmid: Vmid,
        regime: Regime,
        tagged: Tagged,
        may_stall: bool,
    },
    /// Stage 2 alone.
    Stage2(Translation),
}

/// Whether stage-1 entries carry an ASID. They carry none in the EL2 regime without `E2H`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tagged {
    Asid,
    No,
}

/// Why the SMMU refuses an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// The architecture calls it illegal.
    Illegal,
    /// The entry is legal, but the model lacks this feature.
    Unsupported(&'static str),
}

/// Decode an STE.
///
/// The SMMU refuses an illegal STE with `C_BAD_STE`. Illegal are:
///
/// - `V` = 0; a stage that the profile lacks; a table of CDs that [`CdTable::of`] refuses;
/// - with ATS: `EATS` = 2 without nesting; `EATS` = 1 with stalls of stage 2;
/// - `S1STALLD`, where stalls are no choice;
/// - a reserved `STRW` if EL2 exists; a VMID wider than supported;
/// - for stage 2: AArch32 or big-endian tables, hardware updates (`S2HA`, `S2HD`), an `S2S`
///   that the SMMU does not have or does not leave out, a granule that the profile lacks, `S2T0SZ`
///   outside 64 - OAS to 39, an `S2SL0` that does not match `S2T0SZ`, `S2TTB` beyond `S2PS`.
///
/// With both stages the rules of both hold, and `S1ContextPtr` is an IPA.
pub(crate) fn decode_ste(ste: &Ste, profile: &Profile, e2h: bool) -> Result<Stream, Bad> {
    let [w0, w1, w2, ..] = ste.0;
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
    if s1 && bit(w1, 27) && profile.stall_model != StallModel::Both {
        return Err(Bad::Illegal);
    }
    if profile.ats && has_bad_ats(ste) {
        return Err(Bad::Illegal);
    }
    let second = if s2 { Some(stage2_of(ste, profile)?) } else { None };
    match second {
        Some(stage2) if !s1 => Ok(Stream::Stage2(stage2)),
        _ => {
            let cds = CdTable::of(ste, profile, second).ok_or(Bad::Illegal)?;
            Ok(Stream::Stage1 { cds, vmid, regime, tagged, may_stall: !bit(w1, 27) })
        }
    }
}

/// Stage 2 of an STE that has it.
fn stage2_of(ste: &Ste, profile: &Profile) -> Result<Translation, Bad> {
    let [_, _, w2, w3, ..] = ste.0;
    let stall_refused = match profile.stall_model {
        StallModel::Both => false,
        StallModel::Forced => !bit(w2, 57),
        StallModel::TerminateOnly | StallModel::Reserved => bit(w2, 57),
    };
    // S2ENDI, S2HD, S2HA.
    let illegal = bit(w2, 52) || bit(w2, 55) || bit(w2, 56) || stall_refused;
    let (SteConfig::Stage2(config) | SteConfig::Nested(_, config)) =
        with_known_size(ste, 2, 50, 48).decode()
    else {
        return Err(Bad::Illegal);
    };
    if illegal {
        return Err(Bad::Illegal);
    }
    if !has_granule(config.granule, profile) {
        return Err(Bad::Illegal);
    }
    decode_stage2(&config, profile, !bit(w2, 53), w3).ok_or(Bad::Illegal)
}

/// Whether `EATS` does not go with the rest of an STE that translates (5.2).
fn has_bad_ats(ste: &Ste) -> bool {
    let both = ste.get(field_of::CONFIG) & 3 == 3;
    let stage2_stalls = ste.get(field_of::CONFIG) & 2 != 0 && ste.is_set(field_of::S2S);
    match ste.ats() {
        // Without a device permission table, FullChecked is reserved and behaves as Off.
        AtsMode::Off | AtsMode::FullChecked => false,
        AtsMode::Full => stage2_stalls,
        AtsMode::Split => !both || stage2_stalls,
    }
}

/// The effective `EATS` of a stream that the SMMU does not refuse (5.2), while `CR0.ATSCHK` is 1.
/// The model has no device permission table, so [`AtsMode::FullChecked`] behaves as off.
pub(crate) fn effective_ats(ste: &Ste, profile: &Profile) -> AtsMode {
    let translates = ste.get(field_of::CONFIG) > 4;
    match ste.ats() {
        mode @ (AtsMode::Full | AtsMode::Split) if profile.ats && translates => mode,
        _ => AtsMode::Off,
    }
}

/// Whether the SMMU has the granule.
pub(crate) fn has_granule(granule: Granule, profile: &Profile) -> bool {
    match granule {
        Granule::K4 => profile.granule_4k,
        Granule::K16 => profile.granule_16k,
        Granule::K64 => profile.granule_64k,
    }
}

/// Replace a reserved output size (7) by the largest, as the SMMU treats it.
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
    let granule = config.granule;
    // The encoding of `VTCR_EL2.SL0`. The last start level needs addresses of so many bits.
    let (number, least) = match (granule, config.start_level) {
        (Granule::K4, 0) => (2, 0),
        (Granule::K4, 1) => (1, 0),
        (Granule::K4, 2) => (0, 44),
        (Granule::K16 | Granule::K64, 0) => (3, 0),
        (Granule::K16 | Granule::K64, 1) => (2, 0),
        (Granule::K16, 2) => (1, 42),
        (Granule::K64, 2) => (1, 44),
        _ => return None,
    };
    let start_level = Level { granule, number };
    // A walk starts from at most 16 concatenated tables: 4 bits more of index.
    let index_bits = input_bits.checked_sub(start_level.shift())?;
    let possible = 1..=start_level.index_bits() + 4;
    if config.t0sz > 39 || input_bits > profile.output_bits() || !possible.contains(&index_bits) {
        return None;
    }
    if profile.output_bits() < least {
        return None;
    }
    let output_bits = config.output_size.bits().min(profile.output_bits());
    let t = Translation {
        space: Space::Stage2 { vmid: config.vmid },
        stage: WalkStage::Two,
        root: PhysAddr(w3 & 0x000f_ffff_ffff_fff0),
        input_bits,
        start_level,
        output_bits,
        access_flag,
        walks: true,
        records: config.record,
        stalls: config.stall,
    };
    t.with_root_rounded_down()
}
