//! `smmu-harness lint`: QEMU's own tables, hand-made wrong ones, and bytes that are no table.
//!
//! With `SMMU_NO_QEMU=1` what needs QEMU is ignored.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;
#[path = "../../smmu-hw-mmio/tests/firmware/dtb_builder.rs"]
#[expect(dead_code, reason = "the tests of smmu-hw-mmio use all of it")]
mod dtb_builder;
#[path = "../../smmu-hw-mmio/tests/firmware/iort_builder.rs"]
#[expect(dead_code, reason = "the tests of smmu-hw-mmio use all of it")]
mod iort_builder;
#[path = "lint/qemu.rs"]
mod qemu;
#[path = "lint/wrong.rs"]
mod wrong;

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Trial};

const SNAPSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../snapshots/lint");
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../smmu-hw-mmio/tests/firmware");

const SNAPSHOT_NAMES: [&str; 9] = [
    "qemu-dtb",
    "qemu-iort",
    "qemu-iort-none",
    "qemu-iort-three",
    "wrong-dtb",
    "wrong-dtb-json",
    "wrong-iort",
    "wrong-iort-json",
    "good-dtb",
];

fn main() {
    let plain = [
        common::trial("the_tables_of_qemu", the_tables_of_qemu),
        common::trial("wrong_tables", wrong_tables),
        common::trial("a_good_tree_has_no_finding", a_good_tree_has_no_finding),
        common::trial("json_is_one_object_a_line", json_is_one_object_a_line),
        common::trial("a_folder_is_searched", a_folder_is_searched),
        common::trial("several_tables_in_a_file", several_tables_in_a_file),
        common::trial("what_is_no_table_is_told", what_is_no_table_is_told),
        common::trial("hostile_tables_end_in_time", hostile_tables_end_in_time),
        common::trial("snapshots_belong_to_tests", snapshots_belong_to_tests),
    ];
    let left_out = common::qemu_is_left_out();
    let qemu = qemu::trials().map(|trial| trial.with_ignored_flag(left_out));
    let trials: Vec<Trial> = plain.into_iter().chain(qemu).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Runs `lint` in this folder. The answer: standard output, standard error, exit status.
fn lint(folder: &Path, arguments: &[&str]) -> (String, String, i32) {
    common::smmu_harness(folder, "lint", arguments)
}

/// All of it as one text.
fn whole(folder: &Path, arguments: &[&str]) -> String {
    let (mut out, err, code) = lint(folder, arguments);
    if !err.is_empty() {
        out.push_str(&format!("--- standard error\n{err}"));
    }
    format!("$ smmu-harness lint {}\n{out}--- exit status {code}", arguments.join(" "))
}

fn matches(name: &str, folder: &Path, arguments: &[&str]) {
    assert!(SNAPSHOT_NAMES.contains(&name), "{name} is not in the list");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(SNAPSHOTS);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, whole(folder, arguments)));
}

/// An empty folder of this name.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lint").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn the_tables_of_qemu() {
    let kept = Path::new(KEPT);
    matches("qemu-dtb", kept, &["qemu.dtb"]);
    matches("qemu-iort", kept, &["qemu.iort"]);
    matches("qemu-iort-none", kept, &["qemu-none.iort"]);
    matches("qemu-iort-three", kept, &["qemu-three.iort"]);
}

fn wrong_tables() {
    let here = folder("wrong");
    fs::write(here.join("wrong.dtb"), wrong::device_tree()).unwrap();
    fs::write(here.join("wrong.iort"), wrong::iort()).unwrap();
    matches("wrong-dtb", &here, &["wrong.dtb"]);
    matches("wrong-iort", &here, &["wrong.iort"]);
    matches("wrong-dtb-json", &here, &["wrong.dtb", "--format", "json"]);
    matches("wrong-iort-json", &here, &["wrong.iort", "--format", "json"]);
}

fn a_good_tree_has_no_finding() {
    let here = folder("good");
    fs::write(here.join("good.dtb"), wrong::good_device_tree()).unwrap();
    matches("good-dtb", &here, &["good.dtb"]);
}

fn json_is_one_object_a_line() {
    let (out, err, code) = lint(Path::new(KEPT), &["qemu.dtb", "qemu.iort", "--format", "json"]);
    assert_eq!((err.as_str(), code), ("", 0));
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(of("summary").len(), 2);
    for smmu in of("smmu") {
        assert_eq!(smmu["base"], 0x0905_0000);
        assert_eq!(smmu["interrupts"]["eventq"], 106);
    }
    let bridge = of("device").into_iter().find(|one| one["name"] == "/pcie@10000000").unwrap();
    assert_eq!(bridge["mappings"][0]["inputs"], serde_json::json!([0, 0xffff]));
}

/// As `/sys/firmware/acpi/tables` has them.
fn a_folder_is_searched() {
    let here = folder("tables");
    let kept = |name: &str| fs::read(Path::new(KEPT).join(name)).unwrap();
    fs::write(here.join("APIC"), b"APIC\x24\0\0\0 and the rest of the table here").unwrap();
    fs::create_dir(here.join("data")).unwrap();
    fs::write(here.join("data").join("IORT"), b"IORT of no interest").unwrap();
    let (out, err, code) = lint(&here, &["."]);
    let told = "error: .: no IORT and no device tree in 1 file\n";
    assert_eq!((out.as_str(), err.as_str(), code), ("", told, 2));

    fs::write(here.join("IORT"), kept("qemu.iort")).unwrap();
    let (out, err, code) = lint(&here, &["."]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert!(out.starts_with("./IORT: IORT, 1 SMMUv3, 1 device behind an SMMUv3\n"), "{out}");

    // A broken table does not hide the others.
    fs::write(here.join("AAAA"), &kept("qemu-three.iort")[..100]).unwrap();
    let (out, err, code) = lint(&here, &["."]);
    assert!(out.starts_with("./IORT: IORT, 1 SMMUv3"), "{out}");
    let told = "error: ./AAAA: byte 0x4 of IORT: the header says 472 bytes, but only 100 are here; \
                read the whole table\n";
    assert_eq!((err.as_str(), code), (told, 2));
}

fn several_tables_in_a_file() {
    let here = folder("several");
    let iort = fs::read(Path::new(KEPT).join("qemu.iort")).unwrap();
    let mut all = b"DSDT\x28\0\0\0".to_vec();
    all.resize(0x28, 7);
    all.extend(&iort);
    all.extend([0; 20]);
    all.extend(b"XSDT\x24\0\0\0");
    all.resize(all.len() + 0x1c, 9);
    fs::write(here.join("tables"), &all).unwrap();
    let (out, err, code) = lint(&here, &["tables"]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert!(out.starts_with("tables at byte 0x28: IORT, 1 SMMUv3"), "{out}");

    fs::write(here.join("others"), &all[0x28 + iort.len()..]).unwrap();
    fs::write(here.join("dsdt"), &all[..0x28]).unwrap();
    let (_, err, code) = lint(&here, &["dsdt"]);
    assert_eq!((err.as_str(), code), ("error: dsdt: no IORT among DSDT\n", 2));
}

fn what_is_no_table_is_told() {
    let here = folder("none");
    fs::write(here.join("empty"), b"").unwrap();
    fs::write(here.join("source"), b"/dts-v1/;\n/ { };\n").unwrap();
    fs::write(here.join("cut.dtb"), &wrong::good_device_tree()[..90]).unwrap();
    let huge = fs::File::create(here.join("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    for (name, want) in [
        ("absent", "absent: No such file or directory (os error 2)"),
        (
            "empty",
            "empty: neither a flattened device tree (.dtb) nor an ACPI table; of source text, give what its compiler makes of it",
        ),
        (
            "source",
            "source: neither a flattened device tree (.dtb) nor an ACPI table; of source text, give what its compiler makes of it",
        ),
        ("huge", "huge: longer than 16777216 bytes; no firmware table is"),
    ] {
        let (out, err, code) = lint(&here, &[name]);
        assert_eq!((out.as_str(), err, code), ("", format!("error: {want}\n"), 2));
    }
    let (_, err, code) = lint(&here, &["cut.dtb"]);
    assert!(err.contains("cut.dtb: byte 0x4 of the device tree: the header says"), "{err}");
    assert_eq!(code, 2);
    assert_eq!(lint(&here, &[]).2, 2);
}

/// The largest tables that are read, each with as much of one thing as fits. The test runner ends a
/// test that hangs.
fn hostile_tables_end_in_time() {
    let here = folder("hostile");
    for (name, table, want) in wrong::hostile() {
        fs::write(here.join(name), table).unwrap();
        let (out, err, code) = lint(&here, &[name]);
        assert_eq!((err.as_str(), code), ("", 1), "{name}");
        assert!(out.contains(want), "{name}: {}", &out[out.len().saturating_sub(2000)..]);
    }
}

fn snapshots_belong_to_tests() {
    for file in fs::read_dir(SNAPSHOTS).unwrap() {
        let file = file.unwrap().file_name().to_string_lossy().into_owned();
        let stem = file.strip_suffix(".snap").unwrap_or(&file);
        assert!(SNAPSHOT_NAMES.contains(&stem), "snapshots/lint/{file} belongs to no test");
    }
}
