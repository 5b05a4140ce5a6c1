//! Cargo tools that the suite needs: found on `PATH`, or installed below the target folder.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::process::{capture_success, on_path, watch};
use crate::workspace::Workspace;

#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) path: PathBuf,
    origin: &'static str,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.origin)
    }
}

/// Which version of a tool will do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version<'a> {
    Any,
    /// This one and no other, as `--version` prints it.
    Exactly(&'a str),
}

/// Finds a tool, or builds it from the package registry.
pub(crate) fn provide(
    workspace: &Workspace,
    name: &str,
    version: Version<'_>,
) -> Result<Tool, Error> {
    if let Some(path) = on_path(name).into_iter().find(|path| version.is_that_of(path)) {
        return Ok(Tool { path, origin: "found on PATH" });
    }
    let root = workspace.target.join("tools");
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = root.join("bin").join(file);
    if path.is_file() && version.is_that_of(&path) {
        return Ok(Tool { path, origin: "installed earlier" });
    }
    let build = root.join("build");
    let mut command = workspace.cargo();
    if let Version::Exactly(version) = version {
        command.args(["install", "--force", "--version", &format!("={version}")]);
    } else {
        command.arg("install");
    }
    command
        .args(["--locked", name, "--root"])
        .arg(&root)
        // The tools run for seconds: building them quickly matters more than their speed.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_TARGET_DIR", &build);
    let status = watch(&mut command)?;
    if !status.success() {
        return Err(Error::Failed {
            program: format!("cargo install --locked {name}"),
            status,
            output: String::new(),
        });
    }
    // Kept after a failure, so that the next try goes on from there.
    let _ = std::fs::remove_dir_all(&build);
    Ok(Tool { path, origin: "installed now" })
}

impl Version<'_> {
    fn is_that_of(self, path: &Path) -> bool {
        const LIMIT: Duration = Duration::from_secs(60);
        match self {
            Version::Any => true,
            Version::Exactly(version) => {
                capture_success(Command::new(path).arg("--version"), LIMIT)
                    .is_ok_and(|answer| answer.split_whitespace().any(|word| word == version))
            }
        }
    }
}
