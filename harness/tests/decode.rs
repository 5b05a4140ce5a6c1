//! One test for each sample in `tests/decode/`: what `smmu-harness decode` makes of it is a snapshot.
//!
//! The first line of a sample holds the arguments, behind `#! `; the rest goes to standard input.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use libtest_mimic::{Arguments, Failed, Trial};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/decode");
const SNAPSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../snapshots/decode");

fn main() {
    let arguments = Arguments::from_args();
    let mut samples: Vec<PathBuf> =
        fs::read_dir(FOLDER).unwrap().map(|file| file.unwrap().path()).collect();
    samples.sort();
    let names: Vec<String> = samples.iter().map(|sample| name(sample)).collect();
    let mut trials: Vec<Trial> = samples
        .into_iter()
        .map(|sample| Trial::test(format!("sample::{}", name(&sample)), move || decodes(&sample)))
        .collect();
    trials.push(Trial::test("snapshots_belong_to_samples", move || {
        for file in fs::read_dir(SNAPSHOTS)? {
            let file = file?.file_name().to_string_lossy().into_owned();
            if !file.strip_suffix(".snap").is_some_and(|stem| names.iter().any(|n| n == stem)) {
                return Err(format!("snapshots/decode/{file} belongs to no sample").into());
            }
        }
        Ok(())
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

fn name(sample: &Path) -> String {
    sample.file_stem().unwrap().to_string_lossy().into_owned()
}

fn decodes(sample: &Path) -> Result<(), Failed> {
    let text = fs::read_to_string(sample)?;
    let (first, input) = text.split_once('\n').unwrap_or((&text, ""));
    let arguments = first.strip_prefix("#!").ok_or("the first line must be `#! ARGUMENTS`")?.trim();
    let mut child = Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .arg("decode")
        .args(quoted(arguments))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let fed = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    // Whoever decodes arguments does not read; then the pipe is closed.
    let _ = fed.join();
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    let mut whole = format!("$ {}\n{out}", format!("smmu-harness decode {arguments}").trim_end());
    if !err.is_empty() {
        whole.push_str(&format!("--- standard error\n{err}"));
    }
    whole.push_str(&format!("--- exit status {}", output.status.code().unwrap_or(-1)));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(SNAPSHOTS);
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
