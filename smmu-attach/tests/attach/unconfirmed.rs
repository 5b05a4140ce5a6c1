//! What stays behind when an SMMU does not confirm a `CFGI` or a flush, and how it is settled.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use smmu_attach::*;
use smmu_invs::EntryState;
use smmu_types::fake::SinkCall;
use smmu_types::pool::Window;
use smmu_types::range::Extent;
use smmu_types::seam::{Notice, SinkError};
use smmu_types::*;

use crate::common::*;

const TIMEOUT: SinkError = SinkError::timeout(SmmuId(0));

fn page() -> Extent {
    Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last)
}

/// r1: a fetch that began before a `CMD_SYNC` timed out never sees words of two attaches.
#[test]
fn r1_no_word_is_stored_under_a_fetch_that_nothing_has_ended() {
    type Words = Arc<dyn Fn(u64) -> u64 + Send + Sync>;
    /// A fetch in progress: which words the SMMU has, and what it sees when the fetch ends.
    #[derive(Default)]
    struct Fetch {
        memory: Option<(Words, u64)>,
        has: Vec<(u64, u64)>,
        view: Option<Ste>,
    }
    let fetch = Arc::new(Mutex::new(Fetch::default()));
    let under_way = Arc::clone(&fetch);
    // The fetch ends no earlier than the first `CMD_SYNC` that follows.
    let fixture = Fixture::watched(move |call| {
        let mut fetch = under_way.lock().unwrap();
        let (SinkCall::Issue(..), None, Some((word, at))) =
            (call, fetch.view, fetch.memory.clone())
        else {
            return;
        };
        let mut ste: [u64; 8] = std::array::from_fn(|n| word(at + n as u64 * 8));
        for &(n, value) in &fetch.has {
            ste[n as usize] = value;
        }
        fetch.view = Some(Ste(ste));
    });
    let smmu = fixture.smmu(0);
    let words = fixture.dma().window().share();
    let word: Words =
        Arc::new(move |pa| words[((pa - 0x4000_0000) / 8) as usize].load(Ordering::SeqCst));
    let device = fixture.device(&smmu, 8);
    // Where the STE lies, as the SMMU finds it.
    let (root, _) = smmu.stream_table();
    let at = (word(root.0) & 0x000f_ffff_ffff_ffc0) + 8 * 64;
    let (g, h) = (fixture.domain(1, S2), fixture.domain(2, S2));
    let _ = device.attach(&g);
    let old = device.read_ste().unwrap();
    fixture.fail_on("CFGI_STE");
    // The SMMU has words 0, 1 and 3: no order among the words is promised.
    let has = [0, 1, 3].map(|n| (n, word(at + n * 8))).to_vec();
    assert_eq!(device.block(), Outcome::Unconfirmed(TIMEOUT));
    fixture.mend();
    *fetch.lock().unwrap() = Fetch { memory: Some((word, at)), has, view: None };
    assert_eq!(device.attach(&h), Ok(Outcome::Done));
    let (new, view) = (device.read_ste().unwrap(), fetch.lock().unwrap().view.unwrap());
    assert!(view == old || view == new || view.0[0] & 1 == 0, "a mix: {:?}", view.decode());
}

#[test]
fn r1_every_stream_is_forgotten_before_the_first_store() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let streams: Vec<StreamId> = (0..20).map(|n| StreamId(n * 0x50)).collect();
    let device = smmu.add_device(&streams).unwrap();
    let [d, e, f] = [1, 2, 3].map(|n| fixture.domain(n, S1));
    let _ = device.attach(&d);
    fixture.fail_on("CFGI_STE");
    assert_eq!(device.attach(&e), Ok(Outcome::Unconfirmed(TIMEOUT)));
    assert_eq!(device.read_cd(), None);
    // While the SMMU does not answer, an attach is refused before it stores or takes anything.
    let (ste, tags) = (device.read_ste(), smmu.asids().stats());
    assert_eq!(device.attach(&f), Err(AttachError::Sink(TIMEOUT)));
    assert_eq!(device.bypass(), Err(AttachError::Sink(TIMEOUT)));
    assert_eq!((device.read_ste(), smmu.asids().stats()), (ste, tags));

    fixture.mend();
    fixture.sink().take();
    assert_eq!(device.attach(&f).unwrap().confirmed(), Ok(()));
    let commands = fixture.commands();
    let first: Vec<_> = commands.iter().take_while(|c| !c.contains("SYNC")).cloned().collect();
    let all: Vec<_> =
        streams.iter().map(|s| format!("smmu0 CFGI_STE sid={:#x} leaf=1", s.0)).collect();
    assert_eq!(first, all);
    assert!(device.read_cd().is_some());
    // Both domains that the device failed to leave, or to enter, are left now.
    assert!(d.array().is_empty() && e.array().is_empty());
    assert_eq!(smmu.asids().stats().in_use, 1);
}

/// r5: a confirmed block settles each domain that the device once failed to leave.
#[test]
fn r5_a_confirmed_device_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let d = fixture.domain(1, S1);
    for _ in 0..3 {
        let _ = device.attach(&d);
        fixture.fail_on("CFGI_STE");
        // Blocking again and again changes nothing, and the device stays one user.
        for _ in 0..3 {
            assert_eq!(device.block(), Outcome::Unconfirmed(TIMEOUT));
            assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);
        }
        fixture.mend();
        assert_eq!(device.block(), Outcome::Done);
        assert!(device.is_confirmed() && d.array().is_empty());
    }
    assert_eq!(smmu.remove_device(&device), Ok(()));
    assert!(d.into_tables().is_ok());
    let stats = smmu.asids().stats();
    assert_eq!((stats.in_use, stats.retiring, stats.quarantined), (0, 0, 0));
    assert_eq!(stats.free, stats.capacity);
}

/// r6: an SMMU that is gone does not keep a shared domain from unmapping.
#[test]
fn r6_an_smmu_that_is_gone_leaves_every_domain() {
    let fixture = Fixture::new();
    let smmus = [0, 1].map(|n| fixture.smmu(n));
    let devices = [(0, 8), (1, 8), (1, 9), (1, 10)].map(|(n, s)| fixture.device(&smmus[n], s));
    let [a, b, c, u] = devices;
    let [d, e] = [1, 2].map(|n| fixture.domain(n, S1));
    for device in [&a, &b, &u] {
        let _ = device.attach(&d);
    }
    let _ = c.attach(&e);
    // One device has a flush without proof, another an unconfirmed block.
    fixture.fail_on("TLBI_NH_ASID");
    assert!(matches!(c.block(), Outcome::Unflushed(..)));
    fixture.fail_on("CFGI_STE");
    assert!(matches!(u.block(), Outcome::Unconfirmed(_)));
    fixture.mend();
    assert_eq!(states(&d).len(), 2);

    let other = GoneProof::vouch(SmmuId(0));
    let (want, got) = (SmmuId(1), SmmuId(0));
    assert_eq!(smmus[1].gone(&other), Err(SinkError::ForeignProof { want, got }));
    assert_eq!(states(&d).len(), 2);
    fixture.sink().take();
    assert_eq!(smmus[1].gone(&GoneProof::vouch(SmmuId(1))), Ok(()));
    assert_eq!(fixture.sink().take(), []);
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);
    assert_eq!(d.invalidate(page()), Ok(()));
    assert!(fixture.commands().iter().all(|c| c.starts_with("smmu0")));
    // Its tags are free, its devices are blocked and can be removed, and none can be attached.
    let stats = smmus[1].asids().stats();
    assert_eq!((stats.in_use, stats.retiring, stats.quarantined), (0, 0, 0));
    assert_eq!(
        smmus[1].add_device(&[StreamId(20)]).map(|_| ()),
        Err(AttachError::Gone { smmu: SmmuId(1) })
    );
    for device in [&b, &c, &u] {
        assert!(matches!(device.attachment(), Attachment::Blocked) && device.is_settled());
        // A stream table that is used again leads nowhere.
        assert_eq!(device.read_ste().unwrap().decode(), SteConfig::Invalid);
        assert_eq!(device.attach(&d), Err(AttachError::Gone { smmu: SmmuId(1) }));
        assert_eq!(device.block(), Outcome::Done);
        assert_eq!(smmus[1].remove_device(device), Ok(()));
    }
    assert!(e.into_tables().is_ok());
    assert_eq!(a.block(), Outcome::Freed(ASID1));
    assert!(d.into_tables().is_ok());
}

/// r7: the tables come back only after the flush of their translations is proven.
#[test]
fn r7_tables_come_back_only_after_the_flush() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let d = fixture.domain(1, S1);
    let _ = device.attach(&d);
    let d = d.into_tables().map(|_| ()).unwrap_err();
    fixture.fail_on("TLBI_NH_ASID");
    assert_eq!(device.block(), Outcome::Unflushed(ASID1, TIMEOUT));
    let d = d.into_tables().map(|_| ()).unwrap_err();
    assert_eq!(device.settle(), Err(TIMEOUT));
    assert_eq!(
        smmu.remove_device(&device),
        Err(AttachError::Unsettled { smmu: SmmuId(0), stream: StreamId(8) })
    );
    let d = d.into_tables().map(|_| ()).unwrap_err();
    fixture.mend();
    fixture.sink().take();
    assert_eq!(smmu.settle(), Ok(()));
    assert_eq!(fixture.commands(), ["smmu0 TLBI_NH_ASID vmid=0 asid=1", "smmu0 SYNC"]);
    assert!(d.into_tables().is_ok());
    assert_eq!(smmu.remove_device(&device), Ok(()));
}

/// r8: a domain that the SMMU may still use stays alive with its tables, until the SMMU has
/// confirmed that it does not.
#[test]
fn r8_a_domain_that_the_smmu_may_use_stays_alive() {
    for failing in ["CFGI_STE", "TLBI_NH_ASID"] {
        let fixture = Fixture::new();
        let smmu = fixture.smmu(0);
        let device = fixture.device(&smmu, 8);
        let tables = tables(S1, 0x8000_0000);
        let alive = Arc::downgrade(&tables.1);
        let d = Domain::new(&fixture.env, DomainId(1), tables).unwrap();
        let _ = device.attach(&d);
        fixture.fail_on(failing);
        assert_eq!(device.block().settled(), Err(TIMEOUT));
        drop((d, device));
        assert!(alive.upgrade().is_some(), "freed while the SMMU may use the tables");
        assert_eq!(smmu.settle(), Err(TIMEOUT));
        assert!(alive.upgrade().is_some());
        fixture.mend();
        assert_eq!(smmu.settle(), Ok(()));
        assert!(alive.upgrade().is_none(), "kept for ever");
        assert_eq!(smmu.asids().stats().in_use, 0);
    }
}

/// r9: the number of `CMD_SYNC`s does not grow with the number of streams.
#[test]
fn r9_a_device_with_many_streams_waits_as_often_as_one_with_one() {
    let syncs = |count: u32| {
        let fixture = Fixture::new();
        let smmu = fixture.smmu(0);
        let streams: Vec<_> = (0..count).map(StreamId).collect();
        let device = smmu.add_device(&streams).unwrap();
        fixture.sink().take();
        let (d, e) = (fixture.domain(1, S1), fixture.domain(2, S1));
        [Target::Domain(&d), Target::Domain(&e), Target::Bypass, Target::Blocked].map(|target| {
            let _ = fixture.attach(&device, target);
            fixture.sink().take().iter().filter(|call| matches!(call, SinkCall::Wait(_))).count()
        })
    };
    // Into a stage-1 domain; to another, which is one store and the flush of the old tag; to
    // bypass, with a flush; to blocked.
    assert_eq!(syncs(1), [2, 2, 3, 1]);
    assert_eq!(syncs(64), syncs(1));
}

#[test]
fn inv_4_an_unproven_flush_quarantines_and_stays_visible() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let d = fixture.domain(1, S1);
    let _ = device.attach(&d);
    fixture.fail_on("TLBI_NH_ASID");
    assert_eq!(device.block(), Outcome::Unflushed(ASID1, TIMEOUT));
    assert_eq!(states(&d), [(0, 1, 0, EntryState::Retiring)]);
    assert_eq!(smmu.asids().stats().retiring, 1);
    // Readers still send the flush of the tag.
    fixture.mend();
    fixture.sink().take();
    d.invalidate(page()).unwrap();
    assert!(fixture.commands()[0].contains("asid=1"));
    // The next attach gets another number, and the retiring one is not found.
    let _ = device.attach(&d);
    assert_eq!(d.tag_on(SmmuId(0)), Some(CacheTag::Asid(Regime::El1, Asid(2))));
    // Once the SMMU answers again, the number can be had back.
    fixture.fail_on("TLBI_NH_ASID");
    assert!(d.retry_flushes(SmmuId(0)).is_err());
    assert_eq!(smmu.asids().stats().retiring, 1);
    fixture.mend();
    fixture.sink().take();
    assert_eq!(d.retry_flushes(SmmuId(1)), Ok(1));
    assert_eq!(d.retry_flushes(SmmuId(0)), Ok(0));
    assert_eq!(fixture.commands(), ["smmu0 TLBI_NH_ASID vmid=0 asid=1", "smmu0 SYNC"]);
    assert_eq!(smmu.asids().stats().retiring, 0);
    d.invalidate(page()).unwrap();
    assert!(fixture.commands().iter().all(|c| !c.contains("asid=1")));
    // The device finds nothing left to flush.
    assert_eq!(device.settle(), Ok(()));
    assert!(fixture.commands().is_empty());
}

#[test]
fn inv_5_an_unconfirmed_detach_from_a_shared_tag_keeps_the_tag() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let (a, b) = (fixture.device(&smmu, 8), fixture.device(&smmu, 0x10));
    let (d, e) = (fixture.domain(1, S1), fixture.domain(2, S1));
    let _ = a.attach(&d);
    let _ = b.attach(&d);
    fixture.fail_on("CFGI_STE");
    assert_eq!(a.block(), Outcome::Unconfirmed(TIMEOUT));
    assert!(!a.is_confirmed());
    fixture.mend();
    // The last device that is known goes; the SMMU may still use the tag for the first one.
    assert_eq!(b.block(), Outcome::Done);
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);
    let _ = b.attach(&e);
    assert_eq!(e.tag_on(SmmuId(0)), Some(CacheTag::Asid(Regime::El1, Asid(2))));
    assert_eq!(a.settle(), Ok(()));
    assert!(d.array().is_empty());
}

#[test]
fn a_device_whose_block_is_not_confirmed_keeps_its_memory_and_its_streams() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let _ = device.attach(&fixture.domain(1, S1));
    fixture.fail_on("CFGI_STE");
    assert_eq!(device.block(), Outcome::Unconfirmed(TIMEOUT));
    let free = fixture.dma().free_bytes();
    let refused = AttachError::Unsettled { smmu: SmmuId(0), stream: StreamId(8) };
    assert_eq!(smmu.remove_device(&device), Err(refused));
    drop(device);
    assert_eq!(fixture.dma().free_bytes(), free);
    assert!(smmu.add_device(&[StreamId(8)]).is_err());
    // Even without any reference, what the SMMU may use stays.
    drop(smmu);
    let kept = fixture.dma().free_bytes() - free;
    assert!(kept <= 2048, "{kept} bytes went: more than the level-1 table");
}

#[test]
fn inv_3_giving_up_takes_the_valid_bit_and_nothing_else() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let streams = [StreamId(8), StreamId(9)];
    let device = smmu.add_device(&streams).unwrap();
    let _ = device.attach(&fixture.domain(1, S2));
    let before = device.read_ste().unwrap();
    fixture.fail_on("CFGI_STE");
    fixture.commands();
    assert_eq!(device.block(), Outcome::Unconfirmed(TIMEOUT));
    let after = device.read_ste().unwrap();
    assert_eq!(after.0[0], 0);
    assert_eq!(after.0[1..], before.0[1..]);
    // The other stream's STE lies behind the first, and is invalid too.
    let (root, _) = smmu.stream_table();
    let words = fixture.dma().window().share();
    let word = |pa: u64| words[((pa - 0x4000_0000) / 8) as usize].load(Ordering::Relaxed);
    let level_2 = word(root.0) & 0x000f_ffff_ffff_ffc0;
    for stream in streams {
        assert_eq!(word(level_2 + u64::from(stream.0) * 64), 0, "{stream:?} is left valid");
    }
    let said = fixture.observer().take();
    assert!(said.iter().any(|n| matches!(n, Notice::ConfigUnconfirmed { .. })), "{said:?}");
    // Both streams are named twice: for the change, and for giving up.
    let commands = fixture.commands();
    for stream in ["sid=0x8 ", "sid=0x9 "] {
        assert_eq!(commands.iter().filter(|c| c.contains(stream)).count(), 2, "{commands:?}");
    }
}

#[test]
fn inv_5_an_unconfirmed_entry_is_left_invalid_and_the_old_tag_quarantined() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let d = fixture.domain(1, S1);
    let _ = device.attach(&d);
    fixture.fail_on("CFGI_STE");
    fixture.observer().take();
    fixture.commands();
    assert_eq!(device.block(), Outcome::Unconfirmed(TIMEOUT));
    let quarantined = Notice::TagQuarantined { smmu: SmmuId(0), tag: ASID1, error: TIMEOUT };
    assert!(fixture.observer().take().contains(&quarantined));
    assert_eq!(device.read_ste().unwrap().decode(), SteConfig::Invalid);
    // The old domain goes on invalidating for it.
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);
    assert!(fixture.commands().iter().all(|c| !c.contains("TLBI")));
    // A later attach works from there.
    fixture.mend();
    assert_eq!(device.bypass(), Ok(Outcome::Done));
    assert_eq!(device.read_ste().unwrap().decode(), SteConfig::Bypass);
    assert!(device.is_confirmed());
}

#[test]
fn a_device_without_references_stays_attached() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let d = fixture.domain(1, S1);
    let _ = device.attach(&d);
    drop(device);
    drop(d);
    assert_eq!(smmu.asids().stats().in_use, 1);
    assert!(smmu.add_device(&[StreamId(8)]).is_err());
    // The SMMU still knows it, as an event handler does.
    let device = smmu.device_of(StreamId(8)).unwrap();
    assert_eq!(device.block(), Outcome::Freed(ASID1));
    assert_eq!(smmu.remove_device(&device), Ok(()));
}

/// A seam that panics in the middle of an attach leaves a change that counts as not confirmed.
#[test]
fn a_panic_of_a_seam_is_an_unconfirmed_change() {
    for nth in 1..=3 {
        let countdown = Arc::new(AtomicU32::new(0));
        let left = Arc::clone(&countdown);
        let fixture = Fixture::watched(move |call| {
            let due = matches!(call, SinkCall::Issue(..)) && left.load(Ordering::Relaxed) > 0;
            assert!(!due || left.fetch_sub(1, Ordering::Relaxed) != 1, "the sink panics");
        });
        let smmu = fixture.smmu(0);
        let device = fixture.device(&smmu, 8);
        let (d, e) = (fixture.domain(1, S2), fixture.domain(2, S2));
        let _ = device.attach(&d);
        countdown.store(nth, Ordering::Relaxed);
        let panicked = catch_unwind(AssertUnwindSafe(|| device.attach(&e))).is_err();
        assert!(panicked, "an attach needs {nth} batches");
        // Neither domain goes, because the SMMU may use either.
        assert!(!device.is_confirmed() && !d.array().is_empty() && !e.array().is_empty());
        let d = d.into_tables().map(|_| ()).unwrap_err();
        assert_eq!(device.block(), Outcome::Freed(CacheTag::Vmid(Vmid(2))));
        assert!(device.is_settled());
        assert!(d.into_tables().is_ok() && e.into_tables().is_ok());
        assert_eq!(smmu.vmids().stats().in_use, 0);
    }
}

#[test]
fn a_settled_device_is_blocked_before_it_is_removed() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let _ = device.attach(&fixture.domain(1, S1));
    fixture.fail_on("CFGI_STE");
    assert!(device.block().confirmed().is_err());
    fixture.mend();
    assert_eq!(device.settle(), Ok(()));
    let invalid = AttachError::StillAttached { smmu: SmmuId(0), stream: StreamId(8) };
    assert_eq!(smmu.remove_device(&device), Err(invalid));
    assert_eq!(device.block(), Outcome::Done);
    assert_eq!(smmu.remove_device(&device), Ok(()));
    let next = smmu.add_device(&[StreamId(8)]).unwrap();
    assert_eq!(next.read_ste().unwrap().decode(), SteConfig::Abort);
}

/// While the SMMU has not confirmed the last change, it may still read every word that an entry led to.
/// An attach that it does not confirm either stores none.
#[test]
fn a_second_unconfirmed_attach_stores_nothing() {
    for (before, after) in [(S1, S1), (S2, S1), (S1, S2)] {
        let fixture = Fixture::new();
        let device = fixture.device(&fixture.smmu(0), 8);
        let [old, new, third] =
            [(1, before), (2, after), (3, S1)].map(|(id, stage)| fixture.domain(id, stage));
        assert_eq!(device.attach(&old), Ok(Outcome::Done));
        fixture.fail_on("CFGI_STE");
        assert!(matches!(device.bypass(), Ok(Outcome::Unconfirmed(_))));
        let words = || -> Vec<u64> {
            let words = fixture.dma().window().words();
            words.iter().map(|word| word.load(std::sync::atomic::Ordering::Relaxed)).collect()
        };
        let left = words();
        for domain in [&new, &third] {
            assert!(!device.attach(domain).is_ok_and(|outcome| outcome.settled().is_ok()));
            assert!(words() == left, "{before:?} to {after:?}: words changed");
        }
    }
}
