//! Entries against values from outside, and bits that may change.

extern crate std;

use super::*;
use rstest::rstest;
use std::string::ToString;

fn table(default: SubstreamDefault) -> TableConfig {
    TableConfig {
        format: 2,
        context: PhysAddr(0x0000_f0f0_f0f0_f0c0),
        cd_max: 0x1f,
        substream_default: default,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        stall_disable: true,
        world: StreamWorld::El1,
    }
}

fn stage2() -> Stage2Config {
    Stage2Config {
        vmid: Vmid(0),
        t0sz: 4,
        start_level: 3,
        inner: Cacheability::WriteThrough,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        granule: Granule::K16,
        output_size: OutputSize::Bits36,
        table: PhysAddr(0x000d_beef_dead_bee0),
        forced_write_back: false,
        protected_walk: true,
        stall: false,
        record: true,
    }
}

// Values from outside: what Linux's driver writes for these entries in its tests.
#[rstest]
#[case::abort(Ste::ABORT, [1, 0, 0, 0])]
#[case::bypass(
    Ste::bypass(ShareabilityOverride::Incoming),
    [0x9, 0x0000_1000_0000_0000, 0, 0]
)]
#[case::cd_table_ssid0(
    Ste::stage1(table(SubstreamDefault::Substream0), AtsMode::Full, ShareabilityOverride::NonShareable)
        .unwrap(),
    [0xf800_f0f0_f0f0_f0eb, 0x1800_00d6, 0, 0]
)]
#[case::cd_table_bypass(
    Ste::stage1(table(SubstreamDefault::Bypass), AtsMode::Full, ShareabilityOverride::Incoming)
        .unwrap(),
    [0xf800_f0f0_f0f0_f0eb, 0x0000_1000_1800_00d5, 0, 0]
)]
#[case::stage2_ats(
    Ste::stage2(stage2(), AtsMode::Full, ShareabilityOverride::Incoming).unwrap(),
    [0xd, 0x0000_1000_1000_0000, 0x0449_b6c4_0000_0000, 0x000d_beef_dead_bee0]
)]
#[case::stage2(
    Ste::stage2(stage2(), AtsMode::Off, ShareabilityOverride::Incoming).unwrap(),
    [0xd, 0x0000_1000_0000_0000, 0x0449_b6c4_0000_0000, 0x000d_beef_dead_bee0]
)]
fn matches_vectors(#[case] ste: Ste, #[case] words: [u64; 4]) {
    assert_eq!(ste.0[..4], words);
    assert_eq!(ste.0[4..], [0; 4]);
}

#[test]
fn decode_is_the_inverse() {
    let s1 = Ste::stage1(
        table(SubstreamDefault::Substream0),
        AtsMode::Off,
        ShareabilityOverride::NonShareable,
    );
    assert_eq!(s1.unwrap().decode(), SteConfig::Stage1(table(SubstreamDefault::Substream0)));
    let s2 = Ste::stage2(stage2(), AtsMode::Split, ShareabilityOverride::Incoming).unwrap();
    assert_eq!(s2.decode(), SteConfig::Stage2(stage2()));
    assert_eq!(s2.ats(), AtsMode::Split);
    let forced = Stage2Config { forced_write_back: true, ..stage2() };
    let fwb = Ste::stage2(forced, AtsMode::Off, ShareabilityOverride::Incoming).unwrap();
    assert_eq!((fwb.0[1], fwb.decode()), (1 << 44 | 1 << 25, SteConfig::Stage2(forced)));
    assert_eq!(Ste::INVALID.decode(), SteConfig::Invalid);
    assert_eq!(Ste::ABORT.decode(), SteConfig::Abort);
}

#[rstest]
#[case::other_tables(0xd, 0x5, "stage 2 vmid=5 tables=VMSAv8-32|VMSAv9-128")]
// VMSAv8-32 ignores the granule and the output size.
#[case::other_tables_alone(
    0xd,
    0x0007_c000_0000_0005,
    "stage 2 vmid=5 tables=VMSAv8-32|VMSAv9-128"
)]
#[case::nested(0xf, 0x5, "nested vmid=5 tables=VMSAv8-32|VMSAv9-128")]
#[case::reserved_granule(0xd, 0x0008_c000_0000_0005, "reserved config=6")]
fn stage_2_of_other_tables_is_named(#[case] w0: u64, #[case] w2: u64, #[case] text: &str) {
    assert_eq!(Ste([w0, 0, w2, 0, 0, 0, 0, 0]).to_string(), text);
}

#[test]
fn reserved_values_are_refused() {
    let reserved = |field, value| Err(FieldError::Reserved { field, value });
    let good = table(SubstreamDefault::Substream0);
    for (config, field, value) in [
        (TableConfig { format: 3, ..good }, "S1Fmt", 3),
        (table(SubstreamDefault::Reserved), "S1DSS", 3),
        (TableConfig { shareability: Shareability::Reserved, ..good }, "S1CSH", 1),
        (TableConfig { world: StreamWorld::Reserved1, ..good }, "STRW", 1),
        (TableConfig { world: StreamWorld::Reserved3, ..good }, "STRW", 3),
    ] {
        let made = Ste::stage1(config, AtsMode::Off, ShareabilityOverride::Incoming);
        assert_eq!(made, reserved(field, value));
    }
    let config = Stage2Config { shareability: Shareability::Reserved, ..stage2() };
    let made = Ste::stage2(config, AtsMode::Off, ShareabilityOverride::Incoming);
    assert_eq!(made, reserved("S2SH0", 1));
}

#[rstest]
#[case::on_to_off(1, 0, 1)]
#[case::off_to_on(0, 1, 1)]
#[case::checked_to_off(3, 0, 0)]
#[case::off_to_checked(0, 3, 0)]
#[case::checked_to_on(3, 1, 0)]
#[case::split_to_off(2, 0, 0)]
fn ats_never_passes_through_split(#[case] from: u64, #[case] to: u64, #[case] safe: u64) {
    let ste = |eats: u64| Ste([0xb, eats << 28, 0, 0, 0, 0, 0, 0]);
    let bits = ste(from).safe(&ste(to));
    assert_eq!(bits[1] >> 28 & 3, safe);
    // Whatever the safe bits are in between, the entry is one of the ends, or neither end is split.
    let mid = ste(from).0[1] & !bits[1] | ste(to).0[1] & bits[1];
    assert!(mid >> 28 & 3 != 2 || from == 2 || to == 2);
}

#[rstest]
// 5.2: an SMMU may check EATS against S2S even while stage 2 is bypassed.
#[case::full(1, 1 << 57)]
#[case::checked(3, 3 << 62)]
#[case::off(0, 0)]
fn ats_of_stage_1_uses_fields_of_word_2(#[case] eats: u64, #[case] used: u64) {
    let ste = Ste([0xb, eats << 28, 0, 0, 0, 0, 0, 0]);
    assert_eq!(ste.used()[2] & 0xffff_ffff_0000_0000, used);
}

#[test]
fn a_misaligned_table_is_refused_not_cut() {
    let mut config = table(SubstreamDefault::Substream0);
    config.context = PhysAddr(0x0000_f0f0_f0f0_f0f0);
    let refused = Ste::stage1(config, AtsMode::Off, ShareabilityOverride::NonShareable);
    assert_eq!(
        refused,
        Err(FieldError::Misaligned { field: "S1ContextPtr", value: 0xf0f0_f0f0_f0f0, align: 64 })
    );
    config.context = PhysAddr(0x1000);
    config.cd_max = 0xff;
    let refused = Ste::stage1(config, AtsMode::Off, ShareabilityOverride::NonShareable);
    assert_eq!(refused, Err(FieldError::TooLarge { field: "S1CDMax", value: 0xff, max: 0x1f }));
}

#[test]
fn every_bit_that_an_encoder_sets_is_used() {
    let entries = [
        Ste::ABORT,
        Ste::bypass(ShareabilityOverride::Incoming),
        Ste::stage1(table(SubstreamDefault::Bypass), AtsMode::Full, ShareabilityOverride::Inner)
            .unwrap(),
        Ste::stage2(stage2(), AtsMode::Full, ShareabilityOverride::Incoming).unwrap(),
    ];
    for entry in entries {
        for (word, used) in entry.0.iter().zip(entry.used()) {
            assert_eq!(word & !used, 0, "{entry:?}");
        }
    }
}
