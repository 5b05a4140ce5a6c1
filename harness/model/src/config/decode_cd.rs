//! Decodes a CD as this SMMU does, and says which CDs it refuses.

use smmu_types::{Asid, Cd, Granule, OutputSize, PhysAddr, Regime, StallModel, Vmid};

use crate::config::decode_ste::{Bad, Tagged, has_granule};
use crate::profile::Profile;
use crate::walk::space::Space;
use crate::walk::translation::{Level, Translation, WalkStage};
use crate::word::{bit, field};

/// Decode a CD.
///
/// The SMMU refuses an illegal CD with `C_BAD_CD`. Illegal are:
///
/// - `V` = 0; AArch32 or big-endian tables; an ASID wider than supported;
/// - hardware updates (`HA`, `HD`);
/// - `S`, where the SMMU has no stalls or the STE disables them; `S` = 0, where it always stalls;
///   `A` = 0, because faults always abort here;
/// - while `EPD0` = 0: `T0SZ` outside 16 to 39, a granule that the profile lacks, `TTB0` beyond
///   `IPS`.
///
/// The model ignores reserved bits.
pub(crate) fn decode_cd(
    cd: &Cd,
    profile: &Profile,
    vmid: Vmid,
    regime: Regime,
    tagged: Tagged,
    may_stall: bool,
) -> Result<Translation, Bad> {
    let [w0, w1, ..] = cd.0;
    let el2_without_e2h = tagged == Tagged::No;
    let walks = !bit(w0, 14) || el2_without_e2h;
    let upper = !bit(w0, 30) && !el2_without_e2h;
    let wide_asid = profile.asid_bits == 8 && cd.asid().0 > 0xff && !el2_without_e2h;
    let endian = bit(w0, 15) && (walks || upper);
    let stalls = bit(w0, 44);
    let stall_refused = match profile.stall_model {
        StallModel::Both => stalls && !may_stall,
        StallModel::Forced => !stalls,
        StallModel::TerminateOnly | StallModel::Reserved => stalls,
    };
    // HD, HA.
    let refused = bit(w0, 42) || bit(w0, 43) || stall_refused || !cd.aborts();
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
    if walks && !(16..=39).contains(&t0sz) {
        return Err(Bad::Illegal);
    }
    let granule = match field(w0, 7, 6) {
        _ if !walks => Granule::K4,
        0 => Granule::K4,
        1 => Granule::K64,
        2 => Granule::K16,
        _ => return Err(Bad::Illegal),
    };
    if walks && !has_granule(granule, profile) {
        return Err(Bad::Illegal);
    }
    let input_bits = 64 - t0sz.clamp(16, 39);
    let t = Translation {
        space: Space::Stage1 { regime, vmid, asid },
        stage: WalkStage::One,
        root: PhysAddr(w1 & 0x000f_ffff_ffff_fff0),
        input_bits,
        start_level: Level::first(granule, input_bits),
        output_bits: size.bits().min(profile.output_bits()),
        access_flag: !bit(w0, 35),
        walks,
        records: cd.records(),
        stalls,
    };
    if !walks {
        return Ok(Translation { root: PhysAddr(0), ..t });
    }
    t.with_root_rounded_down().ok_or(Bad::Illegal)
}
