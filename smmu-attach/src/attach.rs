//! The attach transaction, from `prepare` to `commit`.
//!
//! Invariants:
//!
//! 1. Before `publish` no reader and no SMMU sees a change, and dropping a [`Prepared`] leaves no
//!    trace.
//! 2. From `publish` to the end of `commit` both domains invalidate for the device.
//! 3. The SMMU sees the old entry, the new entry or an invalid one, in the entries of each stream.
//!    After a change that it did not confirm, no word is stored before it has forgotten the old
//!    entries.
//! 4. `commit` drops the old domain's reference only after the SMMU has confirmed the new entry. It
//!    frees the tag only after the flush is proven; until then readers see the array entry.
//! 5. If the SMMU does not confirm the new entry, the device stays a user in the old domain's
//!    array, that domain does not free the tag, and the device keeps the domain alive. All of this
//!    ends when the SMMU confirms that it has forgotten the device's entries.

use alloc::collections::TryReserveError;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use smmu_invs::{InvArray, InvSpec, Publication, RequestBuffer};
use smmu_tags::RetiringTag;
use smmu_types::seam::{Notice, Observer, SinkError, TableEntry};
use smmu_types::{CacheTag, Cd, Command, Leaf, Ste, StreamId};

use crate::batch::Batch;
use crate::device::{Confirmation, ContextDescriptors, Device, Member, State};
use crate::domain::{Domain, DomainGuard, DomainState, Owned};
use crate::entry::{self, EntrySlot};
use crate::platform::Block;
use crate::release::{Released, release};
use crate::stream_table::allocate;
use crate::table::TranslationStage;
use crate::target::{DomainTag, Fresh, Target, entries, find_or_allocate, incoming_shareability};
use crate::{AttachError, Env, Platform};

/// State that every step of one transaction carries.
struct Transaction<'a, P: Platform> {
    device: &'a mut Device<P>,
    env: Env<'a, P>,
    locks: Locks<P>,
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
        new: Option<&Arc<Domain<P>>>,
        old: Option<&Arc<Domain<P>>>,
    ) -> Result<Self, AttachError> {
        Ok(match (new, old) {
            (Some(new), Some(old)) if Arc::ptr_eq(new, old) => {
                Locks { new: Some(new.lock()), old: None }
            }
            (Some(new), Some(old)) if new.id() == old.id() => {
                return Err(AttachError::SameDomainId { domain: new.id() });
            }
            (Some(new), Some(old)) if old.id() < new.id() => {
                let old = Some(old.lock());
                Locks { new: Some(new.lock()), old }
            }
            (new, old) => Locks { new: new.map(|d| d.lock()), old: old.map(|d| d.lock()) },
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
struct PendingPublish<'a, P: Platform> {
    // `None` if the domain already has a tag on this SMMU. The held lock keeps that tag in the
    // array.
    fresh: Option<(Fresh<'a, P>, Room<P>)>,
    node: <P::Cell as Publication<InvArray>>::Node,
    cds: Option<ContextDescriptors<Block<P>>>,
}

/// An attach that can no longer fail and is not yet visible.
#[must_use = "dropping it undoes the preparation"]
pub struct Prepared<'a, P: Platform> {
    tx: Transaction<'a, P>,
    pending: Option<PendingPublish<'a, P>>,
}

/// An attach whose new domain invalidates for the device.
///
/// Dropping it removes the device from the new domain's array.
#[must_use = "dropping it removes the device from the domain"]
pub struct Published<'a, P: Platform> {
    tx: Option<Transaction<'a, P>>,
}

/// An attach whose entries are written. Dropping it commits it.
#[must_use = "call commit for the outcome of the old tag"]
pub struct Installed<'a, P: Platform> {
    tx: Option<Transaction<'a, P>>,
    config: Result<(), SinkError>,
}

/// Outcome of an attach.
///
/// No field alone says that the old domain's tables may be freed; see
/// [`TranslationTable`](crate::TranslationTable).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Committed {
    /// The old domain's tag, if this device was its last user on the SMMU and the flush is proven.
    pub freed: Option<CacheTag>,
    /// The old domain's tag, if the SMMU may still use it after the device left.
    ///
    /// The space does not give the number out, and the entry stays in the old domain's array. If
    /// `config` is `Ok`, [`Domain::retry_flushes`] can prove the flush later. If `config` is `Err`,
    /// the device leaves the domain at [`Device::settle`], or at its next attach.
    pub quarantined: Option<CacheTag>,
    /// `Err` if the SMMU did not confirm the new entry. The entry is then invalid in memory, and
    /// the SMMU may still use the old one. Keep the old domain's tables and all memory that they map
    /// until [`Device::settle`], or a later attach of the device, is `Ok`.
    ///
    /// `Ok` says that the SMMU has forgotten the old entry. It does not say that the old tag is
    /// flushed.
    pub config: Result<(), SinkError>,
}

impl<P: Platform> Device<P> {
    /// Prepare to attach the device. Neither the SMMU nor an invalidation sees a change before
    /// [`publish`](Prepared::publish). Dropping the result leaves everything as it was.
    ///
    /// Takes the locks of the old and the new domain and keeps them to the end of the transaction.
    /// A thread that holds a prepared attach must not prepare another one: for the same domains it
    /// waits for itself, and for others two threads can wait for each other. A result that is
    /// leaked ([`core::mem::forget`]) keeps the locks for ever.
    ///
    /// [`Target::Blocked`] and [`Target::Bypass`] need no memory and no tag.
    ///
    /// # Errors
    ///
    /// All errors of an attach, except an SMMU that does not confirm: [`Committed`] reports that.
    pub fn prepare<'a>(
        &'a mut self,
        target: Target<'a, P>,
        env: &Env<'a, P>,
    ) -> Result<Prepared<'a, P>, AttachError> {
        Prepared::new(self, target, *env)
    }
}

impl<'a, P: Platform> Prepared<'a, P> {
    fn new(
        device: &'a mut Device<P>,
        target: Target<'a, P>,
        env: Env<'a, P>,
    ) -> Result<Self, AttachError> {
        let smmu = Arc::clone(&device.smmu);
        let (id, caps) = (smmu.id(), smmu.capabilities());
        let out_of_memory = AttachError::OutOfMemory { smmu: id };
        let new = match target {
            Target::Domain(domain) => Some(domain),
            Target::Bypass | Target::Blocked => None,
        };
        if let Some(domain) = new
            && let Some(lacks) = domain.table().lacks(caps)
        {
            return Err(AttachError::CannotShare { domain: domain.id(), smmu: id, lacks });
        }
        // A fetch of the SMMU may still be under way since a change that it did not confirm. No word
        // is stored under it. Blocking goes on without: the entries are invalid already.
        let ready = device.settle(&env);
        match target {
            Target::Blocked => {}
            Target::Domain(_) | Target::Bypass => ready?,
        }

        let old = match &device.state {
            State::Member(member) => Some(Arc::clone(&member.domain)),
            State::Blocked | State::Bypass => None,
        };
        let locks = Locks::take(new, old.as_ref())?;
        let (ste, cd, pending, becomes) = match target {
            Target::Blocked => (Ste::ABORT, None, None, State::Blocked),
            Target::Bypass => {
                let ste = Ste::bypass(incoming_shareability(&smmu));
                (ste, None, None, State::Bypass)
            }
            Target::Domain(domain) => {
                // Room for the old use and for this one, if the SMMU never confirms their ends.
                device.unsettled.try_reserve(2).map_err(|_| out_of_memory)?;
                let owned = locks.new.as_ref().map_or(&[][..], |state| &state.tags);
                let (tag, fresh) = match find_or_allocate(&smmu, domain, owned, env)? {
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
                let cds = match (domain.table().stage, &device.cds) {
                    (TranslationStage::Stage1 { .. }, None) => {
                        let bytes = ContextDescriptors::<Block<P>>::BYTES;
                        Some(ContextDescriptors::new(allocate(id, env.dma, bytes)?))
                    }
                    _ => None,
                };
                let place = cds.as_ref().or(device.cds.as_ref());
                let (ste, cd) = entries(&smmu, domain, tag, place)?;
                let member = Member { domain: Arc::clone(domain), request };
                let pending = PendingPublish { fresh, node, cds };
                (ste, cd, Some(pending), State::Member(member))
            }
        };
        let tx = Transaction { device, env, locks, ready, becomes, ste, cd };
        Ok(Prepared { tx, pending })
    }

    /// Make the new domain's array visible: from now on it invalidates for the device.
    pub fn publish(self) -> Published<'a, P> {
        let Prepared { mut tx, pending } = self;
        if let (Some(PendingPublish { fresh, node, cds }), State::Member(member)) =
            (pending, &tx.becomes)
        {
            if let Some((mut fresh, room)) = fresh
                && let (Some(tag), Some(state)) = (fresh.tag.take(), tx.locks.new.as_mut())
            {
                let smmu = Arc::clone(&tx.device.smmu);
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

impl<'a, P: Platform> Published<'a, P> {
    /// Write the entries, and invalidate the SMMU's configuration cache.
    ///
    /// An SMMU that does not confirm does not stop the attach; [`Installed::commit`] reports it.
    pub fn install(mut self) -> Installed<'a, P> {
        let mut config = Ok(());
        let mut tx = self.tx.take();
        if let Some(tx) = &mut tx {
            config = tx.install();
        }
        Installed { tx, config }
    }
}

impl<P: Platform> Drop for Published<'_, P> {
    fn drop(&mut self) {
        let Some(mut tx) = self.tx.take() else { return };
        // No entry ever named the tag for this device, so the device can leave without a CFGI.
        if let (State::Member(member), Some(state)) = (&tx.becomes, tx.locks.new.as_mut()) {
            let _outcome = release(member, state, &tx.env);
        }
    }
}

impl<P: Platform> Installed<'_, P> {
    /// Drop the old domain's reference. If the device was the last user of the tag on the SMMU,
    /// flush the tag, and free it once the flush is proven.
    pub fn commit(mut self) -> Committed {
        self.finish()
    }

    fn finish(&mut self) -> Committed {
        let mut done = Committed { freed: None, quarantined: None, config: self.config };
        let Some(mut tx) = self.tx.take() else { return done };
        let becomes = mem::replace(&mut tx.becomes, State::Blocked);
        let State::Member(old) = mem::replace(&mut tx.device.state, becomes) else { return done };
        if let Err(error) = self.config {
            // The SMMU may still use the tag for this device, so the device stays a user, and keeps
            // the domain alive.
            done.quarantined = old.request.as_slice().iter().find_map(|spec| spec.tag());
            if let Some(tag) = done.quarantined {
                let smmu = tx.device.smmu.id();
                tx.env.observer.notice(Notice::TagQuarantined { smmu, tag, error });
            }
            // The attach that made this use reserved the room.
            tx.device.unsettled.push(old);
        } else if let Some(state) = tx.locks.of_old() {
            match release(&old, state, &tx.env) {
                Released::StillUsed => {}
                Released::Freed(tag) => done.freed = Some(tag),
                Released::Unflushed(tag) | Released::NotPresent(tag) => {
                    done.quarantined = Some(tag);
                }
            }
        }
        done
    }
}

impl<P: Platform> Drop for Installed<'_, P> {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

impl<P: Platform> Transaction<'_, P> {
    fn install(&mut self) -> Result<(), SinkError> {
        let written = self.ready.and_then(|()| self.write_cd()).and_then(|()| self.write_stes());
        if let Err(error) = written {
            self.give_up(error);
        }
        self.device.confirmation = match written {
            Ok(()) => Confirmation::Confirmed,
            Err(_) => Confirmation::Unconfirmed,
        };
        if let (Some(cds), Some((place, _))) = (&mut self.device.cds, self.cd) {
            cds.current = place;
        }
        written
    }

    /// The STE of each stream. The table holds all of them: `add_device` has looked.
    fn slots(&self) -> impl Iterator<Item = (StreamId, EntrySlot<'_, Block<P>>)> {
        self.device.entries.iter().filter_map(|entry| Some((entry.stream, entry.slot()?)))
    }

    /// Make the entries invalid and send `CFGI_STE` once more, because the SMMU may use the old or
    /// the new entry.
    fn give_up(&self, error: SinkError) {
        let smmu = self.device.smmu.id();
        let mut batch = Batch::new(self.env.sink, smmu);
        let mut added = Ok(());
        for (stream, slot) in self.slots() {
            // The other words stay, so that a fetch under way does not see a mix.
            slot.invalidate();
            added = added.and_then(|()| batch.add(forget_ste(stream)));
        }
        // A confirmation here would come too late: the change has failed already.
        let _unproven = added.and_then(|()| batch.sync());
        if let Some(&stream) = self.device.streams.first() {
            self.env.observer.notice(Notice::ConfigUnconfirmed { smmu, stream, error });
        }
    }

    /// Write the STEs of all streams together: one `CMD_SYNC` confirms one step of each.
    fn write_stes(&self) -> Result<(), SinkError> {
        let smmu = self.device.smmu.id();
        for (_, slot) in self.slots() {
            // Barrier: an SMMU that sees a new entry also sees the CD and the tables behind it.
            slot.publish();
        }
        let mut syncs = 0;
        loop {
            let mut batch = Batch::new(self.env.sink, smmu);
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
            for &stream in &self.device.streams {
                let entry = TableEntry::Ste;
                self.env.observer.notice(Notice::EntryWritten { smmu, stream, entry, syncs });
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
            None => Err(SinkError::UnknownSmmu { smmu: self.device.smmu.id() }),
        }
    }
}

const fn forget_ste(stream: StreamId) -> Command {
    // CFGI_STE also invalidates the cached CDs of the stream (4.3.1).
    Command::CfgiSte { stream, leaf: Leaf::Last }
}
