//! A device with ATS: its switch and its ATC.

use std::collections::{BTreeMap, BTreeSet};

use smmu_types::{AtcSpan, PhysAddr, SubstreamId};

use crate::hazard::Permissions;
use crate::queue::feed::QueueId;
use crate::walk::translation::Level;

/// log2 of the sizes that an entry can have: pages and blocks of each granule.
const SHIFTS: [u32; Level::LEAVES.len()] = {
    let mut shifts = [0; Level::LEAVES.len()];
    let mut n = 0;
    while n < shifts.len() {
        shifts[n] = Level::LEAVES[n].shift();
        n += 1;
    }
    shifts
};

/// What an entry of an ATC translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AtcKey {
    /// The substream of the request.
    pub(crate) substream: Option<SubstreamId>,
    /// log2 of the bytes.
    pub(crate) shift: u32,
    /// First input address.
    pub(crate) base: u64,
}

impl AtcKey {
    pub(crate) fn of(substream: Option<SubstreamId>, shift: u32, iova: u64) -> Self {
        AtcKey { substream, shift, base: iova >> shift << shift }
    }

    /// The last input address.
    pub(crate) fn last(&self) -> u64 {
        self.base | ((1 << self.shift) - 1)
    }
}

/// A translation that the SMMU gave to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtcEntry {
    /// First output address.
    pub(crate) output: u64,
    pub(crate) permissions: Permissions,
    /// Serial number: where several entries match, the smallest age serves.
    age: u64,
}

impl AtcEntry {
    pub(crate) fn at(&self, key: &AtcKey, iova: u64) -> PhysAddr {
        PhysAddr(self.output | iova & ((1 << key.shift) - 1))
    }
}

/// A device with ATS. It keeps each entry until an `ATC_INV` drops it, also while its ATS is off.
#[derive(Debug, Default)]
pub(crate) struct AtsDevice {
    /// The device's own switch.
    pub(crate) on: bool,
    /// The device's own switch of page requests; `None` if nobody has used it.
    pub(crate) asks: Option<bool>,
    entries: BTreeMap<AtcKey, AtcEntry>,
    age: u64,
    /// The queues of which an `ATC_INV` has no completed `CMD_SYNC` yet.
    outstanding: BTreeSet<QueueId>,
}

impl AtsDevice {
    /// The entry that translates `iova`.
    pub(crate) fn find(
        &self,
        substream: Option<SubstreamId>,
        iova: u64,
    ) -> Option<(AtcKey, AtcEntry)> {
        let keys = SHIFTS.map(|shift| AtcKey::of(substream, shift, iova));
        let found = keys.iter().filter_map(|key| self.entries.get(key).map(|e| (*key, *e)));
        found.min_by_key(|(_, entry)| entry.age)
    }

    /// Keep a translation. An entry that exists under its key stays unchanged.
    pub(crate) fn insert(&mut self, key: AtcKey, output: u64, permissions: Permissions) {
        self.age += 1;
        let entry = AtcEntry { output, permissions, age: self.age };
        self.entries.entry(key).or_insert(entry);
    }

    /// Forget one entry, because the device asks again for more permissions.
    pub(crate) fn forget(&mut self, key: &AtcKey) {
        self.entries.remove(key);
    }

    /// Drop what an `ATC_INV` covers, and return it.
    ///
    /// Without a substream that is the entries of every substream. With one it is the entries of
    /// this substream alone, also with `Global`: no completion of an SMMU has the Global bit (3.9.1).
    pub(crate) fn invalidate(
        &mut self,
        substream: Option<SubstreamId>,
        span: AtcSpan,
    ) -> Vec<AtcKey> {
        let first = span.address().0;
        let last = match span.size() {
            AtcSpan::MAX_SIZE => u64::MAX,
            size => first | ((1 << (size + 12)) - 1),
        };
        let mut gone = Vec::new();
        self.entries.retain(|key, _| {
            let theirs = substream.is_none() || key.substream == substream;
            let hit = theirs && key.base <= last && first <= key.last();
            if hit {
                gone.push(*key);
            }
            !hit
        });
        gone
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&AtcKey, &AtcEntry)> {
        self.entries.iter()
    }

    /// An `ATC_INV` of this queue waits for a `CMD_SYNC`.
    pub(crate) fn waits(&mut self, queue: QueueId) {
        self.outstanding.insert(queue);
    }

    /// A `CMD_SYNC` of this queue ended the wait, by completion or by a time-out.
    pub(crate) fn waited(&mut self, queue: QueueId) {
        self.outstanding.remove(&queue);
    }

    pub(crate) fn is_outstanding(&self, queue: QueueId) -> bool {
        self.outstanding.contains(&queue)
    }
}
