//! `smmu-harness decode --dtb` and `--iort`: the device of a StreamID, by QEMU's own tables and by
//! trees that shift StreamIDs.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "../../smmu-hw-mmio/tests/firmware/dtb_builder.rs"]
#[expect(dead_code, reason = "the tests of smmu-hw-mmio use all of it")]
mod dtb_builder;

use std::fs;
use std::path::{Path, PathBuf};

use dtb_builder::{DtNode, node};
use rstest::rstest;

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../smmu-hw-mmio/tests/firmware");
const AUTO: &str = "arm-smmu-v3 arm-smmu-v3.4.auto:";

/// A translation fault of a stream, as the kernel prints it.
fn fault(sender: &str, stream: u64) -> String {
    let words = [stream << 32 | 0x10, 0x200_0000_0000, 0x1_0000, 0];
    let lines: String = words.iter().map(|word| format!("{sender} \t{word:#018x}\n")).collect();
    format!("{sender} event 0x10 received:\n{lines}")
}

/// A file below the folder that cargo gives to integration tests.
fn write(name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("device_names").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// Runs `decode` in the folder of QEMU's tables. The answer: standard output, standard error, exit
/// status.
fn decode(arguments: &[&str]) -> (String, String, i32) {
    common::smmu_harness(Path::new(KEPT), "decode", arguments)
}

/// The device that a report names for the fault of a log.
fn device(test: &str, log: &str, tables: &[&str]) -> String {
    let log = write(&format!("{test}.log"), log);
    let arguments = [tables, &["--format", "json", "-i", log.to_str().unwrap()]].concat();
    let (out, err, code) = decode(&arguments);
    assert_eq!((err.as_str(), code), ("", 0));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    report["device"].as_str().unwrap().to_owned()
}

/// QEMU maps Requester IDs to the same StreamIDs. `qemu-three.iort` has SMMUs at 0xc000000 (bus 0),
/// 0xc020000 (up to bus 8) and 0xc040000 (bus 12).
#[rstest]
#[case::one_smmu(AUTO, 0x8, "--dtb", "qemu.dtb", "/pcie@10000000 00:01.0 (device tree)")]
#[case::one_smmu_acpi(AUTO, 0x8, "--iort", "qemu.iort", "0000:00:01.0 (IORT)")]
#[case::linux_dt(
    "arm-smmu-v3 9050000.iommu:",
    0x1a,
    "--dtb",
    "qemu.dtb",
    "/pcie@10000000 00:03.2 (device tree)"
)]
#[case::xen(
    "(XEN) SMMUv3: /smmuv3@9050000:",
    0xff08,
    "--dtb",
    "qemu.dtb",
    "/pcie@10000000 ff:01.0 (device tree)"
)]
#[case::by_address(
    "arm-smmu-v3 c020000.iommu:",
    0x808,
    "--iort",
    "qemu-three.iort",
    "0000:08:01.0 (IORT)"
)]
#[case::unit_address(
    "arm-smmu-v3 smmuv3@c040000:",
    0xc08,
    "--iort",
    "qemu-three.iort",
    "0000:0c:01.0 (IORT)"
)]
#[case::only_one_has_it(
    AUTO,
    0xc08,
    "--iort",
    "qemu-three.iort",
    "0000:0c:01.0 behind the SMMU at 0xc040000 (IORT)"
)]
#[case::two_have_it(
    AUTO,
    0x8,
    "--iort",
    "qemu-three.iort",
    "one of: 0000:00:01.0 behind the SMMU at 0xc000000 (IORT), 0000:00:01.0 behind the SMMU at 0xc020000 (IORT)"
)]
#[case::of_another_smmu(
    "arm-smmu-v3 c040000.iommu:",
    0x8,
    "--iort",
    "qemu-three.iort",
    "none: no device has StreamID 0x8 behind the SMMU at 0xc040000 (IORT)"
)]
#[case::of_no_smmu(
    AUTO,
    0x2000,
    "--iort",
    "qemu-three.iort",
    "none: no device has StreamID 0x2000 behind any of 3 SMMUs"
)]
#[case::of_another_machine(
    "arm-smmu-v3 fd800000.iommu:",
    0x8,
    "--dtb",
    "qemu.dtb",
    "unknown: the tables have no SMMU at 0xfd800000"
)]
fn the_tables_of_qemu_name_devices(
    #[case] sender: &str,
    #[case] stream: u64,
    #[case] option: &str,
    #[case] table: &str,
    #[case] want: &str,
) {
    let test = format!("{table}-{stream:x}-{}", sender.len());
    assert_eq!(device(&test, &fault(sender, stream), &[option, table]), want);
}

#[test]
fn both_tables_together_are_asked() {
    let tables = ["--dtb", "qemu.dtb", "--iort", "qemu-three.iort"];
    let of = |sender, stream| device(&format!("both-{stream:x}"), &fault(sender, stream), &tables);
    assert_eq!(of("arm-smmu-v3 9050000.iommu:", 0x10), "/pcie@10000000 00:02.0 (device tree)");
    assert_eq!(of("arm-smmu-v3 c040000.iommu:", 0xc10), "0000:0c:02.0 (IORT)");
}

fn smmu(name: &str, phandle: u32, base: u32) -> DtNode {
    node(name)
        .strings("compatible", &["arm,smmu-v3"])
        .cells("reg", &[0, base, 0, 0x2_0000])
        .cells("#iommu-cells", &[1])
        .cells("phandle", &[phandle])
}

/// Bus 1 has StreamIDs from 0x4000 on, and a display has two of its own. The second SMMU lies on a bus
/// that moves its addresses, so the address in its node is not that of its registers.
fn shifting_tree(test: &str) -> PathBuf {
    let root = node("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    let bus = node("soc@40000000")
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2])
        .cells("ranges", &[0, 0, 0, 0x4000_0000, 0, 0x1000_0000])
        .child(smmu("iommu@60000", 2, 0x6_0000));
    let bridge = node("pcie@10000000")
        .strings("device_type", &["pci"])
        .cells("bus-range", &[0, 0xff])
        .cells("iommu-map", &[0x100, 1, 0x4000, 0x100]);
    let display = node("display@1").cells("iommus", &[2, 0x77, 2, 0x4008]);
    let tree = root.child(smmu("iommu@9000000", 1, 0x900_0000)).child(bus).child(bridge);
    write(&format!("{test}.dtb"), tree.child(display).blob())
}

#[rstest]
#[case::shifted("arm-smmu-v3 9000000.iommu:", 0x4008, "/pcie@10000000 01:01.0 (device tree)")]
#[case::by_the_path("(XEN) SMMUv3: /soc@40000000/iommu@60000:", 0x77, "/display@1 (device tree)")]
#[case::by_the_address("arm-smmu-v3 40060000.iommu:", 0x4008, "/display@1 (device tree)")]
#[case::not_requester_ids(
    "arm-smmu-v3 9000000.iommu:",
    0x108,
    "none: no device has StreamID 0x108 behind the SMMU at 0x9000000 (device tree)"
)]
#[case::both(
    AUTO,
    0x4008,
    "one of: /pcie@10000000 01:01.0 behind the SMMU at 0x9000000 (device tree), /display@1 behind the SMMU at 0x40060000 (device tree)"
)]
fn a_tree_may_shift_streams(#[case] sender: &str, #[case] stream: u64, #[case] want: &str) {
    let test = format!("shifting-{stream:x}-{}", sender.len());
    let tree = shifting_tree(&test);
    assert_eq!(device(&test, &fault(sender, stream), &["--dtb", tree.to_str().unwrap()]), want);
}

#[test]
fn words_without_a_log_are_named_too() {
    let event = ["event", "0x800000004", "0", "0", "0"];
    let (out, err, code) = decode(&[&["--iort", "qemu.iort"], &event[..]].concat());
    assert_eq!((err.as_str(), code), ("", 0));
    assert!(out.contains("  device   0000:00:01.0 (IORT)\n"), "{out}");
    // Without a table, the StreamID may be a Requester ID.
    let (out, ..) = decode(&event);
    assert!(out.contains("as a PCI requester ID 00:01.0, if it is one"), "{out}");
}

#[test]
fn a_folder_of_tables_is_searched() {
    let folder = write("tables/IORT", fs::read(Path::new(KEPT).join("qemu.iort")).unwrap());
    let folder = folder.parent().unwrap();
    fs::write(folder.join("APIC"), b"APIC\x24\0\0\0 and the rest of the table here").unwrap();
    let three = fs::read(Path::new(KEPT).join("qemu-three.iort")).unwrap();
    fs::write(folder.join("AAAA"), &three[..100]).unwrap();
    let path = folder.to_str().unwrap();
    let (out, err, code) = decode(&["--iort", path, "event", "0x800000004", "0", "0", "0"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("0000:00:01.0 (IORT)"), "{out}");
    // The broken table is told, and does not hide the other.
    assert!(err.starts_with("error: ") && err.contains("AAAA: byte 0x4 of IORT"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[rstest]
#[case("--dtb", "qemu.iort", "qemu.iort: is an IORT; give --iort")]
#[case("--iort", "qemu.dtb", "qemu.dtb: is a device tree; give --dtb")]
#[case("--iort", "qemu-none.iort", "qemu-none.iort: no SMMUv3 in it, so it names no device")]
#[case("--dtb", "absent", "absent: No such file or directory (os error 2)")]
fn a_wrong_table_is_told(#[case] option: &str, #[case] table: &str, #[case] want: &str) {
    let (out, err, code) = decode(&[option, table, "event", "0x800000004", "0", "0", "0"]);
    assert_eq!((out.as_str(), err, code), ("", format!("error: {want}\n"), 2));
}

/// `decode` refuses a broken file in the words of `lint`.
#[test]
fn a_broken_table_is_told_as_by_lint() {
    let cut = |table: &str| fs::read(Path::new(KEPT).join(table)).unwrap()[..100].to_vec();
    for (option, table) in [
        ("--dtb", write("cut.dtb", cut("qemu.dtb"))),
        ("--iort", write("cut.iort", cut("qemu.iort"))),
        ("--dtb", write("source.dts", "/dts-v1/;\n/ { };\n")),
        ("--iort", write("empty", "")),
    ] {
        let path = table.to_str().unwrap();
        let (_, told, _) = common::smmu_harness(Path::new(KEPT), "lint", &[path]);
        assert!(told.starts_with(&format!("error: {path}: ")), "{told}");
        let (out, err, code) = decode(&[option, path, "event", "0x800000004", "0", "0", "0"]);
        assert_eq!((out.as_str(), err, code), ("", told, 2));
    }
}

/// A storm of one stream asks the tables once: 20,000 records in JSON end in time.
#[test]
fn a_log_with_many_records_of_a_stream_is_quick() {
    let log: String = (0..20_000).map(|_| fault("arm-smmu-v3 c040000.iommu:", 0xc08)).collect();
    let log = write("storm.log", log);
    let path = log.to_str().unwrap();
    let (out, _, code) = decode(&["--iort", "qemu-three.iort", "--format", "json", "-i", path]);
    assert_eq!(code, 0);
    let named = out.lines().filter(|line| line.contains("\"device\":\"0000:0c:01.0 (IORT)\""));
    assert_eq!(named.count(), 20_000);
}
