//! The error for a value that its field cannot hold.

/// A field cannot hold the given value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// An address does not have the alignment that its field implies.
    #[error("{field} = {value:#x} is not aligned to {align:#x} bytes; the low bits would be lost")]
    Misaligned {
        /// Field name of the architecture.
        field: &'static str,
        /// The value given.
        value: u64,
        /// Alignment needed, in bytes.
        align: u64,
    },
    /// A value is larger than its field.
    #[error("{field} = {value:#x} does not fit; the largest value is {max:#x}")]
    TooLarge {
        /// Field name of the architecture.
        field: &'static str,
        /// The value given.
        value: u64,
        /// The largest value that fits.
        max: u64,
    },
    /// A value, or a combination of values, is reserved.
    #[error("{field} = {value:#x} is reserved here")]
    Reserved {
        /// Field name of the architecture.
        field: &'static str,
        /// The value given.
        value: u64,
    },
}
