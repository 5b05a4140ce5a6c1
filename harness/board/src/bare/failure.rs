//! Why a program ends.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

/// Why a program ends. Errors become text at once: a trait object would keep their `Debug` code in
/// the image.
pub struct Failure(pub String);

impl<E: core::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::told(&error)
    }
}

impl Failure {
    /// Out of line: most calls in a program can fail, and none of them is worth speed then.
    #[cold]
    #[inline(never)]
    fn told(error: &dyn fmt::Display) -> Self {
        Failure(error.to_string())
    }

    /// A failure with this text.
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn of(what: &str) -> Self {
        Failure(what.into())
    }

    /// What should have been.
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn expected(what: &str) -> Self {
        Failure(format!("expected: {what}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
