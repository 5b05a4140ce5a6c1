//! One device behind one SMMU: its streams, its entries and what it is attached to.

use alloc::vec::Vec;
use core::fmt;
use core::mem;
use core::sync::atomic::AtomicUsize;

use lock_api::Mutex;
use smmu_invs::{Counted, Publication};
use smmu_types::seam::SinkError;
use smmu_types::{
    CacheTag, Cd, Command, GoneProof, Leaf, SmmuId, Ste, SteConfig, StreamId, SubstreamDefault,
    SubstreamId,
};

use crate::ats_switch::{AtcPart, AtsState, AtsSwitch, AtsUse};
use crate::batch::SyncBatch;
use crate::context::CdTables;
use crate::entry::EntrySlot;
use crate::fault_model::FaultModel;
use crate::held::{Contention, Held, Locked, Rank};
use crate::key::AttachKey;
use crate::membership::{End, Leads, Member, flush, release};
use crate::outcome::Outcome;
use crate::platform::Block;
use crate::smmu_core::SmmuCore;
use crate::stream_entry::StreamEntry;
use crate::substreams::{NoRoom, Substreams};
use crate::sync::{Barrier, is_kept};
use crate::table::TranslationStage;
#[cfg(feature = "guest")]
use crate::virtual_smmu::VirtualSmmu;
use crate::{AttachError, Domain, Platform};

/// What a device is attached to.
#[non_exhaustive]
pub enum Attachment<P: Platform> {
    /// Nothing: the SMMU aborts its transactions.
    Blocked,
    /// Nothing: the SMMU passes its transactions unchanged.
    Bypass,
    /// What another owner attached before this crate [took over](crate::Smmu::adopt) the SMMU. Any
    /// attach, bypass or block ends it, for all streams of the device.
    Foreign,
    /// A domain.
    Domain(Domain<P>),
    /// A guest's stage 1, over the parent of a virtual SMMU.
    #[cfg(feature = "guest")]
    Nested(VirtualSmmu<P>),
}

impl<P: Platform> fmt::Debug for Attachment<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attachment::Blocked => f.write_str("Blocked"),
            Attachment::Bypass => f.write_str("Bypass"),
            Attachment::Foreign => f.write_str("Foreign"),
            Attachment::Domain(domain) => write!(f, "Domain({})", domain.id()),
            #[cfg(feature = "guest")]
            Attachment::Nested(through) => write!(f, "Nested({through:?})"),
        }
    }
}

/// Whether the SMMU confirmed the last change of the device's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// Confirmed: the SMMU can read the current CD only.
    Confirmed,
    /// Not confirmed: the SMMU may read either CD, and the tables behind both.
    Unconfirmed,
}

/// What becomes of the transactions of one key. A substream has no bypass.
pub(crate) enum State<P: Platform> {
    Blocked,
    Bypass,
    /// What another owner attached. No attach leads here.
    Foreign,
    Member(Member<P>),
}

/// The uses of tags that the entries of another owner are.
pub(crate) struct ForeignUses {
    /// One for each stream and tag.
    pub(crate) tags: Vec<CacheTag>,
    /// An STE has `EATS`.
    pub(crate) has_ats: bool,
}

/// One device behind one SMMU. A clone is another reference to the same device.
///
/// The [`Smmu`](crate::Smmu) keeps its devices until
/// [`Smmu::remove_device`](crate::Smmu::remove_device), so that an event handler finds a device by
/// its StreamID. Calls for one device wait for each other.
pub struct Device<P: Platform>(pub(crate) Counted<DeviceParts<P>>);

pub(crate) struct DeviceParts<P: Platform> {
    pub(crate) smmu: SmmuCore<P>,
    /// Place of the device's lock in the order of locks.
    made: usize,
    pub(crate) entries: Vec<StreamEntry<Block<P>>>,
    /// Bits of the SubstreamIDs that device and SMMU can use.
    pub(crate) substream_bits: u8,
    pub(crate) ats: AtsUse,
    /// It asks for pages.
    pub(crate) page_requests: bool,
    /// Place in the list of the SMMU's devices. Changes under the lock of that list.
    pub(crate) place: AtomicUsize,
    state: Mutex<P::SleepLock, DeviceState<P>>,
}

/// What the device's lock protects: its entries in memory, and what they say.
pub(crate) struct DeviceState<P: Platform> {
    /// Whether its transactions stall; never changes.
    pub(crate) faults: FaultModel,
    /// Transactions without a SubstreamID.
    pub(crate) state: State<P>,
    /// The attached substreams.
    pub(crate) substreams: Substreams<P>,
    pub(crate) confirmation: Confirmation,
    /// Uses whose end is not confirmed. Has room for those in `state` and `substreams` as well.
    pub(crate) unsettled: Vec<Member<P>>,
    /// Uses of another owner's tags, from the first attach of the foreign streams until each is
    /// flushed. In [`State::Foreign`] they are in use.
    pub(crate) foreign: Vec<CacheTag>,
    pub(crate) cds: CdTables<Block<P>>,
    pub(crate) ats: AtsState,
    pub(crate) removed: bool,
}

// SAFETY: the lock is a field.
#[expect(unsafe_code, reason = "the promise of a lock that is held with its object")]
unsafe impl<P: Platform> Locked for DeviceParts<P> {
    type Raw = P::SleepLock;
    type Data = DeviceState<P>;
    fn mutex(&self) -> &Mutex<P::SleepLock, DeviceState<P>> {
        &self.state
    }
    fn rank(&self) -> Rank {
        let (smmu, address) = (self.smmu.instance.rank(), core::ptr::from_ref(self).addr());
        Rank::Device { smmu, made: self.made, address }
    }
}

impl<P: Platform> DeviceParts<P> {
    /// Clear the valid bit of each entry. The other words stay, so a fetch in progress sees no mix.
    fn invalidate_entries(&self) {
        for (_, slot) in self.slots() {
            slot.invalidate();
        }
    }

    /// The STE of each stream. The table holds all of them: `add_device` has looked.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (StreamId, EntrySlot<'_, Block<P>>)> {
        self.entries.iter().filter_map(|entry| Some((entry.stream, entry.slot()?)))
    }

    /// The STE in memory now. All streams have the same.
    pub(crate) fn ste(&self) -> Option<Ste> {
        Some(self.slots().next()?.1.read())
    }

    /// Whether no reader can send `ATC_INV` for a use whose entries are out of the array. Waits for
    /// the readers.
    pub(crate) fn is_drained(&self, member: &Member<P>) -> bool {
        if self.ats != AtsUse::Switched || !member.has_atc() {
            return true;
        }
        let gate = member.domain.cell().gate().filter(|_| is_kept(Barrier::DrainBeforeOff));
        gate.is_none_or(|gate| self.smmu.env.ats().drain(gate).is_ok())
    }

    /// Why a substream has to wait.
    pub(crate) fn foreign_attached(&self) -> AttachError {
        let stream = self.entries.first().map(|entry| entry.stream).unwrap_or_default();
        AttachError::ForeignAttached { smmu: self.smmu.id, stream }
    }

    /// Make the entries invalid, and the SMMU forget what it has cached of them.
    pub(crate) fn forget_entries(&self) -> Result<(), SinkError> {
        self.invalidate_entries();
        let mut batch = SyncBatch::new(self.smmu.env.sink(), self.smmu.id);
        for entry in &self.entries {
            batch.add(forget_ste(entry.stream))?;
        }
        batch.sync()
    }
}

/// The device's lock, held.
pub(crate) type DeviceGuard<P> = Held<DeviceParts<P>>;

impl<P: Platform> DeviceState<P> {
    /// The use of a domain by the transactions of a key.
    pub(crate) fn member(&self, key: AttachKey) -> Option<&Member<P>> {
        match key {
            AttachKey::Stream => match &self.state {
                State::Member(member) => Some(member),
                State::Blocked | State::Bypass | State::Foreign => None,
            },
            AttachKey::Substream(id) => self.substreams.get(id),
        }
    }

    /// Room for one more attachment, and for all uses whose end may stay unconfirmed.
    pub(crate) fn reserve(&mut self, key: AttachKey) -> Result<(), NoRoom> {
        if let AttachKey::Substream(_) = key {
            self.substreams.reserve()?;
        }
        // The stream's use, that of each substream, the old one and the new one.
        Ok(self.unsettled.try_reserve(self.substreams.len() + 3)?)
    }

    /// Attach the transactions of a key, and return what they were attached to.
    pub(crate) fn replace(&mut self, key: AttachKey, becomes: State<P>) -> State<P> {
        let AttachKey::Substream(id) = key else {
            return mem::replace(&mut self.state, becomes);
        };
        let old = match becomes {
            // `prepare` reserved the room.
            State::Member(new) => self.substreams.insert(id, new),
            State::Blocked | State::Bypass | State::Foreign => self.substreams.remove(id),
        };
        old.map_or(State::Blocked, State::Member)
    }

    /// Whether no transaction of the device reaches memory.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self.state, State::Blocked) && self.substreams.is_empty()
    }

    /// Whether the entries are those of another owner.
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self.state, State::Foreign)
    }

    /// Give up the tags of another owner, whose entries the SMMU has forgotten.
    pub(crate) fn leave_foreign(&mut self, parts: &DeviceParts<P>) -> Outcome {
        let smmu = &parts.smmu;
        let mut outcome = Outcome::Done;
        while let Some(&tag) = self.foreign.last() {
            match smmu.foreign.release(&smmu.env, smmu.id, tag) {
                Ok(freed) => outcome = freed.map_or(outcome, Outcome::Freed),
                Err(error) => return Outcome::Unflushed(tag, error),
            }
            self.foreign.pop();
        }
        outcome
    }

    fn is_settled(&self) -> bool {
        let foreign = self.foreign.is_empty() || self.is_foreign();
        self.confirmation == Confirmation::Confirmed && self.unsettled.is_empty() && foreign
    }

    /// End all uses of domains. None of the ends is confirmed. Needs no memory: the attaches that made
    /// the uses reserved the room.
    pub(crate) fn unsettle_all(&mut self) {
        let mut unsettled = mem::take(&mut self.unsettled);
        unsettled.extend(self.take_members());
        self.unsettled = unsettled;
    }

    /// All uses of domains, at their end.
    fn take_members(&mut self) -> impl Iterator<Item = Member<P>> {
        let stream = match mem::replace(&mut self.state, State::Blocked) {
            State::Member(member) => Some(member),
            State::Blocked | State::Bypass | State::Foreign => None,
        };
        if let Some(table) = self.cds.leaves_mut() {
            table.set_stale();
        }
        stream.into_iter().chain(self.substreams.drain())
    }

    /// Ask the SMMU to forget all entries of the device, if it did not confirm the last change.
    /// Then take the device out of the domains that it failed to leave.
    ///
    /// A domain whose lock another holder has waits for the next call, if `contention` says so.
    pub(crate) fn confirm(
        &mut self,
        parts: &DeviceParts<P>,
        contention: Contention,
    ) -> Result<(), SinkError> {
        if self.confirmation == Confirmation::Unconfirmed {
            // The failed change has left the entries invalid, unless a panic of a seam cut it
            // short.
            if is_kept(Barrier::ForgetBeforeStore) {
                parts.forget_entries()?;
            }
            self.confirmation = Confirmation::Confirmed;
            // The SMMU refuses translated requests. What the ATC has, it has.
            self.ats = AtsState { entry: false, dirty: true, ..self.ats };
        }
        self.leave_domains(parts, contention);
        Ok(())
    }

    /// Take the device out of the domains that it no longer uses. The SMMU has confirmed that.
    ///
    /// Returns a tag that is not flushed, if there is one.
    pub(crate) fn leave_domains(
        &mut self,
        parts: &DeviceParts<P>,
        contention: Contention,
    ) -> Option<(CacheTag, SinkError)> {
        let mut unflushed = None;
        self.unsettled.retain_mut(|member| {
            if member.end != End::Open {
                return true;
            }
            let Some(mut domain) = member.domain.lock_as(contention, Rank::ANY_DEVICE) else {
                return true;
            };
            member.end = match release(member, &mut domain, &parts.smmu.env) {
                Outcome::Unflushed(tag, error) => {
                    unflushed.get_or_insert((tag, error));
                    End::Unflushed
                }
                _ if parts.is_drained(member) => return false,
                _ => End::Undrained,
            };
            true
        });
        if !self.is_foreign()
            && let Outcome::Unflushed(tag, error) = self.leave_foreign(parts)
        {
            unflushed.get_or_insert((tag, error));
        }
        unflushed
    }

    /// Turn ATS off at a device that is blocked, after the last reader that may have sent `ATC_INV`
    /// to it.
    ///
    /// # Errors
    ///
    /// Such a reader still waits.
    pub(crate) fn switch_ats_off(&mut self, parts: &DeviceParts<P>) -> Result<(), SinkError> {
        if !self.ats.entry {
            parts.stop_page_requests(&mut self.ats);
        }
        self.unsettled.retain(|member| member.end != End::Undrained || !parts.is_drained(member));
        if self.unsettled.iter().any(|member| member.end == End::Undrained) {
            return Err(SinkError::timeout(parts.smmu.id));
        }
        if self.is_blocked() {
            parts.disable_ats(&mut self.ats);
        }
        Ok(())
    }

    /// Whether the transactions of a key may be attached to a domain, beside the others.
    pub(crate) fn may_use(
        &self,
        key: AttachKey,
        domain: &Domain<P>,
        smmu: SmmuId,
    ) -> Result<(), AttachError> {
        let id = domain.id();
        let stage2 = matches!(domain.description().stage, TranslationStage::Stage2 { .. });
        match key {
            AttachKey::Stream => match self.substreams.is_empty() {
                false if stage2 => Err(AttachError::SubstreamsAttached { smmu, domain: id }),
                _ => Ok(()),
            },
            AttachKey::Substream(_) if stage2 => {
                Err(AttachError::SubstreamStage2 { smmu, domain: id })
            }
            AttachKey::Substream(substream) => match &self.state {
                State::Member(Member { leads: Leads::Stage2(_), domain, .. }) => {
                    let domain = domain.id();
                    Err(AttachError::StreamStage2 { smmu, substream, domain })
                }
                _ => Ok(()),
            },
        }
    }

    /// [`confirm`](Self::confirm), and flush each tag whose flush is not proven.
    fn settle(&mut self, parts: &DeviceParts<P>) -> Result<(), SinkError> {
        self.confirm(parts, Contention::Wait)?;
        let unflushed = |member: &Member<P>| member.end == End::Unflushed;
        while let Some(at) = self.unsettled.iter().position(unflushed) {
            flush(&self.unsettled[at])?;
            self.unsettled[at].end = End::Undrained;
        }
        if !self.is_foreign()
            && let Outcome::Unflushed(_, error) = self.leave_foreign(parts)
        {
            return Err(error);
        }
        self.switch_ats_off(parts)
    }
}

/// The command that makes the SMMU forget an STE and the stream's cached CDs (4.3.1).
pub(crate) const fn forget_ste(stream: StreamId) -> Command {
    Command::CfgiSte { stream, leaf: Leaf::Last }
}

impl<P: Platform> Device<P> {
    pub(crate) fn new(
        smmu: SmmuCore<P>,
        entries: Vec<StreamEntry<Block<P>>>,
        substream_bits: u8,
        (ats, page_requests): (AtsUse, bool),
        faults: FaultModel,
        foreign: Option<ForeignUses>,
    ) -> Result<Self, AttachError> {
        let state = DeviceState {
            faults,
            state: if foreign.is_some() { State::Foreign } else { State::Blocked },
            substreams: Substreams::new(),
            confirmation: Confirmation::Confirmed,
            unsettled: Vec::new(),
            cds: CdTables::NONE,
            ats: AtsState::new(ats, foreign.as_ref().is_some_and(|foreign| foreign.has_ats)),
            foreign: foreign.map_or_else(Vec::new, |foreign| foreign.tags),
            removed: false,
        };
        let (place, state, made) = (AtomicUsize::new(0), Mutex::new(state), smmu.env.next_device());
        let parts =
            DeviceParts { smmu, made, entries, substream_bits, ats, page_requests, place, state };
        Ok(Device(Counted::new(parts)?))
    }

    /// Number of the SMMU in front of the device.
    #[must_use]
    pub fn smmu(&self) -> SmmuId {
        self.0.smmu.id
    }

    /// StreamIDs of the device, ascending.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = StreamId> {
        self.0.entries.iter().map(|entry| entry.stream)
    }

    /// Whether both are references to the same device.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Counted::ptr_eq(&self.0, &other.0)
    }

    /// What the device is attached to. Waits for an attach of the device in another thread.
    #[must_use]
    pub fn attachment(&self) -> Attachment<P> {
        match &self.lock().state {
            State::Blocked => Attachment::Blocked,
            State::Bypass => Attachment::Bypass,
            State::Foreign => Attachment::Foreign,
            State::Member(member) => match &member.via {
                None => Attachment::Domain(member.domain.clone()),
                #[cfg(feature = "guest")]
                Some(through) => Attachment::Nested(through.clone()),
                #[cfg(not(feature = "guest"))]
                Some(none) => Attachment::Domain(none.never()),
            },
        }
    }

    /// Whether the SMMU confirmed the last change of the device's entries.
    ///
    /// If it did not, the entries are invalid in memory, and the SMMU may still use the old ones.
    /// The domain that the device failed to leave keeps it as a user, and the device keeps that
    /// domain alive. [`settle`](Self::settle) and the next attach ask the SMMU again.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.lock().confirmation == Confirmation::Confirmed
    }

    /// Whether nothing of the device's past is left: its last change is
    /// [confirmed](Self::is_confirmed), it is out of each domain that it left, and their tags are
    /// flushed.
    ///
    /// An attach can be confirmed and leave this `false`: a domain that was busy, or a flush that
    /// the SMMU did not confirm, waits for [`settle`](Self::settle).
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.lock().is_settled()
    }

    /// Ask the SMMU again for all that it has not confirmed of this device: that it has forgotten
    /// earlier entries, and flushes of tags.
    ///
    /// Then the device is out of each domain that it failed to leave, and keeps it no longer alive.
    /// Sends nothing if all is confirmed. After an unconfirmed change the entries stay invalid
    /// until the next attach.
    ///
    /// Takes the locks of those domains. Needs no memory. The page tables of a domain that only
    /// this device kept alive are dropped here, with the device's lock held.
    ///
    /// # Errors
    ///
    /// The SMMU still does not confirm. What it has confirmed before the failing command is
    /// settled.
    pub fn settle(&self) -> Result<(), SinkError> {
        self.lock().settle(&self.0)
    }

    /// Ask the device to drop all translations of its own cache, and wait. `Ok` without a command if
    /// the device does not use ATS now.
    ///
    /// # Errors
    ///
    /// The device does not answer `ATC_INV`, or the SMMU does not. [`quarantine`](Self::quarantine)
    /// ends the wait of unmaps for such a device.
    pub fn check_atc(&self) -> Result<(), SinkError> {
        let state = self.lock();
        // The lock keeps the device's switch where it is.
        match state.ats {
            AtsState { entry: true, on: true, .. } => self.0.flush_atc(AtcPart::Everything),
            _ => Ok(()),
        }
    }

    /// The STE in memory now, read from the first of the StreamIDs.
    #[must_use]
    pub fn read_ste(&self) -> Option<Ste> {
        self.0.ste()
    }

    /// The CD of transactions without a SubstreamID; `None` if the STE has no stage 1 for them.
    #[must_use]
    pub fn read_cd(&self) -> Option<Cd> {
        let SteConfig::Stage1(config) = self.read_ste()?.decode() else { return None };
        match config.substream_default {
            SubstreamDefault::Substream0 => self.cd_of(SubstreamId::default()),
            _ => None,
        }
    }

    /// The CD of a substream in memory now.
    pub(crate) fn cd_of(&self, substream: SubstreamId) -> Option<Cd> {
        let state = self.lock();
        let SteConfig::Stage1(config) = self.read_ste()?.decode() else { return None };
        if u64::from(substream.get()) >> config.cd_max != 0 {
            return None;
        }
        let n = substream.get() as usize;
        let single = state.cds.single.as_ref().and_then(|table| table.read(config.context, n));
        single.or_else(|| state.cds.all.as_ref()?.read(config.context, n))
    }

    /// Leave foreign streams as they are, because no one has learnt of the device.
    pub(crate) fn disclaim_foreign(&self) {
        let mut state = self.lock();
        state.foreign.clear();
        state.state = State::Blocked;
    }

    pub(crate) fn lock(&self) -> DeviceGuard<P> {
        Held::lock(&self.0, Rank::Nothing)
    }

    pub(crate) fn lock_as(&self, contention: Contention, holding: Rank) -> Option<DeviceGuard<P>> {
        Held::lock_as(&self.0, contention, holding)
    }

    /// Place of the device's lock in the order of locks.
    pub(crate) fn rank(&self) -> Rank {
        self.0.rank()
    }

    /// The first StreamID, which names the device in errors.
    pub(crate) fn first_stream(&self) -> StreamId {
        self.streams().next().unwrap_or_default()
    }

    /// End all uses of domains, because the SMMU is gone.
    pub(crate) fn forget_smmu(&self, proof: &GoneProof) {
        let mut state = self.lock();
        // The SMMU may be brought up again with this stream table.
        self.0.invalidate_entries();
        for member in state.take_members() {
            member.domain.forget_smmu(proof);
        }
        for member in state.unsettled.drain(..) {
            member.domain.forget_smmu(proof);
        }
        let smmu = &self.0.smmu;
        for tag in state.foreign.drain(..) {
            smmu.foreign.forget(&smmu.env, tag, proof);
        }
        state.confirmation = Confirmation::Confirmed;
    }

    /// Mark the device as removed, if nothing of it can be in use.
    pub(crate) fn retire(&self) -> Result<(), AttachError> {
        let (smmu, mut state) = (self.smmu(), self.lock());
        let stream = self.first_stream();
        if state.removed {
            return Err(AttachError::Removed { smmu, stream });
        }
        if !state.is_blocked() {
            return Err(AttachError::StillAttached { smmu, stream });
        }
        if !state.is_settled() {
            return Err(AttachError::Unsettled { smmu, stream });
        }
        // The next device of these streams counts on entries that abort silently. A device that was
        // settled after an unconfirmed change has invalid ones.
        let mut slots = self.0.slots();
        if !self.0.smmu.is_gone() && slots.any(|(_, slot)| slot.read::<Ste>() != Ste::ABORT) {
            return Err(AttachError::StillAttached { smmu, stream });
        }
        state.removed = true;
        Ok(())
    }
}

impl<P: Platform> Clone for Device<P> {
    fn clone(&self) -> Self {
        Device(self.0.clone())
    }
}

impl<P: Platform> Drop for DeviceParts<P> {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if state.is_blocked() && state.is_settled() {
            return;
        }
        // The SMMU may still use all of these, so they stay for ever.
        state.unsettle_all();
        let cds = mem::replace(&mut state.cds, CdTables::NONE);
        mem::forget((mem::take(&mut state.unsettled), cds, mem::take(&mut self.entries)));
    }
}

impl<P: Platform> fmt::Debug for Device<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("smmu", &self.smmu())
            .field("first_stream", &self.streams().next())
            .finish_non_exhaustive()
    }
}
