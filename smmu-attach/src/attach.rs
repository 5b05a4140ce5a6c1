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
use smmu_tags::{FreshTag, RetiringTag};
use smmu_types::Ste;
use smmu_types::seam::{Notice, Observer, SinkError, TableEntry};

use crate::batch::SyncBatch;
use crate::context::{CdTable, TableKind};
use crate::device::{AttachKey, Confirmation, Device, DeviceGuard, DeviceParts, State, forget_ste};
use crate::domain::{DomainGuard, DomainState, Owned};
use crate::entry;
use crate::held::{Contention, Rank};
use crate::image::{Change, Image};
use crate::membership::{End, Leads, Member, release};
use crate::outcome::Outcome;
use crate::platform::Block;
use crate::smmu_core::SmmuParts;
use crate::stream_entry::allocate;
use crate::sync::{Barrier, is_kept};
use crate::target::{DomainTag, Target, abort, entry_of, find_or_allocate, judge};
use crate::{AttachError, Domain, Platform};

/// State that every step of one transaction carries.
struct Transaction<P: Platform> {
    // Fields drop in this order: the domains' locks before the device's.
    locks: Locks<P>,
    device: DeviceGuard<P>,
    // `Err` if the SMMU still does not confirm an earlier change. Then the entries stay invalid.
    ready: Result<(), SinkError>,
    key: AttachKey,
    becomes: State<P>,
    image: Image,
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
        let lock = |domain: &Domain<P>, holding: Rank| {
            let busy = AttachError::DomainBusy { domain: domain.id() };
            domain.lock_as(contention, holding).ok_or(busy)
        };
        Ok(match (new, old) {
            (Some(new), Some(old)) if !new.is_same(old) => {
                if old.rank() < new.rank() && is_kept(Barrier::DomainOrder) {
                    let first = lock(old, Rank::Device)?;
                    Locks { new: Some(lock(new, old.rank())?), old: Some(first) }
                } else {
                    let first = lock(new, Rank::Device)?;
                    Locks { old: Some(lock(old, new.rank())?), new: Some(first) }
                }
            }
            (Some(only), _) => Locks { new: Some(lock(only, Rank::Device)?), old: None },
            (None, Some(only)) => Locks { new: None, old: Some(lock(only, Rank::Device)?) },
            (None, None) => Locks { new: None, old: None },
        })
    }

    /// State of the old domain, if the device was attached to one.
    fn of_old(&mut self) -> Option<&mut DomainState> {
        self.old.as_mut().or(self.new.as_mut()).map(|guard| &mut **guard)
    }
}

/// Empty lists with room for all tags of a domain and one more.
///
/// They are new instead of grown, so that dropping a preparation leaves the domain as it was.
struct Room {
    tags: Vec<Owned>,
    retiring: Vec<RetiringTag>,
}

impl Room {
    fn beside(state: &DomainState) -> Result<Self, TryReserveError> {
        let mut room = Room { tags: Vec::new(), retiring: Vec::new() };
        let tags = state.tags.len() + 1;
        room.tags.try_reserve_exact(tags)?;
        room.retiring.try_reserve_exact(state.retiring.len() + tags)?;
        Ok(room)
    }

    /// Move the domain's tags and one more into these lists.
    fn take_over(mut self, state: &mut DomainState, new: Owned) {
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
    fresh: Option<(FreshTag, Room)>,
    node: <P::Cell as Publication<InvArray>>::Node,
    cds: Option<(TableKind, CdTable<Block<P>>)>,
}

/// An attach that can no longer fail and is not yet visible.
#[must_use = "dropping it undoes the preparation"]
pub struct Prepared<P: Platform> {
    // `None` after `publish`.
    pending: Option<PendingPublish<P>>,
    tx: Option<Transaction<P>>,
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
    /// Attach the device's transactions without a SubstreamID to a domain: all steps of the
    /// transaction.
    ///
    /// Waits for another attach of the device or of the two domains.
    ///
    /// # Errors
    ///
    /// The attach was refused, or memory or tags ran out. The device stays where it was. An SMMU
    /// that does not confirm is an [`Outcome`], not an error.
    pub fn attach(&self, domain: &Domain<P>) -> Result<Outcome, AttachError> {
        self.attach_key(AttachKey::Stream, Target::Domain(domain))
    }

    /// Let the SMMU pass transactions without a SubstreamID unchanged. Needs no memory and no tag.
    ///
    /// While no substream is attached, that includes transactions with a SubstreamID: an SMMU without
    /// stage 1 ignores it. As long as one is attached, the SMMU aborts those of all others.
    ///
    /// # Errors
    ///
    /// The SMMU still does not confirm an earlier change, or is gone; or the device was removed.
    pub fn bypass(&self) -> Result<Outcome, AttachError> {
        self.attach_key(AttachKey::Stream, Target::Bypass)
    }

    /// Let the SMMU abort the device's transactions. Needs no memory and no tag, and cannot fail.
    ///
    /// Attached substreams stay attached: [`block_all`](Self::block_all) blocks them as well.
    ///
    /// If the SMMU does not confirm ([`Outcome::Unconfirmed`]), the entries in memory are invalid.
    pub fn block(&self) -> Outcome {
        self.block_key(AttachKey::Stream)
    }

    pub(crate) fn block_key(&self, key: AttachKey) -> Outcome {
        // `Err`: the device was removed or its SMMU is gone. It is blocked.
        self.attach_key(key, Target::Blocked).unwrap_or(Outcome::Done)
    }

    /// All steps of the transaction, for the transactions of one key.
    pub(crate) fn attach_key(
        &self,
        key: AttachKey,
        target: Target<'_, P>,
    ) -> Result<Outcome, AttachError> {
        Ok(self.begin(key, target, Contention::Wait)?.publish().install().commit())
    }

    /// Let the SMMU abort all transactions of the device, those of each substream as well. Needs no
    /// memory and no tag, and cannot fail.
    ///
    /// The observer is told of each tag that is free. The outcome is never
    /// [`Outcome::Freed`]; [`Outcome::Unflushed`] names one of the tags that are not flushed.
    pub fn block_all(&self) -> Outcome {
        let mut device = self.lock();
        let parts = &self.0;
        if device.removed || parts.smmu.is_gone() {
            return Outcome::Done;
        }
        let written = device.confirm(parts, Contention::Wait);
        let written = written.and_then(|()| {
            // A panic of a seam leaves the change unconfirmed.
            device.confirmation = Confirmation::Unconfirmed;
            write_stes(parts, &Ste::ABORT).map(|syncs| notice_written(parts, syncs))
        });
        match written {
            Ok(()) => device.confirmation = Confirmation::Confirmed,
            Err(error) => give_up(parts, error),
        }
        device.unsettle_all();
        match written {
            Err(error) => Outcome::Unconfirmed(error),
            Ok(()) => match device.leave_domains(parts, Contention::Wait) {
                Some((tag, error)) => Outcome::Unflushed(tag, error),
                None => Outcome::Done,
            },
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
        self.begin(AttachKey::Stream, target, Contention::Refuse)
    }

    pub(crate) fn begin(
        &self,
        key: AttachKey,
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
        Prepared::new(device, smmu, key, target, contention)
    }
}

impl<P: Platform> Prepared<P> {
    fn new(
        mut device: DeviceGuard<P>,
        smmu: &SmmuParts<P>,
        key: AttachKey,
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
            if let Some(lacks) = domain.description().lacks_with(caps, device.faults) {
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

        let live = parts.ste().unwrap_or(Ste::INVALID);
        let old = device.member(key).map(|member| member.domain.clone());
        let locks = Locks::take(new, old.as_ref(), contention)?;
        let (pending, becomes) = match target {
            Target::Blocked => (None, State::Blocked),
            Target::Bypass => match key {
                AttachKey::Stream => (None, State::Bypass),
                AttachKey::Substream(substream) => {
                    return Err(AttachError::SubstreamBypass { smmu: id, substream });
                }
            },
            Target::Domain(domain) => {
                device.may_use(key, domain, id)?;
                device.reserve(key).map_err(|_| out_of_memory)?;
                let owned = locks.new.as_ref().map_or(&[][..], |state| &state.tags);
                let (tag, fresh) = match find_or_allocate(smmu, domain, owned)? {
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
                let leads = entry_of(smmu, domain, tag, device.faults)?;
                let (kind, log2) = match key {
                    AttachKey::Stream => (TableKind::Single, 0),
                    AttachKey::Substream(_) => (TableKind::All, parts.substream_bits),
                };
                let cds = match (leads, device.cds.get(kind)) {
                    (Leads::Context(_), None) => {
                        let block = allocate(id, env.dma(), CdTable::<Block<P>>::bytes(log2))?;
                        Some((kind, CdTable::new(block, log2)))
                    }
                    _ => None,
                };
                let member = Member { domain: domain.clone(), request, leads, end: End::Open };
                let cd = member.context();
                let becomes = State::Member(member);
                let change = Change { key, becomes: &becomes };
                let image = Image::of(smmu, &device, change, cds.as_ref(), live)?;
                judge(smmu, domain, &image.last, cd.as_ref())?;
                let fresh = fresh.and_then(|(fresh, room)| Some((fresh.keep()?, room)));
                (Some((PendingPublish { fresh, node, cds }, image)), becomes)
            }
        };
        let (pending, image) = match pending {
            Some((pending, image)) => (Some(pending), image),
            None => {
                let change = Change { key, becomes: &becomes };
                // An attach has made the same STE before, so no field is out of range. If one were,
                // the SMMU would abort more than it was asked to.
                (None, Image::of(smmu, &device, change, None, live).unwrap_or(Image::ABORT))
            }
        };
        let tx = Transaction { locks, device, ready, key, becomes, image };
        Ok(Prepared { pending, tx: Some(tx) })
    }

    /// Make the new domain's array visible: from now on it invalidates for the device.
    pub fn publish(mut self) -> Published<P> {
        let mut tx = self.tx.take();
        if let (Some(pending), Some(tx)) = (self.pending.take(), &mut tx) {
            tx.publish(pending);
        }
        Published { tx }
    }
}

impl<P: Platform> Drop for Prepared<P> {
    fn drop(&mut self) {
        // The tag goes back before the transaction releases the locks.
        if let (Some(pending), Some(tx)) = (self.pending.take(), &self.tx)
            && let Some((tag, _)) = pending.fresh
        {
            abort(tag, &tx.smmu().env);
        }
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
        let State::Member(mut old) = tx.device.replace(tx.key, becomes) else {
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
    fn publish(&mut self, pending: PendingPublish<P>) {
        let State::Member(member) = &self.becomes else { return };
        let PendingPublish { fresh, node, cds } = pending;
        if let (Some((tag, room)), Some(state)) = (fresh, self.locks.new.as_mut()) {
            let smmu = self.device.object().smmu.instance;
            room.take_over(state, Owned { tag: tag.install(), smmu });
        }
        member.domain.cell().publish(node);
        if let Some((kind, table)) = cds {
            *self.device.cds.get_mut(kind) = Some(table);
        }
    }

    fn install(&mut self) -> Result<(), SinkError> {
        self.device.confirmation = Confirmation::Unconfirmed;
        let written = self.ready.and_then(|()| self.write());
        match written {
            Ok(()) => self.device.confirmation = Confirmation::Confirmed,
            Err(error) => give_up(self.device.object(), error),
        }
        written
    }

    /// Write the CDs, then the STEs.
    fn write(&mut self) -> Result<(), SinkError> {
        if is_kept(Barrier::CdBeforeSte) {
            self.write_cds();
        }
        let Image { first, last, .. } = self.image;
        let parts = self.device.object().clone();
        let mut syncs = write_stes(&parts, &first)?;
        if last != first {
            syncs += write_stes(&parts, &last)?;
        }
        if !is_kept(Barrier::CdBeforeSte) {
            self.write_cds();
        }
        notice_written(&parts, syncs);
        Ok(())
    }

    /// Write the CDs to a copy that no STE leads to.
    fn write_cds(&mut self) {
        if let Some((kind, copy)) = self.image.cds {
            let change = Change { key: self.key, becomes: &self.becomes };
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
    }

    fn smmu(&self) -> &SmmuParts<P> {
        &self.device.object().smmu
    }
}

/// Make the entries invalid and send `CFGI_STE` once more, because the SMMU may use the old or the
/// new entry.
fn give_up<P: Platform>(device: &DeviceParts<P>, error: SinkError) {
    let smmu = &device.smmu;
    // A confirmation here would come too late: the change has failed already.
    let _unproven = device.forget_entries();
    if let Some((stream, _)) = device.slots().next() {
        let notice = Notice::ConfigUnconfirmed { smmu: smmu.id, stream, error };
        smmu.env.observer().notice(notice);
    }
}

/// Write the STEs of all streams together: one `CMD_SYNC` confirms one step of each. Returns the
/// number of syncs.
fn write_stes<P: Platform>(device: &DeviceParts<P>, ste: &Ste) -> Result<u32, SinkError> {
    let smmu = &device.smmu;
    for (_, slot) in device.slots() {
        // Barrier: an SMMU that sees a new entry also sees the CDs and the tables behind it.
        if is_kept(Barrier::TablesBeforeSte) {
            slot.publish();
        }
    }
    let mut syncs = 0;
    loop {
        let mut batch = SyncBatch::new(smmu.env.sink(), smmu.id);
        let mut stored = false;
        for (stream, slot) in device.slots() {
            if entry::advance(&slot, ste) {
                stored = true;
                batch.add(forget_ste(stream))?;
            }
        }
        if !stored {
            return Ok(syncs);
        }
        batch.sync()?;
        syncs += 1;
    }
}

fn notice_written<P: Platform>(device: &DeviceParts<P>, syncs: u32) {
    if syncs == 0 {
        return;
    }
    let SmmuParts { id, env, .. } = &*device.smmu;
    for (stream, _) in device.slots() {
        let notice = Notice::EntryWritten { smmu: *id, stream, entry: TableEntry::Ste, syncs };
        env.observer().notice(notice);
    }
}
