//! The guests of a scenario: virtual SMMUs, their devices, and their tables of stage 1.

use alloc::sync::Arc;
use core::mem;
use core::sync::atomic::Ordering;

use smmu_driver::Attach;
use smmu_driver::smmu_attach::guest::{GuestSmmu, HostEntry, SteRefusal};
use smmu_driver::smmu_attach::{TranslationStage, TranslationTable, VirtualSmmu, single_context};
use smmu_driver::smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory};
use smmu_driver::smmu_types::{
    Asid, AtsMode, Capabilities, Cd, FieldError, PhysAddr, ShareabilityOverride, Ste, StreamId,
};

use super::platform::{Block, Dma, Harness};
use super::stop::Stop;
use crate::lock::Mutex;
use crate::page_tables::{PAGE, PageTables, TableStage};
use crate::prelude::*;

/// A guest with its virtual SMMU.
pub(super) struct Guest {
    pub(super) to: VirtualSmmu<Attach<Harness>>,
    pub(super) parent: String,
    /// In the order of the guest's StreamIDs, which count from 0.
    pub(super) devices: Vec<GuestDevice>,
}

/// A device of a guest.
pub(super) struct GuestDevice {
    pub(super) name: String,
    pub(super) host: Vec<StreamId>,
    /// In the guest's memory.
    pub(super) ste: Ste,
    /// What is installed for it.
    pub(super) entry: HostEntry,
    /// Why the host refused the STE, at the last `CFGI_STE`.
    pub(super) refusal: Option<SteRefusal>,
}

/// Tables of stage 1 in a guest's memory.
pub(crate) struct GuestTable {
    /// The name of the guest.
    pub(super) guest: String,
    pub(crate) tables: PageTables<GuestMemory>,
    memory: GuestMemory,
    /// Holds the context descriptor.
    _cd: Block,
    /// The STE that leads there.
    pub(crate) ste: Ste,
}

/// DMA memory that notes each page of it, so that the parent can map it.
#[derive(Clone, Debug)]
pub(crate) struct GuestMemory {
    dma: Dma,
    fresh: Arc<Mutex<Vec<PhysAddr>>>,
}

#[expect(unsafe_code, reason = "passes the promise of the memory behind on")]
// SAFETY: every block is one of the memory behind.
unsafe impl DmaMemory for GuestMemory {
    type Block = Block;

    fn allocate(&self, layout: DmaLayout) -> Result<Block, DmaError> {
        let block = self.dma.allocate(layout)?;
        let pages = layout.bytes().div_ceil(PAGE);
        let page = |n| PhysAddr(block.address().0 + n * PAGE);
        self.fresh.lock().extend((0..pages).map(page));
        Ok(block)
    }

    fn full_barrier(&self) {
        self.dma.full_barrier();
    }
}

impl Guest {
    /// `devices` are their names, each with its StreamIDs on the host.
    pub(super) fn new(
        to: VirtualSmmu<Attach<Harness>>,
        parent: String,
        devices: Vec<(String, Vec<StreamId>)>,
    ) -> Self {
        let device = |(name, host)| {
            let (ste, entry) = (Ste::ABORT, HostEntry::INVALID);
            GuestDevice { name, host, ste, entry, refusal: None }
        };
        Guest { to, parent, devices: devices.into_iter().map(device).collect() }
    }

    pub(super) fn policy(&self) -> &GuestSmmu {
        self.to.policy()
    }
}

impl GuestTable {
    /// Empty tables, with a context descriptor for them.
    pub(super) fn new(name: &str, guest: &Guest, asid: Asid, dma: Dma) -> Result<Self, Stop> {
        let memory = GuestMemory { dma, fresh: Arc::default() };
        let tables = PageTables::new(TableStage::Stage1, memory.clone())?;
        let layout = DmaLayout::new(PAGE, PAGE).ok_or(DmaError { bytes: PAGE, align: PAGE })?;
        let cd = memory.allocate(layout)?;
        let described = tables.describe();
        let TranslationStage::Stage1 { mair } = described.stage else {
            return Err(Stop::failed(format!("the tables of {name} have no stage 1")));
        };
        let wrong = |error: FieldError| Stop::failed(error);
        let words = Cd::stage1(described.stage1(mair, asid)).map_err(wrong)?;
        for (cell, word) in cd.words().iter().zip(words.0) {
            cell.store(word, Ordering::Relaxed);
        }
        cd.publish(0..words.0.len());
        let caps = Capabilities::decode(guest.policy().ids());
        let context = single_context(&caps, cd.address());
        let ste = Ste::stage1(context, AtsMode::Off, ShareabilityOverride::NonShareable);
        let (guest, ste) = (name.to_owned(), ste.map_err(wrong)?);
        Ok(GuestTable { guest, tables, memory, _cd: cd, ste })
    }

    /// The pages that the table has taken since the last call.
    pub(super) fn take_fresh(&self) -> Vec<PhysAddr> {
        mem::take(&mut *self.memory.fresh.lock())
    }
}
