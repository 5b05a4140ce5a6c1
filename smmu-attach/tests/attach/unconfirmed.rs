//! What stays behind when hardware does not confirm a `CFGI` or a flush.

use smmu_attach::*;
use smmu_invs::EntryState;
use smmu_types::fake::RecordingSink;
use smmu_types::range::Extent;
use smmu_types::seam::{Notice, SinkError};
use smmu_types::*;

use crate::common::*;

#[test]
fn a_descriptor_that_may_still_be_read_is_replaced_with_syncs() {
    let fixture = Fixture::new(RecordingSink::new());
    let smmu = fixture.smmu(0);
    let mut device = fixture.device(&smmu, 8);
    let (d, e, f) = (domain(1, S1), domain(2, S1), domain(3, S1));
    let _ = fixture.attach(&mut device, Target::Domain(&d));
    let broken = Fixture { dma: fixture.dma.clone(), ..Fixture::new(fails_on("CFGI_STE")) };
    assert!(broken.attach(&mut device, Target::Domain(&e)).config.is_err());
    assert_eq!(device.read_cd(), None);
    fixture.sink.take();
    // The SMMU may hold the entry that leads to the old place, so that is not simply overwritten.
    assert_eq!(fixture.attach(&mut device, Target::Domain(&f)).config, Ok(()));
    let commands = fixture.commands();
    assert!(commands[0].contains("CFGI_CD"), "{commands:?}");
    assert!(device.read_cd().is_some());
    // From then on all is known again.
    fixture.sink.take();
    let _ = fixture.attach(&mut device, Target::Domain(&e));
    assert!(fixture.commands().iter().all(|command| !command.contains("CFGI_CD")));
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
