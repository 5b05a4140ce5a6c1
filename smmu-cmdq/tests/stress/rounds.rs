//! One queue, its callers and its SMMU, from the first command to the last.

use std::fmt;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use smmu_cmdq::{QueueConfig, SyncBy};
use smmu_types::queue::QueueSize;
use smmu_types::seam::StdWait;
use smmu_types::{MsiAttributes, SmmuId};

use crate::caller::{Caller, CallerHabits, CallerReport, EventCountingClock, StressQueue};
use crate::device::{SmmuHabits, SmmuLog, StressRegisters, StressSmmu};
use crate::memory::{StressMemory, StressRing};
use crate::random::XorShift;
use crate::verify::FinishedRound;

/// Longer than any pause of the test's SMMU on a slow machine. A wait this long is a hang.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The choices for a round, made from its seed.
#[derive(Debug)]
pub(crate) struct RoundPlan {
    seed: u64,
    size: QueueSize,
    pub(crate) cells: usize,
    callers: usize,
    sync_by: SyncBy,
    sync_every: Option<u32>,
    has_handler: bool,
    habits: CallerHabits,
}

impl RoundPlan {
    /// The maximum number of commands in flight.
    fn depth(&self) -> u64 {
        u64::from(self.size.entries()).min(self.cells as u64)
    }

    /// After so many rounds, every size had one. After four times as many, every size with every
    /// number of cells.
    pub(crate) const SIZES: u64 = 12;

    pub(crate) fn of(seed: u64) -> Self {
        let mut random = XorShift::new(seed);
        let log2 = 1 + (seed % Self::SIZES) as u8;
        let entries = 1u64 << log2;
        let attributes = MsiAttributes::WRITE_BACK;
        RoundPlan {
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
            habits: CallerHabits {
                commands: 300 + entries + random.below(entries),
                longest: entries * 2,
                failures: [40, 150, 600][random.below(3) as usize],
            },
        }
    }
}

/// Counts over all rounds.
#[derive(Debug, Default)]
pub(crate) struct RoundTally {
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

impl AddAssign for RoundTally {
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

impl fmt::Display for RoundTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} commands of {} calls, {} waits ({} with too many failures); \
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

/// Sets a flag when it is dropped, also by a panic.
struct SetOnDrop<'f>(&'f AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

pub(crate) fn round<const CELLS: usize>(plan: &RoundPlan) -> RoundTally {
    println!("{plan:?}");
    // One more caller fills the ring at the end.
    let memory = StressMemory::new(plan.size.entries() as usize, plan.callers + 1);
    let device =
        StressSmmu { registers: StressRegisters::default(), memory: &memory, size: plan.size };
    let events = AtomicU64::new(0);
    let config = QueueConfig {
        timeout: TIMEOUT,
        sync_by: plan.sync_by,
        sync_every: plan.sync_every.and_then(std::num::NonZeroU32::new),
        ..QueueConfig::default()
    };
    let wait = EventCountingClock { std: StdWait::new(), events: &events };
    let (registers, ring) = (&device.registers, StressRing(&memory));
    let queue: StressQueue<'_, CELLS> =
        StressQueue::with_cells(SmmuId(0), registers, ring, plan.size, wait, config).unwrap();
    let (log, reports) = play(plan, &device, &queue);

    assert_eq!(device.registers.wrongs(), [""; 0]);
    let round = FinishedRound {
        log: &log.entries,
        failed: &log.failed,
        reports: &reports,
        sync_every: plan.sync_every,
    };
    round.verify();
    let (counts, failures) = (queue.failure_counts(), round.failures());
    assert_eq!(counts.total, failures.refused + failures.late);
    assert_eq!(counts.retried, log.aborts);
    let is_event = plan.sync_by == SyncBy::Event;
    let sent = device.registers.events.load(Relaxed);
    assert_eq!((sent > 0, events.load(Relaxed) > 0 && !is_event), (is_event, false));
    let results = || reports.iter().flat_map(|report| &report.results);
    RoundTally {
        commands: log.entries.len() as u64,
        calls: reports.iter().map(|report| report.calls.len() as u64).sum(),
        waits: results().count() as u64,
        crowded: results().filter(|result| result.is_crowded()).count() as u64,
        refused: failures.refused,
        aborted: log.aborts,
        devices_late: failures.late,
        msis: log.msis,
        lost_msis: log.lost_msis,
    }
}

/// Run all threads, and wait for the last.
fn play<'d, const CELLS: usize>(
    plan: &RoundPlan,
    device: &'d StressSmmu<'d>,
    queue: &StressQueue<'d, CELLS>,
) -> (SmmuLog, Vec<CallerReport>) {
    let random = |who: u64| XorShift::new(plan.seed << 8 | who);
    let mut habits = random(0xff);
    let habits = SmmuHabits {
        stalls: 1 + habits.below(40),
        aborts: 20 + habits.below(200),
        refused_syncs: plan.habits.failures * 4,
        lost_msis: 10 + habits.below(100),
        random: habits,
    };
    let callers_are_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let smmu = scope.spawn(|| device.work(habits));
        let stop = SetOnDrop(&device.registers.stop);
        // Every thread is joined by its handle, which ThreadSanitizer knows, unlike the end of a
        // scope.
        let handler = plan.has_handler.then(|| {
            scope.spawn(|| {
                while !callers_are_done.load(Relaxed) {
                    queue.handle_gerror();
                    queue.handle_global_errors();
                    queue.with_registers(|registers| registers.acknowledge_foreign());
                    thread::yield_now();
                }
            })
        });
        let ends = SetOnDrop(&callers_are_done);
        let callers: Vec<_> = (0..plan.callers)
            .map(|who| Caller::new(queue, device, who, plan.habits, random(who as u64)))
            .map(|caller| scope.spawn(|| caller.work()))
            .collect();
        // The SMMU continues until the last caller has ended, also by a panic.
        let reports: Vec<_> = callers.into_iter().map(|caller| caller.join()).collect();
        drop(ends);
        let last = Caller::new(queue, device, plan.callers, plan.habits, random(0xfe));
        let last = scope.spawn(|| last.fill_the_ring(plan.depth() - 1));
        let reports = reports.into_iter().chain([last.join()]);
        handler.into_iter().for_each(|handler| handler.join().unwrap());
        drop(stop);
        let reports = reports.map(|report| report.unwrap()).collect();
        (smmu.join().unwrap(), reports)
    })
}
