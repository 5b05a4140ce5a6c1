//! Devices come and go: their StreamIDs are reserved, and their second-level tables linked.

use alloc::vec::Vec;
use core::hash::Hash;
use core::mem;
use core::sync::atomic::Ordering;

use hashbrown::HashMap;
use smmu_types::seam::SinkError;
use smmu_types::{Command, Leaf, SmmuId, StallModel, StreamId};

use crate::ats_switch::AtsUse;
use crate::batch::SyncBatch;
use crate::device::{Device, ForeignUses};
use crate::device_config::DeviceConfig;
use crate::fault_model::FaultModel;
use crate::image::usable_substream_bits;
use crate::platform::Block;
use crate::smmu::Smmu;
use crate::stream_entry::StreamEntry;
use crate::stream_owners::StreamOwners;
use crate::stream_table::{Linked, SecondLevel};
use crate::sync::{Barrier, is_kept};
use crate::{AttachError, Platform};

impl<P: Platform> Smmu<P> {
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
        let caps = self.capabilities();
        let page_requests = config.page_requests && caps.pri && ats != AtsUse::Never;
        let faults = match self.capabilities().stall_model {
            StallModel::Both | StallModel::Forced => config.faults,
            StallModel::TerminateOnly | StallModel::Reserved => FaultModel::Terminate,
        };
        let foreign = self.foreign(&streams, ats)?;
        let core = self.0.core.clone();
        let ats = (ats, page_requests);
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
fn normalise(smmu: SmmuId, streams: &[StreamId]) -> Result<Vec<StreamId>, AttachError> {
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
