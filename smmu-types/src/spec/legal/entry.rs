//! An STE without its stage 2.

use super::smmu::TranslatedTraffic;
use super::{Check, Rule, RuleStage, SmmuView, stage2};
use crate::Ste;
use crate::fields::ste::*;

pub(super) fn judge<const ALL: bool>(ste: &Ste, smmu: &SmmuView, check: &mut Check<'_, Ste, ALL>) {
    if !check.is_set(&V) {
        return check.find(&V, Rule::Invalid { stage: RuleStage::Two });
    }
    match check.get(&CONFIG) {
        0 => return,
        1..=3 => return check.find(&CONFIG, Rule::ReservedConfig),
        _ => {}
    }
    let config = check.get(&CONFIG);
    ats(smmu, check);
    stream_world(smmu, check);
    match (config & 1, smmu.s1p()) {
        (0, _) => {}
        (_, 0) => check.find(&CONFIG, Rule::Stage1Absent),
        _ => stage1(ste, smmu, check),
    }
    match (config & 2, smmu.s2p()) {
        (0, _) => {}
        (_, 0) => check.find(&CONFIG, Rule::Stage2Absent),
        _ => stage2::judge(smmu, check),
    }
    tags(ste, smmu, check);
    attributes(smmu, check);
    extras(smmu, check);
}

fn ats<const ALL: bool>(smmu: &SmmuView, check: &mut Check<'_, Ste, ALL>) {
    let (eats, config, stalls) = (check.get(&EATS), check.get(&CONFIG), check.is_set(&S2S));
    if smmu.ats() == 0 {
        return check.ignored(&EATS, "without ATS (IDR0.ATS = 0)");
    }
    if config == 4 {
        return check.ignored(&EATS, "while both stages are bypassed: ATS is refused");
    }
    let mut refused = false;
    let mut refuse = |check: &mut Check<'_, Ste, ALL>, rule| {
        refused = true;
        check.find(&EATS, rule);
    };
    match eats {
        1 if stalls && config & 2 != 0 => refuse(check, Rule::AtsWithStall),
        1 if stalls && smmu.minor() == 0 => check.find(&EATS, Rule::AtsWithUnusedStall),
        2 => {
            if config != 7 {
                refuse(check, Rule::SplitAtsNotNested);
            }
            if stalls {
                refuse(check, Rule::AtsWithStall);
            }
            if smmu.ns1ats() != 0 {
                refuse(check, Rule::SplitAtsAbsent);
            }
        }
        3 if smmu.dpt() == 0 => return check.find(&EATS, Rule::DptAbsent),
        3 => {
            if uses_strw(smmu, check) && check.is_set(&STRW) {
                refuse(check, Rule::DptNotEl1);
            }
            if stalls && config & 2 != 0 {
                refuse(check, Rule::AtsWithStall);
            }
        }
        _ => {}
    }
    if eats >= 2 && !refused && smmu.translated == TranslatedTraffic::Passes {
        check.find(&EATS, Rule::AtsUnchecked);
    }
}

fn uses_strw<const ALL: bool>(smmu: &SmmuView, check: &Check<'_, Ste, ALL>) -> bool {
    smmu.s1p() != 0 && smmu.hyp() != 0 && check.get(&CONFIG) == 5
}

fn stream_world<const ALL: bool>(smmu: &SmmuView, check: &mut Check<'_, Ste, ALL>) {
    if smmu.s1p() == 0 {
        check.res0(&STRW, "without stage 1 (IDR0.S1P = 0)");
    } else if smmu.hyp() == 0 {
        check.res0(&STRW, "without EL2 contexts (IDR0.Hyp = 0)");
    } else if uses_strw(smmu, check) {
        if check.get(&STRW) & 1 != 0 {
            check.find(&STRW, Rule::ReservedStreamWorld);
        }
    } else {
        check.ignored(&STRW, "unless stage 1 alone translates: the stream is of EL1");
    }
}

fn stage1<const ALL: bool>(ste: &Ste, smmu: &SmmuView, check: &mut Check<'_, Ste, ALL>) {
    if check.is_set(&S1STALLD) && smmu.stall_model() != 0 {
        check.find(&S1STALLD, Rule::StallDisableAbsent { model: smmu.stall_model() });
    }
    let max = smmu.ssidsize();
    let log2 = check.get(&S1CDMAX) as u8;
    if max == 0 {
        check.ignored(&S1CDMAX, "without SubstreamIDs (IDR1.SSIDSIZE = 0): there is one CD");
    } else if log2 > max {
        check.find(&S1CDMAX, Rule::TooManySubstreams { max });
    }
    if max == 0 || log2 == 0 {
        check.ignored(&S1FMT, "with a single CD");
    } else {
        let format = check.get(&S1FMT);
        if format == 3 {
            check.find(&S1FMT, Rule::ReservedValue { behaves: "0b00: a linear table" });
        } else if format != 0 && smmu.cd2l() == 0 {
            check.find(&S1FMT, Rule::TwoLevelAbsent);
        }
        let align = match format {
            1 => log2.saturating_sub(3),
            2 => log2.saturating_sub(7),
            _ => log2 + 6,
        };
        if align > 6 && check.get(&S1CONTEXTPTR) & ((1 << align) - 1) != 0 {
            check.find(&S1CONTEXTPTR, Rule::ContextsMisaligned { align });
        }
        if check.get(&S1DSS) == 3 {
            check.find(&S1DSS, Rule::ReservedValue { behaves: "0b00: terminate" });
        }
    }
    check.shareability(&S1CSH);
    contexts(ste, smmu, check);
    if smmu.s1pi() == 0 {
        check.res0(&S1PIE, "without IDR3.S1PI");
    }
    if smmu.mpam() == 0 {
        check.res0(&S1MPAM, "without IDR3.MPAM");
    }
}

/// Where the CDs are.
fn contexts<const ALL: bool>(ste: &Ste, smmu: &SmmuView, check: &mut Check<'_, Ste, ALL>) {
    let address = check.get(&S1CONTEXTPTR);
    if check.get(&CONFIG) & 2 == 0 {
        let bits = smmu.output_bits();
        if address >> bits != 0 {
            let minor = smmu.minor();
            check.find(&S1CONTEXTPTR, Rule::ContextsBeyondOutput { bits, minor });
        }
        return;
    }
    let bits = smmu.intermediate_bits();
    if address >> bits != 0 {
        return check.find(&S1CONTEXTPTR, Rule::ContextsBeyondIntermediate { bits });
    }
    if let Some(bits) = stage2::input_bits(ste, smmu)
        && address >> bits != 0
    {
        check.find(&S1CONTEXTPTR, Rule::BeyondStage2Input { bits });
    }
}

fn tags<const ALL: bool>(ste: &Ste, smmu: &SmmuView, check: &mut Check<'_, Ste, ALL>) {
    let unused =
        smmu.s2p() == 0 || check.get(&CONFIG) == 4 || (smmu.uses_strw(ste) && check.is_set(&STRW));
    if !unused && smmu.vmid16() == 0 && check.get(&S2VMID) > 0xff {
        check.find(&S2VMID, Rule::VmidTooLarge);
    }
    if smmu.mpam() == 0 {
        check.res0(&PARTID, "without IDR3.MPAM");
        check.res0(&PMG, "without IDR3.MPAM");
        check.res0(&VMSPTR, "without IDR3.MPAM");
        return;
    }
    let Some(max) = smmu.partitions else { return };
    if check.get(&PARTID) > max.partid.into() {
        check.find(&PARTID, Rule::PartitionTooLarge { max: max.partid });
    }
    if check.get(&PMG) > max.pmg.into() {
        check.find(&PMG, Rule::MonitorTooLarge { max: max.pmg });
    }
    let bits = smmu.output_bits();
    let used = max.partid != 0 && check.get(&CONFIG) == 7 && check.is_set(&S1MPAM);
    if used && check.get(&VMSPTR) >> bits != 0 {
        check.find(&VMSPTR, Rule::VmsBeyondOutput { bits });
    }
}

/// What replaces the attributes of the transactions themselves.
fn attributes<const ALL: bool>(smmu: &SmmuView, check: &mut Check<'_, Ste, ALL>) {
    if smmu.attr_types_ovr() == 0 {
        for key in [&MEMATTR, &MTCFG, &ALLOCCFG, &SHCFG] {
            check.res0(key, "without IDR1.ATTR_TYPES_OVR: attributes are as they come");
        }
    } else if check.is_set(&MTCFG) {
        if matches!(check.get(&MEMATTR), 4 | 8 | 12) {
            check.find(&MEMATTR, Rule::ReservedValue { behaves: "Device-nGnRnE" });
        }
    } else {
        check.res0(&MEMATTR, "while MTCFG is 0");
        if check.get(&ALLOCCFG) & 8 != 0 {
            check.find(&ALLOCCFG, Rule::AllocationWithoutType);
        }
    }
    for key in [&PRIVCFG, &INSTCFG] {
        if smmu.attr_perms_ovr() == 0 {
            check.res0(key, "without IDR1.ATTR_PERMS_OVR: attributes are as they come");
        } else if check.get(key) == 1 {
            check.find(key, Rule::ReservedValue { behaves: "0b00: as the transaction came" });
        }
    }
    check.ignored(&NSCFG, "in a Non-secure stream");
}

/// Fields that come with a version or a feature.
fn extras<const ALL: bool>(smmu: &SmmuView, check: &mut Check<'_, Ste, ALL>) {
    if smmu.minor() == 0 {
        check.res0(&DRE, "in SMMUv3.0");
        check.res0(&DCP, "in SMMUv3.0");
    }
    if smmu.pri() == 0 || smmu.ssidsize() == 0 {
        check.res0(&PPAR, "without page requests or SubstreamIDs (IDR0.PRI, IDR1.SSIDSIZE)");
    } else if smmu.pps() != 0 {
        check.ignored(&PPAR, "with IDR3.PPS");
    }
    if smmu.dpt() == 0 || check.get(&EATS) != 3 {
        check.res0(&DPT_VMATCH, "without a device permission table in use (IDR3.DPT, EATS = 3)");
    } else if check.get(&DPT_VMATCH) == 3 {
        check.find(&DPT_VMATCH, Rule::ReservedValue { behaves: "0b00" });
    }
    if smmu.the() == 0 {
        for key in [&ASSUREDONLY, &TL0, &TL1] {
            check.res0(key, "without IDR3.THE");
        }
    }
}
