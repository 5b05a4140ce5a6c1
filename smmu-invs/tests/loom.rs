//! The ordering argument of `Publication`, checked by a model checker: every interleaving of a mapper that
//! invalidates, an attacher or detacher, and the SMMU's walker, with up to three preemptions.
//!
//!     RUSTFLAGS="--cfg loom" cargo test --release -p smmu-invs --test loom
//!
//! The steps are those of the argument. What is modelled beside the real array and the real walk: a table entry, an
//! STE, a TLB line, and a DMA that is under way. The DMA barrier before an STE is a full fence here, which is
//! more than a driver needs where the memory is multi-copy atomic.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(unsafe_code, reason = "a publication by pointer, which nothing frees")]

use loom::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;
use smmu_invs::{InvArray, InvSpec, OutOfMemory, Publication, invalidate_published};
use smmu_types::range::{Extent, RangeSupport};
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{Asid, CacheTag, Command, FlushProof, Granule, Leaf, Regime, SmmuId, SyncProof};

const TAG: CacheTag = CacheTag::Asid(Regime::El1, Asid(1));

fn request() -> [InvSpec; 1] {
    [InvSpec::tagged(SmmuId(0), TAG, RangeSupport::Ril)]
}

/// A pointer that is swung, as with RCU; the arrays are never freed.
struct Pointer(AtomicPtr<InvArray>);

impl Publication<InvArray> for Pointer {
    type Node = *mut InvArray;
    type Guard<'a> = &'static InvArray;

    fn node(value: InvArray) -> Result<Self::Node, OutOfMemory> {
        Ok(Box::into_raw(Box::new(value)))
    }
    fn new(node: Self::Node) -> Self {
        Pointer(AtomicPtr::new(node))
    }
    fn read(&self) -> &'static InvArray {
        // SAFETY: the pointer is that of a box that is never freed, and only shared references are made.
        unsafe { &*self.0.load(Ordering::Acquire) }
    }
    fn publish(&self, node: Self::Node) {
        self.0.store(node, Ordering::Release);
    }
}

/// The SMMU, as far as one page of one device goes.
struct Hardware {
    /// The table leads to the page.
    table: AtomicUsize,
    /// The STE leads to the table.
    ste: AtomicUsize,
    /// The TLB leads to the page. Held while a DMA is under way, which a flush waits for.
    line: Mutex<bool>,
    /// The page belongs to someone else.
    reused: AtomicUsize,
}

impl Hardware {
    fn new(ste: usize) -> Self {
        Hardware {
            table: AtomicUsize::new(1),
            ste: AtomicUsize::new(ste),
            line: Mutex::new(false),
            reused: AtomicUsize::new(0),
        }
    }

    /// One DMA of the device. The table's address depends on the STE, which orders the two loads.
    fn dma(&self) {
        let mut line = self.line.lock().unwrap();
        if self.ste.load(Ordering::Acquire) == 0 {
            return;
        }
        if *line || self.table.load(Ordering::Relaxed) == 1 {
            *line = true;
            // The DMA lands.
            assert_eq!(
                self.reused.load(Ordering::Acquire),
                0,
                "DMA reached a page that was taken away"
            );
        }
    }

    /// Step 1 and what follows: take the page away, invalidate, give it to someone else.
    fn unmap(&self, cell: &Pointer, sink: &Sink) {
        self.table.store(0, Ordering::Relaxed);
        let page = Extent::pages(0x1000, 0x1000, Granule::K4, Leaf::Last);
        invalidate_published(cell, page, sink).unwrap();
        self.reused.store(1, Ordering::Release);
    }
}

/// A queue whose commands are carried out when they are issued: any TLBI drops the line, once no DMA is under way.
struct Sink(Arc<Hardware>);

impl CommandSink for Sink {
    type Ticket = SmmuId;
    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        if commands.iter().any(|command| command.name().starts_with("TLBI")) {
            *self.0.line.lock().unwrap() = false;
        }
        Ok(smmu)
    }
    fn push(&self, smmu: SmmuId, commands: &[Command]) -> Result<(), SinkError> {
        self.issue(smmu, commands).map(|_| ())
    }
    fn wait(&self, ticket: SmmuId) -> Result<SyncProof, SinkError> {
        Ok(SyncProof::vouch(ticket))
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn empty() -> Pointer {
    Pointer::new(Pointer::node(InvArray::empty()).unwrap())
}

fn attached() -> Pointer {
    let array = InvArray::empty().merge(&request()).unwrap();
    Pointer::new(Pointer::node(array).unwrap())
}

#[derive(Clone, Copy, PartialEq)]
enum Barrier {
    Full,
    None,
}

fn attach_race(dma_barrier: Barrier) {
    check(move || {
        let hardware = Arc::new(Hardware::new(0));
        let cell = Arc::new(empty());
        let attacher = thread::spawn({
            let (hardware, cell) = (Arc::clone(&hardware), Arc::clone(&cell));
            move || {
                // Step 2.
                let merged = cell.read().merge(&request()).unwrap();
                cell.publish(Pointer::node(merged).unwrap());
                if dma_barrier == Barrier::Full {
                    fence(Ordering::SeqCst);
                }
                hardware.ste.store(1, Ordering::Release);
            }
        });
        let walker = thread::spawn({
            let hardware = Arc::clone(&hardware);
            move || hardware.dma()
        });
        hardware.unmap(&cell, &Sink(Arc::clone(&hardware)));
        attacher.join().unwrap();
        walker.join().unwrap();
        // Whatever was cached before is used once more.
        hardware.dma();
    });
}

#[test]
fn steps_1_to_6_an_attach_is_not_missed() {
    attach_race(Barrier::Full);
}

#[test]
#[should_panic(expected = "DMA reached a page that was taken away")]
fn step_2_without_the_dma_barrier_an_attach_is_missed() {
    attach_race(Barrier::None);
}

#[derive(Clone, Copy, PartialEq)]
enum Settle {
    AfterTheFlush,
    BeforeTheFlush,
}

fn detach_race(settle: Settle) {
    check(move || {
        let hardware = Arc::new(Hardware::new(1));
        let cell = Arc::new(attached());
        let detacher = thread::spawn({
            let (hardware, cell) = (Arc::clone(&hardware), Arc::clone(&cell));
            move || {
                // Step 7. The sync of the CFGI keeps new DMA from the old STE; it does not wait for DMA under way.
                hardware.ste.store(0, Ordering::SeqCst);
                cell.read().unref(&request(), |_, _| {});
                let sink = Sink(Arc::clone(&hardware));
                if settle == Settle::BeforeTheFlush {
                    // A proof of some other flush, as a driver without the proof's promise would have it.
                    let idle = Sink(Arc::new(Hardware::new(0)));
                    cell.read().settle(&FlushProof::obtain(&idle, SmmuId(0), TAG).unwrap());
                }
                let proof = FlushProof::obtain(&sink, SmmuId(0), TAG).unwrap();
                cell.read().settle(&proof);
                if let Some(purged) = cell.read().purge().unwrap() {
                    cell.publish(Pointer::node(purged).unwrap());
                }
            }
        });
        let walker = thread::spawn({
            let hardware = Arc::clone(&hardware);
            move || hardware.dma()
        });
        hardware.unmap(&cell, &Sink(Arc::clone(&hardware)));
        detacher.join().unwrap();
        walker.join().unwrap();
        hardware.dma();
    });
}

#[test]
fn steps_7_to_9_a_detach_is_not_overtaken() {
    detach_race(Settle::AfterTheFlush);
}

#[test]
#[should_panic(expected = "DMA reached a page that was taken away")]
fn step_7_without_the_retiring_state_a_detach_is_overtaken() {
    detach_race(Settle::BeforeTheFlush);
}
