//! Reading scenario files, and errors that say where.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{File, Scenario, check};

/// Where a scenario's text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built into the program, under this name.
    Builtin(&'static str),
    /// A file.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Builtin(name) => write!(f, "{name}.toml"),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A scenario file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{path}: {error}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The text is wrong at a place.
    #[error("{file}:{line}:{column}: {message}")]
    At {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1, in characters.
        column: usize,
        /// What is wrong, and what would be right.
        message: String,
    },
}

impl ScenarioError {
    pub(super) fn at(
        file: &str,
        text: &str,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> Self {
        let before = &text.as_bytes()[..span.start.min(text.len())];
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        let start = before.iter().rposition(|&b| b == b'\n').map_or(0, |n| n + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        ScenarioError::At { file: file.to_owned(), line, column, message: message.into() }
    }
}

macro_rules! builtins {
    ($($name:literal),* $(,)?) => {
        const BUILTINS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*];
    };
}

builtins! {
    "first-light",
    "remap",
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
    "two-queues",
    "fetch-abort",
}

/// The scenarios that are built in, in their order.
///
/// # Errors
///
/// One of them is wrong, which the tests rule out.
pub fn builtin() -> Result<Vec<Scenario>, ScenarioError> {
    BUILTINS
        .iter()
        .map(|(name, text)| Scenario::parse(name, &Source::Builtin(name).to_string(), text))
        .collect()
}

impl Scenario {
    /// Read a scenario file. Its name is that of the file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is wrong.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        const LIMIT: u64 = 1 << 20;
        let failed = |error: String| ScenarioError::Read { path: path.to_owned(), error };
        let metadata = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?;
        if !metadata.is_file() {
            // A pipe would keep us waiting for whoever may write to it.
            return Err(failed("not a regular file".to_owned()));
        }
        let size = metadata.len();
        if size > LIMIT {
            return Err(failed(format!(
                "{size} bytes are too many for a scenario; {LIMIT} at most"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        Self::parse(&name, &path.display().to_string(), &text)
    }

    /// Parse the text of a scenario. `file` is what errors call it.
    ///
    /// # Errors
    ///
    /// The text is not TOML, has a key that is not known, or a name that stands for nothing.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self, ScenarioError> {
        let parsed: File = toml::from_str(text).map_err(|error| {
            let mut message = error.message().trim().replace('\n', "; ");
            if message.starts_with("wanted exactly 1 element") {
                message =
                    format!("{message}; a step and a command are one key each, such as `attach`");
            }
            ScenarioError::at(file, text, error.span().unwrap_or(0..0), message)
        })?;
        check::check(&parsed)
            .map_err(|(span, message)| ScenarioError::at(file, text, span, message))?;
        Ok(Scenario { name: name.to_owned(), file: parsed })
    }
}
