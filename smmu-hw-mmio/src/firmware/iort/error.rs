//! Why an IORT, or a part of it, cannot be used.

use super::kind::NodeKind;
use super::limits::{MAX_BYTES, MAX_NODES};

/// Why an IORT, or a part of it, cannot be used, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at:#x} of IORT: {problem}")]
pub struct IortError {
    /// The byte of the table.
    pub at: u32,
    /// What is wrong there.
    pub problem: IortProblem,
}

/// What is wrong in an IORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IortProblem {
    /// The bytes end inside the header.
    #[error("{have} bytes are no header; an IORT has at least {need}")]
    NoHeader {
        /// The bytes given.
        have: usize,
        /// The bytes of a header.
        need: usize,
    },
    /// The table has another signature.
    #[error("the signature is {:?}, not \"IORT\"; give the table IORT", got.escape_ascii())]
    Signature {
        /// The first four bytes.
        got: [u8; 4],
    },
    /// The table is longer than the bytes given.
    #[error("the header says {length} bytes, but only {have} are here; read the whole table")]
    Truncated {
        /// The length in the header.
        length: u32,
        /// The bytes given.
        have: usize,
    },
    /// The table is longer than this crate reads.
    #[error("{length} bytes; this crate reads up to {MAX_BYTES}")]
    TooLong {
        /// The length in the header.
        length: u32,
    },
    /// The table has more nodes than this crate reads.
    #[error("{count} nodes; this crate reads up to {MAX_NODES}")]
    TooManyNodes {
        /// The number in the header.
        count: u32,
    },
    /// A node has a length that cannot be.
    #[error(
        "node {number} of {count} has length {length}; it needs at least {least}, and the table ends {room} bytes after its start"
    )]
    NodeLength {
        /// The node's place in the table, from 0.
        number: u32,
        /// The number of nodes in the header.
        count: u32,
        /// Its length.
        length: u16,
        /// The least length of its kind.
        least: u16,
        /// The bytes up to the end of the table.
        room: usize,
    },
    /// Mappings lie outside their node.
    #[error("{count} mappings at offset {offset:#x} lie outside the {length} bytes of their node")]
    MappingsOutside {
        /// The number of mappings.
        count: u32,
        /// Their offset in the node.
        offset: u32,
        /// The length of the node.
        length: u16,
    },
    /// The ranges of an RMR lie outside their node.
    #[error(
        "{count} memory ranges at offset {offset:#x} lie outside the {length} bytes of their node"
    )]
    RangesOutside {
        /// The number of ranges.
        count: u32,
        /// Their offset in the node.
        offset: u32,
        /// The length of the node.
        length: u16,
    },
    /// A mapping leads to no node.
    #[error("the mapping leads to byte {target:#x}, where no node begins; correct its reference")]
    NoTarget {
        /// The reference.
        target: u32,
    },
    /// A mapping leads to a node of a kind that it cannot lead to.
    #[error("the mapping leads from a {from} to a {to}; only an SMMU or an ITS group can follow")]
    WrongTarget {
        /// The kind of the node.
        from: NodeKind,
        /// The kind of the target.
        to: NodeKind,
    },
    /// A range of IDs passes 2^32.
    #[error(
        "IDs {first:#x} and {more:#x} more pass 2^32; the field is the number of IDs minus one"
    )]
    RangeWraps {
        /// The first ID.
        first: u32,
        /// The number of IDs after it.
        more: u32,
    },
    /// The table has no such SMMU.
    #[error("there is no smmu{asked}; IORT has {count} SMMUv3s, counted from 0")]
    NoSuchSmmu {
        /// The number asked for.
        asked: u16,
        /// The number of SMMUs.
        count: u16,
    },
    /// The DeviceID mapping index names no mapping.
    #[error("DeviceID mapping index {index} with {count} mappings; correct the index")]
    DeviceIdIndex {
        /// The index.
        index: u32,
        /// The number of mappings.
        count: u32,
    },
    /// The DeviceID mapping is not a single mapping.
    #[error("the SMMU's own DeviceID mapping lacks the flag for a single mapping; set it")]
    DeviceIdNotSingle,
    /// The access attributes of an RMR have a reserved value.
    #[error("the access attributes of the RMR are {got}; 0 to 5 have a meaning")]
    AccessAttributes {
        /// The value.
        got: u8,
    },
    /// A name of a named component is empty, or not printable ASCII with an end.
    #[error(
        "the name of the component is empty, does not end in its node, or is not printable ASCII"
    )]
    Name,
}
