//! Times to allocate and free a tag at several fills, compared with a mutex around a set of free
//! numbers.
//!
//!     cargo bench -p smmu-tags

use std::cell::Cell;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use smmu_measure::{BenchTable as Table, nanoseconds, nanoseconds_with};
use smmu_tags::{AsidSpace, Choice, FreshTag, InUseTag, Keep, SpaceConfig};
use smmu_types::fake::InstantSink;
use smmu_types::{FlushProof, Regime, SmmuId};

const SMMU: SmmuId = SmmuId(0);
const NUMBERS: u16 = u16::MAX;
/// How many numbers are taken. In the last case the lowest free number is the only one of its word,
/// so taking it and giving it back changes the mark above.
const FILLS: [(&str, u16); 4] = [
    ("0 % full", 0),
    ("50 % full", NUMBERS / 2),
    ("99.9 % full", 65_469),
    ("99.9 %, the only one in its word", 65_470),
];
/// Operations in one round.
const OPERATIONS: u64 = 10_000;

fn allocate(space: &AsidSpace) -> Option<FreshTag> {
    space.allocate(SMMU, Regime::El1, 16).ok()
}

/// Allocate a number and give it back before the hardware sees it.
fn pair(space: &AsidSpace) {
    black_box(allocate(space));
}

/// The whole life of a tag, with the proof of its flush.
fn life(space: &AsidSpace) {
    if let Some(fresh) = allocate(space) {
        let retiring = fresh.install().retire();
        if let Ok(proof) = FlushProof::obtain(&InstantSink, SMMU, retiring.tag()) {
            black_box(retiring.free(proof).is_ok());
        }
    }
}

/// A space whose lowest `taken` numbers are taken.
fn filled(taken: u16, choice: Choice, keep: Keep) -> Option<(AsidSpace, Vec<InUseTag>)> {
    let config = SpaceConfig { choice, keep, ..SpaceConfig::default() };
    let space = AsidSpace::with_config(16, config).ok()?;
    let all = (0..taken).map(|_| allocate(&space).map(FreshTag::install));
    let held = all.collect::<Option<_>>()?;
    Some((space, held))
}

/// Shuffles; the same order in each run.
fn shuffle<T>(all: &mut [T]) {
    let mut state = 1u64;
    for left in (2..=all.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        all.swap(left - 1, (state >> 33) as usize % left);
    }
}

/// A space with `taken` numbers taken, whose free numbers are spread over all words.
#[expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
fn spread(taken: u16, keep: Keep) -> (AsidSpace, Vec<FreshTag>) {
    let space = AsidSpace::with_config(16, SpaceConfig { keep, ..SpaceConfig::default() }).unwrap();
    let mut all: Vec<_> = (0..NUMBERS).map(|_| allocate(&space).unwrap()).collect();
    shuffle(&mut all);
    all.truncate(taken.into());
    (space, all)
}

/// Allocate, and free a number taken before, in random order: the free numbers stay spread out.
fn churn<S, T>(
    make: impl FnMut() -> (S, Vec<T>),
    allocate: impl Fn(&S) -> Option<T>,
    free: impl Fn(&S, T),
) -> f64 {
    nanoseconds_with(OPERATIONS, make, |(state, held)| {
        let rest = held.len().saturating_sub(OPERATIONS as usize);
        for old in held.drain(rest..) {
            black_box(allocate(state).map(std::mem::forget));
            free(state, old);
        }
    })
}

fn churn_set<M>(
    mutex: impl Fn(BTreeSet<u16>) -> M,
    take: impl Fn(&M) -> Option<u16>,
    give: impl Fn(&M, u16),
) -> f64 {
    let make = || {
        let mut all: Vec<u16> = (1..=NUMBERS).collect();
        shuffle(&mut all);
        let free = all.split_off(usize::from(NUMBERS / 2));
        (mutex(free.into_iter().collect()), all)
    };
    churn(make, take, give)
}

/// A set of free numbers, as many as a half-full space has.
fn half() -> BTreeSet<u16> {
    (NUMBERS / 2..=NUMBERS).collect()
}

type StdSet = std::sync::Mutex<BTreeSet<u16>>;
type ParkingSet = parking_lot::Mutex<BTreeSet<u16>>;

fn take_std(set: &StdSet) -> Option<u16> {
    set.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
}

fn give_std(set: &StdSet, number: u16) {
    set.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
}

fn with_std(set: &StdSet) {
    if let Some(number) = black_box(take_std(set)) {
        give_std(set, number);
    }
}

fn take_parking(set: &ParkingSet) -> Option<u16> {
    set.lock().pop_first()
}

fn give_parking(set: &ParkingSet, number: u16) {
    set.lock().insert(number);
}

fn with_parking(set: &ParkingSet) {
    if let Some(number) = black_box(take_parking(set)) {
        give_parking(set, number);
    }
}

fn time(operation: impl Fn()) -> f64 {
    nanoseconds(OPERATIONS, || (0..OPERATIONS).for_each(|_| operation()))
}

thread_local!(static CPU: Cell<usize> = const { Cell::new(0) });

const BY_CPU: Choice = Choice::NextFitByCpu(|| CPU.get());

fn main() {
    let mut table = Table::new("smmu-tags: allocate and free one of 65,535 numbers");
    alone(&mut table);
    others(&mut table);
    print!("{table}");
}

/// One thread.
fn alone(table: &mut Table) {
    let std_set = StdSet::new(half());
    let with_std = time(|| with_std(&std_set));
    let parking_set = ParkingSet::new(half());
    let with_parking = time(|| with_parking(&parking_set));
    let churn_std = churn_set(StdSet::new, take_std, give_std);
    let churn_parking = churn_set(ParkingSet::new, take_parking, give_parking);

    for (name, keep) in [("", Keep::WhileUsed), (", kept for ever", Keep::Forever)] {
        for (fill, taken) in FILLS {
            if let Some((space, _held)) = filled(taken, Choice::Lowest, keep) {
                let took = time(|| pair(&space));
                let row = table.row(&format!("allocate + free, {fill}{name}"), took).bar(25.0);
                if taken == NUMBERS / 2 {
                    row.against_at_least("std Mutex<BTreeSet>", with_std, 4.0);
                    table.row("  the same", took).against_at_least(
                        "parking_lot Mutex<BTreeSet>",
                        with_parking,
                        4.0,
                    );
                }
            }
            if let Some((space, _held)) = filled(taken, Choice::NextFit, keep) {
                let took = time(|| pair(&space));
                table.row(&format!("  the same, next-fit, {fill}{name}"), took).bar(25.0);
            }
        }
        let took = churn(|| spread(NUMBERS / 2, keep), allocate, |_, fresh| drop(fresh));
        let what = format!("  the same, others freed, 50 % full{name}");
        let row = table.row(&what, took).bar(25.0);
        row.against_at_least("std Mutex<BTreeSet>", churn_std, 4.0);
        table.row("  the same", took).against_at_least(
            "parking_lot Mutex<BTreeSet>",
            churn_parking,
            4.0,
        );
        if let Some((space, _held)) = filled(NUMBERS / 2, Choice::Lowest, keep) {
            let took = time(|| life(&space));
            table.row(&format!("whole life with a proof, 50 % full{name}"), took);
        }
    }
    if let Some((space, _held)) = filled(NUMBERS, Choice::Lowest, Keep::WhileUsed) {
        table.row("refusal of a space that is full", time(|| pair(&space)));
    }
    for bits in [16, 8] {
        if let Ok(space) = AsidSpace::new(bits) {
            let what = format!("memory of a space of {bits} bits");
            table.value(&what, space.bytes() as f64, "bytes");
        }
    }
    table.value("memory of a tag", size_of::<FreshTag>() as f64, "bytes");
}

/// Two threads at once.
fn others(table: &mut Table) {
    for (name, choice) in
        [("lowest", Choice::Lowest), ("next-fit", Choice::NextFit), ("next-fit by CPU", BY_CPU)]
    {
        for (kept, keep) in [("", Keep::WhileUsed), (", kept for ever", Keep::Forever)] {
            for (fill, taken) in [("0 %", 0), ("50 %", NUMBERS / 2)] {
                let Some((space, _held)) = filled(taken, choice, keep) else { continue };
                two_threads(table, &format!("{name}, {fill} full{kept}"), || pair(&space));
            }
        }
    }
    let std_set = StdSet::new(half());
    two_threads(table, "std Mutex<BTreeSet>", || with_std(&std_set));
    let parking_set = ParkingSet::new(half());
    two_threads(table, "parking_lot Mutex<BTreeSet>", || with_parking(&parking_set));
}

/// Rounds of several threads.
const ROUNDS: usize = 3000;
/// Operations of each thread in one round: shorter than a time slice of the scheduler.
const SHORT: u64 = 2000;

/// The time of `threads` threads, divided by the operations of all. The tenth percentile of the
/// rounds in which all threads began at once.
///
/// The threads wait for each other by spinning, so all have a CPU when a round begins. A round in
/// which one loses its CPU is a long round. Woken threads would mislead: on a busy machine the
/// fastest round would be one in which they ran one after the other.
fn together(threads: usize, operation: &(impl Fn() + Sync)) -> Option<f64> {
    let arrived = AtomicUsize::new(0);
    let one = &|thread| {
        CPU.set(thread);
        let mut times = Vec::with_capacity(ROUNDS);
        for round in 1..=ROUNDS {
            arrived.fetch_add(1, Ordering::AcqRel);
            let mut spins = 0u32;
            while arrived.load(Ordering::Acquire) < round * threads {
                spins += 1;
                if spins.is_multiple_of(10_000) {
                    std::thread::yield_now();
                }
                std::hint::spin_loop();
            }
            let start = Instant::now();
            (0..SHORT).for_each(|_| operation());
            times.push((start, Instant::now()));
        }
        times
    };
    let times: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        all.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let mut spans: Vec<f64> = (0..ROUNDS)
        .filter_map(|round| {
            let starts = times.iter().map(|times| times[round].0);
            let (first, late) = (starts.clone().min()?, starts.max()?);
            let last = times.iter().map(|times| times[round].1).max()?;
            let (late, span) = ((late - first).as_secs_f64(), (last - first).as_secs_f64());
            (late < span / 20.0).then_some(span * 1e9)
        })
        .collect();
    if spans.len() < ROUNDS / 100 {
        return None;
    }
    spans.sort_by(f64::total_cmp);
    spans.get(spans.len() / 10).map(|span| span / (SHORT * threads as u64) as f64)
}

/// Time per operation of two threads: at most 1 / 0.8 of the time of one thread.
fn two_threads(table: &mut Table, what: &str, operation: impl Fn() + Sync) {
    match (together(1, &operation), together(2, &operation)) {
        (Some(one), Some(both)) => {
            let row = table.row(&format!("2 threads: {what}"), both);
            row.against_at_least("1 thread", one, 0.8);
        }
        _ => println!("2 threads: {what}: not measured, the CPUs were too busy"),
    }
}
