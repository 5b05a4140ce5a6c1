//! What every step of one transaction carries, and what the steps do.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::mem;

use smallvec::SmallVec;
use smmu_invs::{InvArray, InvSpec, Publication};
use smmu_tags::{FreshTag, RetiringTag};
use smmu_types::seam::{Notice, Observer, SinkError};

use crate::context::{CdTable, TableKind};
use crate::device::{AttachKey, Confirmation, DeviceGuard, DeviceParts, State};
use crate::domain::{DomainState, Owned};
use crate::image::Change;
use crate::locks::Locks;
use crate::membership::{End, release};
use crate::outcome::Outcome;
use crate::platform::{Block, SmmuInstance};
use crate::sync::{Barrier, is_kept};
use crate::write::{StePath, Writing, give_up, write_stes};
use crate::{Domain, Env, Platform};

/// State that every step of one transaction carries.
pub(crate) struct Transaction<P: Platform> {
    // Fields drop in this order: the domains' locks before the devices'.
    pub(crate) locks: Locks<P>,
    /// In the order of their locks, so the devices of one SMMU are neighbours.
    pub(crate) parts: SmallVec<[Part<P>; 1]>,
    pub(crate) key: AttachKey,
    /// `None` if the devices attach to no domain.
    pub(crate) new: Option<Domain<P>>,
}

/// One device of a transaction.
pub(crate) struct Part<P: Platform> {
    pub(crate) device: DeviceGuard<P>,
    pub(crate) becomes: State<P>,
    /// Where the CDs are written, before the first STE: a table, and the copy that no STE leads to.
    pub(crate) cds: Option<(TableKind, usize)>,
    /// The way of the STEs. It has failed if the SMMU still does not confirm an earlier change:
    /// then the entries stay invalid.
    pub(crate) path: StePath,
    /// A table that the attach brings.
    pub(crate) table: Option<(TableKind, CdTable<Block<P>>)>,
}

impl<P: Platform> Writing<P> for Part<P> {
    fn device(&self) -> &DeviceParts<P> {
        self.device.object()
    }
    fn path(&self) -> &StePath {
        &self.path
    }
}

/// Tags that no SMMU has seen, with the SMMU of each.
pub(crate) type FreshTags = SmallVec<[(FreshTag, SmmuInstance); 1]>;

/// Empty lists with room for all tags of a domain and some more.
///
/// They are new instead of grown, so that dropping a preparation leaves the domain as it was.
pub(crate) struct Room {
    tags: Vec<Owned>,
    retiring: Vec<RetiringTag>,
}

impl Room {
    pub(crate) fn beside(state: &DomainState, more: usize) -> Result<Self, TryReserveError> {
        let mut room = Room { tags: Vec::new(), retiring: Vec::new() };
        let tags = state.tags.len() + more;
        room.tags.try_reserve_exact(tags)?;
        room.retiring.try_reserve_exact(state.retiring.len() + tags)?;
        Ok(room)
    }

    /// Move the domain's tags and the new ones into these lists.
    fn take_over(mut self, state: &mut DomainState, new: FreshTags) {
        self.tags.append(&mut state.tags);
        let owned = |(tag, smmu): (FreshTag, _)| Owned { tag: tag.install(), smmu };
        self.tags.extend(new.into_iter().map(owned));
        self.retiring.append(&mut state.retiring);
        *state = DomainState { tags: self.tags, retiring: self.retiring };
    }
}

/// What `publish` makes visible for the new domain.
pub(crate) struct PendingPublish<P: Platform> {
    // `None` if the domain already has a tag on each SMMU. The held lock keeps those tags in the
    // array.
    pub(crate) fresh: Option<(FreshTags, Room)>,
    pub(crate) node: <P::Cell as Publication<InvArray>>::Node,
}

impl<P: Platform> PendingPublish<P> {
    pub(crate) fn into_fresh(self) -> impl Iterator<Item = FreshTag> {
        self.fresh.into_iter().flat_map(|(tags, _)| tags).map(|(tag, _)| tag)
    }
}

impl<P: Platform> Transaction<P> {
    pub(crate) fn env(&self) -> Option<&Env<P>> {
        Some(&self.parts.first()?.device().smmu.env)
    }

    pub(crate) fn publish(&mut self, pending: PendingPublish<P>) {
        let Some(domain) = &self.new else { return };
        let PendingPublish { fresh, node } = pending;
        if let (Some((tags, room)), Some(state)) = (fresh, self.locks.of_mut(domain)) {
            room.take_over(state, tags);
        }
        domain.cell().publish(node);
        for part in &mut self.parts {
            if let Some((kind, table)) = part.table.take() {
                *part.device.cds.get_mut(kind) = Some(table);
            }
        }
    }

    /// Take the devices out of the new domain. No entry has named its tags for them, so they leave
    /// without a `CFGI`.
    pub(crate) fn withdraw(&mut self) {
        let Some(state) = self.new.as_ref().and_then(|domain| self.locks.of_mut(domain)) else {
            return;
        };
        for Part { device, becomes, .. } in &mut self.parts {
            if let State::Member(member) = &*becomes
                && let Outcome::Unflushed(..) = release(member, state, &device.object().smmu.env)
                && let State::Member(mut member) = mem::replace(becomes, State::Blocked)
            {
                // `prepare` reserved the room.
                member.end = End::Unflushed;
                device.unsettled.push(member);
            }
        }
    }

    pub(crate) fn install(&mut self) {
        for part in &mut self.parts {
            part.device.confirmation = Confirmation::Unconfirmed;
            if is_kept(Barrier::CdBeforeSte) {
                part.write_cds(self.key);
            }
        }
        write_stes(&self.parts);
        for part in &mut self.parts {
            if !is_kept(Barrier::CdBeforeSte) {
                part.write_cds(self.key);
            }
            match part.result() {
                Ok(()) => part.device.confirmation = Confirmation::Confirmed,
                Err(error) => give_up(part.device.object(), error),
            }
        }
    }

    /// Let each device leave its old domain. Returns the outcome that leaves the most to settle.
    pub(crate) fn commit(mut self, mut each: impl FnMut(&DeviceGuard<P>, Outcome)) -> Outcome {
        let mut all = Outcome::Done;
        for part in &mut self.parts {
            let outcome = part.leave_old(self.key, &mut self.locks);
            each(&part.device, outcome);
            all = all.or_worse(outcome);
        }
        all
    }
}

impl<P: Platform> Part<P> {
    pub(crate) fn new(device: DeviceGuard<P>) -> Self {
        let path = StePath::abort();
        Part { device, becomes: State::Blocked, cds: None, path, table: None }
    }

    /// What the device asks of the new domain's array.
    pub(crate) fn request(&self) -> Option<&[InvSpec]> {
        match &self.becomes {
            State::Member(member) => Some(member.request.as_slice()),
            State::Blocked | State::Bypass => None,
        }
    }

    fn result(&self) -> Result<(), SinkError> {
        self.path.result(self.device().smmu.id)
    }

    /// Write the CDs to a copy that no STE leads to.
    fn write_cds(&mut self, key: AttachKey) {
        let Some((kind, copy)) = self.cds.filter(|_| !self.path.has_failed()) else { return };
        let change = Change { key, becomes: &self.becomes };
        if let Some(table) = self.device.cds.get(kind)
            && copy != table.current()
        {
            // No STE leads to this copy, so the SMMU cannot have cached its CDs.
            table.fill(copy, change.cds(&self.device));
        }
        if let Some(table) = self.device.cds.get_mut(kind) {
            table.set_current(copy);
        }
    }

    fn leave_old(&mut self, key: AttachKey, locks: &mut Locks<P>) -> Outcome {
        let written = self.result();
        let outcome = written.map_or_else(Outcome::Unconfirmed, |()| Outcome::Done);
        let becomes = mem::replace(&mut self.becomes, State::Blocked);
        let State::Member(mut old) = self.device.replace(key, becomes) else { return outcome };
        let parts = self.device.object().clone();
        if let Err(error) = written
            && is_kept(Barrier::ConfirmBeforeLeave)
        {
            // The SMMU may still use the tag for this device, so the device stays a user, and keeps
            // the domain alive.
            if let Some(tag) = old.tag() {
                let notice = Notice::TagQuarantined { smmu: parts.smmu.id, tag, error };
                parts.smmu.env.observer().notice(notice);
            }
            // The attach that made this use reserved the room.
            self.device.unsettled.push(old);
            return outcome;
        }
        let Some(state) = locks.of_mut(&old.domain) else { return outcome };
        let outcome = release(&old, state, &parts.smmu.env);
        if let Outcome::Unflushed(..) = outcome {
            old.end = End::Unflushed;
            self.device.unsettled.push(old);
        }
        outcome
    }
}
