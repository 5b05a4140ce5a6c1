//! The attach transaction.
//!
//! Invariants:
//!
//! 1. Before `publish` nothing is visible, and dropping a [`Prepared`] leaves no trace.
//! 2. From `publish` to the end of `commit` both domains invalidate for the device.
//! 3. Hardware sees the old entry, the new one or none.
//! 4. The old domain's reference is dropped only after the new entry is in force, and its tag is freed
//!    only after its flush is proven; until then its array entry stays visible to readers.
//! 5. When hardware does not confirm that it has forgotten the old entry, the old tag is quarantined.

use alloc::sync::Arc;
use core::mem;

use smmu_invs::{InvArray, InvSpec, Publication, UnrefOutcome};
use smmu_tags::FreshTag;
use smmu_types::seam::{CommandSink, Notice, Observer, SinkError, TableEntry};
use smmu_types::{
    AtsMode, CacheTag, Cacheability, Cd, Command, FlushProof, Leaf, Regime, Shareability,
    ShareabilityOverride, StallModel, Ste, StreamId, StreamWorld, SubstreamDefault, SubstreamId,
    TableConfig,
};

use crate::device::{Attachment, ContextDescriptors, Device, Spare};
use crate::domain::{Domain, DomainState, Guard};
use crate::entry::{self, Slot};
use crate::platform::Block;
use crate::stream_table::allocate;
use crate::table::Stage;
use crate::{AttachError, Env, Platform};

/// Where a device is to go.
#[derive(Debug)]
pub enum Target<'a, P: Platform> {
    /// Into a domain.
    Domain(&'a Arc<Domain<P>>),
    /// Its transactions pass unchanged.
    Bypass,
    /// Its transactions are aborted.
    Blocked,
}

/// What every step needs.
struct Transaction<'a, P: Platform> {
    device: &'a mut Device<P>,
    env: Env<'a, P>,
    old: Option<Arc<Domain<P>>>,
    locks: Locks<P>,
    becomes: Attachment<P>,
    ste: Ste,
    // The context descriptor and the place where it goes, or is already.
    cd: Option<(usize, Cd)>,
}

/// The locks of the old and the new domain; one lock where they are the same.
struct Locks<P: Platform> {
    new: Option<Guard<P>>,
    old: Option<Guard<P>>,
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

    /// The state of the old domain, where there is one.
    fn of_old(&mut self) -> Option<&mut DomainState<P>> {
        self.old.as_mut().or(self.new.as_mut()).map(|guard| &mut **guard)
    }
}

/// A tag that no hardware has seen; dropping it gives it back and says so.
struct Fresh<'a, P: Platform> {
    tag: Option<FreshTag<P::Lock>>,
    env: Env<'a, P>,
}

impl<P: Platform> Drop for Fresh<'_, P> {
    fn drop(&mut self) {
        if let Some(tag) = self.tag.take() {
            let notice = Notice::TagAborted { smmu: tag.smmu(), tag: tag.tag() };
            tag.abort();
            self.env.observer.notice(notice);
        }
    }
}

/// What `publish` makes visible for the new domain.
struct Pending<'a, P: Platform> {
    domain: Arc<Domain<P>>,
    // `None` when the domain had a tag on this SMMU, which its array keeps alive under its lock.
    fresh: Option<Fresh<'a, P>>,
    node: <P::Cell as Publication<InvArray>>::Node,
    cds: Option<ContextDescriptors<Block<P>>>,
}

/// An attach that can no longer fail, and that nobody has seen.
#[must_use = "dropping it undoes the preparation"]
pub struct Prepared<'a, P: Platform> {
    tx: Transaction<'a, P>,
    pending: Option<Pending<'a, P>>,
}

/// An attach whose new domain invalidates for the device.
///
/// Dropping it takes the device out of the new domain's array again.
#[must_use = "dropping it takes the device out of the domain again"]
pub struct Published<'a, P: Platform> {
    tx: Option<Transaction<'a, P>>,
    new: Option<Arc<Domain<P>>>,
}

/// An attach that hardware has seen. Dropping it commits it.
#[must_use = "call commit to learn what became of the old tag"]
pub struct Installed<'a, P: Platform> {
    tx: Option<Transaction<'a, P>>,
    config: Result<(), SinkError>,
}

/// How an attach ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Committed {
    /// The old domain's tag, when this was its last user on the SMMU and its flush is proven.
    pub freed: Option<CacheTag>,
    /// The old domain's tag, when its flush could not be proven. Its number is never given out again
    /// and its entry stays in the old domain's array.
    pub quarantined: Option<CacheTag>,
    /// `Err` when hardware did not confirm that the new entry is in force. The device's entry is then
    /// invalid in memory, and what the SMMU still holds of the old one is not known: do not reuse what
    /// the old domain led to before the SMMU is reset.
    pub config: Result<(), SinkError>,
}

impl<'a, P: Platform> Prepared<'a, P> {
    pub(crate) fn new(
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
        let mut locks = Locks::take(new, old.as_ref())?;

        device.unref.clear();
        if let Some(old) = &old {
            let array = old.array();
            let found = array
                .find(id, old.kind())
                .ok_or(AttachError::TagLost { domain: old.id(), smmu: id })?;
            device.unref.push(found.spec)?;
        }

        device.merge.clear();
        let (ste, cd, pending, becomes) = match target {
            Target::Blocked => (Ste::ABORT, None, None, Attachment::Blocked),
            Target::Bypass => {
                let ste = Ste::bypass(incoming_shareability(&smmu));
                (ste, None, None, Attachment::Bypass)
            }
            Target::Domain(domain) => {
                let (tag, fresh) = find_or_allocate(&smmu, domain, env)?;
                if let (Some(_), Some(state)) = (&fresh, locks.new.as_mut()) {
                    let room = state.tags.try_reserve(1);
                    room.map_err(|_| AttachError::OutOfMemory { smmu: id })?;
                }
                device.merge.push(InvSpec::tagged(id, tag, caps.range_support()))?;
                let merged = domain.array().merge(device.merge.as_slice())?;
                let node =
                    P::Cell::node(merged).map_err(|_| AttachError::OutOfMemory { smmu: id })?;
                let cds = match (domain.table().stage, &device.cds) {
                    (Stage::Stage1 { .. }, None) => {
                        let bytes = ContextDescriptors::<Block<P>>::BYTES;
                        Some(ContextDescriptors::new(allocate(env.dma, bytes)?))
                    }
                    _ => None,
                };
                let (ste, cd) = entries(&smmu, domain, tag, cds.as_ref().or(device.cds.as_ref()))?;
                let pending = Pending { domain: Arc::clone(domain), fresh, node, cds };
                (ste, cd, Some(pending), Attachment::Domain(Arc::clone(domain)))
            }
        };
        let tx = Transaction { device, env, old, locks, becomes, ste, cd };
        Ok(Prepared { tx, pending })
    }

    /// Make the new domain's array visible: it invalidates for the device from now on.
    pub fn publish(self) -> Published<'a, P> {
        let Prepared { mut tx, pending } = self;
        let mut new = None;
        if let Some(Pending { domain, fresh, node, cds }) = pending {
            if let Some(mut fresh) = fresh
                && let (Some(tag), Some(state)) = (fresh.tag.take(), tx.locks.new.as_mut())
            {
                // Room was reserved in `prepare`.
                state.tags.push(tag.install());
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
    /// Write the entries, and make hardware forget what it has cached of the old ones.
    ///
    /// A failure to confirm does not stop the attach; [`Installed::commit`] reports it.
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
        // No entry ever named the tag for this device, so the flush proves what already holds.
        if let Some(state) = tx.locks.new.as_mut() {
            let request = tx.device.merge.as_slice();
            let _ = release(&domain, state, request, &tx.env, Ok(()));
        }
    }
}

impl<P: Platform> Installed<'_, P> {
    /// Drop the old domain's reference. If this was its last user on the SMMU, flush its tag and, once
    /// the flush is proven, free it.
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
        let streams = &self.device.entries;
        if written.is_err() {
            // Neither the old nor the new entry is known to be in force: leave nothing to fetch.
            for entry in streams {
                let _ =
                    entry.slot().map(|slot| entry::write(&slot, &Ste::INVALID, || Ok::<_, ()>(())));
            }
        }
        if let Some(cds) = &mut self.device.cds {
            cds.spare = if written.is_ok() { Spare::Unreachable } else { Spare::Unknown };
            if let Some((place, _)) = self.cd {
                cds.current = place;
            }
        }
        written
    }

    fn write_stes(&self) -> Result<(), SinkError> {
        for entry in &self.device.entries {
            let Some(slot) = entry.slot() else { continue };
            let stream = entry.stream;
            // Drops the context descriptors of the stream as well (4.3.1).
            let forget = |stream| Command::CfgiSte { stream, leaf: Leaf::Last };
            let syncs = entry::write(&slot, &self.ste, || self.sync(&[stream], forget))?;
            self.written(stream, TableEntry::Ste, syncs);
        }
        Ok(())
    }

    fn write_cd(&self) -> Result<(), SinkError> {
        let (Some((place, cd)), Some(cds)) = (self.cd, &self.device.cds) else { return Ok(()) };
        let Some(slot) = Slot::new(&cds.block, place) else { return Ok(()) };
        if cds.spare == Spare::Unreachable {
            // No entry leads here, so there is nothing to forget.
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

    /// One command for each stream, and one `CMD_SYNC` behind them all.
    fn sync(
        &self,
        streams: &[StreamId],
        command: impl Fn(StreamId) -> Command,
    ) -> Result<(), SinkError> {
        const BATCH: usize = 16;
        let smmu = self.device.smmu.id();
        let mut rest = streams;
        loop {
            let (now, later) = rest.split_at(rest.len().min(BATCH));
            let mut batch = [Command::CfgiAll; BATCH];
            for (slot, &stream) in batch.iter_mut().zip(now) {
                *slot = command(stream);
            }
            let batch = &batch[..now.len()];
            if later.is_empty() {
                return self.env.sink.run(smmu, batch).map(|_proof| ());
            }
            self.env.sink.push(smmu, batch)?;
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

/// The tag of a domain on an SMMU: the one that its array has, or a new one.
fn find_or_allocate<'a, P: Platform>(
    smmu: &crate::Smmu<P>,
    domain: &Domain<P>,
    env: Env<'a, P>,
) -> Result<(CacheTag, Option<Fresh<'a, P>>), AttachError> {
    let id = smmu.id();
    if let Some(found) = domain.array().find(id, domain.kind())
        && let Some(tag) = found.spec.tag()
    {
        let users = found.users;
        env.observer.notice(Notice::TagFound { domain: domain.id(), smmu: id, tag, users });
        return Ok((tag, None));
    }
    let fresh = match domain.table().stage {
        Stage::Stage1 { .. } => {
            smmu.asids().allocate(id, Regime::El1, smmu.capabilities().asid_bits)?
        }
        Stage::Stage2 { .. } => smmu.vmids().allocate()?,
    };
    let tag = fresh.tag();
    env.observer.notice(Notice::TagAllocated { domain: domain.id(), smmu: id, tag });
    Ok((tag, Some(Fresh { tag: Some(fresh), env })))
}

fn incoming_shareability<P: Platform>(smmu: &crate::Smmu<P>) -> ShareabilityOverride {
    // Without ATTR_TYPES_OVR the field is reserved, and the incoming attribute is used anyway.
    if smmu.capabilities().attribute_override {
        ShareabilityOverride::Incoming
    } else {
        ShareabilityOverride::NonShareable
    }
}

/// The entries that lead a device into a domain, and where the context descriptor goes.
fn entries<P: Platform>(
    smmu: &crate::Smmu<P>,
    domain: &Domain<P>,
    tag: CacheTag,
    cds: Option<&ContextDescriptors<Block<P>>>,
) -> Result<(Ste, Option<(usize, Cd)>), AttachError> {
    let caps = smmu.capabilities();
    let table = domain.table();
    match (table.stage, tag, cds) {
        (Stage::Stage1 { mair }, CacheTag::Asid(_, asid), Some(cds)) => {
            let cd = Cd::stage1(table.stage1(mair, asid))?;
            let there = cds.spare == Spare::Unreachable && cds.read(cds.current) == Some(cd);
            let place = if there { cds.current } else { 1 - cds.current };
            let (cache, shareability) = if caps.coherent {
                (Cacheability::WriteBack, Shareability::Inner)
            } else {
                (Cacheability::NonCacheable, Shareability::Outer)
            };
            let ste = Ste::stage1(
                TableConfig {
                    format: 0,
                    context: cds.address(place),
                    cd_max: 0,
                    substream_default: SubstreamDefault::Substream0,
                    inner: cache,
                    outer: cache,
                    shareability,
                    stall_disable: caps.stall_model == StallModel::Both,
                    world: StreamWorld::El1,
                },
                AtsMode::Off,
                ShareabilityOverride::NonShareable,
            )?;
            Ok((ste, Some((place, cd))))
        }
        (Stage::Stage2 { start_level }, CacheTag::Vmid(vmid), _) => {
            let stage2 = table.stage2(start_level, vmid);
            let ste = Ste::stage2(stage2, AtsMode::Off, incoming_shareability(smmu))?;
            Ok((ste, None))
        }
        _ => Err(AttachError::TagNotOwned { domain: domain.id(), smmu: smmu.id(), tag }),
    }
}

enum Released {
    StillUsed,
    Freed(CacheTag),
    Quarantined(CacheTag),
}

/// Take one device out of a domain's array. `config` says whether hardware has confirmed that the device
/// no longer uses the domain.
fn release<P: Platform>(
    domain: &Domain<P>,
    state: &mut DomainState<P>,
    request: &[InvSpec],
    env: &Env<'_, P>,
    config: Result<(), SinkError>,
) -> Released {
    let mut last = None;
    let array = domain.array();
    array.unref(request, |n, outcome| {
        if outcome == UnrefOutcome::LastUserGone {
            last = Some(request[n]);
        }
    });
    let Some(spec) = last else { return Released::StillUsed };
    let smmu = spec.key.smmu;
    let owned = state.tags.iter().position(|t| t.smmu() == smmu && Some(t.tag()) == spec.tag());
    let Some(at) = owned else { return Released::StillUsed };

    let retiring = state.tags.swap_remove(at).retire();
    let tag = retiring.tag();
    env.observer.notice(Notice::TagRetired { domain: domain.id(), smmu, tag });
    let proof = config.and_then(|()| FlushProof::obtain(env.sink, smmu, tag));
    let result = match proof {
        Ok(proof) => {
            // Readers stop sending the flush before the number can mean something else.
            array.settle(&proof);
            match retiring.free(proof) {
                Ok(_) => {
                    env.observer.notice(Notice::TagFreed { smmu, tag });
                    Released::Freed(tag)
                }
                // The proof is of this very tag, so this arm is not reached; if it were, dropping the
                // error would quarantine the number.
                Err(_) => Released::Quarantined(tag),
            }
        }
        Err(error) => {
            retiring.quarantine();
            env.observer.notice(Notice::TagQuarantined { smmu, tag, error });
            Released::Quarantined(tag)
        }
    };
    // Compaction is a courtesy: without memory the array stays as it is.
    if let Ok(Some(purged)) = array.purge()
        && let Ok(node) = P::Cell::node(purged)
    {
        drop(array);
        domain.cell().publish(node);
    }
    result
}
