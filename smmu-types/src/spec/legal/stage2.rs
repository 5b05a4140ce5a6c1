//! The stage 2 of an STE.

use super::smmu::TableFormat;
use super::{Check, Rule, RuleStage, SmmuView, walk};
use crate::Ste;
use crate::fields::ste::*;

const STAGE: RuleStage = RuleStage::Two;

/// Bits of an input address of stage 2; `None` if `S2T0SZ` is out of range.
pub(super) fn input_bits(ste: &Ste, smmu: &SmmuView) -> Option<u8> {
    let t0sz = ste.get(S2T0SZ) as u8;
    if smmu.format(ste.get(S2AA64)) == TableFormat::Short {
        return Some(short_input_bits(t0sz));
    }
    let (min, max) = t0sz_range(ste.get(S2TG), ste.get(S2DS), ste.get(S2AA64), smmu);
    (min <= t0sz && t0sz <= max).then(|| (64 - t0sz).min(smmu.intermediate_bits()))
}

/// VMSAv8-32 LPAE: 32 minus a signed value of four bits.
const fn short_input_bits(t0sz: u8) -> u8 {
    match t0sz & 15 {
        positive @ 0..=7 => 32 - positive,
        negative => 48 - negative,
    }
}

fn t0sz_range(granule: u64, ds: u64, aa64: u64, smmu: &SmmuView) -> (u8, u8) {
    let (shift, format) = (walk::granule0(granule), smmu.format(aa64));
    let max = match (smmu.stt(), shift) {
        (0, _) => 39,
        (_, Some(12 | 14)) => 48,
        _ => 47,
    };
    let from_output = 64 - smmu.intermediate_bits();
    let min = match format {
        _ if smmu.minor() == 0 => return (from_output, max),
        TableFormat::Wide => 8,
        _ if shift == Some(16) || smmu.ds() != 0 && ds != 0 => 12,
        _ => 16,
    };
    (from_output.max(min), max)
}

pub(super) fn judge<const ALL: bool>(smmu: &SmmuView, check: &mut Check<'_, Ste, ALL>) {
    let format = smmu.format(check.get(&S2AA64));
    if format == TableFormat::Short && smmu.ttf() & 1 == 0 {
        check.find(&S2AA64, Rule::FormatAbsent { stage: STAGE, format: "VMSAv8-32 LPAE" });
    }
    if format == TableFormat::Long && smmu.ttf() & 2 == 0 {
        check.find(&S2AA64, Rule::FormatAbsent { stage: STAGE, format: "VMSAv8-64" });
    }
    match (smmu.stall_model(), check.get(&S2S)) {
        (1, 1) => check.find(&S2S, Rule::StallAbsent { stage: STAGE }),
        (2, 0) => check.find(&S2S, Rule::StallForced { stage: STAGE }),
        _ => {}
    }
    match (smmu.ttendian(), check.get(&S2ENDI)) {
        (2, 1) | (3, 0) => check.find(&S2ENDI, Rule::EndiannessAbsent { stage: STAGE }),
        _ => {}
    }
    tables(format, smmu, check);
    if check.get(&CONFIG) == 6 {
        check.ignored(&S2PTW, "unless both stages translate");
    }
    if smmu.the() != 0 && format == TableFormat::Wide {
        check.res0(&ASSUREDONLY, "with VMSAv9-128 tables: the checks are on");
    }
    check.shareability(&S2SH0);
    updates(format, smmu, check);
    permissions(format, smmu, check);
}

fn tables<const ALL: bool>(format: TableFormat, smmu: &SmmuView, check: &mut Check<'_, Ste, ALL>) {
    if smmu.ds() == 0 {
        check.res0(&S2DS, "without IDR5.DS");
        check.res0(&S2SL0_2, "without IDR5.DS");
    } else if format != TableFormat::Long {
        check.res0(&S2DS, "without VMSAv8-64 tables");
        check.res0(&S2SL0_2, "without VMSAv8-64 tables");
    } else if check.get(&S2TG) == 1 {
        check.res0(&S2DS, "with a granule of 64 KiB");
        check.res0(&S2SL0_2, "without S2DS and a granule of 4 KiB");
    } else if !check.is_set(&S2DS) || check.get(&S2TG) != 0 {
        check.res0(&S2SL0_2, "without S2DS and a granule of 4 KiB");
    }
    if format == TableFormat::Wide {
        check.res0(&S2SL0, "with VMSAv9-128 tables");
    } else {
        check.res0(&S2SKL, "without VMSAv9-128 tables");
    }
    if format == TableFormat::Short {
        check.res0(&S2TG, "with VMSAv8-32 LPAE tables: the granule is 4 KiB");
        check.ignored(&S2PS, "with VMSAv8-32 LPAE tables: the output has 40 bits");
        return short_tables(smmu, check);
    }
    let encoding = check.get(&S2PS) as u8;
    let output = smmu.size_bits(encoding).min(smmu.output_bits());
    if encoding > smmu.oas_encoding() {
        check.find(&S2PS, Rule::OutputSizeCapped { bits: output });
    }
    let encoded = walk::granule0(check.get(&S2TG));
    let shift = encoded.filter(|&shift| smmu.has_granule(shift));
    if shift.is_none() {
        check.find(&S2TG, Rule::GranuleAbsent { stage: STAGE });
    }
    let ds = u64::from(smmu.ds()) & check.get(&S2DS);
    let reach = match (format, encoded) {
        (TableFormat::Wide, _) => output,
        (_, Some(12 | 14)) if ds == 0 => output.min(48),
        _ => output,
    };
    let table = check.table(&S2TTB, smmu.table_address_bits(format));
    let reachable = table >> reach == 0;
    if !reachable {
        check.find(&S2TTB, Rule::TableBeyondOutput { stage: STAGE, bits: reach });
    }

    // The start level of the other fields, unless they are reserved.
    let level =
        |shift| walk::start_level2(shift, check.get(&S2SL0), check.get(&S2SL0_2), smmu.stt(), ds);
    let level = shift.filter(|_| format != TableFormat::Wide).map(level);
    if level == Some(None) {
        check.find(&S2SL0, Rule::StartLevelReserved);
    }
    let t0sz = check.get(&S2T0SZ) as u8;
    let (min, max) = t0sz_range(check.get(&S2TG), check.get(&S2DS), check.get(&S2AA64), smmu);
    if t0sz < min || t0sz > max {
        let minor = smmu.minor();
        return check.find(&S2T0SZ, Rule::InputSize { stage: STAGE, min, max, minor });
    }
    let (Some(shift), input) = (shift, 64 - t0sz) else {
        return;
    };
    if format == TableFormat::Wide {
        let level = walk::wide_start_level(input, shift);
        if level + check.get(&S2SKL) as i8 > 3 {
            check.find(&S2SKL, Rule::SkipLevel { stage: STAGE });
        }
        return;
    }
    let Some(Some(level)) = level else {
        return;
    };
    let bits = walk::output_needed(shift, level);
    if smmu.output_bits() < bits {
        return check.find(&S2SL0, Rule::StartLevelOutput { bits });
    }
    let (min, max) = walk::input_range(shift, level);
    if input < min || input > max {
        return check.find(&S2SL0, Rule::StartLevel { min, max, bits: input });
    }
    let least = if output >= 52 { 6 } else { 4 };
    let align = walk::first_table(input, shift, level).max(least);
    if reachable && table & ((1 << align) - 1) != 0 {
        check.find(&S2TTB, Rule::TableRounded { align });
    }
}

/// VMSAv8-32 LPAE: 40 bits of output, 4 KiB pages, and a start level of 1 or 2.
fn short_tables<const ALL: bool>(smmu: &SmmuView, check: &mut Check<'_, Ste, ALL>) {
    if check.table(&S2TTB, smmu.table_address_bits(TableFormat::Short)) >> 40 != 0 {
        check.find(&S2TTB, Rule::TableBeyondOutput { stage: STAGE, bits: 40 });
    }
    let sl0 = check.get(&S2SL0);
    if sl0 > 1 {
        return check.find(&S2SL0, Rule::StartLevelReserved);
    }
    let bits = short_input_bits(check.get(&S2T0SZ) as u8);
    let (min, max) = walk::input_range(12, 2 - sl0 as i8);
    if bits < min || bits > max {
        check.find(&S2SL0, Rule::StartLevel { min, max, bits });
    }
}

fn updates<const ALL: bool>(format: TableFormat, smmu: &SmmuView, check: &mut Check<'_, Ste, ALL>) {
    for key in [&S2HA, &S2HD] {
        if check.is_set(key) && format == TableFormat::Short {
            check.find(key, Rule::UpdateInShortFormat);
        } else if check.is_set(key) && smmu.httu() == 0 {
            check.find(key, Rule::UpdateAbsent { stage: STAGE });
        }
    }
    if smmu.httu() != 3 {
        check.res0(&S2HAFT, "without IDR0.HTTU = 3");
    } else if check.is_set(&S2HAFT) && !check.is_set(&S2HA) {
        check.find(&S2HAFT, Rule::TableAccessWithoutAccess { stage: STAGE });
    }
    if format == TableFormat::Short || smmu.httu() == 0 {
        return;
    }
    if check.is_set(&S2HD) && smmu.httu() == 1 {
        check.find(&S2HD, Rule::DirtyUpdateAbsent { stage: STAGE });
    } else if check.is_set(&S2HD) && !check.is_set(&S2HA) {
        check.find(&S2HD, Rule::DirtyWithoutAccess);
    }
    if check.is_set(&S2HA) {
        check.ignored(&S2AFFD, "while S2HA is 1");
        check.write_back(&S2IR0);
        check.write_back(&S2OR0);
    }
}

fn permissions<const ALL: bool>(
    format: TableFormat,
    smmu: &SmmuView,
    check: &mut Check<'_, Ste, ALL>,
) {
    let hardware_bits = [&S2HWU59, &S2HWU60, &S2HWU61, &S2HWU62];
    for key in hardware_bits {
        if smmu.minor() == 0 {
            check.res0(key, "in SMMUv3.0");
        } else if format == TableFormat::Wide {
            check.res0(key, "with VMSAv9-128 tables");
        } else if smmu.pbha() == 0 {
            check.ignored(key, "without IDR3.PBHA");
        }
    }
    if smmu.fwb() == 0 {
        check.res0(&S2FWB, "without IDR3.FWB");
    } else if check.is_set(&S2FWB) && format == TableFormat::Short {
        check.find(&S2FWB, Rule::ForcedWriteBackInShortFormat);
    }
    if smmu.s2pi() == 0 {
        check.res0(&S2PIE, "without IDR3.S2PI");
    } else if format == TableFormat::Wide {
        check.res0(&S2PIE, "with VMSAv9-128 tables: permissions are indirect");
    } else if check.is_set(&S2PIE) && format == TableFormat::Short {
        check.find(&S2PIE, Rule::IndirectInShortFormat);
    }
    if smmu.s2po() == 0 {
        check.res0(&S2POE, "without IDR3.S2PO");
        return check.res0(&S2POI, "without IDR3.S2PO");
    }
    if !check.is_set(&S2POE) {
        return check.res0(&S2POI, "while S2POE is 0");
    }
    if !check.is_set(&S2PIE) && format != TableFormat::Wide {
        check.find(&S2POE, Rule::OverlayNotIndirect);
    }
    if smmu.pbha() != 0 && hardware_bits.iter().any(|&key| check.is_set(key)) {
        check.find(&S2POE, Rule::OverlayWithHardwareBits);
    }
    let overlays = check.get(&S2POI);
    if let Some(index) = (0..16).find(|index| matches!(overlays >> (4 * index) & 15, 1 | 5)) {
        check.find(&S2POI, Rule::OverlayReserved { index: index as u8 });
    }
}
