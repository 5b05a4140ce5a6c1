//! `run --backend board` from the outside: what it says, and how it ends, with strange boards.
//!
//! The boards are scripts of the shell. The tests of the protocol itself lie beside it, and the real
//! image runs in `tests/scenarios.rs`.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const BANNER: &str = r#"printf 'smmu-board 2 {"describe":"a script","offers":["stage1"],"piece":4096,"largest_piece":4096,"longest":65536,"notes":[]}\nready\n'"#;

fn harness() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smmu-harness"));
    command.args(["run", "first-light", "--backend", "board"]).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    harness().args(arguments).output().unwrap()
}

/// The exit status and all output, with a board that is a script.
fn with(script: &str) -> (Option<i32>, String) {
    let output = run(&["--patience", "1", "--uart", script]);
    (output.status.code(), said(&output))
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

#[test]
fn a_silent_board_times_out() {
    let (status, said) = with("exec sleep 60");
    assert_eq!(status, Some(4), "{said}");
    assert!(said.contains("silent for 1 s while it was to greet"), "{said}");
}

/// Takes a scenario, in one piece.
const TAKES: &str = "read -r line; echo text; set -- $line; head -c $3 > /dev/null";

#[test]
fn a_board_that_hangs_is_told_with_its_last_step() {
    let script = format!("{BANNER}; {TAKES}; echo '# step 2 map D'; exec sleep 60");
    let (status, said) = with(&script);
    assert_eq!(status, Some(4), "{said}");
    assert!(said.contains("silent for 1 s while it was to run a scenario"), "{said}");
    assert!(said.contains("step 2") && said.contains("map D"), "{said}");
}

#[test]
fn an_exception_fails_the_scenario() {
    let script = format!(
        "{BANNER}; {TAKES}; echo '# step 2 map D'; echo '!! exception: data abort on a read: \
         translation fault, level 1; ESR=0x96000005 ELR=0x40201000 FAR=0x9050000; EL1 CPU 0; step \
         \"serve\"'; exit 102"
    );
    let (status, said) = with(&script);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("data abort on a read: translation fault, level 1"), "{said}");
    assert!(said.contains("ELR=0x40201000"), "{said}");
    assert!(said.contains("exit status: 102"), "{said}");
    assert!(said.contains("step 2") && said.contains("map D"), "{said}");
}

#[test]
fn garbage_and_a_closed_line_are_no_machine() {
    for (script, why) in [
        (format!("{BANNER}; echo what; exec sleep 60"), "wrong line"),
        (format!("{BANNER}; echo oops >&2; exit 7"), "exit status: 7"),
        ("exit 0".to_owned(), "the line to the board is closed"),
        ("/no/such/program --uart".to_owned(), "exit status: 127"),
        ("echo 'smmu-board 9 {}'; exec sleep 60".to_owned(), "version \"9\""),
    ] {
        let (status, said) = with(&script);
        assert_eq!(status, Some(3), "{script}: {said}");
        assert!(said.contains(why), "{script}: {said}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let output = run(&["--uart", "/dev/no-such-uart"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("/dev/no-such-uart"), "{}", said(&output));
    let output = run(&["--uart", "/dev/null"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
}

#[test]
fn arguments_that_do_not_belong_together_are_refused() {
    for arguments in [
        &["--uart", "true", "--image", "x"][..],
        &["--uart", "true", "--cpus", "2"],
        &["--cpus", "0"],
        &["--el", "3"],
        &["--patience", "0"],
        &["--qemu", "/bin/true", "--uart", "true"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
    }
    let mut mock = Command::new(env!("CARGO_BIN_EXE_smmu-harness"));
    let output = mock.args(["run", "--cpus", "2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--cpus needs --backend board"), "{}", said(&output));
}

#[test]
fn what_the_board_lacks_is_skipped_and_fails_a_strict_run() {
    let script = BANNER.replace("stage1", "stage2") + "; exec sleep 60";
    let (status, told) = with(&script);
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("board has no stage1"), "{told}");
    let output = run(&["--patience", "1", "--strict", "--uart", &script]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

/// A serial line of this system, with a target at its other end. The line has echo and line editing
/// until the harness makes it raw.
#[test]
fn a_serial_device_is_made_raw_and_asked() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::fs::File;
    use std::io::{Read, Write};

    let target = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&target).unwrap();
    unlockpt(&target).unwrap();
    let name = ptsname(&target, Vec::new()).unwrap().into_string().unwrap();
    // Held open, so that the target sees no end before the harness opens it.
    let held = File::options().read(true).write(true).open(&name).unwrap();
    let mut target = File::from(target);
    let played = std::thread::spawn(move || {
        let mut heard = Vec::new();
        let mut byte = [0];
        while !heard.ends_with(b"hello\n") {
            target.read_exact(&mut byte).unwrap();
            heard.push(byte[0]);
        }
        // Carriage returns come through, and the target hears no echo of its own lines.
        let banner = "smmu-board 2 {\"describe\":\"a line\",\"offers\":[],\"piece\":16,\
                      \"largest_piece\":16,\"longest\":9,\"notes\":[]}\r\nready\r\n";
        target.write_all(banner.as_bytes()).unwrap();
        (heard, target)
    });
    let output = run(&["--patience", "5", "--uart", &name]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("board has no stage1"), "{}", said(&output));
    let (heard, _target) = played.join().unwrap();
    assert_eq!(heard, b"\nhello\n");
    drop(held);
}

/// A file for the number of a process, removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn new(name: &str) -> Self {
        let file = format!("smmu-board-{name}-{}", std::process::id());
        PidFile(std::env::temp_dir().join(file))
    }

    fn script(&self) -> String {
        format!("echo $$ > '{0}.new'; mv '{0}.new' '{0}'; exec sleep 600", self.0.display())
    }

    /// The process that has written its number.
    fn process(&self) -> PathBuf {
        let start = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(&self.0) {
                return PathBuf::from("/proc").join(text.trim());
            }
            assert!(start.elapsed() < Duration::from_secs(30), "the script does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether the process is gone, or about to be: a zombie runs nothing any more.
fn is_gone(process: &std::path::Path) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        match std::fs::read_to_string(process.join("stat")) {
            Ok(stat) if !stat.contains(") Z") => std::thread::sleep(Duration::from_millis(10)),
            _ => return true,
        }
    }
    false
}

#[test]
fn the_board_ends_with_the_run() {
    let file = PidFile::new("run");
    let (status, said) = with(&file.script());
    assert_eq!(status, Some(4), "{said}");
    assert!(is_gone(&file.process()));
}

#[test]
fn the_board_ends_with_a_run_that_is_killed() {
    let file = PidFile::new("kill");
    let mut run = harness()
        .args(["--patience", "60", "--uart", &file.script()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let process = file.process();
    assert!(process.exists());
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(is_gone(&process));
}
