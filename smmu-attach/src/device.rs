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
    /// Nothing: its transactions are aborted.
    Blocked,
    /// No translation: its transactions pass unchanged.
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

/// Two context descriptors, of which the stream table entry leads to one at most. A new one is written into the
/// other place, where hardware cannot see it, and a single store of the entry then changes from the old one to it.
pub(crate) struct ContextDescriptors<B> {
    pub(crate) block: B,
    /// The place that the entry leads to, or led to last.
    pub(crate) current: usize,
}

/// Whether hardware is known to have forgotten what was before the last change of the device's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// It is: only the current context descriptor can be read.
    Confirmed,
    /// It did not answer: either may be, and the tables behind both.
    Unconfirmed,
}

impl<B: DmaBlock> ContextDescriptors<B> {
    pub(crate) const BYTES: u64 = 2 * Cd::BYTES as u64;

    pub(crate) fn new(block: B) -> Self {
        ContextDescriptors { block, current: 0 }
    }

    /// Where a descriptor lies.
    pub(crate) fn address(&self, place: usize) -> PhysAddr {
        PhysAddr(self.block.address().0 + (place * Cd::BYTES) as u64)
    }

    pub(crate) fn read(&self, place: usize) -> Option<Cd> {
        Some(EntrySlot::new(&self.block, place)?.read())
    }
}

/// One device behind one SMMU.
///
/// An attach borrows it mutably from beginning to end, so two attaches of one device cannot race.
///
/// Block it before it is dropped. A device that is dropped while it is attached, or while hardware has not
/// [confirmed](Self::is_confirmed) that it is blocked, keeps its StreamIDs, its SMMU, its domain and its tag for ever,
/// because the SMMU may still be led there.
pub struct Device<P: Platform> {
    pub(crate) smmu: Arc<Smmu<P>>,
    pub(crate) streams: Vec<StreamId>,
    pub(crate) entries: Vec<StreamEntry<Block<P>>>,
    pub(crate) current: Attachment<P>,
    pub(crate) confirmation: Confirmation,
    pub(crate) cds: Option<ContextDescriptors<Block<P>>>,
    // Scratch memory for the requests to the new and the old domain, so that blocking the device
    // never needs memory.
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
        // One tag and, one day, the flush of nested stage 1 and an ATS entry for each stream.
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

    /// The SMMU that it is behind.
    #[must_use]
    pub fn smmu(&self) -> &Arc<Smmu<P>> {
        &self.smmu
    }

    /// Its StreamIDs, ascending.
    #[must_use]
    pub fn streams(&self) -> &[StreamId] {
        &self.streams
    }

    /// Its handle within the SMMU.
    #[must_use]
    pub fn key(&self) -> DeviceKey {
        self.key
    }

    /// What it is attached to.
    #[must_use]
    pub fn attachment(&self) -> &Attachment<P> {
        &self.current
    }

    /// Whether hardware has confirmed the last change of its entry. While it has not, the entry is invalid in memory and
    /// the SMMU may still use the old one; the next attach tries again.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmation == Confirmation::Confirmed
    }

    /// Its stream table entry as it is in memory now; the same for each of its StreamIDs.
    #[must_use]
    pub fn read_ste(&self) -> Option<Ste> {
        Some(self.entries.first()?.slot()?.read())
    }

    /// The context descriptor that its stream table entry leads to; `None` where that is not of stage 1.
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
    /// A StreamID is outside the table or belongs to another device, memory is short, or the SMMU does
    /// not answer. After an error the StreamIDs are free again. A second-level table that this call made
    /// stays, with all its streams aborted.
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
                // The SMMU may still be led to the tables, so neither they nor the StreamIDs may go.
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
