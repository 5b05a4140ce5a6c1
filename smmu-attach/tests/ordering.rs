//! Every store to a table is published before anything that leads the SMMU to it: before a store that links it, and
//! before a command. A double of DMA memory keeps what was published and compares.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(unsafe_code, reason = "implements the promise of DMA memory")]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use smmu_attach::*;
use smmu_invs::{ArcSwapCell, InvArray};
use smmu_types::fake::*;
use smmu_types::seam::{CommandSink, DmaBlock, DmaError, DmaLayout, DmaMemory, SinkError};
use smmu_types::*;

/// One block and the words that were published.
struct Kept {
    block: PoolBlock<HeapWindow>,
    published: Mutex<Vec<u64>>,
}

impl Kept {
    /// Addresses of words that were stored and not published, outside of `but`.
    fn pending(&self, but: Range<usize>) -> Vec<u64> {
        let published = self.published.lock().unwrap();
        let words = self.block.words().iter().zip(&*published).enumerate();
        words
            .filter(|(n, (now, then))| !but.contains(n) && now.load(Ordering::Relaxed) != **then)
            .map(|(n, _)| self.block.address().0 + n as u64 * 8)
            .collect()
    }
}

#[derive(Default)]
struct Registry {
    blocks: Mutex<Vec<Weak<Kept>>>,
    violations: Mutex<Vec<String>>,
}

impl Registry {
    /// Complain about everything that is pending, but for a range of one block.
    fn check(&self, what: &str, but: Option<(&Kept, &Range<usize>)>) {
        for kept in self.blocks.lock().unwrap().iter().filter_map(Weak::upgrade) {
            let range = match but {
                Some((block, range)) if std::ptr::eq(block, &*kept) => range.clone(),
                _ => 0..0,
            };
            let pending = kept.pending(range);
            if !pending.is_empty() {
                let said = format!("{what} while stores to {pending:x?} are not published");
                self.violations.lock().unwrap().push(said);
            }
        }
    }
}

struct Memory {
    pool: Pool<HeapWindow>,
    registry: Arc<Registry>,
}

struct Block {
    kept: Arc<Kept>,
    registry: Arc<Registry>,
}

// SAFETY: blocks are the pool's.
unsafe impl DmaMemory for Memory {
    type Block = Block;

    fn allocate(&self, layout: DmaLayout) -> Result<Block, DmaError> {
        let block = self.pool.allocate(layout)?;
        let published = Mutex::new(vec![0; block.words().len()]);
        let kept = Arc::new(Kept { block, published });
        self.registry.blocks.lock().unwrap().push(Arc::downgrade(&kept));
        Ok(Block { kept, registry: Arc::clone(&self.registry) })
    }
}

// SAFETY: as the pool's block.
unsafe impl DmaBlock for Block {
    fn words(&self) -> &[AtomicU64] {
        self.kept.block.words()
    }
    fn address(&self) -> PhysAddr {
        self.kept.block.address()
    }
    fn publish(&self, words: Range<usize>) {
        // What is published may link to any other store, so none of those may still be pending.
        let at = self.address().0 + words.start as u64 * 8;
        self.registry.check(&format!("{at:#x} is published"), Some((&self.kept, &words)));
        let mut published = self.kept.published.lock().unwrap();
        for n in words {
            published[n] = self.kept.block.words()[n].load(Ordering::Relaxed);
        }
    }
    fn observe(&self, _words: Range<usize>) {}
}

struct Sink(RecordingSink, Arc<Registry>);

impl CommandSink for Sink {
    type Ticket = SmmuId;
    type Pushed = SmmuId;
    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        self.1.check(&format!("{} is sent", commands[0]), None);
        self.0.issue(smmu, commands)
    }
    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<SmmuId>,
        commands: &[Command],
    ) -> Result<SmmuId, SinkError> {
        self.1.check(&format!("{} is sent", commands[0]), None);
        self.0.push(smmu, pushed, commands)
    }
    fn prove(&self, pushed: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        self.issue(pushed, commands)
    }
    fn wait(&self, ticket: SmmuId) -> Result<SyncProof, SinkError> {
        self.0.wait(ticket)
    }
}

struct Ordered;

impl Platform for Ordered {
    type Lock = parking_lot::RawMutex;
    type DomainLock = parking_lot::RawMutex;
    type Dma = Memory;
    type Sink = Sink;
    type Cell = ArcSwapCell<InvArray>;
    type Observer = ();
}

struct Tables(TranslationStage, u64);

impl TranslationTable for Tables {
    fn describe(&self) -> TableDescription {
        TableDescription {
            stage: self.0,
            root: PhysAddr(self.1),
            t0sz: 25,
            granule: Granule::K4,
            output_size: OutputSize::Bits40,
            walk: WalkAttributes::COHERENT,
            forced_write_back: ForcedWriteBack::Off,
        }
    }
}

#[test]
fn nothing_is_linked_or_announced_before_it_is_published() {
    let registry = Arc::new(Registry::default());
    let dma = Memory { pool: heap_pool(4 << 20), registry: Arc::clone(&registry) };
    let sink = Sink(RecordingSink::new(), Arc::clone(&registry));
    let env = Env::<Ordered> { dma: &dma, sink: &sink, observer: &() };
    let caps = Capabilities::decode(ID_REGISTERS);
    let smmu = Smmu::<Ordered>::new(SmmuId(0), caps, SmmuConfig::default(), &dma).unwrap();
    let smmu = Arc::new(smmu);
    let domain = |id, stage| {
        let tables = Tables(stage, 0x8000_0000 + u64::from(id) * 0x1000);
        Arc::new(Domain::<Ordered>::new(DomainId(id), &tables).unwrap())
    };
    let s1 = [
        domain(1, TranslationStage::Stage1 { mair: 0xff }),
        domain(2, TranslationStage::Stage1 { mair: 0xff }),
    ];
    let s2 = domain(3, TranslationStage::Stage2 { start_level: 1 });
    // Streams of two second-level tables, and every change from one kind of entry to another.
    for stream in [0x08, 0x108] {
        let mut device = Smmu::add_device(&smmu, &[StreamId(stream)], &env).unwrap();
        let targets = || {
            let domains = [&s1[0], &s1[1], &s2].map(Target::Domain);
            domains.into_iter().chain([Target::Bypass, Target::Blocked])
        };
        for from in 0..5 {
            for to in 0..5 {
                for n in [from, to] {
                    let target = targets().nth(n).unwrap();
                    let prepared = device.prepare(target, &env).unwrap();
                    assert_eq!(prepared.publish().install().commit().config, Ok(()));
                }
            }
        }
        let _ = device.prepare(Target::Blocked, &env).unwrap().publish().install().commit();
    }
    assert!(sink.0.take().len() > 100, "too few commands to prove anything");
    assert_eq!(*registry.violations.lock().unwrap(), Vec::<String>::new());
}
