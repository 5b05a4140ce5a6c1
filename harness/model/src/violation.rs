//! How a driver broke the programming rules of a register.

use std::fmt;

/// How a driver broke the programming rules of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// No register is there.
    Undefined {
        /// Bytes from the base of page 0.
        offset: u32,
    },
    /// The access is not naturally aligned or not of the register's width.
    Width {
        /// Bytes from the base of page 0.
        offset: u32,
        /// Bytes of the access.
        bytes: u32,
    },
    /// A register that cannot be written was written.
    ReadOnly {
        /// The register.
        register: &'static str,
    },
    /// A register was written while an enable bit forbids it.
    Enabled {
        /// The register.
        register: &'static str,
        /// The enable bit.
        by: &'static str,
    },
    /// Reserved bits were set.
    ReservedBits {
        /// The register.
        register: &'static str,
        /// The bits.
        bits: u64,
    },
    /// A field has a value that this SMMU does not support.
    Unsupported {
        /// The register.
        register: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A base is not aligned to the size of what lies there.
    Alignment {
        /// The register.
        register: &'static str,
        /// The address.
        address: u64,
        /// The alignment that is needed.
        align: u64,
    },
    /// `GBPA` was written without `UPDATE`, or while an update was pending.
    Update,
    /// `GERRORN` toggled bits whose error is not active.
    NotActive {
        /// The bits.
        bits: u32,
    },
    /// A queue pointer was set to a place that it cannot be at.
    Pointer {
        /// The register.
        register: &'static str,
        /// What it was set to.
        value: u32,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Violation::Undefined { offset } => write!(f, "no register is at {offset:#x}"),
            Violation::Width { offset, bytes } => {
                write!(f, "an access of {bytes} bytes at {offset:#x} is misaligned or too wide")
            }
            Violation::ReadOnly { register } => {
                write!(f, "{register} was written; it is read-only")
            }
            Violation::Enabled { register, by } => {
                write!(f, "{register} was written while {by} is set; the write is ignored")
            }
            Violation::ReservedBits { register, bits } => {
                write!(f, "reserved bits {bits:#x} of {register} were set")
            }
            Violation::Unsupported { register, field, value } => {
                write!(f, "{register}.{field} = {value} is not supported here")
            }
            Violation::Alignment { register, address, align } => {
                write!(f, "{register} holds {address:#x}, which is not aligned to {align:#x} bytes")
            }
            Violation::Update => {
                f.write_str("GBPA was written without UPDATE, or before the last update was done")
            }
            Violation::NotActive { bits } => {
                write!(f, "GERRORN toggled bits {bits:#x}, whose errors are not active")
            }
            Violation::Pointer { register, value } => {
                write!(f, "{register} = {value:#x} is not a place that this pointer can be at")
            }
        }
    }
}
