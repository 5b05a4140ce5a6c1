//! Advice on events.

use rstest::rstest;

use crate::{field, linux_event, only};

#[test]
fn an_empty_class_and_ipa_of_stage_2_are_not_trusted() {
    let who = "(XEN) SMMUv3: /smmuv3@a0000000:";
    let report = only(&format!(
        "{who} event 0x10 received:\n{who} \t0x0000001800000010\n{who} \t0x0000008000000000\n\
         {who} \t0x0000000009020040\n{who} \t0x0000000000000000\n"
    ));
    assert_eq!((field(&report, "CLASS"), field(&report, "IPA")), (0, 0));
    assert!(report.findings[0].contains("not to be trusted"), "{:?}", report.findings);
    assert!(report.findings[0].contains("QEMU before 9.1"), "{:?}", report.findings);
    assert!(report.advice.means.contains("IPA page 0x9020000"), "{:?}", report.advice);
    assert!(report.advice.next[0].contains("MSI"), "{:?}", report.advice);
    let all = format!("{:?}", report.advice);
    assert!(!all.contains("CDs") && !all.contains("context descriptor"), "{all}");
}

/// 7.3.13: a fault of stage 1 is one of the input address.
#[rstest]
fn a_fault_of_stage_1_has_class_in(
    #[values(0x10, 0x11, 0x12, 0x13)] number: u8,
    #[values(0, 1, 2, 3)] class: u64,
    #[values(false, true)] stage2: bool,
) {
    let word = class << 40 | u64::from(stage2) << 39;
    let report = only(&linux_event(
        number,
        [0x8_0000_0000 | u64::from(number), word, 0x1_0000, 0x8000_0000],
    ));
    let flagged = report.findings.iter().any(|finding| finding.contains("cannot be"));
    assert_eq!(flagged, !stage2 && class != 2, "{:?}", report.findings);
}

/// 7.3.12: a walk of stage 1 that meets an abort has CLASS = TT.
#[test]
fn a_walk_that_aborts_has_another_class() {
    let report = only(&linux_event(0x0b, [0x8_0000_000b, 1 << 40, 0x1_0000, 0x4000_0000]));
    assert_eq!(report.findings, [""; 0]);
}

/// 7.3.7: the record has no SubstreamID, and bits 31:11 of its first word are reserved.
#[rstest]
#[case(0x2a_0000_0006)]
#[case(0x2a_ffff_f806)]
fn a_disabled_stream_has_two_causes(#[case] first: u64) {
    let report = only(&linux_event(0x06, [first, 0, 0, 0]));
    let all = format!("{:?}", report.advice);
    for cause in ["S1DSS = 0", "SubstreamID 0", "S1DSS = 2", "Linux"] {
        assert!(all.contains(cause), "{all}");
    }
    assert!(!all.contains("0xfffff") && !report.summary.contains("ssid"), "{report:?}");
}

/// 7.3.8.
#[test]
fn translated_traffic_has_all_its_causes() {
    let report = only(&linux_event(0x07, [0x4400_0000_0007, 0, 0x1234_0000, 0]));
    let all = format!("{:?}", report.advice);
    for cause in ["EATS = 0", "ATSCHK", "Config = 4", "identity", "SMMUEN = 0", "DPT"] {
        assert!(all.contains(cause), "{cause}: {all}");
    }
    assert!(all.contains("not C_BAD_STREAMID") && all.contains("event queue off"), "{all}");
}

/// 7.3.16: TTRnW means nothing unless CLASS is a table fetch.
#[rstest]
#[case(2, 0, "unknown")]
#[case(0, 1, "unknown")]
#[case(1, 1, "read")]
fn ttrnw_is_of_a_table_fetch(#[case] class: u64, #[case] stage2: u64, #[case] meaning: &str) {
    let word = 1 << 44 | class << 40 | stage2 << 39;
    let report = only(&linux_event(0x13, [0x4402_0000_0013, word, 0xfe00_1000, 0x8000_0000]));
    let row = report.rows.iter().find(|row| row.name == "TTRnW").unwrap();
    assert!(row.meaning.starts_with(meaning), "{row:?}");
    assert_eq!(report.summary.contains("ttrnw"), meaning != "unknown", "{}", report.summary);
}

#[rstest]
#[case::doorbell(0x0902_0040, 0, true)]
#[case::its(0x0808_0040, 0, true)]
#[case::read(0x0902_0040, 1 << 35, false)]
#[case::beside(0x0902_0044, 0, false)]
fn a_write_at_0x040_is_mostly_an_msi(#[case] address: u64, #[case] access: u64, #[case] msi: bool) {
    for number in [0x10, 0x13] {
        let first = 0x18_0000_0000 | u64::from(number);
        let report = only(&linux_event(number, [first, 2 << 40 | access, address, 0]));
        assert_eq!(report.advice.next[0].contains("MSI"), msi, "{:?}", report.advice);
    }
}
