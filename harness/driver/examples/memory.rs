//! Bytes of heap and of DMA memory: of each object, and of a hypervisor with 1,000 domains and 4,096
//! devices.
//!
//!     cargo run --release -p smmu-driver --example memory
#![expect(unsafe_code, reason = "implements an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

use smmu_driver::smmu_attach::{
    Domain, Env, Platform, Smmu, SmmuConfig, TableDescription, TranslationStage,
};
use smmu_driver::smmu_cmdq::{CommandQueue, SyncBy};
use smmu_driver::smmu_hw_mmio::VolatileRegisters;
use smmu_driver::smmu_invs::{ArcSwapCell, InvArray, InvSpec};
use smmu_driver::smmu_types::fake::{
    HeapWindow, ID_REGISTERS, InstantSink, Pool, PoolBlock, heap_pool,
};
use smmu_driver::smmu_types::queue::QueueSize;
use smmu_driver::smmu_types::seam::{DmaMemory, StdWait};
use smmu_driver::smmu_types::{Capabilities, DomainId, IdRegisters, PhysAddr, SmmuId, StreamId};

const DOMAINS: usize = 1000;
const DEVICES: usize = 4096;

static HEAP: AtomicUsize = AtomicUsize::new(0);

struct CountingAllocator;

// SAFETY: all memory is the system's.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HEAP.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise; all memory came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

struct Counted;
impl Platform for Counted {
    type Lock = parking_lot::RawMutex;
    type SleepLock = parking_lot::RawMutex;
    type Dma = Pool<HeapWindow>;
    type Sink = InstantSink;
    type Cell = ArcSwapCell<InvArray>;
    type Observer = ();
    type Tables = TableDescription;
    type Ats = ();
}

type Queue<B> = CommandQueue<VolatileRegisters, B, StdWait>;

/// Heap and DMA memory in use.
fn used(pool: &Pool<HeapWindow>) -> (usize, u64) {
    (HEAP.load(Ordering::Relaxed), pool.free_bytes())
}

/// Runs `make` and prints what each of its `count` objects takes.
fn row<T>(
    pool: &Pool<HeapWindow>,
    what: &str,
    count: usize,
    make: impl FnOnce() -> Result<T, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let before = used(pool);
    let made = make()?;
    let after = used(pool);
    let (heap, dma) = (after.0 - before.0, (before.1 - after.1) as usize);
    println!("  {what:<58} {:>9} heap {:>9} DMA", heap / count, dma / count);
    Ok(made)
}

fn domains(env: &Env<Counted>, count: usize) -> Result<Vec<Domain<Counted>>, Box<dyn Error>> {
    let stage = TranslationStage::Stage1 { mair: 0xff };
    let tables = TableDescription::new(stage, PhysAddr(0x8000_0000));
    let mut made = Vec::with_capacity(count);
    for n in 0..count {
        made.push(Domain::new(env, DomainId(n as u32), tables)?);
    }
    Ok(made)
}

fn smmu(env: &Env<Counted>, id: u16, split: bool) -> Result<Smmu<Counted>, Box<dyn Error>> {
    // 16 StreamID bits; IDR0.ST_LEVEL says whether the table may have two levels.
    let idr0 = match split {
        true => ID_REGISTERS.idr0,
        false => ID_REGISTERS.idr0 & !(3 << 27),
    };
    let registers = IdRegisters { idr0, idr1: ID_REGISTERS.idr1 & !0x3f | 16, ..ID_REGISTERS };
    let caps = Capabilities::decode(registers);
    Ok(Smmu::new(env, SmmuId(id), registers, caps, SmmuConfig::default())?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let pool = heap_pool(64 << 20);
    let env = Env::<Counted>::new(pool.clone(), InstantSink, ())?;
    let size = QueueSize::from_log2(10).ok_or("no queue of this size")?;
    println!("bytes of memory");
    let entries = 1024;
    let request: Vec<_> =
        (0..entries).map(|n| InvSpec::ats(SmmuId(0), StreamId(n), None)).collect();
    row(&pool, "entry of an invalidation array of 1,024", 1024, || {
        Ok(InvArray::empty().merge(&request)?)
    })?;
    let block = row(&pool, "ring of 1,024 commands", 1, || {
        Ok(pool.allocate(Queue::<PoolBlock<HeapWindow>>::layout(size, SyncBy::Polling))?)
    })?;
    println!(
        "  {:<58} {:>9} heap {:>9} DMA",
        "queue of 1,024 cells, beside its ring",
        size_of::<Queue<&Pool<HeapWindow>>>(),
        0
    );
    drop(block);
    row(&pool, "SMMU of 65,536 streams, linear table", 1, || smmu(&env, 1, false))?;
    row(&pool, "SMMU of 65,536 streams, two-level table", 1, || smmu(&env, 2, true))?;

    let begin = used(&pool);
    let host = smmu(&env, 0, true)?;
    let mut devices = Vec::with_capacity(DEVICES);
    row(&pool, "device, with its share of a second-level table of 256", DEVICES, || {
        for n in 0..DEVICES {
            devices.push(host.add_device(&[StreamId(n as u32)])?);
        }
        Ok(())
    })?;
    let made = row(&pool, "domain, not attached", DOMAINS, || domains(&env, DOMAINS))?;
    row(&pool, "attach of the first device of a domain", DOMAINS, || {
        for (device, domain) in devices.iter().zip(&made) {
            // `InstantSink` confirms everything.
            let _ = device.attach(domain)?;
        }
        Ok(())
    })?;
    row(&pool, "attach of one more device of a domain", DEVICES - DOMAINS, || {
        for (device, domain) in devices.iter().skip(DOMAINS).zip(made.iter().cycle()) {
            // `InstantSink` confirms everything.
            let _ = device.attach(domain)?;
        }
        Ok(())
    })?;
    let end = used(&pool);
    let queue = size_of::<Queue<&Pool<HeapWindow>>>() + (16 << 10);
    println!(
        "{DOMAINS} domains, {DEVICES} devices, one SMMU of 65,536 streams and its queue: {} KiB heap, \
         {} KiB DMA",
        (end.0 - begin.0 + queue - (16 << 10)).div_ceil(1024),
        ((begin.1 - end.1) as usize + (16 << 10)).div_ceil(1024),
    );
    for device in &devices {
        let _ = device.block_all();
    }
    Ok(())
}
