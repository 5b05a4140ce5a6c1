//! Several SMMUs over one RAM.

use std::sync::Arc;

use smmu_types::pool::HeapWindow;
use smmu_types::{CacheTag, EventRecord, Irq, PhysAddr, PriRecord, RawCommand, StreamId};

use crate::dma_refused::DmaRefused;
use crate::hazard::{Hazard, Now};
use crate::injected_fault::InjectedFault;
use crate::machine::SharedModel;
use crate::model_device::ModelDevice;
use crate::model_ram::ModelRam;
use crate::model_registers::ModelRegisters;
use crate::model_smmu::ModelSmmu;
use crate::profile::Profile;
use crate::waiting::pages::PageResponse;
use crate::waiting::stalls::{DmaProgress, StallId, Transaction};

/// One RAM with any number of SMMUs over it. Clones share the machine.
#[derive(Clone, Debug)]
pub struct Model {
    shared: Arc<SharedModel>,
}

impl Model {
    /// `ram_bytes` of zeroes at 0x4000_0000, and one SMMU per profile in its power-on state.
    #[must_use]
    pub fn new(ram_bytes: usize, profiles: &[Profile]) -> Self {
        let smmus =
            profiles.iter().enumerate().map(|(i, profile)| ModelSmmu::new(i, profile)).collect();
        Model { shared: Arc::new(SharedModel::new(ModelRam::new(ram_bytes), smmus)) }
    }

    /// The RAM, as the driver sees it. All calls return the same memory: put one pool over it.
    #[must_use]
    pub fn window(&self) -> HeapWindow {
        self.shared.ram.window()
    }

    pub(crate) fn ram(&self) -> &ModelRam {
        &self.shared.ram
    }

    /// The registers of an SMMU, or `None` if the index is out of range.
    #[must_use]
    pub fn registers(&self, index: usize) -> Option<ModelRegisters> {
        let count = self.shared.lock().smmus.len();
        (index < count).then(|| ModelRegisters::of_smmu(Arc::clone(&self.shared), index))
    }

    /// A device behind an SMMU writes 4 bytes. The model ignores bits 1:0 of `iova`.
    ///
    /// The device does not wait for a stall: see [`start_write32`](Self::start_write32).
    ///
    /// # Errors
    ///
    /// The SMMU refused the access or stalls it, no RAM lies at its output address, or the index is
    /// out of range.
    pub fn dma_write32(
        &self,
        smmu: usize,
        stream: StreamId,
        iova: u64,
        value: u32,
    ) -> Result<(), DmaRefused> {
        match self.start_write32(smmu, stream, iova, value) {
            DmaProgress::Written => Ok(()),
            _ => Err(DmaRefused),
        }
    }

    /// A device behind an SMMU reads 4 bytes. The model ignores bits 1:0 of `iova`.
    ///
    /// The device does not wait for a stall: see [`start_read32`](Self::start_read32).
    ///
    /// # Errors
    ///
    /// The SMMU refused the access or stalls it, no RAM lies at its output address, or the index is
    /// out of range.
    pub fn dma_read32(&self, smmu: usize, stream: StreamId, iova: u64) -> Result<u32, DmaRefused> {
        match self.start_read32(smmu, stream, iova) {
            DmaProgress::Read(value) => Ok(value),
            _ => Err(DmaRefused),
        }
    }

    /// A device behind an SMMU begins to write 4 bytes. The write may stall. The model ignores bits
    /// 1:0 of `iova`. An index out of range refuses.
    #[must_use]
    pub fn start_write32(
        &self,
        smmu: usize,
        stream: StreamId,
        iova: u64,
        value: u32,
    ) -> DmaProgress {
        self.shared.start(smmu, Transaction::write(stream.into(), iova, value))
    }

    /// A device behind an SMMU begins to read 4 bytes, as [`start_write32`](Self::start_write32).
    #[must_use]
    pub fn start_read32(&self, smmu: usize, stream: StreamId, iova: u64) -> DmaProgress {
        self.shared.start(smmu, Transaction::read(stream.into(), iova))
    }

    /// The device with a StreamID behind an SMMU: for DMA with a SubstreamID, and for ATS.
    #[must_use]
    pub fn device(&self, smmu: usize, stream: StreamId) -> ModelDevice {
        ModelDevice::new(Arc::clone(&self.shared), smmu, stream)
    }

    /// How far a transaction is that stalled. Once it has ended, each call says how.
    #[must_use]
    pub fn progress(&self, smmu: usize, stalled: StallId) -> DmaProgress {
        let state = self.shared.lock();
        state.smmus.get(smmu).map_or(DmaProgress::Refused, |smmu| smmu.stalls.progress(stalled))
    }

    /// A device behind an SMMU sends a page request, or a stop marker.
    pub fn page_request(&self, smmu: usize, request: PriRecord) {
        self.shared.act(smmu, |smmu, ram| smmu.page_request(ram, request));
    }

    /// The responses to page request groups since the last call, in order: those of the driver, and
    /// those that the SMMU gave by itself.
    pub fn take_page_responses(&self, smmu: usize) -> Vec<PageResponse> {
        self.shared.act(smmu, |smmu, _| smmu.pages.take_responses()).unwrap_or_default()
    }

    /// Each fault that the driver was told of and has not answered.
    #[must_use]
    pub fn unanswered(&self) -> Vec<Hazard> {
        let state = self.shared.lock();
        state.smmus.iter().flat_map(ModelSmmu::unanswered).collect()
    }

    /// The interrupts since the last call, in order, each with the index of its SMMU.
    pub fn take_interrupts(&self) -> Vec<(usize, Irq)> {
        std::mem::take(&mut self.shared.lock().interrupts)
    }

    /// The hazards that DMA and register accesses revealed since the last call, in order.
    pub fn take_hazards(&self) -> Vec<Hazard> {
        std::mem::take(&mut self.shared.lock().hazards)
    }

    /// The events of an SMMU that its event queue does not have, since the last call: because it is
    /// off, is full or aborts, or because the STE, the CD (`R`, `S2R`) or `CR2.RECINVSID` says that such
    /// a fault is not recorded. At most the first 64.
    pub fn take_unrecorded(&self, smmu: usize) -> Vec<EventRecord> {
        let taken = self.shared.act(smmu, |smmu, _| std::mem::take(&mut smmu.unrecorded));
        taken.unwrap_or_default()
    }

    /// Every stale line and entry that a stream can reach now. The audit changes no state, but an SMMU
    /// with [`Profile::translations_ahead`] then fetches all that the tables hold.
    #[must_use]
    pub fn audit(&self) -> Vec<Hazard> {
        let mut state = self.shared.lock();
        let ram = &self.shared.ram;
        let found = state.smmus.iter().flat_map(|smmu| smmu.audit(ram)).collect();
        for smmu in &mut state.smmus {
            smmu.memo.forget();
            smmu.fetch_translations_ahead(ram);
        }
        found
    }

    /// Where a DMA of a stream would go by what is in memory now, past all caches. `None` while the SMMU
    /// does not translate, or if the index is out of range.
    ///
    /// [`audit`](Self::audit) compares caches with memory. Here a test compares memory with what it
    /// asked its driver for.
    #[must_use]
    pub fn in_memory(&self, smmu: usize, stream: StreamId, iova: u64) -> Option<Now> {
        let state = self.shared.lock();
        state.smmus.get(smmu)?.in_memory(&self.shared.ram, stream.into(), iova)
    }

    /// The driver has freed memory: from now on [`audit`](Self::audit) reports each stream whose
    /// table of CDs, or a leaf of it, an SMMU can still read there.
    pub fn memory_freed(&self, at: PhysAddr, bytes: u64) {
        self.shared.ram.free(at, bytes);
    }

    /// The driver uses memory again that it had freed.
    pub fn memory_reused(&self, at: PhysAddr, bytes: u64) {
        self.shared.ram.reuse(at, bytes);
    }

    /// How many transactions of an SMMU ended by what was known of an earlier one.
    #[cfg(test)]
    pub(crate) fn known_transactions(&self, smmu: usize) -> u64 {
        self.shared.lock().smmus.get(smmu).map_or(0, |smmu| smmu.memo.found)
    }

    /// Number of cached leaf and table descriptors of an SMMU that carry `tag`. A free tag
    /// has none.
    #[must_use]
    pub fn lines_with_tag(&self, smmu: usize, tag: CacheTag) -> usize {
        let state = self.shared.lock();
        state.smmus.get(smmu).map_or(0, |smmu| smmu.lines_with_tag(tag))
    }

    /// Reset the registers and caches of all SMMUs. RAM, devices with their ATCs, injected faults,
    /// and the interrupts and hazards that the caller has not taken yet stay.
    pub fn reset(&self) {
        for smmu in &mut self.shared.lock().smmus {
            smmu.reset();
        }
    }

    /// Reset the registers and caches of one SMMU, as [`reset`](Self::reset) does for all.
    pub fn reset_smmu(&self, smmu: usize) {
        self.shared.act(smmu, |smmu, _| smmu.reset());
    }

    /// The registers of an SMMU's second command queue, or `None` if the SMMU has none.
    #[must_use]
    pub fn second_queue(&self, index: usize) -> Option<ModelRegisters> {
        let there = self.shared.lock().smmus.get(index).is_some_and(ModelSmmu::has_second_queue);
        there.then(|| ModelRegisters::of_second_queue(Arc::clone(&self.shared), index))
    }

    /// Let time pass: an SMMU with MSIs carries out as many commands as at a read of `CMDQ_CONS`.
    ///
    /// Call it from the wait loop of a driver that waits for the MSI of a `CMD_SYNC`.
    pub fn tick(&self) {
        let smmus = self.shared.lock().smmus.len();
        for smmu in 0..smmus {
            self.shared.act(smmu, ModelSmmu::tick);
        }
    }

    /// From now on record the commands that an SMMU carries out, for
    /// [`take_carried_out`](Self::take_carried_out).
    pub fn listen(&self, smmu: usize) {
        self.shared.act(smmu, |smmu, _| {
            smmu.main.listen();
            smmu.second.listen();
        });
    }

    /// The raw commands that an SMMU carried out since the last call: of its main queue, then of
    /// its second queue, each in order. Empty without an earlier [`listen`](Self::listen).
    pub fn take_carried_out(&self, smmu: usize) -> [Vec<RawCommand>; 2] {
        let taken = self.shared.act(smmu, |smmu, _| [smmu.main.heard(), smmu.second.heard()]);
        taken.unwrap_or_default()
    }

    /// Let an SMMU consume its command queues until they are empty or stop, for a driver that waits
    /// for an interrupt.
    pub fn settle(&self, smmu: usize) {
        self.shared.act(smmu, ModelSmmu::drain);
    }

    /// Inject a fault into the main command queue, the event queue or the MSIs of an SMMU.
    pub fn inject(&self, smmu: usize, fault: InjectedFault) {
        self.shared.act(smmu, |smmu, _| smmu.main.faults.push(fault));
    }

    /// Inject a fault into the second command queue of an SMMU. A fault that is not about a command
    /// queue has no effect here.
    pub fn inject_second(&self, smmu: usize, fault: InjectedFault) {
        self.shared.act(smmu, |smmu, _| smmu.second.faults.push(fault));
    }

    /// Inject a fault into an enhanced command queue of an SMMU, counted over all control pages. A fault
    /// that is not about a command queue, or of a queue that is not there, has no effect.
    pub fn inject_enhanced(&self, smmu: usize, queue: usize, fault: InjectedFault) {
        self.shared.act(smmu, |smmu, _| {
            if let Some(queue) = smmu.enhanced.get_mut(queue) {
                queue.feed.faults.push(fault);
            }
        });
    }

    /// Remove every injected fault of an SMMU.
    pub fn mend(&self, smmu: usize) {
        self.shared.act(smmu, |smmu, ram| {
            smmu.main.faults.clear();
            smmu.second.faults.clear();
            for queue in &mut smmu.enhanced {
                queue.feed.faults.clear();
            }
            // The event queue may be writable again.
            smmu.retry_unrecorded(ram);
        });
    }

    /// Read four bytes of RAM, past the SMMUs; `None` if part of them is outside.
    #[must_use]
    pub fn memory_read32(&self, address: PhysAddr) -> Option<u32> {
        self.shared.ram.read32(address)
    }

    /// Write four bytes of RAM, past the SMMUs; `None` if part of them is outside.
    pub fn memory_write32(&self, address: PhysAddr, value: u32) -> Option<()> {
        self.shared.ram.write32(address, value)
    }
}
