//! One SMMU as an attach sees it: stream table, tag spaces, and the owners of StreamIDs.
//!
//! 1. [`Platform::Lock`] is held for look-ups and stores only. Memory is allocated, filled and
//!    given back outside, and every map and list has its room before the lock is taken.
//! 2. A StreamID has an owner from the moment at which `add_device` reserves it, until it fails or
//!    the device is removed.

use alloc::vec::Vec;
use core::fmt;

use hashbrown::HashMap;
use lock_api::Mutex;
use smmu_invs::Counted;
use smmu_tags::{AsidSpace, VmidSpace};
use smmu_types::legal::SmmuView;
use smmu_types::regs::strtab::StreamTableFormat;
use smmu_types::seam::SinkError;
use smmu_types::{Capabilities, GoneProof, IdRegisters, OutOfMemory, PhysAddr, SmmuId, StreamId};

use crate::device::Device;
use crate::foreign_streams::ForeignStreams;
use crate::platform::Block;
use crate::smmu_config::SmmuConfig;
use crate::smmu_core::{SmmuCore, SmmuParts};
use crate::stream_owners::StreamOwners;
use crate::stream_table::StreamTable;
use crate::sync::{Barrier, is_kept};
use crate::{AttachError, Domain, Env, Platform};

/// One SMMU as an attach sees it: its stream table, its devices and its tags. A clone is another
/// reference to the same SMMU.
///
/// A handler of interrupts that drops the last reference to a device or an SMMU frees memory.
///
/// Turn the SMMU off (`CR0.SMMUEN` = 0) before you drop the last reference: that frees the stream
/// table. A device that is attached then stays in memory for ever, with its domain, unless
/// [`gone`](Self::gone) was called.
pub struct Smmu<P: Platform>(pub(crate) Counted<SmmuBody<P>>);

pub(crate) struct SmmuBody<P: Platform> {
    pub(crate) core: SmmuCore<P>,
    pub(crate) streams: Mutex<P::Lock, StreamOwners<P>>,
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
        state.foreign.next(after)
    }

    pub(crate) fn core(&self) -> &SmmuCore<P> {
        &self.0.core
    }
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
