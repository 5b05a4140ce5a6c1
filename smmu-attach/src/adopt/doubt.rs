//! Why the tables of a running SMMU are not taken over: what is wrong, where, and what to do.

use core::fmt;

use smmu_tags::TagError;
use smmu_types::seam::DmaError;
use smmu_types::{CacheTag, PhysAddr, SmmuId, StreamId};

use crate::{AttachError, BrokenRule};

/// The structure that a [`Doubt`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// `STRTAB_BASE` and `STRTAB_BASE_CFG`.
    Registers,
    /// The level-1 descriptor of the stream table for this StreamID and those after it.
    StreamDescriptor(StreamId),
    /// The STE of a stream.
    Ste(StreamId),
    /// The level-1 descriptor of a stream's CD table for this SubstreamID and those after it.
    ContextDescriptor(StreamId, u32),
    /// The CD of a stream with this SubstreamID; 0 if the stream has none.
    Cd(StreamId, u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Registers => f.write_str("STRTAB_BASE"),
            Place::StreamDescriptor(stream) => write!(f, "the L1STD of StreamID {stream}"),
            Place::Ste(stream) => write!(f, "the STE of StreamID {stream}"),
            Place::ContextDescriptor(stream, substream) => {
                write!(f, "the L1CD of StreamID {stream}, SubstreamID {substream:#x}")
            }
            Place::Cd(stream, substream) => {
                write!(f, "the CD of StreamID {stream}, SubstreamID {substream:#x}")
            }
        }
    }
}

/// Why the tables in memory cannot be trusted. Nothing has changed.
///
/// The remedy of each is the same, unless its text names a better one: turn the SMMU off
/// (`Bringup::begin` of `smmu-hw-mmio`, which sets `GBPA.ABORT` first), and make a new
/// [`Smmu`](crate::Smmu).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Doubt {
    /// The structure breaks a rule of the architecture.
    #[error("{place} is not sound: {broken}; reset the SMMU")]
    Rule {
        /// The structure.
        place: Place,
        /// The field and the rule.
        broken: BrokenRule,
    },
    /// The structure has a value of which this version knows no meaning.
    #[error("{place} has a configuration that is not known; reset the SMMU")]
    Unknown {
        /// The structure.
        place: Place,
    },
    /// StreamIDs are wider than the architecture allows.
    #[error(
        "the stream table covers {bits} bits of StreamIDs, and 32 is the most; read the registers again"
    )]
    StreamBits {
        /// The bits.
        bits: u8,
    },
    /// `STRTAB_BASE` is an offset (`IDR1.REL`).
    #[error(
        "STRTAB_BASE is an offset from the SMMU's registers (IDR1.REL = 1), which is not supported; reset the SMMU"
    )]
    Relative,
    /// A table is not aligned as its user demands.
    #[error("{place} leads to {address}, which is not aligned to {align:#x} bytes; reset the SMMU")]
    Misaligned {
        /// The structure that leads to the table.
        place: Place,
        /// The address.
        address: PhysAddr,
        /// The alignment.
        align: u64,
    },
    /// A table ends beyond the output size of the SMMU.
    #[error(
        "{place} leads to {bytes:#x} bytes at {address}, beyond the {bits} bits of IDR5.OAS; reset the SMMU"
    )]
    BeyondOutput {
        /// The structure that leads to the table.
        place: Place,
        /// The address.
        address: PhysAddr,
        /// The size of the table.
        bytes: u64,
        /// Bits of an address.
        bits: u8,
    },
    /// A table is not in ordinary memory.
    #[error(
        "{place} leads to {address}, which cannot be read as memory; check the memory map, or reset the SMMU"
    )]
    Unreadable {
        /// The structure that is there, or that leads there.
        place: Place,
        /// The address.
        address: PhysAddr,
    },
    /// Two reads of one word differ.
    #[error("{place} at {address} changes while it is read; stop its owner, then read again")]
    Changing {
        /// The structure.
        place: Place,
        /// The first word that differs.
        address: PhysAddr,
    },
    /// Two tables share memory.
    #[error(
        "the table behind {place}, at {address}, overlaps the one behind {other}; reset the SMMU"
    )]
    Overlap {
        /// The structure that leads to the table.
        place: Place,
        /// The structure that leads to the other table.
        other: Place,
        /// The address of the table.
        address: PhysAddr,
    },
    /// The tables are larger than the reader may read.
    #[error(
        "reading {place} takes more than the {words} words allowed; allow more with ReadBudget::new, or reset the SMMU"
    )]
    TooLarge {
        /// The structure that leads to the next table.
        place: Place,
        /// The words allowed.
        words: u64,
    },
    /// The STE is one of a span that the SMMU may cache as one entry (`STE.CONT`).
    #[error(
        "the STE of StreamID {stream} is one of a span (CONT), so it cannot be changed alone; reset the SMMU"
    )]
    Contiguous {
        /// The stream.
        stream: StreamId,
    },
    /// Stage 2 has VMID 0, which all streams without stage 2 share.
    #[error(
        "stage 2 of StreamID {stream} has VMID 0, which streams without stage 2 use; reset the SMMU"
    )]
    VmidZero {
        /// The stream.
        stream: StreamId,
    },
    /// No memory for the list of what was found.
    #[error("no memory for the list of streams; free memory and read again")]
    OutOfMemory,
}

/// Why an SMMU was not taken over. Nothing has changed: the SMMU runs as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The platform does not map the table.
    #[error("{smmu}: the table at {address} cannot be mapped: {error}; see AdoptMemory::adopt")]
    Map {
        /// The SMMU.
        smmu: SmmuId,
        /// The table.
        address: PhysAddr,
        /// Why.
        error: DmaError,
    },
    /// The mapped table is not what was read.
    #[error(
        "{smmu}: the table at {address} is not what the survey read; stop its owner, then make a new survey"
    )]
    Differs {
        /// The SMMU.
        smmu: SmmuId,
        /// The first word that differs.
        address: PhysAddr,
    },
    /// A tag that the running tables use is not free.
    #[error(
        "{smmu}: {tag} is in use by the running tables and cannot be reserved: {error}; adopt before the first attach"
    )]
    Tag {
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
        /// Why.
        error: TagError,
    },
    /// The SMMU was not made.
    #[error(transparent)]
    Smmu(#[from] AttachError),
}
