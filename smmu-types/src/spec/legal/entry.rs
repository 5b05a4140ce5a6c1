//! An STE without its stage 2.

use super::smmu::TranslatedTraffic;
use super::{Case, Rule, Smmu, Stage, stage2};
use crate::Ste;
use crate::fields::ste::*;

pub(super) fn judge(ste: &Ste, smmu: &Smmu, case: &mut Case<'_, Ste>) {
    if !case.is_set(V) {
        return case.find(V, Rule::Invalid { stage: Stage::Two });
    }
    match case.get(CONFIG) {
        0 => return,
        1..=3 => return case.find(CONFIG, Rule::ReservedConfig),
        _ => {}
    }
    let config = case.get(CONFIG);
    ats(smmu, case);
    stream_world(smmu, case);
    match (config & 1, smmu.s1p()) {
        (0, _) => {}
        (_, 0) => case.find(CONFIG, Rule::Stage1Absent),
        _ => stage1(ste, smmu, case),
    }
    match (config & 2, smmu.s2p()) {
        (0, _) => {}
        (_, 0) => case.find(CONFIG, Rule::Stage2Absent),
        _ => stage2::judge(smmu, case),
    }
    tags(ste, smmu, case);
    attributes(smmu, case);
    extras(smmu, case);
}

fn ats(smmu: &Smmu, case: &mut Case<'_, Ste>) {
    let (eats, config, stalls) = (case.get(EATS), case.get(CONFIG), case.is_set(S2S));
    if smmu.ats() == 0 {
        return case.ignored(EATS, "without ATS (IDR0.ATS = 0)");
    }
    if config == 4 {
        return case.ignored(EATS, "while both stages are bypassed: ATS is refused");
    }
    let mut refused = false;
    let mut refuse = |case: &mut Case<'_, Ste>, rule| {
        refused = true;
        case.find(EATS, rule);
    };
    match eats {
        1 if stalls && config & 2 != 0 => refuse(case, Rule::AtsWithStall),
        1 if stalls && smmu.minor() == 0 => case.find(EATS, Rule::AtsWithUnusedStall),
        2 => {
            if config != 7 {
                refuse(case, Rule::SplitAtsNotNested);
            }
            if stalls {
                refuse(case, Rule::AtsWithStall);
            }
            if smmu.ns1ats() != 0 {
                refuse(case, Rule::SplitAtsAbsent);
            }
        }
        3 if smmu.dpt() == 0 => return case.find(EATS, Rule::DptAbsent),
        3 => {
            if uses_strw(smmu, case) && case.is_set(STRW) {
                refuse(case, Rule::DptNotEl1);
            }
            if stalls && config & 2 != 0 {
                refuse(case, Rule::AtsWithStall);
            }
        }
        _ => {}
    }
    if eats >= 2 && !refused && smmu.translated == TranslatedTraffic::Passes {
        case.find(EATS, Rule::AtsUnchecked);
    }
}

fn uses_strw(smmu: &Smmu, case: &Case<'_, Ste>) -> bool {
    smmu.s1p() != 0 && smmu.hyp() != 0 && case.get(CONFIG) == 5
}

fn stream_world(smmu: &Smmu, case: &mut Case<'_, Ste>) {
    if smmu.s1p() == 0 {
        case.res0(STRW, "without stage 1 (IDR0.S1P = 0)");
    } else if smmu.hyp() == 0 {
        case.res0(STRW, "without EL2 contexts (IDR0.Hyp = 0)");
    } else if uses_strw(smmu, case) {
        if case.get(STRW) & 1 != 0 {
            case.find(STRW, Rule::ReservedStreamWorld);
        }
    } else {
        case.ignored(STRW, "unless stage 1 alone translates: the stream is of EL1");
    }
}

fn stage1(ste: &Ste, smmu: &Smmu, case: &mut Case<'_, Ste>) {
    if case.is_set(S1STALLD) && smmu.stall_model() != 0 {
        case.find(S1STALLD, Rule::StallDisableAbsent { model: smmu.stall_model() });
    }
    let max = smmu.ssidsize();
    let log2 = case.get(S1CDMAX) as u8;
    if max == 0 {
        case.ignored(S1CDMAX, "without SubstreamIDs (IDR1.SSIDSIZE = 0): there is one CD");
    } else if log2 > max {
        case.find(S1CDMAX, Rule::TooManySubstreams { max });
    }
    if max == 0 || log2 == 0 {
        case.ignored(S1FMT, "with a single CD");
    } else {
        let format = case.get(S1FMT);
        if format == 3 {
            case.find(S1FMT, Rule::ReservedValue { behaves: "0b00: a linear table" });
        } else if format != 0 && smmu.cd2l() == 0 {
            case.find(S1FMT, Rule::TwoLevelAbsent);
        }
        let align = match format {
            1 => log2.saturating_sub(3),
            2 => log2.saturating_sub(7),
            _ => log2 + 6,
        };
        if align > 6 && case.get(S1CONTEXTPTR) & ((1 << align) - 1) != 0 {
            case.find(S1CONTEXTPTR, Rule::ContextsMisaligned { align });
        }
        if case.get(S1DSS) == 3 {
            case.find(S1DSS, Rule::ReservedValue { behaves: "0b00: terminate" });
        }
    }
    case.shareability(S1CSH);
    contexts(ste, smmu, case);
    if smmu.s1pi() == 0 {
        case.res0(S1PIE, "without IDR3.S1PI");
    }
    if smmu.mpam() == 0 {
        case.res0(S1MPAM, "without IDR3.MPAM");
    }
}

/// Where the CDs are.
fn contexts(ste: &Ste, smmu: &Smmu, case: &mut Case<'_, Ste>) {
    let address = case.get(S1CONTEXTPTR);
    if case.get(CONFIG) & 2 == 0 {
        let bits = smmu.output_bits();
        if address >> bits != 0 {
            let minor = smmu.minor();
            case.find(S1CONTEXTPTR, Rule::ContextsBeyondOutput { bits, minor });
        }
        return;
    }
    let bits = smmu.intermediate_bits();
    if address >> bits != 0 {
        return case.find(S1CONTEXTPTR, Rule::ContextsBeyondIntermediate { bits });
    }
    if let Some(bits) = stage2::input_bits(ste, smmu)
        && address >> bits != 0
    {
        case.find(S1CONTEXTPTR, Rule::BeyondStage2Input { bits });
    }
}

fn tags(ste: &Ste, smmu: &Smmu, case: &mut Case<'_, Ste>) {
    let unused =
        smmu.s2p() == 0 || case.get(CONFIG) == 4 || (smmu.uses_strw(ste) && case.is_set(STRW));
    if !unused && smmu.vmid16() == 0 && case.get(S2VMID) > 0xff {
        case.find(S2VMID, Rule::VmidTooLarge);
    }
    if smmu.mpam() == 0 {
        case.res0(PARTID, "without IDR3.MPAM");
        case.res0(PMG, "without IDR3.MPAM");
        case.res0(VMSPTR, "without IDR3.MPAM");
        return;
    }
    let Some(max) = smmu.partitions else { return };
    if case.get(PARTID) > max.partid.into() {
        case.find(PARTID, Rule::PartitionTooLarge { max: max.partid });
    }
    if case.get(PMG) > max.pmg.into() {
        case.find(PMG, Rule::MonitorTooLarge { max: max.pmg });
    }
    let bits = smmu.output_bits();
    let used = max.partid != 0 && case.get(CONFIG) == 7 && case.is_set(S1MPAM);
    if used && case.get(VMSPTR) >> bits != 0 {
        case.find(VMSPTR, Rule::VmsBeyondOutput { bits });
    }
}

/// What replaces the attributes of the transactions themselves.
fn attributes(smmu: &Smmu, case: &mut Case<'_, Ste>) {
    if smmu.attr_types_ovr() == 0 {
        for key in [MEMATTR, MTCFG, ALLOCCFG, SHCFG] {
            case.res0(key, "without IDR1.ATTR_TYPES_OVR: attributes are as they come");
        }
    } else if case.is_set(MTCFG) {
        if matches!(case.get(MEMATTR), 4 | 8 | 12) {
            case.find(MEMATTR, Rule::ReservedValue { behaves: "Device-nGnRnE" });
        }
    } else {
        case.res0(MEMATTR, "while MTCFG is 0");
        if case.get(ALLOCCFG) & 8 != 0 {
            case.find(ALLOCCFG, Rule::AllocationWithoutType);
        }
    }
    for key in [PRIVCFG, INSTCFG] {
        if smmu.attr_perms_ovr() == 0 {
            case.res0(key, "without IDR1.ATTR_PERMS_OVR: attributes are as they come");
        } else if case.get(key) == 1 {
            case.find(key, Rule::ReservedValue { behaves: "0b00: as the transaction came" });
        }
    }
    case.ignored(NSCFG, "in a Non-secure stream");
}

/// Fields that come with a version or a feature.
fn extras(smmu: &Smmu, case: &mut Case<'_, Ste>) {
    if smmu.minor() == 0 {
        case.res0(DRE, "in SMMUv3.0");
        case.res0(DCP, "in SMMUv3.0");
    }
    if smmu.pri() == 0 || smmu.ssidsize() == 0 {
        case.res0(PPAR, "without page requests or SubstreamIDs (IDR0.PRI, IDR1.SSIDSIZE)");
    } else if smmu.pps() != 0 {
        case.ignored(PPAR, "with IDR3.PPS");
    }
    if smmu.dpt() == 0 || case.get(EATS) != 3 {
        case.res0(DPT_VMATCH, "without a device permission table in use (IDR3.DPT, EATS = 3)");
    } else if case.get(DPT_VMATCH) == 3 {
        case.find(DPT_VMATCH, Rule::ReservedValue { behaves: "0b00" });
    }
    if smmu.the() == 0 {
        for key in [ASSUREDONLY, TL0, TL1] {
            case.res0(key, "without IDR3.THE");
        }
    }
}
