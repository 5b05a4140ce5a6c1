//! The program, run from the outside: for tests of what it prints.

use std::process::{Command, Output, Stdio};

pub(crate) fn harness(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smmu-harness"));
    command.args(arguments).env_remove("SMMU_QEMU").stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) const SABOTAGE: [&str; 2] = ["--sabotage", "unmap-without-tlbi"];

/// What `run` prints with `--format json`.
pub(crate) fn json(arguments: &[&str]) -> String {
    text(&harness(&[&["run", "--format", "json"], arguments].concat()))
}
