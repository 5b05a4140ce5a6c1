//! Sizes as they are printed.

use std::fmt;

/// A number of bytes in thousands, as the limits have it.
pub(super) struct Kilobytes(pub(super) u64);

impl fmt::Display for Kilobytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KB", self.0.div_ceil(1000))
    }
}
