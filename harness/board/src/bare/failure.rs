//! Why a program ends.

use alloc::string::{String, ToString};
use core::fmt;

/// Why a program ends. Errors become text at once: a trait object would keep their `Debug` code in
/// the image.
pub struct Failure(pub String);

impl<E: core::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
