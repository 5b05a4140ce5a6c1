//! How a driver broke the programming rules of a register.

use std::fmt;

/// How a driver broke the programming rules of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// No register lies at the offset.
    Undefined {
        /// Bytes from the base of page 0.
        offset: u32,
    },
    /// The access is misaligned, or wider than the register.
    Width {
        /// Bytes from the base of page 0.
        offset: u32,
        /// Bytes of the access.
        bytes: u32,
    },
    /// The driver wrote a read-only register.
    ReadOnly {
        /// The register.
        register: &'static str,
    },
    /// The driver wrote a register while an enable bit forbids it. The SMMU ignored the write.
    Enabled {
        /// The register.
        register: &'static str,
        /// The enable bit.
        by: &'static str,
    },
    /// The driver set reserved bits.
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
    /// A base address is not aligned to the size of its table or queue.
    Alignment {
        /// The register.
        register: &'static str,
        /// The address.
        address: u64,
        /// The required alignment, in bytes.
        align: u64,
    },
    /// The driver wrote `GBPA` without `UPDATE`, or while an update was pending.
    Update,
    /// The driver wrote a register while a change of the queue's `EN` was not acknowledged. The SMMU
    /// ignored the write.
    Unacknowledged {
        /// The register.
        register: &'static str,
    },
    /// The driver toggled bits of `GERRORN` whose error is not active.
    NotActive {
        /// The bits.
        bits: u32,
    },
    /// The driver set a queue pointer to an impossible value.
    Pointer {
        /// The register.
        register: &'static str,
        /// The value that the driver wrote.
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
            Violation::Unacknowledged { register } => {
                write!(f, "{register} was written before a change of EN was acknowledged")
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
