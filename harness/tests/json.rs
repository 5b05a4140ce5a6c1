//! `--format json` of every command: each line is an object with the `schema` version, and every
//! object has a `type`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rstest::rstest;
use serde_json::Value;

/// Counts the objects of each type in the JSON that a command prints, and checks each.
fn types(arguments: &[&str], input: &[u8]) -> BTreeMap<String, usize> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../smmu-hw-mmio/tests/firmware"))
        .args(arguments)
        .args(["--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let mut types = BTreeMap::new();
    for line in out.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["schema"], 1, "{line}");
        let mut left = vec![&line];
        while let Some(value) = left.pop() {
            if let Some(fields) = value.as_object() {
                let kind = fields.get("type").and_then(Value::as_str);
                assert!(kind.is_some(), "{value}");
                *types.entry(kind.unwrap().to_owned()).or_default() += 1;
                left.extend(fields.values());
            }
            left.extend(value.as_array().into_iter().flatten());
        }
    }
    types
}

const STE: &str = "0x000000ff4000000b";

#[rstest]
#[case::list(&["list"], &["built-in scenario"])]
#[case::run(&["run", "first-light"], &["scenario", "snapshot", "summary"])]
#[case::a_failed_run(
    &["run", "first-light", "--sabotage", "unmap-without-tlbi"],
    &["scenario", "failure", "hazard", "summary"]
)]
#[case::probe(&["probe"], &["probe", "capabilities", "registers", "register", "fields", "field"])]
#[case::probe_of_registers(&["probe", "--idr", "IDR0=0x0d44101b"], &["probe", "registers"])]
#[case::words(
    &["decode", "0x0000000800000010", "0x0000020000000000", "0x10000", "0"],
    &["structure", "field"]
)]
#[case::reserved_bits(&["decode", "gerror", "0x80000001"], &["structure", "field", "bits"])]
#[case::a_judged_ste(
    &["decode", "ste", STE, "0xd4", "0", "0", "0", "0", "0", "0", "--idr", "IDR0=0x0d44101b"],
    &["structure", "field"]
)]
#[case::a_refused_ste(
    &["explain", "ste", STE, "0xd4", "0", "0", "0", "0", "0", "0", "--idr", "IDR0=0,IDR5=0"],
    &["explanation", "finding"]
)]
#[case::an_ste_that_cannot_be_judged(
    &["explain", "ste", STE, "0xd4", "0", "0", "0", "0", "0", "0", "--idr", "IDR0=0x0d44101b"],
    &["explanation", "missing register"]
)]
#[case::an_event_by_name(&["explain", "F_TRANSLATION"], &["topic"])]
#[case::a_command_by_name(&["explain", "TLBI_EL2_ALL"], &["topic"])]
#[case::an_error_by_name(&["explain", "CERROR_ILL"], &["topic"])]
#[case::several_smmus(
    &["explain", "--common", "IDR0=0x0d44101b,IDR5=0x54", "IDR0=0x0d44101a"],
    &["common", "registers", "limit", "missing register"]
)]
#[case::device_tree(
    &["lint", "qemu.dtb", "qemu.iort"],
    &["smmu", "interrupts", "device", "mapping", "summary"]
)]
fn every_object_has_a_type(#[case] arguments: &[&str], #[case] wanted: &[&str]) {
    let types = types(arguments, b"");
    for kind in wanted {
        assert!(types.contains_key(*kind), "{kind}: {types:?}");
    }
}

const LOG: &str = "\
[1.0] arm-smmu-v3 arm-smmu-v3.4.auto: ias 48-bit, oas 48-bit (features 0x001c1e8f)
[2.0] usb 1-1: new device
[3.0] arm-smmu-v3 arm-smmu-v3.4.auto: event 0x02 received:
[3.0] arm-smmu-v3 arm-smmu-v3.4.auto: \t0x0000440000000002
";

#[rstest]
#[case::log(&["decode"], &[("note", 1), ("structure", 1)])]
#[case::passed_lines(&["decode", "--pass"], &[("note", 1), ("other", 1), ("structure", 1)])]
#[case::summary(&["decode", "--summary"], &[("events", 1)])]
fn every_object_of_a_log_has_a_type(#[case] arguments: &[&str], #[case] wanted: &[(&str, usize)]) {
    let types = types(arguments, LOG.as_bytes());
    for (kind, count) in wanted {
        assert_eq!(types.get(*kind), Some(count), "{kind}: {types:?}");
    }
    // Nothing else but what lies within a structure.
    let lines: usize = wanted.iter().map(|(_, count)| count).sum();
    let parts = ["field", "bits"].map(|part| types.get(part).copied().unwrap_or(0));
    assert_eq!(types.values().sum::<usize>(), lines + parts.iter().sum::<usize>(), "{types:?}");
}

#[test]
fn every_object_of_a_ring_has_a_type() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("typed-ring.bin");
    // CFGI_ALL (4.3.3): opcode 4, Range 31. Then a slot that was never filled.
    let words = [0x04u64, 31, 0, 0];
    std::fs::write(&path, words.map(u64::to_le_bytes).concat()).unwrap();
    let types = types(&["decode", "cmd", "-i", path.to_str().unwrap()], b"");
    assert_eq!((types["structure"], types["note"]), (1, 1));
}
