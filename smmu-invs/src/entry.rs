//! One entry: 16 bytes, never across a cache line.
//!
//! 1. Everything but `state` and `users` is constant while the entry exists.
//! 2. `users` is more than 0 if and only if the entry is live. Only writers look at it.
//! 3. In place, a state changes only from live to retiring or trash, and from retiring to trash.

use smmu_types::range::RangeSupport;
use smmu_types::{Regime, SmmuId};

use crate::sync::{AtomicU8, AtomicU32, Ordering};
use crate::key::rank;
use crate::{InvKey, InvKind, InvSpec};

/// Whether an entry counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryState {
    /// It has users.
    Live = 0,
    /// The last user is gone and the flush of the tag is not proven: invalidations still go there.
    Retiring = 1,
    /// Nothing of it is left in any cache; the next array is built without it.
    Trash = 2,
}

#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct Entry {
    smmu: u16,
    kind: InvKind,
    state: AtomicU8,
    id: u32,
    /// The SSID of ATS kinds, the options of tags.
    aux: u32,
    users: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Entry>() == 16);

/// What kinds of entries there are, for readers that need not look at them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents(u8);

impl Contents {
    pub(crate) const NONE: Self = Contents(0);
    pub(crate) const TAGS: Self = Contents(1 << 0);
    pub(crate) const NESTED_STAGE_1: Self = Contents(1 << 1);
    pub(crate) const DEVICE_CACHES: Self = Contents(1 << 2);
    /// Tags of an SMMU without ranges.
    pub(crate) const SINGLE: Self = Contents(1 << 3);

    pub(crate) const fn and(self, other: Self) -> Self {
        Contents(self.0 | other.0)
    }

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

const EL2: u32 = 1 << 0;
const RIL: u32 = 1 << 1;

fn aux(spec: &InvSpec) -> u32 {
    let mut options = 0;
    if spec.key.kind.is_ats() {
        return spec.key.ssid;
    }
    if spec.key.kind == InvKind::S1Asid && spec.regime == Regime::El2 {
        options |= EL2;
    }
    if spec.key.kind.has_range() && spec.range == RangeSupport::Ril {
        options |= RIL;
    }
    options
}

impl Entry {
    /// A live entry with one user.
    pub(crate) fn new(spec: &InvSpec) -> Self {
        Entry {
            smmu: spec.key.smmu.0,
            kind: spec.key.kind,
            state: AtomicU8::new(EntryState::Live as u8),
            id: spec.key.id,
            aux: aux(spec),
            users: AtomicU32::new(1),
        }
    }

    /// The same entry for another array, with `users` users.
    pub(crate) fn copy(&self, users: u32) -> Self {
        let state = if users > 0 { EntryState::Live } else { self.state() };
        Entry {
            smmu: self.smmu,
            kind: self.kind,
            state: AtomicU8::new(state as u8),
            id: self.id,
            aux: self.aux,
            users: AtomicU32::new(users),
        }
    }

    /// The same entry for another array, as it is.
    pub(crate) fn duplicate(&self) -> Self {
        Entry {
            smmu: self.smmu,
            kind: self.kind,
            state: AtomicU8::new(self.state.load(Ordering::Acquire)),
            id: self.id,
            aux: self.aux,
            users: AtomicU32::new(self.users()),
        }
    }

    /// The key as one number with the same order.
    pub(crate) fn rank(&self) -> u128 {
        let ssid = if self.kind.is_ats() { self.aux } else { 0 };
        rank(self.smmu, self.kind, self.id, ssid)
    }

    pub(crate) fn contents(&self) -> Contents {
        match self.kind {
            InvKind::S1Asid | InvKind::S2Vmid | InvKind::S2VmidVsmmu => match self.range() {
                RangeSupport::Ril => Contents::TAGS,
                RangeSupport::Single => Contents::TAGS.and(Contents::SINGLE),
            },
            InvKind::S2VmidS1Clear => Contents::NESTED_STAGE_1,
            InvKind::Ats | InvKind::AtsFull => Contents::DEVICE_CACHES,
        }
    }

    /// ASID, VMID or StreamID.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Of an entry with an ASID.
    pub(crate) fn regime(&self) -> Regime {
        if self.aux & EL2 == 0 { Regime::El1 } else { Regime::El2 }
    }

    /// Of an entry with a tag.
    pub(crate) fn range(&self) -> RangeSupport {
        if self.aux & RIL == 0 { RangeSupport::Single } else { RangeSupport::Ril }
    }

    pub(crate) fn smmu(&self) -> SmmuId {
        SmmuId(self.smmu)
    }

    pub(crate) fn kind(&self) -> InvKind {
        self.kind
    }

    pub(crate) fn key(&self) -> InvKey {
        let ssid = if self.kind.is_ats() { self.aux } else { 0 };
        InvKey { smmu: self.smmu(), kind: self.kind, id: self.id, ssid }
    }

    pub(crate) fn spec(&self) -> InvSpec {
        let options = if self.kind.is_ats() { 0 } else { self.aux };
        let regime = if options & EL2 == 0 { Regime::El1 } else { Regime::El2 };
        let range = if options & RIL == 0 { RangeSupport::Single } else { RangeSupport::Ril };
        InvSpec { key: self.key(), regime, range }
    }

    /// Whether the entry already means what `spec`, which has the same key, says.
    pub(crate) fn agrees_with(&self, spec: &InvSpec) -> bool {
        self.aux == aux(spec)
    }

    pub(crate) fn state(&self) -> EntryState {
        // Acquire: who sees trash also sees that the flush was complete before.
        match self.state.load(Ordering::Acquire) {
            0 => EntryState::Live,
            1 => EntryState::Retiring,
            _ => EntryState::Trash,
        }
    }

    pub(crate) fn users(&self) -> u32 {
        self.users.load(Ordering::Relaxed)
    }

    pub(crate) fn set_users(&self, users: u32) {
        self.users.store(users, Ordering::Relaxed);
    }

    pub(crate) fn set_state(&self, state: EntryState) {
        // Release: see `state`.
        self.state.store(state as u8, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use smmu_types::{Asid, CacheTag, StreamId, SubstreamId, Vmid};

    const SMMU: SmmuId = SmmuId(0xffff);

    #[rstest]
    #[case(InvSpec::tagged(SMMU, CacheTag::Asid(Regime::El1, Asid(0xffff)), RangeSupport::Single))]
    #[case(InvSpec::tagged(SMMU, CacheTag::Asid(Regime::El2, Asid(1)), RangeSupport::Ril))]
    #[case(InvSpec::tagged(SMMU, CacheTag::Vmid(Vmid(9)), RangeSupport::Ril))]
    #[case(InvSpec::vsmmu(SMMU, Vmid(9), RangeSupport::Single))]
    #[case(InvSpec::s1_clear(SMMU, Vmid(9)))]
    #[case(InvSpec::ats(SMMU, StreamId(u32::MAX), None))]
    #[case(InvSpec::ats(SMMU, StreamId(3), SubstreamId::new(0)))]
    #[case(InvSpec::ats(SMMU, StreamId(3), SubstreamId::new(SubstreamId::MAX)))]
    #[case(InvSpec::ats_full(SMMU, StreamId(3)))]
    fn inv_1_keeps_every_field(#[case] spec: InvSpec) {
        assert!(spec.key.is_well_formed());
        let entry = Entry::new(&spec);
        assert_eq!(entry.spec(), spec);
        assert_eq!((entry.state(), entry.users()), (EntryState::Live, 1));
        assert!(entry.agrees_with(&spec));
    }

    #[test]
    fn inv_2_a_copy_with_users_is_live() {
        let entry = Entry::new(&InvSpec::s1_clear(SMMU, Vmid(9)));
        entry.set_users(0);
        entry.set_state(EntryState::Retiring);
        assert_eq!(entry.copy(0).state(), EntryState::Retiring);
        assert_eq!(entry.copy(1).state(), EntryState::Live);
    }
}
