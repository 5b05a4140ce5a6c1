//! Stage 2 of STEs.

use super::ste::check;
use super::*;
use smmu_types::fields::ste::*;
use smmu_types::layout::Key;

const LPAE: (Key<Ste>, u64) = (S2AA64, 0);
const BITS40: (Key<Ste>, u64) = (S2T0SZ, 8);

const NO_SL2: &str = "without S2DS and a granule of 4 KiB";
const ABOVE: &str = "above the address that the table format has";

const fn res0(why: &'static str) -> Rule {
    Rule::Res0 { why }
}

const fn size(min: u8, max: u8, minor: u8) -> Rule {
    Rule::InputSize { stage: TWO, min, max, minor }
}

const fn beyond(bits: u8) -> Rule {
    Rule::TableBeyondOutput { stage: TWO, bits }
}

const fn level(min: u8, max: u8, bits: u8) -> Rule {
    Rule::StartLevel { min, max, bits }
}

/// VMSAv8-32 ignores the output size.
fn base(changes: &[(Key<Ste>, u64)], smmu: SmmuView) -> Ste {
    let short = changes.iter().any(|(key, _)| key.field().name() == "S2AA64");
    match short && smmu.id.idr5 & 1 << 8 == 0 {
        true => STAGE2.with(S2PS, 0).unwrap(),
        false => STAGE2,
    }
}

#[rstest]
#[case::stall(&[(S2S, 1)], idr0(0, 1 << 24), &[("S2S", Rule::StallAbsent { stage: TWO })])]
#[case::stall_qemu(
    &[(S2S, 1), (S2PS, 4)], qemu(), &[("S2S", Rule::StallAbsent { stage: TWO })]
)]
#[case::stall_forced(&[], idr0(0, 2 << 24), &[("S2S", Rule::StallForced { stage: TWO })])]
#[case::no_aa64(
    &[(S2T0SZ, 24), (S2PS, 2)], ids(|id| { id.idr0 &= !8; id.idr5 = 0x12; }),
    &[("S2AA64", Rule::FormatAbsent { stage: TWO, format: "VMSAv8-64" })]
)]
#[case::no_lpae(
    &[LPAE, BITS40], idr0(4, 0), &[("S2AA64", Rule::FormatAbsent { stage: TWO, format: "VMSAv8-32 LPAE" })]
)]
#[case::big(&[(S2ENDI, 1)], idr0(0, 2 << 21), &[("S2ENDI", Rule::EndiannessAbsent { stage: TWO })])]
#[case::little(&[], idr0(0, 3 << 21), &[("S2ENDI", Rule::EndiannessAbsent { stage: TWO })])]
#[case::mixed(&[(S2ENDI, 1)], rich(), &[])]
#[case::granule(&[], idr5(0x10, 0), &[("S2TG", Rule::GranuleAbsent { stage: TWO })])]
#[case::granule3(&[(S2TG, 3)], rich(), &[("S2TG", Rule::GranuleAbsent { stage: TWO })])]
#[case::share(&[(S2SH0, 1)], rich(), &[("S2SH0", Rule::ReservedValue { behaves: "0b00: non-shareable" })])]
// Output sizes and table addresses.
#[case::ps(&[(S2PS, 6)], rich(), &[("S2PS", Rule::OutputSizeCapped { bits: 48 })])]
#[case::ps_lpae(
    &[LPAE, BITS40, (S2PS, 6)], rich(),
    &[("S2PS", Rule::IgnoredField { why: "with VMSAv8-32 LPAE tables: the output has 40 bits" })]
)]
#[case::ttb_ps(&[(S2PS, 1), (S2TTB, 1 << 36)], rich(), &[("S2TTB", beyond(36))])]
#[case::ttb_oas(&[(S2TTB, 1 << 48)], rich(), &[("S2TTB", beyond(48))])]
#[case::ttb_res0(&[(S2TTB, 1 << 52)], rich(), &[("S2TTB", res0(ABOVE))])]
#[case::ttb_v0(&[(S2TTB, 1 << 48)], version(0), &[("S2TTB", res0(ABOVE))])]
#[case::ttb_qemu(&[(S2PS, 4), (S2TTB, 1 << 44)], qemu(), &[("S2TTB", beyond(44))])]
#[case::ttb_small_pages(&[(S2PS, 6), (S2TTB, 1 << 48)], lpa2(), &[("S2TTB", beyond(48))])]
#[case::ttb_small_pages_ds(&[(S2PS, 6), (S2TTB, 1 << 48), (S2DS, 1)], lpa2(), &[])]
#[case::ttb_lpae(&[LPAE, BITS40, (S2TTB, 1 << 40)], rich(), &[("S2TTB", beyond(40))])]
#[case::ttb_wide(&[LPAE, (S2SL0, 0), (S2PS, 7), (S2TTB, 1 << 55)], wide(), &[])]
// 40 bits from level 1 are two tables of 4 KiB side by side.
#[case::ttb_align(&[(S2TTB, 0x8010_1000)], rich(), &[("S2TTB", Rule::TableRounded { align: 13 })])]
#[case::ttb_align_52(
    &[(S2T0SZ, 25), (S2SL0, 1), (S2PS, 6), (S2TTB, 0x8010_0010)], lpa2(),
    &[("S2TTB", Rule::TableRounded { align: 12 })]
)]
#[case::ttb_align_least(
    &[(S2T0SZ, 33), (S2SL0, 1), (S2PS, 6), (S2TTB, 0x8010_0020)], lpa2(),
    &[("S2TTB", Rule::TableRounded { align: 6 })]
)]
// Input sizes.
#[case::t0sz_small(&[(S2T0SZ, 15), (S2SL0, 2)], rich(), &[("S2T0SZ", size(16, 39, 2))])]
#[case::t0sz_large(&[(S2T0SZ, 40), (S2SL0, 0)], rich(), &[("S2T0SZ", size(16, 39, 2))])]
#[case::t0sz_v0(&[(S2T0SZ, 15), (S2SL0, 2)], version(0), &[("S2T0SZ", size(16, 39, 0))])]
#[case::t0sz_oas(&[(S2T0SZ, 19), (S2SL0, 2), (S2PS, 4)], idr5(7, 4), &[("S2T0SZ", size(20, 39, 2))])]
#[case::t0sz_stt(&[(S2T0SZ, 48), (S2SL0, 3)], idr3(0, 1 << 9), &[])]
#[case::t0sz_stt_large(&[(S2T0SZ, 49), (S2SL0, 3)], idr3(0, 1 << 9), &[("S2T0SZ", size(16, 48, 2))])]
#[case::t0sz_stt_64k(
    &[(S2T0SZ, 48), (S2SL0, 0), (S2TG, 1)], idr3(0, 1 << 9), &[("S2T0SZ", size(16, 47, 2))]
)]
#[case::bits52(&[(S2T0SZ, 12), (S2SL0, 0), (S2SL0_2, 1), (S2DS, 1), (S2PS, 6)], lpa2(), &[])]
#[case::bits52_64k(&[(S2T0SZ, 12), (S2SL0, 2), (S2TG, 1), (S2PS, 6)], lpa2(), &[])]
#[case::bits52_4k(&[(S2T0SZ, 12), (S2SL0, 2), (S2PS, 6)], lpa2(), &[("S2T0SZ", size(16, 39, 2))])]
// Start levels.
#[case::sl0_3(&[(S2SL0, 3)], rich(), &[("S2SL0", Rule::StartLevelReserved)])]
#[case::sl0_3_qemu(&[(S2SL0, 3), (S2PS, 4)], qemu(), &[("S2SL0", Rule::StartLevelReserved)])]
#[case::sl0_3_64k(&[(S2SL0, 3), (S2TG, 1)], rich(), &[("S2SL0", Rule::StartLevelReserved)])]
#[case::sl0_3_16k(&[(S2SL0, 3), (S2TG, 2)], rich(), &[("S2SL0", Rule::StartLevelReserved)])]
#[case::too_deep(&[(S2SL0, 0)], rich(), &[("S2SL0", level(22, 34, 40))])]
#[case::too_high(&[(S2SL0, 2), (S2T0SZ, 25)], rich(), &[("S2SL0", level(40, 52, 39))])]
#[case::side_by_side(&[(S2T0SZ, 21)], rich(), &[])]
#[case::too_many(&[(S2T0SZ, 20)], rich(), &[("S2SL0", level(31, 43, 44))])]
#[case::small_output(
    &[(S2SL0, 2), (S2PS, 2)], idr5(7, 2), &[("S2SL0", Rule::StartLevelOutput { bits: 44 })]
)]
#[case::small_output_52(
    &[(S2T0SZ, 16), (S2DS, 1), (S2SL0, 0), (S2SL0_2, 1)], idr5(0, 0x480),
    &[("S2SL0", Rule::StartLevelOutput { bits: 52 })]
)]
#[case::small_output_52_16k(
    &[(S2T0SZ, 16), (S2DS, 1), (S2SL0, 3), (S2TG, 2)], idr5(0, 0x480),
    &[("S2SL0", Rule::StartLevelOutput { bits: 52 })]
)]
#[case::lpae(&[LPAE, BITS40], rich(), &[])]
#[case::lpae_too_deep(&[LPAE, BITS40, (S2SL0, 0)], rich(), &[("S2SL0", level(22, 34, 40))])]
#[case::lpae_level(&[LPAE, (S2T0SZ, 0), (S2SL0, 2)], rich(), &[("S2SL0", Rule::StartLevelReserved)])]
#[case::lpae_granule(
    &[LPAE, BITS40, (S2TG, 1)], rich(),
    &[("S2TG", res0("with VMSAv8-32 LPAE tables: the granule is 4 KiB"))]
)]
#[case::ds(&[(S2DS, 1)], rich(), &[("S2DS", res0("without IDR5.DS"))])]
#[case::ds_64k(
    &[(S2DS, 1), (S2TG, 1), (S2T0SZ, 22), (S2SL0, 1)], lpa2(), &[("S2DS", res0("with a granule of 64 KiB"))]
)]
#[case::sl0_2(&[(S2SL0_2, 1)], rich(), &[("S2SL0_2", res0("without IDR5.DS"))])]
#[case::sl0_2_without_ds(&[(S2SL0_2, 1)], lpa2(), &[("S2SL0_2", res0(NO_SL2))])]
#[case::sl0_2_64k(
    &[(S2SL0_2, 1), (S2TG, 1), (S2T0SZ, 22)], lpa2(), &[("S2SL0_2", res0(NO_SL2))]
)]
#[case::sl0_wide(&[LPAE], wide(), &[("S2SL0", res0("with VMSAv9-128 tables"))])]
#[case::sl0_wide_and_bad_size(
    &[LPAE, (S2T0SZ, 49)], wide(),
    &[("S2SL0", res0("with VMSAv9-128 tables")), ("S2T0SZ", size(8, 48, 4))]
)]
#[case::assured_only(&[(ASSUREDONLY, 1)], hardened(), &[])]
#[case::assured_only_wide(
    &[LPAE, (S2SL0, 0), (ASSUREDONLY, 1)], hardened(),
    &[("AssuredOnly", res0("with VMSAv9-128 tables: the checks are on"))]
)]
#[case::ptw(
    &[(S2PTW, 1)], rich(), &[("S2PTW", Rule::IgnoredField { why: "unless both stages translate" })]
)]
#[case::skl(&[(S2SKL, 1)], rich(), &[("S2SKL", res0("without VMSAv9-128 tables"))])]
#[case::wide(&[LPAE, (S2SL0, 0)], wide(), &[])]
#[case::wide_skip(&[LPAE, (S2SL0, 0), (S2T0SZ, 32), (S2SKL, 3)], wide(), &[("S2SKL", Rule::SkipLevel { stage: TWO })])]
fn tables(
    #[case] changes: &[(Key<Ste>, u64)],
    #[case] smmu: SmmuView,
    #[case] want: &[(&str, Rule)],
) {
    check(base(changes, smmu), changes, smmu, want);
}

#[rstest]
#[case::ha(&[(S2HA, 1), (S2HD, 1)], rich(), &[])]
#[case::ha_absent(&[(S2HA, 1)], idr0(0xc0, 0), &[("S2HA", Rule::UpdateAbsent { stage: TWO })])]
#[case::hd_absent(&[(S2HD, 1)], idr0(0xc0, 0), &[("S2HD", Rule::UpdateAbsent { stage: TWO })])]
#[case::hd_access_only(
    &[(S2HA, 1), (S2HD, 1)], idr0(0xc0, 0x40), &[("S2HD", Rule::DirtyUpdateAbsent { stage: TWO })]
)]
#[case::hd_alone(&[(S2HD, 1)], rich(), &[("S2HD", Rule::DirtyWithoutAccess)])]
#[case::ha_lpae(&[LPAE, BITS40, (S2HA, 1)], rich(), &[("S2HA", Rule::UpdateInShortFormat)])]
#[case::haft(&[(S2HAFT, 1)], idr0(0, 0xc0), &[("S2HAFT", Rule::TableAccessWithoutAccess { stage: TWO })])]
#[case::haft_absent(&[(S2HAFT, 1), (S2HA, 1)], rich(), &[("S2HAFT", res0("without IDR0.HTTU = 3"))])]
#[case::affd(
    &[(S2HA, 1), (S2AFFD, 1)], rich(), &[("S2AFFD", Rule::IgnoredField { why: "while S2HA is 1" })]
)]
#[case::uncached(&[(S2HA, 1), (S2IR0, 2)], rich(), &[("S2IR0", Rule::UpdateUncached)])]
#[case::fwb(&[(S2FWB, 1)], rich(), &[])]
#[case::fwb_absent(&[(S2FWB, 1)], idr3(0x100, 0), &[("S2FWB", res0("without IDR3.FWB"))])]
#[case::fwb_lpae(&[LPAE, BITS40, (S2FWB, 1)], rich(), &[("S2FWB", Rule::ForcedWriteBackInShortFormat)])]
#[case::pie_absent(&[(S2PIE, 1)], rich(), &[("S2PIE", res0("without IDR3.S2PI"))])]
#[case::pie_lpae(
    &[LPAE, BITS40, (S2PIE, 1)], idr3(0, 1 << 19), &[("S2PIE", Rule::IndirectInShortFormat)]
)]
#[case::poe_absent(&[(S2POE, 1)], rich(), &[("S2POE", res0("without IDR3.S2PO"))])]
#[case::poe(&[(S2POE, 1), (S2PIE, 1), (S2POI, 0xfe_dcba)], idr3(0, 3 << 19), &[])]
#[case::poe_direct(&[(S2POE, 1)], idr3(0, 3 << 19), &[("S2POE", Rule::OverlayNotIndirect)])]
#[case::poe_bits(
    &[(S2POE, 1), (S2PIE, 1), (S2HWU60, 1)], idr3(0, 3 << 19),
    &[("S2POE", Rule::OverlayWithHardwareBits)]
)]
#[case::poi(
    &[(S2POE, 1), (S2PIE, 1), (S2POI, 0x50)], idr3(0, 3 << 19),
    &[("S2POI", Rule::OverlayReserved { index: 1 })]
)]
#[case::poi_unused(&[(S2POI, 0x50)], idr3(0, 3 << 19), &[("S2POI", res0("while S2POE is 0"))])]
#[case::hwu(
    &[(S2HWU59, 1)], idr3(8, 0), &[("S2HWU59", Rule::IgnoredField { why: "without IDR3.PBHA" })]
)]
fn updates_and_permissions(
    #[case] changes: &[(Key<Ste>, u64)],
    #[case] smmu: SmmuView,
    #[case] want: &[(&str, Rule)],
) {
    check(base(changes, smmu), changes, smmu, want);
}
