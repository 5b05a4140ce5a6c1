//! The workspace: its folders and its libraries, as cargo reports them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::error::Error;
use crate::process::{capture_success, variable};

const METADATA_LIMIT: Duration = Duration::from_secs(60);

/// The crates that can each be taken alone.
pub(crate) const CRATES: [&str; 6] =
    ["smmu-types", "smmu-tags", "smmu-invs", "smmu-cmdq", "smmu-attach", "smmu-hw-mmio"];

#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    /// The oldest Rust that its packages allow.
    pub(crate) rust_version: RustVersion,
    pub(crate) crates: Vec<Crate>,
}

/// The first two numbers of a version of Rust.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RustVersion {
    major: u32,
    minor: u32,
}

impl RustVersion {
    /// Parses `1.96.0+dfsg1-1` or `1.88`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, rest) = text.split_once('.')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self { major: major.parse().ok()?, minor: rest[..end].parse().ok()? })
    }
}

impl fmt::Display for RustVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A library of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crate {
    pub(crate) name: String,
    /// Its features, without `default`.
    pub(crate) features: Vec<String>,
    /// Those of its features that do not need the standard library.
    pub(crate) no_std_features: Vec<String>,
    /// Whether it has the category `no-std`.
    pub(crate) no_std: bool,
    /// Whether its manifest allows to publish it.
    pub(crate) published: bool,
}

impl Crate {
    /// The sets of features with which it claims to build without the standard library: none, each
    /// alone, and all together, with commas between.
    pub(crate) fn no_std_feature_sets(&self) -> Vec<String> {
        let features = &self.no_std_features;
        let mut sets = vec![String::new()];
        sets.extend(features.iter().cloned());
        if features.len() > 1 {
            sets.push(features.join(","));
        }
        sets
    }

    /// The sets of at most one feature that only the host's standard library serves.
    pub(crate) fn std_feature_sets(&self) -> Vec<&str> {
        let needs_std = |set: &&str| {
            !self.no_std || !(set.is_empty() || self.no_std_features.iter().any(|name| name == set))
        };
        self.small_feature_sets().filter(needs_std).collect()
    }

    /// No feature, and each alone.
    pub(crate) fn small_feature_sets(&self) -> impl Iterator<Item = &str> {
        std::iter::once("").chain(self.features.iter().map(String::as_str))
    }
}

impl Workspace {
    /// Asks cargo, so that a target folder configured elsewhere counts.
    pub(crate) fn find() -> Result<Self, Error> {
        let json = capture_success(
            Command::new(cargo()).args(["metadata", "--no-deps", "--format-version", "1"]),
            METADATA_LIMIT,
        )?;
        let value: Value = serde_json::from_str(&json).unwrap_or_default();
        let path_in = |field: &'static str| {
            value[field].as_str().map(PathBuf::from).ok_or(Error::Metadata { field })
        };
        Ok(Self {
            root: path_in("workspace_root")?,
            target: path_in("target_directory")?,
            rust_version: rust_version(&value),
            crates: crates(&value),
        })
    }

    /// Where all of boards is: their compiler, their images and a Linux system.
    pub(crate) fn board_folder(&self) -> PathBuf {
        self.target.join("board")
    }

    /// The cargo that [`Self::cargo`] runs.
    pub(crate) fn cargo_path(&self) -> PathBuf {
        cargo().into()
    }

    /// A cargo command in the workspace's root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root);
        command
    }
}

/// The highest `rust-version` of the packages.
fn rust_version(metadata: &Value) -> RustVersion {
    let packages = list(&metadata["packages"]).iter();
    let versions = packages.filter_map(|package| package["rust_version"].as_str());
    versions.filter_map(RustVersion::parse).max().unwrap_or_default()
}

/// The libraries among the packages.
fn crates(metadata: &Value) -> Vec<Crate> {
    let packages = list(&metadata["packages"]);
    let features = Features::of(packages);
    let is_library = |package: &&Value| {
        list(&package["targets"]).iter().any(|target| list(&target["kind"]).contains(&"lib".into()))
    };
    packages
        .iter()
        .filter(is_library)
        .filter_map(|package| {
            let name = package["name"].as_str()?.to_owned();
            let names: Vec<String> = package["features"].as_object().map_or_else(Vec::new, |all| {
                all.keys().filter(|key| *key != "default").cloned().collect()
            });
            let needs_no_std = |feature: &&String| !features.need_std(&name, feature);
            let no_std_features = names.iter().filter(needs_no_std).cloned().collect();
            let no_std = list(&package["categories"]).contains(&"no-std".into());
            // An empty list stands for `publish = false`, null for any registry.
            let published = package["publish"].as_array().is_none_or(|list| !list.is_empty());
            Some(Crate { name, features: names, no_std_features, no_std, published })
        })
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What each feature of each package of the workspace enables, as its manifest has it.
struct Features<'a>(HashMap<(&'a str, &'a str), Vec<&'a str>>);

impl<'a> Features<'a> {
    fn of(packages: &'a [Value]) -> Self {
        let mut all = HashMap::new();
        for package in packages {
            let name = package["name"].as_str().unwrap_or_default();
            for (feature, enables) in package["features"].as_object().into_iter().flatten() {
                let enables = list(enables).iter().filter_map(Value::as_str).collect();
                all.insert((name, feature.as_str()), enables);
            }
        }
        Self(all)
    }

    /// A feature needs the standard library if it is named `std`, here or in any dependency, or
    /// enables a feature that needs it.
    fn need_std(&self, package: &'a str, feature: &'a str) -> bool {
        let mut seen = HashSet::new();
        let mut open = vec![(package, feature)];
        while let Some((package, feature)) = open.pop() {
            if feature == "std" {
                return true;
            }
            if !seen.insert((package, feature)) {
                continue;
            }
            for enabled in self.0.get(&(package, feature)).into_iter().flatten() {
                open.push(match enabled.split_once('/') {
                    // A question mark stands for "if the dependency is enabled by another".
                    Some((dependency, feature)) => (dependency.trim_end_matches('?'), feature),
                    None => (package, enabled),
                });
            }
        }
        false
    }
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
        let want = Crate {
            name: "a".into(),
            features: vec!["std".into()],
            no_std_features: Vec::new(),
            no_std: true,
            published: true,
        };
        assert_eq!(crates(&metadata), [want]);
        assert_eq!(crates(&Value::Null), []);
    }

    #[test]
    fn features_that_need_std_are_found_through_others_and_dependencies() {
        let metadata = serde_json::json!({"packages": [
            {
                "name": "low",
                "targets": [{"kind": ["lib"]}],
                "features": {
                    "std": [], "alloc": [], "fake": ["std"], "ring": ["circle"], "circle": ["ring"],
                },
            },
            {
                "name": "high",
                "targets": [{"kind": ["lib"]}],
                "features": {
                    "default": ["files"],
                    "files": ["dep:outside", "outside/std"],
                    "optional": ["outside?/std"],
                    "tested": ["low/fake"],
                    "owned": ["low/alloc", "plain"],
                    "plain": ["dep:outside", "outside/other"],
                },
            },
        ]});
        let found = crates(&metadata);
        assert_eq!(found[0].no_std_features, ["alloc", "circle", "ring"]);
        assert_eq!(found[1].no_std_features, ["owned", "plain"]);
        assert_eq!(found[1].no_std_feature_sets(), ["", "owned", "plain", "owned,plain"]);
        // Without the category, all of a crate is for the host.
        assert_eq!(found[0].std_feature_sets(), found[0].small_feature_sets().collect::<Vec<_>>());
        let bare = Crate { no_std: true, ..found[0].clone() };
        assert_eq!(bare.std_feature_sets(), ["fake", "std"]);
    }

    #[test]
    fn versions_of_rust() {
        let version = |major, minor| Some(RustVersion { major, minor });
        assert_eq!(RustVersion::parse("1.96.0+dfsg1-1~deb12u2"), version(1, 96));
        assert_eq!(RustVersion::parse("1.88"), version(1, 88));
        assert_eq!(RustVersion::parse("unknown"), None);
        assert!(version(1, 100) > version(1, 88));
        let packages = serde_json::json!({"packages": [
            {"rust_version": "1.88"}, {"rust_version": "1.90.1"}, {"rust_version": null},
        ]});
        assert_eq!(Some(rust_version(&packages)), version(1, 90));
    }
}
