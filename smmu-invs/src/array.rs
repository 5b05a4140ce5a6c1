//! The array of a domain.
//!
//! 1. Entries ascend strictly by [`InvKey`], trash included.
//! 2. [`InvArray::merge`] and [`InvArray::purge`] change nothing in `self`, and what they return has
//!    no trash.
//! 3. A retiring entry stays until [`InvArray::settle`] is shown the proof of its flush, through
//!    every merge and purge.
//! 4. [`InvArray::unref`] and [`InvArray::settle`] neither fail nor allocate, and report nothing that
//!    is not so: a key that is not live is [`UnrefOutcome::NotPresent`].
//! 5. All that can fail is checked before memory is asked for.
//!
//! Readers ([`InvArray::invalidate`], [`InvArray::iter`]) may run at any time. Whatever changes
//! an array, and whatever builds one from it, is serialised by the domain's lock; what was built is
//! published, or dropped, before the next change.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

use smmu_types::{CacheTag, FlushProof, SmmuId};

use crate::entry::{Entry, EntryState};
use crate::{InvError, InvKey, InvKind, InvSpec, request};

/// The sorted, counted invalidation array of one domain.
#[derive(Debug, Default)]
pub struct InvArray {
    entries: Vec<Entry>,
}

/// What became of one entry of an [`InvArray::unref`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnrefOutcome {
    /// Others still use it.
    StillUsed {
        /// How many.
        users: u32,
    },
    /// That was the last user. A tag is retiring now: flush it, then [`InvArray::settle`].
    LastUserGone,
    /// No live entry with that key: the caller's books are wrong, and nothing has changed.
    NotPresent,
}

/// A live entry that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The entry.
    pub spec: InvSpec,
    /// Its users, more than 0.
    pub users: u32,
}

/// An entry as it looked at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvView {
    /// The entry.
    pub spec: InvSpec,
    /// Its users; 0 unless it is live.
    pub users: u32,
    /// Whether it counts.
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
    /// No entries; no memory.
    #[must_use]
    pub const fn empty() -> InvArray {
        InvArray { entries: Vec::new() }
    }

    /// A new array with one user more for each entry of `request`, which ascends strictly.
    ///
    /// Retiring entries are carried over as they are. A retiring tag of a virtual SMMU, and the
    /// flush of what its guests cached, come to life again if the request names them: the number
    /// was that SMMU's all along, and no invalidation passed it by meanwhile.
    ///
    /// # Errors
    ///
    /// [`InvError::Unsorted`], [`InvError::Duplicate`] or [`InvError::Malformed`] for the request;
    /// [`InvError::Retiring`], [`InvError::Conflict`] or [`InvError::TooManyUsers`] where the two
    /// do not fit; [`InvError::OutOfMemory`].
    pub fn merge(&self, request: &[InvSpec]) -> Result<InvArray, InvError> {
        request::check(request)?;
        let mut count = 0;
        for pair in self.pairs(request) {
            if let Pair::Both(entry, spec) = pair {
                let key = spec.key;
                if !entry.agrees_with(spec) {
                    return Err(InvError::Conflict { key });
                }
                if entry.state() == EntryState::Retiring && !may_revive(key.kind) {
                    return Err(InvError::Retiring { key });
                }
                if entry.users() == u32::MAX {
                    return Err(InvError::TooManyUsers { key });
                }
            }
            count += 1;
        }
        Self::build(
            count,
            self.pairs(request).map(|pair| match pair {
                Pair::Old(entry) => entry.copy(entry.users()),
                Pair::New(spec) => Entry::new(spec),
                Pair::Both(entry, _) => entry.copy(entry.users().saturating_add(1)),
            }),
        )
    }

    /// Take one user from each entry of `request`, and tell `outcome` what became of it, by its
    /// index in the request.
    ///
    /// What was a device's last translation cache entry is trash at once. A tag is retiring: it
    /// stays visible to readers until its flush is proven.
    pub fn unref(&self, request: &[InvSpec], mut outcome: impl FnMut(usize, UnrefOutcome)) {
        for (index, spec) in request.iter().enumerate() {
            let live = self.get(&spec.key).filter(|entry| entry.state() == EntryState::Live);
            let Some(entry) = live else {
                outcome(index, UnrefOutcome::NotPresent);
                continue;
            };
            let users = entry.users().saturating_sub(1);
            entry.set_users(users);
            if users > 0 {
                outcome(index, UnrefOutcome::StillUsed { users });
                continue;
            }
            entry.set_state(match entry.kind().is_ats() {
                true => EntryState::Trash,
                false => EntryState::Retiring,
            });
            outcome(index, UnrefOutcome::LastUserGone);
        }
    }

    /// The flush of a tag is proven: its retiring entry, and for a VMID that of its nested stage-1
    /// flush, is trash now. `false` if there was none.
    ///
    /// The flush must have been asked for after the [`unref`](Self::unref); that is for the caller
    /// to know. Settle before the number is freed.
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
                settled = true;
            }
        }
        settled
    }

    /// The same array without trash, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`InvError::OutOfMemory`]. Keeping the old array is safe: trash costs readers a load each.
    pub fn purge(&self) -> Result<Option<InvArray>, InvError> {
        let kept = || self.entries.iter().filter(|e| e.state() != EntryState::Trash);
        let count = kept().count();
        if count == self.entries.len() {
            return Ok(None);
        }
        Self::build(count, kept().map(|entry| entry.copy(entry.users()))).map(Some)
    }

    /// The lowest live entry of `kind` on `smmu`.
    ///
    /// Never finds an [`InvKind::S2VmidVsmmu`]: a domain may serve several virtual SMMUs of one
    /// SMMU, and each knows its own VMID. Ask it.
    #[must_use]
    pub fn find(&self, smmu: SmmuId, kind: InvKind) -> Option<Found> {
        if kind == InvKind::S2VmidVsmmu {
            return None;
        }
        let from = self.entries.partition_point(|e| (e.smmu(), e.kind()) < (smmu, kind));
        self.entries[from..]
            .iter()
            .take_while(|e| (e.smmu(), e.kind()) == (smmu, kind))
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

    /// Whether no entry is live or retiring: the domain has no user, and no cache holds any of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(|entry| entry.state() == EntryState::Trash)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn get(&self, key: &InvKey) -> Option<&Entry> {
        let index = self.entries.binary_search_by(|entry| entry.key().cmp(key)).ok()?;
        self.entries.get(index)
    }

    fn pairs<'a>(&'a self, request: &'a [InvSpec]) -> Pairs<'a> {
        Pairs { entries: &self.entries, request }
    }

    /// `count` bounds what `entries` yields.
    fn build(count: usize, entries: impl Iterator<Item = Entry>) -> Result<InvArray, InvError> {
        let mut built = Vec::new();
        built.try_reserve_exact(count).map_err(|_| InvError::OutOfMemory { entries: count })?;
        built.extend(entries.take(count));
        Ok(InvArray { entries: built })
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

enum Pair<'a> {
    Old(&'a Entry),
    New(&'a InvSpec),
    Both(&'a Entry, &'a InvSpec),
}

/// An array without its trash and a request, side by side in the order of their keys.
struct Pairs<'a> {
    entries: &'a [Entry],
    request: &'a [InvSpec],
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        while let [trash, rest @ ..] = self.entries {
            if trash.state() != EntryState::Trash {
                break;
            }
            self.entries = rest;
        }
        let order = match (self.entries.first(), self.request.first()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(entry), Some(spec)) => entry.key().cmp(&spec.key),
        };
        let entry = match order {
            Ordering::Greater => None,
            _ => self.entries.split_off_first(),
        };
        let spec = match order {
            Ordering::Less => None,
            _ => self.request.split_off_first(),
        };
        match (entry, spec) {
            (Some(entry), Some(spec)) => Some(Pair::Both(entry, spec)),
            (Some(entry), None) => Some(Pair::Old(entry)),
            (None, Some(spec)) => Some(Pair::New(spec)),
            (None, None) => None,
        }
    }
}
