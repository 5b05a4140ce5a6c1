//! A software SMMUv3: the "mock" backend.
//!
//! [`Model`] is one RAM with any number of SMMUs over it. A driver programs them through
//! [`ModelRegisters`] and the memory of [`Model::window`]; devices access memory with
//! [`Model::dma_write32`] and [`Model::dma_read32`].
//!
//! ```
//! use smmu_model::{Model, Profile};
//! use smmu_types::StreamId;
//!
//! let model = Model::new(0x10000, &[Profile::default()]);
//! // Translation is off, so the device's address is the address of memory.
//! let outcome = model.dma_write32(0, StreamId(8), 0x4000_1000, 7);
//! assert_eq!(outcome, Ok(()));
//! assert_eq!(model.dma_read32(0, StreamId(8), 0x4000_1000), Ok(7));
//! ```
//!
//! # Adversarial
//!
//! Whatever the architecture allows to be cached is cached, and stays until a command takes it away:
//!
//! - *Configuration*: STEs, CDs and level-1 stream table descriptors as they were fetched, **also
//!   invalid and illegal ones** (IHI 0070, 3.21.3: "whether marked as valid or not"); so a change from
//!   `V` = 0 to 1 needs `CFGI_STE`, and from `Span` = 0 to an L2 table `CFGI_STE` with `Leaf` = 0
//!   (5.1.1). Only an aborted fetch leaves nothing. `CFGI_STE` drops the stream's CDs as well (4.3.1).
//! - *Translations*: leaf and table descriptors, without limit. Leaves that deny an access are
//!   kept; faults, and leaves with a clear access flag, never. A `Leaf` = 1 command leaves table
//!   descriptors; a level hint drops leaves of that level and tables above it only; a range of
//!   another granule, or one not aligned to its level hint, drops nothing. Where several lines
//!   match, the oldest serves, even beyond a `T0SZ` that has become smaller. Turning `SMMUEN` off
//!   and on drops nothing.
//! - *Prefetch*: what a command drops is fetched again at once, while [`Profile::prefetch`] is set,
//!   from the tables and with the configuration of that moment. So an invalidation that is sent
//!   *before* the change of what it is for does not help. A fault of a prefetch leaves no event.
//!
//! It is lazy: commands are consumed a few at a time, by reads of `CMDQ_CONS`, and a change of
//! `GBPA` takes effect when the driver looks for it. A driver that waits in memory, for the MSI of a
//! `CMD_SYNC`, looks at no register: for it the SMMU acts when time passes ([`Model::tick`]).
//!
//! # Queues that misbehave
//!
//! A [`Fault`] stops a command queue or makes it slow, lets fetches abort, devices leave ATC invalidations
//! unanswered, MSIs get lost; [`Model::mend`] takes all of them back. [`Model::listen`] says afterwards what was
//! carried out, which need not be what a driver believes to have sent.
//!
//! With [`Profile::second_queue`] an SMMU has a second command queue with registers of its own
//! ([`Model::second_queue`]), whose commands act on the same caches.
//!
//! # Hazards
//!
//! Each DMA compares what it used with memory, and [`Model::audit`] compares everything that some
//! stream could reach. Each difference is a [`Hazard`] that names the missing command.
//!
//! # Not modelled
//!
//! Nested translation ([`Hazard::Unsupported`] and `C_BAD_STE`), `TTB1` (likewise, `C_BAD_CD`),
//! substreams, the ATCs of devices, PRI, stalls, hardware table updates, granules of 16 and 64 KiB, the
//! contiguous hint (each page is its own line). A read of `CMDQ_CONS` or a DMA is the only moment at
//! which the SMMU acts, so it cannot see a half-written entry unless a DMA comes in between.

mod audit;
mod cmdq;
mod device;
mod dma;
mod events;
mod hazard;
mod memory;
mod profile;
mod queues;
mod regs;
pub mod second;
mod stream;
#[cfg(test)]
mod tests;
mod tlb;
mod walk;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use smmu_types::pool::HeapWindow;
use smmu_types::seam::Registers;
use smmu_types::{CacheTag, Irq, PhysAddr, RawCommand, StreamId};

pub use hazard::{Hazard, Now, Permissions, Violation};
pub use profile::{Fault, Profile, SecondQueue};
pub use second::SecondQueueRegisters;

use device::Smmu;
use dma::Access;
use memory::Ram;

#[derive(Debug)]
struct State {
    smmus: Vec<Smmu>,
    interrupts: Vec<(usize, Irq)>,
    hazards: Vec<Hazard>,
}

#[derive(Debug)]
struct Shared {
    ram: Ram,
    state: Mutex<State>,
}

impl Shared {
    /// Let one SMMU act, and collect what it has to say.
    fn act<T>(&self, index: usize, act: impl FnOnce(&mut Smmu, &Ram) -> T) -> Option<T> {
        let state = &mut *self.state.lock();
        let smmu = state.smmus.get_mut(index)?;
        let result = act(smmu, &self.ram);
        state.interrupts.extend(smmu.interrupts.drain(..).map(|irq| (index, irq)));
        for hazard in smmu.hazards.drain(..) {
            if state.hazards.last() != Some(&hazard) {
                state.hazards.push(hazard);
            }
        }
        Some(result)
    }
}

/// The SMMU refused an access, or nothing answered at the address that it led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access was refused; the event queue says why, if the stream's faults are recorded")]
pub struct DmaRefused;

/// Several SMMUs over one RAM. Clones are the same machine.
#[derive(Clone, Debug)]
pub struct Model {
    shared: Arc<Shared>,
}

impl Model {
    /// `ram_bytes` of zeroes at 0x4000_0000, and an SMMU for each profile, all as at power-on.
    #[must_use]
    pub fn new(ram_bytes: usize, profiles: &[Profile]) -> Self {
        let smmus = profiles.iter().enumerate().map(|(i, profile)| Smmu::new(i, profile)).collect();
        let state = State { smmus, interrupts: Vec::new(), hazards: Vec::new() };
        Model { shared: Arc::new(Shared { ram: Ram::new(ram_bytes), state: Mutex::new(state) }) }
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
        (index < count).then(|| ModelRegisters { shared: Arc::clone(&self.shared), index })
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
            let address = smmu.translate(ram, stream, iova & !3, Access::Write)?;
            ram.write32(address, value)
        });
        written.flatten().ok_or(DmaRefused)
    }

    /// A device behind an SMMU reads 4 bytes; bits 1:0 of `iova` are taken as zero.
    ///
    /// An SMMU that does not exist refuses.
    pub fn dma_read32(&self, smmu: usize, stream: StreamId, iova: u64) -> Result<u32, DmaRefused> {
        let read = self.shared.act(smmu, |smmu, ram| {
            let address = smmu.translate(ram, stream, iova & !3, Access::Read)?;
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
    pub fn second_queue(&self, index: usize) -> Option<SecondQueueRegisters> {
        let there = self.shared.state.lock().smmus.get(index).is_some_and(Smmu::has_second_queue);
        there.then(|| SecondQueueRegisters::new(Arc::clone(&self.shared), index))
    }

    /// Let some time pass: an SMMU with MSIs carries out as many commands as at a read of `CMDQ_CONS`.
    pub fn tick(&self) {
        let smmus = self.shared.state.lock().smmus.len();
        for smmu in 0..smmus {
            self.shared.act(smmu, Smmu::tick);
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
        self.shared.act(smmu, Smmu::drain);
    }

    /// Make something go wrong from now on, in the main command queue or outside of the queues.
    pub fn inject(&self, smmu: usize, fault: Fault) {
        self.shared.act(smmu, |smmu, _| smmu.main.faults.push(fault));
    }

    /// Make something go wrong from now on in the second command queue. A fault that is not about a command queue
    /// does nothing here.
    pub fn inject_second(&self, smmu: usize, fault: Fault) {
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

/// The registers of one modelled SMMU.
#[derive(Clone)]
pub struct ModelRegisters {
    shared: Arc<Shared>,
    index: usize,
}

impl fmt::Debug for ModelRegisters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelRegisters").field("index", &self.index).finish_non_exhaustive()
    }
}

impl ModelRegisters {
    fn load(&self, offset: u32, bytes: u32) -> u64 {
        self.shared.act(self.index, |smmu, ram| smmu.read(ram, offset, bytes)).unwrap_or(0)
    }

    fn store(&self, offset: u32, bytes: u32, value: u64) {
        self.shared.act(self.index, |smmu, ram| smmu.write(ram, offset, bytes, value));
    }
}

impl Registers for ModelRegisters {
    fn read32(&self, offset: u32) -> u32 {
        self.load(offset, 4) as u32
    }
    fn write32(&self, offset: u32, value: u32) {
        self.store(offset, 4, value.into());
    }
    fn read64(&self, offset: u32) -> u64 {
        self.load(offset, 8)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.store(offset, 8, value);
    }
}
