//! Why an array was not built, or an SMMU did not invalidate.

use smmu_types::seam::SinkError;

use crate::InvKey;

/// Why an array or a request could not be built. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvError {
    /// No memory.
    #[error("no memory for {entries} invalidation entries; free some and try again")]
    OutOfMemory {
        /// Entries that were asked for.
        entries: usize,
    },
    /// A request buffer is full.
    #[error("the request buffer holds {capacity} entries and no more; allocate a larger one")]
    Full {
        /// Entries that it holds.
        capacity: usize,
    },
    /// A request that does not ascend.
    #[error("entry {index} of the request sorts before the one in front of it; sort by InvKey")]
    Unsorted {
        /// The first entry that is out of place.
        index: usize,
    },
    /// A request that names a key twice.
    #[error("entry {index} of the request repeats the key in front of it; name each key once")]
    Duplicate {
        /// The second of the two.
        index: usize,
    },
    /// A number that its field cannot hold.
    #[error(
        "entry {index} of the request ({key}) is no entry that can exist: a tag has 16 bits and no \
         SSID, an SSID has 20 bits"
    )]
    Malformed {
        /// The entry.
        index: usize,
        /// Its key.
        key: InvKey,
    },
    /// One key with two meanings.
    #[error(
        "{key} is in the array with another regime or range support; an SMMU cannot change them \
         while it is in use"
    )]
    Conflict {
        /// The key.
        key: InvKey,
    },
    /// The user count is at its end.
    #[error("{key} has {} users, and cannot count more", u32::MAX)]
    TooManyUsers {
        /// The key.
        key: InvKey,
    },
    /// The tag lost its last user, and its flush is not proven.
    #[error("{key} is retiring: its number cannot be in use again before its flush is proven")]
    Retiring {
        /// The key.
        key: InvKey,
    },
}

/// An invalidation that is not known to be complete everywhere.
///
/// The caller must treat what it unmapped as still reachable by devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the invalidation is not complete on {failed} SMMUs, so devices may still reach what was \
     unmapped; the first: {first}"
)]
pub struct InvalidateError {
    /// The error of the SMMU that failed first.
    #[source]
    pub first: SinkError,
    /// How many SMMUs failed; above 16 one may be counted more than once.
    pub failed: u32,
}

/// One SMMU that did not confirm an invalidation.
///
/// Where the SMMU refused a command, the error names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch of commands that begins with {from} is not complete: {error}")]
pub struct SmmuFailure {
    /// The first entry of the batch that failed. Its SMMU is the one that did not confirm.
    pub from: InvKey,
    /// Why.
    #[source]
    pub error: SinkError,
}

/// No memory for a node of a [`Publication`](crate::Publication).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory to publish {bytes} bytes; free some and try again")]
pub struct OutOfMemory {
    /// Bytes that were asked for.
    pub bytes: usize,
}
