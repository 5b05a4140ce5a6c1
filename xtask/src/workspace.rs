//! Where the workspace and its target folder are.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::process::{capture_success, variable};

const METADATA_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Asks cargo, so that a target folder set elsewhere is respected.
    pub(crate) fn find() -> Result<Self, Error> {
        let json = capture_success(
            Command::new(cargo()).args(["metadata", "--no-deps", "--format-version", "1"]),
            METADATA_LIMIT,
        )?;
        let value: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        let path_in = |field: &'static str| {
            value[field].as_str().map(PathBuf::from).ok_or(Error::Metadata { field })
        };
        Ok(Self { root: path_in("workspace_root")?, target: path_in("target_directory")? })
    }

    /// A cargo command in the workspace's root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root);
        command
    }
}

/// The cargo that runs this program, or the one on `PATH`.
fn cargo() -> OsString {
    variable("CARGO").unwrap_or_else(|| "cargo".into())
}
