//! Rates of the driver on this board: commands and unmaps per second, on 1, 2, 4 CPUs and so on.
//!
//! The program fails if a command fails. It judges no rate: README.md has figures of one machine,
//! and the command that prints them.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hint::spin_loop;
use core::iter::successors;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use smmu_board::bare::composition::{self, BoardPlatform, MemoryBlock};
use smmu_board::bare::cpus::OtherCpu;
use smmu_board::bare::failure::Failure;
use smmu_board::bare::report::step;
use smmu_board::bare::{Board, cpu};
use smmu_board::page_tables::{Access, PAGE, PageTables};
use smmu_board::timer::GenericTimer;
use smmu_board::{bare_main, say};
use smmu_driver::smmu_attach::Outcome;
use smmu_driver::{Domain, Driver};
use smmu_types::range::Extent;
use smmu_types::range::Span;
use smmu_types::seam::{CommandSink, DmaBlock, DmaLayout, DmaMemory, Ticks, Wait, poll};
use smmu_types::{Asid, Command, FieldError, Granule, Iova, Leaf, SmmuId, StreamId, Vmid};

bare_main!(rates);

/// Measurements of each kind. The best counts, because other programs of a host only slow one.
const ROUNDS: usize = 5;
/// The length of one, unless the command line says `milliseconds=N`.
const MILLISECONDS: u32 = 100;
const LONGEST: u32 = 10_000;
/// How long the other CPUs may take to start.
const PATIENCE: Duration = Duration::from_secs(10);
const SMMU: SmmuId = SmmuId(0);
const BATCH: u64 = 64;
/// The driver gives out low ASIDs first. SMMUs with 8-bit ASIDs have this one too.
const UNUSED_ASID: Asid = Asid(255);
const STREAM: StreamId = StreamId(8);
/// Each CPU unmaps in 2 MiB of its own, a GiB apart.
const PAGES: u64 = 0x8_0000_0000;
const APART: u64 = 1 << 30;
const PAGES_PER_CPU: u64 = 512;

/// What is measured.
#[derive(Clone, Copy, Debug)]
enum Job {
    /// One `TLBI_NH_VA` and its `CMD_SYNC`.
    One,
    /// 64 `TLBI_NH_VA` and a `CMD_SYNC`.
    Batch,
    /// A page mapped, unmapped and invalidated.
    Unmap,
}

impl Job {
    const ALL: [Job; 3] = [Job::One, Job::Batch, Job::Unmap];
}

/// What all CPUs use.
struct Shared {
    driver: Driver<BoardPlatform>,
    domain: Domain<BoardPlatform>,
    page: MemoryBlock,
    batch: Vec<Command>,
}

impl Shared {
    /// Does it once, and returns how much of it that was.
    fn once(&self, job: Job, cpu: u64, n: u64) -> Result<u64, Failure> {
        let iova = Iova(PAGES + cpu * APART + n % PAGES_PER_CPU * PAGE);
        match job {
            Job::One => {
                let _proof = self.driver.sink().run(SMMU, &[tlbi(iova)?])?;
                Ok(2)
            }
            Job::Batch => {
                let _proof = self.driver.sink().run(SMMU, &self.batch)?;
                Ok(self.batch.len() as u64 + 1)
            }
            Job::Unmap => {
                let tables = self.domain.tables();
                tables.map(iova, self.page.address(), Access::ReadWrite)?;
                tables.unmap(iova);
                self.domain.invalidate(Extent::range(iova.0, PAGE, Granule::K4, Leaf::Last))?;
                Ok(1)
            }
        }
    }
}

/// An invalidation of a page. It finds no entry.
fn tlbi(iova: Iova) -> Result<Command, FieldError> {
    let span = Span::single(iova, Leaf::Last)?;
    Ok(Command::TlbiNhVa { vmid: Vmid(0), asid: UNUSED_ASID, span })
}

/// One measurement.
#[derive(Default)]
struct Round {
    ready: AtomicU32,
    /// The tick at which it ends; 0 until it begins.
    until: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Round {
    /// The part of one CPU.
    fn work(&self, shared: &Shared, job: Job) {
        let cpu = cpu::number() as u64;
        self.ready.fetch_add(1, Ordering::Release);
        let until = loop {
            match self.until.load(Ordering::Acquire) {
                0 => spin_loop(),
                until => break until,
            }
        };
        let (mut done, mut n) = (0, 0);
        while GenericTimer.ticks().count < until {
            match shared.once(job, cpu, n) {
                Ok(count) => done += count,
                Err(_) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            n += 1;
        }
        self.done.fetch_add(done, Ordering::Relaxed);
    }
}

/// Events per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rate(u64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} k", self.0 / 1000)
    }
}

/// How often per second this CPU and `others` do a job.
fn measure(
    shared: &Arc<Shared>,
    others: &mut [OtherCpu],
    job: Job,
    milliseconds: u32,
) -> Result<Rate, Failure> {
    let round = Arc::new(Round::default());
    for other in &mut *others {
        let (shared, round) = (Arc::clone(shared), Arc::clone(&round));
        // SAFETY: the work borrows nothing.
        if unsafe { other.start(Box::new(move || round.work(&shared, job))) }.is_err() {
            return Err(Failure::of("PSCI does not start a CPU"));
        }
    }
    let all = others.len() as u32;
    let ready = || (round.ready.load(Ordering::Acquire) == all).then_some(());
    poll(&GenericTimer, PATIENCE, ready)?;
    let Ticks { count, hz } = GenericTimer.ticks();
    let length = u64::from(hz) * u64::from(milliseconds) / 1000;
    round.until.store(count + length, Ordering::Release);
    round.work(shared, job);
    for other in others {
        other.wait_until_off();
    }
    match round.failed.load(Ordering::Relaxed) {
        0 => Ok(Rate(round.done.load(Ordering::Relaxed) * 1000 / u64::from(milliseconds))),
        failed => Err(Failure(format!("{job:?}: {failed} commands or unmaps failed"))),
    }
}

fn rates(board: Board) -> Result<(), Failure> {
    step(&"start the SMMUs");
    // SAFETY: called once.
    let memory = unsafe { composition::memory(&board) };
    let Board { machine, .. } = board;
    let milliseconds = milliseconds(machine.command_line)?;
    // SAFETY: called once.
    let driver = unsafe { composition::start(&machine, memory.clone()) }?;

    step(&"attach");
    let count = machine.cpus.len();
    let tables = PageTables::new(&memory, 1 + 2 * count, memory.window().coherency())?;
    let domain = driver.domain(tables)?;
    // No device masters with this StreamID here; the domain needs a tag to invalidate.
    let device = driver.add_device(SMMU, &[STREAM])?;
    if device.attach(&domain)? != Outcome::Done {
        return Err(Failure::expected("the attach is confirmed"));
    }
    let layout = DmaLayout::new(PAGE, PAGE).ok_or_else(|| Failure::of("no such layout"))?;
    let page = memory.allocate(layout)?;
    let batch: Result<_, _> = (0..BATCH).map(|n| tlbi(Iova(PAGES + n * PAGE))).collect();
    let batch = batch?;
    let shared = Arc::new(Shared { driver, domain, page, batch });

    step(&"measure");
    let own = cpu::affinity();
    let others = machine.cpus.iter().enumerate().filter(|(_, affinity)| **affinity != own);
    let mut others: Vec<_> =
        others.map(|(number, affinity)| OtherCpu::new(*affinity, number)).collect();
    say!(
        "each the best of {ROUNDS} times {milliseconds} ms, and the slowest in brackets, per second"
    );
    say!(
        "| CPUs | TLBI + CMD_SYNC, commands | 64 TLBI + CMD_SYNC, commands | map + unmap + invalidate |"
    );
    say!("|---|---|---|---|");
    let (mut unmaps_of_one, mut ratios) = (None, String::new());
    for cpus in successors(Some(1), |cpus| Some(cpus * 2)).take_while(|cpus| *cpus <= count) {
        let others = others.get_mut(..cpus - 1).unwrap_or_default();
        let mut row = String::new();
        let mut best = Rate(0);
        for job in Job::ALL {
            let mut rates = [Rate(0); ROUNDS];
            for rate in &mut rates {
                *rate = measure(&shared, others, job, milliseconds)?;
            }
            rates.sort_unstable();
            best = rates[ROUNDS - 1];
            row += &format!(" {best} ({}) |", rates[0]);
        }
        say!("| {cpus} |{row}");
        let one = *unmaps_of_one.get_or_insert(best);
        if cpus > 1 {
            let hundredths = best.0 * 100 / one.0.max(1);
            let (whole, rest) = (hundredths / 100, hundredths % 100);
            ratios += &format!(" {whole}.{rest:02} with {cpus},");
        }
    }
    if !ratios.is_empty() {
        say!("unmaps, as a multiple of those with one CPU:{}", ratios.trim_end_matches(','));
    }
    drop(device);
    let shared = Arc::into_inner(shared).ok_or_else(|| Failure::of("a CPU still works"))?;
    shared.driver.shutdown()?;
    Ok(())
}

/// The `milliseconds=N` of the command line.
fn milliseconds(command_line: &str) -> Result<u32, Failure> {
    let mut words = command_line.split_ascii_whitespace();
    let Some(text) = words.find_map(|word| word.strip_prefix("milliseconds=")) else {
        return Ok(MILLISECONDS);
    };
    let number = text.parse().ok().filter(|number| (1..=LONGEST).contains(number));
    number.ok_or_else(|| {
        Failure(format!("milliseconds={text}: give a number from 1 to {LONGEST}, or leave it out"))
    })
}
