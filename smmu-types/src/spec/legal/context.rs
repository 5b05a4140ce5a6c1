//! A CD, reached through an STE.

use super::smmu::{TableFormat, World};
use super::{Check, Rule, RuleStage, SmmuView, stage2, walk};
use crate::fields::{cd::*, ste};
use crate::layout::Key;
use crate::{Cd, Ste};

const STAGE: RuleStage = RuleStage::One;

/// What the rules for a CD need besides the CD.
#[derive(Clone, Copy)]
struct Context<'a> {
    ste: &'a Ste,
    smmu: &'a SmmuView,
    world: World,
    format: TableFormat,
}

/// The fields of one of the two tables.
struct Side {
    size: &'static Key<Cd>,
    granule: &'static Key<Cd>,
    shift: fn(u64) -> Option<u8>,
    caches: [&'static Key<Cd>; 2],
    shareability: &'static Key<Cd>,
    table: &'static Key<Cd>,
    skip: [&'static Key<Cd>; 2],
}

const LOWER: Side = Side {
    size: &T0SZ,
    granule: &TG0,
    shift: walk::granule0,
    caches: [&IR0, &OR0],
    shareability: &SH0,
    table: &TTB0,
    skip: [&HWU061, &HWU062],
};

const UPPER: Side = Side {
    size: &T1SZ,
    granule: &TG1,
    shift: walk::granule1,
    caches: [&IR1, &OR1],
    shareability: &SH1,
    table: &TTB1,
    skip: [&HWU161, &HWU162],
};

pub(super) fn judge<const ALL: bool>(ste: &Ste, smmu: &SmmuView, check: &mut Check<'_, Cd, ALL>) {
    if ste.get(ste::V) == 0 || ste.get(ste::CONFIG) & 5 != 5 {
        return;
    }
    if !check.is_set(&V) {
        return check.find(&V, Rule::Invalid { stage: STAGE });
    }
    let (world, format) = (smmu.world(ste), smmu.format(check.get(&AA64)));
    let context = Context { ste, smmu, world, format };
    faults(context, check);
    formats(context, check);
    updates(context, check);

    let lower = world == World::El2 || !check.is_set(&EPD0);
    let upper = world != World::El2 && !check.is_set(&EPD1);
    if lower || upper {
        match (smmu.ttendian(), check.get(&ENDI)) {
            (2, 1) | (3, 0) => check.find(&ENDI, Rule::EndiannessAbsent { stage: STAGE }),
            _ => {}
        }
    } else {
        check.find(&EPD0, Rule::WalksOff);
    }
    if format == TableFormat::Short {
        check.ignored(&IPS, "with VMSAv8-32 LPAE tables: the output has 40 bits");
    } else if check.get(&IPS) as u8 > smmu.oas_encoding() {
        check.find(&IPS, Rule::OutputSizeCapped { bits: output_bits(context, check) });
    }
    if lower {
        side(&LOWER, context, check);
    }
    if upper {
        side(&UPPER, context, check);
    }
    if world == World::El2 {
        check.ignored(&EPD0, "in EL2: TTB0 is always walked");
        check.ignored(&EPD1, "in EL2: there is no TTB1");
        check.ignored(&ASID, "in EL2: translations have no ASID");
        for key in [&T1SZ, &TG1, &IR1, &OR1, &SH1, &TBI1, &TTB1] {
            check.res0(key, "in EL2: there is no TTB1");
        }
    } else if smmu.asid16() == 0 && check.get(&ASID) > 0xff {
        check.find(&ASID, Rule::AsidTooLarge);
    }
    attributes(context, check);
    permissions(context, check);
    partitions(context, check);
}

fn faults<const ALL: bool>(context: Context<'_>, check: &mut Check<'_, Cd, ALL>) {
    match (context.smmu.stall_model(), check.get(&S)) {
        (1, 1) => check.find(&S, Rule::StallAbsent { stage: STAGE }),
        (2, 0) => check.find(&S, Rule::StallForced { stage: STAGE }),
        _ => {}
    }
    if check.is_set(&S) && context.ste.get(ste::S1STALLD) != 0 {
        check.find(&S, Rule::StallDisabled);
    }
    if !check.is_set(&A) && context.smmu.term_model() != 0 {
        check.find(&A, Rule::AbortForced);
    }
}

fn formats<const ALL: bool>(context: Context<'_>, check: &mut Check<'_, Cd, ALL>) {
    let Context { ste, smmu, world, format } = context;
    match format {
        TableFormat::Short => {
            if smmu.ttf() & 1 == 0 {
                check.find(&AA64, Rule::FormatAbsent { stage: STAGE, format: "VMSAv8-32 LPAE" });
            }
            if world == World::El2E2h {
                check.find(&AA64, Rule::ShortFormatInE2h);
            }
        }
        TableFormat::Long => {
            if smmu.ttf() & 2 == 0 {
                check.find(&AA64, Rule::FormatAbsent { stage: STAGE, format: "VMSAv8-64" });
            }
            let nested = ste.get(ste::CONFIG) == 7;
            if nested && smmu.format(ste.get(ste::S2AA64)) == TableFormat::Short {
                check.find(&AA64, Rule::LongOverShort);
            }
        }
        TableFormat::Wide => {
            if ste.get(ste::S1PIE) == 0 {
                check.find(&AA64, Rule::WideFormatDirect);
            }
            if world == World::El2 {
                check.find(&AA64, Rule::WideFormatInEl2);
            }
        }
    }
}

fn updates<const ALL: bool>(context: Context<'_>, check: &mut Check<'_, Cd, ALL>) {
    let smmu = context.smmu;
    if context.format == TableFormat::Short {
        check.ignored(&HA, "with VMSAv8-32 LPAE tables");
        return check.ignored(&HD, "with VMSAv8-32 LPAE tables");
    }
    if smmu.httu() != 3 {
        check.res0(&HAFT, "without IDR0.HTTU = 3");
    } else if check.is_set(&HAFT) && !check.is_set(&HA) {
        check.find(&HAFT, Rule::TableAccessWithoutAccess { stage: STAGE });
    }
    for key in [&HA, &HD] {
        if check.is_set(key) && smmu.httu() == 0 {
            check.find(key, Rule::UpdateAbsent { stage: STAGE });
        }
    }
    if smmu.httu() == 0 {
        return;
    }
    if check.is_set(&HD) && smmu.httu() == 1 {
        check.find(&HD, Rule::DirtyUpdateAbsent { stage: STAGE });
    } else if check.is_set(&HD) && !check.is_set(&HA) {
        check.find(&HD, Rule::DirtyWithoutAccess);
    }
    if check.is_set(&HA) {
        check.ignored(&AFFD, "while HA is 1");
    }
}

/// Bits of an output address of stage 1.
fn output_bits<const ALL: bool>(context: Context<'_>, check: &Check<'_, Cd, ALL>) -> u8 {
    match context.format {
        TableFormat::Short => 40,
        _ => context.smmu.size_bits(check.get(&IPS) as u8).min(context.smmu.output_bits()),
    }
}

fn size_range(shift: Option<u8>, ds: bool, context: Context<'_>) -> (u8, u8) {
    let smmu = context.smmu;
    let max = match (smmu.stt(), shift) {
        (0, _) => 39,
        (_, Some(12 | 14)) => 48,
        _ => 47,
    };
    let wide = context.format == TableFormat::Wide;
    let min = match smmu.vax() {
        2 if wide => 9,
        1 | 2 if wide || ds || shift == Some(16) => 12,
        _ => 16,
    };
    (min, max)
}

fn side<const ALL: bool>(side: &Side, context: Context<'_>, check: &mut Check<'_, Cd, ALL>) {
    let Context { ste, smmu, format, .. } = context;
    check.shareability(side.shareability);
    if format != TableFormat::Short && check.is_set(&HA) && smmu.httu() != 0 {
        side.caches.into_iter().for_each(|key| check.write_back(key));
    }
    let output = output_bits(context, check);
    let encoded = (side.shift)(check.get(side.granule));
    let shift = encoded.filter(|&shift| smmu.has_granule(shift));
    let ds = smmu.ds() != 0 && check.is_set(&DS);
    if format != TableFormat::Short && shift.is_none() {
        check.find(side.granule, Rule::GranuleAbsent { stage: STAGE });
    }
    let reach = match (format, encoded) {
        (TableFormat::Long, Some(12 | 14)) if !ds => output.min(48),
        _ => output,
    };
    let table = check.table(side.table, smmu.table_address_bits(format));
    if table >> reach != 0 {
        check.find(side.table, Rule::TableBeyondOutput { stage: STAGE, bits: reach });
    } else if ste.get(ste::CONFIG) == 7
        && let Some(bits) = stage2::input_bits(ste, smmu)
        && table >> bits != 0
    {
        check.find(side.table, Rule::BeyondStage2Input { bits });
    }
    if format == TableFormat::Short {
        return check.ignored(side.granule, "with VMSAv8-32 LPAE tables: the granule is 4 KiB");
    }

    let size = check.get(side.size) as u8;
    let (min, max) = size_range(encoded, ds, context);
    if size < min || size > max {
        let minor = smmu.minor();
        return check.find(side.size, Rule::InputSize { stage: STAGE, min, max, minor });
    }
    let (Some(shift), input) = (shift, 64 - size) else {
        return;
    };
    if format == TableFormat::Wide {
        let [low, high] = side.skip.map(|key| check.get(key) as i8);
        if walk::wide_start_level(input, shift) + 2 * high + low > 3 {
            check.find(side.skip[0], Rule::SkipLevel { stage: STAGE });
        }
        return;
    }
    let least = if output >= 52 { 6 } else { 4 };
    let align = walk::first_table(input, shift, walk::start_level(input, shift)).max(least);
    if table >> reach == 0 && table & ((1 << align) - 1) != 0 {
        check.find(side.table, Rule::TableRounded { align });
    }
}

fn attributes<const ALL: bool>(context: Context<'_>, check: &mut Check<'_, Cd, ALL>) {
    let Context { smmu, world, format, .. } = context;
    check.ignored(&NSCFG0, "in a Non-secure stream");
    if world == World::El2 {
        check.res0(&NSCFG1, "in EL2: there is no TTB1");
    } else {
        check.ignored(&NSCFG1, "in a Non-secure stream");
    }
    if smmu.aie() == 0 {
        check.res0(&AIE, "without IDR3.AIE");
    }
    if smmu.ds() == 0 {
        check.res0(&DS, "without IDR5.DS");
    } else if format != TableFormat::Long {
        check.res0(&DS, "without VMSAv8-64 tables");
    } else if check.get(&TG0) == 1 && (world == World::El2 || check.get(&TG1) == 3) {
        check.res0(&DS, "with granules of 64 KiB");
    }
    for key in [&MAIR0, &MAIR1] {
        let attributes = check.get(key) as u32;
        if let Some(behaves) = attributes.to_le_bytes().into_iter().find_map(reserved_attribute) {
            check.find(key, Rule::ReservedValue { behaves });
        }
    }
    // With IDR5.D128, HAD* and half of HWU* are DisCH* and SKL*, which count in VMSAv9-128 tables
    // only.
    let renamed = smmu.d128() != 0;
    for (had, bits) in [
        (&HAD0, [&HWU059, &HWU060, &HWU061, &HWU062]),
        (&HAD1, [&HWU159, &HWU160, &HWU161, &HWU162]),
    ] {
        if smmu.had() == 0 && !renamed {
            check.ignored(had, "without IDR3.HAD");
        }
        for key in bits.into_iter().take(if renamed { 2 } else { 4 }) {
            if smmu.minor() == 0 {
                check.res0(key, "in SMMUv3.0");
            } else if format == TableFormat::Wide && matches!(key.lo(), 124 | 125) {
                // 5.4 says this of TTB0's bits, and says nothing of TTB1's.
                check.res0(key, "with VMSAv9-128 tables");
            } else if smmu.pbha() == 0 {
                check.ignored(key, "without IDR3.PBHA");
            } else if !check.is_set(had) {
                check.ignored(key, "while hierarchical attributes count (HAD0, HAD1)");
            }
        }
    }
    if world == World::El2 && (smmu.had() != 0 || renamed) {
        check.res0(&HAD1, "in EL2: there is no TTB1");
    }
}

/// What a reserved memory attribute behaves as.
const fn reserved_attribute(attribute: u8) -> Option<&'static str> {
    match (attribute >> 4, attribute & 15) {
        (0, low) if low & 3 != 0 => Some("the Device type whose low two bits are 0"),
        (1.., 0) => Some("inner write-through transient"),
        _ => None,
    }
}

fn permissions<const ALL: bool>(context: Context<'_>, check: &mut Check<'_, Cd, ALL>) {
    let Context { ste, smmu, world, format } = context;
    let el2 = world == World::El2;
    match format {
        TableFormat::Long => check.ignored(&UWXN, "with VMSAv8-64 tables"),
        TableFormat::Wide => check.res0(&UWXN, "with VMSAv9-128 tables"),
        TableFormat::Short if el2 => check.ignored(&UWXN, "in EL2: every access is privileged"),
        TableFormat::Short => {}
    }
    if el2 {
        check.ignored(&PAN, "in EL2: every access is privileged");
    }
    for key in [&E0PD0, &E0PD1] {
        if smmu.e0pd() == 0 {
            check.res0(key, "without IDR3.E0PD");
        } else if el2 || format == TableFormat::Short {
            check.res0(key, "in EL2, and with VMSAv8-32 LPAE tables");
        }
    }
    if smmu.the() == 0 {
        check.res0(&PNCH, "without IDR3.THE");
    } else if format != TableFormat::Long {
        check.res0(&PNCH, "without VMSAv8-64 tables");
    }
    if smmu.s1pi() == 0 || ste.get(ste::S1PIE) == 0 {
        check.res0(&PIE, "without IDR3.S1PI and STE.S1PIE");
    } else if format != TableFormat::Long {
        check.res0(&PIE, "without VMSAv8-64 tables");
    }
    let allowed = smmu.s1pi() != 0 && ste.get(ste::S1PIE) != 0;
    let indirect =
        format == TableFormat::Wide || format == TableFormat::Long && allowed && check.is_set(&PIE);
    if smmu.epan() == 0 {
        check.res0(&EPAN, "without IDR3.EPAN");
    } else if el2 || format == TableFormat::Short || indirect {
        check.res0(&EPAN, "in EL2, with VMSAv8-32 LPAE tables and with indirect permissions");
    }
    if !indirect {
        check.res0(&PIIU, "without permission indirection");
        return check.res0(&PIIP, "without permission indirection");
    }
    if el2 {
        check.res0(&PIIU, "in EL2: every access is privileged");
    }
    let (user, privileged) = (check.get(&PIIU), check.get(&PIIP));
    for index in 0..16u8 {
        let of = |set: u64| set >> (3 * index) & 7;
        if matches!(of(privileged), 4 | 6) {
            check.find(&PIIP, Rule::PermissionReserved { index });
        }
        if el2 {
            continue;
        }
        if matches!(of(user), 4 | 6) {
            check.find(&PIIU, Rule::PermissionReserved { index });
        }
        if of(privileged) & 2 != 0 && of(user) & 4 != 0 {
            check.find(&PIIP, Rule::PermissionConflict { index });
        }
    }
}

fn partitions<const ALL: bool>(context: Context<'_>, check: &mut Check<'_, Cd, ALL>) {
    let Context { ste, smmu, .. } = context;
    if smmu.mpam() == 0 || ste.get(ste::S1MPAM) == 0 {
        check.res0(&PARTID, "without IDR3.MPAM and STE.S1MPAM");
        return check.res0(&PMG, "without IDR3.MPAM and STE.S1MPAM");
    }
    let partid = check.get(&PARTID);
    if ste.get(ste::CONFIG) == 7 && partid > 31 {
        check.res0(&PARTID, "above bit 4 while both stages translate");
    }
    let Some(max) = smmu.partitions else { return };
    if ste.get(ste::CONFIG) != 7 && partid > max.partid.into() {
        check.find(&PARTID, Rule::PartitionTooLarge { max: max.partid });
    }
    if check.get(&PMG) > max.pmg.into() {
        check.find(&PMG, Rule::MonitorTooLarge { max: max.pmg });
    }
}
