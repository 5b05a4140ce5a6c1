//! STEs without their stage 2.

use super::*;
use smmu_types::fields::ste::*;
use smmu_types::layout::Key;

const SUBSTREAMS: (Key<Ste>, u64) = (S1CDMAX, 8);

const fn res0(why: &'static str) -> Rule {
    Rule::Res0 { why }
}

const fn ignored(why: &'static str) -> Rule {
    Rule::IgnoredField { why }
}

const fn reserved(behaves: &'static str) -> Rule {
    Rule::ReservedValue { behaves }
}

#[rstest]
#[case::invalid(STAGE1, &[(V, 0)], rich(), &[("V", Rule::Invalid { stage: TWO })])]
#[case::reserved_config(BYPASS, &[(CONFIG, 3)], rich(), &[("Config", Rule::ReservedConfig)])]
#[case::no_stage1(STAGE1, &[], idr0(2, 0), &[("Config", Rule::Stage1Absent)])]
#[case::no_stage2(STAGE2, &[], idr0(1, 0), &[("Config", Rule::Stage2Absent)])]
#[case::no_stage2_nested(NESTED, &[], idr0(1, 0), &[("Config", Rule::Stage2Absent)])]
#[case::stage2_does_not_count(STAGE1, &[(S2SL0, 3), (S2TG, 3), (S2HD, 1), (S2S, 1)], idr0(0, 1 << 24), &[])]
#[case::stage1_does_not_count(STAGE2, &[(S1FMT, 3), (S1CDMAX, 31), (S1STALLD, 1)], idr0(0, 1 << 24), &[])]
#[case::abort_does_not_count(Ste::ABORT, &[(EATS, 3), (NSCFG, 3), (S1FMT, 3)], rich(), &[])]
fn validity(
    #[case] base: Ste,
    #[case] changes: &[(Key<Ste>, u64)],
    #[case] smmu: SmmuView,
    #[case] want: &[(&str, Rule)],
) {
    check(base, changes, smmu, want);
}

pub(super) fn check(base: Ste, changes: &[(Key<Ste>, u64)], smmu: SmmuView, want: &[(&str, Rule)]) {
    let entry = changes.iter().fold(base, |entry, &(key, value)| entry.with(key, value).unwrap());
    assert_eq!(of_ste(entry, &smmu), want);
}

const NO_ATS: &str = "without ATS (IDR0.ATS = 0)";
const ATS_BYPASS: &str = "while both stages are bypassed: ATS is refused";
const NO_DPT: &str = "without a device permission table in use (IDR3.DPT, EATS = 3)";
const DPT: u32 = 1 << 15;

#[rstest]
#[case::absent(STAGE1, &[(EATS, 1)], idr0(1 << 10, 0), &[("EATS", ignored(NO_ATS))])]
#[case::bypass(BYPASS, &[(EATS, 1)], rich(), &[("EATS", ignored(ATS_BYPASS))])]
#[case::full(STAGE2, &[(EATS, 1)], rich(), &[])]
#[case::full_stalls(STAGE2, &[(EATS, 1), (S2S, 1)], rich(), &[("EATS", Rule::AtsWithStall)])]
#[case::full_stalls_unused(STAGE1, &[(EATS, 1), (S2S, 1)], rich(), &[])]
#[case::full_stalls_v0(STAGE1, &[(EATS, 1), (S2S, 1)], version(0), &[("EATS", Rule::AtsWithUnusedStall)])]
#[case::split(NESTED, &[(EATS, 2)], checked(), &[])]
#[case::split_unchecked(NESTED, &[(EATS, 2)], rich(), &[("EATS", Rule::AtsUnchecked)])]
#[case::split_stage1(STAGE1, &[(EATS, 2)], rich(), &[("EATS", Rule::SplitAtsNotNested)])]
#[case::split_stage2(STAGE2, &[(EATS, 2)], checked(), &[("EATS", Rule::SplitAtsNotNested)])]
#[case::split_stalls(NESTED, &[(EATS, 2), (S2S, 1)], checked(), &[("EATS", Rule::AtsWithStall)])]
#[case::split_absent(NESTED, &[(EATS, 2)], idr0(0, 1 << 11), &[("EATS", Rule::SplitAtsAbsent)])]
#[case::dpt_absent(STAGE1, &[(EATS, 3)], checked(), &[("EATS", Rule::DptAbsent)])]
#[case::dpt_unchecked(STAGE1, &[(EATS, 3)], idr3(0, DPT), &[("EATS", Rule::AtsUnchecked)])]
#[case::dpt_el2(STAGE1, &[(EATS, 3), (STRW, 2)], idr3(0, DPT), &[("EATS", Rule::DptNotEl1)])]
#[case::dpt_stalls(STAGE2, &[(EATS, 3), (S2S, 1)], idr3(0, DPT), &[("EATS", Rule::AtsWithStall)])]
#[case::dpt_match(
    STAGE2, &[(EATS, 3), (DPT_VMATCH, 3)], idr3(0, DPT).with_translated(TranslatedTraffic::Checked),
    &[("DPT_VMATCH", reserved("0b00"))]
)]
#[case::dpt_match_unused(STAGE2, &[(DPT_VMATCH, 1)], rich(), &[("DPT_VMATCH", res0(NO_DPT))])]
fn ats(
    #[case] base: Ste,
    #[case] changes: &[(Key<Ste>, u64)],
    #[case] smmu: SmmuView,
    #[case] want: &[(&str, Rule)],
) {
    check(base, changes, smmu, want);
}

const NOT_ALONE: &str = "unless stage 1 alone translates: the stream is of EL1";
const NO_EL2: &str = "without EL2 contexts (IDR0.Hyp = 0)";
const ONE_CD: &str = "with a single CD";
const NO_SUBSTREAMS: &str = "without SubstreamIDs (IDR1.SSIDSIZE = 0): there is one CD";

#[rstest]
#[case::strw1(STAGE1, &[(STRW, 1)], rich(), &[("STRW", Rule::ReservedStreamWorld)])]
#[case::strw3(STAGE1, &[(STRW, 3)], rich(), &[("STRW", Rule::ReservedStreamWorld)])]
#[case::strw_nested(NESTED, &[(STRW, 3)], rich(), &[("STRW", ignored(NOT_ALONE))])]
#[case::no_el2(STAGE1, &[(STRW, 2)], idr0(1 << 9, 0), &[("STRW", res0(NO_EL2))])]
#[case::no_stage1(
    STAGE2, &[(STRW, 2)], idr0(2, 0), &[("STRW", res0("without stage 1 (IDR0.S1P = 0)"))]
)]
#[case::stalld(STAGE1, &[(S1STALLD, 1)], rich(), &[])]
#[case::stalld_no_stalls(
    STAGE1, &[(S1STALLD, 1)], idr0(0, 1 << 24),
    &[("S1STALLD", Rule::StallDisableAbsent { model: 1 })]
)]
#[case::stalld_forced(
    STAGE1, &[(S1STALLD, 1)], idr0(0, 2 << 24),
    &[("S1STALLD", Rule::StallDisableAbsent { model: 2 })]
)]
#[case::cdmax(STAGE1, &[(S1CDMAX, 21)], rich(), &[("S1CDMax", Rule::TooManySubstreams { max: 20 })])]
#[case::cdmax_largest(STAGE1, &[(S1CDMAX, 20)], rich(), &[])]
#[case::no_substreams(
    STAGE1, &[(S1CDMAX, 2), (S1FMT, 1)], idr1(0x7c0),
    &[("S1CDMax", ignored(NO_SUBSTREAMS)), ("S1Fmt", ignored(ONE_CD))]
)]
#[case::two_level(STAGE1, &[SUBSTREAMS, (S1FMT, 1)], rich(), &[])]
#[case::two_level_absent(
    STAGE1, &[SUBSTREAMS, (S1FMT, 2)], idr0(1 << 19, 0), &[("S1Fmt", Rule::TwoLevelAbsent)]
)]
#[case::two_level_unused(STAGE1, &[(S1FMT, 2)], idr0(1 << 19, 0), &[("S1Fmt", ignored(ONE_CD))])]
#[case::format3(
    STAGE1, &[SUBSTREAMS, (S1FMT, 3)], idr0(1 << 19, 0), &[("S1Fmt", reserved("0b00: a linear table"))]
)]
#[case::linear_align(
    STAGE1, &[SUBSTREAMS, (S1CONTEXTPTR, 0x2000)], rich(),
    &[("S1ContextPtr", Rule::ContextsMisaligned { align: 14 })]
)]
#[case::linear_aligned(STAGE1, &[SUBSTREAMS, (S1CONTEXTPTR, 0x4000)], rich(), &[])]
#[case::l1_smallest(STAGE1, &[(S1CDMAX, 9), (S1FMT, 1), (S1CONTEXTPTR, 0x40)], rich(), &[])]
#[case::l1_of_4k(
    STAGE1, &[(S1CDMAX, 10), (S1FMT, 1), (S1CONTEXTPTR, 0x40)], rich(),
    &[("S1ContextPtr", Rule::ContextsMisaligned { align: 7 })]
)]
#[case::l1_of_64k(
    STAGE1, &[(S1CDMAX, 14), (S1FMT, 2), (S1CONTEXTPTR, 0x40)], rich(),
    &[("S1ContextPtr", Rule::ContextsMisaligned { align: 7 })]
)]
#[case::dss(STAGE1, &[SUBSTREAMS, (S1DSS, 3)], rich(), &[("S1DSS", reserved("0b00: terminate"))])]
#[case::dss_unused(STAGE1, &[(S1DSS, 3)], rich(), &[])]
#[case::share(STAGE1, &[(S1CSH, 1)], rich(), &[("S1CSH", reserved("0b00: non-shareable"))])]
#[case::beyond_output(
    STAGE1, &[(S1CONTEXTPTR, 1 << 48)], rich(),
    &[("S1ContextPtr", Rule::ContextsBeyondOutput { bits: 48, minor: 2 })]
)]
#[case::beyond_output_v0(
    STAGE1, &[(S1CONTEXTPTR, 1 << 48)], version(0),
    &[("S1ContextPtr", Rule::ContextsBeyondOutput { bits: 48, minor: 0 })]
)]
#[case::beyond_output_qemu(
    STAGE1, &[(S1CONTEXTPTR, 1 << 44)], qemu(),
    &[("S1ContextPtr", Rule::ContextsBeyondOutput { bits: 44, minor: 1 })]
)]
#[case::beyond_intermediate(
    NESTED, &[(S1CONTEXTPTR, 1 << 48)], rich(),
    &[("S1ContextPtr", Rule::ContextsBeyondIntermediate { bits: 48 })]
)]
#[case::beyond_stage2(
    NESTED, &[(S1CONTEXTPTR, 1 << 40)], rich(),
    &[("S1ContextPtr", Rule::BeyondStage2Input { bits: 40 })]
)]
#[case::s1pie(STAGE1, &[(S1PIE, 1)], rich(), &[("S1PIE", res0("without IDR3.S1PI"))])]
#[case::s1mpam(STAGE1, &[(S1MPAM, 1)], rich(), &[("S1MPAM", res0("without IDR3.MPAM"))])]
fn stage1(
    #[case] base: Ste,
    #[case] changes: &[(Key<Ste>, u64)],
    #[case] smmu: SmmuView,
    #[case] want: &[(&str, Rule)],
) {
    check(base, changes, smmu, want);
}

const AS_IT_COMES: &str = "0b00: as the transaction came";
const NO_TYPES: &str = "without IDR1.ATTR_TYPES_OVR: attributes are as they come";
const NO_PERMS: &str = "without IDR1.ATTR_PERMS_OVR: attributes are as they come";
const NO_PRI: &str = "without page requests or SubstreamIDs (IDR0.PRI, IDR1.SSIDSIZE)";

#[rstest]
#[case::vmid(STAGE2, &[(S2VMID, 0x100)], idr0(1 << 18, 0), &[("S2VMID", Rule::VmidTooLarge)])]
#[case::vmid_stage1(STAGE1, &[(S2VMID, 0x100)], idr0(1 << 18, 0), &[("S2VMID", Rule::VmidTooLarge)])]
#[case::vmid_el2(STAGE1, &[(S2VMID, 0x100), (STRW, 2)], idr0(1 << 18, 0), &[])]
#[case::vmid_bypass(BYPASS, &[(S2VMID, 0x100)], idr0(1 << 18, 0), &[])]
#[case::vmid_no_stage2(STAGE1, &[(S2VMID, 0x100)], idr0(1 << 18 | 1, 0), &[])]
#[case::partid(BYPASS, &[(PARTID, 1)], rich(), &[("PARTID", res0("without IDR3.MPAM"))])]
#[case::partid_large(
    BYPASS, &[(PARTID, 64)], mpam(), &[("PARTID", Rule::PartitionTooLarge { max: 63 })]
)]
#[case::partid_of_one(
    BYPASS, &[(PARTID, 1)], mpam().with_partitions(Partitions::default()),
    &[("PARTID", Rule::PartitionTooLarge { max: 0 })]
)]
#[case::partid_unknown(BYPASS, &[(PARTID, 64), (PMG, 255)], idr3(0, 0x80), &[])]
#[case::pmg_large(BYPASS, &[(PMG, 4)], mpam(), &[("PMG", Rule::MonitorTooLarge { max: 3 })])]
#[case::vms_of_one(
    NESTED, &[(S1MPAM, 1), (VMSPTR, 1 << 48)], mpam().with_partitions(Partitions::default()), &[]
)]
#[case::vms(
    NESTED, &[(S1MPAM, 1), (VMSPTR, 1 << 48)], mpam(), &[("VMSPtr", Rule::VmsBeyondOutput { bits: 48 })]
)]
#[case::vms_unused(NESTED, &[(VMSPTR, 1 << 48)], mpam(), &[])]
#[case::types(BYPASS, &[(SHCFG, 1)], idr1(1 << 27), &[("SHCFG", res0(NO_TYPES))])]
#[case::types_qemu(BYPASS, &[(SHCFG, 1)], qemu(), &[("SHCFG", res0(NO_TYPES))])]
#[case::perms(BYPASS, &[(PRIVCFG, 2)], idr1(1 << 26), &[("PRIVCFG", res0(NO_PERMS))])]
#[case::perms_reserved(BYPASS, &[(INSTCFG, 1)], rich(), &[("INSTCFG", reserved(AS_IT_COMES))])]
#[case::memattr(
    BYPASS, &[(MEMATTR, 8), (MTCFG, 1)], rich(), &[("MemAttr", reserved("Device-nGnRnE"))]
)]
#[case::memattr_unused(BYPASS, &[(MEMATTR, 8)], rich(), &[("MemAttr", res0("while MTCFG is 0"))])]
#[case::alloccfg(BYPASS, &[(ALLOCCFG, 8)], rich(), &[("ALLOCCFG", Rule::AllocationWithoutType)])]
#[case::alloccfg_type(BYPASS, &[(ALLOCCFG, 8), (MTCFG, 1)], rich(), &[])]
#[case::nscfg(BYPASS, &[(NSCFG, 3)], rich(), &[("NSCFG", ignored("in a Non-secure stream"))])]
#[case::dre(BYPASS, &[(DRE, 1)], version(0), &[("DRE", res0("in SMMUv3.0"))])]
#[case::ppar(BYPASS, &[(PPAR, 1)], idr0(1 << 16, 0), &[("PPAR", res0(NO_PRI))])]
#[case::ppar_always(BYPASS, &[(PPAR, 1)], idr3(0, 0x20), &[("PPAR", ignored("with IDR3.PPS"))])]
#[case::the(STAGE2, &[(TL0, 1)], rich(), &[("TL0", res0("without IDR3.THE"))])]
fn tags_and_attributes(
    #[case] base: Ste,
    #[case] changes: &[(Key<Ste>, u64)],
    #[case] smmu: SmmuView,
    #[case] want: &[(&str, Rule)],
) {
    check(base, changes, smmu, want);
}
