//! One device behind one SMMU: its streams, its entries and what it is attached to.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use smmu_invs::RequestBuffer;
use smmu_types::seam::{CommandSink, DmaBlock, SinkError};
use smmu_types::{Cd, Command, Leaf, PhysAddr, Ste, SteConfig, StreamId};

use crate::batch::Batch;
use crate::entry::EntrySlot;
use crate::platform::Block;
use crate::release::release;
use crate::smmu::{Claim, DeviceKey, Smmu};
use crate::stream_table::{StreamEntry, normalise};
use crate::{AttachError, Domain, Env, Platform};

/// What a device is attached to.
pub enum Attachment<'d, P: Platform> {
    /// Nothing: the SMMU aborts its transactions.
    Blocked,
    /// Nothing: the SMMU passes its transactions unchanged.
    Bypass,
    /// A domain.
    Domain(&'d Arc<Domain<P>>),
}

impl<P: Platform> fmt::Debug for Attachment<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attachment::Blocked => f.write_str("Blocked"),
            Attachment::Bypass => f.write_str("Bypass"),
            Attachment::Domain(domain) => write!(f, "Domain({})", domain.id()),
        }
    }
}

/// Two context descriptors; the STE leads to at most one.
///
/// A new CD goes into the other slot, where no STE leads. One store to the STE then replaces old by
/// new.
pub(crate) struct ContextDescriptors<B> {
    pub(crate) block: B,
    /// Index of the CD that the STE leads to, or led to last.
    pub(crate) current: usize,
}

/// Whether the SMMU confirmed the last change of the device's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// Confirmed: the SMMU can read the current CD only.
    Confirmed,
    /// Not confirmed: the SMMU may read either CD, and the tables behind both.
    Unconfirmed,
}

/// A device's use of a domain on one SMMU.
pub(crate) struct Member<P: Platform> {
    pub(crate) domain: Arc<Domain<P>>,
    /// The request that was merged into the domain's array. `unref` takes this one back.
    pub(crate) request: RequestBuffer,
}

/// What the device's entries say.
pub(crate) enum State<P: Platform> {
    Blocked,
    Bypass,
    Member(Member<P>),
}

impl<B: DmaBlock> ContextDescriptors<B> {
    pub(crate) const BYTES: u64 = 2 * Cd::BYTES as u64;

    pub(crate) const fn new(block: B) -> Self {
        ContextDescriptors { block, current: 0 }
    }

    /// Physical address of a CD.
    pub(crate) fn address(&self, place: usize) -> PhysAddr {
        PhysAddr(self.block.address().0 + (place * Cd::BYTES) as u64)
    }

    pub(crate) fn read(&self, place: usize) -> Option<Cd> {
        Some(EntrySlot::new(&self.block, place)?.read())
    }
}

/// One device behind one SMMU.
///
/// An attach borrows the device mutably to its end, so two attaches of one device cannot race.
///
/// Block a device before you drop it. Otherwise the drop leaks what the SMMU may still use:
///
/// - dropped while attached: StreamIDs, context descriptors, the [`Smmu`] and the [`Domain`] stay
///   for ever;
/// - dropped while not [confirmed](Self::is_confirmed): the same, with each domain that the device
///   failed to leave.
///
/// Page tables are never kept; see [`TranslationTable`](crate::TranslationTable).
pub struct Device<P: Platform> {
    pub(crate) smmu: Arc<Smmu<P>>,
    pub(crate) streams: Vec<StreamId>,
    pub(crate) entries: Vec<StreamEntry<Block<P>>>,
    pub(crate) state: State<P>,
    pub(crate) confirmation: Confirmation,
    /// Uses that the SMMU has not confirmed the end of. Has room for the use in `state` as well.
    pub(crate) unsettled: Vec<Member<P>>,
    pub(crate) cds: Option<ContextDescriptors<Block<P>>>,
    key: DeviceKey,
}

impl<P: Platform> Device<P> {
    fn new(
        smmu: Arc<Smmu<P>>,
        key: DeviceKey,
        streams: Vec<StreamId>,
        entries: Vec<StreamEntry<Block<P>>>,
    ) -> Self {
        Device {
            smmu,
            streams,
            entries,
            state: State::Blocked,
            confirmation: Confirmation::Confirmed,
            unsettled: Vec::new(),
            cds: None,
            key,
        }
    }

    /// The SMMU in front of the device.
    #[must_use]
    pub fn smmu(&self) -> &Arc<Smmu<P>> {
        &self.smmu
    }

    /// StreamIDs of the device, ascending.
    #[must_use]
    pub fn streams(&self) -> &[StreamId] {
        &self.streams
    }

    /// Handle of the device within its SMMU.
    #[must_use]
    pub fn key(&self) -> DeviceKey {
        self.key
    }

    /// What the device is attached to.
    #[must_use]
    pub fn attachment(&self) -> Attachment<'_, P> {
        match &self.state {
            State::Blocked => Attachment::Blocked,
            State::Bypass => Attachment::Bypass,
            State::Member(member) => Attachment::Domain(&member.domain),
        }
    }

    /// Whether the SMMU confirmed the last change of the device's entries.
    ///
    /// If it did not, the entries are invalid in memory, and the SMMU may still use the old ones. The
    /// domain that the device failed to leave keeps it as a user, and the device keeps that domain
    /// alive. [`settle`](Self::settle) and the next [`prepare`](Self::prepare) ask the SMMU again.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmation == Confirmation::Confirmed
    }

    /// Ask the SMMU to forget all it may still use of the device's earlier entries, and wait.
    ///
    /// Then take the device out of the domains that it failed to leave, and flush and free their
    /// tags where it was the last user. Sends nothing if every change is
    /// [confirmed](Self::is_confirmed). After `Ok` an unconfirmed device is confirmed; its entries
    /// stay invalid until the next attach.
    ///
    /// Takes the locks of those domains. Needs no memory.
    ///
    /// # Errors
    ///
    /// The SMMU still does not confirm; nothing has changed.
    pub fn settle(&mut self, env: &Env<'_, P>) -> Result<(), SinkError> {
        if self.confirmation == Confirmation::Confirmed {
            return Ok(());
        }
        // The entries in memory are invalid since the failed change.
        let mut batch = Batch::new(env.sink, self.smmu.id());
        for &stream in &self.streams {
            // CFGI_STE also invalidates the cached CDs of the stream (4.3.1).
            batch.add(Command::CfgiSte { stream, leaf: Leaf::Last })?;
        }
        batch.sync()?;
        self.confirmation = Confirmation::Confirmed;
        while let Some(member) = self.unsettled.pop() {
            let mut state = member.domain.lock();
            let _outcome = release(&member, &mut state, env);
        }
        Ok(())
    }

    /// The STE in memory now, read from the first of the StreamIDs.
    #[must_use]
    pub fn read_ste(&self) -> Option<Ste> {
        Some(self.entries.first()?.slot()?.read())
    }

    /// The CD that the STE leads to; `None` if the STE has no stage 1.
    #[must_use]
    pub fn read_cd(&self) -> Option<Cd> {
        let SteConfig::Stage1(_) = self.read_ste()?.decode() else { return None };
        let cds = self.cds.as_ref()?;
        cds.read(cds.current)
    }
}

impl<P: Platform> Smmu<P> {
    /// Add a device that masters with these StreamIDs. It is blocked until an attach.
    ///
    /// The first device of a second-level stream table needs the command queue.
    ///
    /// # Errors
    ///
    /// A StreamID is outside the table or belongs to another device, memory is short, or the SMMU
    /// does not answer. After an error the StreamIDs are free again. A second-level table that this
    /// call made stays, with all its streams aborted.
    pub fn add_device(
        smmu: &Arc<Self>,
        streams: &[StreamId],
        env: &Env<'_, P>,
    ) -> Result<Device<P>, AttachError> {
        let id = smmu.id();
        let streams = normalise(id, streams)?;
        let Claim { key, entries, unannounced } = smmu.claim(&streams, env.dma)?;
        let device = Device::new(Arc::clone(smmu), key, streams, entries);
        for stream in unannounced {
            // The SMMU may have cached that the level-1 descriptor was invalid (5.1.1).
            let forget = Command::CfgiSte { stream, leaf: Leaf::All };
            let _proof = env.sink.run(id, &[forget])?;
            smmu.announced(stream);
        }
        Ok(device)
    }
}

impl<P: Platform> Drop for Device<P> {
    fn drop(&mut self) {
        match core::mem::replace(&mut self.state, State::Blocked) {
            State::Blocked if self.is_confirmed() => self.smmu.forget(self.key, &self.streams),
            state => {
                // The SMMU may still use all of these, so they are leaked.
                let unsettled = core::mem::take(&mut self.unsettled);
                core::mem::forget((state, unsettled, self.cds.take(), Arc::clone(&self.smmu)));
            }
        }
    }
}

impl<P: Platform> fmt::Debug for Device<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("smmu", &self.smmu.id())
            .field("streams", &self.streams)
            .field("attachment", &self.attachment())
            .finish_non_exhaustive()
    }
}
