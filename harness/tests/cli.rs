//! What the command line prints and how it ends.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rstest::rstest;

fn harness(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .args(arguments)
        .env_remove("SMMU_QEMU")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file below the folder that cargo gives to integration tests.
fn write(name: &str, content: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn list_names_every_scenario_and_what_it_needs() {
    let human = harness(&["list"]);
    assert_eq!(human.status.code(), Some(0));
    assert!(text(&human.stdout).contains("first-light"));
    let json = harness(&["list", "--format", "json"]);
    let lines: Vec<serde_json::Value> =
        text(&json.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 58);
    let exhausted = lines.iter().find(|line| line["name"] == "tags-exhausted").unwrap();
    assert_eq!(exhausted["backends"], serde_json::json!(["mock"]));
    assert_eq!(exhausted["needs"], serde_json::json!(["stage1", "asid8"]));
}

/// The two files are made from the types of the format:
/// `smmu-harness schema > harness/scenarios/scenario.schema.json`, and the same with
/// `--form markdown > harness/scenarios/REFERENCE.md`.
#[test]
fn schema_and_reference_page_are_up_to_date() {
    let scenarios = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    for (form, file) in [("json", "scenario.schema.json"), ("markdown", "REFERENCE.md")] {
        let now = text(&harness(&["schema", "--form", form]).stdout);
        let kept = std::fs::read_to_string(scenarios.join(file)).unwrap();
        assert!(now == kept, "{file} differs; write what `schema --form {form}` prints");
    }
    let page = text(&harness(&["schema", "--form", "markdown"]).stdout);
    for said in ["### `restart`", "| `oas` |", "`\"cannot-share\"`", "| `TLBI_NH_VA` |"] {
        assert!(page.contains(said), "{said}");
    }
    for file in scenarios.read_dir().unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            let scenario = std::fs::read_to_string(&path).unwrap();
            assert!(scenario.starts_with("#:schema ./scenario.schema.json\n"), "{path:?}");
        }
    }
}

#[test]
fn run_passes_every_scenario_on_the_model() {
    let run = harness(&["run"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stdout));
    let out = text(&run.stdout);
    assert!(out.contains("mock: 58 passed, 0 failed, 0 skipped in "), "{out}");
    // Results alone on standard output, and no colour away from a terminal.
    assert!(!out.contains('\x1b'));
    assert!(run.stderr.is_empty(), "{}", text(&run.stderr));
}

#[test]
fn run_prints_which_commands_reached_which_queue() {
    let out = text(&harness(&["run", "first-light"]).stdout);
    assert!(out.contains("command   smmu0 TLBI_NH_VA vmid=0 asid=1 va=0x10000"), "{out}");
    let json = text(&harness(&["run", "first-light", "--format", "json"]).stdout);
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["outcome"], "passed");
    assert!(lines[0]["transcript"].as_array().unwrap().iter().any(|line| {
        line["kind"] == "command" && line["smmu"] == "smmu0" && line["raw"].is_array()
    }));
    assert_eq!((&lines[1]["type"], &lines[1]["passed"]), (&"summary".into(), &1.into()));
    let mut tagged = 0;
    lines.iter().for_each(|line| every_object_has_a_type(line, &mut tagged));
    assert!(tagged > 20, "{tagged}");
    assert!(lines.iter().all(|line| line["schema"] == 1));
}

fn every_object_has_a_type(value: &serde_json::Value, tagged: &mut usize) {
    match value {
        serde_json::Value::Object(fields) => {
            assert!(fields.get("type").is_some_and(serde_json::Value::is_string), "{value}");
            *tagged += 1;
            fields.values().for_each(|value| every_object_has_a_type(value, tagged));
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| every_object_has_a_type(value, tagged));
        }
        _ => {}
    }
}

#[test]
fn a_broken_driver_makes_the_run_fail() {
    let run = harness(&["run", "first-light", "--sabotage", "unmap-without-tlbi"]);
    assert_eq!(run.status.code(), Some(1));
    let out = text(&run.stdout);
    assert!(out.contains("FAILED    first-light"), "{out}");
    assert!(out.contains("missing: TLBI_NH_VA"), "{out}");
    // The failed names come once more, at the end.
    let last: Vec<&str> = out.lines().rev().take(2).collect();
    assert_eq!(last[1], "failed: first-light", "{out}");
}

/// Without the driver's invalidation the device still reaches the page: the DMA fails, and the model
/// knows why.
const STALE: &str = "\
title = \"t\"
needs = [\"stage1\"]
pages = [\"A\"]
smmu = [{ name = \"smmu0\" }]
device = [{ name = \"dev0\", smmu = \"smmu0\", stream = 8 }]
domain = [{ name = \"D\", stage = \"s1\" }]
step = [
    { attach = { device = \"dev0\", to = \"D\" } },
    { map = { domain = \"D\", iova = 0x10000, page = \"A\" } },
    { dma = { device = \"dev0\", iova = 0x10000, reaches = \"A\" } },
    { poke = { domain = \"D\", iova = 0x10000 } },
    { dma = { device = \"dev0\", iova = 0x10000, faults = \"F_TRANSLATION\" } },
]
";

#[test]
fn a_failure_names_its_line_what_was_expected_what_happened_and_the_missing_command() {
    let path = write("stale.toml", STALE.as_bytes());
    let path = path.to_str().unwrap();
    let out = harness(&["run", path]);
    assert_eq!(out.status.code(), Some(1));
    let out = text(&out.stdout);
    let at = out.find("FAILED    stale").unwrap();
    let said: Vec<&str> = out[at..].lines().map(str::trim).collect();
    assert_eq!(said[1], format!("{path}:12: step 5: dev0 writes to 0x10000"));
    assert_eq!(said[2], "expected  the SMMU refuses the write with one F_TRANSLATION");
    assert_eq!(said[3], "happened  it reached page A, without an event");
    assert!(said[4].starts_with("hazard    smmu0: "), "{out}");
    assert!(said[4].contains("missing: TLBI_NH_VA vmid=0 asid=1 va=0x10000"), "{out}");
    assert!(!out.contains("Page(") && !out.contains("Written"), "{out}");

    let json = text(&harness(&["run", path, "--format", "json"]).stdout);
    let line: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    let failure = &line["failure"];
    assert_eq!((&line["outcome"], &failure["type"]), (&"failed".into(), &"failure".into()));
    assert_eq!((&failure["file"], &failure["line"]), (&path.into(), &12.into()));
    let missing = failure["hazards"][0]["missing"].as_str().unwrap();
    assert!(missing.starts_with("TLBI_NH_VA"), "{missing}");
}

#[test]
fn a_command_can_name_the_asid_of_a_domain() {
    let file = format!(
        "{GOOD}[[step]]\ncommand = {{ smmu = \"smmu0\", send = [{{ TLBI_NH_ASID = {{ domain = \"D\" }} }}] \
         }}\n[[step]]\nexpect = {{ smmu = \"smmu0\", sent = [\"TLBI_NH_ASID vmid=0 asid=1\", \"SYNC\"] }}\n"
    );
    let path = write("own-asid.toml", file.as_bytes());
    let out = harness(&["run", path.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stdout));
}

#[test]
fn a_strict_run_passes_where_nothing_is_left_out() {
    assert_eq!(harness(&["run", "two-queues", "--strict"]).status.code(), Some(0));
}

#[test]
fn a_blessed_transcript_is_compared_and_the_difference_is_shown() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("blessed");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let (file, snapshot) = (folder.join("my.toml"), folder.join("my.snap"));
    std::fs::write(&file, GOOD).unwrap();
    let run = |more: &[&str]| {
        let mut arguments = vec!["run", file.to_str().unwrap()];
        arguments.extend(more);
        harness(&arguments)
    };
    // Without a snapshot there is nothing to compare with, and none is written.
    assert_eq!(run(&[]).status.code(), Some(0));
    assert!(!snapshot.exists());
    assert_eq!(run(&["--bless"]).status.code(), Some(0));
    assert!(std::fs::read_to_string(&snapshot).unwrap().contains("1 attach dev0 to D"));
    assert_eq!(run(&[]).status.code(), Some(0));

    let more = "[[step]]\nattach = { device = \"dev0\", to = \"blocked\" }\n";
    std::fs::write(&file, format!("{GOOD}{more}")).unwrap();
    let differs = run(&[]);
    assert_eq!(differs.status.code(), Some(1));
    let out = text(&differs.stdout);
    assert!(out.contains("+2 attach dev0 to blocked") && out.contains("--bless"), "{out}");
    assert!(out.contains("failed: my"), "{out}");
    let json = text(&run(&["--format", "json"]).stdout);
    let line: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(line["snapshot"]["state"], "differs");
    assert_eq!(run(&["--bless"]).status.code(), Some(0));
    assert_eq!(run(&[]).status.code(), Some(0));

    // A run that fails is not blessed.
    std::fs::write(&file, STALE).unwrap();
    let kept = std::fs::read(&snapshot).unwrap();
    assert_eq!(run(&["--bless"]).status.code(), Some(1));
    assert_eq!(std::fs::read(&snapshot).unwrap(), kept);
    assert_eq!(harness(&["run", "first-light", "--bless"]).status.code(), Some(2));
}

#[test]
fn a_directory_and_standard_input_are_scenarios_too() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("folder");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let path = folder.to_str().unwrap();
    let empty = harness(&["run", path]);
    assert_eq!(empty.status.code(), Some(2));
    assert!(text(&empty.stderr).contains(&format!("{path}: the directory has no scenario")));
    for name in ["b.toml", "a.toml", "readme.md"] {
        std::fs::write(folder.join(name), GOOD).unwrap();
    }
    let out = text(&harness(&["run", path, path]).stdout);
    assert!(out.contains("2 passed") && out.find("passed    a") < out.find("passed    b"), "{out}");

    let run = |text: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
            .args(["run", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let good = run(GOOD);
    assert!(good.status.success() && text(&good.stdout).contains("passed    stdin"));
    let wrong = run("title = 1\n");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).starts_with("error: <stdin>:1:9: "), "{}", text(&wrong.stderr));
}

#[test]
fn a_new_scenario_runs_and_is_not_overwritten() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("begun");
    let file = path.with_extension("toml");
    let _ = std::fs::remove_file(&file);
    let new = || harness(&["new", path.to_str().unwrap()]);
    assert_eq!(new().status.code(), Some(0));
    let run = harness(&["run", file.to_str().unwrap()]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stdout));
    let again = new();
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("begun.toml: "), "{}", text(&again.stderr));
}

#[test]
fn completions_manual_pages_and_colours() {
    for shell in ["bash", "zsh", "fish"] {
        let out = harness(&["completions", shell]);
        assert_eq!(out.status.code(), Some(0));
        assert!(
            text(&out.stdout).contains("smmu-harness") && text(&out.stdout).contains("explain")
        );
    }
    let program = text(&harness(&["man"]).stdout);
    assert!(program.contains(".TH smmu-harness 1") && program.contains("Exit status"), "{program}");
    let run = text(&harness(&["man", "run"]).stdout);
    assert!(run.contains("bless") && run.contains("strict"), "{run}");
    let wrong = harness(&["man", "rnu"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("did you mean \"run\"?"), "{}", text(&wrong.stderr));

    let coloured = text(&harness(&["run", "first-light", "--color", "always"]).stdout);
    assert!(coloured.contains("\x1b[32mpassed"), "{coloured}");
    for never in [&["run", "first-light", "--color", "never"][..], &["run", "first-light"]] {
        assert!(!text(&harness(never).stdout).contains('\x1b'));
    }
    // One name for the program in its help.
    let help = text(&harness(&["--help"]).stdout);
    assert!(help.contains("Usage: smmu-harness "), "{help}");
}

#[test]
fn a_watched_file_runs_again_when_it_changes() {
    use std::io::{BufRead, BufReader};
    let path = write("watched.toml", GOOD.as_bytes());
    let mut child = Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .args(["run", "--watch", path.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = |want: &str| lines.any(|line| line.unwrap().starts_with(want));
    assert!(until("mock: 1 passed, 0 failed"));
    std::fs::write(&path, STALE).unwrap();
    assert!(until("mock: 0 passed, 1 failed"));
    // A broken file is reported, and the next change is seen.
    std::fs::write(&path, "title = 1\n").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(600));
    std::fs::write(&path, GOOD).unwrap();
    assert!(until("mock: 1 passed, 0 failed"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(harness(&["run", "--watch"]).status.code(), Some(2));
}

#[test]
fn probe_says_what_the_model_can_do() {
    let human = harness(&["probe"]);
    assert_eq!(human.status.code(), Some(0));
    let out = text(&human.stdout);
    assert!(out.contains("translation      stage 1, stage 2"), "{out}");
    assert!(out.contains("IDR0 0x"), "{out}");
    let json: serde_json::Value =
        serde_json::from_str(&text(&harness(&["probe", "--format", "json"]).stdout)).unwrap();
    let caps = json["capabilities"].as_object().unwrap();
    assert_eq!((&caps["stage1"], &caps["stage2"]), (&true.into(), &true.into()));
    assert_eq!((&caps["asid_bits"], &caps["output_bits"]), (&16.into(), &44.into()));
    assert_eq!(caps["granules"], serde_json::json!([4096]));
    assert_eq!(caps["table_formats"], serde_json::json!(["aarch64"]));
    assert_eq!(caps["stall_model"], "terminate_only");
    assert!(caps["vatos_page"].is_null());
    let snake = |key: &String| {
        key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    assert!(caps.keys().all(snake), "{:?}", caps.keys());
    let registers = json["registers"].as_object().unwrap();
    for name in ["IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "IDR5", "IDR6", "IIDR", "AIDR"] {
        let register = &registers[name];
        assert!(register["raw"].is_u64() && register["offset"].is_u64(), "{name}");
        assert!(!register["fields"].as_object().unwrap().is_empty(), "{name}");
        assert!(register.get("reserved_bits").is_none(), "{name}: {register}");
        assert!(out.contains(&format!("{name} 0x")), "{out}");
    }
    let idr0 = &registers["IDR0"];
    assert_eq!(idr0["fields"]["TTF"]["value"], 2);
    assert_eq!(idr0["fields"]["TTF"]["meaning"], "VMSAv8-64 tables");
    assert_eq!(registers["IDR5"]["offset"], 0x14);
}

#[rstest]
#[case::no_command(&[])]
#[case::unknown_command(&["walk"])]
#[case::unknown_backend(&["run", "--backend", "hardware"])]
#[case::unknown_format(&["run", "--format", "xml"])]
#[case::unknown_scenario(&["run", "no-such"])]
#[case::qemu_for_the_model(&["run", "--qemu", "/bin/true"])]
#[case::no_such_file(&["run", "no-such.toml"])]
#[case::one_backend_twice(&["run", "first-light", "--backend", "mock,mock"])]
#[case::watching_two_backends(&["run", "x.toml", "--watch", "--backend", "mock,board", "--uart", "true"])]
#[case::no_run_to_compare(&["diff", "no-such.jsonl", "no-such.jsonl"])]
#[case::report_into_nowhere(&["run", "first-light", "--report", "/no/such/folder/x.html"])]
fn wrong_usage_is_2(#[case] arguments: &[&str]) {
    let out = harness(arguments);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));
    assert!(out.stdout.is_empty());
    assert!(!out.stderr.is_empty());
}

const GOOD: &str = "\
title = \"t\"
needs = [\"stage1\"]
pages = [\"A\"]
[[smmu]]
name = \"smmu0\"
[[device]]
name = \"dev0\"
smmu = \"smmu0\"
stream = 8
[[domain]]
name = \"D\"
stage = \"s1\"
[[step]]
attach = { device = \"dev0\", to = \"D\" }
";

#[rstest]
#[case::unknown_key(
    "key",
    "[[step]]\nattach = { device = \"dev0\", to = \"D\", when = 1 }\n",
    16,
    39
)]
#[case::unknown_step("step", "[[step]]\nfly = {}\n", 16, 1)]
#[case::unknown_device("device", "[[step]]\nattach = { device = \"dev1\", to = \"D\" }\n", 16, 21)]
#[case::unknown_stream(
    "stream",
    "[[step]]\ndma = { device = \"dev0\", stream = 9, iova = 0, reaches = \"A\" }\n",
    16,
    35
)]
#[case::taken_stream(
    "taken",
    "[[device]]\nname = \"d\"\nsmmu = \"smmu0\"\nstream = 16\nmore_streams = [17, 8]\n",
    19,
    21
)]
#[case::streams_and_count(
    "count",
    "[[device]]\nname = \"d\"\nsmmu = \"smmu0\"\nstream = 16\ncount = 2\nmore_streams = [9]\n",
    19,
    9
)]
#[case::unknown_page(
    "page",
    "[[step]]\nmap = { domain = \"D\", iova = 0, page = \"B\" }\n",
    16,
    40
)]
#[case::wrong_type(
    "type",
    "[[step]]\nmap = { domain = \"D\", iova = \"x\", page = \"A\" }\n",
    16,
    30
)]
#[case::two_domains("twice", "[[domain]]\nname = \"D\"\nstage = \"s1\"\n", 16, 8)]
#[case::missing_need("need", "[[domain]]\nname = \"G\"\nstage = \"s2\"\n", 16, 8)]
#[case::two_steps_in_one(
    "two",
    "[[step]]\nattach = { device = \"dev0\", to = \"D\" }\nunmap = { domain = \"D\", iova = 0 }\n",
    15,
    1
)]
#[case::none_at_all(
    "none",
    "[[step]]\nattach_each = { devices = \"x\", domains = \"x\", count = 0 }\n",
    16,
    55
)]
#[case::beyond_the_tables(
    "beyond",
    "[[step]]\nunmap = { domain = \"D\", iova = 0x8000000000 }\n",
    15,
    1
)]
#[case::no_remedy("remedy", "[[step]]\nhazard = { missing = \"NONSENSE\" }\n", 15, 1)]
#[case::another_number("number", "[[smmu]]\nname = \"smmu0\"\n", 16, 8)]
#[case::not_toml("toml", "[[step\n", 15, 7)]
#[case::unknown_event(
    "event",
    "[[step]]\ndma = { device = \"dev0\", iova = 0, faults = \"F_NOTHING\" }\n",
    16,
    45
)]
#[case::stop_without_need(
    "stopneed",
    "[[step]]\nfault = { smmu = \"smmu0\", cmdq = \"stopped\" }\n",
    15,
    1
)]
#[case::fault_without_need(
    "faultneed",
    "[[step]]\nfault = { smmu = \"smmu0\", cmdq = { slow = 1 } }\n",
    15,
    1
)]
fn a_wrong_file_is_2_and_says_where(
    #[case] name: &str,
    #[case] more: &str,
    #[case] line: usize,
    #[case] column: usize,
) {
    let path = write(&format!("{name}.toml"), format!("{GOOD}{more}").as_bytes());
    let out = harness(&["run", path.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2));
    let want = format!("error: {}:{line}:{column}: ", path.display());
    assert!(text(&out.stderr).starts_with(&want), "{} / {want}", text(&out.stderr));
}

/// A typo gets the name that was meant, whatever it is the name of.
#[rstest]
#[case::device("attach = { device = \"dve0\", to = \"D\" }", "did you mean \"dev0\"?")]
#[case::none(
    "attach = { device = \"dev0\", to = \"none\" }",
    "no domain is named \"none\"; there are: blocked, bypass, D"
)]
#[case::blocked("attach = { device = \"dev0\", to = \"blokced\" }", "did you mean \"blocked\"?")]
#[case::step("atach = { device = \"dev0\", to = \"D\" }", "did you mean `attach`?")]
#[case::key("attach = { device = \"dev0\", too = \"D\" }", "did you mean `to`?")]
#[case::value(
    "attach = { device = \"dev0\", to = \"D\", fails = \"time-out\" }",
    "did you mean `timeout`?"
)]
#[case::event(
    "dma = { device = \"dev0\", iova = 0, faults = \"F_TRANSLATE\" }",
    "did you mean \"F_TRANSLATION\"?"
)]
#[case::tag(
    "expect = { smmu = \"smmu0\", domain = \"D\", tag = \"asid 1\" }",
    "no tag is written \"asid 1\"; write \"ASID 1\""
)]
#[case::two_pages(
    "map = { domain = \"D\", iova = 0, page = \"A\", pages = [\"A\"] }",
    "one of `page`, `pages` and `block`"
)]
#[case::no_pages("unmap = { domain = \"D\", iova = 0, pages = 0 }", "pages must be 1 to 1024")]
#[case::no_asid(
    "command = { smmu = \"smmu0\", send = [{ TLBI_NH_ASID = {} }] }",
    "TLBI_NH_ASID needs either `asid` or `domain`"
)]
#[case::reset("reset = { smmu = \"smmu0\" }", "a reset needs \"reset\" in `needs`")]
fn a_typo_gets_the_name_that_was_meant(#[case] step: &str, #[case] said: &str) {
    let hash = step.bytes().fold(7u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte));
    let file = format!("{GOOD}[[step]]\n{step}\n");
    let path = write(&format!("typo-{hash:x}.toml"), file.as_bytes());
    let out = harness(&["run", path.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains(said), "{}", text(&out.stderr));
}

#[test]
fn a_mistyped_scenario_gets_the_name_that_was_meant() {
    let out = harness(&["run", "first-ligth"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("did you mean \"first-light\"?"), "{}", text(&out.stderr));
}

/// What an SMMU of another kind cannot be.
#[rstest]
#[case::no_need("oas = 40", "oas needs \"smmu-kinds\" in `needs`")]
#[case::no_size("oas = 41", "oas can be 32, 36, 40, 42, 44 or 48")]
#[case::no_stage("stages = []", "an SMMU has a stage at least")]
#[case::granules_need("granules = [\"64k\"]", "granules needs \"smmu-kinds\" in `needs`")]
#[case::no_granule("granules = []", "an SMMU has one granule at least: \"4k\", \"16k\" or \"64k\"")]
#[case::mistyped_granule("granules = [\"64K\"]", "did you mean `64k`?")]
#[case::unknown_granule("granules = [\"2m\"]", "expected one of `4k`, `16k`, `64k`")]
#[case::mistyped_key("granule = [\"4k\"]", "did you mean `granules`?")]
#[case::no_list("granules = \"4k\"", "expected a sequence")]
#[case::no_width("vmid_bits = 12", "vmid_bits can be 8 or 16")]
fn an_smmu_of_no_kind_is_refused(#[case] key: &str, #[case] said: &str) {
    let needs = if said.contains("needs") { "" } else { ", \"smmu-kinds\"" };
    let file = GOOD
        .replace("name = \"smmu0\"\n", &format!("name = \"smmu0\"\n{key}\n"))
        .replace("[\"stage1\"]", &format!("[\"stage1\"{needs}]"));
    let path = write(&format!("kind-{}.toml", key.len() * 100 + said.len()), file.as_bytes());
    let out = harness(&["run", path.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains(said), "{}", text(&out.stderr));
}

const QUEUES: &str = "\
title = \"t\"
needs = [\"stage1\", \"queue-stop\", \"slow-queues\", \"fetch-aborts\", \"atc-timeouts\", \"lost-msis\", \"ats\", \"several-smmus\"]
[[smmu]]
name = \"smmu0\"
ats = true
[[smmu]]
name = \"smmu1\"
[[device]]
name = \"dev0\"
smmu = \"smmu0\"
stream = 8
[[device]]
name = \"dev1\"
smmu = \"smmu1\"
stream = 8
";

/// What is wrong with a queue, a fault or an expectation of one, and what the error points at.
#[rstest]
#[case::no_such_speed(
    "fault = { smmu = \"smmu0\", cmdq = \"fast\" }",
    "\"fast\"",
    "`stopped`, `slow`"
)]
#[case::slow_by_nothing("fault = { smmu = \"smmu0\", cmdq = { slow = 0 } }", "0 }", "1 at least")]
#[case::no_number("fault = { smmu = \"smmu0\", cmdq = { slow = \"x\" } }", "\"x\"", "expected u32")]
#[case::aborts_never("fault = { smmu = \"smmu0\", cmdq = { aborts = 0 } }", "0 }", "1 at least")]
#[case::none("fault = { smmu = \"smmu0\" }", "[[step]]", "one of `cmdq`")]
#[case::two(
    "fault = { smmu = \"smmu0\", cmdq = \"stopped\", atc_timeout = \"dev0\" }",
    "[[step]]",
    "one of `cmdq`"
)]
#[case::no_smmu("mend = { smmu = \"smmu2\" }", "\"smmu2\"", "no smmu is named")]
#[case::no_device(
    "fault = { smmu = \"smmu0\", atc_timeout = \"dev9\" }",
    "\"dev9\"",
    "no device is named"
)]
#[case::elsewhere(
    "fault = { smmu = \"smmu0\", atc_timeout = \"dev1\" }",
    "\"dev1\"",
    "not behind smmu0"
)]
#[case::without_ats(
    "fault = { smmu = \"smmu1\", atc_timeout = \"dev1\" }",
    "\"dev1\"",
    "smmu1 needs `ats = true`"
)]
#[case::without_msi(
    "fault = { smmu = \"smmu0\", msi = \"lost\" }",
    "\"lost\"",
    "smmu0 needs `sync = \"msi\"`"
)]
#[case::no_such_msi("fault = { smmu = \"smmu0\", msi = \"late\" }", "\"late\"", "expected `lost`")]
#[case::no_second(
    "fault = { smmu = \"smmu0\", queue = \"second\", cmdq = \"stopped\" }",
    "\"second\"",
    "no `second_queue`"
)]
#[case::no_such_queue(
    "fault = { smmu = \"smmu0\", queue = \"third\", cmdq = \"stopped\" }",
    "\"third\"",
    "`main` or `second`"
)]
#[case::no_such_failure(
    "command = { smmu = \"smmu0\", send = [], fails = \"late\" }",
    "\"late\"",
    "`timeout`"
)]
#[case::no_such_order(
    "expect = { smmu = \"smmu0\", commands = \"any\" }",
    "\"any\"",
    "expected `in-order`"
)]
#[case::no_such_reads(
    "expect = { smmu = \"smmu0\", consumer_reads = \"few\" }",
    "\"few\"",
    "`none` or `some`"
)]
#[case::atc_of_half_a_page(
    "command = { smmu = \"smmu0\", send = [{ ATC_INV = { device = \"dev0\", iova = 8 } }] }",
    "8 }",
    "not aligned to 4096"
)]
#[case::no_second_to_send_to(
    "command = { smmu = \"smmu1\", queue = \"second\", send = [] }",
    "\"second\"",
    "smmu1 has no `second_queue`"
)]
#[case::beside_an_unknown_device(
    "command = { smmu = \"smmu0\", send = [], beside = [{ CFGI_STE = { device = \"dev9\" } }] }",
    "\"dev9\"",
    "no device is named"
)]
#[case::invalidates_an_unknown_domain(
    "invalidate = { domain = \"Q\", iova = 0x10000 }",
    "\"Q\"",
    "no domain is named"
)]
fn a_wrong_fault_is_2_and_says_where(#[case] step: &str, #[case] at: &str, #[case] why: &str) {
    refuses(&format!("{QUEUES}[[step]]\n{step}\n"), at, why);
}

/// A mapping that makes no sense.
#[rstest]
#[case::no_such_map_failure(
    "map = { domain = \"D\", iova = 0x10000, page = \"A\", fails = \"late\" }",
    "\"late\"",
    "expected one of `mapped`, `has-table`"
)]
#[case::several_maps_that_fail(
    "map = { domain = \"D\", iova = 0, pages = [\"A\", \"A\"], fails = \"mapped\" }",
    "\"mapped\"",
    "a map that must fail maps one page"
)]
#[case::an_unknown_block(
    "map = { domain = \"D\", iova = 0x200000, block = \"A\" }",
    "\"A\"",
    "no block is named"
)]
#[case::a_block_and_a_page(
    "map = { domain = \"D\", iova = 0x200000, page = \"A\", block = \"X\" }",
    "[[step]]",
    "one of `page`, `pages` and `block`"
)]
#[case::half_a_block(
    "unmap = { domain = \"D\", iova = 0x1000, blocks = 1 }",
    "[[step]]",
    "is not aligned to 2 MiB"
)]
#[case::no_blocks(
    "unmap = { domain = \"D\", iova = 0, blocks = 0 }",
    "0 }",
    "blocks must be 1 to 512"
)]
#[case::blocks_and_pages(
    "unmap = { domain = \"D\", iova = 0, pages = 1, blocks = 2 }",
    "2 }",
    "either `pages` or `blocks`"
)]
#[case::a_read_without_need(
    "dma = { device = \"dev0\", access = \"read\", iova = 0, reaches = \"A\" }",
    "\"read\"",
    "a read needs"
)]
#[case::no_such_access(
    "dma = { device = \"dev0\", access = \"erase\", iova = 0, reaches = \"A\" }",
    "\"erase\"",
    "expected `write` or `read`"
)]
#[case::a_remap_that_fails(
    "remap = { domain = \"D\", iova = 0x10000, page = \"A\", fails = \"mapped\" }",
    "\"mapped\"",
    "goes with `map`"
)]
fn a_wrong_mapping_is_2_and_says_where(#[case] step: &str, #[case] at: &str, #[case] why: &str) {
    refuses(&format!("{GOOD}[[step]]\n{step}\n"), at, why);
}

/// A flood that makes no sense.
#[rstest]
#[case::no_device(
    "device = \"dve0\", iova = 0, writes = 4, events = 4",
    "\"dve0\"",
    "did you mean \"dev0\"?"
)]
#[case::no_writes(
    "device = \"dev0\", iova = 0, writes = 0, events = 0",
    "0, events",
    "writes must be 1 to 1024"
)]
#[case::too_many(
    "device = \"dev0\", iova = 0, writes = 1025, events = 4",
    "1025",
    "writes must be 1 to 1024"
)]
#[case::more_than_fit(
    "device = \"dev0\", iova = 0, writes = 9, events = 5",
    "5 }",
    "9 writes leave 4 events in a queue of 4, not 5"
)]
#[case::fewer_than_fit(
    "device = \"dev0\", iova = 0, writes = 3, events = 2",
    "2 }",
    "3 writes leave 3 events in a queue of 4, not 2"
)]
#[case::without_need(
    "device = \"dev0\", iova = 0, writes = 5, events = 4",
    "5, events",
    "a flood that overflows the queue needs \"event-overflow\" in `needs`"
)]
#[case::half_a_page(
    "device = \"dev0\", iova = 8, writes = 4, events = 4",
    "8, writes",
    "not aligned to 4096"
)]
#[case::beyond(
    "device = \"dev0\", iova = 0x7fffffe000, writes = 4, events = 4",
    "0x7fffffe000",
    "beyond the 39 bits"
)]
#[case::mistyped(
    "device = \"dev0\", iova = 0, wirtes = 4, events = 4",
    "wirtes",
    "did you mean `writes`?"
)]
#[case::mistyped_event(
    "device = \"dev0\", iova = 0, writes = 4, event = 4",
    "event = ",
    "did you mean `events`?"
)]
fn a_wrong_flood_is_2_and_says_where(#[case] keys: &str, #[case] at: &str, #[case] why: &str) {
    let good = GOOD.replace("name = \"smmu0\"\n", "name = \"smmu0\"\nevent_entries = 4\n");
    refuses(&format!("{good}[[step]]\nflood = {{ {keys} }}\n"), at, why);
}

/// A request that the device does not send.
#[rstest]
#[case::first_of_a_group("more = true", "no `more`, `unread` or `answered`")]
#[case::unread("unread = true", "no `more`, `unread` or `answered`")]
#[case::answered("answered = \"success\"", "no `more`, `unread` or `answered`")]
#[case::mistyped("of = true", "unknown field `of`")]
fn a_page_request_that_is_off_has_nothing_else(#[case] key: &str, #[case] why: &str) {
    let good = GOOD
        .replace("[\"stage1\"]", "[\"stage1\", \"ats\", \"ats-devices\", \"page-requests\"]")
        .replace("name = \"smmu0\"\n", "name = \"smmu0\"\nats = true\npage_entries = 4\n")
        .replace("stream = 8\n", "stream = 8\nats = \"switched\"\npage_requests = true\n");
    let keys = "device = \"dev0\", iova = 0x1000, group = 1, off = true";
    let at = if key.starts_with("of ") { key } else { "\"dev0\", iova" };
    refuses(&format!("{good}[[step]]\npage_request = {{ {keys}, {key} }}\n"), at, why);
}

/// Callers in parallel that make no sense.
#[rstest]
#[case::no_rounds("rounds = 0, unmaps = [U]", "0, unmaps", "rounds must be 1 to 100000")]
#[case::too_many_rounds("rounds = 100001, unmaps = [U]", "100001", "rounds must be 1 to 100000")]
#[case::no_caller("rounds = 1, unmaps = []", "[] }", "without a caller in `unmaps` nothing ends")]
#[case::no_device(
    "rounds = 1, unmaps = [{ device = \"dve0\", domain = \"D\", iova = 0, page = \"A\" }]",
    "\"dve0\"",
    "did you mean \"dev0\"?"
)]
#[case::half_a_page(
    "rounds = 1, unmaps = [{ device = \"dev0\", domain = \"D\", iova = 8, page = \"A\" }]",
    "8, page",
    "not aligned to 4096"
)]
#[case::one_device_twice(
    "rounds = 1, unmaps = [U, { device = \"dev0\", domain = \"D\", iova = 0, page = \"B\" }]",
    "\"dev0\", domain",
    "another caller has device \"dev0\"; give each its own"
)]
#[case::one_page_twice(
    "rounds = 1, unmaps = [U, { device = \"dev1\", domain = \"D\", iova = 0, page = \"A\" }]",
    "\"A\" }]",
    "another caller has page \"A\"; give each its own"
)]
#[case::one_place_twice(
    "rounds = 1, unmaps = [U, { device = \"dev1\", domain = \"D\", iova = 4096, page = \"B\" }]",
    "4096, page",
    "another caller maps 0x1000 of \"D\""
)]
#[case::an_attached_device_twice(
    "rounds = 1, unmaps = [U], attaches = [{ device = \"dev0\", to = [\"D\"] }]",
    "\"dev0\", to",
    "another caller has device \"dev0\"; give each its own"
)]
#[case::no_target(
    "rounds = 1, unmaps = [U], attaches = [{ device = \"dev1\", to = [] }]",
    "[] }]",
    "name at least one target"
)]
#[case::unknown_target(
    "rounds = 1, unmaps = [U], attaches = [{ device = \"dev1\", to = [\"none\"] }]",
    "\"none\"",
    "blocked"
)]
#[case::mistyped("rounds = 1, unmap = [U]", "unmap = ", "did you mean `unmaps`?")]
fn wrong_callers_are_2_and_say_where(#[case] keys: &str, #[case] at: &str, #[case] why: &str) {
    let first = "{ device = \"dev0\", domain = \"D\", iova = 4096, page = \"A\" }";
    let keys = keys.replace('U', first);
    refuses(&format!("{}[[step]]\nparallel = {{ {keys} }}\n", parallel_head()), at, why);
}

/// [`GOOD`] with two devices, two pages and the need.
fn parallel_head() -> String {
    GOOD.replace("[\"stage1\"]", "[\"stage1\", \"parallel\"]")
        .replace("[\"A\"]", "[\"A\", \"B\"]")
        .replace(
            "[[domain]]",
            "[[device]]\nname = \"dev1\"\nsmmu = \"smmu0\"\nstream = 16\n[[domain]]",
        )
}

#[test]
fn callers_in_parallel_are_a_need() {
    let step = "parallel = { rounds = 1, unmaps = [] }";
    let why = "callers in parallel need \"parallel\" in `needs`";
    refuses(&format!("{GOOD}[[step]]\n{step}\n"), "[[step]]\nparallel", why);
}

#[test]
fn a_flood_needs_a_queue_of_known_size() {
    let step = "flood = { device = \"dev0\", iova = 0, writes = 4, events = 4 }";
    let why = "a flood needs `event_entries` of the SMMU of \"dev0\"";
    refuses(&format!("{GOOD}[[step]]\n{step}\n"), "\"dev0\"", why);
}

/// Blocks that a file cannot have.
#[rstest]
#[case::too_many("blocks = [\"X\", \"Y\", \"Z\"]", "\"Z\"", "2 blocks at most")]
#[case::twice("blocks = [\"X\", \"X\"]", "\"X\"]", "two blocks named")]
#[case::a_page("pages = [\"P\"]\nblocks = [\"P\"]", "\"P\"]", "names a page already")]
fn wrong_blocks_are_2_and_say_where(#[case] keys: &str, #[case] at: &str, #[case] why: &str) {
    let rest = GOOD.split_once("[[smmu]]").unwrap().1;
    refuses(&format!("title = \"t\"\nneeds = [\"stage1\"]\n{keys}\n[[smmu]]{rest}"), at, why);
}

/// The driver switches the page requests of a device with ATS, behind an SMMU with a PRI queue.
#[rstest]
#[case::without_ats("page_entries = 4", "page_requests = true", "true", "PRI needs ATS")]
#[case::without_a_queue(
    "",
    "ats = \"switched\"\npage_requests = true",
    "true",
    "no `page_entries`"
)]
#[case::not_switched(
    "page_entries = 4",
    "ats = \"switched\"",
    "\"dev0\"",
    "no `page_requests = true`"
)]
fn page_requests_are_switched_with_ats(
    #[case] smmu: &str,
    #[case] device: &str,
    #[case] at: &str,
    #[case] why: &str,
) {
    let file = format!(
        "title = \"t\"\nneeds = [\"ats\", \"ats-devices\", \"page-requests\"]\n[[smmu]]\nname = \"smmu0\"\n\
         ats = true\n{smmu}\n[[device]]\nname = \"dev0\"\nsmmu = \"smmu0\"\nstream = 8\n{device}\n[[step]]\n\
         page_request = {{ device = \"dev0\", iova = 0x1000, group = 1, off = true }}\n"
    );
    // The step says `true`, too.
    let place = match at {
        "true" => file.find("page_requests = true").unwrap() + "page_requests = ".len(),
        _ => file.rfind(at).unwrap(),
    };
    refuses_at(&file, place, why);
}

/// What an SMMU cannot be.
#[rstest]
#[case::too_few("queue_entries = 1", "1", "a power of two from 2 to 256")]
#[case::no_power("queue_entries = 6", "6", "a power of two from 2 to 256")]
#[case::too_many("queue_entries = 512", "512", "a power of two from 2 to 256")]
#[case::too_few_events("event_entries = 1", "1", "a power of two from 2 to 128")]
#[case::no_power_of_events("event_entries = 12", "12", "a power of two from 2 to 128")]
#[case::too_many_events("event_entries = 256", "256", "a power of two from 2 to 128")]
#[case::mistyped_events("event_entrys = 4", "event_entrys", "did you mean `event_entries`?")]
#[case::event("sync = \"event\"", "\"event\"", "needs \"sev\" in `needs`")]
#[case::msi("sync = \"msi\"", "\"msi\"", "needs \"msi\" in `needs`")]
#[case::msi_interrupts("msi_interrupts = true", "true", "needs \"msi\" in `needs`")]
#[case::no_such_sync("sync = \"irq\"", "\"irq\"", "`polling`, `event`, `msi`")]
#[case::no_time("timeout_ms = 0", "0", "from 1 to 10000")]
#[case::too_long("timeout_ms = 20000", "20000", "from 1 to 10000")]
#[case::no_duration("timeout_ms = \"1s\"", "\"1s\"", "expected u64")]
#[case::second("second_queue = \"full\"", "\"full\"", "needs \"second-queue\" in `needs`")]
#[case::no_such_kind("second_queue = \"fast\"", "\"fast\"", "`full` or `restricted`")]
fn a_wrong_smmu_is_2_and_says_where(#[case] key: &str, #[case] at: &str, #[case] why: &str) {
    let after = format!("name = \"smmu0\"\n{key}\n");
    let text = QUEUES.replacen("name = \"smmu0\"\n", &after, 1);
    let end = text.find(key).unwrap() + key.len();
    let place = text[..end].rfind(at).unwrap();
    refuses_at(&format!("{text}[[step]]\nmend = {{ smmu = \"smmu0\" }}\n"), place, why);
}

/// `at` is the last of its kind in the file.
fn refuses(file: &str, at: &str, why: &str) {
    refuses_at(file, file.rfind(at).unwrap(), why);
}

fn refuses_at(file: &str, place: usize, why: &str) {
    let before = &file[..place];
    let (line, column) =
        (before.matches('\n').count() + 1, place - before.rfind('\n').map_or(0, |at| at + 1) + 1);
    let hash = file.bytes().fold(7u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte));
    let path = write(&format!("refused-{hash:x}.toml"), file.as_bytes());
    let out = harness(&["run", path.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2));
    let (want, said) = (format!("error: {}:{line}:{column}: ", path.display()), text(&out.stderr));
    assert!(said.starts_with(&want) && said.contains(why), "{said} / {want}{why}");
}

#[rstest]
#[case::polling("stage1", "polling", "SYNC\n")]
#[case::event("sev", "event", "SYNC cs=sev\n")]
#[case::msi("msi", "msi", "SYNC cs=irq msi\n")]
fn each_way_to_complete_a_sync_runs(#[case] need: &str, #[case] sync: &str, #[case] said: &str) {
    let file = format!(
        "title = \"t\"\nneeds = [\"{need}\"]\n[[smmu]]\nname = \"smmu0\"\nsync = \"{sync}\"\n\
         [[step]]\ncommand = {{ smmu = \"smmu0\", send = [{{ TLBI_NSNH_ALL = {{}} }}] }}\n"
    );
    let path = write(&format!("sync-{sync}.toml"), file.as_bytes());
    let out = harness(&["run", path.to_str().unwrap()]);
    let text = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{text}");
    assert_eq!(text.matches(said).count(), text.matches(" SYNC").count(), "{text}");
}

#[test]
fn a_good_file_of_ones_own_runs() {
    let path = write("good.toml", GOOD.as_bytes());
    let out = harness(&["run", path.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
}

#[rstest]
#[case::empty("empty.toml", b"" as &[u8])]
#[case::binary("binary.toml", b"\xff\xfe\x00")]
#[case::no_steps("nosteps.toml", b"title = \"x\"\nstep = []\n[[smmu]]\nname = \"s\"\n")]
fn odd_files_are_refused(#[case] name: &str, #[case] content: &[u8]) {
    let path = write(name, content);
    let out = harness(&["run", path.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).starts_with("error: "));
}

#[test]
fn what_is_not_a_file_is_refused_without_waiting() {
    for path in [env!("CARGO_TARGET_TMPDIR"), "/dev/zero"] {
        let link = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("link.toml");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(path, &link).unwrap();
        let out = harness(&["run", link.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(2));
        assert!(text(&out.stderr).contains("not a regular file"), "{}", text(&out.stderr));
    }
}

#[test]
fn a_backend_that_is_not_there_is_3() {
    let out = harness(&["run", "first-light", "--backend", "qemu", "--qemu", "/no/such/qemu"]);
    assert_eq!(out.status.code(), Some(3));
    let said = text(&out.stderr);
    assert!(said.contains("/no/such/qemu") && said.contains("cargo xtask qemu"), "{said}");
    let probe = harness(&["probe", "--backend", "qemu", "--qemu", "/no/such/qemu"]);
    assert_eq!(probe.status.code(), Some(3));
}

#[rstest]
#[case::all_passed(&["run", "--transcript"], 0)]
#[case::some_failed(&["run", "--transcript", "--sabotage", "unmap-without-tlbi"], 1)]
fn a_reader_that_goes_away_changes_nothing(#[case] arguments: &[&str], #[case] status: i32) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(status), "{}", text(&out.stderr));
    assert!(!text(&out.stderr).contains("panicked"));
}
