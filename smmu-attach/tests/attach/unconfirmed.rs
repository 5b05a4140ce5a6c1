//! What stays behind when hardware does not confirm a `CFGI` or a flush.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use smmu_attach::*;
use smmu_invs::EntryState;
use smmu_types::fake::{RecordingSink, SinkCall};
use smmu_types::range::Extent;
use smmu_types::seam::{Notice, SinkError};
use smmu_types::*;

use crate::common::*;

/// r1: a fetch that began before a `CMD_SYNC` timed out never sees words of two attaches.
#[test]
fn r1_no_word_is_stored_under_a_fetch_that_nothing_has_ended() {
    let fixture = Fixture::new(RecordingSink::new());
    let smmu = fixture.smmu(0);
    let words = fixture.dma.window().share();
    let word = move |pa: u64| words[((pa - 0x4000_0000) / 8) as usize].load(Ordering::SeqCst);
    let mut device = fixture.device(&smmu, 8);
    // Where the STE lies, as the SMMU finds it.
    let (root, _) = smmu.stream_table();
    let ste_at = (word(root.0) & 0x000f_ffff_ffff_ffc0) + 8 * 64;
    let (g, h) = (domain(1, S2), domain(2, S2));
    let _ = fixture.attach(&mut device, Target::Domain(&g));
    let old = device.read_ste().unwrap();
    // The SMMU begins a fetch: it has words 0, 1 and 3, and no order among the words is promised.
    let fetched = [0, 1, 3].map(|n| (n, word(ste_at + n * 8)));
    let dead = Fixture { dma: fixture.dma.clone(), ..Fixture::new(fails_on("CFGI_STE")) };
    assert!(dead.attach(&mut device, Target::Blocked).config.is_err());

    // The fetch ends no earlier than the first `CMD_SYNC` of the next attach.
    let views = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&views);
    let back = RecordingSink::failing(move |call| {
        if matches!(call, SinkCall::Issue(..)) && seen.lock().unwrap().is_empty() {
            let mut ste: [u64; 8] = std::array::from_fn(|n| word(ste_at + n as u64 * 8));
            for (n, value) in fetched {
                ste[n as usize] = value;
            }
            seen.lock().unwrap().push(Ste(ste));
        }
        None
    });
    let back = Fixture { dma: fixture.dma.clone(), ..Fixture::new(back) };
    let _ = back.attach(&mut device, Target::Domain(&h));
    let (new, views) = (device.read_ste().unwrap(), views.lock().unwrap());
    assert_eq!(views.len(), 1);
    for view in &*views {
        assert!(*view == old || *view == new || view.0[0] & 1 == 0, "a mix: {:?}", view.decode());
    }
}

#[test]
fn r1_every_stream_is_forgotten_before_the_first_store() {
    let fixture = Fixture::new(RecordingSink::new());
    let smmu = fixture.smmu(0);
    let streams: Vec<StreamId> = (0..20).map(|n| StreamId(n * 0x50)).collect();
    let mut device = Smmu::add_device(&smmu, &streams, &fixture.env()).unwrap();
    let (d, e, f) = (domain(1, S1), domain(2, S1), domain(3, S1));
    let _ = fixture.attach(&mut device, Target::Domain(&d));
    let broken = Fixture { dma: fixture.dma.clone(), ..Fixture::new(fails_on("CFGI_STE")) };
    assert!(broken.attach(&mut device, Target::Domain(&e)).config.is_err());
    assert_eq!(device.read_cd(), None);
    // While the SMMU does not answer, an attach is refused before it stores or takes anything.
    let (ste, tags) = (device.read_ste(), smmu.asids().stats());
    let refused = device.prepare(Target::Domain(&f), &broken.env()).map(|_| ()).unwrap_err();
    assert_eq!(refused, AttachError::Sink(SinkError::timeout(SmmuId(0))));
    assert_eq!((device.read_ste(), smmu.asids().stats()), (ste, tags));

    fixture.sink.take();
    assert_eq!(fixture.attach(&mut device, Target::Domain(&f)).config, Ok(()));
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
    let fixture = Fixture::new(RecordingSink::new());
    let smmu = fixture.smmu(0);
    let mut device = fixture.device(&smmu, 8);
    let d = domain(1, S1);
    let slow = Fixture { dma: fixture.dma.clone(), ..Fixture::new(fails_on("CFGI_STE")) };
    for _ in 0..3 {
        let _ = fixture.attach(&mut device, Target::Domain(&d));
        // Blocking again and again changes nothing, and the device stays one user.
        for _ in 0..3 {
            assert!(slow.attach(&mut device, Target::Blocked).config.is_err());
            assert_eq!(states(&d).len(), 1);
            assert_eq!(states(&d)[0].2, 1);
        }
        assert_eq!(fixture.attach(&mut device, Target::Blocked).config, Ok(()));
        assert!(device.is_confirmed() && d.array().is_empty());
    }
    drop(device);
    assert!(states(&d).is_empty());
    drop(d);
    let stats = smmu.asids().stats();
    assert_eq!((stats.in_use, stats.retiring, stats.quarantined), (0, 0, 0));
    assert_eq!(stats.free, stats.capacity);
}

/// r8: a domain that the SMMU may still use stays alive, until the SMMU has confirmed that it does not.
#[test]
fn r8_a_domain_that_the_smmu_may_use_stays_alive() {
    let fixture = Fixture::new(RecordingSink::new());
    let smmu = fixture.smmu(0);
    let mut device = fixture.device(&smmu, 8);
    let d = domain(1, S1);
    let _ = fixture.attach(&mut device, Target::Domain(&d));
    let slow = Fixture { dma: fixture.dma.clone(), ..Fixture::new(fails_on("CFGI_STE")) };
    let _ = slow.attach(&mut device, Target::Blocked);
    let weak = Arc::downgrade(&d);
    drop(d);
    assert!(weak.upgrade().is_some(), "freed while the SMMU may be led to its tables");
    assert_eq!(device.settle(&fixture.env()), Ok(()));
    assert!(weak.upgrade().is_none());
    assert_eq!(smmu.asids().stats().in_use, 0);
}

/// r9: the number of `CMD_SYNC`s does not grow with the number of streams.
#[test]
fn r9_a_device_with_many_streams_waits_as_often_as_one_with_one() {
    let syncs = |count: u32| {
        let fixture = Fixture::new(RecordingSink::new());
        let smmu = fixture.smmu(0);
        let streams: Vec<_> = (0..count).map(StreamId).collect();
        let mut device = Smmu::add_device(&smmu, &streams, &fixture.env()).unwrap();
        fixture.sink.take();
        let (d, e) = (domain(1, S1), domain(2, S1));
        [Target::Domain(&d), Target::Domain(&e), Target::Bypass, Target::Blocked].map(|target| {
            let _ = fixture.attach(&mut device, target);
            fixture.sink.take().iter().filter(|call| matches!(call, SinkCall::Wait(_))).count()
        })
    };
    // Into a stage-1 domain; to another, which is one store and the flush of the old tag; to bypass,
    // with a flush; to blocked.
    assert_eq!(syncs(1), [2, 2, 3, 1]);
    assert_eq!(syncs(64), syncs(1));
}

#[test]
fn inv_4_an_unproven_flush_quarantines_and_stays_visible() {
    let fixture = Fixture::new(fails_on("TLBI_NH_ASID"));
    let smmu = fixture.smmu(0);
    let mut device = fixture.device(&smmu, 8);
    let d = domain(1, S1);
    let _ = fixture.attach(&mut device, Target::Domain(&d));
    let done = fixture.attach(&mut device, Target::Blocked);
    assert_eq!(done, Committed { freed: None, quarantined: Some(ASID1), config: Ok(()) });
    assert_eq!(states(&d), [(0, 1, 0, EntryState::Retiring)]);
    assert_eq!(smmu.asids().stats().retiring, 1);
    // Readers still send the flush of the tag.
    fixture.sink.take();
    let page = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint();
    d.invalidate(page, &fixture.sink).unwrap();
    assert!(fixture.commands()[0].contains("asid=1"));
    // The next attach gets another number, and the retiring one is not found.
    let _ = fixture.attach(&mut device, Target::Domain(&d));
    assert_eq!(d.tag_on(SmmuId(0)), Some(CacheTag::Asid(Regime::El1, Asid(2))));
    // Once the SMMU answers again, the number can be had back.
    assert!(d.retry_flushes(SmmuId(0), &fixture.env()).is_err());
    assert_eq!(smmu.asids().stats().retiring, 1);
    let mended = Fixture { dma: fixture.dma.clone(), ..Fixture::new(RecordingSink::new()) };
    assert_eq!(d.retry_flushes(SmmuId(1), &mended.env()), Ok(1));
    assert_eq!(d.retry_flushes(SmmuId(0), &mended.env()), Ok(0));
    assert_eq!(mended.commands(), ["smmu0 TLBI_NH_ASID vmid=0 asid=1", "smmu0 SYNC"]);
    assert_eq!(smmu.asids().stats().retiring, 0);
    mended.sink.take();
    d.invalidate(page, &mended.sink).unwrap();
    assert!(mended.commands().iter().all(|c| !c.contains("asid=1")));
}

#[test]
fn inv_5_an_unconfirmed_detach_from_a_shared_tag_keeps_the_tag() {
    let fixture = Fixture::new(RecordingSink::new());
    let smmu = fixture.smmu(0);
    let (mut a, mut b) = (fixture.device(&smmu, 8), fixture.device(&smmu, 0x10));
    let (d, e) = (domain(1, S1), domain(2, S1));
    let _ = fixture.attach(&mut a, Target::Domain(&d));
    let _ = fixture.attach(&mut b, Target::Domain(&d));
    let broken = Fixture { dma: fixture.dma.clone(), ..Fixture::new(fails_on("CFGI_STE")) };
    let done = broken.attach(&mut a, Target::Blocked);
    assert_eq!((done.freed, done.quarantined), (None, Some(ASID1)));
    assert!(!a.is_confirmed());
    // The last device that is known goes; the SMMU may still use the tag for the first one.
    let done = fixture.attach(&mut b, Target::Blocked);
    assert_eq!((done.freed, done.quarantined), (None, None));
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);
    let _ = fixture.attach(&mut b, Target::Domain(&e));
    assert_eq!(e.tag_on(SmmuId(0)), Some(CacheTag::Asid(Regime::El1, Asid(2))));
}

#[test]
fn a_device_whose_block_is_not_confirmed_keeps_its_memory_and_its_streams() {
    let fixture = Fixture::new(RecordingSink::new());
    let smmu = fixture.smmu(0);
    let mut device = fixture.device(&smmu, 8);
    let _ = fixture.attach(&mut device, Target::Domain(&domain(1, S1)));
    let broken = Fixture { dma: fixture.dma.clone(), ..Fixture::new(fails_on("CFGI_STE")) };
    assert!(broken.attach(&mut device, Target::Blocked).config.is_err());
    let free = fixture.dma.free_bytes();
    drop(device);
    assert_eq!(fixture.dma.free_bytes(), free);
    assert!(Smmu::add_device(&smmu, &[StreamId(8)], &fixture.env()).is_err());
    drop(smmu);
    assert_eq!(fixture.dma.free_bytes(), free, "the stream table went");
}

#[test]
fn inv_3_giving_up_takes_the_valid_bit_and_nothing_else() {
    let fixture = Fixture::new(RecordingSink::new());
    let smmu = fixture.smmu(0);
    let streams = [StreamId(8), StreamId(9)];
    let mut device = Smmu::add_device(&smmu, &streams, &fixture.env()).unwrap();
    let _ = fixture.attach(&mut device, Target::Domain(&domain(1, S2)));
    let before = device.read_ste().unwrap();
    let broken = Fixture { dma: fixture.dma.clone(), ..Fixture::new(fails_on("CFGI_STE")) };
    assert!(broken.attach(&mut device, Target::Blocked).config.is_err());
    let after = device.read_ste().unwrap();
    assert_eq!(after.0[0], 0);
    assert_eq!(after.0[1..], before.0[1..]);
    let said = broken.observer.take();
    assert!(said.iter().any(|n| matches!(n, Notice::ConfigUnconfirmed { .. })), "{said:?}");
}

#[test]
fn inv_5_an_unconfirmed_entry_is_left_invalid_and_the_old_tag_quarantined() {
    let fixture = Fixture::new(RecordingSink::new());
    let smmu = fixture.smmu(0);
    let mut device = fixture.device(&smmu, 8);
    let d = domain(1, S1);
    let _ = fixture.attach(&mut device, Target::Domain(&d));
    let broken = Fixture { dma: fixture.dma.clone(), ..Fixture::new(fails_on("CFGI_STE")) };
    let done = broken.attach(&mut device, Target::Blocked);
    assert_eq!(done.config, Err(SinkError::timeout(SmmuId(0))));
    assert_eq!((done.freed, done.quarantined), (None, Some(ASID1)));
    assert_eq!(device.read_ste().unwrap().decode(), SteConfig::Invalid);
    // The old domain goes on invalidating for it.
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);
    assert!(broken.commands().iter().all(|c| !c.contains("TLBI")));
    // A later attach works from there.
    assert_eq!(fixture.attach(&mut device, Target::Bypass), DONE);
    assert_eq!(device.read_ste().unwrap().decode(), SteConfig::Bypass);
    assert!(device.is_confirmed());
}

#[test]
fn a_device_that_is_dropped_while_attached_keeps_its_tag_and_its_streams() {
    let fixture = Fixture::new(RecordingSink::new());
    let smmu = fixture.smmu(0);
    let mut device = fixture.device(&smmu, 8);
    let d = domain(1, S1);
    let _ = fixture.attach(&mut device, Target::Domain(&d));
    drop(device);
    drop(d);
    assert_eq!(smmu.asids().stats().in_use, 1);
    assert!(Smmu::add_device(&smmu, &[StreamId(8)], &fixture.env()).is_err());
}
