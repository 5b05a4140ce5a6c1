//! The source of a transaction: its StreamID, and its SubstreamID if it carries one.

use smmu_types::{StreamId, SubstreamId};

/// The identity of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Requester {
    pub(crate) stream: StreamId,
    /// The SubstreamID; `None` for a transaction with `SSV` = 0.
    pub(crate) substream: Option<SubstreamId>,
}

impl From<StreamId> for Requester {
    fn from(stream: StreamId) -> Self {
        Requester { stream, substream: None }
    }
}
