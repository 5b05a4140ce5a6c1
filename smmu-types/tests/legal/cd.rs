//! CDs.

use super::*;
use smmu_types::fields::cd::*;
use smmu_types::layout::Key;

const LPAE: (Key<Cd>, u64) = (AA64, 0);
const NO_ASID: (Key<Cd>, u64) = (ASID, 0);
const NO_EPD1: (Key<Cd>, u64) = (EPD1, 0);

const fn res0(why: &'static str) -> Rule {
    Rule::Res0 { why }
}

const fn ignored(why: &'static str) -> Rule {
    Rule::IgnoredField { why }
}

const fn reserved(behaves: &'static str) -> Rule {
    Rule::ReservedValue { behaves }
}

const fn size(min: u8, max: u8, minor: u8) -> Rule {
    Rule::InputSize { stage: ONE, min, max, minor }
}

const fn beyond(bits: u8) -> Rule {
    Rule::TableBeyondOutput { stage: ONE, bits }
}

const fn absent(format: &'static str) -> Rule {
    Rule::FormatAbsent { stage: ONE, format }
}

fn with(key: Key<Ste>, base: Ste) -> Ste {
    base.with(key, 1).unwrap()
}

fn indirect() -> Ste {
    with(field::S1PIE, STAGE1)
}

fn check(changes: &[(Key<Cd>, u64)], entry: Ste, smmu: SmmuView, want: &[(&str, Rule)]) {
    let changed = |base: Cd| {
        changes.iter().fold(base, |context, &(key, value)| context.with(key, value).unwrap())
    };
    // VMSAv8-32 ignores the output size.
    let short = changed(CONTEXT).get(AA64) == 0 && smmu.id.idr5 & 1 << 8 == 0;
    let context = changed(if short { CONTEXT.with(IPS, 0).unwrap() } else { CONTEXT });
    assert_eq!(of_cd(context, entry, &smmu), want);
}

#[rstest]
#[case::invalid(&[(V, 0)], STAGE1, rich(), &[("V", Rule::Invalid { stage: ONE })])]
#[case::stalls(&[(S, 1)], STAGE1, rich(), &[])]
#[case::no_stalls(&[(S, 1)], STAGE1, idr0(0, 1 << 24), &[("S", Rule::StallAbsent { stage: ONE })])]
#[case::forced(&[], STAGE1, idr0(0, 2 << 24), &[("S", Rule::StallForced { stage: ONE })])]
#[case::disabled(&[(S, 1)], with(field::S1STALLD, STAGE1), rich(), &[("S", Rule::StallDisabled)])]
#[case::raz(&[(A, 0)], STAGE1, rich(), &[])]
#[case::abort_only(&[(A, 0)], STAGE1, idr0(0, 1 << 26), &[("A", Rule::AbortForced)])]
#[case::abort_only_qemu(&[(A, 0), (IPS, 4)], STAGE1, qemu(), &[("A", Rule::AbortForced)])]
#[case::no_aa64(&[], STAGE1, idr0(8, 0), &[("AA64", absent("VMSAv8-64"))])]
#[case::no_lpae(&[LPAE], STAGE1, idr0(4, 0), &[("AA64", absent("VMSAv8-32 LPAE"))])]
#[case::no_lpae_qemu(&[LPAE], STAGE1, qemu(), &[("AA64", absent("VMSAv8-32 LPAE"))])]
#[case::lpae(&[LPAE], STAGE1, rich(), &[])]
#[case::lpae_e2h(
    &[LPAE], el2(), rich().with_el2(El2Regime::El2E2h), &[("AA64", Rule::ShortFormatInE2h)]
)]
#[case::long_over_short(
    &[], NESTED.with(field::S2AA64, 0).unwrap(), rich(), &[("AA64", Rule::LongOverShort)]
)]
#[case::wide(&[LPAE], indirect(), wide(), &[])]
#[case::wide_direct(&[LPAE], STAGE1, wide(), &[("AA64", Rule::WideFormatDirect)])]
#[case::wide_el2(
    &[LPAE, NO_ASID, NO_EPD1], with(field::S1PIE, el2()), wide(), &[("AA64", Rule::WideFormatInEl2)]
)]
#[case::wide_skip(
    &[LPAE, (HWU062, 1), (HWU061, 1), (T0SZ, 40)], indirect(), wide(),
    &[("HWU061", Rule::SkipLevel { stage: ONE })]
)]
#[case::wide_55(&[LPAE, (T0SZ, 9)], indirect(), wide(), &[])]
#[case::big(&[(ENDI, 1)], STAGE1, idr0(0, 2 << 21), &[("ENDI", Rule::EndiannessAbsent { stage: ONE })])]
#[case::little(&[], STAGE1, idr0(0, 3 << 21), &[("ENDI", Rule::EndiannessAbsent { stage: ONE })])]
#[case::walks_off(&[(EPD0, 1), (ENDI, 1)], STAGE1, idr0(0, 2 << 21), &[("EPD0", Rule::WalksOff)])]
fn validity(
    #[case] changes: &[(Key<Cd>, u64)],
    #[case] entry: Ste,
    #[case] smmu: SmmuView,
    #[case] want: &[(&str, Rule)],
) {
    check(changes, entry, smmu, want);
}

#[rstest]
#[case::ips(&[(IPS, 6)], STAGE1, rich(), &[("IPS", Rule::OutputSizeCapped { bits: 48 })])]
#[case::t0sz_small(&[(T0SZ, 15)], STAGE1, rich(), &[("T0SZ", size(16, 39, 2))])]
#[case::t0sz_large(&[(T0SZ, 40)], STAGE1, rich(), &[("T0SZ", size(16, 39, 2))])]
#[case::t0sz_v0(&[(T0SZ, 40)], STAGE1, version(0), &[("T0SZ", size(16, 39, 0))])]
#[case::t0sz_lpae(&[LPAE, (T0SZ, 63)], STAGE1, rich(), &[])]
#[case::t0sz_stt(&[(T0SZ, 48), (TTB0, 0x8020_0080)], STAGE1, idr3(0, 1 << 9), &[])]
#[case::t0sz_stt_64k(&[(T0SZ, 48), (TG0, 1)], STAGE1, idr3(0, 1 << 9), &[("T0SZ", size(16, 47, 2))])]
#[case::t0sz_vax(&[(T0SZ, 12)], STAGE1, lpa2(), &[("T0SZ", size(16, 39, 2))])]
#[case::t0sz_vax_ds(&[(T0SZ, 12), (DS, 1)], STAGE1, lpa2(), &[])]
#[case::t0sz_vax_64k(&[(T0SZ, 12), (TG0, 1)], STAGE1, lpa2(), &[])]
#[case::t0sz_64k(&[(T0SZ, 12), (TG0, 1)], STAGE1, rich(), &[("T0SZ", size(16, 39, 2))])]
#[case::lower_off(
    &[(T0SZ, 0), (TG0, 3), (TTB0, 1 << 52), (SH0, 1), (EPD0, 1), (EPD1, 0), (T1SZ, 16), (TG1, 2)],
    STAGE1, rich(), &[]
)]
#[case::t1sz(&[(EPD1, 0), (TG1, 2)], STAGE1, rich(), &[("T1SZ", size(16, 39, 2))])]
#[case::tg1(&[(EPD1, 0), (T1SZ, 16)], STAGE1, rich(), &[("TG1", Rule::GranuleAbsent { stage: ONE })])]
#[case::tg0(&[(TG0, 3)], STAGE1, rich(), &[("TG0", Rule::GranuleAbsent { stage: ONE })])]
#[case::tg0_absent(&[], STAGE1, idr5(0x10, 0), &[("TG0", Rule::GranuleAbsent { stage: ONE })])]
#[case::tg0_lpae(
    &[LPAE, (TG0, 3)], STAGE1, rich(),
    &[("TG0", ignored("with VMSAv8-32 LPAE tables: the granule is 4 KiB"))]
)]
#[case::ips_lpae(
    &[LPAE, (IPS, 6)], STAGE1, rich(),
    &[("IPS", ignored("with VMSAv8-32 LPAE tables: the output has 40 bits"))]
)]
#[case::ttb0_ips(&[(IPS, 0), (TTB0, 1 << 32)], STAGE1, rich(), &[("TTB0", beyond(32))])]
#[case::ttb0_res0(
    &[(TTB0, 1 << 52)], STAGE1, rich(),
    &[("TTB0", res0("above the address that the table format has"))]
)]
#[case::ttb0_qemu(&[(IPS, 4), (TTB0, 1 << 44)], STAGE1, qemu(), &[("TTB0", beyond(44))])]
#[case::ttb0_small_pages(&[(IPS, 6), (TTB0, 1 << 48)], STAGE1, lpa2(), &[("TTB0", beyond(48))])]
#[case::ttb0_large_pages(&[(IPS, 6), (TTB0, 1 << 48), (TG0, 1)], STAGE1, lpa2(), &[])]
#[case::ttb0_lpae(&[LPAE, (TTB0, 1 << 40)], STAGE1, rich(), &[("TTB0", beyond(40))])]
#[case::ttb0_align(&[(TTB0, 0x8020_0800)], STAGE1, rich(), &[("TTB0", Rule::TableRounded { align: 12 })])]
#[case::ttb0_nested(
    &[(TTB0, 1 << 40)], NESTED, rich(), &[("TTB0", Rule::BeyondStage2Input { bits: 40 })]
)]
#[case::ttb1(
    &[(EPD1, 0), (T1SZ, 16), (TG1, 2), (TTB1, 1 << 48)], STAGE1, rich(), &[("TTB1", beyond(48))]
)]
#[case::share(&[(SH0, 1)], STAGE1, rich(), &[("SH0", reserved("0b00: non-shareable"))])]
#[case::ds(&[(DS, 1)], STAGE1, rich(), &[("DS", res0("without IDR5.DS"))])]
#[case::ha(&[(HA, 1), (HD, 1)], STAGE1, rich(), &[])]
#[case::ha_absent(&[(HA, 1)], STAGE1, idr0(0xc0, 0), &[("HA", Rule::UpdateAbsent { stage: ONE })])]
#[case::hd_access_only(
    &[(HA, 1), (HD, 1)], STAGE1, idr0(0xc0, 0x40), &[("HD", Rule::DirtyUpdateAbsent { stage: ONE })]
)]
#[case::hd_alone(&[(HD, 1)], STAGE1, rich(), &[("HD", Rule::DirtyWithoutAccess)])]
#[case::ha_lpae(
    &[LPAE, (HA, 1)], STAGE1, idr0(0xc0, 0), &[("HA", ignored("with VMSAv8-32 LPAE tables"))]
)]
#[case::haft(
    &[(HAFT, 1)], STAGE1, idr0(0, 0xc0), &[("HAFT", Rule::TableAccessWithoutAccess { stage: ONE })]
)]
#[case::affd(&[(HA, 1), (AFFD, 1)], STAGE1, rich(), &[("AFFD", ignored("while HA is 1"))])]
#[case::uncached(&[(HA, 1), (OR0, 0)], STAGE1, rich(), &[("OR0", Rule::UpdateUncached)])]
fn tables(
    #[case] changes: &[(Key<Cd>, u64)],
    #[case] entry: Ste,
    #[case] smmu: SmmuView,
    #[case] want: &[(&str, Rule)],
) {
    check(changes, entry, smmu, want);
}

const NO_TTB1: &str = "in EL2: there is no TTB1";
const PRIVILEGED: &str = "in EL2: every access is privileged";
const WIDE_BITS: &str = "while hierarchical attributes count (HAD0, HAD1)";

#[rstest]
#[case::asid(&[(ASID, 0x100)], STAGE1, idr0(1 << 12, 0), &[("ASID", Rule::AsidTooLarge)])]
#[case::asid_el2(
    &[(ASID, 0x100), NO_EPD1], el2(), idr0(1 << 12, 0),
    &[("ASID", ignored("in EL2: translations have no ASID"))]
)]
#[case::asid_e2h(
    &[(ASID, 0x100)], el2(), idr0(1 << 12, 0).with_el2(El2Regime::El2E2h),
    &[("ASID", Rule::AsidTooLarge)]
)]
#[case::epd0_el2(
    &[NO_ASID, NO_EPD1, (EPD0, 1)], el2(), rich(), &[("EPD0", ignored("in EL2: TTB0 is always walked"))]
)]
#[case::epd1_el2(&[NO_ASID], el2(), rich(), &[("EPD1", ignored(NO_TTB1))])]
#[case::nscfg1_el2(&[NO_ASID, NO_EPD1, (NSCFG1, 1)], el2(), rich(), &[("NSCFG1", res0(NO_TTB1))])]
#[case::disch1_el2(
    &[NO_ASID, NO_EPD1, (HAD1, 1)], el2(), wide(), &[("HAD1", res0(NO_TTB1))]
)]
#[case::hwu_among_wide(&[(HWU059, 1)], STAGE1, wide(), &[("HWU059", ignored(WIDE_BITS))])]
#[case::hwu_upper_among_wide(&[(HWU160, 1)], STAGE1, wide(), &[("HWU160", ignored(WIDE_BITS))])]
#[case::skl_and_disch_among_wide(
    &[(HAD0, 1), (HWU061, 1), (HWU062, 1), (HAD1, 1), (HWU161, 1), (HWU162, 1)], STAGE1, wide(), &[]
)]
#[case::hwu_wide(
    &[LPAE, (HWU060, 1)], indirect(), wide(), &[("HWU060", res0("with VMSAv9-128 tables"))]
)]
#[case::t1sz_el2(&[NO_ASID, NO_EPD1, (T1SZ, 16)], el2(), rich(), &[("T1SZ", res0(NO_TTB1))])]
#[case::pan_el2(&[NO_ASID, NO_EPD1, (PAN, 1)], el2(), rich(), &[("PAN", ignored(PRIVILEGED))])]
#[case::had1_el2(&[NO_ASID, NO_EPD1, (HAD1, 1)], el2(), rich(), &[("HAD1", res0(NO_TTB1))])]
#[case::uwxn(&[(UWXN, 1)], STAGE1, rich(), &[("UWXN", ignored("with VMSAv8-64 tables"))])]
#[case::uwxn_lpae(&[LPAE, (UWXN, 1)], STAGE1, rich(), &[])]
#[case::free(&[(WXN, 1), (TBI0, 1), (TBI1, 1), (PAN, 1), (ASET, 0), (R, 0), (HAD0, 1)], STAGE1, rich(), &[])]
#[case::nscfg(&[(NSCFG0, 1)], STAGE1, rich(), &[("NSCFG0", ignored("in a Non-secure stream"))])]
#[case::had(&[(HAD0, 1)], STAGE1, idr3(0xc, 0), &[("HAD0", ignored("without IDR3.HAD"))])]
#[case::hwu(&[(HWU060, 1)], STAGE1, rich(), &[("HWU060", ignored(WIDE_BITS))])]
#[case::hwu_absent(&[(HWU161, 1)], STAGE1, qemu(), &[
    ("IPS", Rule::OutputSizeCapped { bits: 44 }), ("HWU161", ignored("without IDR3.PBHA")),
])]
#[case::e0pd(&[(E0PD0, 1)], STAGE1, rich(), &[("E0PD0", res0("without IDR3.E0PD"))])]
#[case::epan(&[(EPAN, 1)], STAGE1, rich(), &[("EPAN", res0("without IDR3.EPAN"))])]
#[case::pnch(&[(PNCH, 1)], STAGE1, rich(), &[("PnCH", res0("without IDR3.THE"))])]
#[case::aie(&[(AIE, 1)], STAGE1, rich(), &[("AIE", res0("without IDR3.AIE"))])]
#[case::mair_device(
    &[(MAIR0, 0x0100)], STAGE1, rich(),
    &[("MAIR0", reserved("the Device type whose low two bits are 0"))]
)]
#[case::mair_normal(&[(MAIR1, 0xf0)], STAGE1, rich(), &[("MAIR1", reserved("inner write-through transient"))])]
#[case::pie(
    &[(PIE, 1)], STAGE1, idr3(0, 1 << 18), &[("PIE", res0("without IDR3.S1PI and STE.S1PIE"))]
)]
#[case::piip(
    &[(PIE, 1), (PIIP, 4 << 6)], indirect(), idr3(0, 1 << 18),
    &[("PIIP", Rule::PermissionReserved { index: 2 })]
)]
#[case::piiu(
    &[(PIE, 1), (PIIU, 6)], indirect(), idr3(0, 1 << 18),
    &[("PIIU", Rule::PermissionReserved { index: 0 })]
)]
#[case::conflict(
    &[(PIE, 1), (PIIU, 5 << 3), (PIIP, 3 << 3)], indirect(), idr3(0, 1 << 18),
    &[("PIIP", Rule::PermissionConflict { index: 1 })]
)]
#[case::direct(&[(PIIU, 1)], STAGE1, rich(), &[("PIIU", res0("without permission indirection"))])]
#[case::partid(&[(PARTID, 1)], STAGE1, mpam(), &[("PARTID", res0("without IDR3.MPAM and STE.S1MPAM"))])]
#[case::partid_large(
    &[(PARTID, 64)], with(field::S1MPAM, STAGE1), mpam(),
    &[("PARTID", Rule::PartitionTooLarge { max: 63 })]
)]
#[case::pmg(&[(PMG, 3)], with(field::S1MPAM, STAGE1), mpam(), &[])]
#[case::pmg_large(
    &[(PMG, 4)], with(field::S1MPAM, NESTED), mpam(), &[("PMG", Rule::MonitorTooLarge { max: 3 })]
)]
#[case::partid_of_one(
    &[(PARTID, 1)], with(field::S1MPAM, STAGE1), mpam().with_partitions(Partitions::default()),
    &[("PARTID", Rule::PartitionTooLarge { max: 0 })]
)]
#[case::partid_unknown(&[(PARTID, 64)], with(field::S1MPAM, STAGE1), idr3(0, 0x80), &[])]
#[case::partid_virtual(
    &[(PARTID, 32)], with(field::S1MPAM, NESTED), mpam(),
    &[("PARTID", res0("above bit 4 while both stages translate"))]
)]
fn regimes_and_attributes(
    #[case] changes: &[(Key<Cd>, u64)],
    #[case] entry: Ste,
    #[case] smmu: SmmuView,
    #[case] want: &[(&str, Rule)],
) {
    check(changes, entry, smmu, want);
}
