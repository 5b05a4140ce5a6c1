//! Runs other programs; a program whose output is captured has a time limit.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::output::Output;

/// Interval between two checks of a running program.
pub(crate) const POLL: Duration = Duration::from_millis(5);
/// Longest wait for a pipe after the program's end: a grandchild may keep it open.
const DRAIN: Duration = Duration::from_secs(1);

/// Output and exit status of a program.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Prints progress to this thread's [`Output`]; results go through [`print()`].
pub(crate) fn say(text: impl Display) {
    Output::current().write(format!("{text}\n").as_bytes());
}

/// Prints a result to stdout.
pub(crate) fn print(text: impl Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Runs a program whose output goes to this thread's [`Output`].
pub(crate) fn watch(command: &mut Command) -> Result<ExitStatus, Error> {
    Output::current().run(command).map_err(|source| start_error(command, source))
}

/// Runs a program with `input`, and returns its output. Kills it after `limit`.
pub(crate) fn capture(
    command: &mut Command,
    input: &str,
    limit: Duration,
) -> Result<Captured, Error> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| start_error(command, source))?;
    let stdout = child.stdout.take().map(read_aside);
    let stderr = child.stderr.take().map(read_aside);
    if let Some(mut stdin) = child.stdin.take() {
        // The program may end without reading; its status decides.
        let _ = stdin.write_all(input.as_bytes());
    }
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < limit => thread::sleep(POLL),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::TimedOut {
                    program: name_of(command),
                    seconds: limit.as_secs(),
                });
            }
            Err(source) => return Err(start_error(command, source)),
        }
    };
    Ok(Captured { status, stdout: collect(stdout), stderr: collect(stderr) })
}

/// As [`capture`], but failure is an error that shows the last lines of stderr.
pub(crate) fn capture_success(command: &mut Command, limit: Duration) -> Result<String, Error> {
    let captured = capture(command, "", limit)?;
    if captured.status.success() {
        return Ok(captured.stdout);
    }
    Err(Error::Failed {
        program: name_of(command),
        status: captured.status,
        output: last_lines(&captured.stderr, 12),
    })
}

/// All files of this name in the folders of `PATH`.
pub(crate) fn on_path(name: &str) -> Vec<PathBuf> {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(&file))
        .filter(|candidate| candidate.is_file())
        .collect()
}

/// The value of a variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn name_of(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn start_error(command: &Command, source: io::Error) -> Error {
    Error::Start { program: name_of(command), source }
}

fn read_aside(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // Output read before an error is still shown.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

fn collect(receiver: Option<Receiver<Vec<u8>>>) -> String {
    let bytes = receiver.and_then(|receiver| receiver.recv_timeout(DRAIN).ok());
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// The last lines that are not empty, each indented.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let mut shown = String::new();
    for line in &lines[lines.len().saturating_sub(count)..] {
        shown.push_str("\n    ");
        shown.push_str(line);
    }
    shown
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_stopped() {
        let limit = Duration::from_millis(50);
        let result = capture(Command::new("sleep").arg("60"), "", limit);
        assert!(matches!(result, Err(Error::TimedOut { .. })), "{result:?}");
    }

    #[test]
    fn input_and_both_outputs_pass_through() {
        let script = "cat; echo wrong >&2; exit 3";
        let captured =
            capture(Command::new("sh").args(["-c", script]), "text", Duration::from_secs(10))
                .unwrap();
        assert_eq!(captured.status.code(), Some(3));
        assert_eq!(captured.stdout, "text");
        assert_eq!(captured.stderr, "wrong\n");
    }

    #[test]
    fn a_failure_shows_the_last_lines() {
        let script = "for n in $(seq 40); do echo line $n >&2; done; exit 1";
        let error =
            capture_success(Command::new("sh").args(["-c", script]), Duration::from_secs(10))
                .unwrap_err()
                .to_string();
        assert!(error.contains("line 40") && error.contains("line 29"), "{error}");
        assert!(!error.contains("line 28"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = capture(&mut Command::new("no-such-program"), "", POLL).unwrap_err();
        assert!(error.to_string().contains("no-such-program"), "{error}");
    }
}
