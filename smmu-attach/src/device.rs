//! One device behind one SMMU: its streams, its entries and what it is attached to.

use alloc::vec::Vec;
use core::fmt;
use core::mem;
use core::sync::atomic::AtomicUsize;

use lock_api::Mutex;
use smmu_invs::Counted;
use smmu_types::seam::SinkError;
use smmu_types::{Cd, Command, GoneProof, Leaf, SmmuId, Ste, SteConfig, StreamId};

use crate::batch::SyncBatch;
use crate::context::ContextDescriptors;
use crate::held::{Contention, Held, Locked};
use crate::membership::{End, Member, flush, release};
use crate::outcome::Outcome;
use crate::platform::Block;
use crate::smmu_core::SmmuCore;
use crate::stream_entry::StreamEntry;
use crate::sync::{Barrier, is_kept};
use crate::{AttachError, Domain, Platform};

/// What a device is attached to.
#[non_exhaustive]
pub enum Attachment<P: Platform> {
    /// Nothing: the SMMU aborts its transactions.
    Blocked,
    /// Nothing: the SMMU passes its transactions unchanged.
    Bypass,
    /// A domain.
    Domain(Domain<P>),
}

impl<P: Platform> fmt::Debug for Attachment<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attachment::Blocked => f.write_str("Blocked"),
            Attachment::Bypass => f.write_str("Bypass"),
            Attachment::Domain(domain) => write!(f, "Domain({})", domain.id()),
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

/// What the device's entries say.
pub(crate) enum State<P: Platform> {
    Blocked,
    Bypass,
    Member(Member<P>),
}

/// One device behind one SMMU. A clone is another reference to the same device.
///
/// The [`Smmu`](crate::Smmu) keeps its devices until
/// [`Smmu::remove_device`](crate::Smmu::remove_device), so that an event handler finds a device by
/// its StreamID. Calls for one device wait for each other.
pub struct Device<P: Platform>(pub(crate) Counted<DeviceParts<P>>);

pub(crate) struct DeviceParts<P: Platform> {
    pub(crate) smmu: SmmuCore<P>,
    pub(crate) entries: Vec<StreamEntry<Block<P>>>,
    /// Place in the list of the SMMU's devices. Changes under the lock of that list.
    pub(crate) place: AtomicUsize,
    state: Mutex<P::SleepLock, DeviceState<P>>,
}

/// What the device's lock protects: its entries in memory, and what they say.
pub(crate) struct DeviceState<P: Platform> {
    pub(crate) state: State<P>,
    pub(crate) confirmation: Confirmation,
    /// Uses whose end is not confirmed. Has room for the use in `state` as well.
    pub(crate) unsettled: Vec<Member<P>>,
    pub(crate) cds: Option<ContextDescriptors<Block<P>>>,
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
}

impl<P: Platform> DeviceParts<P> {
    /// Clear the valid bit of each entry. The other words stay, so a fetch in progress sees no mix.
    fn invalidate_entries(&self) {
        for slot in self.entries.iter().filter_map(StreamEntry::slot) {
            slot.invalidate();
        }
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
        }
        self.unsettled.retain_mut(|member| {
            if member.end == End::Unflushed {
                return true;
            }
            let Some(mut domain) = member.domain.lock_as(contention) else { return true };
            match release(member, &mut domain, &parts.smmu.env) {
                Outcome::Unflushed(..) => {
                    member.end = End::Unflushed;
                    true
                }
                _ => false,
            }
        });
        Ok(())
    }

    /// [`confirm`](Self::confirm), and flush each tag whose flush is not proven.
    fn settle(&mut self, parts: &DeviceParts<P>) -> Result<(), SinkError> {
        self.confirm(parts, Contention::Wait)?;
        while let Some(member) = self.unsettled.last() {
            flush(member)?;
            self.unsettled.pop();
        }
        Ok(())
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
    ) -> Result<Self, AttachError> {
        let state = DeviceState {
            state: State::Blocked,
            confirmation: Confirmation::Confirmed,
            unsettled: Vec::new(),
            cds: None,
            removed: false,
        };
        let (place, state) = (AtomicUsize::new(0), Mutex::new(state));
        Ok(Device(Counted::new(DeviceParts { smmu, entries, place, state })?))
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
            State::Member(member) => Attachment::Domain(member.domain.clone()),
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
        let state = self.lock();
        state.confirmation == Confirmation::Confirmed && state.unsettled.is_empty()
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

    /// The STE in memory now, read from the first of the StreamIDs.
    #[must_use]
    pub fn read_ste(&self) -> Option<Ste> {
        Some(self.0.entries.first()?.slot()?.read())
    }

    /// The CD that the STE leads to; `None` if the STE has no stage 1.
    #[must_use]
    pub fn read_cd(&self) -> Option<Cd> {
        let state = self.lock();
        let SteConfig::Stage1(_) = self.read_ste()?.decode() else { return None };
        let cds = state.cds.as_ref()?;
        cds.read(cds.current)
    }

    pub(crate) fn lock(&self) -> DeviceGuard<P> {
        Held::lock(&self.0)
    }

    pub(crate) fn lock_as(&self, contention: Contention) -> Option<DeviceGuard<P>> {
        Held::lock_as(&self.0, contention)
    }

    /// End all uses of domains, because the SMMU is gone.
    pub(crate) fn forget_smmu(&self, proof: &GoneProof) {
        let mut state = self.lock();
        // The SMMU may be brought up again with this stream table.
        self.0.invalidate_entries();
        if let State::Member(member) = mem::replace(&mut state.state, State::Blocked) {
            member.domain.forget_smmu(proof);
        }
        for member in state.unsettled.drain(..) {
            member.domain.forget_smmu(proof);
        }
        state.confirmation = Confirmation::Confirmed;
    }

    /// Mark the device as removed, if nothing of it can be in use.
    pub(crate) fn retire(&self) -> Result<(), AttachError> {
        let (smmu, mut state) = (self.smmu(), self.lock());
        let stream = self.streams().next().unwrap_or_default();
        if state.removed {
            return Err(AttachError::Removed { smmu, stream });
        }
        if matches!(state.state, State::Bypass | State::Member(_)) {
            return Err(AttachError::StillAttached { smmu, stream });
        }
        if state.confirmation == Confirmation::Unconfirmed || !state.unsettled.is_empty() {
            return Err(AttachError::Unsettled { smmu, stream });
        }
        // The next device of these streams counts on entries that abort silently. A device that was
        // settled after an unconfirmed change has invalid ones.
        let mut slots = self.0.entries.iter().filter_map(StreamEntry::slot);
        if !self.0.smmu.is_gone() && slots.any(|slot| slot.read::<Ste>() != Ste::ABORT) {
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
        let settled = state.confirmation == Confirmation::Confirmed && state.unsettled.is_empty();
        match mem::replace(&mut state.state, State::Blocked) {
            State::Blocked if settled => {}
            // The SMMU may still use all of these, so they stay for ever.
            attached => {
                let (unsettled, cds) = (mem::take(&mut state.unsettled), state.cds.take());
                mem::forget((attached, unsettled, cds, mem::take(&mut self.entries)));
            }
        }
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
