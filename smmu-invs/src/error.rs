//! Errors of building an array, and of an invalidation.

use smmu_types::seam::SinkError;

use crate::InvKey;

/// Why an array or a request was not built. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvError {
    /// The allocator has no memory.
    #[error("no memory for {entries} invalidation entries; free some and try again")]
    OutOfMemory {
        /// Entries of the request to the allocator.
        entries: usize,
    },
    /// The request buffer is full.
    #[error("the request buffer is full with {capacity} entries; allocate a larger one")]
    Full {
        /// The entries that fit.
        capacity: usize,
    },
    /// The request does not ascend.
    #[error("entry {index} of the request sorts before the entry in front of it; sort by InvKey")]
    Unsorted {
        /// The first entry in the wrong place.
        index: usize,
    },
    /// The request has a key twice.
    #[error(
        "entry {index} of the request has the key of the entry in front of it; name each key once"
    )]
    Duplicate {
        /// The second entry with the key.
        index: usize,
    },
    /// A number is too large for its field.
    #[error(
        "entry {index} of the request ({key}) cannot exist: an ASID or VMID has 16 bits and no \
         SSID, an SSID has 20 bits"
    )]
    Malformed {
        /// The entry.
        index: usize,
        /// Its key.
        key: InvKey,
    },
    /// The array has the key with another regime or range support.
    #[error(
        "{key} is in the array with another regime or range support; neither can change while the \
         entry has users"
    )]
    Conflict {
        /// The key.
        key: InvKey,
    },
    /// The user count is full.
    #[error("{key} has {} users, and cannot count more", u32::MAX)]
    TooManyUsers {
        /// The key.
        key: InvKey,
    },
    /// The entry has lost its last user, and its flush is not proven.
    #[error("{key} is retiring: flush its tag and settle the proof before a device uses it again")]
    Retiring {
        /// The key.
        key: InvKey,
    },
}

/// At least one SMMU did not confirm an invalidation.
///
/// The caller must assume that devices still reach what it unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the invalidation is not complete on {failed} SMMUs, so devices may still reach what was \
     unmapped; the first: {first}"
)]
pub struct InvalidateError {
    /// The first error.
    #[source]
    pub first: SinkError,
    /// How many SMMUs failed. Above 16, an SMMU may count more than once.
    pub failed: u32,
}

/// An SMMU did not confirm an invalidation.
///
/// If the SMMU refused a command, the error names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch of commands that begins with {from} is not complete: {error}")]
pub struct SmmuFailure {
    /// The first entry of the failed batch. It names the SMMU.
    pub from: InvKey,
    /// The error of the SMMU's queue.
    #[source]
    pub error: SinkError,
}
