//! The attach transaction, from `prepare` to `commit`.
//!
//! Invariants:
//!
//! 1. Before `publish` no reader and no SMMU sees a change, and dropping a [`Prepared`] leaves no
//!    trace.
//! 2. From `publish` to the end of `commit` both domains invalidate for the device.
//! 3. While every earlier change of the device is confirmed, the SMMU sees the old entry, the new
//!    entry or an invalid one.
//! 4. `commit` drops the old domain's reference only after the SMMU has confirmed the new entry. It
//!    frees the tag only after the flush is proven; until then readers see the array entry.
//! 5. If the SMMU does not confirm the new entry, the device stays a user in the old domain's
//!    array, and that domain does not free the tag. Nothing here keeps the domain itself alive.

use alloc::collections::TryReserveError;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use smmu_invs::{InvArray, InvSpec, Publication};
use smmu_tags::RetiringTag;
use smmu_types::seam::{CommandSink, Notice, Observer, SinkError, TableEntry};
use smmu_types::{CacheTag, Cd, Command, Leaf, Ste, StreamId, SubstreamId};

use crate::device::{Attachment, Confirmation, ContextDescriptors, Device};
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
    old: Option<Arc<Domain<P>>>,
    locks: Locks<P>,
    becomes: Attachment<P>,
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
    domain: Arc<Domain<P>>,
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
    new: Option<Arc<Domain<P>>>,
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
    /// no call frees the tag. Dropping the domain drops the array and loses the number.
    pub quarantined: Option<CacheTag>,
    /// `Err` if the SMMU did not confirm the new entry. The entry is then invalid in memory, and
    /// the SMMU may still use the old one. Keep the old domain, its tables and all memory that they
    /// map until the SMMU is reset.
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
        let new = match target {
            Target::Domain(domain) => Some(domain),
            Target::Bypass | Target::Blocked => None,
        };
        let old = match &device.current {
            Attachment::Domain(domain) => Some(Arc::clone(domain)),
            Attachment::Bypass | Attachment::Blocked => None,
        };
        if let Some(domain) = new
            && let Some(lacks) = domain.table().lacks(caps)
        {
            return Err(AttachError::CannotShare { domain: domain.id(), smmu: id, lacks });
        }
        let locks = Locks::take(new, old.as_ref())?;

        device.unref.clear();
        if let Some(old) = &old {
            match old.cell().read().find(id, old.kind()) {
                Some(found) => device.unref.push(found.spec)?,
                // Blocking needs no tag to release. The tag stays in use, which is safe.
                None if new.is_none() => {}
                None => return Err(AttachError::TagLost { domain: old.id(), smmu: id }),
            }
        }

        device.merge.clear();
        let (ste, cd, pending, becomes) = match target {
            Target::Blocked => (Ste::ABORT, None, None, Attachment::Blocked),
            Target::Bypass => {
                let ste = Ste::bypass(incoming_shareability(&smmu));
                (ste, None, None, Attachment::Bypass)
            }
            Target::Domain(domain) => {
                let owned = locks.new.as_ref().map_or(&[][..], |state| &state.tags);
                let (tag, fresh) = match find_or_allocate(&smmu, domain, owned, env)? {
                    DomainTag::Found(shared) => (shared.tag(), None),
                    DomainTag::New(tag, fresh) => (tag, Some(fresh)),
                };
                let fresh = match (fresh, &locks.new) {
                    (Some(fresh), Some(state)) => {
                        let room = Room::beside(state);
                        let room = room.map_err(|_| AttachError::OutOfMemory { smmu: id })?;
                        Some((fresh, room))
                    }
                    _ => None,
                };
                device.merge.push(InvSpec::tagged(id, tag, caps.range_support()))?;
                let merged = domain.cell().read().merge(device.merge.as_slice())?;
                let node =
                    P::Cell::node(merged).map_err(|_| AttachError::OutOfMemory { smmu: id })?;
                let cds = match (domain.table().stage, &device.cds) {
                    (TranslationStage::Stage1 { .. }, None) => {
                        let bytes = ContextDescriptors::<Block<P>>::BYTES;
                        Some(ContextDescriptors::new(allocate(env.dma, bytes)?))
                    }
                    _ => None,
                };
                let place = cds.as_ref().or(device.cds.as_ref());
                let (ste, cd) = entries(&smmu, domain, tag, place, device.confirmation)?;
                let pending = PendingPublish { domain: Arc::clone(domain), fresh, node, cds };
                (ste, cd, Some(pending), Attachment::Domain(Arc::clone(domain)))
            }
        };
        let tx = Transaction { device, env, old, locks, becomes, ste, cd };
        Ok(Prepared { tx, pending })
    }

    /// Make the new domain's array visible: from now on it invalidates for the device.
    pub fn publish(self) -> Published<'a, P> {
        let Prepared { mut tx, pending } = self;
        let mut new = None;
        if let Some(PendingPublish { domain, fresh, node, cds }) = pending {
            if let Some((mut fresh, room)) = fresh
                && let (Some(tag), Some(state)) = (fresh.tag.take(), tx.locks.new.as_mut())
            {
                let smmu = Arc::clone(&tx.device.smmu);
                room.take_over(state, Owned { tag: tag.install(), smmu });
            }
            domain.cell().publish(node);
            if cds.is_some() {
                tx.device.cds = cds;
            }
            new = Some(domain);
        }
        Published { tx: Some(tx), new }
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
        let (Some(mut tx), Some(domain)) = (self.tx.take(), self.new.take()) else { return };
        // No entry ever named the tag for this device, so `Ok` without a CFGI is right.
        if let Some(state) = tx.locks.new.as_mut() {
            let request = tx.device.merge.as_slice();
            let _ = release(&domain, state, request, &tx.env, Ok(()));
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
        if let (Some(old), Some(state)) = (&tx.old, tx.locks.of_old()) {
            let request = tx.device.unref.as_slice();
            match release(old, state, request, &tx.env, self.config) {
                Released::StillUsed => {}
                Released::Freed(tag) => done.freed = Some(tag),
                Released::Quarantined(tag) => done.quarantined = Some(tag),
            }
        }
        tx.device.current = mem::replace(&mut tx.becomes, Attachment::Blocked);
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
        let written = self.write_cd().and_then(|()| self.write_stes());
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

    /// Make the entries invalid and send `CFGI_STE` once more, because the SMMU may use the old or
    /// the new entry.
    fn give_up(&self, error: SinkError) {
        for slot in self.device.entries.iter().filter_map(|entry| entry.slot()) {
            // The other words stay, so that a fetch under way does not see a mix.
            slot.invalidate();
        }
        for entry in &self.device.entries {
            let forget = |stream| Command::CfgiSte { stream, leaf: Leaf::Last };
            if self.sync(&[entry.stream], forget).is_err() {
                break;
            }
        }
        if let Some(&stream) = self.device.streams.first() {
            let smmu = self.device.smmu.id();
            self.env.observer.notice(Notice::ConfigUnconfirmed { smmu, stream, error });
        }
    }

    fn write_stes(&self) -> Result<(), SinkError> {
        for entry in &self.device.entries {
            let stream = entry.stream;
            // The table covers its streams. If it did not, no entry would be written.
            let smmu = self.device.smmu.id();
            let slot = entry.slot().ok_or(SinkError::UnknownSmmu { smmu })?;
            // CFGI_STE also invalidates the cached CDs of the stream (4.3.1).
            let forget = |stream| Command::CfgiSte { stream, leaf: Leaf::Last };
            let syncs = entry::write(&slot, &self.ste, || self.sync(&[stream], forget))?;
            self.written(stream, TableEntry::Ste, syncs);
        }
        Ok(())
    }

    fn write_cd(&self) -> Result<(), SinkError> {
        let (Some((place, cd)), Some(cds)) = (self.cd, &self.device.cds) else { return Ok(()) };
        let Some(slot) = EntrySlot::new(&cds.block, place) else { return Ok(()) };
        if self.device.confirmation == Confirmation::Confirmed {
            // No STE leads to this CD, so the SMMU cannot have cached it.
            return entry::write(&slot, &cd, || Ok(())).map(|_| ());
        }
        let substream = SubstreamId::default();
        let forget = |stream| Command::CfgiCd { stream, substream, leaf: Leaf::Last };
        let streams = &self.device.streams;
        let syncs = entry::write(&slot, &cd, || self.sync(streams, forget))?;
        if let Some(&stream) = streams.first() {
            self.written(stream, TableEntry::Cd, syncs);
        }
        Ok(())
    }

    /// Send one command per stream and one `CMD_SYNC` after them, and wait.
    fn sync(
        &self,
        streams: &[StreamId],
        command: impl Fn(StreamId) -> Command,
    ) -> Result<(), SinkError> {
        const BATCH: usize = 16;
        let smmu = self.device.smmu.id();
        let (mut rest, mut pushed) = (streams, None);
        loop {
            let (now, later) = rest.split_at(rest.len().min(BATCH));
            let mut batch = [Command::CfgiAll; BATCH];
            for (slot, &stream) in batch.iter_mut().zip(now) {
                *slot = command(stream);
            }
            let batch = &batch[..now.len()];
            if later.is_empty() {
                let ticket = match pushed {
                    None => self.env.sink.issue(smmu, batch),
                    Some(pushed) => self.env.sink.prove(pushed, batch),
                }?;
                return self.env.sink.wait(ticket).map(|_proof| ());
            }
            pushed = Some(self.env.sink.push(smmu, pushed, batch)?);
            rest = later;
        }
    }

    fn written(&self, stream: StreamId, entry: TableEntry, syncs: u32) {
        if syncs > 0 {
            let smmu = self.device.smmu.id();
            self.env.observer.notice(Notice::EntryWritten { smmu, stream, entry, syncs });
        }
    }
}
