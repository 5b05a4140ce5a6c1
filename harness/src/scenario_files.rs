//! Scenario files, and the scenarios built into the program.

use std::path::{Path, PathBuf};

use smmu_engine::scenario::{Scenario, ScenarioError};

/// Why a scenario cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{path}: {error}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: String,
    },
    /// The text of the file is wrong.
    #[error(transparent)]
    Text(#[from] ScenarioError),
}

macro_rules! builtins {
    ($($name:literal),* $(,)?) => {
        const BUILTINS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../scenarios/", $name, ".toml")))),*];
    };
}

builtins! {
    "first-light",
    "remap",
    "map-refused",
    "blocks",
    "tag-reuse",
    "tag-per-smmu",
    "wrong-tag-is-stale",
    "tag-reuse-before-flush",
    "stage2-vmid",
    "replace-domain",
    "blocked-and-bypass",
    "prepare-fails-clean",
    "tags-exhausted",
    "bad-command",
    "queue-full",
    "queue-slow",
    "sync-timeout",
    "atc-timeout",
    "msi-sync",
    "msi-interrupts",
    "two-queues",
    "fetch-abort",
    "detach-unconfirmed-then-settled",
    "smmu-goes-away",
    "multi-stream-device",
    "smmu-is-reset",
    "suspend-resume",
    "cannot-share",
    "smmus-of-different-kinds",
    "dma-reads",
    "event-overflow",
    "event-storm",
    "stall-and-resume",
    "stall-of-substreams",
    "page-request",
    "detach-with-page-requests",
    "granules",
    "parallel-callers",
    "two-level-tables",
    "hitless-replace",
    "group-attach",
    "deferred-flush",
    "blocked-never-fails",
    "pasid-attach",
    "pasid-last-gone",
    "pasid-beside-identity",
    "ats-on-off",
    "page-requests-on-off",
    "ats-live-replace",
    "ats-timeout-quarantine",
    "nested-guest",
    "two-vsmmus-one-parent",
    "guest-invalidates",
    "guest-rereads",
    "guest-is-hostile",
    "adopt-running",
    "adopt-refused",
    "reserved-region-at-boot",
}

/// The names of the scenarios built into the program, in their order.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    BUILTINS.iter().map(|(name, _)| *name)
}

/// The scenario of this name that is built into the program, `None` if there is none.
///
/// Only its text is parsed.
///
/// # Errors
///
/// A built-in scenario is wrong; the tests exclude that.
pub fn builtin_named(name: &str) -> Result<Option<Scenario>, ScenarioError> {
    let known = BUILTINS.iter().find(|(known, _)| *known == name);
    known.map(|(name, text)| parsed(name, text)).transpose()
}

/// The scenarios built into the program, in their order.
///
/// # Errors
///
/// A built-in scenario is wrong; the tests exclude that.
pub fn builtin() -> Result<Vec<Scenario>, ScenarioError> {
    BUILTINS.iter().map(|(name, text)| parsed(name, text)).collect()
}

fn parsed(name: &str, text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse(name, &format!("{name}.toml"), text)
}

/// Reads a scenario file. The scenario's name is that of the file.
///
/// # Errors
///
/// The file cannot be read, or its text is wrong.
pub fn load(path: &Path) -> Result<Scenario, LoadError> {
    const LIMIT: u64 = 1 << 20;
    let failed = |error: String| LoadError::Read { path: path.to_owned(), error };
    let metadata = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?;
    if !metadata.is_file() {
        // A read of a pipe without a writer would never return.
        return Err(failed("not a regular file".to_owned()));
    }
    let size = metadata.len();
    if size > LIMIT {
        return Err(failed(format!("a scenario has at most {LIMIT} bytes, not {size}")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    Ok(Scenario::parse(&name, &path.display().to_string(), &text)?)
}
