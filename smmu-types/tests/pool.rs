//! The pool as a board uses it: barriers and cache lines of its window, a lock that masks
//! interrupts, memory that runs out.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(unsafe_code, reason = "a window, a lock and an allocator of the tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use rstest::rstest;
use smmu_types::PhysAddr;
use smmu_types::fake::FakeRegisters;
use smmu_types::pool::{HeapWindow, Pool, Window};
use smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory, Registers};

const BASE: PhysAddr = PhysAddr(0x8000_0000);

fn layout(bytes: u64) -> DmaLayout {
    DmaLayout::new(bytes, 8).unwrap()
}

fn words(bytes: usize) -> Vec<AtomicU64> {
    (0..bytes / 8).map(|_| AtomicU64::new(0)).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Publish(Range<usize>),
    Observe(Range<usize>),
    FullBarrier,
}

/// A window with barriers of its own, which it records.
struct OwnBarriers {
    words: Vec<AtomicU64>,
    line: u64,
    calls: Mutex<Vec<Call>>,
}

impl OwnBarriers {
    fn pool(line: u64) -> Pool<Self> {
        Pool::new(OwnBarriers { words: words(0x1000), line, calls: Mutex::default() })
    }

    fn record(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

// SAFETY: no SMMU uses this memory.
unsafe impl Window for OwnBarriers {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }
    fn base(&self) -> PhysAddr {
        BASE
    }
    fn line_bytes(&self) -> u64 {
        self.line
    }
    fn publish(&self, words: Range<usize>) {
        self.record(Call::Publish(words));
    }
    fn observe(&self, words: Range<usize>) {
        self.record(Call::Observe(words));
    }
    fn full_barrier(&self) {
        self.record(Call::FullBarrier);
    }
}

#[test]
fn every_barrier_of_pool_and_block_is_the_windows() {
    let pool = OwnBarriers::pool(64);
    let before = pool.allocate(layout(0x100)).unwrap();
    let block = pool.allocate(layout(0x80)).unwrap();
    // The zeroes of each block are published, and of nothing else.
    assert_eq!(pool.window().take(), [Call::Publish(0..0x20), Call::Publish(0x20..0x30)]);
    block.publish(2..4);
    block.observe(0..0);
    block.observe(14..16);
    pool.full_barrier();
    let calls = [
        Call::Publish(0x22..0x24),
        Call::Observe(0x20..0x20),
        Call::Observe(0x2e..0x30),
        Call::FullBarrier,
    ];
    assert_eq!(pool.window().take(), calls);
    // No range reaches into another block, whatever a caller asks for.
    block.publish(0..usize::MAX);
    before.observe(0x1f..0x40);
    assert_eq!(pool.window().take(), [Call::Publish(0x20..0x30), Call::Observe(0x1f..0x20)]);
    drop((before, block));
    assert_eq!(pool.window().take(), []);
}

/// Memory of an SMMU that does not snoop: the CPU has a copy of each line, and writes it back as a
/// whole.
struct NonCoherent {
    cpu: Vec<AtomicU64>,
    memory: Vec<AtomicU64>,
    line: u64,
}

impl NonCoherent {
    fn lines(&self, words: Range<usize>) -> Range<usize> {
        let line = (self.line / 8) as usize;
        words.start / line * line..words.end.next_multiple_of(line)
    }
}

// SAFETY: no SMMU uses this memory.
unsafe impl Window for NonCoherent {
    fn words(&self) -> &[AtomicU64] {
        &self.cpu
    }
    fn base(&self) -> PhysAddr {
        BASE
    }
    fn line_bytes(&self) -> u64 {
        self.line
    }
    fn publish(&self, words: Range<usize>) {
        for word in self.lines(words) {
            self.memory[word].store(self.cpu[word].load(Relaxed), Relaxed);
        }
    }
    fn observe(&self, words: Range<usize>) {
        for word in self.lines(words) {
            self.cpu[word].store(self.memory[word].load(Relaxed), Relaxed);
        }
    }
}

/// The SMMU stores an event into one block; then the driver publishes a command in the next.
#[rstest]
fn publishing_one_block_overwrites_nothing_that_the_smmu_stored_in_another(
    #[values(64, 128, 256)] line: u64,
    #[values(8, 64, 100)] bytes: u64,
) {
    let bytes_in_all = 0x1000;
    let (cpu, memory) = (words(bytes_in_all), words(bytes_in_all));
    let pool = Pool::new(NonCoherent { cpu, memory, line });
    let (events, commands) =
        (pool.allocate(layout(bytes)).unwrap(), pool.allocate(layout(bytes)).unwrap());
    let event = (events.address().0 - BASE.0) as usize / 8;
    pool.window().memory[event].store(0x10, Relaxed);
    commands.words()[0].store(0x46, Relaxed);
    commands.publish(0..1);
    events.observe(0..1);
    assert_eq!(events.words()[0].load(Relaxed), 0x10);
    let command = (commands.address().0 - BASE.0) as usize / 8;
    assert_eq!(pool.window().memory[command].load(Relaxed), 0x46);
    drop((events, commands));
    assert_eq!(pool.free_bytes(), bytes_in_all as u64);
}

/// A window whose line is no power of two, or too small: the blocks are still disjoint.
#[rstest]
#[case(0, 64)]
#[case(8, 64)]
#[case(96, 128)]
#[case(u64::MAX, 64)]
fn a_line_that_makes_no_sense_is_rounded(#[case] line: u64, #[case] apart: u64) {
    let pool = OwnBarriers::pool(line);
    let first = pool.allocate(layout(8)).unwrap();
    let second = pool.allocate(layout(8)).unwrap();
    assert_eq!(second.address().0 - first.address().0, apart);
}

thread_local! {
    /// Whether this thread holds a lock under which it may not allocate.
    static MASKED: Cell<bool> = const { Cell::new(false) };
    static ALLOCATED_MASKED: Cell<u32> = const { Cell::new(0) };
}

struct Watched;

fn watch() {
    // Ignores threads that end.
    let _ = MASKED.try_with(|masked| {
        if masked.get() {
            ALLOCATED_MASKED.set(ALLOCATED_MASKED.get() + 1);
        }
    });
}

// SAFETY: passes each call on to the system's allocator.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        watch();
        // SAFETY: as the caller vouches.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        watch();
        // SAFETY: as the caller vouches.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        watch();
        // SAFETY: as the caller vouches.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static WATCHED: Watched = Watched;

/// A lock that spins with interrupts masked.
struct Masking(AtomicBool);

// SAFETY: a caller gets the lock only if it changes `false` to `true`, which only the holder undoes.
unsafe impl lock_api::RawMutex for Masking {
    const INIT: Self = Masking(AtomicBool::new(false));
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        while !self.try_lock() {
            thread::yield_now();
        }
    }
    fn try_lock(&self) -> bool {
        let taken = !self.0.swap(true, std::sync::atomic::Ordering::Acquire);
        if taken {
            MASKED.set(true);
        }
        taken
    }
    unsafe fn unlock(&self) {
        MASKED.set(false);
        self.0.store(false, std::sync::atomic::Ordering::Release);
    }
}

type MaskedPool = Pool<HeapWindow, Masking>;

#[test]
fn no_call_allocates_under_the_lock_and_no_drop_needs_memory() {
    let pool = MaskedPool::with_lock(HeapWindow::new(BASE, 0x1_0000));
    let all = pool.free_bytes();
    let mut blocks = Vec::new();
    while let Ok(block) = pool.allocate(layout(64)) {
        blocks.push(block);
    }
    assert_eq!(blocks.len(), 1024);
    // Every second one: as many free ranges as there can be.
    let mut keep = false;
    blocks.retain(|_| {
        keep = !keep;
        keep
    });
    assert_eq!(pool.free_bytes(), all / 2);
    assert!(pool.allocate(layout(128)).is_err(), "no two lines in a row are free");
    drop(blocks);
    assert_eq!(pool.free_bytes(), all);
    assert!(pool.allocate(DmaLayout::naturally_aligned(all).unwrap()).is_ok());
    assert_eq!(ALLOCATED_MASKED.get(), 0);
}

#[test]
fn threads_share_a_pool_and_each_block_has_one_owner() {
    let pool = Arc::new(MaskedPool::with_lock(HeapWindow::new(BASE, 0x4000)));
    let all = pool.free_bytes();
    thread::scope(|scope| {
        for owner in 1..=4 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..2_000 {
                    let bytes = 64 << (round % 5);
                    let block = match pool.allocate(DmaLayout::naturally_aligned(bytes).unwrap()) {
                        Ok(block) => block,
                        Err(DmaError { .. }) => continue,
                    };
                    for word in block.words() {
                        assert_eq!(word.load(Relaxed), 0);
                        word.store(owner, Relaxed);
                    }
                    thread::yield_now();
                    assert!(block.words().iter().all(|word| word.load(Relaxed) == owner));
                }
                assert_eq!(ALLOCATED_MASKED.get(), 0);
            });
        }
    });
    assert_eq!(pool.free_bytes(), all);
}

#[test]
fn shared_registers_are_registers() {
    fn write(registers: impl Registers) {
        registers.write32(0x20, 1);
    }
    let registers = Arc::new(FakeRegisters::new());
    write(Arc::clone(&registers));
    assert_eq!(registers.get(0x20), 1);
}
