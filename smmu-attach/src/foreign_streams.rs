//! The streams that ran before an SMMU was taken over, and which of them a device has by now.

use alloc::vec::Vec;
use core::ops::Range;

use smmu_types::{CacheTag, StreamId};

/// Streams that ran before the SMMU was taken over, ascending. Never grows.
#[derive(Default)]
pub(crate) struct ForeignStreams {
    pub(crate) streams: Vec<ForeignStream>,
    pub(crate) tags: Vec<CacheTag>,
}

/// A stream that another owner attached.
pub(crate) struct ForeignStream {
    pub(crate) stream: StreamId,
    /// Its STE has `EATS`.
    pub(crate) has_ats: bool,
    /// Its tags, in the list of all tags.
    pub(crate) tags: Range<usize>,
    /// A device has it.
    pub(crate) taken: bool,
}

impl ForeignStreams {
    pub(crate) fn get(&self, stream: StreamId) -> Option<&ForeignStream> {
        let at = self.streams.binary_search_by_key(&stream, |foreign| foreign.stream).ok()?;
        self.streams.get(at).filter(|foreign| !foreign.taken)
    }

    pub(crate) fn take(&mut self, stream: StreamId) {
        if let Ok(at) = self.streams.binary_search_by_key(&stream, |foreign| foreign.stream)
            && let Some(foreign) = self.streams.get_mut(at)
        {
            foreign.taken = true;
        }
    }

    /// The first stream after `after` that no device has.
    pub(crate) fn next(&self, after: Option<StreamId>) -> Option<StreamId> {
        let from = match after {
            Some(after) => self.streams.partition_point(|foreign| foreign.stream <= after),
            None => 0,
        };
        let mut left = self.streams.get(from..)?.iter();
        left.find(|foreign| !foreign.taken).map(|foreign| foreign.stream)
    }
}
