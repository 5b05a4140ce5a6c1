//! A small hypervisor on the SMMU model: bind a VM to a stream, unmap, unbind, print a fault.
//!
//!     cargo run -p smmu-driver --example hypervisor
//!
//! On a board, replace `Model`: registers are `VolatileRegisters`, memory is a pool over a reserved
//! window, and the clock is a timer.

use std::error::Error;
use std::sync::atomic::Ordering;

use smmu_driver::smmu_attach::{TableDescription, TranslationStage, TranslationTable};
use smmu_driver::smmu_types::pool::{HeapWindow, Pool, PoolBlock};
use smmu_driver::smmu_types::range::Extent;
use smmu_driver::smmu_types::seam::{DmaBlock, DmaLayout, DmaMemory, StdWait};
use smmu_driver::smmu_types::{Granule, Leaf, PhysAddr, StreamId};
use smmu_driver::{Parts, Setup, SmmuOptions};
use smmu_model::{Model, ModelRegisters, Profile};

type Clock = &'static StdWait;
type Vmm = Parts<ModelRegisters, Pool<HeapWindow>, Clock, parking_lot::RawMutex, VmTables>;

/// A VM's stage-2 tables: a level-1 root, and a level-2 and a level-3 table for the first 2 MiB.
/// Each has 512 entries.
struct VmTables(PoolBlock<HeapWindow>);

impl VmTables {
    fn new(memory: &Pool<HeapWindow>) -> Result<Self, Box<dyn Error>> {
        let layout = DmaLayout::new(3 * 4096, 4096).ok_or("no such layout")?;
        let tables = VmTables(memory.allocate(layout)?);
        let next = |table: u64| (tables.0.address().0 + table * 4096) | 3;
        tables.set(0, next(1));
        tables.set(512, next(2));
        Ok(tables)
    }

    fn set(&self, word: usize, descriptor: u64) {
        self.0.words()[word].store(descriptor, Ordering::Relaxed);
        self.0.publish(word..word + 1);
    }

    /// Maps or unmaps a guest page below 2 MiB: read and write, Normal memory, Inner Shareable.
    fn map(&self, page: usize, to: Option<PhysAddr>) {
        self.set(1024 + page, to.map_or(0, |to| to.0 | 0x7ff));
    }
}

impl TranslationTable for VmTables {
    fn describe(&self) -> TableDescription {
        let stage = TranslationStage::Stage2 { start_level: 1 };
        TableDescription::new(stage, self.0.address())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = Model::new(8 << 20, &[Profile::default()]);
    let memory = Pool::new(model.window());
    let clock: Clock = Box::leak(Box::new(StdWait::new()));
    let page = memory.allocate(DmaLayout::new(4096, 4096).ok_or("no such layout")?)?;

    let mut setup = Setup::<Vmm>::new(memory.clone(), clock, ());
    let smmu = setup.smmu(model.registers(0).ok_or("no SMMU")?, SmmuOptions::default())?;
    let driver = setup.start()?;

    let vm = driver.domain(VmTables::new(&memory)?)?;
    vm.tables().map(5, Some(page.address()));
    let device = driver.add_device(smmu, &[StreamId(8)])?;
    println!("bind:   {:?}", device.attach(&vm)?);
    println!("write:  {:?}", model.dma_write32(0, StreamId(8), 0x5000, 1));

    vm.tables().map(5, None);
    vm.invalidate(Extent::range(0x5000, 4096, Granule::K4, Leaf::Last))?;
    println!("write:  {:?}", model.dma_write32(0, StreamId(8), 0x5000, 2));
    driver.drain_events(smmu, |event| println!("fault:  {event}"))?;

    println!("unbind: {:?}", device.block());
    let _tables = vm.into_tables().map_err(|_| "the SMMU may still use the tables")?;
    driver.shutdown()?;
    Ok(())
}
