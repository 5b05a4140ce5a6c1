//! Times operations and prints them as a table, each against a baseline of the same run.
//!
//! On a shared machine the fastest of many rounds depends least on other programs. Compare machines
//! by the ratio of two times from one run, not by times.
//!
//! ```
//! use smmu_measure::{BenchTable, nanoseconds};
//!
//! let mut table = BenchTable::new("adding");
//! let adding = nanoseconds(1000, || (0..1000u64).for_each(|n| { std::hint::black_box(n + 1); }));
//! table.row("one addition", adding).bar(1000.0);
//! assert!(table.to_string().contains("one addition"));
//! ```

use std::fmt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Shortest duration of one measurement, and its least number of rounds.
const TIME: Duration = Duration::from_millis(300);
const ROUNDS: u32 = 15;

/// Nanoseconds for one of the `operations` in a call of `round`. The fastest round counts.
pub fn nanoseconds(operations: u64, mut round: impl FnMut()) -> f64 {
    round();
    let (begin, mut rounds, mut best) = (Instant::now(), 0, Duration::MAX);
    while rounds < ROUNDS || begin.elapsed() < TIME {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed());
        rounds += 1;
    }
    per(best, operations)
}

/// The same, with a new state per round. Making and dropping the state is not timed.
pub fn nanoseconds_with<S>(
    operations: u64,
    mut make: impl FnMut() -> S,
    mut round: impl FnMut(&mut S),
) -> f64 {
    let (begin, mut rounds, mut best) = (Instant::now(), 0, Duration::MAX);
    while rounds < ROUNDS || begin.elapsed() < TIME {
        let mut state = make();
        let start = Instant::now();
        round(&mut state);
        best = best.min(start.elapsed());
        rounds += 1;
    }
    per(best, operations)
}

/// Nanoseconds for one operation while `threads` threads do `operations` each at the same time:
/// time divided by the sum of all operations. `round` gets the number of its thread.
///
/// Each thread has its own CPU, if the machine has enough. The median round counts: in the fastest
/// one the threads may have run one after the other.
pub fn nanoseconds_threads(threads: usize, operations: u64, round: impl Fn(usize) + Sync) -> f64 {
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS || begin.elapsed() < 2 * TIME {
        let barrier = Barrier::new(threads + 1);
        let elapsed = std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|thread| {
                    let (round, barrier) = (&round, &barrier);
                    scope.spawn(move || {
                        pin(thread);
                        barrier.wait();
                        let start = Instant::now();
                        round(thread);
                        (start, Instant::now())
                    })
                })
                .collect();
            barrier.wait();
            let times: Vec<_> =
                running.into_iter().filter_map(|thread| thread.join().ok()).collect();
            let first = times.iter().map(|(start, _)| *start).min();
            let last = times.iter().map(|(_, end)| *end).max();
            match (first, last) {
                (Some(first), Some(last)) => last - first,
                _ => Duration::MAX,
            }
        });
        times.push(elapsed);
        rounds += 1;
    }
    times.sort_unstable();
    per(times[times.len() / 2], operations * threads as u64)
}

/// The same in many short rounds, which all threads begin at the same moment. The lower quartile
/// counts.
///
/// A round in which another program takes a thread's CPU is one of the slow ones. So this says more
/// on a busy machine. `operations` should take a tenth of a millisecond. Threads spin between the
/// rounds, so each needs a CPU of its own.
pub fn nanoseconds_together(threads: usize, operations: u64, round: impl Fn(usize) + Sync) -> f64 {
    let (started, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let is_over = AtomicBool::new(false);
    // Waits without leaving the CPU, since a thread that sleeps would begin later. `false`: it is
    // over.
    let reaches = |count: &AtomicUsize, number: usize| loop {
        if is_over.load(Ordering::Acquire) {
            return false;
        }
        if count.load(Ordering::Acquire) == number {
            return true;
        }
        std::hint::spin_loop();
    };
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        let (started, ended, is_over, round, reaches) =
            (&started, &ended, &is_over, &round, &reaches);
        for thread in 1..threads {
            scope.spawn(move || {
                let _over = OverWhenDropped(is_over);
                pin(thread);
                let mut number = 1;
                while reaches(started, number) {
                    round(thread);
                    ended.fetch_add(1, Ordering::AcqRel);
                    number += 1;
                }
            });
        }
        let times = &mut times;
        scope.spawn(move || {
            let _over = OverWhenDropped(is_over);
            pin(0);
            let (begin, mut number) = (Instant::now(), 0);
            while number < ROUNDS as usize || begin.elapsed() < 2 * TIME {
                number += 1;
                let start = Instant::now();
                started.fetch_add(1, Ordering::AcqRel);
                round(0);
                if !reaches(ended, (threads - 1) * number) {
                    return;
                }
                times.push(start.elapsed());
            }
        });
    });
    times.sort_unstable();
    per(times.get(times.len() / 4).copied().unwrap_or(Duration::MAX), operations * threads as u64)
}

/// Lets all threads of a measurement end, also when one panics.
struct OverWhenDropped<'a>(&'a AtomicBool);

impl Drop for OverWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Nanoseconds in which two threads hand a cache line to each other: each waits for the other's
/// value, then adds 1.
///
/// Two threads that share a structure cannot be faster. On a virtual machine the time depends on
/// where the host runs the two processors, and may change several times over from one minute to the
/// next.
pub fn line_handoff() -> f64 {
    const HANDOFFS: u64 = 1000;
    let line = AtomicU32::new(0);
    nanoseconds_together(2, HANDOFFS, |thread| {
        for _ in 0..HANDOFFS {
            while line.load(Ordering::Acquire) % 2 != thread as u32 {
                std::hint::spin_loop();
            }
            line.fetch_add(1, Ordering::Release);
        }
    })
}

/// Pin the calling thread to one CPU, chosen by the thread's number. If that fails, it is not
/// pinned.
fn pin(thread: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let Ok(allowed) = sched_getaffinity(None) else { return };
    let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    if let Some(&processor) = processors.get(thread % processors.len().max(1)) {
        let mut one = CpuSet::new();
        one.set(processor);
        let _moved = sched_setaffinity(None, &one);
    }
}

fn per(time: Duration, operations: u64) -> f64 {
    time.as_secs_f64() * 1e9 / operations.max(1) as f64
}

/// A table of times and other figures.
#[derive(Debug)]
pub struct BenchTable {
    title: String,
    rows: Vec<BenchRow>,
}

/// One row of a table.
#[derive(Debug)]
pub struct BenchRow {
    what: String,
    value: f64,
    unit: &'static str,
    bar: Option<f64>,
    baseline: Option<(String, f64, Option<f64>)>,
}

impl BenchTable {
    /// An empty table.
    #[must_use]
    pub fn new(title: &str) -> Self {
        BenchTable { title: title.to_owned(), rows: Vec::new() }
    }

    /// Add a time in nanoseconds.
    pub fn row(&mut self, what: &str, nanoseconds: f64) -> &mut BenchRow {
        self.value(what, nanoseconds, "ns")
    }

    /// Add another figure, such as bytes.
    pub fn value(&mut self, what: &str, value: f64, unit: &'static str) -> &mut BenchRow {
        let at = self.rows.len();
        self.rows.push(BenchRow { what: what.to_owned(), value, unit, bar: None, baseline: None });
        &mut self.rows[at]
    }
}

impl BenchRow {
    /// Set the highest value that passes.
    pub fn bar(&mut self, most: f64) -> &mut Self {
        self.bar = Some(most);
        self
    }

    /// Set the baseline: the cost of the same operation done another way, in the same unit.
    pub fn against(&mut self, what: &str, value: f64) -> &mut Self {
        self.baseline = Some((what.to_owned(), value, None));
        self
    }

    /// The same, with the least factor by which this row must be faster.
    pub fn against_at_least(&mut self, what: &str, value: f64, times: f64) -> &mut Self {
        self.baseline = Some((what.to_owned(), value, Some(times)));
        self
    }
}

impl fmt::Display for BenchTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
        for row in &self.rows {
            write!(f, "  {:width$}  {:9.2} {:5}", row.what, row.value, row.unit)?;
            if let Some(bar) = row.bar {
                let verdict = if row.value <= bar { "met" } else { "MISSED" };
                write!(f, "  bar {bar:.2}: {verdict}")?;
            }
            if let Some((what, value, least)) = &row.baseline {
                let ratio = value / row.value;
                write!(f, "  {ratio:.2}x faster than {what} ({value:.2})")?;
                if let Some(least) = least {
                    let verdict = if ratio >= *least { "met" } else { "MISSED" };
                    write!(f, ", bar {least:.1}x: {verdict}")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn the_table_says_whether_a_bar_is_met() {
        let mut table = BenchTable::new("title");
        table.row("fast", 2.0).bar(3.0).against_at_least("slow", 10.0, 4.0);
        table.row("slow", 10.0).bar(3.0).against_at_least("slow", 10.0, 4.0);
        let text = table.to_string();
        assert!(text.contains(
            "fast       2.00 ns     bar 3.00: met  5.00x faster than slow (10.00), bar 4.0x: met"
        ));
        assert!(text.contains("slow      10.00 ns     bar 3.00: MISSED  1.00x faster than slow (10.00), bar 4.0x: MISSED"));
    }

    #[test]
    fn every_thread_runs_in_every_round() {
        for together in [false, true] {
            let calls = [AtomicU64::new(0), AtomicU64::new(0)];
            let round = |thread: usize| {
                calls[thread].fetch_add(1, Ordering::Relaxed);
            };
            let time = match together {
                false => nanoseconds_threads(2, 1, round),
                true => nanoseconds_together(2, 1, round),
            };
            assert!(time > 0.0);
            let [one, two] = calls.map(AtomicU64::into_inner);
            assert!(one == two && one >= u64::from(ROUNDS));
        }
    }

    #[test]
    fn one_thread_alone_is_measured_too() {
        let calls = AtomicU64::new(0);
        nanoseconds_together(1, 1, |_| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        assert!(calls.into_inner() >= u64::from(ROUNDS));
    }

    #[test]
    #[should_panic = "a scoped thread panicked"]
    fn a_panic_of_one_thread_ends_the_measurement() {
        nanoseconds_together(2, 1, |thread| assert!(thread != 1, "panics"));
    }

    #[test]
    fn a_handoff_takes_time() {
        assert!(line_handoff() > 0.0);
    }
}
