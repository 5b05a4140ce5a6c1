//! Cargo tools of the suite: found on `PATH`, or installed into the target folder.

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

/// The accepted version of a tool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ToolVersion<'a> {
    Any,
    /// Only this version, as `--version` prints it.
    Exactly(&'a str),
}

/// Finds a tool, or builds it from the package registry.
pub(crate) fn provide(
    workspace: &Workspace,
    name: &str,
    version: ToolVersion<'_>,
) -> Result<Tool, Error> {
    if let Some(path) = on_path(name).into_iter().find(|path| version.matches(path)) {
        return Ok(Tool { path, origin: "found on PATH" });
    }
    let root = workspace.target.join("tools");
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = root.join("bin").join(file);
    if path.is_file() && version.matches(&path) {
        return Ok(Tool { path, origin: "installed earlier" });
    }
    let build = root.join("build");
    let mut command = workspace.cargo();
    if let ToolVersion::Exactly(version) = version {
        command.args(["install", "--force", "--version", &format!("={version}")]);
    } else {
        command.arg("install");
    }
    command
        .args(["--locked", name, "--root"])
        .arg(&root)
        // The tools run for seconds, so a quick build matters more than fast tools.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_TARGET_DIR", &build);
    let status = watch(&mut command)?;
    if !status.success() {
        return Err(Error::Failed {
            program: format!("cargo install --locked {name}"),
            status,
            output: String::new(),
        });
    }
    // A failure returns above and keeps the folder, so the next try continues.
    let _ = std::fs::remove_dir_all(&build);
    Ok(Tool { path, origin: "installed now" })
}

impl ToolVersion<'_> {
    fn matches(self, path: &Path) -> bool {
        const LIMIT: Duration = Duration::from_secs(60);
        match self {
            ToolVersion::Any => true,
            ToolVersion::Exactly(version) => {
                capture_success(Command::new(path).arg("--version"), LIMIT)
                    .is_ok_and(|answer| answer.split_whitespace().any(|word| word == version))
            }
        }
    }
}
