//! One SMMU as an attach sees it: stream table, tag spaces, and the owners of StreamIDs.
//!
//! 1. [`Platform::Lock`] is held for look-ups and stores only. Memory is allocated, filled and
//!    given back outside, and every map and list has its room before the lock is taken.
//! 2. A StreamID has an owner from the moment at which `add_device` reserves it, until it fails or
//!    the device is removed.

use alloc::vec::Vec;
use core::fmt;
use core::hash::Hash;
use core::mem;
use core::ops::Range;
use core::sync::atomic::Ordering;

use hashbrown::HashMap;
use lock_api::Mutex;
use smmu_invs::Counted;
use smmu_tags::{AsidSpace, SpaceConfig, VmidSpace};
use smmu_types::legal::SmmuView;
use smmu_types::regs::strtab::{Split, StreamTableFormat};
use smmu_types::seam::SinkError;
use smmu_types::{
    CacheTag, Capabilities, Command, GoneProof, IdRegisters, Leaf, OutOfMemory, PhysAddr, SmmuId,
    StallModel, StreamId, Vmid,
};

use crate::ats_switch::AtsUse;
use crate::batch::SyncBatch;
use crate::device::{Device, ForeignUses};
use crate::fault_model::FaultModel;
use crate::image::usable_substream_bits;
use crate::platform::Block;
use crate::smmu_core::{SmmuCore, SmmuParts};
use crate::stream_entry::StreamEntry;
use crate::stream_table::{Linked, SecondLevel, StreamTable};
use crate::sync::{Barrier, is_kept};
use crate::{AttachError, Domain, Env, Platform};

/// Parameters of an [`Smmu`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SmmuConfig {
    /// Number of StreamID bits that the table covers, if fewer than `IDR1.SIDSIZE` are in use. A
    /// linear table of 16 bits takes 4 MiB.
    pub stream_bits: Option<u8>,
    /// StreamID bits that the second level of a two-level table covers: arrays of 4, 16 or 64 KiB.
    /// The default is [`Split::Eight`].
    pub split: Split,
    /// An ASID space shared with other SMMUs; `None` for an own space.
    pub asids: Option<AsidSpace>,
    /// Configuration of the VMID space, such as reserved VMIDs. The default reserves none.
    pub vmids: SpaceConfig<'static, Vmid>,
}

impl Default for SmmuConfig {
    fn default() -> Self {
        let (stream_bits, asids) = (None, None);
        SmmuConfig { stream_bits, split: Split::Eight, asids, vmids: SpaceConfig::default() }
    }
}

impl SmmuConfig {
    /// A stream table of at most this many StreamID bits.
    #[must_use]
    pub fn with_stream_bits(self, bits: u8) -> Self {
        SmmuConfig { stream_bits: Some(bits), ..self }
    }

    /// Second levels of another size.
    #[must_use]
    pub fn with_split(self, split: Split) -> Self {
        SmmuConfig { split, ..self }
    }

    /// ASIDs from a space that other SMMUs use too.
    #[must_use]
    pub fn with_asids(self, asids: AsidSpace) -> Self {
        SmmuConfig { asids: Some(asids), ..self }
    }

    /// A VMID space of this configuration.
    #[must_use]
    pub fn with_vmids(self, vmids: SpaceConfig<'static, Vmid>) -> Self {
        SmmuConfig { vmids, ..self }
    }
}

/// Properties of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceConfig {
    /// Number of SubstreamID bits that the device can send; 0 if it has no substreams. For a PCIe
    /// function the width of its PASID capability.
    ///
    /// At most `IDR1.SSIDSIZE` bits are used, and 10 bits of an SMMU without two-level tables
    /// (`IDR0.CD2L`). The first attach of a substream takes the memory of the table: 8 bytes for each
    /// 64 SubstreamIDs, and 4 KiB for each 64 of them that have been in use. Up to 6 bits, and
    /// without two-level tables, it takes two tables of 2^n CDs of 64 bytes.
    pub substream_bits: u8,
    /// Whether the device uses ATS. An SMMU without `IDR0.ATS` makes it [`AtsUse::Never`].
    ///
    /// The domains of a device with ATS need a cell with a gate:
    /// [`GatedCell`](smmu_invs::GatedCell).
    pub ats: AtsUse,
    /// What the SMMU does with a transaction that faults. A device of PCIe must not stall (3.12.1).
    pub faults: FaultModel,
}

impl DeviceConfig {
    /// A device whose faulting transactions stall, where the SMMU can do that. Firmware says which
    /// devices bear it (`dma-can-stall` of a device tree, the stall flag of an IORT node).
    #[must_use]
    pub const fn with_stalls(self) -> Self {
        DeviceConfig { faults: FaultModel::Stall, ..self }
    }

    /// A device that sends SubstreamIDs of this many bits.
    #[must_use]
    pub const fn with_substream_bits(self, substream_bits: u8) -> Self {
        DeviceConfig { substream_bits, ..self }
    }

    /// A device that uses ATS. The root complex must pass translated requests on, as firmware says
    /// (`ATS_SUPPORTED`), and the device must be trusted: its translated requests are not checked.
    #[must_use]
    pub const fn with_ats(self, ats: AtsUse) -> Self {
        DeviceConfig { ats, ..self }
    }
}

/// One SMMU as an attach sees it: its stream table, its devices and its tags. A clone is another
/// reference to the same SMMU.
///
/// A handler of interrupts that drops the last reference to a device or an SMMU frees memory.
///
/// Turn the SMMU off (`CR0.SMMUEN` = 0) before you drop the last reference: that frees the stream
/// table. A device that is attached then stays in memory for ever, with its domain, unless
/// [`gone`](Self::gone) was called.
pub struct Smmu<P: Platform>(Counted<SmmuBody<P>>);

struct SmmuBody<P: Platform> {
    core: SmmuCore<P>,
    streams: Mutex<P::Lock, StreamOwners<P>>,
}

struct StreamOwners<P: Platform> {
    table: StreamTable<Block<P>>,
    owners: HashMap<StreamId, Device<P>>,
    devices: Vec<Device<P>>,
    foreign: ForeignStreams,
}

/// Streams that ran before the SMMU was taken over, ascending. Never grows.
#[derive(Default)]
pub(crate) struct ForeignStreams {
    pub(crate) streams: Vec<ForeignStream>,
    pub(crate) tags: Vec<CacheTag>,
}

/// A stream that another owner attached.
pub(crate) struct ForeignStream {
    pub(crate) stream: StreamId,
    /// Its STE has `EATS`.
    pub(crate) has_ats: bool,
    /// Its tags, in the list of all tags.
    pub(crate) tags: Range<usize>,
    /// A device has it.
    pub(crate) taken: bool,
}

impl ForeignStreams {
    fn get(&self, stream: StreamId) -> Option<&ForeignStream> {
        let at = self.streams.binary_search_by_key(&stream, |foreign| foreign.stream).ok()?;
        self.streams.get(at).filter(|foreign| !foreign.taken)
    }

    fn take(&mut self, stream: StreamId) {
        if let Ok(at) = self.streams.binary_search_by_key(&stream, |foreign| foreign.stream)
            && let Some(foreign) = self.streams.get_mut(at)
        {
            foreign.taken = true;
        }
    }
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
    /// Takes coherency from `caps.coherent`: what firmware says belongs there first
    /// (`Probe::with_coherency` of `smmu-hw-mmio`).
    ///
    /// # Errors
    ///
    /// No memory for the stream table or the tag spaces, or an impossible StreamID size.
    pub fn new(
        env: &Env<P>,
        id: SmmuId,
        registers: IdRegisters,
        caps: Capabilities,
        config: SmmuConfig,
    ) -> Result<Self, AttachError> {
        let bits = config.stream_bits.map_or(caps.sid_bits, |bits| bits.min(caps.sid_bits));
        let split = caps.two_level_stream_table.then_some(config.split);
        let table = StreamTable::new(id, bits, split, env.dma())?;
        let asids = match config.asids {
            Some(shared) => shared,
            None => AsidSpace::new(caps.asid_bits)?,
        };
        let vmids = VmidSpace::with_config(id, caps.vmid_bits, config.vmids)?;
        let rules = SmmuView::new(registers);
        let core = Counted::new(SmmuParts::new(id, caps, rules, asids, vmids, env.clone()))?;
        Ok(Self::of_parts(core, table, ForeignStreams::default())?)
    }

    pub(crate) fn of_parts(
        core: SmmuCore<P>,
        table: StreamTable<Block<P>>,
        foreign: ForeignStreams,
    ) -> Result<Self, OutOfMemory> {
        let (owners, devices) = (HashMap::new(), Vec::new());
        let streams = Mutex::new(StreamOwners { table, owners, devices, foreign });
        Ok(Smmu(Counted::new(SmmuBody { core, streams })?))
    }

    /// Number of the SMMU.
    #[must_use]
    pub fn id(&self) -> SmmuId {
        self.0.core.id
    }

    /// Capabilities of the SMMU.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.core.caps
    }

    /// Address and format of the stream table, for `STRTAB_BASE` and `STRTAB_BASE_CFG`.
    #[must_use]
    pub fn stream_table(&self) -> (PhysAddr, StreamTableFormat) {
        self.0.streams.lock().table.base()
    }

    /// ASID space of this SMMU.
    #[must_use]
    pub fn asids(&self) -> &AsidSpace {
        &self.0.core.asids
    }

    /// VMID space of this SMMU.
    #[must_use]
    pub fn vmids(&self) -> &VmidSpace {
        &self.0.core.vmids
    }

    /// Add a device that masters with these StreamIDs. It is blocked until an attach, unless one of them
    /// is a [foreign stream](Self::next_foreign_stream), which runs on until then.
    ///
    /// The first device of a second-level stream table needs the command queue.
    ///
    /// # Errors
    ///
    /// A StreamID is outside the table, or of its second level, or belongs to another device, memory is short, or the SMMU
    /// does not answer. After an error the StreamIDs are free again. A second-level table that this
    /// call made stays, with all its streams aborted.
    pub fn add_device(&self, streams: &[StreamId]) -> Result<Device<P>, AttachError> {
        self.add_device_with(streams, DeviceConfig::default())
    }

    /// [`add_device`](Self::add_device) for a device with substreams.
    ///
    /// # Errors
    ///
    /// As of [`add_device`](Self::add_device).
    pub fn add_device_with(
        &self,
        streams: &[StreamId],
        config: DeviceConfig,
    ) -> Result<Device<P>, AttachError> {
        let (id, env) = (self.id(), &self.0.core.env);
        if self.0.core.is_gone() {
            return Err(AttachError::Gone { smmu: id });
        }
        let streams = normalise(id, streams)?;
        let bits = self.stream_table().1.log2();
        if let Some(&stream) = streams.iter().find(|s| u64::from(s.0) >> bits != 0) {
            return Err(AttachError::StreamRange { smmu: id, stream, bits });
        }
        self.check_free(&self.0.streams.lock(), &streams)?;
        for &stream in &streams {
            let lacking = self.0.streams.lock().table.lacks(stream);
            if let Some((span, split)) = lacking {
                self.link(span, SecondLevel::new(id, split, env.dma())?)?;
            }
        }
        let (entries, unannounced) = self.entries(&streams)?;
        let most = usable_substream_bits(self.capabilities());
        let substream_bits = config.substream_bits.min(most);
        let ats = if self.capabilities().ats { config.ats } else { AtsUse::Never };
        let faults = match self.capabilities().stall_model {
            StallModel::Both | StallModel::Forced => config.faults,
            StallModel::TerminateOnly | StallModel::Reserved => FaultModel::Terminate,
        };
        let foreign = self.foreign(&streams, ats)?;
        let core = self.0.core.clone();
        let device = Device::new(core, entries, substream_bits, ats, faults, foreign)?;
        // Before any thread can find the device and attach it.
        let known = self.announce(&unannounced).map_err(AttachError::from);
        match known.and_then(|()| self.own(&streams, &device)) {
            Ok(()) => Ok(device),
            Err(error) => {
                device.disclaim_foreign();
                Err(error)
            }
        }
    }

    /// Remove a device, so that its StreamIDs are free.
    ///
    /// # Errors
    ///
    /// [`AttachError::Unsettled`]; [`AttachError::StillAttached`], also for a device that was
    /// settled after an unconfirmed change and not blocked again; [`AttachError::Removed`] if it is
    /// not a device of this SMMU.
    pub fn remove_device(&self, device: &Device<P>) -> Result<(), AttachError> {
        let stream = device.first_stream();
        let owner = self.device_of(stream);
        if !owner.is_some_and(|owner| owner.is_same(device)) {
            return Err(AttachError::Removed { smmu: self.id(), stream });
        }
        device.retire()?;
        self.disown(device);
        Ok(())
    }

    /// The device that owns the StreamID of an event. Takes [`Platform::Lock`] for a look-up.
    #[must_use]
    pub fn device_of(&self, stream: StreamId) -> Option<Device<P>> {
        self.0.streams.lock().owners.get(&stream).cloned()
    }

    /// Ask each device of a domain behind this SMMU whether it answers `ATC_INV`, after an
    /// invalidation has timed out, and name those that do not.
    ///
    /// The SMMU reports a timeout without the device. So this call asks the devices one by one, and
    /// waits for the patience of the command queue at each that does not answer.
    /// [`Device::quarantine`] then takes it out of the domain.
    pub fn find_unanswering(
        &self,
        domain: &Domain<P>,
        mut each: impl FnMut(&Device<P>, SinkError),
    ) {
        let mut last = None;
        let keys = domain.array();
        let streams = keys
            .iter()
            .map(|view| view.spec.key)
            .filter(|key| key.smmu == self.id() && key.kind.is_ats())
            .map(|key| StreamId(key.id));
        for stream in streams {
            let Some(device) = self.device_of(stream) else { continue };
            // The substreams of a device are neighbours.
            if last.as_ref().is_some_and(|last| device.is_same(last)) {
                continue;
            }
            if let Err(error) = device.check_atc() {
                each(&device, error);
            }
            last = Some(device);
        }
    }

    /// [`Device::settle`] for each device. Call it when the SMMU answers again, such as after it
    /// was reset and brought up.
    ///
    /// # Errors
    ///
    /// The SMMU does not confirm. The devices before the failing one are settled.
    pub fn settle(&self) -> Result<(), SinkError> {
        self.each_device(|device| device.settle())
    }

    /// Take the SMMU out of every domain, because it translates no more and never will.
    ///
    /// Its entries leave the invalidation arrays, so that an unmap no longer waits for it. Its tags
    /// are free. Its devices count as blocked and confirmed, and each later attach of one is
    /// refused. Sends no command, needs no memory and cannot fail half way. An unmap that runs
    /// beside this call may still report the SMMU once.
    ///
    /// # Errors
    ///
    /// The proof is of another SMMU; nothing has changed.
    pub fn gone(&self, proof: &GoneProof) -> Result<(), SinkError> {
        let (want, got) = (self.id(), proof.smmu());
        if got != want {
            return Err(SinkError::ForeignProof { want, got });
        }
        if is_kept(Barrier::GoneBeforeSweep) {
            self.0.core.set_gone();
        }
        let swept = self.each_device(|device| {
            device.forget_smmu(proof);
            Ok(())
        });
        if !is_kept(Barrier::GoneBeforeSweep) {
            self.0.core.set_gone();
        }
        swept
    }

    /// Call `each` with every device, without the lock.
    fn each_device<E>(&self, mut each: impl FnMut(&Device<P>) -> Result<(), E>) -> Result<(), E> {
        let mut left = usize::MAX;
        loop {
            // From the end: a removal moves the last device to a place that is still to come.
            let device = {
                let state = self.0.streams.lock();
                left = left.min(state.devices.len());
                let Some(at) = left.checked_sub(1) else { return Ok(()) };
                left = at;
                state.devices.get(at).cloned()
            };
            if let Some(device) = device {
                each(&device)?;
            }
        }
    }

    /// The next stream after `after` that another owner attached and that no device has. `None` at
    /// the end, and for an SMMU that was not [adopted](Self::adopt).
    ///
    /// [`add_device`](Self::add_device) takes it over: the device starts as
    /// [`Attachment::Foreign`](crate::Attachment::Foreign), and [`Device::block`] then ends it.
    #[must_use]
    pub fn next_foreign_stream(&self, after: Option<StreamId>) -> Option<StreamId> {
        let state = self.0.streams.lock();
        let all = &state.foreign.streams;
        let from = match after {
            Some(after) => all.partition_point(|foreign| foreign.stream <= after),
            None => 0,
        };
        let mut left = all.get(from..)?.iter();
        left.find(|foreign| !foreign.taken).map(|foreign| foreign.stream)
    }

    /// What another owner left running of a device's streams.
    fn foreign(
        &self,
        streams: &[StreamId],
        ats: AtsUse,
    ) -> Result<Option<ForeignUses>, AttachError> {
        let smmu = self.id();
        let out_of_memory = AttachError::OutOfMemory { smmu };
        let (mut tags, mut wanted) = (Vec::new(), 0);
        loop {
            // The room is made without the lock. The streams do not grow.
            tags.try_reserve_exact(wanted).map_err(|_| out_of_memory)?;
            let state = self.0.streams.lock();
            let mut found = streams.iter().filter_map(|stream| state.foreign.get(*stream));
            let has_ats = found.clone().any(|foreign| foreign.has_ats);
            wanted = found.clone().map(|foreign| foreign.tags.len()).sum();
            if wanted > tags.capacity() {
                continue;
            }
            if let Some(foreign) = found.clone().find(|foreign| foreign.has_ats)
                && ats == AtsUse::Never
            {
                return Err(AttachError::ForeignAts { smmu, stream: foreign.stream });
            }
            if found.clone().next().is_none() {
                return Ok(None);
            }
            let lists =
                found.by_ref().filter_map(|foreign| state.foreign.tags.get(foreign.tags.clone()));
            tags.extend(lists.flatten());
            return Ok(Some(ForeignUses { tags, has_ats }));
        }
    }

    pub(crate) fn core(&self) -> &SmmuCore<P> {
        &self.0.core
    }

    fn check_free(&self, state: &StreamOwners<P>, streams: &[StreamId]) -> Result<(), AttachError> {
        match streams.iter().find(|stream| state.owners.contains_key(*stream)) {
            Some(&stream) => Err(AttachError::StreamInUse { smmu: self.id(), stream }),
            None => Ok(()),
        }
    }

    /// Link a second-level table that was missing a moment ago.
    fn link(&self, span: u32, table: SecondLevel<Block<P>>) -> Result<(), AttachError> {
        let mut unused = Some(table);
        while unused.is_some() {
            self.grow_map(1, |state| &mut state.table.second)?;
            let mut state = self.0.streams.lock();
            if has_room(&state.table.second, 1)
                && let Some(table) = unused.take()
            {
                let spare = state.table.link(span, table);
                // The lock is released first, then the memory is given back.
                drop(state);
                drop(spare);
            }
        }
        Ok(())
    }

    /// The entries of the streams, and one stream of each level-1 descriptor that the SMMU must
    /// still learn of.
    #[expect(clippy::type_complexity, reason = "two lists of one look-up")]
    fn entries(
        &self,
        streams: &[StreamId],
    ) -> Result<(Vec<StreamEntry<Block<P>>>, Vec<StreamId>), AttachError> {
        let smmu = self.id();
        let (mut entries, mut unannounced) = (Vec::new(), Vec::new());
        let room = entries
            .try_reserve_exact(streams.len())
            .and(unannounced.try_reserve_exact(streams.len()));
        room.map_err(|_| AttachError::OutOfMemory { smmu })?;
        let state = self.0.streams.lock();
        for &stream in streams {
            let table = &state.table;
            let missing = match table.too_short(stream) {
                Some(stes) => AttachError::ShortArray { smmu, stream, stes },
                None => AttachError::StreamRange { smmu, stream, bits: table.base().1.log2() },
            };
            let (entry, link) = table.entry(stream).ok_or(missing)?;
            // Streams ascend, so those of one level-1 descriptor are neighbours. One CFGI_STE for
            // the descriptor suffices: an attach invalidates each STE itself.
            let span = table.span_of(stream);
            let first_of =
                unannounced.last().is_none_or(|last: &StreamId| table.span_of(*last) != span);
            if link == Linked::Unannounced && first_of {
                unannounced.push(stream);
            }
            entries.push(entry);
        }
        Ok((entries, unannounced))
    }

    /// Reserve the streams for a device.
    fn own(&self, streams: &[StreamId], device: &Device<P>) -> Result<(), AttachError> {
        loop {
            self.grow_map(streams.len(), |state| &mut state.owners)?;
            self.grow_list()?;
            let mut state = self.0.streams.lock();
            self.check_free(&state, streams)?;
            if has_room(&state.owners, streams.len())
                && state.devices.len() < state.devices.capacity()
            {
                for &stream in streams {
                    state.owners.insert(stream, device.clone());
                    state.foreign.take(stream);
                }
                device.0.place.store(state.devices.len(), Ordering::Relaxed);
                state.devices.push(device.clone());
                return Ok(());
            }
        }
    }

    fn disown(&self, device: &Device<P>) {
        let mut state = self.0.streams.lock();
        for stream in device.streams() {
            if state.owners.get(&stream).is_some_and(|owner| owner.is_same(device)) {
                state.owners.remove(&stream);
            }
        }
        let at = device.0.place.load(Ordering::Relaxed);
        if state.devices.get(at).is_some_and(|there| there.is_same(device)) {
            // The caller has a reference, so the device is not dropped under the lock.
            state.devices.swap_remove(at);
            if let Some(moved) = state.devices.get(at) {
                moved.0.place.store(at, Ordering::Relaxed);
            }
        }
    }

    /// Make the SMMU forget the old level-1 descriptors of these streams (5.1.1: it may have cached
    /// that they were invalid).
    fn announce(&self, streams: &[StreamId]) -> Result<(), SinkError> {
        if streams.is_empty() {
            return Ok(());
        }
        let mut batch = SyncBatch::new(self.0.core.env.sink(), self.id());
        for &stream in streams {
            batch.add(Command::CfgiSte { stream, leaf: Leaf::All })?;
        }
        let confirm = || {
            for &stream in streams {
                self.0.streams.lock().table.announced(stream);
            }
        };
        if !is_kept(Barrier::AnnounceBeforeKnown) {
            confirm();
        }
        batch.sync()?;
        confirm();
        Ok(())
    }

    /// Give a map room for `more` entries. Another thread may take the room; callers look again.
    fn grow_map<K: Hash + Eq, V>(
        &self,
        more: usize,
        of: impl Fn(&mut StreamOwners<P>) -> &mut HashMap<K, V>,
    ) -> Result<(), AttachError> {
        let wanted = {
            let mut state = self.0.streams.lock();
            let map = of(&mut state);
            if has_room(map, more) {
                return Ok(());
            }
            2 * (map.len() + more)
        };
        let mut bigger = HashMap::new();
        bigger.try_reserve(wanted).map_err(|_| AttachError::OutOfMemory { smmu: self.id() })?;
        let mut state = self.0.streams.lock();
        let map = of(&mut state);
        if map.capacity() < bigger.capacity() {
            bigger.extend(map.drain());
            mem::swap(map, &mut bigger);
        }
        // The lock is released first, then the old map is freed.
        drop(state);
        Ok(())
    }

    /// Give the list of devices room for one more.
    fn grow_list(&self) -> Result<(), AttachError> {
        let wanted = {
            let state = self.0.streams.lock();
            if state.devices.len() < state.devices.capacity() {
                return Ok(());
            }
            2 * (state.devices.len() + 1)
        };
        let mut bigger = Vec::new();
        bigger
            .try_reserve_exact(wanted)
            .map_err(|_| AttachError::OutOfMemory { smmu: self.id() })?;
        let mut state = self.0.streams.lock();
        if state.devices.capacity() < bigger.capacity() {
            bigger.append(&mut state.devices);
            mem::swap(&mut state.devices, &mut bigger);
        }
        // The lock is released first, then the old list is freed.
        drop(state);
        Ok(())
    }
}

/// Whether `more` entries can be added without an allocation. A map that is at most half full makes
/// room for itself where entries were removed.
fn has_room<K, V>(map: &HashMap<K, V>, more: usize) -> bool {
    map.capacity() >= 2 * (map.len() + more)
}

/// Sort the StreamIDs of a device, remove duplicates, and require at least one.
pub(crate) fn normalise(smmu: SmmuId, streams: &[StreamId]) -> Result<Vec<StreamId>, AttachError> {
    let mut sorted = Vec::new();
    sorted.try_reserve_exact(streams.len()).map_err(|_| AttachError::OutOfMemory { smmu })?;
    sorted.extend_from_slice(streams);
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.is_empty() {
        return Err(AttachError::NoStream { smmu });
    }
    Ok(sorted)
}

impl<P: Platform> Clone for Smmu<P> {
    fn clone(&self) -> Self {
        Smmu(self.0.clone())
    }
}

impl<P: Platform> fmt::Debug for Smmu<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smmu")
            .field("id", &self.id())
            .field("caps", self.capabilities())
            .finish_non_exhaustive()
    }
}
