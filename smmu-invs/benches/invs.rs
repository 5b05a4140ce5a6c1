//! What arrays, readers and publications cost, each against a baseline of the same run.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use parking_lot::RawMutex;
use smmu_invs::{ArcSwapCell, InvArray, InvSpec, LockCell, Publication, invalidate_published};
use smmu_measure::{Table, nanoseconds, nanoseconds_with};
use smmu_types::range::{Extent, RangeSupport};
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{
    Asid, CacheTag, Command, Granule, Leaf, Regime, SmmuId, StreamId, SyncProof, Vmid,
};

/// A queue that looks at the commands and forgets them.
struct Discard;

impl CommandSink for Discard {
    type Ticket = SmmuId;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        black_box(commands);
        Ok(smmu)
    }
    fn push(&self, _: SmmuId, commands: &[Command]) -> Result<(), SinkError> {
        black_box(commands);
        Ok(())
    }
    fn wait(&self, ticket: SmmuId) -> Result<SyncProof, SinkError> {
        Ok(SyncProof::vouch(ticket))
    }
}

fn asid(smmu: u16, asid: u16) -> InvSpec {
    let tag = CacheTag::Asid(Regime::El1, Asid(asid));
    InvSpec::tagged(SmmuId(smmu), tag, RangeSupport::Ril)
}

/// One tag of one SMMU, and a device with ATS for each entry more.
fn devices(entries: usize) -> Vec<InvSpec> {
    let ats = (1..entries as u32).map(|n| InvSpec::ats(SmmuId(0), StreamId(n * 8), None));
    [asid(0, 7)].into_iter().chain(ats).collect()
}

/// As many tags of one SMMU.
fn tags(entries: usize) -> Vec<InvSpec> {
    let tag = |n| CacheTag::Vmid(Vmid(n));
    (1..=entries as u16).map(|n| InvSpec::tagged(SmmuId(0), tag(n), RangeSupport::Ril)).collect()
}

/// One tag on each of as many SMMUs.
fn smmus(entries: usize) -> Vec<InvSpec> {
    (0..entries as u16).map(|n| asid(n, 7)).collect()
}

fn array(request: &[InvSpec]) -> InvArray {
    InvArray::empty().merge(request).unwrap()
}

/// Two that are there, and two that are not.
fn four(entries: usize) -> [InvSpec; 4] {
    let ats = |n: usize| InvSpec::ats(SmmuId(0), StreamId(n as u32), None);
    let middle = entries / 2;
    [asid(0, 7), ats(middle * 8 + 1), ats((middle + 1) * 8), ats(entries * 8)]
}

fn arrays() {
    let mut table = Table::new("arrays: per entry of the array");
    for entries in [4, 64, 1024, 16_384] {
        let (request, all) = (four(entries), devices(entries));
        let old = array(&all);
        let per = |time: f64| time / entries as f64;
        let mut sorted = all.clone();
        let sort = nanoseconds_with(
            1,
            || {
                let mut both = Vec::with_capacity(entries + 4);
                both.extend_from_slice(&all);
                both.extend_from_slice(&request);
                both
            },
            |both| {
                both.sort_by_key(|spec| spec.key);
                both.dedup_by_key(|spec| spec.key);
                std::mem::swap(both, &mut sorted);
            },
        );
        let rounds = (16_384 / entries).max(1) as u64;
        let merge = nanoseconds(rounds, || {
            for _ in 0..rounds {
                black_box(black_box(&old).merge(black_box(&request)).unwrap());
            }
        });
        table
            .row(&format!("merge 4 into {entries}"), per(merge))
            .bar(3.0)
            .against("sorting a vector of both", per(sort));

        let search = nanoseconds_with(
            1,
            || {
                all.iter()
                    .map(|spec| (spec.key, 1u32))
                    .collect::<std::collections::BTreeMap<_, _>>()
            },
            |map| {
                for spec in &all {
                    map.entry(spec.key).and_modify(|users| *users -= 1);
                }
                map.retain(|_, users| *users > 0);
            },
        );
        let batch =
            |n: u64, make: &dyn Fn() -> InvArray| (0..n).map(|_| make()).collect::<Vec<_>>();
        let unref = nanoseconds_with(
            rounds,
            || batch(rounds, &|| array(&all)),
            |arrays| {
                for array in arrays {
                    array.unref(black_box(&all), |_, outcome| {
                        black_box(outcome);
                    });
                }
            },
        );
        table
            .row(&format!("unref all of {entries}"), per(unref))
            .bar(3.0)
            .against("a BTreeMap of counts, with its purge", per(search));
        let some = nanoseconds_with(
            rounds,
            || batch(rounds, &|| old.merge(&request).unwrap()),
            |arrays| {
                for array in arrays {
                    array.unref(black_box(&request), |_, outcome| {
                        black_box(outcome);
                    });
                }
            },
        );
        table.row(&format!("unref 4 of {entries}"), per(some)).bar(3.0);
        let half: Vec<_> = all.iter().copied().skip(1).step_by(2).collect();
        let trashed = array(&all);
        trashed.unref(&half, |_, _| {});
        let purge = nanoseconds(rounds, || {
            for _ in 0..rounds {
                black_box(black_box(&trashed).purge().unwrap());
            }
        });
        table.row(&format!("purge every second of {entries}"), per(purge)).bar(3.0);
    }
    println!("{table}");
}

const PAGE: Extent = Extent::pages(0x1000, 0x1000, Granule::K4, Leaf::Last);

fn read<P: Publication<InvArray>>(cell: &P) -> f64 {
    nanoseconds(1000, || {
        for _ in 0..1000 {
            invalidate_published(cell, black_box(PAGE), &Discard).unwrap();
        }
    })
}

type Shape = (&'static str, fn(usize) -> Vec<InvSpec>);

const SHAPES: [Shape; 3] =
    [("one tag, the rest ATS", devices), ("tags of one SMMU", tags), ("one tag per SMMU", smmus)];

fn readers<P: Publication<InvArray> + Sync>(name: &str) {
    let mut table = Table::new(&format!("readers, {name}: enter, walk, build commands, leave"));
    let bar = |entries: usize| 10.0 + 3.0 * entries as f64;
    for (shape, make) in SHAPES {
        for entries in [1, 16, 64] {
            let cell = P::new(P::node(array(&make(entries))).unwrap());
            let alone = read(&cell);
            table.row(&format!("{entries}, {shape}"), alone).bar(bar(entries));
            if entries == 1 {
                continue;
            }
            let stop = AtomicBool::new(false);
            let beside = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut published = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        let next = cell.read().merge(&[]).unwrap();
                        cell.publish(P::node(next).unwrap());
                        published += 1;
                    }
                    black_box(published);
                });
                let beside = read(&cell);
                stop.store(true, Ordering::Relaxed);
                beside
            });
            table.row(&format!("{entries}, {shape}, beside a writer"), beside).bar(2.0 * alone);
        }
    }
    println!("{table}");
}

fn parts() {
    let mut table = Table::new("parts of a reader");
    let full = nanoseconds(1000, || {
        for _ in 0..1000 {
            fence(Ordering::SeqCst);
            black_box(());
        }
    });
    table.row("a full fence", full);
    let arc_swap = ArcSwapCell::new(ArcSwapCell::node(array(&smmus(1))).unwrap());
    let lock =
        LockCell::<RawMutex, _>::new(LockCell::<RawMutex, _>::node(array(&smmus(1))).unwrap());
    let enter = |read: &dyn Fn()| {
        nanoseconds(1000, || {
            for _ in 0..1000 {
                read();
            }
        })
    };
    table.row("read of ArcSwapCell", enter(&|| drop(black_box(arc_swap.read()))));
    table.row("read of LockCell", enter(&|| drop(black_box(lock.read()))));
    for (shape, make) in SHAPES {
        for entries in [1, 16, 64] {
            let array = array(&make(entries));
            let walk = nanoseconds(1000, || {
                for _ in 0..1000 {
                    black_box(&array).invalidate(black_box(PAGE), &Discard).unwrap();
                }
            });
            table.row(&format!("walk {entries}, {shape}"), walk);
        }
    }
    println!("{table}");
}

fn main() {
    arrays();
    parts();
    readers::<ArcSwapCell<InvArray>>("ArcSwapCell");
    readers::<LockCell<RawMutex, InvArray>>("LockCell");
}
