//! What `decode`, `explain` and `probe` take besides text, and what they print of much of it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rstest::rstest;

fn harness(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file below the folder that cargo gives to integration tests.
fn write(name: &str, content: &[u8]) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn fault(time: u64, stream: u64, address: u64) -> String {
    let words = [stream << 32 | 0x10, 0x200_0000_0000, address, 0];
    let who = format!("[{time}.000000] arm-smmu-v3 arm-smmu-v3.4.auto:");
    let lines: String = words.iter().map(|word| format!("{who} \t{word:#018x}\n")).collect();
    format!("{who} event 0x10 received:\n{lines}")
}

fn packed(log: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(log.as_bytes()).unwrap();
    packer.finish().unwrap()
}

#[test]
fn a_log_may_be_packed_by_gzip() {
    let log = fault(1, 0x4402, 0xfe00_1000);
    // Rotated logs are joined by `cat`.
    let file = write("kern.log.1.gz", &[packed(&log), packed(&fault(2, 0x4403, 0x1000))].concat());
    let out = harness(&["decode", "--brief", "-i", &file]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let out = text(&out.stdout);
    assert!(out.contains("sid=0x4402") && out.contains("sid=0x4403"), "{out}");
}

#[test]
fn a_damaged_gzip_keeps_what_comes_before() {
    let log: String = (0..4000).map(|n| fault(n, 0x4402, n << 12)).collect();
    let whole = packed(&log);
    let file = write("cut.log.gz", &whole[..whole.len() - 100]);
    let out = harness(&["decode", "--brief", "-i", &file]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("cannot read the input"), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("sid=0x4402"));
}

#[rstest]
#[case(b"\xfd7zXZ\0 and more", "xz")]
#[case(b"\x28\xb5\x2f\xfd and more", "zstd")]
#[case(b"BZh91AY", "bzip2")]
fn other_compression_is_named(#[case] content: &[u8], #[case] name: &str) {
    let out = harness(&["decode", "-i", &write(&format!("log.{name}"), content)]);
    assert_eq!(out.status.code(), Some(2));
    let said = text(&out.stderr);
    assert!(said.contains(name) && said.contains("-dc"), "{said}");
}

#[test]
fn a_directory_is_named() {
    let out = harness(&["decode", "-i", env!("CARGO_TARGET_TMPDIR")]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("is a directory"), "{}", text(&out.stderr));
}

/// A ring as it is in memory: little-endian, 16 bytes a command.
#[test]
fn a_ring_is_decoded() {
    let mut ring: Vec<u8> = Vec::new();
    for word in [0x8_0000_0003u64, 1, 0x46, 0, 0, 0, 0, 0, 0x30, 0] {
        ring.extend(word.to_le_bytes());
    }
    ring.extend(0x46u64.to_le_bytes());
    ring.extend([0xaa; 3]);
    let file = write("ring.bin", &ring);
    let out = harness(&["decode", "cmd", "--brief", "-i", &file]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let out = text(&out.stdout);
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].starts_with("command CFGI_STE sid=0x8")
            && lines[0].contains("slot 0x0, offset 0x0"),
        "{out}"
    );
    assert!(lines[1].starts_with("command SYNC") && lines[1].contains("offset 0x10"), "{out}");
    assert_eq!(lines[2], "note slots 0x2 to 0x3 are zero");
    assert!(lines[3].starts_with("command TLBI_NSNH_ALL"), "{out}");
    assert!(lines[4].contains("SYNC") && lines[4].contains("1 of 2 words"), "{out}");

    let unnamed = harness(&["decode", "-i", &file]);
    assert_eq!(unnamed.status.code(), Some(2));
    assert!(text(&unnamed.stderr).contains("decode cmd -i"), "{}", text(&unnamed.stderr));
}

#[test]
fn a_ring_of_events_and_a_stream_table_are_decoded() {
    let mut ring = Vec::new();
    for word in [0x4402_0000_0010u64, 0x200_0000_0000, 0xfe00_1000, 0] {
        ring.extend(word.to_le_bytes());
    }
    ring.resize(32 * 8, 0);
    let out = harness(&["decode", "event", "--brief", "-i", &write("events.bin", &ring)]);
    let out = text(&out.stdout);
    assert!(
        out.contains("F_TRANSLATION sid=0x4402") && out.contains("slots 0x1 to 0x7 are zero"),
        "{out}"
    );
    let mut table = vec![0; 64 * 16];
    table[64 * 2..][..8].copy_from_slice(&0x4000_000bu64.to_le_bytes());
    let out = text(&harness(&["decode", "ste", "--brief", "-i", &write("ste.bin", &table)]).stdout);
    assert!(
        out.contains("slot 0x2, offset 0x80") && out.contains("S1ContextPtr=0x40000000"),
        "{out}"
    );
}

/// 20,000 faults are not 20,000 explanations.
#[test]
fn a_storm_is_a_table() {
    let log: String = (0..20_000).map(|n| fault(n, 0x4402, (n % 300) << 12)).collect();
    let file = write("storm.log", log.as_bytes());
    let out = harness(&["decode", "-i", &file]);
    let out = text(&out.stdout);
    assert!(out.lines().count() < 200, "{}", out.lines().count());
    let last = out.lines().last().unwrap();
    let row: Vec<&str> = last.split_whitespace().collect();
    assert_eq!(
        row,
        [
            "20000",
            "arm-smmu-v3.4.auto",
            "F_TRANSLATION",
            "0x4402",
            "0x0",
            "to",
            "0x12b000",
            "0.000000",
            "19999.000000"
        ]
    );
    let summary = text(&harness(&["decode", "--summary", "-i", &file]).stdout);
    assert_eq!(summary.lines().count(), 2, "{summary}");
    assert_eq!(summary.lines().last(), Some(last));
    // Machines get each.
    let json = text(&harness(&["decode", "--format", "json", "-i", &file]).stdout);
    assert_eq!(json.lines().count(), 20_000);
}

/// 6.3.6 and 6.3.1: what a board's registers say, and what they cannot say.
#[test]
fn probe_takes_the_registers_of_a_board() {
    let all = "IDR0=0x0d44101b,IDR1=0x02730010,IDR3=0x1414,IDR5=0x74,AIDR=0x1,IIDR=0x0000043b";
    let out = harness(&["probe", "--idr", all]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let out = text(&out.stdout);
    for line in [
        "architecture     SMMUv3.1",
        "output address   44 bits",
        "StreamID         16 bits",
        "range commands   yes",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(!out.contains("unknown"), "{out}");
    let out = text(&harness(&["probe", "--idr", "IDR0=0x0d44101b"]).stdout);
    for line in [
        "output address   unknown: IDR5 is not given",
        "range commands   unknown: IDR3",
        "architecture     unknown: AIDR",
        "translation      stage 1, stage 2",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let json = harness(&["probe", "--format", "json", "--idr", "IDR0=0x0d44101b"]);
    let json: serde_json::Value = serde_json::from_str(&text(&json.stdout)).unwrap();
    assert_eq!(json["not_given"], serde_json::json!(["IDR1", "IDR3", "IDR5", "AIDR", "IIDR"]));
    assert_eq!(json["schema"], 1);
    assert_eq!(json["type"], "probe");
    assert_eq!(harness(&["probe", "--idr", all, "--backend", "mock"]).status.code(), Some(2));
    assert_eq!(harness(&["probe", "--idr", "CR0=1"]).status.code(), Some(2));
}

/// A program that reads the objects one by one knows each by its `type`.
#[rstest]
#[case(&["--backend", "mock"])]
#[case(&["--idr", "IDR0=0x0d44101b"])]
fn every_object_of_a_probe_has_a_type(#[case] of: &[&str]) {
    let out = harness(&[&["probe", "--format", "json"], of].concat());
    let whole: serde_json::Value = serde_json::from_str(&text(&out.stdout)).unwrap();
    assert_eq!(whole["schema"], 1);
    let mut left = vec![&whole];
    let mut types = std::collections::BTreeMap::new();
    while let Some(value) = left.pop() {
        if let Some(fields) = value.as_object() {
            let kind = fields.get("type").and_then(|kind| kind.as_str());
            *types.entry(kind.unwrap_or_else(|| panic!("{value}"))).or_insert(0) += 1;
            left.extend(fields.values());
        }
        left.extend(value.as_array().into_iter().flatten());
    }
    // 6.3.1 to 6.3.9: IDR0 to IDR6, IIDR and AIDR.
    assert_eq!((types["register"], types["fields"]), (9, 9));
    assert_eq!((types["probe"], types["capabilities"], types["registers"]), (1, 1, 1));
    assert!(types["field"] > 50);
}

/// `0b1000` is 8 for its writer, and 0xb1000 for a reader of hexadecimal.
#[rstest]
#[case(&["decode", "ste", "0b1000", "0", "0", "0", "0", "0", "0", "0"], "argument 2, column 1", "give it as 0x8")]
#[case(&["decode", "gerror", "0b100"], "argument 2, column 1", "give it as 0x4")]
#[case(&["decode", "GERROR=0b100"], "argument 1, column 8", "give it as 0x4")]
#[case(&["probe", "--idr", "IDR0=0b11"], "--idr: IDR0", "give it as 0x3")]
#[case(&["decode", "event", "1", "0", "0", "0", "--idr", "IDR5=0b111"], "--idr: IDR5", "give it as 0x7")]
#[case(&["explain", "--common", "IDR0=0b11", "IDR0=1"], "SMMU 1: IDR0", "give it as 0x3")]
#[case(&["explain", "--backend", "mock", "--base", "stage1", "--ssid", "0b101"], "--ssid", "as 0x5")]
#[case(&["explain", "--backend", "mock", "--sid", "0b101", "--strtab-cfg", "8"], "--sid", "as 0x5")]
fn binary_is_never_read_as_hexadecimal(
    #[case] arguments: &[&str],
    #[case] place: &str,
    #[case] advice: &str,
) {
    let out = harness(arguments);
    let said = text(&out.stderr);
    assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(2), ""), "{said}");
    assert!(said.contains(place) && said.contains(advice), "{said}");
}

/// `STE.Config` has bits 3:1; a configuration with Config = 0b100 is bypass.
#[test]
fn a_field_may_be_set_in_binary() {
    let set = |value: &str| {
        let out = harness(&["explain", "--backend", "mock", "--base", "bypass", "--set", value]);
        (text(&out.stdout), text(&out.stderr), out.status.code())
    };
    assert_eq!(set("Config=0b100"), set("Config=4"));
    assert_eq!(set("S1CDMax=0b1_0"), set("S1CDMax=2"));
    assert_eq!(set("Config=0b100").2, Some(0));
    let wide = set("Config=0b1000");
    assert_eq!((wide.2, wide.0.as_str()), (Some(2), ""));
    assert_eq!(set("Config=0b2").2, Some(2));
}

#[rstest]
#[case(&["decode", "evnt", "0x10", "0", "0", "0"], "\"evnt\"", "did you mean \"event\"?")]
#[case(&["decode", "GEROR=1"], "\"GEROR\"", "did you mean \"GERROR\"?")]
#[case(&["decode", "0x10", "cmdq_cosn", "1"], "argument 2, column 1: \"cmdq_cosn\"", "did you mean \"CMDQ_CONS\"?")]
#[case(&["decode", "event", "1", "--idr", "IDRO=1"], "\"IDRO\"", "did you mean IDR0?")]
#[case(&["explain", "--backend", "mock", "--set", "STE.Confg=4"], "\"STE.Confg\"", "did you mean Config?")]
#[case(&["explain", "--backend", "mock", "--set", "CD.T0SX=4"], "\"CD.T0SX\"", "did you mean T0SZ?")]
fn a_typo_gets_the_name_that_was_meant(
    #[case] arguments: &[&str],
    #[case] what: &str,
    #[case] meant: &str,
) {
    let out = harness(arguments);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains(what) && said.contains(meant), "{said}");
}

/// A word with a wrong digit, or another word, is no typo of a kind.
#[rstest]
#[case(&["decode", "ste", "0x12g4"])]
#[case(&["decode", "hello", "1"])]
fn what_is_no_typo_gets_no_name(#[case] arguments: &[&str]) {
    let out = harness(arguments);
    assert_eq!(out.status.code(), Some(2));
    assert!(!text(&out.stderr).contains("did you mean"), "{}", text(&out.stderr));
}

/// Lines that lack the name of the SMMU: no report has an empty name in its origin.
#[test]
fn no_origin_has_an_empty_name() {
    let lines = [
        "arm-smmu-v3 : event 0x10 received:",
        "event 0x10 received:",
        "arm-smmu-v3 : CMD_SYNC timeout at 0x00012044 [hwprod 0x00012045, hwcons 0x00011e00]",
        "smmu: CMD_SYNC timeout at 0x00012044 [hwprod 0x00012045, hwcons 0x00011e00]",
        "CMD_SYNC timeout at 0x00012044 [hwprod 0x00012045, hwcons 0x00011e00]",
        "arm-smmu-v3 : unexpected global error reported (0x00000001), this could be serious",
        "unexpected global error reported (0x00000001), this could be serious",
        "arm-smmu-v3 : skipping command in error state:",
        "skipping command in error state:",
        "arm-smmu-v3 : CMDQ error (cons 0x0302bb84): Illegal command",
    ];
    let words = "\t0x0000000800000010\n\t0x0000020000000000\n\t0x0000000000010000\n\t0x0\n";
    let mut decoded = 0;
    for (n, line) in lines.iter().enumerate() {
        let file = write(&format!("nameless-{n}.log"), format!("{line}\n{words}").as_bytes());
        for view in [&["--brief"][..], &[]] {
            let out = harness(&[&["decode", "-i", &file], view].concat());
            let out = text(&out.stdout) + &text(&out.stderr);
            decoded += usize::from(out.contains("(line 1, Linux"));
            for empty in [", ,", "(,", ", )", " of :"] {
                assert!(!out.contains(empty), "{line}: {out}");
            }
        }
    }
    assert!(decoded > 6, "{decoded}");
}

/// A file in the place of words is meant to be read.
#[test]
fn a_file_among_the_words_is_told_where_to_go() {
    let file = write("meant.log", fault(1, 0x4402, 0xfe00_1000).as_bytes());
    let out = harness(&["decode", &file]);
    assert_eq!(out.status.code(), Some(2));
    let told = format!("{file} is a file; read it with --input {file}");
    assert!(text(&out.stderr).contains(&told), "{}", text(&out.stderr));
}
