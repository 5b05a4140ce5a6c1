//! Cargo tools that the suite needs: found on `PATH`, or installed below the target folder.

use std::fmt;
use std::path::PathBuf;

use crate::error::Error;
use crate::process::{on_path, watch};
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

/// Finds a tool, or builds it from the package registry.
pub(crate) fn provide(workspace: &Workspace, name: &str) -> Result<Tool, Error> {
    if let Some(path) = on_path(name).into_iter().next() {
        return Ok(Tool { path, origin: "found on PATH" });
    }
    let root = workspace.target.join("tools");
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = root.join("bin").join(file);
    if path.is_file() {
        return Ok(Tool { path, origin: "installed earlier" });
    }
    let build = root.join("build");
    let mut command = workspace.cargo();
    command
        .args(["install", "--locked", name, "--root"])
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
