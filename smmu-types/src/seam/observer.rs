//! The seam to what hears of tags, entries and errors.

use super::SinkError;
use crate::{CacheTag, DomainId, SmmuId, StreamId};

/// Which kind of table entry was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableEntry {
    /// A stream table entry.
    Ste,
    /// A context descriptor.
    Cd,
}

/// Something that the driver did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A tag was taken from its space for a domain that had none on this SMMU.
    TagAllocated {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// The domain's tag on this SMMU was found in its invalidation array.
    TagFound {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
        /// Users before this one.
        users: u32,
    },
    /// A tag that no hardware ever saw went back to its space.
    TagAborted {
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// The last user of a tag is gone; its flush comes next.
    TagRetired {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// A flush was proven and the number is free.
    TagFreed {
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// A flush is not proven, or a device's new entry is not confirmed. The number is not free. A later
    /// retry can free it only in the first case.
    TagQuarantined {
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
        /// Why.
        error: SinkError,
    },
    /// A tag that hardware may know was dropped before its flush was proven: the number is never given out again.
    TagDropped {
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// The SMMU did not confirm a device's new entry. The entry is invalid in memory, and the device stays
    /// a user of the old domain's tag.
    ConfigUnconfirmed {
        /// The SMMU.
        smmu: SmmuId,
        /// The first stream of the device.
        stream: StreamId,
        /// Why.
        error: SinkError,
    },
    /// A table entry was changed and the configuration cache invalidated.
    EntryWritten {
        /// The SMMU.
        smmu: SmmuId,
        /// The stream.
        stream: StreamId,
        /// Which entry.
        entry: TableEntry,
        /// Number of `CMD_SYNC`s that the change took.
        syncs: u32,
    },
}

/// Learns what the driver does: for logs, traces and transcripts.
///
/// Calls come from wherever the driver runs, with its locks held: an implementor returns quickly and
/// does not call back into the driver.
pub trait Observer {
    /// Something happened.
    fn notice(&self, notice: Notice) {
        let _ = notice;
    }
}

/// Nobody listens.
impl Observer for () {}

impl<O: Observer + ?Sized> Observer for &O {
    fn notice(&self, notice: Notice) {
        (**self).notice(notice);
    }
}
