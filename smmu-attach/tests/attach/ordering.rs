//! The driver publishes every store to a table before it links the table or sends a command. A
//! barrier lies between a new array and the first store of an entry.
//!
//! A fake of DMA memory remembers the published words and compares.
#![expect(unsafe_code, reason = "implements the promise of DMA memory")]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use rstest::rstest;
use smmu_attach::*;
use smmu_types::fake::*;
use smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory, SinkError};
use smmu_types::*;

use crate::common::*;
use crate::watched_cell::{WatchedCell, is_unordered, ordered};

/// One block and its published words.
struct TrackedWords {
    block: PoolBlock<HeapWindow>,
    published: Mutex<Vec<u64>>,
}

impl TrackedWords {
    /// Addresses of stored and unpublished words outside of `but`.
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
struct PublishLedger {
    blocks: Mutex<Vec<Weak<TrackedWords>>>,
    violations: Mutex<Vec<String>>,
}

impl PublishLedger {
    /// Record a violation for every pending word, except in a range of one block.
    fn check(&self, what: &str, but: Option<(&TrackedWords, &Range<usize>)>) {
        for tracked in self.blocks.lock().unwrap().iter().filter_map(Weak::upgrade) {
            let range = match but {
                Some((block, range)) if std::ptr::eq(block, &*tracked) => range.clone(),
                _ => 0..0,
            };
            let pending = tracked.pending(range);
            if !pending.is_empty() {
                let said = format!("{what} while stores to {pending:x?} are not published");
                self.violations.lock().unwrap().push(said);
            }
        }
    }
}

impl PublishLedger {
    /// Record a violation for each STE of a published block that leads to no valid CD.
    fn check_contexts(&self, published: &[u64]) {
        let blocks: Vec<_> = self.blocks.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        // A stage-1 STE: V = 1, Config = 0b101, and one CD (S1CDMax = 0). Only second-level tables are longer than a CD pair.
        let stes = published.chunks_exact(8).filter(|_| published.len() > 16);
        for ste in stes.filter(|ste| ste[0] & 0xf == 0xb && ste[0] >> 59 == 0) {
            let context = ste[0] & 0x000f_ffff_ffff_ffc0;
            let valid = blocks.iter().any(|block| {
                let at = context.wrapping_sub(block.block.address().0) as usize / 8;
                block.published.lock().unwrap().get(at).is_some_and(|cd| cd >> 31 & 1 == 1)
            });
            if !valid {
                let said = format!("an STE leads to an invalid CD at {context:#x}");
                self.violations.lock().unwrap().push(said);
            }
        }
    }
}

struct LedgerMemory {
    pool: Pool<HeapWindow>,
    ledger: Arc<PublishLedger>,
}

struct LedgerBlock {
    tracked: Arc<TrackedWords>,
    ledger: Arc<PublishLedger>,
}

// SAFETY: blocks are the pool's.
unsafe impl DmaMemory for LedgerMemory {
    type Block = LedgerBlock;

    fn allocate(&self, layout: DmaLayout) -> Result<LedgerBlock, DmaError> {
        let block = self.pool.allocate(layout)?;
        let published = Mutex::new(vec![0; block.words().len()]);
        let tracked = Arc::new(TrackedWords { block, published });
        self.ledger.blocks.lock().unwrap().push(Arc::downgrade(&tracked));
        Ok(LedgerBlock { tracked, ledger: Arc::clone(&self.ledger) })
    }

    fn full_barrier(&self) {
        self.pool.full_barrier();
        ordered();
    }
}

// SAFETY: as the pool's block.
unsafe impl DmaBlock for LedgerBlock {
    fn words(&self) -> &[AtomicU64] {
        self.tracked.block.words()
    }
    fn address(&self) -> PhysAddr {
        self.tracked.block.address()
    }
    fn publish(&self, words: Range<usize>) {
        // A published word may link to any other word, so no other store may be pending.
        let at = self.address().0 + words.start as u64 * 8;
        self.ledger.check(&format!("{at:#x} is published"), Some((&self.tracked, &words)));
        if is_unordered() && !self.tracked.pending(0..0).is_empty() {
            let said = format!("{at:#x} is stored without a barrier behind the array");
            self.ledger.violations.lock().unwrap().push(said);
        }
        ordered();
        let mut published = self.tracked.published.lock().unwrap();
        for n in words {
            published[n] = self.tracked.block.words()[n].load(Ordering::Relaxed);
        }
        let now = published.clone();
        drop(published);
        self.ledger.check_contexts(&now);
    }
    fn observe(&self, _words: Range<usize>) {}
}

struct LedgerPlatform;
impl Platform for LedgerPlatform {
    type Lock = parking_lot::RawMutex;
    type SleepLock = parking_lot::RawMutex;
    type Dma = LedgerMemory;
    type Sink = RecordingSink;
    type Cell = WatchedCell;
    type Observer = ();
    type Tables = DescribedTables;
    type Ats = ();
}

/// A sink that checks the ledger at each command, and fails while it is told to.
fn checking(ledger: &Arc<PublishLedger>, fails: &Arc<AtomicBool>) -> RecordingSink {
    let (watched, failing) = (Arc::clone(ledger), Arc::clone(fails));
    RecordingSink::failing(move |call| {
        if let SinkCall::Issue(smmu, commands) | SinkCall::Push(smmu, commands) = call {
            watched.check(&format!("{} is sent", commands[0]), None);
            return failing.load(Ordering::Relaxed).then(|| SinkError::timeout(*smmu));
        }
        None
    })
}

/// The same for the tables of substreams: linear, and in two levels.
#[rstest]
fn nothing_of_a_substream_is_linked_before_it_is_published(#[values(3, 9)] bits: u8) {
    let ledger = Arc::new(PublishLedger::default());
    let dma = LedgerMemory { pool: heap_pool(4 << 20), ledger: Arc::clone(&ledger) };
    let fails = Arc::new(AtomicBool::new(false));
    let env = Env::<LedgerPlatform>::new(dma, checking(&ledger, &fails), ()).unwrap();
    let registers = IdRegisters { idr0: LARGE.idr0 | 1 << 19, ..LARGE };
    let caps = Capabilities::decode(registers);
    assert!(caps.two_level_cd);
    let smmu = Smmu::new(&env, SmmuId(0), registers, caps, SmmuConfig::default()).unwrap();
    let config = DeviceConfig::default().with_substream_bits(bits);
    let device = smmu.add_device_with(&[StreamId(8), StreamId(0x108)], config).unwrap();
    let domains = [1, 2].map(|id: u32| {
        let tables = tables(S1, 0x8000_0000 + u64::from(id) * 0x1000);
        Domain::new(&env, DomainId(id), tables).unwrap()
    });
    let last = (1 << bits) - 1;
    let substreams =
        [1, 2, last].map(|id| device.substream(SubstreamId::new(id).unwrap()).unwrap());
    for round in 0..4 {
        for (n, substream) in substreams.iter().enumerate() {
            assert_eq!(substream.attach(&domains[(n + round) % 2]).unwrap().confirmed(), Ok(()));
            let stream = match (n + round) % 3 {
                0 => device.attach(&domains[0]).unwrap(),
                1 => device.bypass().unwrap(),
                _ => device.block(),
            };
            assert_eq!(stream.confirmed(), Ok(()));
        }
        if round == 2 {
            // The tables count as stale afterwards, and are written anew.
            fails.store(true, Ordering::Relaxed);
            assert!(substreams[0].block().confirmed().is_err());
            fails.store(false, Ordering::Relaxed);
            assert_eq!(device.settle(), Ok(()));
        }
        for substream in &substreams {
            assert_eq!(substream.block().confirmed(), Ok(()));
        }
    }
    assert!(env.sink().take().len() > 40, "too few commands to prove anything");
    assert_eq!(*ledger.violations.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn nothing_is_linked_or_announced_before_it_is_published() {
    let ledger = Arc::new(PublishLedger::default());
    let dma = LedgerMemory { pool: heap_pool(4 << 20), ledger: Arc::clone(&ledger) };
    let fails = Arc::new(AtomicBool::new(false));
    let env = Env::<LedgerPlatform>::new(dma, checking(&ledger, &fails), ()).unwrap();
    let config = SmmuConfig::default();
    let smmu = Smmu::new(&env, SmmuId(0), ID_REGISTERS, caps(), config).unwrap();
    let domain = |id: u32, stage| {
        let tables = tables(stage, 0x8000_0000 + u64::from(id) * 0x1000);
        Domain::new(&env, DomainId(id), tables).unwrap()
    };
    let s1 = [domain(1, S1), domain(2, S1)];
    let s2 = domain(3, S2);
    // Streams of two second-level tables, and each change from one kind of entry to another.
    for stream in [0x08, 0x108] {
        let device = smmu.add_device(&[StreamId(stream)]).unwrap();
        let targets = || {
            let domains = [&s1[0], &s1[1], &s2].map(Target::Domain);
            domains.into_iter().chain([Target::Bypass, Target::Blocked])
        };
        for from in 0..5 {
            for to in 0..5 {
                for n in [from, to] {
                    let target = targets().nth(n).unwrap();
                    let prepared = device.prepare(target).unwrap();
                    assert_eq!(prepared.publish().install().commit().confirmed(), Ok(()));
                }
            }
        }
        // The SMMU does not answer, so the entries become invalid.
        for target in [Target::Domain(&s1[0]), Target::Domain(&s2), Target::Bypass] {
            let _ = device.prepare(target).unwrap().publish().install().commit();
            fails.store(true, Ordering::Relaxed);
            assert!(device.block().confirmed().is_err());
            fails.store(false, Ordering::Relaxed);
            assert_eq!(device.settle(), Ok(()));
        }
        let _ = device.prepare(Target::Blocked).unwrap().publish().install().commit();
    }
    assert!(env.sink().take().len() > 100, "too few commands to prove anything");
    assert_eq!(*ledger.violations.lock().unwrap(), Vec::<String>::new());
}
