//! The costs of arrays, readers and publications, each beside a baseline of the same run.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod discard;
mod epoch;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use discard::Discard;
use parking_lot::RawMutex;
use smmu_invs::{
    ArcSwapCell, AtsGate, CpuSlots, GatedCell, HazardCell, HazardSlots, InvArray, InvSpec,
    LockCell, Publication, invalidate_published,
};
use smmu_measure::{BenchTable as Table, nanoseconds, nanoseconds_threads, nanoseconds_with};
use smmu_types::range::{Extent, RangeSupport};
use smmu_types::{Asid, CacheTag, Granule, Leaf, RawCommand, Regime, SmmuId, StreamId, Vmid};

/// The system's allocator with a count of bytes.
struct CountingAllocator;

static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: all requests go to the system's allocator unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `System.alloc` with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The bytes that `work` allocates.
fn allocated<T>(work: impl FnOnce() -> T) -> f64 {
    let before = BYTES.load(Ordering::Relaxed);
    black_box(work());
    (BYTES.load(Ordering::Relaxed) - before) as f64
}

fn asid(smmu: u16, asid: u16) -> InvSpec {
    let tag = CacheTag::Asid(Regime::El1, Asid(asid));
    InvSpec::tagged(SmmuId(smmu), tag, RangeSupport::Ril)
}

/// One tag of one SMMU; each further entry is a device with ATS.
fn devices(entries: usize) -> Vec<InvSpec> {
    let ats = (1..entries as u32).map(|n| InvSpec::ats(SmmuId(0), StreamId(n * 8), None));
    [asid(0, 7)].into_iter().chain(ats).collect()
}

/// `entries` tags of one SMMU.
fn tags(entries: usize) -> Vec<InvSpec> {
    let tag = |n| CacheTag::Vmid(Vmid(n));
    (1..=entries as u16).map(|n| InvSpec::tagged(SmmuId(0), tag(n), RangeSupport::Ril)).collect()
}

/// One tag on each of `entries` SMMUs.
fn smmus(entries: usize) -> Vec<InvSpec> {
    (0..entries as u16).map(|n| asid(n, 7)).collect()
}

fn array(request: &[InvSpec]) -> InvArray {
    InvArray::empty().merge(request).unwrap()
}

/// Two entries of the array, and two new entries.
fn four(entries: usize) -> [InvSpec; 4] {
    let ats = |n: usize| InvSpec::ats(SmmuId(0), StreamId(n as u32), None);
    let middle = entries / 2;
    [asid(0, 7), ats(middle * 8 + 1), ats((middle + 1) * 8), ats(entries * 8)]
}

fn copies<T>(number: u64, make: impl Fn() -> T) -> Vec<T> {
    (0..number).map(|_| make()).collect()
}

fn drop_users(array: &InvArray, request: &[InvSpec]) {
    array.unref(black_box(request), |_, outcome| {
        black_box(outcome);
    });
}

fn arrays() {
    let mut table = Table::new("arrays, time per entry of the array and of the request");
    for entries in [4, 64, 1024, 16_384] {
        let (request, all) = (four(entries), devices(entries));
        let old = array(&all);
        let per = |time: f64, entries: usize| time / entries as f64;
        let rounds = (16_384 / entries).max(1) as u64;
        let both = [&all[..], &request].concat();
        let sort = nanoseconds_with(
            rounds,
            || copies(rounds, || both.clone()),
            |vectors| {
                for both in vectors {
                    both.sort_unstable_by_key(|spec| spec.key);
                    both.dedup_by_key(|spec| spec.key);
                    black_box(both);
                }
            },
        );
        let merge = nanoseconds(rounds, || {
            for _ in 0..rounds {
                black_box(black_box(&old).merge(black_box(&request)).unwrap());
            }
        });
        table
            .row(&format!("merge 4 into {entries}"), per(merge, entries + 4))
            .bar(3.0)
            .against("sorting both in place", per(sort, entries + 4));
        let memory = nanoseconds(rounds, || {
            for _ in 0..rounds {
                black_box(Vec::<[u64; 2]>::with_capacity(black_box(entries + 2)));
            }
        });
        table.row("  of which its memory: allocate and free", per(memory, entries + 4));

        let counted = || all.iter().map(|spec| (spec.key, 1u32)).collect::<BTreeMap<_, _>>();
        let map = nanoseconds_with(1, counted, |map| {
            for spec in &all {
                map.entry(spec.key).and_modify(|users| *users -= 1);
            }
            map.retain(|_, users| *users > 0);
        });
        let unref = nanoseconds_with(
            rounds,
            || copies(rounds, || array(&all)),
            |arrays| arrays.iter().for_each(|array| drop_users(array, &all)),
        );
        table
            .row(&format!("unref all of {entries}"), per(unref, entries))
            .bar(3.0)
            .against("a BTreeMap of counts, with its purge", per(map, entries));
        let some = nanoseconds_with(
            rounds,
            || copies(rounds, || old.merge(&request).unwrap()),
            |arrays| arrays.iter().for_each(|array| drop_users(array, &request)),
        );
        let map = nanoseconds_with(
            rounds,
            || copies(rounds, counted),
            |maps| {
                for map in maps {
                    for spec in &request {
                        map.entry(spec.key).and_modify(|users| *users -= 1);
                    }
                }
            },
        );
        table
            .row(&format!("unref 4 of {entries}"), per(some, entries + 4))
            .bar(3.0)
            .against("a BTreeMap of counts", per(map, entries + 4));
        let half: Vec<_> = all.iter().copied().skip(1).step_by(2).collect();
        let trashed = array(&all);
        drop_users(&trashed, &half);
        let purge = nanoseconds(rounds, || {
            for _ in 0..rounds {
                black_box(black_box(&trashed).purge().unwrap());
            }
        });
        let counts: Vec<_> = all.iter().zip(0u32..).map(|(spec, n)| (spec.key, n % 2)).collect();
        let filter = nanoseconds(rounds, || {
            for _ in 0..rounds {
                let kept = black_box(&counts).iter().filter(|(_, users)| *users > 0);
                black_box(kept.copied().collect::<Vec<_>>());
            }
        });
        table
            .row(&format!("purge every second of {entries}"), per(purge, entries))
            .bar(3.0)
            .against("a filtered Vec of counts", per(filter, entries));
        attach_and_detach(&mut table, entries, &old, &all);
    }
    println!("{table}");
}

/// The array side of an attach of one more device, and of its detach.
fn attach_and_detach(table: &mut Table, entries: usize, old: &InvArray, all: &[InvSpec]) {
    let request = [asid(0, 7), InvSpec::ats(SmmuId(0), StreamId(entries as u32 * 8), None)];
    let rounds = (16_384 / entries).max(1) as u64;
    let ours = nanoseconds(rounds, || {
        for _ in 0..rounds {
            let attached = black_box(old).merge(black_box(&request)).unwrap();
            drop_users(&attached, &request);
            black_box(attached.purge().unwrap());
        }
    });
    // Readers need an array of their own, so the baseline copies it, too.
    let mut counts: BTreeMap<_, _> = all.iter().map(|spec| (spec.key, 1u32)).collect();
    let map = nanoseconds(rounds, || {
        for _ in 0..rounds {
            for spec in black_box(&request) {
                *counts.entry(spec.key).or_default() += 1;
            }
            black_box(counts.keys().copied().collect::<Vec<_>>());
            for spec in black_box(&request) {
                counts.entry(spec.key).and_modify(|users| *users -= 1);
            }
            counts.retain(|_, users| *users > 0);
            black_box(counts.keys().copied().collect::<Vec<_>>());
        }
    });
    table
        .row(&format!("attach and detach beside {entries}"), ours / entries as f64)
        .against("a BTreeMap of counts, and a Vec of its keys", map / entries as f64);
}

/// The baseline of a walk: the commands of `array` packed by hand, in a loop without an array, a plan
/// or a failure.
fn packed(words: &[(SmmuId, u64)]) {
    let high = black_box(0x1000 | 1);
    for of_smmu in words.chunk_by(|a, b| a.0 == b.0) {
        let mut batch = [RawCommand::default(); 64];
        for (command, (_, low)) in batch.iter_mut().zip(of_smmu) {
            *command = RawCommand([black_box(0x12) | low, high]);
        }
        black_box(&batch[..of_smmu.len()]);
    }
}

const PAGE: Extent = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint();

fn read<P: Publication<InvArray>>(cell: &P) {
    invalidate_published(cell, black_box(PAGE), &Discard).unwrap();
}

type Shape = (&'static str, fn(usize) -> Vec<InvSpec>);

const SHAPES: [Shape; 3] =
    [("one tag, the rest ATS", devices), ("tags of one SMMU", tags), ("one tag per SMMU", smmus)];

fn readers<P: Publication<InvArray> + Sync>(name: &str) {
    let mut table = Table::new(&format!("readers, {name}: enter, walk, build commands, leave"));
    for (shape, make) in SHAPES {
        for entries in [1, 16, 64] {
            let cell = P::new(P::node(array(&make(entries))).unwrap());
            let alone = times(|| read(&cell));
            table.row(&format!("{entries}, {shape}"), alone).bar(10.0 + 3.0 * entries as f64);
            if let Some(beside) = beside_a_writer(&cell, || read(&cell)) {
                table.row(&format!("{entries}, {shape}, beside a writer"), beside).bar(2.0 * alone);
            }
        }
    }
    println!("{table}");
}

/// The median time of `work` while another thread replaces the array all the time.
///
/// Only rounds with 1 to 500 publications count: with none the other thread did not run, and with
/// more this thread did not. The fastest round is no measure, because the other thread may have
/// stopped in it. `None` if the two threads do not have two CPUs.
fn beside_a_writer<P, T>(cell: &P, mut work: impl FnMut() -> T) -> Option<f64>
where
    P: Publication<InvArray> + Sync,
{
    let (stop, published) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let next = cell.read().merge(&[]).unwrap();
                cell.publish(P::node(next).unwrap());
                published.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut rounds = Vec::new();
        let begin = Instant::now();
        while rounds.len() < 2001 && begin.elapsed() < Duration::from_millis(500) {
            let before = published.load(Ordering::Relaxed);
            let start = Instant::now();
            for _ in 0..20 {
                black_box(work());
            }
            let time = start.elapsed();
            let meanwhile = published.load(Ordering::Relaxed) - before;
            if (1..=500).contains(&meanwhile) {
                rounds.push(time);
            }
        }
        stop.store(true, Ordering::Relaxed);
        rounds.sort();
        rounds.get(rounds.len() / 2).map(|time| time.as_secs_f64() * 5e7)
    })
}

fn times<T>(mut work: impl FnMut() -> T) -> f64 {
    nanoseconds(1000, || {
        for _ in 0..1000 {
            black_box(work());
        }
    })
}

/// Four CPUs. A thread takes the next number when it first reads; on a board, a CPU has its number
/// in a register.
struct Cpus;

impl HazardSlots for Cpus {
    fn slots() -> &'static [CpuSlots] {
        static SLOTS: [CpuSlots; 4] = [const { CpuSlots::new() }; 4];
        &SLOTS
    }
    fn cpu() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static CPU: Cell<usize> = const { Cell::new(usize::MAX) });
        if CPU.get() == usize::MAX {
            CPU.set(NEXT.fetch_add(1, Ordering::Relaxed) % 4);
        }
        CPU.get()
    }
}

type Hazard = HazardCell<Cpus, RawMutex, InvArray>;

/// Returns the time of a read.
fn publication<P>(table: &mut Table, name: &str, bar: Option<f64>) -> f64
where
    P: Publication<InvArray> + Sync,
{
    let cell = P::new(P::node(array(&smmus(1))).unwrap());
    let alone = times(|| drop(black_box(cell.read())));
    let row = table.row(&format!("read of {name}"), alone);
    if let Some(bar) = bar {
        row.bar(bar);
    }
    if let Some(beside) = beside_a_writer(&cell, || drop(black_box(cell.read()))) {
        table.row(&format!("read of {name}, beside a writer"), beside);
    }
    let publish = times(|| cell.publish(P::node(InvArray::empty()).unwrap()));
    table.row(&format!("node and publish of {name}"), publish);
    let threads = nanoseconds_threads(2, 10_000, |_| {
        for _ in 0..10_000 {
            drop(black_box(cell.read()));
        }
    });
    table.row(&format!("read of {name} by 2 threads"), threads);
    alone
}

fn parts() {
    let mut table = Table::new("parts");
    table.row("a full fence", times(|| fence(Ordering::SeqCst)));
    let hosted = publication::<ArcSwapCell<InvArray>>(&mut table, "ArcSwapCell", None);
    let bare = publication::<Hazard>(&mut table, "HazardCell", Some(1.3 * hosted));
    table.value("read of HazardCell / of ArcSwapCell", bare / hosted, "times").bar(1.3);
    publication::<epoch::EpochCell<InvArray>>(&mut table, "a cell on crossbeam-epoch", None);
    publication::<LockCell<RawMutex, InvArray>>(&mut table, "LockCell", None);
    for (shape, make) in SHAPES {
        for entries in [1, 16, 64] {
            let array = array(&make(entries));
            let walk = times(|| black_box(&array).invalidate(black_box(PAGE), &Discard).unwrap());
            let ids =
                make(entries).into_iter().map(|spec| (spec.key.smmu, u64::from(spec.key.id) << 32));
            let words: Vec<_> = ids.collect();
            let by_hand = times(|| packed(black_box(&words)));
            table
                .row(&format!("walk {entries}, {shape}"), walk)
                .against("words packed by hand", by_hand);
        }
    }
    println!("{table}");
}

fn memory() {
    let mut table = Table::new("memory");
    let request = tags(1000);
    let per_entry = allocated(|| array(&request)) / 1000.0;
    table.value("per entry", per_entry, "bytes").bar(16.0);
    type Arc = ArcSwapCell<InvArray>;
    type Lock = LockCell<RawMutex, InvArray>;
    let heap = allocated(|| Lock::new(Lock::node(InvArray::empty()).unwrap()));
    table.value("per empty domain, on the heap", heap, "bytes");
    table.value("  and in an ArcSwapCell", size_of::<Arc>() as f64, "bytes");
    table.value("  or in a LockCell of parking_lot", size_of::<Lock>() as f64, "bytes");
    table.value("  or in a HazardCell of parking_lot", size_of::<Hazard>() as f64, "bytes");
    table.value("  and its AtsGate, in a GatedCell", size_of::<AtsGate>() as f64, "bytes");
    let cell = Arc::new(Arc::node(array(&smmus(64))).unwrap());
    let walking =
        allocated(|| (0..100).for_each(|_| invalidate_published(&cell, PAGE, &Discard).unwrap()));
    table.value("allocated by 100 invalidations", walking, "bytes").bar(0.0);
    let node = Arc::node(array(&smmus(64))).unwrap();
    table.value("allocated by a publication", allocated(|| cell.publish(node)), "bytes").bar(0.0);
    println!("{table}");
}

fn main() {
    memory();
    arrays();
    parts();
    readers::<ArcSwapCell<InvArray>>("ArcSwapCell");
    readers::<Hazard>("HazardCell");
    readers::<epoch::EpochCell<InvArray>>("a cell on crossbeam-epoch");
    readers::<LockCell<RawMutex, InvArray>>("LockCell");
    readers::<GatedCell<ArcSwapCell<InvArray>>>("ArcSwapCell with a gate");
}
