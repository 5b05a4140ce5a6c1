//! One suite that every publication passes, and readers beside a writer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RawMutex;
use smmu_invs::{InvArray, InvSpec, LockCell, Publication, invalidate_published};
use smmu_types::fake::{RecordingSink, SinkCall};
use smmu_types::range::{Extent, RangeSupport};
use smmu_types::{Asid, CacheTag, FlushProof, Granule, Leaf, Regime, SmmuId};

/// A value that shows how many of its copies are left.
#[derive(Default)]
struct Probe(u64, Option<Arc<()>>);

fn conforms<P: Publication<Probe>>() {
    let node = |number, life: &Arc<()>| P::node(Probe(number, Some(life.clone()))).unwrap();
    let alive = |life: &Arc<()>| Arc::strong_count(life) - 1;

    let lives: Vec<Arc<()>> = (0..40).map(|_| Arc::new(())).collect();
    let cell = P::new(node(0, &lives[0]));
    assert_eq!(cell.read().0, 0);

    // A reader keeps what it read; without one, a replaced value is dropped at once.
    let first = cell.read();
    cell.publish(node(1, &lives[1]));
    cell.publish(node(2, &lives[2]));
    assert_eq!((first.0, cell.read().0), (0, 2));
    assert_eq!(lives[..3].iter().map(alive).collect::<Vec<_>>(), [1, 0, 1]);

    // After its last reader, it is dropped by the next publication at the latest.
    drop(first);
    cell.publish(node(3, &lives[3]));
    assert_eq!(alive(&lives[0]), 0);

    // Any number of values may be read at once, and each stays as it was.
    let guards: Vec<_> = (4..20)
        .map(|number| {
            cell.publish(node(number, &lives[number as usize]));
            cell.read()
        })
        .collect();
    assert!(guards.iter().map(|guard| guard.0).eq(4..20));
    assert!(guards.iter().all(|guard| guard.1.is_some()));
    drop(guards);
    for number in 20..40 {
        cell.publish(node(number, &lives[number as usize]));
        assert_eq!(cell.read().0, number);
    }
    let left: usize = lives.iter().map(alive).sum();
    assert_eq!(left, 1, "only the current value is left");

    drop(cell);
    assert_eq!(lives.iter().map(alive).sum::<usize>(), 0);

    // A node that is never published is dropped too.
    drop(node(0, &lives[0]));
    assert_eq!(alive(&lives[0]), 0);
}

/// Readers see only whole values, and never an older one after a newer one.
fn readers_go_forward<P: Publication<(u64, u64)> + Sync>() {
    let cell = P::new(P::node((0, 0)).unwrap());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let value = cell.read();
                    assert_eq!(value.1, value.0 * 3);
                    assert!(value.0 >= last);
                    last = value.0;
                }
            });
        }
        for number in 1..20_000 {
            cell.publish(P::node((number, number * 3)).unwrap());
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// A user that stays is never missed while others come and go.
fn a_lasting_user_is_always_told<P: Publication<InvArray> + Sync>() {
    let tag = |asid| CacheTag::Asid(Regime::El1, Asid(asid));
    let spec = |smmu, asid| InvSpec::tagged(SmmuId(smmu), tag(asid), RangeSupport::Ril);
    let lasting = spec(1, 1);
    let array = InvArray::empty().merge(&[lasting]).unwrap();
    let cell = P::new(P::node(array).unwrap());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let extent = Extent::pages(0x1000, 0x1000, Granule::K4, Leaf::Last);
                let sink = RecordingSink::new();
                while !stop.load(Ordering::Relaxed) {
                    invalidate_published(&cell, extent, &sink).unwrap();
                    let told =
                        |call: &SinkCall| matches!(call, SinkCall::Issue(SmmuId(1), c) if c.len() == 1);
                    assert_eq!(sink.take().iter().filter(|call| told(call)).count(), 1);
                }
            });
        }
        let sink = RecordingSink::new();
        for round in 0..3000u16 {
            let smmu = if round % 2 == 0 { 0 } else { 2 };
            let request = [spec(smmu, 1 + round % 7)];
            let merged = cell.read().merge(&request).unwrap();
            cell.publish(P::node(merged).unwrap());
            cell.read().unref(&request, |_, _| {});
            let proof = FlushProof::obtain(&sink, SmmuId(smmu), tag(1 + round % 7)).unwrap();
            assert!(cell.read().settle(&proof));
            let purged = cell.read().purge().unwrap().unwrap();
            cell.publish(P::node(purged).unwrap());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(cell.read().to_string(), "smmu1 S1_ASID 1 users=1");
}

#[test]
fn lock_cell_conforms() {
    conforms::<LockCell<RawMutex, _>>();
    readers_go_forward::<LockCell<RawMutex, _>>();
    a_lasting_user_is_always_told::<LockCell<RawMutex, _>>();
}

#[cfg(feature = "std")]
#[test]
fn arc_swap_cell_conforms() {
    use smmu_invs::ArcSwapCell;
    conforms::<ArcSwapCell<_>>();
    readers_go_forward::<ArcSwapCell<_>>();
    a_lasting_user_is_always_told::<ArcSwapCell<_>>();
}
