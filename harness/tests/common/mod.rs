//! What the tests of the binary and those that decide at run time have in common.
#![allow(dead_code, reason = "each of them uses a part")]

use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;

/// Runs a command of `smmu-harness` in a folder, without input. The answer: standard output,
/// standard error, exit status.
pub(crate) fn smmu_harness(
    folder: &Path,
    command: &str,
    arguments: &[&str],
) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .current_dir(folder)
        .arg(command)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap_or(-1))
}

/// A test that fails by panicking.
pub(crate) fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// Whether QEMU is left out on purpose. What needs it is then ignored, never passed.
pub(crate) fn qemu_is_left_out() -> bool {
    std::env::var_os("SMMU_NO_QEMU").is_some_and(|value| value == "1")
}
