//! Times of taking over a running SMMU, by the size of its stream table.
//!
//!     cargo bench -p smmu-attach --bench adopt
#![expect(unsafe_code, reason = "implements the promise of DMA memory")]

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smmu_attach::adopt::*;
use smmu_attach::*;
use smmu_invs::{ArcSwapCell, InvArray};
use smmu_measure::{BenchTable, nanoseconds};
use smmu_types::fake::{HeapWindow, ID_REGISTERS, InstantSink, Pool, PoolBlock};
use smmu_types::legal::SmmuView;
use smmu_types::regs::strtab;
use smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory};
use smmu_types::*;

/// Bits of the StreamIDs of the largest table.
const LARGEST: u8 = 16;
const OLD: PhysAddr = PhysAddr(0x4000_0000);
const NEW: PhysAddr = PhysAddr(0x8000_0000);

/// An SMMU with linear stream tables alone.
const LINEAR: IdRegisters = IdRegisters { idr0: ID_REGISTERS.idr0 & !(0b11 << 27), ..ID_REGISTERS };

/// Memory of the new owner, and blocks over that of the old one.
struct Adoptive {
    pool: Pool<HeapWindow>,
    old: Arc<[AtomicU64]>,
}

enum Block {
    Own(PoolBlock<HeapWindow>),
    Old(Arc<[AtomicU64]>, Range<usize>),
}

// SAFETY: blocks are the pool's, or words of a slice that lives as long as the block.
unsafe impl DmaMemory for Adoptive {
    type Block = Block;
    fn allocate(&self, layout: DmaLayout) -> Result<Block, DmaError> {
        self.pool.allocate(layout).map(Block::Own)
    }
    fn full_barrier(&self) {
        self.pool.full_barrier();
    }
}

// SAFETY: the block is the memory at the address, which the old owner's pool keeps.
unsafe impl AdoptMemory for Adoptive {
    fn adopt(&self, address: PhysAddr, layout: DmaLayout) -> Result<Block, DmaError> {
        let first = (address.0 - OLD.0) as usize / 8;
        Ok(Block::Old(Arc::clone(&self.old), first..first + layout.words()))
    }
}

// SAFETY: the words of a slice do not move, and nothing but this program sees them.
unsafe impl DmaBlock for Block {
    fn words(&self) -> &[AtomicU64] {
        match self {
            Block::Own(block) => block.words(),
            Block::Old(words, range) => &words[range.clone()],
        }
    }
    fn address(&self) -> PhysAddr {
        match self {
            Block::Own(block) => block.address(),
            Block::Old(_, range) => PhysAddr(OLD.0 + 8 * range.start as u64),
        }
    }
    fn publish(&self, words: Range<usize>) {
        if let Block::Own(block) = self {
            block.publish(words);
        }
    }
    fn observe(&self, words: Range<usize>) {
        if let Block::Own(block) = self {
            block.observe(words);
        }
    }
}

struct BenchPlatform<D>(std::marker::PhantomData<fn() -> D>);
impl<D: DmaMemory> Platform for BenchPlatform<D> {
    type Lock = parking_lot::RawMutex;
    type SleepLock = parking_lot::RawMutex;
    type Dma = D;
    type Sink = InstantSink;
    type Cell = ArcSwapCell<InvArray>;
    type Observer = ();
    type Tables = TableDescription;
    type Ats = ();
}

type Old = BenchPlatform<Pool<HeapWindow>>;
type New = BenchPlatform<Adoptive>;

const S1: TableDescription =
    TableDescription::new(TranslationStage::Stage1 { mair: 0xff }, PhysAddr(0x9000_0000));

/// Times for each entry of a table: survey, adopt and abort; survey alone.
#[expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
fn times(log2: u8) -> [f64; 2] {
    let (entries, id) = (1_u32 << log2, SmmuId(0));
    let window = HeapWindow::new(OLD, 16 << 20);
    let memory = window.share();
    let env = Env::<Old>::new(Pool::new(window), InstantSink, ()).unwrap();
    let caps = Capabilities::decode(LINEAR);
    let config = SmmuConfig::default().with_stream_bits(log2);
    let smmu = Smmu::new(&env, id, LINEAR, caps, config).unwrap();
    // Each 64th stream is live, each with tables and an ASID of its own.
    let live: Vec<_> = (0..entries / 64)
        .map(|n| {
            let domain = Domain::new(&env, DomainId(n), S1).unwrap();
            let device = smmu.add_device(&[StreamId(64 * n)]).unwrap();
            let _ = device.attach(&domain).unwrap();
            (device, domain)
        })
        .collect();
    let (address, format) = smmu.stream_table();
    let (base, config) = (strtab::base(address, format).unwrap(), format.config().unwrap());
    let tables = RunningTables::new(base, config, SmmuView::new(LINEAR));
    let read = |address: PhysAddr, words: &mut [u64]| {
        let first = (address.0 - OLD.0) as usize / 8;
        for (n, word) in words.iter_mut().enumerate() {
            *word = memory.get(first + n).ok_or(Unreadable)?.load(Ordering::Relaxed);
        }
        Ok(())
    };
    let survey = || Survey::new(tables, &read, ReadBudget::default()).unwrap();
    assert_eq!(survey().streams().len(), live.len());

    let dma = Adoptive { pool: Pool::new(HeapWindow::new(NEW, 1 << 20)), old: Arc::clone(&memory) };
    let env = Env::<New>::new(dma, InstantSink, ()).unwrap();
    let all = nanoseconds(entries.into(), || {
        let survey = survey();
        let config = SmmuConfig::default();
        let adoption = Adoption::new(&survey);
        let adopting =
            Smmu::<New>::adopt(&env, id, caps, config, adoption, |_| Keep::Running).unwrap();
        black_box(adopting.abort_others().is_ok());
    });
    let read = nanoseconds(entries.into(), || {
        black_box(survey().streams().len());
    });
    [all, read]
}

fn main() {
    let title = "take over a linear stream table, each 64th entry live and kept, for each entry";
    let mut table = BenchTable::new(title);
    let smallest = times(LARGEST - 2);
    let least = format!("{} entries", 1 << (LARGEST - 2));
    for log2 in [LARGEST - 2, LARGEST - 1, LARGEST] {
        let [all, read] = if log2 == LARGEST - 2 { smallest } else { times(log2) };
        let (entries, live) = (1 << log2, 1 << (log2 - 6));
        // Linear: an entry takes as long in the largest table as in the smallest.
        table
            .row(&format!("{entries} entries, {live} live: survey, adopt, abort the others"), all)
            .against_at_least(&least, smallest[0], 0.7);
        table
            .row(&format!("{entries} entries, {live} live: the survey alone"), read)
            .against_at_least(&least, smallest[1], 0.7);
    }
    println!("{table}");
}
