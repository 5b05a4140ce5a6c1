//! One queue, its callers and its SMMU, from the first command to the last.

use std::fmt;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use smmu_cmdq::{QueueConfig, Reserve, SyncBy};
use smmu_types::queue::QueueSize;
use smmu_types::seam::StdWait;
use smmu_types::{MsiAttributes, SmmuId};

use crate::caller::{Caller, Clock, Habits, Queue, Report};
use crate::device::{Device, Log, Manner, Registry};
use crate::memory::{Memory, Ring};
use crate::random::Random;
use crate::verify::Round;

/// Longer than any stall of the test's own SMMU, on however slow a machine: whoever waits for that long, hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Everything that is decided about a round beforehand.
#[derive(Debug)]
pub(crate) struct Kind {
    seed: u64,
    size: QueueSize,
    pub(crate) cells: usize,
    callers: usize,
    sync_by: SyncBy,
    sync_every: Option<u32>,
    has_handler: bool,
    habits: Habits,
}

impl Kind {
    /// Commands that are in the ring at once.
    fn depth(&self) -> u64 {
        u64::from(self.size.entries()).min(self.cells as u64)
    }

    /// Rounds after which there was every size; after four times as many, each with every number of cells.
    pub(crate) const SIZES: u64 = 12;

    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let log2 = 1 + (seed % Self::SIZES) as u8;
        let entries = 1u64 << log2;
        let attributes = MsiAttributes::WRITE_BACK;
        Kind {
            seed,
            size: QueueSize::from_log2(log2).unwrap(),
            cells: [2, 4, 16, 1024][((seed + seed / Self::SIZES) % 4) as usize],
            callers: 2 + random.below(3) as usize,
            sync_by: [
                SyncBy::Polling,
                SyncBy::Msi(attributes),
                SyncBy::Msi(attributes),
                SyncBy::Event,
            ][random.below(4) as usize],
            sync_every: [Some(1), Some(3), Some(63), None, None, None][random.below(6) as usize],
            has_handler: random.once_in(2),
            habits: Habits {
                commands: 300 + entries + random.below(entries),
                longest: entries * 2,
                failures: [40, 150, 600][random.below(3) as usize],
            },
        }
    }
}

/// What there was in a number of rounds.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) commands: u64,
    pub(crate) calls: u64,
    pub(crate) waits: u64,
    pub(crate) crowded: u64,
    pub(crate) refused: u64,
    pub(crate) aborted: u64,
    pub(crate) devices_late: u64,
    pub(crate) msis: u64,
    pub(crate) lost_msis: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.commands += other.commands;
        self.calls += other.calls;
        self.waits += other.waits;
        self.crowded += other.crowded;
        self.refused += other.refused;
        self.aborted += other.aborted;
        self.devices_late += other.devices_late;
        self.msis += other.msis;
        self.lost_msis += other.lost_msis;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} commands of {} calls, {} waits ({} told of too many failures); \
             {} CERROR_ILL, {} CERROR_ABT, {} CERROR_ATC_INV_SYNC; {} MSIs and {} lost",
            self.commands,
            self.calls,
            self.waits,
            self.crowded,
            self.refused,
            self.aborted,
            self.devices_late,
            self.msis,
            self.lost_msis
        )
    }
}

/// Sets a flag in the end, even if that is a panic.
struct Ends<'f>(&'f AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

pub(crate) fn round<S: Reserve, const CELLS: usize>(kind: &Kind, strategy: &str) -> Tally {
    println!("{strategy}: {kind:?}");
    // One more for what comes in the end.
    let memory = Memory::new(kind.size.entries() as usize, kind.callers + 1);
    let device = Device { registry: Registry::default(), memory: &memory, size: kind.size };
    let events = AtomicU64::new(0);
    let config = QueueConfig {
        timeout: TIMEOUT,
        sync_by: kind.sync_by,
        sync_every: kind.sync_every.and_then(std::num::NonZeroU32::new),
        ..QueueConfig::default()
    };
    let wait = Clock { std: StdWait::new(), events: &events };
    let (registry, ring) = (&device.registry, Ring(&memory));
    let queue: Queue<'_, S, CELLS> =
        Queue::reserving(SmmuId(0), registry, ring, kind.size, wait, config).unwrap();
    let (log, reports) = play(kind, &device, &queue);

    assert_eq!(device.registry.wrongs(), [""; 0]);
    let round = Round {
        log: &log.entries,
        failed: &log.failed,
        reports: &reports,
        sync_every: kind.sync_every,
    };
    round.verify();
    let (counts, failures) = (queue.failure_counts(), round.failures());
    assert_eq!(counts.total, failures.refused + failures.late);
    assert_eq!(counts.retried, log.aborts);
    let is_event = kind.sync_by == SyncBy::Event;
    let sent = device.registry.events.load(Relaxed);
    assert_eq!((sent > 0, events.load(Relaxed) > 0 && !is_event), (is_event, false));
    let told = || reports.iter().flat_map(|report| &report.told);
    Tally {
        commands: log.entries.len() as u64,
        calls: reports.iter().map(|report| report.calls.len() as u64).sum(),
        waits: told().count() as u64,
        crowded: told().filter(|told| told.is_crowded()).count() as u64,
        refused: failures.refused,
        aborted: log.aborts,
        devices_late: failures.late,
        msis: log.msis,
        lost_msis: log.lost_msis,
    }
}

/// Let everybody loose, and wait for the last.
fn play<'d, S: Reserve, const CELLS: usize>(
    kind: &Kind,
    device: &'d Device<'d>,
    queue: &Queue<'d, S, CELLS>,
) -> (Log, Vec<Report>) {
    let random = |who: u64| Random::new(kind.seed << 8 | who);
    let mut manner = random(0xff);
    let manner = Manner {
        stalls: 1 + manner.below(40),
        aborts: 20 + manner.below(200),
        refused_syncs: kind.habits.failures * 4,
        lost_msis: 10 + manner.below(100),
        random: manner,
    };
    let callers_are_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| device.work(manner));
        let stop = Ends(&device.registry.stop);
        // Every thread is joined by its handle, which ThreadSanitizer knows, unlike the end of a scope.
        let handler = kind.has_handler.then(|| {
            scope.spawn(|| {
                while !callers_are_done.load(Relaxed) {
                    queue.handle_gerror();
                    queue.with_registers(|registers| registers.acknowledge_foreign());
                    thread::yield_now();
                }
            })
        });
        let ends = Ends(&callers_are_done);
        let callers: Vec<_> = (0..kind.callers)
            .map(|who| Caller::new(queue, device, who, kind.habits, random(who as u64)))
            .map(|caller| scope.spawn(|| caller.work()))
            .collect();
        // The SMMU goes on until the last of them has ended, by whatever.
        let reports: Vec<_> = callers.into_iter().map(|caller| caller.join()).collect();
        drop(ends);
        let last = Caller::new(queue, device, kind.callers, kind.habits, random(0xfe));
        let last = scope.spawn(|| last.fill_the_ring(kind.depth() - 1));
        let reports = reports.into_iter().chain([last.join()]);
        handler.into_iter().for_each(|handler| handler.join().unwrap());
        drop(stop);
        let reports = reports.map(|report| report.unwrap()).collect();
        (worker.join().unwrap(), reports)
    })
}
