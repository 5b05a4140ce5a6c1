//! How a check ends before its end, in words.

use std::fmt::{self, Display};

use smmu_engine::machine::BackendError;
use smmu_types::FieldError;

/// What a machine must do, and what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) expected: String,
    pub(super) got: String,
}

/// Why a check ends before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Wrong(Wrong),
    NotOffered(String),
    Backend(BackendError),
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        Stop::Backend(error)
    }
}

impl From<FieldError> for Stop {
    fn from(error: FieldError) -> Self {
        Stop::Backend(BackendError::Impossible(error.to_string()))
    }
}

/// How far a check came.
pub(super) type Checked<T = ()> = Result<T, Stop>;

/// A machine that did something else.
pub(super) fn wrong<T>(expected: impl Display, got: impl Display) -> Checked<T> {
    Err(Stop::Wrong(Wrong { expected: expected.to_string(), got: got.to_string() }))
}

/// A machine without something that no ID register tells.
pub(super) fn not_offered<T>(what: impl Display) -> Checked<T> {
    Err(Stop::NotOffered(what.to_string()))
}

/// Two values that must be the same.
pub(super) fn same<T: PartialEq + Display>(what: &str, expected: T, got: T) -> Checked {
    if expected == got {
        return Ok(());
    }
    wrong(format_args!("{what}: {expected}"), format_args!("{what}: {got}"))
}

/// Two words that must be the same.
pub(super) fn same_word(what: &str, expected: impl Into<u64>, got: impl Into<u64>) -> Checked {
    same(what, Word(expected.into()), Word(got.into()))
}

#[derive(PartialEq)]
struct Word(u64);

impl Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
