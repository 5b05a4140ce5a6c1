//! Each step of an attach that hardware confirms, by the commands that a recording sink saw.

use smmu_attach::*;
use smmu_invs::EntryState;
use smmu_tags::SpaceConfig;
use smmu_types::fake::{ID_REGISTERS, SinkCall};
use smmu_types::range::Extent;
use smmu_types::seam::{Notice, SinkError};
use smmu_types::*;

use crate::common::*;

#[test]
fn inv_4_only_the_last_detach_flushes_and_only_then_frees() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let (a, b) = (fixture.device(&smmu, 8), fixture.device(&smmu, 0x10));
    let d = fixture.domain(1, S1);
    assert_eq!(fixture.attach(&a, Target::Domain(&d)), Outcome::Done);
    assert_eq!(
        fixture.commands(),
        [
            "smmu0 CFGI_STE sid=0x8 leaf=1",
            "smmu0 SYNC",
            "smmu0 CFGI_STE sid=0x8 leaf=1",
            "smmu0 SYNC",
        ]
    );
    assert_eq!(fixture.attach(&b, Target::Domain(&d)), Outcome::Done);
    assert_eq!(states(&d), [(0, 1, 2, EntryState::Live)]);
    assert_eq!(smmu.asids().stats().in_use, 1);
    fixture.commands();
    fixture.observer().take();

    assert_eq!(fixture.attach(&a, Target::Blocked), Outcome::Done);
    assert!(fixture.commands().iter().all(|c| !c.contains("TLBI")));
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);

    let done = fixture.attach(&b, Target::Blocked);
    assert_eq!(done.freed(), Some(ASID1));
    let commands = fixture.commands();
    assert_eq!(commands[commands.len() - 2..], ["smmu0 TLBI_NH_ASID vmid=0 asid=1", "smmu0 SYNC"]);
    assert!(d.array().is_empty());
    let (id, smmu_id) = (DomainId(1), SmmuId(0));
    let tags: Vec<Notice> = fixture
        .observer()
        .take()
        .into_iter()
        .filter(|n| !matches!(n, Notice::EntryWritten { .. }))
        .collect();
    assert_eq!(
        tags,
        [
            Notice::TagRetired { domain: id, smmu: smmu_id, tag: ASID1 },
            Notice::TagFreed { smmu: smmu_id, tag: ASID1 },
        ]
    );
    let stats = smmu.asids().stats();
    assert_eq!((stats.in_use, stats.quarantined, stats.free), (0, 0, stats.capacity));
}

#[test]
fn inv_1_a_dropped_preparation_leaves_no_trace() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let d = fixture.domain(1, S1);
    let free = fixture.dma().free_bytes();
    let ste = device.read_ste();
    let smmu_id = SmmuId(0);
    let _ = fixture.observer().take();
    drop(device.prepare(Target::Domain(&d)).unwrap());
    assert_eq!(
        fixture.observer().take(),
        [
            Notice::TagAllocated { domain: DomainId(1), smmu: smmu_id, tag: ASID1 },
            Notice::TagAborted { smmu: smmu_id, tag: ASID1 },
        ]
    );
    assert_eq!(fixture.dma().free_bytes(), free);
    assert_eq!((device.read_ste(), device.read_cd()), (ste, None));
    assert!(matches!(device.attachment(), Attachment::Blocked));
    assert_eq!(smmu.asids().stats().free, smmu.asids().stats().capacity);
    assert!(d.array().is_empty());
    assert!(fixture.sink().take().is_empty());
    // The domain's lock is free again, and the number is the next one given out.
    assert_eq!(fixture.attach(&device, Target::Domain(&d)), Outcome::Done);
    assert_eq!(d.tag_on(smmu_id), Some(ASID1));
}

#[test]
fn dropping_a_published_attach_takes_the_device_out_again() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let (a, b) = (fixture.device(&smmu, 8), fixture.device(&smmu, 0x10));
    let d = fixture.domain(1, S1);
    drop(a.prepare(Target::Domain(&d)).unwrap().publish());
    assert!(d.array().is_empty());
    assert_eq!(smmu.asids().stats().free, smmu.asids().stats().capacity);
    assert_eq!(fixture.commands(), ["smmu0 TLBI_NH_ASID vmid=0 asid=1", "smmu0 SYNC"]);
    assert!(matches!(a.attachment(), Attachment::Blocked));

    let _ = fixture.attach(&b, Target::Domain(&d));
    drop(a.prepare(Target::Domain(&d)).unwrap().publish());
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);
}

#[test]
fn dropping_an_installed_attach_commits_it() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let (d, e) = (fixture.domain(1, S1), fixture.domain(2, S1));
    let _ = fixture.attach(&device, Target::Domain(&d));
    drop(device.prepare(Target::Domain(&e)).unwrap().publish().install());
    assert!(matches!(device.attachment(), Attachment::Domain(now) if now.is_same(&e)));
    assert!(d.array().is_empty());
    assert_eq!(smmu.asids().stats().in_use, 1);
}

#[test]
fn inv_2_both_domains_invalidate_between_publish_and_commit() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let (d, e) = (fixture.domain(1, S1), fixture.domain(2, S1));
    let _ = fixture.attach(&device, Target::Domain(&d));
    let page = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint();
    let both = |when: &str| {
        fixture.sink().take();
        d.invalidate(page).unwrap();
        e.invalidate(page).unwrap();
        let commands = fixture.commands().join("; ");
        assert!(commands.contains("asid=1") && commands.contains("asid=2"), "{when}: {commands}");
    };
    let published = device.prepare(Target::Domain(&e)).unwrap().publish();
    both("published");
    let installed = published.install();
    both("installed");
    assert_eq!(installed.commit().freed(), Some(ASID1));
    fixture.sink().take();
    d.invalidate(page).unwrap();
    assert!(fixture.commands().is_empty());
}

#[test]
fn inv_3_and_4_the_order_of_a_replace() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let (d, g) = (fixture.domain(1, S1), fixture.domain(2, S2));
    let _ = fixture.attach(&device, Target::Domain(&d));
    fixture.sink().take();
    assert_eq!(fixture.attach(&device, Target::Domain(&g)).freed(), Some(ASID1));
    let names: Vec<String> = fixture
        .commands()
        .iter()
        .filter(|c| !c.ends_with("SYNC"))
        .map(|c| c.split(' ').nth(1).unwrap().to_owned())
        .collect();
    // The entry first, then the old tag.
    assert_eq!(names, ["CFGI_STE", "CFGI_STE", "CFGI_STE", "TLBI_NH_ASID"]);
    assert_eq!(device.read_cd(), None);
    assert!(
        matches!(device.read_ste().unwrap().decode(), SteConfig::Stage2(s2) if s2.vmid == Vmid(1))
    );
}

#[test]
fn inv_3_from_stage_1_to_stage_1_is_hitless() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let (d, e) = (fixture.domain(1, S1), fixture.domain(2, S1));
    let _ = fixture.attach(&device, Target::Domain(&d));
    for (to, asid) in [(&e, 2), (&d, 1), (&e, 2)] {
        let (before, cd_before) = (device.read_ste().unwrap(), device.read_cd().unwrap());
        fixture.sink().take();
        let published = device.prepare(Target::Domain(to)).unwrap().publish();
        let _ = published.install().commit();
        let commands = fixture.commands();
        // One store, one sync, and the flush of the old tag.
        assert_eq!(commands[..2], ["smmu0 CFGI_STE sid=0x8 leaf=1", "smmu0 SYNC"]);
        assert!(commands[2].contains("TLBI_NH_ASID") && commands.len() == 4, "{commands:?}");
        let after = device.read_ste().unwrap();
        let differing = before.0.iter().zip(after.0).filter(|(old, new)| **old != *new).count();
        assert_eq!(differing, 1);
        assert_ne!(device.read_cd().unwrap(), cd_before);
        assert_eq!(device.read_cd().unwrap().asid(), Asid(asid));
    }
}

#[test]
fn vmids_are_set_up_as_the_configuration_says() {
    let fixture = Fixture::new();
    let vmids = SpaceConfig { reserved: &[Vmid(1)], ..SpaceConfig::default() };
    let config = SmmuConfig::default().with_vmids(vmids);
    let smmu = Smmu::new(&fixture.env, SmmuId(0), ID_REGISTERS, caps(), config).unwrap();
    let device = fixture.device(&smmu, 8);
    let g = fixture.domain(1, S2);
    assert_eq!(device.attach(&g), Ok(Outcome::Done));
    assert_eq!(g.tag_on(SmmuId(0)), Some(CacheTag::Vmid(Vmid(2))), "1 is the firmware's");
}

#[test]
fn a_forced_write_back_domain_says_so_in_the_entry() {
    let fixture = Fixture::new();
    let mut capable = caps();
    capable.forced_write_back = true;
    let config = SmmuConfig::default();
    let smmu = Smmu::new(&fixture.env, SmmuId(0), ID_REGISTERS, capable, config).unwrap();
    let device = fixture.device(&smmu, 8);
    let mut tables = tables(S2, 0x8000_0000);
    tables.0.forced_write_back = ForcedWriteBack::On;
    let g = Domain::new(&fixture.env, DomainId(1), tables).unwrap();
    let _ = fixture.attach(&device, Target::Domain(&g));
    assert!(
        matches!(device.read_ste().unwrap().decode(), SteConfig::Stage2(s2) if s2.forced_write_back)
    );
}

#[test]
fn two_smmus_with_one_number_are_refused() {
    let fixture = Fixture::new();
    let (one, other) = (fixture.smmu(0), fixture.smmu(0));
    let (a, b) = (fixture.device(&one, 8), fixture.device(&other, 8));
    let d = fixture.domain(1, S1);
    let _ = fixture.attach(&a, Target::Domain(&d));
    assert_eq!(
        b.prepare(Target::Domain(&d)).map(|_| ()).unwrap_err(),
        AttachError::SameSmmuId { smmu: SmmuId(0) }
    );
    assert_eq!((a.smmu(), fixture.device(&fixture.smmu(3), 8).smmu()), (SmmuId(0), SmmuId(3)));
}

#[test]
fn an_extent_of_another_granule_is_taken_for_the_domains_own() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let d = fixture.domain(1, S1);
    let _ = fixture.attach(&device, Target::Domain(&d));
    fixture.sink().take();
    d.invalidate(Extent::range(0, 0x10000, Granule::K64, Leaf::Last).with_page_hint()).unwrap();
    let commands = fixture.commands();
    assert!(commands[0].contains("pages=16x4K ttl=0"), "{commands:?}");
    // No leaf of a 64 KiB table maps 2 MiB, so the extent has no hint. A 4 KiB table has such leaves.
    let extent = Extent::range(0, 0x20_0000, Granule::K64, Leaf::Last).with_leaf_hint(21);
    d.invalidate(extent).unwrap();
    let commands = fixture.commands();
    assert!(commands[0].contains(" ttl=0"), "{commands:?}");
}

#[test]
fn attaching_to_the_same_domain_again_changes_nothing() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let d = fixture.domain(1, S1);
    let _ = fixture.attach(&device, Target::Domain(&d));
    fixture.sink().take();
    assert_eq!(fixture.attach(&device, Target::Domain(&d)), Outcome::Done);
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);
    assert!(fixture.commands().is_empty());
}

#[test]
fn one_domain_has_a_tag_on_each_smmu_and_one_unmap_reaches_them_all() {
    let fixture = Fixture::new();
    let (s0, s1) = (fixture.smmu(0), fixture.smmu(1));
    let other = fixture.device(&s0, 0x20);
    let _ = fixture.attach(&other, Target::Domain(&fixture.domain(9, S1)));
    let (a, b) = (fixture.device(&s0, 8), fixture.device(&s1, 8));
    let d = fixture.domain(1, S1);
    let _ = fixture.attach(&a, Target::Domain(&d));
    let _ = fixture.attach(&b, Target::Domain(&d));
    fixture.sink().take();
    d.invalidate(Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint()).unwrap();
    let calls = fixture.sink().take();
    assert!(matches!(
        &calls[..],
        [
            SinkCall::Issue(SmmuId(0), first),
            SinkCall::Issue(SmmuId(1), second),
            SinkCall::Wait(SmmuId(0)),
            SinkCall::Wait(SmmuId(1)),
        ] if first.len() == 1 && second.len() == 1
    ));
    assert_eq!(d.tag_on(SmmuId(0)), Some(CacheTag::Asid(Regime::El1, Asid(2))));
    assert_eq!(d.tag_on(SmmuId(1)), Some(ASID1));
}

#[test]
fn every_stream_of_a_device_gets_its_entry() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let streams: Vec<StreamId> = (0..40).rev().chain([3, 3]).map(StreamId).collect();
    let device = smmu.add_device(&streams).unwrap();
    assert_eq!(device.streams().len(), 40);
    // A second-level table is new, and the SMMU may hold that there was none.
    assert_eq!(fixture.commands().len(), 2);
    let d = fixture.domain(1, S1);
    let _ = fixture.attach(&device, Target::Domain(&d));
    let commands = fixture.commands();
    let count = |what: &str| commands.iter().filter(|c| c.contains(what)).count();
    // Each STE is written in two steps, and one SYNC confirms a step of all.
    assert_eq!((count("CFGI_CD"), count("CFGI_STE"), count("SYNC")), (0, 80, 2));
    for stream in streams {
        let text = format!("CFGI_STE sid={:#x} leaf=1", stream.0);
        assert_eq!(count(&text), 2, "{text}");
    }
    assert!(smmu.device_of(StreamId(39)).unwrap().is_same(&device));
}

#[test]
fn only_a_new_second_level_table_is_announced() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let add = |stream| smmu.add_device(&[StreamId(stream)]).unwrap();
    let _first = add(0x108);
    assert_eq!(fixture.commands(), ["smmu0 CFGI_STE sid=0x108 leaf=0", "smmu0 SYNC"]);
    let _second = add(0x110);
    assert!(fixture.commands().is_empty());

    fixture.fail_on("CFGI_STE");
    let refused = smmu.add_device(&[StreamId(0x208)]).map(|_| ());
    assert_eq!(refused, Err(AttachError::Sink(SinkError::timeout(SmmuId(0)))));
    assert!(smmu.device_of(StreamId(0x208)).is_none());
    // It is announced again until the SMMU confirms.
    fixture.mend();
    fixture.sink().take();
    let _third = add(0x208);
    assert_eq!(fixture.commands(), ["smmu0 CFGI_STE sid=0x208 leaf=0", "smmu0 SYNC"]);
}

#[test]
fn refusals_say_why_and_change_nothing() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let add = |streams: &[StreamId]| smmu.add_device(streams).map(|_| ());
    let id = SmmuId(0);
    assert_eq!(
        add(&[StreamId(7), StreamId(8)]),
        Err(AttachError::StreamInUse { smmu: id, stream: StreamId(8) })
    );
    assert!(smmu.device_of(StreamId(7)).is_none());
    assert_eq!(add(&[]), Err(AttachError::NoStream { smmu: id }));
    assert_eq!(
        add(&[StreamId(0x10000)]),
        Err(AttachError::StreamRange { smmu: id, stream: StreamId(0x10000), bits: 16 })
    );

    let mut wide = tables(S1, 0x8000_0000);
    wide.0.output_size = OutputSize::Bits48;
    let wide = Domain::new(&fixture.env, DomainId(5), wide).unwrap();
    assert_eq!(
        device.prepare(Target::Domain(&wide)).map(|_| ()).unwrap_err(),
        AttachError::CannotShare { domain: DomainId(5), smmu: id, lacks: Requirement::OutputSize }
    );
    let mut crooked = tables(S1, 0x8000_0008);
    crooked.0.root = PhysAddr(0x8000_0008);
    let crooked = Domain::new(&fixture.env, DomainId(6), crooked).unwrap();
    let refused = device.prepare(Target::Domain(&crooked)).map(|_| ()).unwrap_err();
    assert!(matches!(refused, AttachError::Layout(FieldError::Misaligned { field: "TTB0", .. })));
    assert_eq!(smmu.asids().stats().free, smmu.asids().stats().capacity);

    let mut narrow = tables(S1, 0x8000_0000);
    narrow.0.t0sz = 40;
    assert!(matches!(
        Domain::new(&fixture.env, DomainId(7), narrow).map(|_| ()),
        Err(AttachError::InputSize { t0sz: 40, .. })
    ));

    let _ = fixture.attach(&device, Target::Domain(&fixture.domain(1, S1)));
    let stranger = Fixture::new();
    let foreign = stranger.domain(1, S1);
    assert_eq!(
        device.prepare(Target::Domain(&foreign)).map(|_| ()).unwrap_err(),
        AttachError::ForeignEnv { domain: DomainId(1), smmu: id }
    );
    let stream = StreamId(8);
    let attached = AttachError::StillAttached { smmu: id, stream };
    assert_eq!(smmu.remove_device(&device), Err(attached));
    assert_eq!(
        fixture.smmu(1).remove_device(&device),
        Err(AttachError::Removed { smmu: SmmuId(1), stream })
    );
    assert!(device.block().freed().is_some());
    assert_eq!(smmu.remove_device(&device), Ok(()));
    let removed = AttachError::Removed { smmu: id, stream };
    assert_eq!(smmu.remove_device(&device), Err(removed));
    assert_eq!(device.attach(&fixture.domain(1, S1)), Err(removed));
    assert_eq!(device.block(), Outcome::Done);
    assert!(smmu.device_of(StreamId(8)).is_none());
    assert_eq!(add(&[StreamId(8)]), Ok(()));
}

#[test]
fn devices_cross_between_two_domains_in_parallel() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let (d, e) = (fixture.domain(1, S1), fixture.domain(2, S1));
    std::thread::scope(|scope| {
        for (stream, from, to) in [(8, &d, &e), (0x10, &e, &d), (0x18, &d, &e)] {
            let (fixture, smmu) = (&fixture, &smmu);
            scope.spawn(move || {
                let device = fixture.device(smmu, stream);
                for _ in 0..200 {
                    assert_eq!(fixture.attach(&device, Target::Domain(from)).confirmed(), Ok(()));
                    assert_eq!(fixture.attach(&device, Target::Domain(to)).confirmed(), Ok(()));
                }
                let _ = fixture.attach(&device, Target::Blocked);
            });
        }
    });
    assert!(d.array().is_empty() && e.array().is_empty());
    assert_eq!(smmu.asids().stats().free, smmu.asids().stats().capacity);
}

/// A hypervisor uses one VMID for a guest, on the CPUs and on each SMMU.
#[test]
fn a_chosen_vmid_is_the_tag_on_every_smmu() {
    let fixture = Fixture::new();
    let smmus = [fixture.smmu(0), fixture.smmu(1)];
    let config = DomainConfig::default().with_vmid(Vmid(7));
    let guest = |id: u32| {
        let tables = tables(S2, 0x8000_0000 + u64::from(id) * 0x1000);
        Domain::with_config(&fixture.env, DomainId(id), tables, config).unwrap()
    };
    let (first, second) = (guest(1), guest(2));
    let devices = [fixture.device(&smmus[0], 8), fixture.device(&smmus[1], 8)];
    for (device, id) in devices.iter().zip([0, 1]) {
        let _ = device.attach(&first).unwrap();
        assert_eq!(first.tag_on(SmmuId(id)), Some(CacheTag::Vmid(Vmid(7))));
        let SteConfig::Stage2(ste) = device.read_ste().unwrap().decode() else { panic!() };
        assert_eq!(ste.vmid, Vmid(7));
    }
    // The number belongs to one domain of an SMMU at a time, until its flush is proven.
    let other = fixture.device(&smmus[0], 9);
    let (kind, smmu) = (smmu_tags::TagKind::Vmid, SmmuId(0));
    let taken = smmu_tags::TagError::NotFree { kind, smmu, number: 7 };
    assert_eq!(other.attach(&second), Err(AttachError::Tag(taken)));
    assert_eq!(devices[0].block(), Outcome::Freed(CacheTag::Vmid(Vmid(7))));
    assert_eq!(other.attach(&second), Ok(Outcome::Done));
    let _ = other.block();
    let _ = devices[1].block();
}

#[test]
fn a_chosen_tag_is_of_the_right_stage() {
    let fixture = Fixture::new();
    let (vmid, asid) = (TagNumber::Vmid(Vmid(7)), TagNumber::Asid(Asid(7)));
    for (stage, number, right) in
        [(S1, vmid, false), (S2, asid, false), (S1, asid, true), (S2, vmid, true)]
    {
        let mut config = DomainConfig::default();
        config.number = Some(number);
        let made =
            Domain::with_config(&fixture.env, DomainId(1), tables(stage, 0x8000_0000), config);
        match made {
            Ok(domain) => assert!(right && domain.tag_number() == Some(number)),
            Err(error) => {
                assert!(!right);
                assert_eq!(error, AttachError::WrongTag { domain: DomainId(1), number });
            }
        }
    }
}

/// Each SMMU removes its own devices only.
#[test]
fn a_device_of_another_smmu_is_not_removed() {
    let fixture = Fixture::new();
    let smmus = [fixture.smmu(0), fixture.smmu(1)];
    let devices = [fixture.device(&smmus[0], 8), fixture.device(&smmus[1], 8)];
    assert!(!devices[0].is_same(&devices[1]) && devices[0].is_same(&devices[0].clone()));
    let foreign = AttachError::Removed { smmu: SmmuId(1), stream: StreamId(8) };
    assert_eq!(smmus[1].remove_device(&devices[0]), Err(foreign));
    for (smmu, device) in smmus.iter().zip(&devices) {
        assert!(smmu.device_of(StreamId(8)).is_some_and(|owner| owner.is_same(device)));
        assert_eq!(smmu.remove_device(device), Ok(()));
    }
}

#[test]
fn an_attachment_says_what_it_is() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let d = fixture.domain(7, S1);
    for (target, said) in [
        (Target::Domain(&d), format!("Domain({})", DomainId(7))),
        (Target::Bypass, "Bypass".into()),
        (Target::Blocked, "Blocked".into()),
    ] {
        let _ = fixture.attach(&device, target);
        assert_eq!(format!("{:?}", device.attachment()), said);
    }
}
