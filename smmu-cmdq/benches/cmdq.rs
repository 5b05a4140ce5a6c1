//! The time of queueing: against a mutex around a ring, and against a spinlock.
//!
//!     cargo bench -p smmu-cmdq
//!
//! The SMMU of these figures consumes each command at the write of `CMDQ_PROD`. Its registers are
//! words of memory, and the memory's barriers are those of an x86 with coherent DMA. So the figures
//! are the cost of the queue alone.

mod instant;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use instant::{BenchMemory, BenchQueue, BenchRing, ENTRIES, InstantSmmu, SIZE, queue};

use smmu_cmdq::{CommandQueue, Port, QueueConfig, QueueError, SyncBy};
use smmu_measure::{BenchTable as Table, line_handoff, nanoseconds, nanoseconds_threads};
use smmu_types::queue::Position;
use smmu_types::range::{Extent, Plan, RangeSupport, plan};
use smmu_types::seam::{DmaBlock, Registers, StdWait};
use smmu_types::{Asid, Command, Granule, Iova, Leaf, MsiAttributes, RawCommand, SmmuId, Vmid};

/// The baseline, as hypervisors have it: a mutex around the positions, on the same memory and
/// registers.
struct MutexQueue {
    registers: InstantSmmu,
    memory: BenchMemory,
    positions: Mutex<(u64, u64)>,
}

impl MutexQueue {
    fn new() -> Self {
        MutexQueue {
            registers: InstantSmmu::default(),
            memory: BenchRing::new(),
            positions: Mutex::new((0, 0)),
        }
    }

    fn push(&self, commands: &[Command]) {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let (producer, consumer) = &mut *positions;
        while *producer + commands.len() as u64 - *consumer > ENTRIES as u64 {
            let register = self.registers.read32(Port::MAIN.consumer);
            match Position(*producer).consumer(SIZE, register) {
                Some(Position(now)) => *consumer = now,
                None => return,
            }
            self.memory.observe(0..0);
        }
        let first = Position(*producer).index(SIZE);
        for command in commands {
            let at = Position(*producer).index(SIZE) * 2;
            let [low, high] = command.encode().0;
            self.memory.words()[at].store(low, Ordering::Relaxed);
            self.memory.words()[at + 1].store(high, Ordering::Relaxed);
            *producer += 1;
        }
        self.memory.publish(first * 2..first * 2 + 2);
        self.registers.write32(Port::MAIN.producer, Position(*producer).pointer(SIZE));
    }
}

impl MutexQueue {
    /// Push a command and a `CMD_SYNC`, and wait until the SMMU has consumed both.
    fn run(&self, command: Command) {
        self.push(&[command, Command::SYNC]);
        let consumed = |end: u32| self.registers.read32(Port::MAIN.consumer) == end;
        let end = self.registers.read32(Port::MAIN.producer);
        while !consumed(end) && !consumed(self.registers.read32(Port::MAIN.producer)) {
            std::hint::spin_loop();
        }
        self.memory.observe(0..0);
    }
}

/// Another baseline: a ring under a spinlock, which copies ready words and never waits for room, since
/// its SMMU has always consumed everything.
struct SpinQueue {
    registers: InstantSmmu,
    memory: BenchMemory,
    locked: AtomicBool,
    producer: AtomicU32,
}

impl SpinQueue {
    fn new() -> Self {
        SpinQueue {
            registers: InstantSmmu::default(),
            memory: BenchRing::new(),
            locked: AtomicBool::new(false),
            producer: AtomicU32::new(0),
        }
    }

    fn push(&self, commands: &[RawCommand]) {
        while self
            .locked
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            std::hint::spin_loop();
        }
        let mut producer = self.producer.load(Ordering::Relaxed);
        for command in commands {
            let at = producer as usize % ENTRIES * 2;
            self.memory.words()[at].store(command.0[0], Ordering::Relaxed);
            self.memory.words()[at + 1].store(command.0[1], Ordering::Relaxed);
            producer = producer.wrapping_add(1);
        }
        self.memory.publish(0..0);
        self.producer.store(producer, Ordering::Relaxed);
        self.registers.write32(Port::MAIN.producer, producer & SIZE.pointer_mask());
        self.locked.store(false, Ordering::Release);
    }
}

const COMMANDS: [Command; 64] = [Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(7) }; 64];
/// Enough calls that the threads of a round overlap for nearly all of it.
const CALLS: u64 = 400_000;

const ENCODED: [RawCommand; 64] = [COMMANDS[0].encode(); 64];

fn pushes(queue: &BenchQueue, calls: u64, batch: usize) {
    for _ in 0..calls {
        let _ = black_box(&queue.push(None, black_box(&COMMANDS[..batch])));
    }
}

fn single() {
    let Some(queue) = queue(SyncBy::Polling) else { return };
    let locked = MutexQueue::new();
    let mut table = Table::new("one thread");
    let one = nanoseconds(CALLS, || pushes(&queue, CALLS, 1));
    table.row("one command", one).bar(35.0);
    let many = nanoseconds(CALLS / 16 * 64, || pushes(&queue, CALLS / 16, 64));
    table.row("64 commands, each", many).bar(4.0);
    let locked_many = nanoseconds(CALLS / 16 * 64, || {
        (0..CALLS / 16).for_each(|_| locked.push(black_box(&COMMANDS)));
    });
    table.row("64 commands under a mutex, each", locked_many);
    println!("{table}");
}

fn encoded() {
    let mut table = Table::new("one thread, ready words, a call");
    for batch in [1, 16, 64] {
        let Some(queue) = queue(SyncBy::Polling) else { return };
        let (spin, calls) = (SpinQueue::new(), CALLS / batch as u64);
        let ours = nanoseconds(calls, || {
            (0..calls).for_each(|_| {
                let _ = black_box(&queue.push_encoded(None, black_box(&ENCODED[..batch])));
            });
        });
        let theirs = nanoseconds(calls, || {
            (0..calls).for_each(|_| spin.push(black_box(&ENCODED[..batch])));
        });
        table.row(&format!("{batch} encoded"), ours).against("a ring under a spinlock", theirs);
        let typed = nanoseconds(calls, || pushes(&queue, calls, batch));
        table.row(&format!("{batch} typed"), typed).against("a ring under a spinlock", theirs);
    }
    println!("{table}");
}

fn against_a_mutex() {
    let mut table =
        Table::new("a call, against a mutex around the ring: time divided by all threads' calls");
    for threads in [1, 2] {
        for batch in [1, 16] {
            let Some(queue) = queue(SyncBy::Polling) else { return };
            let locked = MutexQueue::new();
            let ours = nanoseconds_threads(threads, CALLS, |_| pushes(&queue, CALLS, batch));
            let theirs = nanoseconds_threads(threads, CALLS, |_| {
                (0..CALLS).for_each(|_| locked.push(black_box(&COMMANDS[..batch])));
            });
            table
                .row(&format!("{}, batches of {batch}", with_threads(threads)), ours)
                .against_at_least("a mutex", theirs, 1.0);
        }
    }
    println!("{table}");
}

fn syncs_against_a_mutex() {
    let mut table = Table::new(
        "a command, its CMD_SYNC and the wait, against a mutex: time divided by all threads' calls",
    );
    for threads in [1, 2] {
        let Some(queue) = queue(SyncBy::Polling) else { return };
        let locked = MutexQueue::new();
        let ours = nanoseconds_threads(threads, CALLS, |_| {
            (0..CALLS).for_each(|_| {
                let _ = black_box(&queue.run(black_box(&COMMANDS[..1])));
            });
        });
        let theirs = nanoseconds_threads(threads, CALLS, |_| {
            (0..CALLS).for_each(|_| locked.run(black_box(COMMANDS[0])));
        });
        table.row(&with_threads(threads), ours).against("a mutex", theirs);
    }
    println!("{table}");
}

/// The number of threads for a row's title, with the present time of a cache line between two of
/// them.
fn with_threads(threads: usize) -> String {
    match threads {
        1 => "1 thread".to_owned(),
        _ => format!("{threads} threads (a cache line takes {:.0})", line_handoff()),
    }
}

fn scaling() {
    let mut table = Table::new("a call from 2 threads, against 1");
    for (batch, least) in [(1, 0.8), (16, 1.0)] {
        let Some(queue) = queue(SyncBy::Polling) else { return };
        let one = nanoseconds_threads(1, CALLS, |_| pushes(&queue, CALLS, batch));
        let two = nanoseconds_threads(2, CALLS, |_| pushes(&queue, CALLS, batch));
        table
            .row(&format!("{}, batches of {batch}", with_threads(2)), two)
            .against_at_least("1 thread", one, least);
    }
    println!("{table}");
}

fn planning() {
    let mut table = Table::new("planning a range, all its commands made");
    let page = 1 << 12;
    for (name, pages) in [("2 MiB", 512), ("1 GiB", 512 * 512), ("33 pages", 33)] {
        let rounds = 10_000;
        let time = nanoseconds(rounds, || {
            for _ in 0..rounds {
                let extent =
                    Extent::range(0x7000, black_box(pages) * page, Granule::K4, Leaf::Last)
                        .with_page_hint();
                match black_box(plan::<Iova>(RangeSupport::Ril, extent)) {
                    Plan::Spans(spans) => spans.for_each(|span| {
                        black_box(span);
                    }),
                    _ => unreachable!("a range of pages"),
                }
            }
        });
        table.row(name, time).bar(20.0);
    }
    println!("{table}");
}

/// The same SMMU with MSIs: it stores the position of each `CMD_SYNC` behind the ring.
struct InstantMsiSmmu {
    smmu: InstantSmmu,
    memory: BenchMemory,
    end: AtomicU32,
}

impl Registers for InstantMsiSmmu {
    fn read32(&self, offset: u32) -> u32 {
        self.smmu.read32(offset)
    }
    fn write32(&self, offset: u32, value: u32) {
        self.smmu.write32(offset, value);
        let end = self.end.load(Ordering::Relaxed);
        let end = end + (value.wrapping_sub(end) & SIZE.pointer_mask());
        self.end.store(end, Ordering::Relaxed);
        self.memory.words()[2 * ENTRIES].store(end.into(), Ordering::Relaxed);
    }
    fn read64(&self, offset: u32) -> u64 {
        self.smmu.read64(offset)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.smmu.write64(offset, value);
    }
}

fn runs<R: Registers, B: DmaBlock>(queue: &CommandQueue<R, B, StdWait>) -> f64 {
    nanoseconds(CALLS, || {
        (0..CALLS).for_each(|_| {
            let _ = black_box(&queue.run(&COMMANDS[..1]));
        });
    })
}

fn syncs() -> Result<(), QueueError> {
    let mut table = Table::new("a command, its CMD_SYNC, and the wait for it");
    let (msi, wait) = (SyncBy::Msi(MsiAttributes::WRITE_BACK), StdWait::new);
    let by = |sync_by| QueueConfig { sync_by, ..QueueConfig::default() };
    for (name, sync_by) in [
        ("by polling", SyncBy::Polling),
        ("by event", SyncBy::Event),
        ("by an MSI that is lost: the 64th look finds CMDQ_CONS", msi),
    ] {
        let (registers, memory) = (InstantSmmu::default(), BenchRing::new());
        let queue = CommandQueue::new(SmmuId(0), registers, memory, SIZE, wait(), by(sync_by))?;
        table.row(name, runs(&queue));
    }
    let memory = BenchRing::new();
    let registers = InstantMsiSmmu { smmu: InstantSmmu::default(), memory, end: AtomicU32::new(0) };
    let queue = CommandQueue::new(SmmuId(0), registers, memory, SIZE, wait(), by(msi))?;
    table.row("by an MSI", runs(&queue));
    println!("{table}");
    let bytes = size_of::<CommandQueue<InstantSmmu, BenchMemory, StdWait>>();
    println!("a queue of 1024 cells has {bytes} bytes beside its ring");
    Ok(())
}

fn main() -> Result<(), QueueError> {
    single();
    encoded();
    against_a_mutex();
    syncs_against_a_mutex();
    scaling();
    planning();
    syncs()
}
