//! Short runs of a program, with limits of time and output, to find what a QEMU lacks.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::error::Missing;

/// The maximum length of an output.
const LONGEST: u64 = 256 * 1024;
const LIMIT: Duration = Duration::from_secs(10);
const DEVICES: [&str; 3] = ["arm-smmuv3", "iommu-testdev", "edu"];

pub(super) enum Ran {
    /// The program ended, or closed both outputs.
    Ended { stdout: String, stderr: String },
    /// The time limit passed, and the program was killed.
    Overran,
}

/// Runs `command` with `input` on its standard input.
pub(super) fn run(mut command: Command, input: &[u8], limit: Duration) -> io::Result<Ran> {
    let deadline = Instant::now() + limit;
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    let outputs = (|| {
        let stdout = child.stdout.take().map(collect).transpose()?;
        let stderr = child.stderr.take().map(collect).transpose()?;
        io::Result::Ok([stdout, stderr])
    })();
    if let Some(mut stdin) = stdin {
        // The input is shorter than a pipe's buffer, so this cannot block. The program may close
        // its end.
        let _ = stdin.write_all(input);
    }
    let texts = outputs.map(|outputs| {
        outputs.map(|text| {
            let left = deadline.saturating_duration_since(Instant::now());
            text.and_then(|text| text.recv_timeout(left).ok())
        })
    });
    // The program may still run, but its further output is not needed.
    let _ = child.kill();
    child.wait()?;
    let [stdout, stderr] = texts?;
    Ok(match (stdout, stderr) {
        (Some(stdout), Some(stderr)) => Ran::Ended { stdout, stderr },
        _ => Ran::Overran,
    })
}

fn collect(pipe: impl Read + Send + 'static) -> io::Result<mpsc::Receiver<String>> {
    let (done, text) = mpsc::sync_channel(1);
    thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.take(LONGEST).read_to_end(&mut bytes);
        let _ = done.send(String::from_utf8_lossy(&bytes).into_owned());
    })?;
    Ok(text)
}

/// The features that a machine needs and this QEMU lacks. Empty if QEMU does not answer.
pub(super) fn missing(path: &Path) -> Vec<Missing> {
    let mut command = Command::new(path);
    // With a second accelerator, QEMU answers even if the first is missing.
    command.args(["-accel", "qtest", "-accel", "tcg", "-machine", "none"]);
    command.args(["-display", "none", "-nodefaults", "-qmp", "stdio"]);
    let mut input = vec![json!({"execute": "qmp_capabilities"})];
    input.extend(DEVICES.map(|name| {
        json!({
            "execute": "device-list-properties", "arguments": {"typename": name}, "id": name
        })
    }));
    input.push(json!({"execute": "quit"}));
    let input: String = input.iter().map(|line| format!("{line}\n")).collect();
    match run(command, input.as_bytes(), LIMIT) {
        Ok(Ran::Ended { stdout, stderr }) => judge(&stdout, &stderr),
        Ok(Ran::Overran) | Err(_) => Vec::new(),
    }
}

fn judge(stdout: &str, stderr: &str) -> Vec<Missing> {
    let mut missing = Vec::new();
    if stderr.contains("invalid accelerator qtest") {
        missing.push(Missing::Accelerator("qtest"));
    }
    let replies: Vec<Value> =
        stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lacks = |name: &&str| {
        let reply = replies.iter().find(|reply| reply["id"] == **name);
        reply.is_some_and(|reply| !reply["error"].is_null())
    };
    missing.extend(DEVICES.into_iter().filter(lacks).map(Missing::Device));
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named() {
        let stdout = concat!(
            "{\"QMP\": {}}\r\n{\"return\": {}}\r\n",
            "{\"id\": \"arm-smmuv3\", \"return\": []}\r\n",
            "{\"id\": \"iommu-testdev\", \"error\": {\"class\": \"DeviceNotFound\"}}\r\n",
            "{\"id\": \"edu\", \"return\": []}\r\nnoise\r\n",
        );
        let stderr = "qemu: -accel qtest: invalid accelerator qtest\n";
        let expected = [Missing::Accelerator("qtest"), Missing::Device("iommu-testdev")];
        assert_eq!(judge(stdout, stderr), expected);
        assert_eq!(judge("", ""), []);
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let start = Instant::now();
        let ran = run(command, &[], Duration::from_millis(50)).unwrap();
        assert!(matches!(ran, Ran::Overran));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
