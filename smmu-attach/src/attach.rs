//! The attach transaction, from `prepare` to `commit`.
//!
//! Invariants:
//!
//! 1. Before `publish` no reader and no SMMU sees a change, and dropping a [`Prepared`] leaves no
//!    trace, except that earlier changes of the device may be settled.
//! 2. From `publish` to the end of `commit` both domains invalidate for the device.
//! 3. The SMMU sees the old entry, the new entry or an invalid one, in the entries of each stream.
//!    After a change that it did not confirm, no word is stored before it has forgotten the old
//!    entries.
//! 4. `commit` drops the old domain's reference only after the SMMU has confirmed the new entry. It
//!    frees the tag only after the flush is proven; until then readers see the array entry.
//! 5. If the SMMU does not confirm the new entry, the device stays a user in the old domain's
//!    array, that domain does not free the tag, and the device keeps the domain alive. All of this
//!    ends when the SMMU confirms that it has forgotten the device's entries.
//! 6. A transaction takes the device's lock, then those of the old and the new domain, the older
//!    domain's first. A call that returns with locks held never waits for one.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::mem;

use smmu_invs::{InvArray, InvSpec, Publication, RequestBuffer};
use smmu_tags::RetiringTag;
use smmu_types::seam::{Notice, Observer, SinkError, TableEntry};
use smmu_types::{Cd, Ste, StreamId};

use crate::batch::SyncBatch;
use crate::context::ContextDescriptors;
use crate::device::{Confirmation, Device, DeviceGuard, State, forget_ste};
use crate::domain::{DomainGuard, DomainState, Owned};
use crate::entry::{self, EntrySlot};
use crate::held::Contention;
use crate::membership::{End, Member, release};
use crate::outcome::Outcome;
use crate::platform::Block;
use crate::smmu_core::SmmuParts;
use crate::stream_entry::allocate;
use crate::sync::{Barrier, is_kept};
use crate::table::TranslationStage;
use crate::target::{DomainTag, Fresh, Target, entries, find_or_allocate, incoming_shareability};
use crate::{AttachError, Domain, Platform};

/// State that every step of one transaction carries.
struct Transaction<P: Platform> {
    // Fields drop in this order: the domains' locks before the device's.
    locks: Locks<P>,
    device: DeviceGuard<P>,
    // `Err` if the SMMU still does not confirm an earlier change. Then the entries stay invalid.
    ready: Result<(), SinkError>,
    becomes: State<P>,
    ste: Ste,
    // The context descriptor and its index in `ContextDescriptors`.
    cd: Option<(usize, Cd)>,
}

/// The held locks of the old and the new domain; one lock if both are the same domain.
struct Locks<P: Platform> {
    new: Option<DomainGuard<P>>,
    old: Option<DomainGuard<P>>,
}

impl<P: Platform> Locks<P> {
    fn take(
        new: Option<&Domain<P>>,
        old: Option<&Domain<P>>,
        contention: Contention,
    ) -> Result<Self, AttachError> {
        let lock = |domain: &Domain<P>| {
            let busy = AttachError::DomainBusy { domain: domain.id() };
            domain.lock_as(contention).ok_or(busy)
        };
        Ok(match (new, old) {
            (Some(new), Some(old)) if new.is_same(old) => {
                Locks { new: Some(lock(new)?), old: None }
            }
            (Some(new), Some(old))
                if old.lock_order() < new.lock_order() && is_kept(Barrier::DomainOrder) =>
            {
                let old = lock(old)?;
                Locks { new: Some(lock(new)?), old: Some(old) }
            }
            (new, old) => {
                let new = new.map(lock).transpose()?;
                Locks { new, old: old.map(lock).transpose()? }
            }
        })
    }

    /// State of the old domain, if the device was attached to one.
    fn of_old(&mut self) -> Option<&mut DomainState<P>> {
        self.old.as_mut().or(self.new.as_mut()).map(|guard| &mut **guard)
    }
}

/// Empty lists with room for all tags of a domain and one more.
///
/// They are new instead of grown, so that dropping a preparation leaves the domain as it was.
struct Room<P: Platform> {
    tags: Vec<Owned<P>>,
    retiring: Vec<RetiringTag>,
}

impl<P: Platform> Room<P> {
    fn beside(state: &DomainState<P>) -> Result<Self, TryReserveError> {
        let mut room = Room { tags: Vec::new(), retiring: Vec::new() };
        let tags = state.tags.len() + 1;
        room.tags.try_reserve_exact(tags)?;
        room.retiring.try_reserve_exact(state.retiring.len() + tags)?;
        Ok(room)
    }

    /// Move the domain's tags and one more into these lists.
    fn take_over(mut self, state: &mut DomainState<P>, new: Owned<P>) {
        self.tags.append(&mut state.tags);
        self.tags.push(new);
        self.retiring.append(&mut state.retiring);
        *state = DomainState { tags: self.tags, retiring: self.retiring };
    }
}

/// What `publish` makes visible for the new domain.
struct PendingPublish<P: Platform> {
    // `None` if the domain already has a tag on this SMMU. The held lock keeps that tag in the
    // array.
    fresh: Option<(Fresh<P>, Room<P>)>,
    node: <P::Cell as Publication<InvArray>>::Node,
    cds: Option<ContextDescriptors<Block<P>>>,
}

/// An attach that can no longer fail and is not yet visible.
#[must_use = "dropping it undoes the preparation"]
pub struct Prepared<P: Platform> {
    // Declared first: a fresh tag goes back before the locks are released.
    pending: Option<PendingPublish<P>>,
    tx: Transaction<P>,
}

/// An attach whose new domain invalidates for the device.
///
/// Dropping it removes the device from the new domain's array. If the SMMU then does not confirm
/// the flush of a new tag, the device keeps the domain until [`Device::settle`].
#[must_use = "dropping it removes the device from the domain"]
pub struct Published<P: Platform> {
    tx: Option<Transaction<P>>,
}

/// An attach whose entries are written. Dropping it commits it.
#[must_use = "call commit for the outcome of the old tag"]
pub struct Installed<P: Platform> {
    tx: Option<Transaction<P>>,
    config: Result<(), SinkError>,
}

impl<P: Platform> Device<P> {
    /// Attach the device to a domain: all steps of the transaction.
    ///
    /// Waits for another attach of the device or of the two domains.
    ///
    /// # Errors
    ///
    /// The attach was refused, or memory or tags ran out. The device stays where it was. An SMMU
    /// that does not confirm is an [`Outcome`], not an error.
    pub fn attach(&self, domain: &Domain<P>) -> Result<Outcome, AttachError> {
        Ok(self.begin(Target::Domain(domain), Contention::Wait)?.publish().install().commit())
    }

    /// Let the SMMU pass the device's transactions unchanged. Needs no memory and no tag.
    ///
    /// # Errors
    ///
    /// The SMMU still does not confirm an earlier change, or is gone; or the device was removed.
    pub fn bypass(&self) -> Result<Outcome, AttachError> {
        Ok(self.begin(Target::Bypass, Contention::Wait)?.publish().install().commit())
    }

    /// Let the SMMU abort the device's transactions. Needs no memory and no tag, and cannot fail.
    ///
    /// If the SMMU does not confirm ([`Outcome::Unconfirmed`]), the entries in memory are invalid.
    pub fn block(&self) -> Outcome {
        match self.begin(Target::Blocked, Contention::Wait) {
            Ok(prepared) => prepared.publish().install().commit(),
            // The device was removed or its SMMU is gone: it is blocked.
            Err(_) => Outcome::Done,
        }
    }

    /// Prepare to attach the device. Neither the SMMU nor an invalidation sees a change before
    /// [`publish`](Prepared::publish). Dropping the result leaves everything as it was.
    ///
    /// The result holds the locks of the device and of the old and the new domain to the end of the
    /// transaction. This call does not wait for them, so a thread may hold several transactions.
    /// While it holds one, it makes no call that waits: see the crate's section on locks. A result
    /// that is leaked ([`core::mem::forget`]) keeps the locks for ever.
    ///
    /// First settles what the SMMU did not confirm of the device, as far as no domain is busy.
    ///
    /// # Errors
    ///
    /// [`AttachError::DeviceBusy`] or [`AttachError::DomainBusy`] if another transaction has a
    /// lock. Otherwise the errors of [`attach`](Self::attach).
    pub fn prepare(&self, target: Target<'_, P>) -> Result<Prepared<P>, AttachError> {
        self.begin(target, Contention::Refuse)
    }

    fn begin(
        &self,
        target: Target<'_, P>,
        contention: Contention,
    ) -> Result<Prepared<P>, AttachError> {
        let smmu = &self.0.smmu;
        let stream = self.streams().next().unwrap_or_default();
        let busy = AttachError::DeviceBusy { smmu: smmu.id, stream };
        let device = self.lock_as(contention).ok_or(busy)?;
        if device.removed {
            return Err(AttachError::Removed { smmu: smmu.id, stream });
        }
        if smmu.is_gone() {
            return Err(AttachError::Gone { smmu: smmu.id });
        }
        Prepared::new(device, smmu, target, contention)
    }
}

impl<P: Platform> Prepared<P> {
    fn new(
        mut device: DeviceGuard<P>,
        smmu: &SmmuParts<P>,
        target: Target<'_, P>,
        contention: Contention,
    ) -> Result<Self, AttachError> {
        let (id, caps, env) = (smmu.id, &smmu.caps, &smmu.env);
        let out_of_memory = AttachError::OutOfMemory { smmu: id };
        let new = match target {
            Target::Domain(domain) => Some(domain),
            Target::Bypass | Target::Blocked => None,
        };
        if let Some(domain) = new {
            if !domain.env().is_same(env) {
                return Err(AttachError::ForeignEnv { domain: domain.id(), smmu: id });
            }
            if let Some(lacks) = domain.description().lacks(caps) {
                return Err(AttachError::CannotShare { domain: domain.id(), smmu: id, lacks });
            }
        }
        // After a change that the SMMU did not confirm, a fetch may still be in progress. No word
        // may change under it. Blocking goes on all the same: the entries are invalid already.
        let parts = device.object().clone();
        let ready = device.confirm(&parts, contention);
        match target {
            Target::Blocked => {}
            Target::Domain(_) | Target::Bypass => ready?,
        }

        let old = match &device.state {
            State::Member(member) => Some(member.domain.clone()),
            State::Blocked | State::Bypass => None,
        };
        let locks = Locks::take(new, old.as_ref(), contention)?;
        let (ste, cd, pending, becomes) = match target {
            Target::Blocked => (Ste::ABORT, None, None, State::Blocked),
            Target::Bypass => {
                let ste = Ste::bypass(incoming_shareability(smmu));
                (ste, None, None, State::Bypass)
            }
            Target::Domain(domain) => {
                // Room for the old use and for this one, if the SMMU never confirms their ends.
                device.unsettled.try_reserve(2).map_err(|_| out_of_memory)?;
                let owned = locks.new.as_ref().map_or(&[][..], |state| &state.tags);
                let (tag, fresh) = match find_or_allocate(&parts.smmu, domain, owned)? {
                    DomainTag::Found(shared) => (shared.tag(), None),
                    DomainTag::New(tag, fresh) => (tag, Some(fresh)),
                };
                let fresh = match (fresh, &locks.new) {
                    (Some(fresh), Some(state)) => {
                        Some((fresh, Room::beside(state).map_err(|_| out_of_memory)?))
                    }
                    _ => None,
                };
                let mut request = RequestBuffer::with_capacity(1)?;
                request.push(InvSpec::tagged(id, tag, caps.range_support()))?;
                let merged = domain.cell().read().merge(request.as_slice())?;
                let node = P::Cell::node(merged).map_err(|_| out_of_memory)?;
                let cds = match (domain.description().stage, &device.cds) {
                    (TranslationStage::Stage1 { .. }, None) => {
                        let bytes = ContextDescriptors::<Block<P>>::BYTES;
                        Some(ContextDescriptors::new(allocate(id, env.dma(), bytes)?))
                    }
                    _ => None,
                };
                let place = cds.as_ref().or(device.cds.as_ref());
                let (ste, cd) = entries(smmu, domain, tag, place)?;
                let member = Member { domain: domain.clone(), request, end: End::Open };
                let pending = PendingPublish { fresh, node, cds };
                (ste, cd, Some(pending), State::Member(member))
            }
        };
        let tx = Transaction { locks, device, ready, becomes, ste, cd };
        Ok(Prepared { pending, tx })
    }

    /// Make the new domain's array visible: from now on it invalidates for the device.
    pub fn publish(self) -> Published<P> {
        let Prepared { pending, mut tx } = self;
        if let (Some(PendingPublish { fresh, node, cds }), State::Member(member)) =
            (pending, &tx.becomes)
        {
            if let Some((mut fresh, room)) = fresh
                && let (Some(tag), Some(state)) = (fresh.tag.take(), tx.locks.new.as_mut())
            {
                let smmu = tx.device.object().smmu.clone();
                room.take_over(state, Owned { tag: tag.install(), smmu });
            }
            member.domain.cell().publish(node);
            if cds.is_some() {
                tx.device.cds = cds;
            }
        }
        Published { tx: Some(tx) }
    }
}

impl<P: Platform> Published<P> {
    /// Write the entries, and invalidate the SMMU's configuration cache.
    ///
    /// An SMMU that does not confirm does not stop the attach; [`Installed::commit`] reports it.
    pub fn install(mut self) -> Installed<P> {
        let mut installed = Installed { tx: self.tx.take(), config: Ok(()) };
        if let Some(tx) = &mut installed.tx {
            // A panic of a seam drops `installed`: the change then counts as not confirmed.
            installed.config = Err(SinkError::timeout(tx.smmu().id));
            installed.config = tx.install();
        }
        installed
    }
}

impl<P: Platform> Drop for Published<P> {
    fn drop(&mut self) {
        let Some(mut tx) = self.tx.take() else { return };
        // No entry ever named the tag for this device, so the device can leave without a CFGI.
        let Transaction { locks, device, becomes, .. } = &mut tx;
        if let (State::Member(member), Some(state)) = (&mut *becomes, locks.new.as_mut())
            && let Outcome::Unflushed(..) = release(member, state, &device.object().smmu.env)
            && let State::Member(mut member) = mem::replace(becomes, State::Blocked)
        {
            // `prepare` reserved the room.
            member.end = End::Unflushed;
            device.unsettled.push(member);
        }
    }
}

impl<P: Platform> Installed<P> {
    /// Drop the old domain's reference. If the device was the last user of the tag on the SMMU,
    /// flush the tag, and free it once the flush is proven.
    pub fn commit(mut self) -> Outcome {
        self.finish()
    }

    fn finish(&mut self) -> Outcome {
        let outcome = self.config.map_or_else(Outcome::Unconfirmed, |()| Outcome::Done);
        let Some(mut tx) = self.tx.take() else { return outcome };
        let becomes = mem::replace(&mut tx.becomes, State::Blocked);
        let State::Member(mut old) = mem::replace(&mut tx.device.state, becomes) else {
            return outcome;
        };
        let smmu = tx.device.object().clone();
        if let Err(error) = self.config
            && is_kept(Barrier::ConfirmBeforeLeave)
        {
            // The SMMU may still use the tag for this device, so the device stays a user, and keeps
            // the domain alive.
            if let Some(tag) = old.tag() {
                let notice = Notice::TagQuarantined { smmu: smmu.smmu.id, tag, error };
                smmu.smmu.env.observer().notice(notice);
            }
            // The attach that made this use reserved the room.
            tx.device.unsettled.push(old);
            return outcome;
        }
        let Some(state) = tx.locks.of_old() else { return outcome };
        let outcome = release(&old, state, &smmu.smmu.env);
        if let Outcome::Unflushed(..) = outcome {
            old.end = End::Unflushed;
            tx.device.unsettled.push(old);
        }
        outcome
    }
}

impl<P: Platform> Drop for Installed<P> {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

impl<P: Platform> Transaction<P> {
    fn install(&mut self) -> Result<(), SinkError> {
        self.device.confirmation = Confirmation::Unconfirmed;
        let written = self.ready.and_then(|()| {
            if is_kept(Barrier::CdBeforeSte) {
                self.write_cd().and_then(|()| self.write_stes())
            } else {
                self.write_stes().and_then(|()| self.write_cd())
            }
        });
        if let Err(error) = written {
            self.give_up(error);
        }
        self.device.confirmation = match written {
            Ok(()) => Confirmation::Confirmed,
            Err(_) => Confirmation::Unconfirmed,
        };
        let cd = self.cd;
        if let (Some(cds), Some((place, _))) = (&mut self.device.cds, cd) {
            cds.current = place;
        }
        written
    }

    fn smmu(&self) -> &SmmuParts<P> {
        &self.device.object().smmu
    }

    /// The STE of each stream. The table holds all of them: `add_device` has looked.
    fn slots(&self) -> impl Iterator<Item = (StreamId, EntrySlot<'_, Block<P>>)> {
        let entries = &self.device.object().entries;
        entries.iter().filter_map(|entry| Some((entry.stream, entry.slot()?)))
    }

    /// Make the entries invalid and send `CFGI_STE` once more, because the SMMU may use the old or
    /// the new entry.
    fn give_up(&self, error: SinkError) {
        let smmu = self.smmu();
        // A confirmation here would come too late: the change has failed already.
        let _unproven = self.device.object().forget_entries();
        if let Some((stream, _)) = self.slots().next() {
            let notice = Notice::ConfigUnconfirmed { smmu: smmu.id, stream, error };
            smmu.env.observer().notice(notice);
        }
    }

    /// Write the STEs of all streams together: one `CMD_SYNC` confirms one step of each.
    fn write_stes(&self) -> Result<(), SinkError> {
        let smmu = self.smmu();
        for (_, slot) in self.slots() {
            // Barrier: an SMMU that sees a new entry also sees the CD and the tables behind it.
            if is_kept(Barrier::TablesBeforeSte) {
                slot.publish();
            }
        }
        let mut syncs = 0;
        loop {
            let mut batch = SyncBatch::new(smmu.env.sink(), smmu.id);
            let mut stored = false;
            for (stream, slot) in self.slots() {
                if entry::advance(&slot, &self.ste) {
                    stored = true;
                    batch.add(forget_ste(stream))?;
                }
            }
            if !stored {
                break;
            }
            batch.sync()?;
            syncs += 1;
        }
        if syncs > 0 {
            for (stream, _) in self.slots() {
                let (smmu_id, entry) = (smmu.id, TableEntry::Ste);
                let notice = Notice::EntryWritten { smmu: smmu_id, stream, entry, syncs };
                smmu.env.observer().notice(notice);
            }
        }
        Ok(())
    }

    /// Write the CD to a place where no STE leads, so that the SMMU cannot have cached it.
    fn write_cd(&self) -> Result<(), SinkError> {
        let (Some((place, cd)), Some(cds)) = (self.cd, &self.device.cds) else { return Ok(()) };
        match EntrySlot::new(&cds.block, place) {
            Some(slot) => entry::write(&slot, &cd, || Ok(())).map(|_| ()),
            // Not reached: `prepare` refuses a block that is too short.
            None => Err(SinkError::UnknownSmmu { smmu: self.smmu().id }),
        }
    }
}
