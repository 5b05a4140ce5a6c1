//! Requests of a device to an array, in memory of their own.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::num::NonZeroU32;

use crate::inv_entry::{InvEntry, Rank};
use crate::{InvError, InvSpec};

/// Memory for the requests of one device.
///
/// A driver allocates it with the device. Then a request needs no memory later, and a driver can
/// always block the device.
///
/// 1. The buffer never grows beyond its capacity, and never reallocates.
/// 2. Its entries ascend strictly by [`InvKey`](crate::InvKey).
#[derive(Debug)]
pub struct RequestBuffer {
    specs: Vec<InvSpec>,
    capacity: usize,
}

impl RequestBuffer {
    /// A buffer for `capacity` entries. A device needs two, and one more for each stream with ATS.
    ///
    /// # Errors
    ///
    /// [`InvError::OutOfMemory`].
    pub fn with_capacity(capacity: usize) -> Result<Self, InvError> {
        let mut specs = Vec::new();
        specs
            .try_reserve_exact(capacity)
            .map_err(|_| InvError::OutOfMemory { entries: capacity })?;
        Ok(RequestBuffer { specs, capacity })
    }

    /// Removes all entries, and keeps the memory.
    pub fn clear(&mut self) {
        self.specs.clear();
    }

    /// Adds an entry that sorts after all others.
    ///
    /// # Errors
    ///
    /// [`InvError::Full`], [`InvError::Unsorted`], [`InvError::Duplicate`] or
    /// [`InvError::Malformed`]. The request has not changed.
    pub fn push(&mut self, spec: InvSpec) -> Result<(), InvError> {
        let index = self.specs.len();
        if index >= self.capacity {
            return Err(InvError::Full { capacity: self.capacity });
        }
        check_next(index, self.specs.last().map(|last| Rank::of(&last.key)), &spec)?;
        self.specs.push(spec);
        Ok(())
    }

    /// The request.
    #[must_use]
    pub fn as_slice(&self) -> &[InvSpec] {
        &self.specs
    }
}

/// An entry of a request, and how many users it gets.
///
/// For [`InvArray::merge_users`](crate::InvArray::merge_users): devices that one transaction attaches
/// share the entries of their SMMU. Each of them still leaves with a request of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvUsers {
    /// The entry.
    pub spec: InvSpec,
    /// Users that the array counts in addition.
    pub users: NonZeroU32,
}

/// What a merge adds: an entry and its users.
pub(crate) trait Requested {
    fn spec(&self) -> &InvSpec;
    fn users(&self) -> u32;
    /// The entry of an array that did not have it.
    fn entry(&self) -> InvEntry {
        InvEntry::new(self.spec()).with_users(self.users())
    }
}

impl Requested for InvSpec {
    fn spec(&self) -> &InvSpec {
        self
    }
    fn users(&self) -> u32 {
        1
    }
    fn entry(&self) -> InvEntry {
        InvEntry::new(self)
    }
}

impl Requested for InvUsers {
    fn spec(&self) -> &InvSpec {
        &self.spec
    }
    fn users(&self) -> u32 {
        self.users.get()
    }
}

pub(crate) fn check<R: Requested>(request: &[R]) -> Result<(), InvError> {
    let mut before = None;
    for (index, wanted) in request.iter().enumerate() {
        before = Some(check_next(index, before, wanted.spec())?);
    }
    Ok(())
}

/// Checks an entry beside the rank of the one before, and returns its own.
fn check_next(index: usize, before: Option<Rank>, spec: &InvSpec) -> Result<Rank, InvError> {
    if !spec.key.is_well_formed() {
        return Err(InvError::Malformed { index, key: spec.key });
    }
    let rank = Rank::of(&spec.key);
    match before.map(|before| before.cmp(&rank)) {
        None | Some(Ordering::Less) => Ok(rank),
        Some(Ordering::Equal) => Err(InvError::Duplicate { index }),
        Some(Ordering::Greater) => Err(InvError::Unsorted { index }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InvKey;
    use smmu_types::{SmmuId, StreamId, SubstreamId, Vmid};

    const SMMU: SmmuId = SmmuId(1);

    #[test]
    fn inv_1_2_a_buffer_holds_its_capacity_in_order() {
        let mut buffer = RequestBuffer::with_capacity(2).unwrap();
        let first = InvSpec::s1_clear(SMMU, Vmid(3));
        let second = InvSpec::ats(SMMU, StreamId(1), None);
        buffer.push(first).unwrap();
        assert_eq!(buffer.push(first), Err(InvError::Duplicate { index: 1 }));
        let lower = InvSpec::s1_clear(SMMU, Vmid(2));
        assert_eq!(buffer.push(lower), Err(InvError::Unsorted { index: 1 }));
        buffer.push(second).unwrap();
        assert_eq!(
            buffer.push(InvSpec::ats(SMMU, StreamId(2), None)),
            Err(InvError::Full { capacity: 2 })
        );
        assert_eq!(buffer.as_slice(), [first, second]);
        buffer.clear();
        buffer.push(lower).unwrap();
        assert_eq!(buffer.as_slice(), [lower]);
    }

    #[test]
    fn malformed_entries_are_refused() {
        let mut tag = InvSpec::s1_clear(SMMU, Vmid(3));
        tag.key.id = 0x1_0000;
        let mut stray = InvSpec::s1_clear(SMMU, Vmid(3));
        stray.key.ssid = InvKey::NO_SSID;
        let mut ats = InvSpec::ats_full(SMMU, StreamId(3));
        ats.key.ssid = SubstreamId::MAX + 1;
        for spec in [tag, stray, ats] {
            assert_eq!(check(&[spec]), Err(InvError::Malformed { index: 0, key: spec.key }));
        }
    }

    #[test]
    fn a_buffer_larger_than_memory_is_an_error() {
        let entries = usize::MAX / 2;
        let error = RequestBuffer::with_capacity(entries).unwrap_err();
        assert_eq!(error, InvError::OutOfMemory { entries });
    }
}
