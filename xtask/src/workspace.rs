//! The workspace: its folders and its libraries, as cargo reports them.

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
    pub(crate) crates: Vec<Crate>,
}

/// A library of the workspace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Crate {
    pub(crate) name: String,
    /// Its features, without `default`.
    pub(crate) features: Vec<String>,
    /// Whether it has the category `no-std`.
    pub(crate) no_std: bool,
    /// Whether its manifest allows to publish it.
    pub(crate) published: bool,
}

impl Workspace {
    /// Asks cargo, so that a target folder configured elsewhere counts.
    pub(crate) fn find() -> Result<Self, Error> {
        let json = capture_success(
            Command::new(cargo()).args(["metadata", "--no-deps", "--format-version", "1"]),
            METADATA_LIMIT,
        )?;
        let value: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        let path_in = |field: &'static str| {
            value[field].as_str().map(PathBuf::from).ok_or(Error::Metadata { field })
        };
        Ok(Self {
            root: path_in("workspace_root")?,
            target: path_in("target_directory")?,
            crates: crates(&value),
        })
    }

    /// A cargo command in the workspace's root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root);
        command
    }
}

/// The libraries among the packages.
fn crates(metadata: &serde_json::Value) -> Vec<Crate> {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let is_library = |package: &serde_json::Value| {
        list(&package["targets"]).iter().any(|target| list(&target["kind"]).contains(&"lib".into()))
    };
    list(&metadata["packages"])
        .iter()
        .filter(|package| is_library(package))
        .filter_map(|package| {
            let name = package["name"].as_str()?.to_owned();
            let features = package["features"].as_object().map_or_else(Vec::new, |features| {
                features.keys().filter(|key| *key != "default").cloned().collect()
            });
            let no_std = list(&package["categories"]).contains(&"no-std".into());
            // An empty list stands for `publish = false`, null for any registry.
            let published = package["publish"].as_array().is_none_or(|list| !list.is_empty());
            Some(Crate { name, features, no_std, published })
        })
        .collect()
}

/// The cargo that runs this program, or the one on `PATH`.
fn cargo() -> OsString {
    variable("CARGO").unwrap_or_else(|| "cargo".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_their_features_are_found() {
        let metadata = serde_json::json!({"packages": [
            {
                "name": "a",
                "targets": [{"kind": ["lib"]}],
                "features": {"default": [], "std": []},
                "categories": ["no-std"],
            },
            {"name": "b", "targets": [{"kind": ["bin"]}], "features": {}},
        ]});
        let want =
            Crate { name: "a".into(), features: vec!["std".into()], no_std: true, published: true };
        assert_eq!(crates(&metadata), [want]);
        assert_eq!(crates(&serde_json::Value::Null), []);
    }
}
