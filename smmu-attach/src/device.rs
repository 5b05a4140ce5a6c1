//! One device behind one SMMU: its streams, its entries and what it is attached to.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use smmu_invs::RequestBuffer;
use smmu_types::seam::{CommandSink, DmaBlock};
use smmu_types::{Cd, Command, Leaf, PhysAddr, Ste, SteConfig, StreamId};

use crate::entry::EntrySlot;
use crate::platform::Block;
use crate::smmu::{Claim, DeviceKey, Smmu};
use crate::stream_table::{StreamEntry, normalise};
use crate::{AttachError, Domain, Env, Platform};

/// What a device is attached to.
pub enum Attachment<P: Platform> {
    /// Nothing: the SMMU aborts its transactions.
    Blocked,
    /// Nothing: the SMMU passes its transactions unchanged.
    Bypass,
    /// A domain.
    Domain(Arc<Domain<P>>),
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

impl<B: DmaBlock> ContextDescriptors<B> {
    pub(crate) const BYTES: u64 = 2 * Cd::BYTES as u64;

    pub(crate) fn new(block: B) -> Self {
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
/// - dropped while blocked and not [confirmed](Self::is_confirmed): StreamIDs, context descriptors
///   and the [`Smmu`] stay for ever. The old domain and its page tables do *not*: the caller keeps
///   them.
///
/// Page tables are never kept; see [`TranslationTable`](crate::TranslationTable).
pub struct Device<P: Platform> {
    pub(crate) smmu: Arc<Smmu<P>>,
    pub(crate) streams: Vec<StreamId>,
    pub(crate) entries: Vec<StreamEntry<Block<P>>>,
    pub(crate) current: Attachment<P>,
    pub(crate) confirmation: Confirmation,
    pub(crate) cds: Option<ContextDescriptors<Block<P>>>,
    // Scratch memory for the requests to new and old domain, so that blocking needs no memory.
    pub(crate) merge: RequestBuffer,
    pub(crate) unref: RequestBuffer,
    key: DeviceKey,
}

impl<P: Platform> Device<P> {
    fn new(
        smmu: Arc<Smmu<P>>,
        key: DeviceKey,
        streams: Vec<StreamId>,
        entries: Vec<StreamEntry<Block<P>>>,
    ) -> Result<Self, AttachError> {
        // Room for one tag, a nested flush, and an ATS entry per stream.
        let capacity = 2 + streams.len();
        let scratch = || RequestBuffer::with_capacity(capacity);
        let (merge, unref) = match (scratch(), scratch()) {
            (Ok(merge), Ok(unref)) => (merge, unref),
            (Err(error), _) | (_, Err(error)) => {
                smmu.forget(key, &streams);
                return Err(error.into());
            }
        };
        Ok(Device {
            smmu,
            streams,
            entries,
            current: Attachment::Blocked,
            confirmation: Confirmation::Confirmed,
            cds: None,
            merge,
            unref,
            key,
        })
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
    pub fn attachment(&self) -> &Attachment<P> {
        &self.current
    }

    /// Whether the SMMU confirmed the last change of the device's entries.
    ///
    /// If it did not, the entries are invalid in memory, and the SMMU may still use the old ones. A
    /// later confirmed attach sets this to `true`. The domain that the device failed to leave keeps
    /// it as a user.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmation == Confirmation::Confirmed
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
        let device = Device::new(Arc::clone(smmu), key, streams, entries)?;
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
        match core::mem::replace(&mut self.current, Attachment::Blocked) {
            Attachment::Blocked if self.is_confirmed() => {
                self.smmu.forget(self.key, &self.streams);
            }
            attached => {
                // The SMMU may still read the CDs and the entries, so they and the StreamIDs are
                // leaked. After an unconfirmed block `attached` names no domain, so none is kept
                // here.
                core::mem::forget((attached, self.cds.take(), Arc::clone(&self.smmu)));
            }
        }
    }
}

impl<P: Platform> fmt::Debug for Device<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("smmu", &self.smmu.id())
            .field("streams", &self.streams)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}
