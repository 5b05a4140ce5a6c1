//! The guarantee of `Publication` under loom: every interleaving, with up to three preemptions, of
//! a mapper that invalidates, an attacher or detacher, and the SMMU's walker.
//!
//!     RUSTFLAGS="--cfg loom" cargo test --release -p smmu-invs --test loom
//!
//! The numbers of steps are those of the guarantee. Array, walk, gate and cells are real. The model
//! adds a table entry, an STE, a cached translation, a DMA in flight, the page that it reaches, and
//! whether a device answers `ATC_INV`s. The page and the device are plain memory to loom. So two
//! unordered accesses fail even if the values are right. The DMA barrier before an STE is a full
//! fence here; a driver needs less if the memory is multi-copy atomic.
//!
//! For each barrier a test leaves it out, and must fail. Three preemptions find all of these and
//! take seconds. Four find no more and take minutes.
#![cfg(loom)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(unsafe_code, reason = "a publication by pointer, which nothing frees")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;
use smmu_invs::{
    Barrier, CpuSlots, GatedCell, HazardCell, HazardSlots, InvArray, InvSpec, LockCell,
    OutOfMemory, Publication, invalidate_published, without,
};
use smmu_types::model as count;
use smmu_types::range::{Extent, RangeSupport};
use smmu_types::seam::{CommandSink, SinkError, Wait};
use smmu_types::{
    Asid, CacheTag, Command, FlushProof, Granule, Leaf, Regime, SmmuId, StreamId, SyncProof,
};

const SMMU: SmmuId = SmmuId(0);
const TAG: CacheTag = CacheTag::Asid(Regime::El1, Asid(1));

fn tag() -> [InvSpec; 1] {
    [InvSpec::tagged(SMMU, TAG, RangeSupport::Ril)]
}

fn ats() -> [InvSpec; 1] {
    [InvSpec::ats(SMMU, StreamId(1), None)]
}

/// How a [`PointerCell`] is published and read.
#[derive(Clone, Copy)]
struct Orders {
    publish: Ordering,
    read: Ordering,
}

const ORDERS: Orders = Orders { publish: Ordering::Release, read: Ordering::Acquire };

/// A pointer swap, as with RCU. It never frees an array.
struct PointerCell(AtomicPtr<InvArray>, Orders);

impl Publication<InvArray> for PointerCell {
    type Node = *mut InvArray;
    type Guard<'a> = &'static InvArray;

    fn node(value: InvArray) -> Result<Self::Node, OutOfMemory> {
        Ok(Box::into_raw(Box::new(value)))
    }
    fn new(node: Self::Node) -> Self {
        PointerCell(AtomicPtr::new(node), ORDERS)
    }
    fn read(&self) -> &'static InvArray {
        // SAFETY: the pointer comes from a box that is never freed, and all references are shared.
        unsafe { &*self.0.load(self.1.read) }
    }
    fn publish(&self, node: Self::Node) {
        self.0.store(node, self.1.publish);
    }
}

fn cell<P: Publication<InvArray>>(request: &[InvSpec]) -> P {
    P::new(P::node(InvArray::empty().merge(request).unwrap()).unwrap())
}

/// The SMMU and a device, for one page.
struct Hardware {
    /// The table leads to the page.
    table: AtomicUsize,
    /// The STE leads to the table.
    ste: AtomicUsize,
    /// A cached translation leads to the page. A DMA holds the lock, and a flush waits for it.
    line: Mutex<bool>,
    /// The page: whether it has another owner.
    page: UnsafeCell<bool>,
    /// Whether the device answers `ATC_INV`s.
    takes_atc_inv: UnsafeCell<bool>,
}

impl Hardware {
    fn new(ste: usize) -> Self {
        Hardware {
            table: AtomicUsize::new(1),
            ste: AtomicUsize::new(ste),
            line: Mutex::new(false),
            page: UnsafeCell::new(false),
            takes_atc_inv: UnsafeCell::new(true),
        }
    }

    /// One DMA of the device. The address of the table depends on the STE, which orders the two
    /// loads.
    fn dma(&self) {
        let mut line = self.line.lock().unwrap();
        let ste = self.ste.load(Ordering::Acquire);
        if *line || ste == 1 && self.table.load(Ordering::Relaxed) == 1 {
            *line = true;
            // The DMA lands.
            // SAFETY: loom checks the access.
            let taken = self.page.with(|page| unsafe { *page });
            assert!(!taken, "DMA reached a page that was taken away");
        }
    }

    /// From step 1 on: remove the page, invalidate, give the page to another owner.
    fn unmap(&self, cell: &impl Publication<InvArray>, sink: &HardwareSink) {
        self.table.store(0, Ordering::Relaxed);
        invalidate_published(cell, PAGE, sink).unwrap();
        // SAFETY: loom checks the access.
        self.page.with_mut(|page| unsafe { *page = true });
    }
}

const PAGE: Extent = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint();

/// A queue that executes commands at once: a TLBI or an `ATC_INV` drops the cached translation when
/// no DMA is in flight. A device whose ATS is off does not answer an `ATC_INV`.
struct HardwareSink(Arc<Hardware>);

impl CommandSink for HardwareSink {
    type Ticket = SmmuId;
    type Pushed = SmmuId;
    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        for command in commands {
            if let Command::AtcInv { .. } = command {
                // SAFETY: loom checks the access.
                let takes = self.0.takes_atc_inv.with(|takes| unsafe { *takes });
                assert!(takes, "an ATC_INV reached a device whose ATS is off");
            }
            *self.0.line.lock().unwrap() = false;
        }
        Ok(smmu)
    }
    fn push(
        &self,
        smmu: SmmuId,
        _: Option<SmmuId>,
        commands: &[Command],
    ) -> Result<SmmuId, SinkError> {
        self.issue(smmu, commands)
    }
    fn prove(&self, pushed: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        self.issue(pushed, commands)
    }
    fn wait(&self, ticket: SmmuId) -> Result<SyncProof, SinkError> {
        Ok(SyncProof::vouch(ticket))
    }
}

/// A wait without an end. Loom bounds it.
struct Yield;

impl Wait for Yield {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
    fn relax(&self, _: u32) {
        thread::yield_now();
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Runs a model that must fail. Panics with loom's message if it is an expected one.
fn caught(model: impl FnOnce()) {
    let said = catch_unwind(AssertUnwindSafe(model)).unwrap_err();
    let said = said.downcast_ref::<String>().map_or_else(
        || said.downcast_ref::<&str>().copied().unwrap_or_default(),
        |said| said.as_str(),
    );
    let expected = [
        "Causality violation",
        "DMA reached a page that was taken away",
        "an ATC_INV reached a device whose ATS is off",
    ];
    assert!(expected.iter().any(|text| said.contains(text)), "another failure: {said}");
    panic!("the checker says: {said}");
}

/// Runs `beside` and a DMA in parallel with an unmap, and one more DMA at the end.
fn race<P, F>(hardware: Hardware, cell: P, beside: F)
where
    P: Publication<InvArray> + Send + Sync + 'static,
    F: FnOnce(&Hardware, &P, &HardwareSink) + Send + 'static,
{
    let (hardware, cell) = (Arc::new(hardware), Arc::new(cell));
    let other = thread::spawn({
        let (hardware, cell) = (Arc::clone(&hardware), Arc::clone(&cell));
        move || beside(&hardware, &cell, &HardwareSink(Arc::clone(&hardware)))
    });
    let walker = thread::spawn({
        let hardware = Arc::clone(&hardware);
        move || hardware.dma()
    });
    hardware.unmap(&*cell, &HardwareSink(Arc::clone(&hardware)));
    other.join().unwrap();
    walker.join().unwrap();
    // The device uses a cached translation once more.
    hardware.dma();
}

#[derive(Clone, Copy, PartialEq)]
enum DmaBarrier {
    Full,
    None,
}

fn attach_race(dma_barrier: DmaBarrier) {
    check(move || {
        race(Hardware::new(0), cell::<PointerCell>(&[]), move |hardware, cell, _| {
            // Step 2.
            let merged = cell.read().merge(&tag()).unwrap();
            cell.publish(PointerCell::node(merged).unwrap());
            if dma_barrier == DmaBarrier::Full {
                fence(Ordering::SeqCst);
            }
            hardware.ste.store(1, Ordering::Release);
        });
    });
}

#[test]
fn steps_1_to_6_an_attach_is_not_missed() {
    attach_race(DmaBarrier::Full);
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_the_mappers_fence_an_attach_is_missed() {
    caught(|| {
        without(Barrier::Mapper, || attach_race(DmaBarrier::Full));
    });
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_the_dma_barrier_an_attach_is_missed() {
    caught(|| {
        attach_race(DmaBarrier::None);
    });
}

#[derive(Clone, Copy, PartialEq)]
enum Settle {
    AfterTheFlush,
    BeforeTheFlush,
}

/// Whether the detach publishes an array without the entry. Otherwise readers see its state.
#[derive(Clone, Copy, PartialEq)]
enum Purge {
    Publish,
    No,
}

fn detach_race(settle: Settle, purge: Purge, orders: Orders) {
    check(move || {
        let mut cell = cell::<PointerCell>(&tag());
        cell.1 = orders;
        race(Hardware::new(1), cell, move |hardware, cell, sink| {
            // Step 7. The sync of the CFGI stops new DMA through the old STE. It does not wait for
            // DMA in flight.
            hardware.ste.store(0, Ordering::SeqCst);
            let array = cell.read();
            array.unref(&tag(), |_, _| {});
            if settle == Settle::BeforeTheFlush {
                // A proof of another flush: this driver breaks the contract of `settle`.
                let idle = HardwareSink(Arc::new(Hardware::new(0)));
                array.settle(&FlushProof::obtain(&idle, SMMU, TAG).unwrap());
            }
            let proof = FlushProof::obtain(sink, SMMU, TAG).unwrap();
            match purge {
                Purge::No => drop(array.settle(&proof)),
                Purge::Publish => {
                    // Without `settle`: only the publication tells readers.
                    cell.publish(PointerCell::node(InvArray::empty()).unwrap());
                }
            }
        });
    });
}

#[test]
fn steps_7_to_9_a_detach_is_not_overtaken() {
    detach_race(Settle::AfterTheFlush, Purge::No, ORDERS);
}

#[test]
fn steps_7_to_9_a_purge_is_not_overtaken() {
    detach_race(Settle::AfterTheFlush, Purge::Publish, ORDERS);
}

#[test]
#[should_panic(expected = "the checker says")]
fn settled_before_the_flush_a_detach_is_overtaken() {
    caught(|| {
        detach_race(Settle::BeforeTheFlush, Purge::No, ORDERS);
    });
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_the_release_of_trash_a_detach_is_overtaken() {
    caught(|| {
        without(Barrier::TrashRelease, || detach_race(Settle::AfterTheFlush, Purge::No, ORDERS));
    });
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_the_acquire_of_trash_a_detach_is_overtaken() {
    caught(|| {
        without(Barrier::TrashAcquire, || detach_race(Settle::AfterTheFlush, Purge::No, ORDERS));
    });
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_the_release_of_publish_a_detach_is_overtaken() {
    caught(|| {
        let orders = Orders { publish: Ordering::Relaxed, ..ORDERS };
        detach_race(Settle::AfterTheFlush, Purge::Publish, orders);
    });
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_the_acquire_of_read_a_detach_is_overtaken() {
    caught(|| {
        let orders = Orders { read: Ordering::Relaxed, ..ORDERS };
        detach_race(Settle::AfterTheFlush, Purge::Publish, orders);
    });
}

#[derive(Clone, Copy, PartialEq)]
enum Flush {
    BeforeUnref,
    AfterUnref,
}

fn ats_detach_race(flush: Flush) {
    check(move || {
        let cell = cell::<PointerCell>(&ats());
        race(Hardware::new(1), cell, move |hardware, cell, sink| {
            // Step 10.
            hardware.ste.store(0, Ordering::SeqCst);
            let atc_inv = || cell.read().invalidate(PAGE, sink).unwrap();
            let unref = || cell.read().unref(&ats(), |_, _| {});
            match flush {
                Flush::BeforeUnref => {
                    atc_inv();
                    unref();
                }
                Flush::AfterUnref => unref(),
            }
        });
    });
}

#[test]
fn step_10_a_devices_cache_is_not_left_out() {
    ats_detach_race(Flush::BeforeUnref);
}

#[test]
#[should_panic(expected = "the checker says")]
fn step_10_without_the_flush_a_devices_cache_is_left_out() {
    caught(|| {
        ats_detach_race(Flush::AfterUnref);
    });
}

#[derive(Clone, Copy, PartialEq)]
enum Drain {
    Yes,
    No,
}

/// The array that the mapper reads.
#[derive(Clone, Copy, PartialEq)]
enum Array {
    /// The only array, which the detach changes.
    Current,
    /// An older array. The detach changes only its successor.
    Older,
}

fn gate_race(drain: Drain, array: Array) {
    check(move || {
        let hardware = Arc::new(Hardware::new(0));
        let cell = Arc::new(cell::<GatedCell<PointerCell>>(&ats()));
        let mapper = thread::spawn({
            let (hardware, cell) = (Arc::clone(&hardware), Arc::clone(&cell));
            move || invalidate_published(&*cell, PAGE, &HardwareSink(hardware)).unwrap()
        });
        if array == Array::Older {
            let merged = cell.read().merge(&tag()).unwrap();
            cell.publish(PointerCell::node(merged).unwrap());
        }
        cell.read().unref(&ats(), |_, _| {});
        if drain == Drain::Yes {
            let _ = cell.ats_gate().drain(&Yield, Duration::MAX).unwrap();
        }
        // SAFETY: loom checks the access.
        hardware.takes_atc_inv.with_mut(|takes| unsafe { *takes = false });
        mapper.join().unwrap();
    });
}

#[test]
fn step_11_no_atc_inv_is_late() {
    gate_race(Drain::Yes, Array::Current);
}

#[test]
fn step_11_no_atc_inv_of_an_older_array_is_late() {
    gate_race(Drain::Yes, Array::Older);
}

/// Two calls of `drain` beside one mapper: each call changes the side of the gate.
#[test]
fn step_11_the_gate_can_be_used_again() {
    check(|| {
        let hardware = Arc::new(Hardware::new(0));
        let cell = Arc::new(cell::<GatedCell<PointerCell>>(&ats()));
        let mapper = thread::spawn({
            let (hardware, cell) = (Arc::clone(&hardware), Arc::clone(&cell));
            move || invalidate_published(&*cell, PAGE, &HardwareSink(hardware)).unwrap()
        });
        let _ = cell.ats_gate().drain(&Yield, Duration::MAX).unwrap();
        cell.read().unref(&ats(), |_, _| {});
        let _ = cell.ats_gate().drain(&Yield, Duration::MAX).unwrap();
        // SAFETY: loom checks the access.
        hardware.takes_atc_inv.with_mut(|takes| unsafe { *takes = false });
        mapper.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_waiting_at_the_gate_an_atc_inv_is_late() {
    caught(|| {
        gate_race(Drain::No, Array::Current);
    });
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_the_readers_fence_of_the_gate_an_atc_inv_is_late() {
    caught(|| {
        without(Barrier::GateReader, || gate_race(Drain::Yes, Array::Current));
    });
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_the_writers_fence_of_the_gate_an_atc_inv_is_late() {
    caught(|| {
        without(Barrier::GateWriter, || gate_race(Drain::Yes, Array::Current));
    });
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_the_release_of_the_gate_an_atc_inv_is_late() {
    caught(|| {
        without(Barrier::GateLeave, || gate_race(Drain::Yes, Array::Current));
    });
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_the_acquire_of_the_gate_an_atc_inv_is_late() {
    caught(|| {
        without(Barrier::GateWait, || gate_race(Drain::Yes, Array::Current));
    });
}

/// A lock of loom. `OnceLock` makes it later, because no constant can.
struct Lock(OnceLock<Mutex<()>>, std::cell::UnsafeCell<Option<MutexGuard<'static, ()>>>);

// SAFETY: only the thread that holds the lock uses the guard.
unsafe impl Sync for Lock {}
// SAFETY: all threads of a model run on one thread of the system.
unsafe impl Send for Lock {}

// SAFETY: loom's lock excludes other threads. The guard lives from `lock` to `unlock`.
unsafe impl lock_api::RawMutex for Lock {
    const INIT: Self = Lock(OnceLock::new(), std::cell::UnsafeCell::new(None));
    type GuardMarker = lock_api::GuardSend;

    fn lock(&self) {
        let guard = self.0.get_or_init(|| Mutex::new(())).lock().unwrap();
        // SAFETY: `unlock` drops the guard, before the end of the lock.
        let guard =
            unsafe { std::mem::transmute::<MutexGuard<'_, ()>, MutexGuard<'static, ()>>(guard) };
        // SAFETY: this thread holds the lock.
        unsafe { *self.1.get() = Some(guard) };
    }
    fn try_lock(&self) -> bool {
        self.lock();
        true
    }
    unsafe fn unlock(&self) {
        // SAFETY: this thread holds the lock.
        let guard = unsafe { (*self.1.get()).take() };
        drop(guard);
    }
}

/// A value whose drop is an access for loom.
struct Mortal(UnsafeCell<u32>);

// SAFETY: loom checks all accesses.
unsafe impl Sync for Mortal {}

impl Mortal {
    fn look(&self) -> u32 {
        // SAFETY: loom checks the access.
        self.0.with(|value| unsafe { *value })
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        // SAFETY: loom checks the access.
        self.0.with_mut(|value| unsafe { *value = 0 });
    }
}

fn publish_race() {
    check(|| {
        let node = |value| LockCell::<Lock, _>::node(Mortal(UnsafeCell::new(value))).unwrap();
        let cell = Arc::new(LockCell::<Lock, _>::new(node(1)));
        // Makes the lock before another thread starts.
        drop(cell.read());
        let reader = thread::spawn({
            let cell = Arc::clone(&cell);
            move || {
                let first = cell.read();
                let second = cell.read();
                assert!(0 < first.look() && first.look() <= second.look());
            }
        });
        let replaced = cell.replace(node(2));
        // A replaced value without readers gets no new reader.
        if !replaced.is_read() {
            assert!(!replaced.is_read());
        }
        drop(replaced);
        reader.join().unwrap();
        assert_eq!(cell.read().look(), 2);
    });
}

#[test]
fn an_array_is_not_freed_under_a_reader() {
    publish_race();
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_the_release_of_the_count_an_array_is_freed_under_a_reader() {
    caught(|| {
        count::without(count::Barrier::CountRelease, publish_race);
    });
}

#[test]
#[should_panic(expected = "the checker says")]
fn without_the_acquire_of_the_count_an_array_is_freed_under_a_reader() {
    caught(|| {
        count::without(count::Barrier::CountAcquire, publish_race);
    });
}

/// The system's allocator, which frees nothing while its thread has set `KEEP`: a broken build reads
/// what it freed, and loom must find that before the memory has another use.
struct KeepingAllocator;

std::thread_local!(static KEEP: Cell<bool> = const { Cell::new(false) });

// SAFETY: all requests go to the system's allocator unchanged, or memory is not freed.
unsafe impl GlobalAlloc for KeepingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !KEEP.get() {
            // SAFETY: the block came from `System` with this layout.
            unsafe { System.dealloc(block, layout) }
        }
    }
}

#[global_allocator]
static ALLOCATOR: KeepingAllocator = KeepingAllocator;

/// Like [`caught`], for a model that uses what it freed.
fn caught_in_freed_memory(model: impl FnOnce()) {
    KEEP.set(true);
    let said = catch_unwind(AssertUnwindSafe(|| caught(model))).unwrap_err();
    KEEP.set(false);
    resume_unwind(said);
}

fn caught_without(barrier: Barrier, model: impl FnOnce()) {
    caught_in_freed_memory(|| without(barrier, model));
}

loom::lazy_static! {
    /// One slot for each of two CPUs.
    static ref SLOTS: [CpuSlots; 2] = [CpuSlots::new(), CpuSlots::new()];
}

loom::thread_local! {
    static CPU: Cell<usize> = Cell::new(0);
}

struct TwoCpus;

impl HazardSlots for TwoCpus {
    fn slots() -> &'static [CpuSlots] {
        &*SLOTS
    }
    fn cpu() -> usize {
        CPU.with(Cell::get)
    }
}

/// A lock that orders its holders and no other thread. Loom's mutex is a full fence, which would
/// hide a barrier that readers without the lock need.
struct SpinLock(OnceLock<AtomicBool>);

impl SpinLock {
    fn taken(&self) -> &AtomicBool {
        self.0.get_or_init(|| AtomicBool::new(false))
    }
}

// SAFETY: one thread at a time turns `false` to `true`.
unsafe impl lock_api::RawMutex for SpinLock {
    const INIT: Self = SpinLock(OnceLock::new());
    type GuardMarker = lock_api::GuardSend;

    fn lock(&self) {
        while !self.try_lock() {
            thread::yield_now();
        }
    }
    fn try_lock(&self) -> bool {
        !self.taken().swap(true, Ordering::Acquire)
    }
    unsafe fn unlock(&self) {
        self.taken().store(false, Ordering::Release);
    }
}

type Hazard<R> = HazardCell<TwoCpus, R, Mortal>;

fn mortal(value: u32) -> smmu_invs::HazardNode<Mortal> {
    let mortal = Mortal(UnsafeCell::new(0));
    // SAFETY: loom checks the access. A reader must see it.
    mortal.0.with_mut(|at| unsafe { *at = value });
    Hazard::<Lock>::node(mortal).unwrap()
}

/// A cell whose lock is made before another thread starts.
fn hazard<R: lock_api::RawMutex>() -> Arc<Hazard<R>> {
    let cell = Arc::new(Hazard::new(mortal(1)));
    assert_eq!(cell.reclaim(), 0);
    cell
}

/// A reader on `cpu`, which reads `times` times.
fn reader<R>(cell: &Arc<Hazard<R>>, cpu: usize, times: usize) -> thread::JoinHandle<()>
where
    R: lock_api::RawMutex + Send + Sync + 'static,
{
    let cell = Arc::clone(cell);
    thread::spawn(move || {
        CPU.with(|at| at.set(cpu));
        let mut last = 1;
        for _ in 0..times {
            let guard = cell.read();
            assert!(last <= guard.look(), "an old value after a newer one");
            last = guard.look();
        }
    })
}

/// A writer beside one reader.
fn hazard_race(times: usize) {
    check(move || {
        let cell = hazard::<SpinLock>();
        let reader = reader(&cell, 1, times);
        cell.publish(mortal(2));
        reader.join().unwrap();
        assert_eq!((cell.read().look(), cell.reclaim()), (2, 0));
    });
}

#[test]
fn hazard_steps_1_to_6_no_value_is_freed_under_a_reader() {
    hazard_race(1);
    hazard_race(2);
}

#[test]
#[should_panic(expected = "the checker says")]
fn hazard_step_2_without_the_readers_barrier_a_value_is_freed_under_it() {
    caught_without(Barrier::HazardReader, || hazard_race(1));
}

#[test]
#[should_panic(expected = "the checker says")]
fn hazard_step_3_without_the_release_a_reader_sees_no_whole_value() {
    caught_without(Barrier::HazardPublish, || hazard_race(1));
}

#[test]
#[should_panic(expected = "the checker says")]
fn hazard_step_3_without_the_writers_barrier_a_value_is_freed_under_a_reader() {
    caught_without(Barrier::HazardWriter, || hazard_race(1));
}

#[test]
#[should_panic(expected = "the checker says")]
fn hazard_step_4_without_the_acquire_a_value_is_freed_too_early() {
    caught_without(Barrier::HazardScan, || hazard_race(1));
}

#[test]
#[should_panic(expected = "the checker says")]
fn hazard_step_6_without_the_release_a_value_is_freed_too_early() {
    caught_without(Barrier::HazardLeave, || hazard_race(1));
}

/// A writer beside two readers that want the one slot of their CPU. The second takes it over from
/// the first, or finds it taken and counts a reference, as an interrupt handler would.
fn one_slot_for_two() {
    check(|| {
        let cell = hazard::<Lock>();
        let readers = [reader(&cell, 1, 1), reader(&cell, 1, 1)];
        cell.publish(mortal(2));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!((cell.read().look(), cell.reclaim()), (2, 0));
    });
}

#[test]
fn hazard_steps_6_and_7_two_readers_share_a_slot() {
    one_slot_for_two();
}

#[test]
#[should_panic(expected = "the checker says")]
fn hazard_step_7_without_the_release_of_the_count_a_value_is_freed_under_a_reader() {
    caught_in_freed_memory(|| count::without(count::Barrier::CountRelease, one_slot_for_two));
}

/// A writer beside a reader that already uses the slot of its CPU: an interrupt handler reads while
/// the interrupted code does. A second writer, which frees only what no reader uses, runs last.
#[test]
fn hazard_step_7_a_reader_inside_a_reader() {
    check(|| {
        let cell = hazard::<Lock>();
        let nested = thread::spawn({
            let cell = Arc::clone(&cell);
            move || {
                CPU.with(|at| at.set(1));
                let outer = cell.read();
                let inner = cell.read();
                assert!(outer.look() <= inner.look());
                drop(outer);
                assert!(inner.look() > 0);
            }
        });
        cell.publish(mortal(2));
        assert!(cell.reclaim() <= 1);
        nested.join().unwrap();
        cell.publish(mortal(3));
        assert_eq!((cell.read().look(), cell.reclaim()), (3, 0));
    });
}

/// Two writers and a reader: each writer frees what it took from the list, once.
#[test]
fn hazard_step_4_two_writers_and_a_reader() {
    check(|| {
        let cell = hazard::<Lock>();
        let reader = reader(&cell, 1, 1);
        let writer = thread::spawn({
            let cell = Arc::clone(&cell);
            move || cell.publish(mortal(2))
        });
        cell.publish(mortal(2));
        reader.join().unwrap();
        writer.join().unwrap();
        assert_eq!((cell.read().look(), cell.reclaim()), (2, 0));
    });
}

/// The guarantee of `Publication` holds with this cell, not only with a pointer that nothing frees.
#[test]
fn steps_1_to_6_an_attach_is_not_missed_with_hazard_slots() {
    check(|| {
        let cell = cell::<HazardCell<TwoCpus, Lock, InvArray>>(&[]);
        assert_eq!(cell.reclaim(), 0);
        race(Hardware::new(0), cell, |hardware, cell, _| {
            CPU.with(|at| at.set(1));
            let merged = cell.read().merge(&tag()).unwrap();
            cell.publish(HazardCell::<TwoCpus, Lock, _>::node(merged).unwrap());
            fence(Ordering::SeqCst);
            hardware.ste.store(1, Ordering::Release);
        });
    });
}
