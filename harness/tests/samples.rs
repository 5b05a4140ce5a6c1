//! One test and one snapshot for each sample in `tests/decode/` and `tests/explain/`.
//!
//! The first line of a sample holds the arguments, behind `#! `; the rest goes to standard input.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use libtest_mimic::{Arguments, Failed, Trial};

const COMMANDS: [&str; 2] = ["decode", "explain"];
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
const SNAPSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../snapshots");

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for command in COMMANDS {
        let folder = fs::read_dir(Path::new(SAMPLES).join(command)).unwrap();
        let mut samples: Vec<PathBuf> = folder.map(|file| file.unwrap().path()).collect();
        samples.sort();
        let names: Vec<String> = samples.iter().map(|sample| name(sample)).collect();
        for sample in samples {
            let test = format!("{command}::{}", name(&sample));
            trials.push(Trial::test(test, move || matches_snapshot(command, &sample)));
        }
        trials.push(Trial::test(format!("{command}_snapshots_belong_to_samples"), move || {
            for file in fs::read_dir(Path::new(SNAPSHOTS).join(command))? {
                let file = file?.file_name().to_string_lossy().into_owned();
                if !file.strip_suffix(".snap").is_some_and(|stem| names.iter().any(|n| n == stem)) {
                    return Err(format!("snapshots/{command}/{file} belongs to no sample").into());
                }
            }
            Ok(())
        }));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn name(sample: &Path) -> String {
    sample.file_stem().unwrap().to_string_lossy().into_owned()
}

fn matches_snapshot(command: &str, sample: &Path) -> Result<(), Failed> {
    let text = fs::read_to_string(sample)?;
    let (first, input) = text.split_once('\n').unwrap_or((&text, ""));
    let arguments = first.strip_prefix("#!").ok_or("the first line must be `#! ARGUMENTS`")?.trim();
    let mut child = Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .arg(command)
        .args(quoted(arguments))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let fed = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    // A child that decodes its arguments does not read, and closes the pipe.
    let _ = fed.join();
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    let mut whole =
        format!("$ {}\n{out}", format!("smmu-harness {command} {arguments}").trim_end());
    if !err.is_empty() {
        whole.push_str(&format!("--- standard error\n{err}"));
    }
    whole.push_str(&format!("--- exit status {}", output.status.code().unwrap_or(-1)));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(SNAPSHOTS).join(command));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name(sample), whole));
    Ok(())
}

/// Arguments between blanks, or between double quotes.
fn quoted(text: &str) -> Vec<String> {
    let parts = text.split('"').enumerate();
    parts
        .flat_map(|(n, part)| match n % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}
