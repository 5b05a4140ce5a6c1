//! A kept stream gets a device, which replaces or blocks it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use smmu_attach::adopt::*;
use smmu_attach::*;
use smmu_types::*;

use super::rig::*;
use crate::common::*;
use crate::substreams::Reached;

/// The old owner aborted a stream, and its `CFGI_STE` was cut off: the SMMU still uses the old STE.
#[test]
fn inv_5_the_smmu_forgets_what_no_ste_shows_any_more() {
    let rig = Rig::new();
    let smmu = rig.adopt(&LIVE);
    assert_eq!(rig.commands(), ["CFGI_ALL", "TLBI_NSNH_ALL"]);
    assert_eq!(smmu.stream_table(), rig.old.stream_table());
}

#[test]
fn a_foreign_stream_is_replaced_without_a_gap() {
    let rig = Rig::new();
    let smmu = rig.adopt(&KEPT);
    let device = smmu.add_device(&[StreamId(STAGE1)]).unwrap();
    assert!(matches!(device.attachment(), Attachment::Foreign));
    assert_eq!(rig.reached(STAGE1), Reached::Stage1(Asid(1)));
    let early = device.substream(SubstreamId::new(1).unwrap());
    assert!(matches!(early, Err(AttachError::ForeignAttached { .. })));
    assert!(matches!(smmu.remove_device(&device), Err(AttachError::StillAttached { .. })));

    let domain = rig.domain(9, S1);
    let (memory, at) = (rig.memory.clone(), rig.ste_at(STAGE1));
    let ends = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ends);
    *rig.look.lock().unwrap() = Some(Box::new(move || {
        let end = reached(&memory, Ste(memory.entry(at)));
        let mut seen = seen.lock().unwrap();
        if seen.last() != Some(&end) {
            seen.push(end);
        }
    }));
    assert_eq!(device.attach(&domain), Ok(Outcome::Done));
    *rig.look.lock().unwrap() = None;
    // ASIDs 1 and 2 are reserved.
    assert_eq!(*ends.lock().unwrap(), [Reached::Stage1(Asid(1)), Reached::Stage1(Asid(3))]);
    assert!(device.is_settled());

    // ASID 1 is free after its last stream.
    let twins = smmu.add_device(&TWINS.map(StreamId)).unwrap();
    assert_eq!(twins.block(), Outcome::Done);
    rig.commands();
    let last = smmu.add_device(&[StreamId(TWO_LEVEL)]).unwrap();
    assert!(matches!(last.block_all(), Outcome::Done | Outcome::Freed(_)));
    let commands = rig.commands();
    assert_eq!(commands.iter().filter(|c| c.starts_with("TLBI_NH_ALL")).count(), 2, "{commands:?}");
    assert_eq!(smmu.asids().stats().in_use, 1, "the new domain's");
    assert_eq!(smmu.next_foreign_stream(None), None);
    assert_eq!(smmu.remove_device(&twins), Ok(()));
    assert_eq!(device.block(), Outcome::Freed(asid(3)));
}

/// A device over a kept stream has nothing to settle: the tags stay reserved while the stream runs.
#[test]
fn settling_a_foreign_device_releases_nothing() {
    let rig = Rig::new();
    let smmu = rig.adopt(&[STAGE1]);
    let device = smmu.add_device(&[StreamId(STAGE1)]).unwrap();
    let (stats, ste) = (smmu.asids().stats(), rig.ste(STAGE1));
    rig.commands();
    assert_eq!((device.settle(), smmu.settle()), (Ok(()), Ok(())));
    assert_eq!((smmu.asids().stats(), rig.ste(STAGE1)), (stats, ste));
    assert_eq!(rig.commands(), Vec::<String>::new());
    assert_eq!(device.block().settled(), Ok(()));
    assert_eq!(smmu.asids().stats().free, stats.free + 1);
}

#[test]
fn a_device_that_is_refused_leaves_its_foreign_stream() {
    let rig = Rig::new();
    let smmu = rig.adopt(&KEPT);
    let owner = smmu.add_device(&[StreamId(0x99)]).unwrap();
    let refused = smmu.add_device(&[StreamId(STAGE1), StreamId(0x99)]);
    assert!(matches!(refused, Err(AttachError::StreamInUse { .. })));
    assert_eq!(smmu.remove_device(&owner), Ok(()));
    assert_eq!(smmu.next_foreign_stream(None), Some(StreamId(STAGE1)));
    let both = smmu.add_device(&[StreamId(STAGE1), StreamId(0x99)]).unwrap();
    assert_eq!(both.bypass(), Ok(Outcome::Done));
    assert_eq!(rig.reached(STAGE1), Reached::Memory);
}

/// The SMMU does not confirm the new second-level table of a device that also has a kept stream.
#[test]
fn a_device_that_is_not_announced_leaves_its_foreign_stream() {
    let rig = Rig::new();
    let before = Arc::strong_count(&rig.memory.0);
    let smmu = rig.adopt(&[STAGE1]);
    let (stats, ste) = (smmu.asids().stats(), rig.ste(STAGE1));
    rig.fail_at.store(1, Ordering::Relaxed);
    let refused = smmu.add_device(&[StreamId(STAGE1), StreamId(0x500)]);
    assert!(matches!(refused, Err(AttachError::Sink(_))), "{refused:?}");
    rig.fail_at.store(0, Ordering::Relaxed);
    assert_eq!((smmu.asids().stats(), rig.ste(STAGE1)), (stats, ste));
    assert_eq!(smmu.next_foreign_stream(None), Some(StreamId(STAGE1)));
    let both = smmu.add_device(&[StreamId(STAGE1), StreamId(0x500)]).unwrap();
    assert_eq!(both.block().settled(), Ok(()));
    assert_eq!(smmu.asids().stats().free, stats.free + 1);
    drop((smmu, both));
    assert_eq!(Arc::strong_count(&rig.memory.0), before, "a block over the old table is left");
}

#[test]
fn a_device_that_is_refused_keeps_no_memory() {
    let rig = Rig::new();
    let before = Arc::strong_count(&rig.memory.0);
    let smmu = rig.adopt(&KEPT);
    let owner = smmu.add_device(&[StreamId(0x99)]).unwrap();
    assert!(smmu.add_device(&[StreamId(TWO_LEVEL), StreamId(0x99)]).is_err());
    assert_eq!(smmu.remove_device(&owner), Ok(()));
    drop((smmu, owner));
    assert_eq!(Arc::strong_count(&rig.memory.0), before, "a block over the old table is left");
}

#[test]
fn a_nested_stream_is_kept_without_its_guests_cds() {
    let rig = Rig::new();
    // The guest's table is where the host has no memory.
    let word = 1 | 7 << 1 | 0x7000_0000;
    rig.memory.set(rig.ste_at(STAGE2), word);
    let survey = rig.survey().unwrap();
    let live = survey.stream(StreamId(STAGE2)).unwrap();
    let context = PhysAddr(0x7000_0000);
    assert!(
        matches!(live.kind, StreamKind::Nested { table, vmid: Vmid(1) } if table.context == context)
    );
    let smmu = rig.adopt(&[STAGE2]);
    assert!(smmu.vmids().claim(Vmid(1)).is_err());
    let device = smmu.add_device(&[StreamId(STAGE2)]).unwrap();
    assert_eq!(device.bypass(), Ok(Outcome::Freed(VMID1)));
    assert_eq!(rig.reached(STAGE2), Reached::Memory);
}

#[test]
fn a_foreign_stream_with_ats_needs_a_device_with_ats() {
    let mut rig = Rig::new();
    rig.registers.idr0 |= 1 << 10;
    let word = rig.ste(STAGE1).0[1] | 1 << 28;
    rig.memory.set(rig.ste_at(STAGE1) + 8, word);
    let smmu = rig.adopt(&[STAGE1]);
    let refused = smmu.add_device(&[StreamId(STAGE1)]).map(|_| ());
    assert_eq!(refused, Err(AttachError::ForeignAts { smmu: SMMU, stream: StreamId(STAGE1) }));
    let config = DeviceConfig::default().with_ats(AtsUse::Always);
    let device = smmu.add_device_with(&[StreamId(STAGE1)], config).unwrap();
    rig.commands();
    assert_eq!(device.block(), Outcome::Freed(asid(1)));
    let commands = rig.commands();
    assert!(commands.iter().any(|c| c.starts_with("ATC_INV")), "{commands:?}");
}
