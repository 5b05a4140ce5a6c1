//! What drivers, firmware and debuggers print.

use rstest::rstest;
use smmu_decode::{ScanItem, StructureKind};

use crate::{LINUX, all, only, scan};

const STE: [u64; 8] = [0xf800_0000_4000_000b, 0x54, 0, 0, 0, 0, 0, 0];

fn notes(log: &str) -> Vec<String> {
    let notes = scan(log).into_iter().filter_map(|item| match item {
        ScanItem::Note { text, .. } => Some(text),
        _ => None,
    });
    notes.collect()
}

#[rstest]
#[case("ias 48-bit, oas 48-bit (features 0x001c1e8f)", "stage 1, stage 2")]
#[case("no evtq irq - events will not be reported!", "interrupt for the event queue")]
#[case("no gerr irq - errors will not be reported!", "interrupt for GERROR")]
#[case("2-level strtab only covers 25/32 bits of SID", "0x2000000")]
#[case("SMMU currently enabled! Resetting...", "firmware left CR0.SMMUEN = 1")]
#[case("failed to clear cr0", "powered")]
#[case("GBPA not responding to update", "GBPA.UPDATE")]
#[case("IDR0.COHACC overridden by FW configuration (false)", "coherency")]
#[case("option mask 0x4", "MSIPOLL")]
#[case("msi_domain absent - falling back to wired irqs", "wired interrupts")]
#[case("no translation support!", "IDR0.S1P")]
fn a_line_of_the_driver_is_one_note(#[case] line: &str, #[case] says: &str) {
    let notes = notes(&format!("{LINUX} {line}\nboot\n"));
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains(says), "{notes:?}");
}

#[rstest]
#[case(
    "arm-smmu 15000000.iommu: Unhandled context fault: fsr=0x402, iova=0xfd7ff000, fsynr=0x540003, cbfrsynra=0x19c3, cb=10"
)]
#[case("[    9.1] arm-smmu 5000000.iommu: Unexpected global fault, this could be serious")]
#[case(
    "[    9.1] arm-smmu 5000000.iommu: \tGFSR 0x80000002, GFSYNR0 0x00000000, GFSYNR1 0x00000840"
)]
#[case("arm-smmu 5000000.iommu: FSR    = 00000402 [Format=2 TF], SID=0x840")]
fn a_line_of_an_smmuv2_says_so(#[case] line: &str) {
    let notes = notes(line);
    assert!(notes.len() == 1 && notes[0].contains("SMMUv2"), "{notes:?}");
}

/// 6.3.1: 0x080fe6bf has S1P, S2P, COHACC, ATS and CD2L.
#[rstest]
#[case("SMMU_IDR0: 0x080fe6bf")]
#[case("  SMMU_IDR0 = 0x080fe6bf")]
#[case("INFO:    SMMU_IDR0:0x080FE6BF")]
fn a_register_of_firmware_is_decoded(#[case] line: &str) {
    let report = only(line);
    assert_eq!((report.name.as_str(), report.words[0]), ("IDR0", 0x080f_e6bf));
    for flag in ["S1P", "S2P", "COHACC", "ATS", "CD2L"] {
        assert!(report.summary.split(' ').any(|part| part == flag), "{}", report.summary);
    }
}

#[test]
fn a_register_of_another_device_is_left_alone() {
    for line in ["CR0: 0x80010001", "x86: CR0=0x80050033 CR2:0x0", "eth0: GERROR: 0x1"] {
        assert!(scan(line).iter().all(|item| matches!(item, ScanItem::Other(_))), "{line}");
    }
}

#[test]
fn a_poll_of_a_test_suite_is_told() {
    let log = "      CMDQ poll timeout at 0x00000003\n      prod_reg = 0x00000003,\n      cons_reg = 0x01000002\n      gerror   = 0x00000001     \n";
    assert!(notes(log)[0].contains("0x00000003"), "{:?}", notes(log));
    let names: Vec<String> = all(log).into_iter().map(|report| report.name).collect();
    assert_eq!(names, ["CMDQ_PROD", "CMDQ_CONS", "GERROR"]);
    assert_eq!(all(log)[1].summary, "rd=0x2 CERROR_ILL");
}

#[test]
fn an_event_of_mediatek_is_decoded() {
    let log = "mtk_smmu 30800000.iommu: smmu:mm_smmu EVTQ_INFO: evt{[0]:0x440200000010, [1]:0x20000000000, [2]:0xfe001000, [3]:0x0}\n";
    let report = only(log);
    assert_eq!(report.words, [0x4402_0000_0010, 0x200_0000_0000, 0xfe00_1000, 0]);
    assert_eq!(report.name, "F_TRANSLATION");
}

#[test]
fn registers_of_mediatek_are_decoded() {
    let log = "arm-smmu-v3 30800000.iommu: IDR0:0x80fe6bf IDR1:0x2739d00 CR0:[0x1d 0x1c] CR1:0xd75 GERROR:[0x1 0x0]\n";
    let names: Vec<String> = all(log).into_iter().map(|report| report.name).collect();
    assert_eq!(names, ["IDR0", "IDR1", "CR0", "CR0ACK", "CR1", "GERROR", "GERRORN"]);
}

#[rstest]
#[case::trace32_quad(
    "___address_|________0________8_0123456789ABCDEF\nNSD:80001000|>F80000004000000B 0000000000000054 ...@....T.......\nNSD:80001010| 0000000000000000 0000000000000000 ................\nNSD:80001020| 0000000000000000 0000000000000000 ................\nNSD:80001030| 0000000000000000 0000000000000000 ................\n"
)]
#[case::trace32_long(
    "NSD:80001000|>4000000B F8000000 00000054 00000000\nNSD:80001010| 00000000 00000000 00000000 00000000\nNSD:80001020| 00000000 00000000 00000000 00000000\nNSD:80001030| 00000000 00000000 00000000 00000000\n"
)]
#[case::trace32_byte(
    "NSD:80001000|>0B 00 00 40 00 00 00 F8  54 00 00 00 00 00 00 00\nNSD:80001010| 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00\nNSD:80001020| 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00\nNSD:80001030| 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00\n"
)]
#[case::gdb_x(
    "0x80001000:\t0xf80000004000000b\t0x54\n0x80001010:\t0x0\t0x0\n0x80001020:\t0x0\t0x0\n0x80001030:\t0x0\t0x0\n"
)]
#[case::gdb_symbol(
    "0x80001000 <strtab>:\t0xf80000004000000b\t0x54\n0x80001010 <strtab+16>:\t0x0\t0x0\n0x80001020 <strtab+32>:\t0x0\t0x0\n0x80001030 <strtab+48>:\t0x0\t0x0\n"
)]
#[case::gdb_words(
    "0x80001000:\t0x4000000b\t0xf8000000\t0x54\t0x0\n0x80001010:\t0x0\t0x0\t0x0\t0x0\n0x80001020:\t0x0\t0x0\t0x0\t0x0\n0x80001030:\t0x0\t0x0\t0x0\t0x0\n"
)]
#[case::gdb_print("$1 = {0xf80000004000000b, 0x54, 0x0 <repeats 6 times>}\n")]
#[case::initialiser("u64 ste[8] = { 0xf80000004000000bULL, 0x54, 0, 0, 0, 0, 0, 0 };\n")]
#[case::conversions(
    "\t.data = { cpu_to_le64(0xf80000004000000b), cpu_to_le64(0x54), 0, 0, 0, 0, 0, 0 },\n"
)]
#[case::initialiser_of_lines(
    "static const u64 entry[8] = {\n\t0xf80000004000000bULL, 0x54ULL, 0x0, 0x0,\n\t0x0, 0x0, 0x0, 0x0,\n};\n"
)]
#[case::indexed_lines(
    "STE[0] = 0xf80000004000000b\nSTE[1] = 0x54\nSTE[2] = 0x0\nSTE[3] = 0x0\nSTE[4] = 0x0\nSTE[5] = 0x0\nSTE[6] = 0x0\nSTE[7] = 0x0\n"
)]
#[case::indexed(
    "ste[0]:0xf80000004000000b ste[1]:0x54 ste[2]:0x0 ste[3]:0x0 ste[4]:0x0 ste[5]:0x0 ste[6]:0x0 ste[7]:0x0\n"
)]
fn a_debugger_gives_an_ste(#[case] text: &str) {
    let report = only(text);
    assert_eq!(report.words, STE, "{report:?}");
    assert_eq!(report.kind, StructureKind::Ste);
}

/// A cut-off list of indexed words is decoded as far as it goes.
#[test]
fn indexed_words_may_be_cut_off() {
    let report = only("STE[0] = 0xf80000004000000b\nSTE[1] = 0x54\n");
    assert_eq!(report.cut_off.as_deref(), Some("2 of 8 words"));
    assert_eq!(report.words, STE[..2]);
}
