//! What is known of stalled transactions (IHI 0070, 3.12.2): each has a tag until it is resumed.

use std::collections::{BTreeMap, BTreeSet};

use smmu_types::StreamId;

use crate::requester::Requester;

/// What a device asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction {
    pub(crate) source: Requester,
    pub(crate) iova: u64,
    /// The value to write; `None` for a read.
    pub(crate) write: Option<u32>,
}

impl Transaction {
    /// A write of 4 bytes. Bits 1:0 of `iova` do not count.
    pub(crate) fn write(source: Requester, iova: u64, value: u32) -> Self {
        Transaction { source, iova: iova & !3, write: Some(value) }
    }

    /// A read of 4 bytes. Bits 1:0 of `iova` do not count.
    pub(crate) fn read(source: Requester, iova: u64) -> Self {
        Transaction { source, iova: iova & !3, write: None }
    }
}

/// A stalled transaction of one SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StallId(pub(super) u64);

/// How far a transaction of a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaProgress {
    /// The write is done.
    Written,
    /// The device has read this value.
    Read(u32),
    /// The SMMU refused it, or no RAM lies at its output address.
    Refused,
    /// It is stalled: [`Model::progress`](crate::Model::progress) says what becomes of it.
    Stalled(StallId),
}

#[derive(Debug)]
pub(super) struct Stalled {
    pub(super) transaction: Transaction,
    /// Tag of the recorded event; `None` while the SMMU could not record it.
    pub(super) tag: Option<u16>,
}

#[derive(Debug, Default)]
pub(crate) struct Stalls {
    // Survives a reset: the device asks for its transaction by it.
    pub(super) next: u64,
    pub(super) waiting: BTreeMap<u64, Stalled>,
    pub(super) ended: BTreeMap<u64, DmaProgress>,
    /// Tags that software has answered, and that the SMMU has not used again.
    pub(super) answered: BTreeSet<(u32, u16)>,
}

impl Stalls {
    /// Translation went off: each stalled transaction ends (3.12.2).
    pub(crate) fn end_all(&mut self) {
        for (id, _) in std::mem::take(&mut self.waiting) {
            self.ended.insert(id, DmaProgress::Refused);
        }
        self.answered.clear();
    }

    /// How far a transaction is.
    pub(crate) fn progress(&self, id: StallId) -> DmaProgress {
        let ended = self.ended.get(&id.0).copied();
        // An unknown id is of another SMMU.
        let known = self.waiting.contains_key(&id.0);
        ended.unwrap_or(if known { DmaProgress::Stalled(id) } else { DmaProgress::Refused })
    }

    pub(super) fn free_tag(&self, most: u16) -> Option<u16> {
        let used: BTreeSet<u16> = self.waiting.values().filter_map(|stalled| stalled.tag).collect();
        // The lowest free tag: a driver that answers twice hits the next transaction.
        (0..most).find(|tag| !used.contains(tag))
    }

    /// The stalled transactions that the driver has been told of.
    pub(crate) fn recorded(&self) -> impl Iterator<Item = (StreamId, u16)> + '_ {
        self.waiting.values().filter_map(|s| Some((s.transaction.source.stream, s.tag?)))
    }
}
