//! The seam to logs and traces: notices of tags, entries and errors.

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

/// A notice of what the driver did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The driver allocated a tag for a domain that had none on this SMMU.
    TagAllocated {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// The driver found the domain's tag for this SMMU in its invalidation array.
    TagFound {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
        /// Number of users before this one.
        users: u32,
    },
    /// A tag that no SMMU ever saw is free again.
    TagAborted {
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// The last user of a tag is gone. The flush follows.
    TagRetired {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// The flush of a tag is proven, and its number is free.
    TagFreed {
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// The owner said that the SMMU is gone, so it caches nothing with the tag, and the number is free.
    TagForgotten {
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// A flush is not proven, or the SMMU did not confirm a device's new entry. The number is not
    /// free. A later retry can free it only in the first case.
    TagQuarantined {
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
        /// Why.
        error: SinkError,
    },
    /// The driver dropped a tag before its flush was proven. Its number is never given out again,
    /// because the SMMU may still hold translations with it.
    TagDropped {
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// The SMMU did not confirm a device's new entry. The entry is invalid in memory, and the
    /// device stays a user of the old domain's tag.
    ConfigUnconfirmed {
        /// The SMMU.
        smmu: SmmuId,
        /// The first stream of the device.
        stream: StreamId,
        /// Why.
        error: SinkError,
    },
    /// A device did not confirm that its own cache dropped translations.
    AtcUnconfirmed {
        /// The SMMU.
        smmu: SmmuId,
        /// The first stream of the device.
        stream: StreamId,
        /// Why.
        error: SinkError,
    },
    /// The driver turned ATS on or off at a device, or the device refused to turn it on.
    AtsSwitched {
        /// The SMMU.
        smmu: SmmuId,
        /// The stream.
        stream: StreamId,
        /// Whether it is on now.
        on: bool,
    },
    /// The driver let a device ask for pages (PRI), or stopped it, or the device refused to ask.
    PageRequestsSwitched {
        /// The SMMU.
        smmu: SmmuId,
        /// The stream.
        stream: StreamId,
        /// Whether it may ask now.
        on: bool,
    },
    /// The driver changed a table entry, and invalidated the configuration cache.
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

/// Receives the driver's notices, for logs, traces and transcripts.
///
/// The driver calls it from any context and with its locks held. An implementor returns quickly and
/// does not call the driver.
pub trait Observer {
    /// Receives one notice.
    fn notice(&self, notice: Notice) {
        let _ = notice;
    }
}

/// Ignores every notice.
impl Observer for () {}

impl<O: Observer + ?Sized> Observer for &O {
    fn notice(&self, notice: Notice) {
        (**self).notice(notice);
    }
}
