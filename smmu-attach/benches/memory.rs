//! Bytes of heap and of DMA memory for each object of an attach.
//!
//!     cargo bench -p smmu-attach --bench memory --features guest
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![expect(unsafe_code, reason = "implements an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use smmu_attach::*;
use smmu_invs::{ArcSwapCell, InvArray};
use smmu_types::fake::{HeapWindow, ID_REGISTERS, InstantSink, Pool, heap_pool};
use smmu_types::*;

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

struct BenchPlatform;
impl Platform for BenchPlatform {
    type Lock = parking_lot::RawMutex;
    type SleepLock = parking_lot::RawMutex;
    type Dma = Pool<HeapWindow>;
    type Sink = InstantSink;
    type Cell = ArcSwapCell<InvArray>;
    type Observer = ();
    type Tables = TableDescription;
    type Ats = ();
}

fn main() {
    let pool = heap_pool(64 << 20);
    let env = Env::<BenchPlatform>::new(pool.clone(), InstantSink, ()).unwrap();
    // What `count` objects take, each.
    let measure = |what: &str, count: usize, run: &mut dyn FnMut(usize)| {
        let (heap, dma) = (HEAP.load(Ordering::Relaxed), pool.free_bytes());
        (0..count).for_each(run);
        let heap = HEAP.load(Ordering::Relaxed) - heap;
        let dma = dma - pool.free_bytes();
        println!("  {what:<52} {:>9} heap {:>9} DMA", heap / count, dma as usize / count);
    };
    println!("bytes of memory");
    let registers = IdRegisters { idr1: ID_REGISTERS.idr1 | 20 << 6, ..ID_REGISTERS };
    let caps = Capabilities::decode(registers);
    let mut smmus = Vec::with_capacity(2);
    measure("SMMU, two-level table of 16 StreamID bits", 1, &mut |_| {
        let config = SmmuConfig::default();
        smmus.push(Smmu::new(&env, SmmuId(0), registers, caps, config).unwrap());
    });
    measure("SMMU, linear table of 8 StreamID bits", 1, &mut |_| {
        let config = SmmuConfig::default().with_stream_bits(8);
        smmus.push(Smmu::new(&env, SmmuId(1), registers, caps, config).unwrap());
    });
    let smmu = &smmus[0];
    let add = |n: usize, streams: u32| {
        let streams: Vec<_> = (0..streams).map(|i| StreamId(n as u32 * streams + i)).collect();
        let config = DeviceConfig::default().with_substream_bits(6);
        smmu.add_device_with(&streams, config).unwrap()
    };
    let mut devices = Vec::with_capacity(512);
    measure("device, one stream (256 of one second-level table)", 256, &mut |n| {
        devices.push(add(n, 1));
    });
    measure("device, 64 streams (of four second-level tables)", 16, &mut |n| {
        devices.push(add(n + 4, 64));
    });
    let mut domains = Vec::with_capacity(256);
    measure("domain, not attached", 256, &mut |n| {
        let stage = TranslationStage::Stage1 { mair: 0xff };
        let tables = TableDescription::new(stage, PhysAddr(0x8000_0000));
        domains.push(Domain::new(&env, DomainId(n as u32), tables).unwrap());
    });
    measure("attach of the first device of a domain", 255, &mut |n| {
        let _ = devices[n].attach(&domains[n]).unwrap();
    });
    measure("attach of one more device of the same domain", 16, &mut |n| {
        let _ = devices[256 + n].attach(&domains[0]).unwrap();
    });
    measure("first substream of a device of 6 bits", 16, &mut |n| {
        let substream = devices[n].substream(SubstreamId::new(1).unwrap()).unwrap();
        let _ = substream.attach(&domains[0]).unwrap();
    });
    measure("one more substream", 48, &mut |n| {
        let id = SubstreamId::new(2 + n as u32).unwrap();
        let _ = devices[0].substream(id).unwrap().attach(&domains[0]).unwrap();
    });
    #[cfg(feature = "guest")]
    let guests = {
        use smmu_attach::guest::{Emulation, guest_ids};
        let stage = TranslationStage::Stage2 { start_level: 1 };
        let tables = TableDescription::new(stage, PhysAddr(0x9000_0000));
        let parent = Domain::new(&env, DomainId(300), tables).unwrap();
        let ids = guest_ids(&[registers], &Emulation::new(OutputSize::Bits44)).unwrap();
        let mut guests = Vec::with_capacity(16);
        // The parent's array has an entry for each, and is made anew.
        measure("virtual SMMU on a parent domain", 16, &mut |_| {
            guests.push(smmu.virtual_smmu(&parent, ids).unwrap());
        });
        guests
    };
    for device in &devices {
        let _ = device.block_all();
    }
    #[cfg(feature = "guest")]
    drop(guests);
}
