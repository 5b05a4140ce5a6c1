//! Several SMMUs over one RAM.

use std::sync::Arc;

use parking_lot::Mutex;
use smmu_types::pool::HeapWindow;
use smmu_types::{CacheTag, Irq, PhysAddr, RawCommand, StreamId};

use crate::dma::transaction::DmaAccess;
use crate::hazard::Hazard;
use crate::injected_fault::InjectedFault;
use crate::machine::{ModelState, SharedModel};
use crate::model_ram::ModelRam;
use crate::model_registers::ModelRegisters;
use crate::model_smmu::ModelSmmu;
use crate::profile::Profile;

/// The SMMU refused an access, or nothing answered at the address that it led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access was refused; the event queue says why, if the stream's faults are recorded")]
pub struct DmaRefused;

/// Several SMMUs over one RAM. Clones are the same machine.
#[derive(Clone, Debug)]
pub struct Model {
    shared: Arc<SharedModel>,
}

impl Model {
    /// `ram_bytes` of zeroes at 0x4000_0000, and an SMMU for each profile, all as at power-on.
    #[must_use]
    pub fn new(ram_bytes: usize, profiles: &[Profile]) -> Self {
        let smmus =
            profiles.iter().enumerate().map(|(i, profile)| ModelSmmu::new(i, profile)).collect();
        let state = ModelState { smmus, interrupts: Vec::new(), hazards: Vec::new() };
        Model {
            shared: Arc::new(SharedModel {
                ram: ModelRam::new(ram_bytes),
                state: Mutex::new(state),
            }),
        }
    }

    /// RAM, as the driver sees it. All calls give the same memory: use one pool over it.
    #[must_use]
    pub fn window(&self) -> HeapWindow {
        self.shared.ram.window()
    }

    /// The registers of an SMMU, or `None` when there is none of this index.
    #[must_use]
    pub fn registers(&self, index: usize) -> Option<ModelRegisters> {
        let count = self.shared.state.lock().smmus.len();
        (index < count).then(|| ModelRegisters::of_smmu(Arc::clone(&self.shared), index))
    }

    /// A device behind an SMMU writes 4 bytes; bits 1:0 of `iova` are taken as zero.
    ///
    /// # Errors
    ///
    /// The SMMU refused it, nothing answered at the address it led to, or there is no such SMMU.
    pub fn dma_write32(
        &self,
        smmu: usize,
        stream: StreamId,
        iova: u64,
        value: u32,
    ) -> Result<(), DmaRefused> {
        let written = self.shared.act(smmu, |smmu, ram| {
            let address = smmu.translate(ram, stream, iova & !3, DmaAccess::Write)?;
            ram.write32(address, value)
        });
        written.flatten().ok_or(DmaRefused)
    }

    /// A device behind an SMMU reads 4 bytes; bits 1:0 of `iova` are taken as zero.
    ///
    /// An SMMU that does not exist refuses.
    pub fn dma_read32(&self, smmu: usize, stream: StreamId, iova: u64) -> Result<u32, DmaRefused> {
        let read = self.shared.act(smmu, |smmu, ram| {
            let address = smmu.translate(ram, stream, iova & !3, DmaAccess::Read)?;
            ram.read32(address)
        });
        read.flatten().ok_or(DmaRefused)
    }

    /// Interrupts since the last call, in order, each with the index of its SMMU.
    pub fn take_interrupts(&self) -> Vec<(usize, Irq)> {
        std::mem::take(&mut self.shared.state.lock().interrupts)
    }

    /// Hazards that DMA and register accesses met since the last call, in order.
    pub fn take_hazards(&self) -> Vec<Hazard> {
        std::mem::take(&mut self.shared.state.lock().hazards)
    }

    /// Every stale line and entry that some stream could reach right now. Nothing changes by it.
    #[must_use]
    pub fn audit(&self) -> Vec<Hazard> {
        let state = self.shared.state.lock();
        state.smmus.iter().flat_map(|smmu| smmu.audit(&self.shared.ram)).collect()
    }

    /// How many cached leaf and table descriptors of an SMMU carry a tag: 0 for one that is free.
    #[must_use]
    pub fn lines_with_tag(&self, smmu: usize, tag: CacheTag) -> usize {
        let state = self.shared.state.lock();
        state.smmus.get(smmu).map_or(0, |smmu| smmu.lines_with_tag(tag))
    }

    /// Registers and caches as at power-on. RAM, injected faults and what was not taken stay.
    pub fn reset(&self) {
        for smmu in &mut self.shared.state.lock().smmus {
            smmu.reset();
        }
    }

    /// The registers of the second command queue of an SMMU, or `None` when it has none.
    #[must_use]
    pub fn second_queue(&self, index: usize) -> Option<ModelRegisters> {
        let there =
            self.shared.state.lock().smmus.get(index).is_some_and(ModelSmmu::has_second_queue);
        there.then(|| ModelRegisters::of_second_queue(Arc::clone(&self.shared), index))
    }

    /// Let some time pass: an SMMU with MSIs carries out as many commands as at a read of `CMDQ_CONS`.
    pub fn tick(&self) {
        let smmus = self.shared.state.lock().smmus.len();
        for smmu in 0..smmus {
            self.shared.act(smmu, ModelSmmu::tick);
        }
    }

    /// Keep from now on, for [`take_carried_out`](Self::take_carried_out), what an SMMU's queues carry out.
    pub fn listen(&self, smmu: usize) {
        self.shared.act(smmu, |smmu, _| {
            smmu.main.listen();
            smmu.second.listen();
        });
    }

    /// The commands that an SMMU's main queue and its second queue have carried out since the last call, in order
    /// and as they lay in the queue. Empty unless somebody [`listen`](Self::listen)s.
    pub fn take_carried_out(&self, smmu: usize) -> [Vec<RawCommand>; 2] {
        let taken = self.shared.act(smmu, |smmu, _| [smmu.main.heard(), smmu.second.heard()]);
        taken.unwrap_or_default()
    }

    /// Let an SMMU consume its command queues, for a driver that waits for an interrupt.
    pub fn settle(&self, smmu: usize) {
        self.shared.act(smmu, ModelSmmu::drain);
    }

    /// Make something go wrong from now on, in the main command queue or outside of the queues.
    pub fn inject(&self, smmu: usize, fault: InjectedFault) {
        self.shared.act(smmu, |smmu, _| smmu.main.faults.push(fault));
    }

    /// Make something go wrong from now on in the second command queue. A fault that is not about a command queue
    /// does nothing here.
    pub fn inject_second(&self, smmu: usize, fault: InjectedFault) {
        self.shared.act(smmu, |smmu, _| smmu.second.faults.push(fault));
    }

    /// Take back every fault of an SMMU.
    pub fn mend(&self, smmu: usize) {
        self.shared.act(smmu, |smmu, _| {
            smmu.main.faults.clear();
            smmu.second.faults.clear();
        });
    }

    /// Four bytes of RAM as the bus sees them; `None` outside of it.
    #[must_use]
    pub fn memory_read32(&self, address: PhysAddr) -> Option<u32> {
        self.shared.ram.read32(address)
    }

    /// Change four bytes of RAM; `None` when they are not all inside.
    pub fn memory_write32(&self, address: PhysAddr, value: u32) -> Option<()> {
        self.shared.ram.write32(address, value)
    }
}
