//! One SMMU as an attach sees it: stream table, tag spaces, and the owners of StreamIDs.

use alloc::vec::Vec;
use core::fmt;

use hashbrown::HashMap;
use lock_api::Mutex;
use slab::Slab;
use smmu_tags::{AsidSpace, SpaceConfig, VmidSpace};
use smmu_types::legal::SmmuView;
use smmu_types::regs::strtab::{self, SPLIT};
use smmu_types::{Capabilities, IdRegisters, PhysAddr, SmmuId, StreamId, Vmid};

use crate::platform::Block;
use crate::stream_table::{Linked, StreamEntry, StreamTable};
use crate::{AttachError, Platform};

/// Handle of a device within its SMMU, for event handlers.
///
/// After a device is dropped, another device may get the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceKey(usize);

/// Parameters of an [`Smmu`].
#[derive(Clone, Debug, Default)]
pub struct SmmuConfig {
    /// Number of StreamID bits that the table covers, if fewer than `IDR1.SIDSIZE` are in use. A
    /// linear table of 16 bits takes 4 MiB.
    pub stream_bits: Option<u8>,
    /// An ASID space shared with other SMMUs; `None` for an own space.
    pub asids: Option<AsidSpace>,
    /// Configuration of the VMID space, such as reserved VMIDs. The default reserves none.
    pub vmids: SpaceConfig<'static, Vmid>,
}

/// One SMMU as an attach sees it: its stream table and its tags.
///
/// Turn the SMMU off (`CR0.SMMUEN` = 0) before you drop this: dropping frees the stream table.
/// Devices, and domains with a tag in use on this SMMU, keep it alive.
pub struct Smmu<P: Platform> {
    id: SmmuId,
    caps: Capabilities,
    rules: SmmuView,
    asids: AsidSpace,
    vmids: VmidSpace,
    streams: Mutex<P::Lock, Streams<Block<P>>>,
}

struct Streams<B> {
    table: StreamTable<B>,
    devices: Slab<StreamId>,
    owners: HashMap<StreamId, DeviceKey>,
}

/// StreamIDs that belong to one device.
pub(crate) struct Claim<B> {
    pub(crate) key: DeviceKey,
    pub(crate) entries: Vec<StreamEntry<B>>,
    pub(crate) unannounced: Vec<StreamId>,
}

impl<P: Platform> Smmu<P> {
    /// An SMMU that aborts all streams.
    ///
    /// Streams with an STE abort silently. Streams without a second-level table abort with
    /// `C_BAD_STREAMID`, if `CR2.RECINVSID` records it. The caller gives every SMMU an `id` of its
    /// own.
    ///
    /// `registers` are the ID registers as read. `caps` are what the driver relies on: what they
    /// decode to, without what an erratum forbids. An attach never asks an SMMU for what its ID
    /// registers do not have.
    ///
    /// # Errors
    ///
    /// No memory for the stream table or the tag spaces, or an impossible StreamID size.
    pub fn new(
        id: SmmuId,
        registers: IdRegisters,
        caps: Capabilities,
        config: SmmuConfig,
        dma: &P::Dma,
    ) -> Result<Self, AttachError> {
        let bits = config.stream_bits.map_or(caps.sid_bits, |bits| bits.min(caps.sid_bits));
        let table = StreamTable::new(id, bits, caps.two_level_stream_table, dma)?;
        let asids = match config.asids {
            Some(shared) => shared,
            None => AsidSpace::new(caps.asid_bits)?,
        };
        Ok(Smmu {
            id,
            caps,
            rules: SmmuView::new(registers),
            asids,
            vmids: VmidSpace::with_config(id, caps.vmid_bits, config.vmids)?,
            streams: Mutex::new(Streams { table, devices: Slab::new(), owners: HashMap::new() }),
        })
    }

    /// Number of the SMMU.
    #[must_use]
    pub fn id(&self) -> SmmuId {
        self.id
    }

    /// Capabilities of the SMMU.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.caps
    }

    /// The SMMU as the rules of [`smmu_types::legal`] look at it.
    pub(crate) fn rules(&self) -> &SmmuView {
        &self.rules
    }

    /// Address and format of the stream table, for `STRTAB_BASE` and `STRTAB_BASE_CFG`.
    #[must_use]
    pub fn stream_table(&self) -> (PhysAddr, strtab::StreamTableFormat) {
        self.streams.lock().table.base()
    }

    /// ASID space of this SMMU.
    #[must_use]
    pub fn asids(&self) -> &AsidSpace {
        &self.asids
    }

    /// VMID space of this SMMU.
    #[must_use]
    pub fn vmids(&self) -> &VmidSpace {
        &self.vmids
    }

    /// Reserve StreamIDs for one device, and find or make their entries.
    ///
    /// Returns the entries, and one stream of each level-1 descriptor that the SMMU must still
    /// learn of.
    pub(crate) fn claim(
        &self,
        streams: &[StreamId],
        dma: &P::Dma,
    ) -> Result<Claim<Block<P>>, AttachError> {
        let id = self.id;
        let mut state = self.streams.lock();
        if let Some(&stream) = streams.iter().find(|s| state.owners.contains_key(*s)) {
            return Err(AttachError::StreamInUse { smmu: id, stream });
        }
        let mut entries = Vec::new();
        entries
            .try_reserve_exact(streams.len())
            .map_err(|_| AttachError::OutOfMemory { smmu: id })?;
        let mut unannounced = Vec::new();
        let room = unannounced.try_reserve_exact(streams.len());
        room.map_err(|_| AttachError::OutOfMemory { smmu: id })?;
        for &stream in streams {
            let (entry, link) = state.table.entry(id, stream, dma)?;
            // Streams ascend, so those of one level-1 descriptor are neighbours. One CFGI_STE for
            // the descriptor suffices: an attach invalidates each STE itself.
            let first_of = unannounced
                .last()
                .is_none_or(|last: &StreamId| last.0 >> SPLIT != stream.0 >> SPLIT);
            if link == Linked::Unannounced && first_of {
                unannounced.push(stream);
            }
            entries.push(entry);
        }
        state
            .owners
            .try_reserve(streams.len())
            .map_err(|_| AttachError::OutOfMemory { smmu: id })?;
        let key = DeviceKey(state.devices.insert(streams[0]));
        for &stream in streams {
            state.owners.insert(stream, key);
        }
        Ok(Claim { key, entries, unannounced })
    }

    /// Note that the SMMU has forgotten the old level-1 descriptor of `stream`.
    pub(crate) fn announced(&self, stream: StreamId) {
        self.streams.lock().table.announced(stream);
    }

    /// The device that owns the StreamID of an event.
    ///
    /// Takes [`Platform::Lock`], which [`add_device`](Self::add_device) may hold for long.
    #[must_use]
    pub fn device_of(&self, stream: StreamId) -> Option<DeviceKey> {
        self.streams.lock().owners.get(&stream).copied()
    }

    pub(crate) fn forget(&self, key: DeviceKey, streams: &[StreamId]) {
        let mut state = self.streams.lock();
        if state.devices.try_remove(key.0).is_some() {
            for stream in streams {
                state.owners.remove(stream);
            }
        }
    }
}

impl<P: Platform> fmt::Debug for Smmu<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smmu")
            .field("id", &self.id)
            .field("caps", &self.caps)
            .finish_non_exhaustive()
    }
}
