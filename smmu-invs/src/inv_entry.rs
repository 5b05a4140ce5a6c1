//! One entry: 16 bytes, never across a cache line.
//!
//! 1. All but `state` and `users` is constant while the entry exists.
//! 2. `users` is more than 0 if and only if the entry is live. Only writers read it.
//! 3. In place, a state changes only from live to retiring or trash, and from retiring to trash.
//!
//! An entry has two words. The first, the head, has the SMMU, the kind, the id and, in its lowest
//! byte, the state: so heads sort like keys, and one load gives a reader all but the options. The
//! second has the SSID or the options, and the users.

use core::cmp;

use smmu_types::range::RangeSupport;
use smmu_types::{Regime, SmmuId};

use crate::sync::{AtomicU64, Barrier, Ordering, order};
use crate::{InvKey, InvKind, InvSpec};

/// The state of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryState {
    /// The entry has users.
    Live = 0,
    /// The last user is gone, and the flush of the tag is not proven. Readers still invalidate it.
    Retiring = 1,
    /// No cache has any of it. Readers skip it, and the next array leaves it out.
    Trash = 2,
}

/// The first word of an entry, at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Head(u64);

impl Head {
    #[inline]
    pub(crate) fn smmu(self) -> SmmuId {
        SmmuId((self.0 >> 48) as u16)
    }

    /// The kind as a number.
    #[inline]
    pub(crate) fn kind_number(self) -> u8 {
        (self.0 >> 40) as u8
    }

    #[inline]
    pub(crate) fn kind(self) -> InvKind {
        match self.kind_number() {
            0 => InvKind::S1Asid,
            1 => InvKind::S2Vmid,
            2 => InvKind::S2VmidVsmmu,
            3 => InvKind::S2VmidS1Clear,
            4 => InvKind::Ats,
            _ => InvKind::AtsFull,
        }
    }

    #[inline]
    pub(crate) fn is_ats(self) -> bool {
        self.kind_number() >= InvKind::Ats as u8
    }

    /// Whether both are of one kind on one SMMU.
    #[inline]
    pub(crate) fn is_beside(self, other: Head) -> bool {
        self.0 >> 40 == other.0 >> 40
    }

    /// ASID, VMID or StreamID.
    #[inline]
    pub(crate) fn id(self) -> u32 {
        (self.0 >> 8) as u32
    }

    #[inline]
    pub(crate) fn state(self) -> EntryState {
        match self.0 & 0xff {
            0 => EntryState::Live,
            1 => EntryState::Retiring,
            _ => EntryState::Trash,
        }
    }

    #[inline]
    pub(crate) fn is_trash(self) -> bool {
        self.0 & 0xff >= EntryState::Trash as u64
    }

    /// The head of a live entry with this key.
    #[inline]
    const fn live(key: &InvKey) -> Self {
        Head(Rank::of(key).high << 8 | EntryState::Live as u64)
    }

    const fn with(self, state: EntryState) -> Self {
        Head(self.0 & !0xff | state as u64)
    }
}

/// A key as numbers, with the order of keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    high: u64,
    ssid: u32,
}

impl Rank {
    #[inline]
    pub(crate) const fn of(key: &InvKey) -> Self {
        let high = (key.smmu.0 as u64) << 40 | (key.kind as u64) << 32 | key.id as u64;
        Rank { high, ssid: key.ssid }
    }
}

#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct InvEntry {
    head: AtomicU64,
    tail: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<InvEntry>() == 16);

/// The kinds of entries in an array, so that a reader can skip a phase without entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents(u8);

impl Contents {
    pub(crate) const NONE: Self = Contents(0);
    pub(crate) const TAGS: Self = Contents(1 << 0);
    pub(crate) const NESTED_STAGE_1: Self = Contents(1 << 1);
    pub(crate) const DEVICE_CACHES: Self = Contents(1 << 2);
    /// Tags of an SMMU without range commands.
    pub(crate) const SINGLE: Self = Contents(1 << 3);

    pub(crate) const fn and(self, other: Self) -> Self {
        Contents(self.0 | other.0)
    }

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// The regime and the range support of an entry with a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryOptions(u32);

impl EntryOptions {
    #[inline]
    pub(crate) fn regime(self) -> Regime {
        if self.0 & EL2 == 0 { Regime::El1 } else { Regime::El2 }
    }

    #[inline]
    pub(crate) fn range(self) -> RangeSupport {
        match self.0 & (RIL | DS) {
            0 => RangeSupport::Single,
            RIL => RangeSupport::Ril,
            _ => RangeSupport::RilDs,
        }
    }
}

const EL2: u32 = 1 << 0;
const RIL: u32 = 1 << 1;
const DS: u32 = 1 << 2;

const fn aux(spec: &InvSpec) -> u32 {
    let mut options = 0;
    if spec.key.kind.is_ats() {
        return spec.key.ssid;
    }
    if matches!((spec.key.kind, spec.regime), (InvKind::S1Asid, Regime::El2)) {
        options |= EL2;
    }
    if spec.key.kind.has_range() {
        options |= match spec.range {
            RangeSupport::Single => 0,
            RangeSupport::Ril => RIL,
            RangeSupport::RilDs => RIL | DS,
        };
    }
    options
}

/// The contents of an entry with this head and these options.
#[inline]
fn contents(head: Head, aux: u32) -> Contents {
    if head.is_ats() {
        return Contents::DEVICE_CACHES;
    }
    match head.kind() {
        InvKind::S2VmidS1Clear => Contents::NESTED_STAGE_1,
        _ if aux & RIL == 0 => Contents::TAGS.and(Contents::SINGLE),
        _ => Contents::TAGS,
    }
}

impl InvEntry {
    #[inline]
    fn from_words(head: Head, tail: u64) -> Self {
        InvEntry { head: AtomicU64::new(head.0), tail: AtomicU64::new(tail) }
    }

    /// A live entry with one user.
    #[inline]
    pub(crate) fn new(spec: &InvSpec) -> Self {
        Self::from_words(Head::live(&spec.key), u64::from(aux(spec)) << 32 | 1)
    }

    /// A copy for another array.
    #[inline]
    pub(crate) fn duplicate(&self) -> Self {
        Self::from_words(self.head(), self.tail())
    }

    /// A live copy for another array, with `users` users.
    pub(crate) fn with_users(&self, users: u32) -> Self {
        let tail = u64::from(self.aux()) << 32 | u64::from(users);
        Self::from_words(self.head().with(EntryState::Live), tail)
    }

    /// The first word: all but the options and the users.
    #[inline]
    pub(crate) fn head(&self) -> Head {
        // Acquire: a reader that sees trash comes after the flush.
        Head(self.head.load(order(Barrier::TrashAcquire, Ordering::Acquire)))
    }

    #[inline]
    fn tail(&self) -> u64 {
        // Relaxed: readers act on the constant half (1), and the domain's lock serialises writers.
        self.tail.load(Ordering::Relaxed)
    }

    /// The SSID of an ATS entry, the options of others.
    #[inline]
    pub(crate) fn aux(&self) -> u32 {
        (self.tail() >> 32) as u32
    }

    /// Whether the entry's key is below, at or above the key of this rank.
    #[inline]
    pub(crate) fn compare(&self, rank: Rank) -> cmp::Ordering {
        let head = self.head();
        let high = head.0 >> 8;
        if high != rank.high {
            return if high < rank.high { cmp::Ordering::Less } else { cmp::Ordering::Greater };
        }
        if head.is_ats() { self.aux().cmp(&rank.ssid) } else { cmp::Ordering::Equal }
    }

    #[inline]
    pub(crate) fn state(&self) -> EntryState {
        self.head().state()
    }

    #[inline]
    pub(crate) fn is_trash(&self) -> bool {
        self.head().is_trash()
    }

    #[inline]
    pub(crate) fn users(&self) -> u32 {
        self.tail() as u32
    }

    /// The options of an entry of this kind.
    #[inline]
    pub(crate) fn options(&self, kind: InvKind) -> EntryOptions {
        EntryOptions(if kind.is_ats() { 0 } else { self.aux() })
    }

    pub(crate) fn contents(&self) -> Contents {
        contents(self.head(), self.aux())
    }

    /// A copy for another array, with its contents, unless the entry is trash.
    #[inline]
    pub(crate) fn duplicate_kept(&self) -> Option<(Self, Contents)> {
        let head = self.head();
        if head.is_trash() {
            return None;
        }
        let tail = self.tail();
        Some((Self::from_words(head, tail), contents(head, (tail >> 32) as u32)))
    }

    pub(crate) fn key(&self) -> InvKey {
        let head = self.head();
        let ssid = if head.kind().is_ats() { self.aux() } else { 0 };
        InvKey { smmu: head.smmu(), kind: head.kind(), id: head.id(), ssid }
    }

    pub(crate) fn spec(&self) -> InvSpec {
        let options = self.options(self.head().kind());
        InvSpec { key: self.key(), regime: options.regime(), range: options.range() }
    }

    /// Whether the entry has the options of `spec`, which has its key.
    pub(crate) fn agrees_with(&self, spec: &InvSpec) -> bool {
        self.aux() == aux(spec)
    }

    // The domain's lock serialises writers: no word changes between the load and the store.

    #[inline]
    pub(crate) fn set_users(&self, users: u32) {
        let tail = self.tail() & !u64::from(u32::MAX) | u64::from(users);
        self.tail.store(tail, Ordering::Relaxed);
    }

    /// Takes one user from a live entry with this key. Returns its head, and the users that are left.
    ///
    /// `None`, and nothing has changed, if the entry is not live or has another key.
    #[inline(always)]
    pub(crate) fn drop_user(&self, key: &InvKey) -> Option<(Head, u32)> {
        // One comparison for the SMMU, the kind, the id and the state.
        let (head, tail) = (self.head(), self.tail());
        let is_other = head.0 != Head::live(key).0;
        if is_other || head.is_ats() && (tail >> 32) as u32 != key.ssid {
            return None;
        }
        // A live entry has users (2). Without any, a subtraction would borrow from the options.
        let left = tail - u64::from(tail as u32 != 0);
        self.tail.store(left, Ordering::Relaxed);
        Some((head, left as u32))
    }

    #[inline]
    pub(crate) fn set_state(&self, state: EntryState) {
        self.change_state(self.head(), state);
    }

    /// [`set_state`](Self::set_state), for the writer that has the head.
    #[inline]
    pub(crate) fn change_state(&self, head: Head, state: EntryState) {
        // Release: see `head`.
        let release = order(Barrier::TrashRelease, Ordering::Release);
        self.head.store(head.with(state).0, release);
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
    #[case(InvSpec::tagged(SMMU, CacheTag::Vmid(Vmid(9)), RangeSupport::RilDs))]
    #[case(InvSpec::vsmmu(SMMU, Vmid(9), RangeSupport::Single))]
    #[case(InvSpec::s1_clear(SMMU, Vmid(9)))]
    #[case(InvSpec::ats(SMMU, StreamId(u32::MAX), None))]
    #[case(InvSpec::ats(SMMU, StreamId(3), SubstreamId::new(0)))]
    #[case(InvSpec::ats(SMMU, StreamId(3), SubstreamId::new(SubstreamId::MAX)))]
    #[case(InvSpec::ats_full(SMMU, StreamId(3)))]
    fn inv_1_an_entry_keeps_every_field(#[case] spec: InvSpec) {
        assert!(spec.key.is_well_formed());
        let entry = InvEntry::new(&spec);
        assert_eq!(entry.spec(), spec);
        assert_eq!((entry.state(), entry.users()), (EntryState::Live, 1));
        assert!(entry.agrees_with(&spec));
    }

    #[test]
    fn an_entry_has_16_bytes_and_never_crosses_a_cache_line() {
        assert_eq!((size_of::<InvEntry>(), align_of::<InvEntry>()), (16, 16));
    }

    #[test]
    fn the_order_of_ranks_is_the_order_of_keys() {
        let keys = [
            InvSpec::tagged(
                SmmuId(1),
                CacheTag::Asid(Regime::El1, Asid(0xffff)),
                RangeSupport::Ril,
            ),
            InvSpec::vsmmu(SmmuId(1), Vmid(1), RangeSupport::Ril),
            InvSpec::ats(SmmuId(1), StreamId(0), None),
            InvSpec::ats(SmmuId(1), StreamId(u32::MAX), SubstreamId::new(0)),
            InvSpec::ats(SmmuId(1), StreamId(u32::MAX), None),
            InvSpec::ats_full(SmmuId(1), StreamId(0)),
            InvSpec::s1_clear(SmmuId(2), Vmid(0)),
        ];
        assert!(keys.is_sorted_by(|a, b| a.key < b.key));
        for (a, b) in keys.iter().flat_map(|a| keys.iter().map(move |b| (a, b))) {
            let (entry, rank) = (InvEntry::new(a), Rank::of(&b.key));
            assert_eq!(entry.compare(rank), a.key.cmp(&b.key), "{a} {b}");
        }
    }

    #[test]
    fn inv_2_a_copy_with_users_is_live() {
        let entry = InvEntry::new(&InvSpec::s1_clear(SMMU, Vmid(9)));
        entry.set_users(0);
        entry.set_state(EntryState::Retiring);
        assert_eq!(entry.duplicate().state(), EntryState::Retiring);
        let again = entry.with_users(2);
        assert_eq!((again.state(), again.users(), again.key()), (EntryState::Live, 2, entry.key()));
    }
}
