//! Memory attributes of table walks, as STEs and CDs encode them.

use super::FieldError;

/// Cacheability of table walks (`IR`/`OR` fields).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cacheability {
    /// Non-cacheable.
    #[default]
    NonCacheable = 0,
    /// Write-Back, Read-Allocate, Write-Allocate.
    WriteBack = 1,
    /// Write-Through, Read-Allocate.
    WriteThrough = 2,
    /// Write-Back, Read-Allocate, no Write-Allocate.
    WriteBackNoAllocate = 3,
}

impl Cacheability {
    /// The attribute with this 2-bit encoding. Higher bits are ignored.
    #[must_use]
    pub const fn from_encoding(value: u64) -> Self {
        match value & 3 {
            0 => Cacheability::NonCacheable,
            1 => Cacheability::WriteBack,
            2 => Cacheability::WriteThrough,
            _ => Cacheability::WriteBackNoAllocate,
        }
    }
}

/// Shareability of table walks (`SH` fields). The value 1 is reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Shareability {
    /// Non-shareable.
    #[default]
    NonShareable = 0,
    /// The reserved value 1.
    Reserved = 1,
    /// Outer Shareable.
    Outer = 2,
    /// Inner Shareable.
    Inner = 3,
}

impl Shareability {
    /// The attribute with this 2-bit encoding. Higher bits are ignored.
    #[must_use]
    pub const fn from_encoding(value: u64) -> Self {
        match value & 3 {
            0 => Shareability::NonShareable,
            1 => Shareability::Reserved,
            2 => Shareability::Outer,
            _ => Shareability::Inner,
        }
    }

    /// The encoding of a value that is not the reserved one.
    pub(crate) const fn checked(self, field: &'static str) -> Result<u64, FieldError> {
        match self {
            Shareability::Reserved => Err(FieldError::Reserved { field, value: self as u64 }),
            _ => Ok(self as u64),
        }
    }
}
