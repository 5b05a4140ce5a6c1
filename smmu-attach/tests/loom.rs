//! The real transaction beside an unmap and a walk of the SMMU, under loom: every interleaving with
//! up to two preemptions, and three for an attach beside an unmap.
//!
//!     RUSTFLAGS="--cfg loom" cargo test --release -p smmu-attach --test loom
//!
//! The model has one STE, the SMMU's caches of it and of one translation for each domain, a table
//! entry for each domain, and a page that the mapper takes away after its invalidation. The page is
//! plain memory to loom, so a DMA that is not ordered before the mapper's reuse fails the test.
//!
//! A store of the driver reaches the SMMU some time before the barrier of [`DmaBlock::publish`]
//! ends. If a test leaves out a barrier or a command, the checker must notice.
#![cfg(loom)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(unsafe_code, reason = "doubles of hardware memory, and a publication that frees nothing")]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64 as PlainWord, Ordering as Plain};

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;
use smmu_attach::*;
use smmu_invs::{InvArray, OutOfMemory, Publication};
use smmu_types::fake::ID_REGISTERS;
use smmu_types::range::Extent;
use smmu_types::seam::{CommandSink, DmaBlock, DmaError, DmaLayout, DmaMemory, SinkError};
use smmu_types::*;

/// What a test leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// The barrier of `publish`.
    Barrier,
    /// The mapper's full barrier, between its store to the tables and its read of the array.
    FullBarrier,
    /// What `CFGI_STE` does.
    ConfigInvalidation,
    /// What a TLBI command does.
    TranslationInvalidation,
    /// The release of a published array.
    Release,
}

/// A pointer swap, as with RCU. It never frees an array.
struct SwapCell(AtomicPtr<InvArray>);

static RELEASE: AtomicBool = AtomicBool::new(true);

impl Publication<InvArray> for SwapCell {
    type Node = *mut InvArray;
    type Guard<'a> = &'static InvArray;

    fn node(value: InvArray) -> Result<Self::Node, OutOfMemory> {
        Ok(Box::into_raw(Box::new(value)))
    }
    fn new(node: Self::Node) -> Self {
        SwapCell(AtomicPtr::new(node))
    }
    fn read(&self) -> &'static InvArray {
        // SAFETY: nothing frees an array.
        unsafe { &*self.0.load(Ordering::Acquire) }
    }
    fn publish(&self, node: Self::Node) {
        let release = RELEASE.load(Plain::Relaxed);
        self.0.store(node, if release { Ordering::Release } else { Ordering::Relaxed });
    }
}

/// A lock for the threads of a model. loom sees no atomic of it, so it yields where it waits.
struct YieldingLock(AtomicBool);

// SAFETY: the flag is set by one holder at a time, and loom runs one thread at a time.
unsafe impl lock_api::RawMutex for YieldingLock {
    const INIT: Self = YieldingLock(AtomicBool::new(false));
    type GuardMarker = lock_api::GuardSend;

    fn lock(&self) {
        while !self.try_lock() {
            thread::yield_now();
        }
    }
    fn try_lock(&self) -> bool {
        !self.0.swap(true, Plain::SeqCst)
    }
    unsafe fn unlock(&self) {
        self.0.store(false, Plain::SeqCst);
    }
}

/// What the SMMU has cached. Locked while a DMA is in progress, because a `CMD_SYNC` waits for
/// that.
#[derive(Default)]
struct Caches {
    ste: Option<(u64, u64)>,
    lines: [bool; 2],
}

struct OneSteSmmu {
    without: Without,
    // Words 0 and 2 of the STE, as the SMMU reads them.
    ste: [AtomicU64; 2],
    // The table entry of each domain that leads to its page.
    tables: [AtomicUsize; 2],
    caches: Mutex<Caches>,
    // Whether the mapper has taken the page of a domain away.
    pages: [UnsafeCell<bool>; 2],
}

// SAFETY: loom checks each access to a page.
unsafe impl Sync for OneSteSmmu {}
// SAFETY: as above.
unsafe impl Send for OneSteSmmu {}

impl OneSteSmmu {
    fn new(without: Without) -> Arc<Self> {
        RELEASE.store(without != Without::Release, Plain::Relaxed);
        Arc::new(OneSteSmmu {
            without,
            ste: [AtomicU64::new(1), AtomicU64::new(0)],
            tables: [AtomicUsize::new(1), AtomicUsize::new(1)],
            caches: Mutex::default(),
            pages: [UnsafeCell::new(false), UnsafeCell::new(false)],
        })
    }

    /// A write of the device: through the cached STE and line, or through memory.
    fn dma(&self) {
        let mut caches = self.caches.lock().unwrap();
        let [w0, w2] = &self.ste;
        let read = || (w0.load(Ordering::Acquire), w2.load(Ordering::Acquire));
        let (w0, w2) = *caches.ste.get_or_insert_with(read);
        // Only stage 2 (Config = 0b110) leads anywhere; domain n has VMID n.
        let Some(domain) = (w2 as u16).checked_sub(1).filter(|_| w0 & 0xf == 0xd) else { return };
        let domain = usize::from(domain);
        if caches.lines[domain] || self.tables[domain].load(Ordering::Relaxed) == 1 {
            caches.lines[domain] = true;
            // SAFETY: loom checks the access.
            let taken = self.pages[domain].with(|page| unsafe { *page });
            assert!(!taken, "DMA reached a page that was taken away");
        }
    }

    /// An unmap as a mapper does it, and the reuse of the page.
    fn unmap(&self, domain: &Domain<Modelled>, number: usize) {
        self.tables[number].store(0, Ordering::Relaxed);
        let page = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last);
        domain.invalidate(page).unwrap();
        // SAFETY: loom checks the access.
        self.pages[number].with_mut(|page| unsafe { *page = true });
    }
}

struct Block {
    words: Box<[PlainWord]>,
    hardware: Arc<OneSteSmmu>,
}

// SAFETY: the words live as long as the block.
unsafe impl DmaBlock for Block {
    fn words(&self) -> &[PlainWord] {
        &self.words
    }
    fn address(&self) -> PhysAddr {
        PhysAddr(0x4000_0000)
    }
    fn publish(&self, _: Range<usize>) {
        if self.hardware.without != Without::Barrier {
            fence(Ordering::SeqCst);
        }
        // A store may reach the SMMU before the next barrier.
        let [w0, w2] = &self.hardware.ste;
        w2.store(self.words[2].load(Plain::Relaxed), Ordering::Relaxed);
        w0.store(self.words[0].load(Plain::Relaxed), Ordering::Relaxed);
        if self.hardware.without != Without::Barrier {
            fence(Ordering::SeqCst);
        }
    }
    fn observe(&self, _: Range<usize>) {}
}

struct Memory(Arc<OneSteSmmu>);

// SAFETY: each block is new, and zero.
unsafe impl DmaMemory for Memory {
    type Block = Block;
    fn allocate(&self, layout: DmaLayout) -> Result<Block, DmaError> {
        let words = (0..layout.words()).map(|_| PlainWord::new(0)).collect();
        Ok(Block { words, hardware: self.0.clone() })
    }
    fn full_barrier(&self) {
        if self.0.without != Without::FullBarrier {
            fence(Ordering::SeqCst);
        }
    }
}

struct ModelSink(Arc<OneSteSmmu>);

impl CommandSink for ModelSink {
    type Ticket = SmmuId;
    type Pushed = SmmuId;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        let without = self.0.without;
        for command in commands {
            let vmid = match *command {
                Command::CfgiSte { .. } if without != Without::ConfigInvalidation => {
                    self.0.caches.lock().unwrap().ste = None;
                    continue;
                }
                Command::TlbiS2Ipa { vmid, .. } | Command::TlbiS12Vmall { vmid } => vmid,
                _ => continue,
            };
            if without != Without::TranslationInvalidation {
                self.0.caches.lock().unwrap().lines[usize::from(vmid.0 - 1)] = false;
            }
        }
        Ok(smmu)
    }
    fn push(&self, s: SmmuId, _: Option<SmmuId>, c: &[Command]) -> Result<SmmuId, SinkError> {
        self.issue(s, c)
    }
    fn prove(&self, s: SmmuId, c: &[Command]) -> Result<SmmuId, SinkError> {
        self.issue(s, c)
    }
    fn wait(&self, s: SmmuId) -> Result<SyncProof, SinkError> {
        Ok(SyncProof::vouch(s))
    }
}

struct Modelled;
impl Platform for Modelled {
    type Lock = YieldingLock;
    type SleepLock = YieldingLock;
    type Dma = Memory;
    type Sink = ModelSink;
    type Cell = SwapCell;
    type Observer = ();
    type Tables = TableDescription;
}

const TABLES: TableDescription =
    TableDescription::new(TranslationStage::Stage2 { start_level: 1 }, PhysAddr(0x8000_0000));

struct OneDevice {
    hardware: Arc<OneSteSmmu>,
    device: Device<Modelled>,
    domains: [Domain<Modelled>; 2],
    // Keeps the device's place in the stream table.
    _smmu: Smmu<Modelled>,
}

impl OneDevice {
    fn new(without: Without) -> Self {
        let hardware = OneSteSmmu::new(without);
        let env = Env::new(Memory(hardware.clone()), ModelSink(hardware.clone()), ()).unwrap();
        let mut caps = Capabilities::decode(ID_REGISTERS);
        // Small tag spaces keep the model small.
        (caps.asid_bits, caps.vmid_bits) = (8, 8);
        let config = SmmuConfig { stream_bits: Some(0), ..SmmuConfig::default() };
        let smmu = Smmu::new(&env, SmmuId(0), ID_REGISTERS, caps, config).unwrap();
        let device = smmu.add_device(&[StreamId(0)]).unwrap();
        let domains = [1, 2].map(|n| Domain::new(&env, DomainId(n), TABLES).unwrap());
        OneDevice { hardware, device, domains, _smmu: smmu }
    }

    /// A DMA of another thread, and one after `change`. An unmap of domain `number` runs beside
    /// them.
    fn race(&self, number: usize, change: impl FnOnce(&Self)) {
        let mapper = spawn({
            let (hardware, domain) = (self.hardware.clone(), self.domains[number].clone());
            move || hardware.unmap(&domain, number)
        });
        let walker = spawn({
            let hardware = self.hardware.clone();
            move || hardware.dma()
        });
        change(self);
        mapper.join().unwrap();
        walker.join().unwrap();
        self.hardware.dma();
        let _ = self.device.block();
    }
}

/// A thread with room for an attach: loom's own have 32 KiB.
fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().stack_size(0x8000).spawn(run).unwrap()
}

fn model(preemptions: usize, test: impl Fn() + Copy + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || spawn(test).join().unwrap());
}

fn attach_beside_unmap(without: Without, preemptions: usize) {
    model(preemptions, move || {
        let world = OneDevice::new(without);
        world.race(0, |w| {
            let _ = w.device.attach(&w.domains[0]).unwrap();
        });
    });
}

fn detach_beside_unmap(without: Without) {
    model(2, move || {
        let world = OneDevice::new(without);
        let _ = world.device.attach(&world.domains[0]).unwrap();
        world.race(0, |w| {
            let _ = w.device.block();
        });
    });
}

fn replace_beside_unmap(without: Without, unmapped: usize) {
    model(2, move || {
        let world = OneDevice::new(without);
        let _ = world.device.attach(&world.domains[0]).unwrap();
        world.race(unmapped, |w| {
            let _ = w.device.attach(&w.domains[1]).unwrap();
        });
    });
}

/// The last detach of one device beside the first attach of another to the same domain.
fn detach_beside_attach() {
    model(2, || {
        let world = OneDevice::new(Without::Nothing);
        let other = world.device.clone();
        let _ = world.device.attach(&world.domains[0]).unwrap();
        let thread = spawn({
            let domain = world.domains[1].clone();
            move || {
                let _ = other.attach(&domain).unwrap();
            }
        });
        let _ = world.device.block();
        thread.join().unwrap();
        world.hardware.dma();
        let _ = world.device.block();
        assert!(world.domains.iter().all(|domain| domain.array().is_empty()));
    });
}

fn must_fail(what: &str, test: impl FnOnce()) {
    let failed = catch_unwind(AssertUnwindSafe(test)).is_err();
    assert!(failed, "no interleaving notices: {what}");
}

#[test]
fn no_interleaving_reaches_a_page_that_was_taken_away() {
    attach_beside_unmap(Without::Nothing, 3);
    detach_beside_unmap(Without::Nothing);
    for unmapped in [0, 1] {
        replace_beside_unmap(Without::Nothing, unmapped);
    }
    detach_beside_attach();

    // What is left out is noticed. One test after the other: the publication's order is global.
    must_fail("no barrier", || attach_beside_unmap(Without::Barrier, 2));
    must_fail("no full barrier", || attach_beside_unmap(Without::FullBarrier, 2));
    must_fail("no release", || attach_beside_unmap(Without::Release, 2));
    let tlbi = Without::TranslationInvalidation;
    must_fail("no TLBI", || detach_beside_unmap(tlbi));
    must_fail("no CFGI", || {
        model(2, || {
            let world = OneDevice::new(Without::ConfigInvalidation);
            let _ = world.device.attach(&world.domains[0]).unwrap();
            world.hardware.dma();
            let _ = world.device.block();
            // The SMMU still caches an STE that leads to the domain, which no longer invalidates
            // for it.
            world.hardware.dma();
            world.hardware.unmap(&world.domains[0], 0);
            world.hardware.dma();
        });
    });
}
