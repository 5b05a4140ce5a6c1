//! The nightly toolchain, which alone has the sanitizers.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::process::{capture_success, on_path};

pub(crate) const TOOLCHAIN: &str = "nightly";

const QUESTION_LIMIT: Duration = Duration::from_secs(60);

/// Fails if there is no nightly toolchain. `task` is what needs it.
pub(crate) fn require(task: &'static str) -> Result<(), Error> {
    rustc(task, &["--version"]).map(drop)
}

/// The target that the toolchain compiles for by default.
pub(crate) fn host(task: &'static str) -> Result<String, Error> {
    let version = rustc(task, &["--version", "--verbose"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let why = || Error::NoNightly { task, why: "its rustc names no host".to_owned() };
    host.map(|host| host.trim().to_owned()).ok_or_else(why)
}

/// Fails if the toolchain lacks the source of the standard library.
pub(crate) fn require_source(task: &'static str) -> Result<(), Error> {
    let sysroot = PathBuf::from(rustc(task, &["--print", "sysroot"])?.trim());
    if sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").is_file() {
        return Ok(());
    }
    Err(Error::NoStdSource { task })
}

fn rustc(task: &'static str, arguments: &[&str]) -> Result<String, Error> {
    let Some(rustup) = on_path("rustup").into_iter().next() else {
        return Err(Error::NoNightly { task, why: "rustup is not on PATH".to_owned() });
    };
    let mut question = Command::new(rustup);
    question.args(["run", TOOLCHAIN, "rustc"]).args(arguments);
    capture_success(&mut question, QUESTION_LIMIT)
        .map_err(|error| Error::NoNightly { task, why: error.to_string() })
}
