//! The array of a domain.
//!
//! 1. Entries ascend strictly by [`InvKey`], trash included.
//! 2. [`InvArray::merge`] and [`InvArray::purge`] do not change `self`, and return an array without
//!    trash.
//! 3. A retiring entry stays, through every merge and purge, until [`InvArray::settle`] gets the
//!    proof of its flush.
//! 4. [`InvArray::unref`] and [`InvArray::settle`] neither fail nor allocate. A key that is not
//!    live is [`UnrefOutcome::NotPresent`].
//! 5. `merge` makes all checks before it allocates.
//! 6. An array counts its trash, each entry once, when the entry becomes trash.
//!
//! Readers ([`InvArray::invalidate`], [`InvArray::iter`]) may run at any time. The domain's lock
//! serialises callers that change an array, or build one from it. They publish or drop the new
//! array before the next change.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use smmu_types::{CacheTag, FlushProof, SmmuId};

use crate::inv_entry::{Contents, EntryState, InvEntry, Rank};
use crate::request::{self, InvUsers, Requested};
use crate::{InvError, InvKey, InvKind, InvSpec};

/// The sorted, counted invalidation array of one domain.
#[derive(Debug, Default)]
pub struct InvArray {
    entries: Vec<InvEntry>,
    // The contents of `entries`, or more: entries become trash in place.
    contents: Contents,
    // The entries that are trash (6). Only callers that the domain's lock serialises use it, so it
    // orders nothing, and the model checker need not know it.
    trash: AtomicU32,
}

/// The result of an [`InvArray::unref`] for one entry of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnrefOutcome {
    /// The entry has other users.
    StillUsed {
        /// The users that are left, more than 0.
        users: u32,
    },
    /// The entry has lost its last user. A tag is retiring now: flush it, then
    /// [`InvArray::settle`].
    LastUserGone,
    /// No live entry has the key. The caller's state is wrong; the array has not changed.
    NotPresent,
}

/// A live entry, as [`InvArray::find`] found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The entry.
    pub spec: InvSpec,
    /// Its users, more than 0.
    pub users: u32,
}

/// An entry at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvView {
    /// The entry.
    pub spec: InvSpec,
    /// Its users. 0 unless the entry is live.
    pub users: u32,
    /// Its state.
    pub state: EntryState,
}

impl fmt::Display for InvView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)?;
        match self.state {
            EntryState::Live => write!(f, " users={}", self.users),
            EntryState::Retiring => f.write_str(" retiring"),
            EntryState::Trash => f.write_str(" trash"),
        }
    }
}

impl InvArray {
    /// An array without entries. It allocates nothing.
    #[must_use]
    pub const fn empty() -> InvArray {
        InvArray { entries: Vec::new(), contents: Contents::NONE, trash: AtomicU32::new(0) }
    }

    /// A new array with one more user for each entry of `request`. The request ascends strictly.
    ///
    /// Retiring entries stay retiring. Two kinds become live again if the request names them:
    /// [`InvKind::S2VmidVsmmu`] and [`InvKind::S2VmidS1Clear`]. Their VMID has belonged to the same
    /// virtual SMMU all the time, and no invalidation has left them out.
    ///
    /// # Errors
    ///
    /// [`InvError::Unsorted`], [`InvError::Duplicate`] or [`InvError::Malformed`] for the request;
    /// [`InvError::Retiring`], [`InvError::Conflict`] or [`InvError::TooManyUsers`] if the request
    /// does not fit the array; [`InvError::OutOfMemory`].
    pub fn merge(&self, request: &[InvSpec]) -> Result<InvArray, InvError> {
        self.merge_each(request)
    }

    /// [`merge`](Self::merge) for several users at once, such as the devices of a group.
    ///
    /// # Errors
    ///
    /// As of [`merge`](Self::merge).
    pub fn merge_users(&self, request: &[InvUsers]) -> Result<InvArray, InvError> {
        self.merge_each(request)
    }

    #[inline]
    fn merge_each<R: Requested>(&self, request: &[R]) -> Result<InvArray, InvError> {
        request::check(request)?;
        let kept = self.kept();
        let contents = match self.trash() {
            // Then no entry has changed its contents since they were computed.
            0 => self.contents,
            _ => self.kept_contents(),
        };
        let mut count = kept;
        let mut from = 0;
        let mut places = Places::default();
        for (index, wanted) in request.iter().enumerate() {
            let (spec, key) = (wanted.spec(), wanted.spec().key);
            let (at, entry) = self.ahead(from, Rank::of(&key));
            places.keep(index, at, entry.is_some());
            from = at + usize::from(entry.is_some());
            let Some(entry) = entry.filter(|entry| !entry.is_trash()) else {
                count += 1;
                continue;
            };
            if !entry.agrees_with(spec) {
                return Err(InvError::Conflict { key });
            }
            if entry.state() == EntryState::Retiring && !may_revive(key.kind) {
                return Err(InvError::Retiring { key });
            }
            if entry.users().checked_add(wanted.users()).is_none() {
                return Err(InvError::TooManyUsers { key });
            }
        }
        let mut built = Builder::with_capacity(count, contents)?;
        let trash = Trash::of(kept, self.entries.len());
        let mut done = 0;
        for (index, wanted) in request.iter().enumerate() {
            let (at, entry) = match places.get(index) {
                Some((at, found)) => (at, self.entries.get(at).filter(|_| found)),
                None => self.ahead(done, Rank::of(&wanted.spec().key)),
            };
            built.copy(&self.entries[done..at], trash);
            done = at;
            match entry {
                Some(entry) => {
                    done += 1;
                    match entry.state() {
                        EntryState::Trash => built.add(wanted),
                        _ => {
                            let users = entry.users().saturating_add(wanted.users());
                            built.push(entry.with_users(users));
                        }
                    }
                }
                None => built.add(wanted),
            }
        }
        built.copy(&self.entries[done..], trash);
        Ok(built.finish())
    }

    /// Takes one user from each entry of `request`, in place. `outcome` gets the index of each
    /// entry in the request, and the result.
    ///
    /// Without users an ATS entry is trash at once. Any other entry is retiring: readers still
    /// invalidate it until its flush is proven.
    pub fn unref(&self, request: &[InvSpec], mut outcome: impl FnMut(usize, UnrefOutcome)) {
        let (mut from, mut trash) = (0, 0);
        for (index, spec) in request.iter().enumerate() {
            // Mostly the request is a part of the array without gaps.
            let next = self.entries.get(from);
            let (entry, (head, users)) = match next.and_then(|e| Some((e, e.drop_user(&spec.key)?)))
            {
                Some(found) => {
                    from += 1;
                    found
                }
                None => {
                    let (at, entry) = self.search(from, Rank::of(&spec.key));
                    from = at + usize::from(entry.is_some());
                    let Some(found) = entry.and_then(|e| Some((e, e.drop_user(&spec.key)?))) else {
                        outcome(index, UnrefOutcome::NotPresent);
                        continue;
                    };
                    found
                }
            };
            if users > 0 {
                outcome(index, UnrefOutcome::StillUsed { users });
                continue;
            }
            let state = match head.is_ats() {
                true => EntryState::Trash,
                false => EntryState::Retiring,
            };
            trash += u32::from(head.is_ats());
            entry.change_state(head, state);
            outcome(index, UnrefOutcome::LastUserGone);
        }
        self.add_trash(trash);
    }

    /// Turns the retiring entries of a tag into trash, with the proof of its flush. For a VMID
    /// these include [`InvKind::S2VmidS1Clear`]. `false` if no entry was retiring.
    ///
    /// The caller must have issued the flush after the [`unref`](Self::unref); no type checks that.
    /// Settle before the number is free again.
    pub fn settle(&self, proof: &FlushProof) -> bool {
        let smmu = proof.smmu();
        let kinds: &[InvKind] = match proof.tag() {
            CacheTag::Asid(..) => &[InvKind::S1Asid],
            CacheTag::Vmid(_) => &[InvKind::S2Vmid, InvKind::S2VmidVsmmu, InvKind::S2VmidS1Clear],
        };
        let id = match proof.tag() {
            CacheTag::Asid(_, asid) => asid.0.into(),
            CacheTag::Vmid(vmid) => vmid.0.into(),
        };
        let mut settled = false;
        for &kind in kinds {
            let key = InvKey { smmu, kind, id, ssid: 0 };
            let Some(entry) = self.get(&key) else { continue };
            let regime_fits = entry.spec().tag().is_none_or(|tag| tag == proof.tag());
            if entry.state() == EntryState::Retiring && regime_fits {
                entry.set_state(EntryState::Trash);
                self.add_trash(1);
                settled = true;
            }
        }
        settled
    }

    /// A new array without the trash, or `None` if `self` has no trash.
    ///
    /// # Errors
    ///
    /// [`InvError::OutOfMemory`]. The caller may keep the old array: each entry of trash costs
    /// readers one load.
    pub fn purge(&self) -> Result<Option<InvArray>, InvError> {
        if self.trash() == 0 {
            return Ok(None);
        }
        let mut built = Builder::with_capacity(self.kept(), Contents::NONE)?;
        let mut contents = Contents::NONE;
        for (entry, of_entry) in self.entries.iter().filter_map(InvEntry::duplicate_kept) {
            contents = contents.and(of_entry);
            built.push(entry);
        }
        Ok(Some(InvArray { contents, ..built.finish() }))
    }

    /// Turns all entries of an SMMU into trash, whatever their users. Returns the number of entries
    /// that were live or retiring.
    ///
    /// Call it when the SMMU does not translate any more: it is disabled and aborts, or was reset.
    /// Then its caches have no effect. The call cannot fail and allocates nothing. From then on an
    /// [`unref`](Self::unref) of such an entry gives [`UnrefOutcome::NotPresent`].
    ///
    /// A reader of an older array may still send commands to the SMMU. So [`purge`](Self::purge),
    /// publish, and keep the SMMU's queue until no reader has the replaced array.
    pub fn remove_smmu(&self, smmu: SmmuId) -> usize {
        let from = self.entries.partition_point(|entry| entry.head().smmu() < smmu);
        let mut removed = 0;
        for entry in self.entries[from..].iter().take_while(|entry| entry.head().smmu() == smmu) {
            if entry.is_trash() {
                continue;
            }
            removed += 1;
            // Users first: `set_state` is a release, so a thread that sees trash sees no users.
            entry.set_users(0);
            entry.set_state(EntryState::Trash);
        }
        self.add_trash(removed as u32);
        removed
    }

    /// The lowest live entry of `kind` on `smmu`.
    ///
    /// `None` for [`InvKind::S2VmidVsmmu`]: a domain may serve several virtual SMMUs of one SMMU,
    /// and each knows its own VMID.
    #[must_use]
    pub fn find(&self, smmu: SmmuId, kind: InvKind) -> Option<Found> {
        if kind == InvKind::S2VmidVsmmu {
            return None;
        }
        let of = |e: &InvEntry| (e.head().smmu(), e.head().kind());
        let from = self.entries.partition_point(|e| of(e) < (smmu, kind));
        self.entries[from..]
            .iter()
            .take_while(|e| of(e) == (smmu, kind))
            .find(|e| e.state() == EntryState::Live)
            .map(|e| Found { spec: e.spec(), users: e.users() })
    }

    /// All entries in order, trash included.
    pub fn iter(&self) -> impl Iterator<Item = InvView> {
        self.entries.iter().map(|entry| InvView {
            spec: entry.spec(),
            users: entry.users(),
            state: entry.state(),
        })
    }

    /// Number of entries, trash included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry is live or retiring. Then the domain has no users, and no cache has any of
    /// its translations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(InvEntry::is_trash)
    }

    /// Whether the array may have ATS entries, so that readers must pass the
    /// [`AtsGate`](crate::AtsGate).
    ///
    /// It stays `true` after the last ATS entry is trash. [`merge`](Self::merge) and
    /// [`purge`](Self::purge) compute it anew for the array that they return.
    #[must_use]
    pub fn has_ats(&self) -> bool {
        self.contents.has(Contents::DEVICE_CACHES)
    }

    pub(crate) fn contents(&self) -> Contents {
        self.contents
    }

    pub(crate) fn entries(&self) -> &[InvEntry] {
        &self.entries
    }

    pub(crate) fn get(&self, key: &InvKey) -> Option<&InvEntry> {
        self.ahead(0, Rank::of(key)).1
    }

    fn trash(&self) -> u32 {
        self.trash.load(Relaxed)
    }

    /// Only for a caller that changes the array, which the domain's lock serialises.
    #[inline]
    fn add_trash(&self, entries: u32) {
        if entries > 0 {
            self.trash.store(self.trash() + entries, Relaxed);
        }
    }

    /// The number of entries that are not trash.
    fn kept(&self) -> usize {
        self.entries.len().saturating_sub(self.trash() as usize)
    }

    /// The contents of the entries that are not trash.
    fn kept_contents(&self) -> Contents {
        let kept = self.entries.iter().filter(|entry| !entry.is_trash());
        kept.fold(Contents::NONE, |all, entry| all.and(entry.contents()))
    }

    /// The entry of a key, and the index where it is or would be.
    ///
    /// `from` is a guess: of keys that ascend, the index behind the one before.
    // Out of the way of the usual request, which is a part of the array without gaps.
    #[cold]
    #[inline(never)]
    fn search(&self, from: usize, rank: Rank) -> (usize, Option<&InvEntry>) {
        let before = from.min(self.entries.len()).checked_sub(1);
        match before.and_then(|before| self.entries.get(before)) {
            Some(before) if before.compare(rank).is_ge() => self.ahead(0, rank),
            _ => self.ahead(from, rank),
        }
    }

    /// [`search`](Self::search), for a caller that knows that all entries before `from` are below the
    /// key. It doubles its steps, so ascending keys take one pass.
    #[inline]
    fn ahead(&self, from: usize, rank: Rank) -> (usize, Option<&InvEntry>) {
        match self.entries.get(from) {
            None => (self.entries.len(), None),
            Some(entry) => match entry.compare(rank) {
                Ordering::Equal => (from, Some(entry)),
                Ordering::Greater => (from, None),
                Ordering::Less => self.behind(from, rank),
            },
        }
    }

    /// [`ahead`](Self::ahead), if the entry at `from` is below the key too.
    fn behind(&self, from: usize, rank: Rank) -> (usize, Option<&InvEntry>) {
        let (mut below, mut step) = (from + 1, 1);
        while let Some(entry) = self.entries.get(below + step - 1)
            && entry.compare(rank).is_lt()
        {
            below += step;
            step *= 2;
        }
        let reach = self.entries.len().min(below + step - 1);
        let between = self.entries.get(below..reach).unwrap_or_default();
        let at = below + between.partition_point(|entry| entry.compare(rank).is_lt());
        (at, self.entries.get(at).filter(|entry| entry.compare(rank).is_eq()))
    }
}

/// Where the first keys of a request are in an array, or would be: a merge searches once for them.
///
/// The request of a device is a tag or two, and an entry for each stream with ATS.
#[derive(Default)]
struct Places([usize; 8]);

impl Places {
    #[inline]
    fn keep(&mut self, index: usize, at: usize, found: bool) {
        if let Some(place) = self.0.get_mut(index) {
            *place = at << 1 | usize::from(found);
        }
    }

    /// `None` for a key behind the first ones.
    #[inline]
    fn get(&self, index: usize) -> Option<(usize, bool)> {
        self.0.get(index).map(|place| (place >> 1, place & 1 != 0))
    }
}

/// Whether an array had trash when the size of the next one was computed.
#[derive(Clone, Copy)]
enum Trash {
    None,
    Some,
}

impl Trash {
    fn of(kept: usize, all: usize) -> Self {
        if kept == all { Trash::None } else { Trash::Some }
    }
}

/// A new array, in memory that is already allocated.
struct Builder(InvArray);

impl Builder {
    fn with_capacity(entries: usize, contents: Contents) -> Result<Self, InvError> {
        let mut built = Vec::new();
        built.try_reserve_exact(entries).map_err(|_| InvError::OutOfMemory { entries })?;
        Ok(Builder(InvArray { entries: built, contents, trash: AtomicU32::new(0) }))
    }

    fn add<R: Requested>(&mut self, wanted: &R) {
        let entry = wanted.entry();
        self.0.contents = self.0.contents.and(entry.contents());
        self.push(entry);
    }

    #[inline]
    fn push(&mut self, entry: InvEntry) {
        // The capacity is exact. Beyond it `Vec` would allocate, and might abort.
        let entries = &mut self.0.entries;
        if entries.len() < entries.capacity() {
            entries.push(entry);
        }
    }

    /// Copies entries with their states and users, without trash.
    fn copy(&mut self, entries: &[InvEntry], trash: Trash) {
        match trash {
            Trash::None if entries.len() <= self.0.entries.capacity() - self.0.entries.len() => {
                self.0.entries.extend(entries.iter().map(InvEntry::duplicate));
            }
            _ => {
                for entry in entries.iter().filter(|entry| !entry.is_trash()) {
                    self.push(entry.duplicate());
                }
            }
        }
    }

    fn finish(self) -> InvArray {
        self.0
    }
}

fn may_revive(kind: InvKind) -> bool {
    matches!(kind, InvKind::S2VmidVsmmu | InvKind::S2VmidS1Clear)
}

impl fmt::Display for InvArray {
    /// One line for each entry, or `(no entries)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entries.is_empty() {
            return f.write_str("(no entries)");
        }
        for (index, view) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            view.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use smmu_types::fake::InstantSink;
    use smmu_types::range::RangeSupport;
    use smmu_types::{StreamId, Vmid};

    fn vmid(id: u16) -> InvSpec {
        InvSpec::tagged(SmmuId(0), CacheTag::Vmid(Vmid(id)), RangeSupport::Ril)
    }

    #[test]
    fn inv_5_a_full_user_count_is_an_error() {
        let array = InvArray::empty().merge(&[vmid(1), vmid(2)]).unwrap();
        array.entries[1].set_users(u32::MAX - 1);
        let full = array.merge(&[vmid(2)]).unwrap();
        assert_eq!(full.find(SmmuId(0), InvKind::S2Vmid).map(|found| found.users), Some(1));
        assert_eq!(full.entries[1].users(), u32::MAX);
        let error = full.merge(&[vmid(1), vmid(2)]).unwrap_err();
        assert_eq!(error, InvError::TooManyUsers { key: vmid(2).key });
        assert_eq!(
            error.to_string(),
            "smmu0 S2_VMID 2 has 4294967295 users, and cannot count more"
        );
        assert_eq!(full.entries[0].users(), 1, "nothing has changed");
    }

    #[test]
    fn a_search_finds_every_key_from_every_start() {
        let request: Vec<_> = (0..40).map(|n| vmid(2 * n + 1)).collect();
        let array = InvArray::empty().merge(&request).unwrap();
        for from in 0..=array.len() + 1 {
            for id in 0..=80 {
                let (at, entry) = array.search(from, Rank::of(&vmid(id).key));
                assert_eq!(at, usize::from(id / 2), "{id} from {from}");
                assert_eq!(entry.map(|entry| entry.spec()), (id % 2 == 1).then(|| vmid(id)));
            }
        }
    }

    /// Each way in which entries become trash.
    #[test]
    fn inv_6_the_trash_is_counted() {
        let count = |array: &InvArray| {
            let trash = array.iter().filter(|view| view.state == EntryState::Trash).count();
            assert_eq!(array.trash() as usize, trash);
            trash
        };
        let ats = |stream| InvSpec::ats(SmmuId(0), StreamId(stream), None);
        let other = InvSpec::ats(SmmuId(1), StreamId(1), None);
        let request = [vmid(1), vmid(2), ats(1), ats(2), other];
        let array = InvArray::empty().merge(&request).unwrap();
        assert_eq!(count(&array), 0);
        array.unref(&[vmid(1), ats(1), ats(3)], |_, _| {});
        // Not present any more.
        array.unref(&[ats(1)], |_, _| {});
        assert_eq!(count(&array), 1, "the tag is retiring");
        let sink = InstantSink;
        let proof = FlushProof::obtain(&sink, SmmuId(0), CacheTag::Vmid(Vmid(1))).unwrap();
        assert!(array.settle(&proof) && !array.settle(&proof));
        assert_eq!(count(&array), 2);
        assert_eq!(count(&array.merge(&[ats(1)]).unwrap()), 0);
        assert_eq!((array.remove_smmu(SmmuId(0)), count(&array)), (2, 4));
        assert_eq!((array.remove_smmu(SmmuId(0)), count(&array)), (0, 4));
        let rest = array.purge().unwrap().unwrap();
        assert_eq!((rest.len(), count(&rest)), (1, 0));
        assert!(rest.purge().unwrap().is_none());
    }

    #[test]
    fn purge_and_merge_compute_the_contents_anew() {
        let ats = InvSpec::ats(SmmuId(0), StreamId(1), None);
        let array = InvArray::empty().merge(&[vmid(1), ats]).unwrap();
        assert!(array.has_ats());
        array.unref(&[ats], |_, _| {});
        assert!(array.has_ats() && !array.merge(&[]).unwrap().has_ats());
        assert!(!array.purge().unwrap().unwrap().has_ats());
    }
}
