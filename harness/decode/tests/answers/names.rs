//! `explain NAME`, and what several SMMUs have in common.

use rstest::rstest;
use smmu_decode::explain::common::common;
use smmu_decode::explain::{names, topic};
use smmu_decode::ids;

#[test]
fn every_name_is_explained() {
    let names = names();
    assert!(names.len() > 19 + 30 + 4, "{names:?}");
    for name in names {
        let found = topic(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found.name, name);
        assert!(!found.means.is_empty() && !found.section.is_empty(), "{found:?}");
        let event = name.starts_with("F_") || name.starts_with("C_");
        assert!(!event || !found.causes.is_empty() && !found.look.is_empty(), "{found:?}");
    }
}

#[rstest]
#[case("F_TRANSLATION", "7.3.13")]
#[case("f_stream_disabled", "7.3.7")]
#[case("F_TRANSL_FORBIDDEN", "7.3.8")]
#[case("C_BAD_CD", "7.3.11")]
#[case("CERROR_ILL", "7.1")]
fn a_name_has_its_section(#[case] name: &str, #[case] section: &str) {
    assert_eq!(topic(name).unwrap().section, section);
}

/// 4.3 to 4.7: the ID bit without which a command is illegal.
#[rstest]
#[case("TLBI_EL2_ALL", "IDR0.Hyp = 0")]
#[case("CMD_TLBI_EL2_ASID", "IDR0.Hyp = 0")]
#[case("TLBI_NH_ASID", "IDR0.S1P = 0")]
#[case("TLBI_S12_VMALL", "IDR0.S2P = 0")]
#[case("TLBI_S2_IPA", "IDR0.S2P = 0")]
#[case("CFGI_CD", "IDR0.S1P = 0")]
#[case("ATC_INV", "IDR0.ATS = 0")]
#[case("PRI_RESP", "IDR0.PRI = 0")]
#[case("RESUME", "IDR0.STALL_MODEL = 1")]
#[case("DPTI_ALL", "IDR3.DPT = 0")]
fn an_illegal_command_names_its_bit(#[case] name: &str, #[case] bit: &str) {
    let illegal = topic(name).unwrap().illegal.unwrap();
    assert!(illegal.contains(bit), "{illegal}");
}

#[test]
fn a_command_of_every_smmu_is_never_illegal() {
    for name in ["CFGI_STE", "TLBI_NSNH_ALL"] {
        assert_eq!(topic(name).unwrap().illegal, None);
    }
    assert_eq!(topic("NO_SUCH_NAME"), None);
    assert_eq!(topic(""), None);
}

/// 6.3.1 to 6.3.6: the common part has the smaller sizes and the features of both.
#[test]
fn a_guest_is_told_what_all_have() {
    let a = "IDR0=0x0d44101b,IDR1=0x02730010,IDR3=0x1414,IDR5=0x74,AIDR=1";
    let b = "IDR0=0x080fe6bf,IDR1=0x02739d20,IDR3=0x1c0c,IDR5=0x75,AIDR=2";
    let both = common(&[ids::parse(a).unwrap(), ids::parse(b).unwrap()]);
    assert_eq!(both.conflicts, [""; 0]);
    let id = both.ids;
    // S1P, TTF = 2, COHACC, TTENDIAN = 2 (a is little-endian, b either), STALL_MODEL = 1 (a never
    // stalls), TERM_MODEL = 1 (a always aborts), ST_LEVEL = 1; no ASID16, since b has none.
    assert_eq!(id.idr0, 0x0d40_001a);
    // SIDSIZE 16 of a and 32 of b, no SubstreamIDs in a.
    assert_eq!((id.idr1 & 0x3f, id.idr1 >> 6 & 0x1f), (16, 0));
    // RIL of a alone, BBML 2 of a (0x1000) and 3 of b (0x1800).
    assert_eq!((id.idr3 >> 10 & 1, id.idr3 >> 2 & 1), (1 & (0x1c0c >> 10), 1 & 0x1414 >> 2));
    // 44 bits of a, all its granules.
    assert_eq!(id.idr5, 0x74);
    assert_eq!(id.aidr, 1);
    assert!(both.of_the_host.contains(&"S2P"), "{:?}", both.of_the_host);
    assert!(both.limits.iter().any(|limit| limit.field.name() == "OAS" && limit.common == 4));
}

#[test]
fn the_order_of_the_smmus_does_not_matter() {
    let texts = [
        "IDR0=0x0d44101b,IDR1=0x02730010,IDR3=0x1414,IDR5=0x74",
        "IDR0=0x080fe6bf,IDR1=0x02739d20,IDR3=0x1c0c,IDR5=0x75",
        "IDR0=0xffffffff,IDR1=0xffffffff,IDR3=0xffffffff,IDR5=0xffffffff",
    ];
    let ids: Vec<_> = texts.iter().map(|text| ids::parse(text).unwrap()).collect();
    let forth = common(&ids);
    let back = common(&ids.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(forth.ids, back.ids);
    // The common part is in common with each.
    for one in &ids {
        let again = common(&[smmu_decode::KnownIds::all(forth.ids), *one]);
        assert_eq!((again.ids.idr1, again.ids.idr5), (forth.ids.idr1, forth.ids.idr5));
    }
}

#[rstest]
#[case::granules("IDR5=0x10", "IDR5=0x40", "granule")]
#[case::missing("IDR5=0x74", "AIDR=1", "granule")]
fn what_has_nothing_in_common_is_told(#[case] a: &str, #[case] b: &str, #[case] why: &str) {
    let base = "IDR0=0x0d44101b,IDR1=0x02730010,IDR3=0x1414";
    let all = [a, b].map(|own| ids::parse(&format!("{base},{own}")).unwrap());
    let found = common(&all);
    assert!(found.conflicts.iter().any(|conflict| conflict.contains(why)), "{found:?}");
}
