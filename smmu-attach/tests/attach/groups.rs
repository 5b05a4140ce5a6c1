//! Devices that one transaction attaches together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rstest::rstest;
use smmu_attach::*;
use smmu_invs::EntryState;
use smmu_types::fake::SinkCall;
use smmu_types::seam::SinkError;
use smmu_types::*;

use crate::common::*;

/// A group of devices behind SMMUs 0 to n, `each` of them behind every SMMU.
struct Cards {
    fixture: Fixture,
    smmus: Vec<Smmu<HeapPlatform>>,
    devices: Vec<Device<HeapPlatform>>,
    group: Group<HeapPlatform>,
}

impl Cards {
    fn new(fixture: Fixture, smmus: u16, each: u32) -> Self {
        let smmus: Vec<_> = (0..smmus).map(|id| fixture.smmu(id)).collect();
        let mut devices = Vec::new();
        // In no order: the devices of an SMMU are not neighbours.
        for n in 0..each {
            devices.extend(smmus.iter().map(|smmu| fixture.device(smmu, 8 + n)));
        }
        let group = Group::new(&devices).unwrap();
        Cards { fixture, smmus, devices, group }
    }

    fn is_attached_to(&self, device: usize, domain: &Domain<HeapPlatform>) -> bool {
        matches!(self.devices[device].attachment(), Attachment::Domain(d) if d.is_same(domain))
    }

    fn in_use(&self) -> Vec<u32> {
        self.smmus.iter().map(|smmu| smmu.asids().stats().in_use).collect()
    }
}

#[test]
fn a_group_waits_as_often_as_one_device() {
    let cards = Cards::new(Fixture::new(), 2, 3);
    let domain = cards.fixture.domain(1, S1);
    assert_eq!(cards.group.attach(&domain), Ok(Outcome::Done));
    let calls = cards.fixture.sink().take();
    let of = |id| {
        let mut streams = Vec::new();
        let mut syncs = 0;
        for call in &calls {
            match call {
                SinkCall::Issue(smmu, commands) if *smmu == SmmuId(id) => {
                    syncs += 1;
                    streams.extend(commands.iter().map(ToString::to_string));
                }
                _ => {}
            }
        }
        streams.sort();
        (streams.len(), streams.first().cloned(), syncs)
    };
    let first = Some("CFGI_STE sid=0x8 leaf=1".to_owned());
    // Two steps of three entries.
    assert_eq!((of(0), of(1)), ((6, first.clone(), 2), (6, first, 2)));
    // Both SMMUs have their commands before the first wait.
    let order: Vec<_> = calls.iter().map(|call| matches!(call, SinkCall::Wait(_))).collect();
    assert_eq!(order, [false, false, true, true, false, false, true, true]);
    let users = |n| (n, 1, 3, EntryState::Live);
    assert_eq!(states(&domain), [users(0), users(1)]);
    assert_eq!(cards.in_use(), [1, 1]);
    assert!((0..6).all(|n| cards.is_attached_to(n, &domain)));

    // A replacement between stage-1 domains is one step.
    let other = cards.fixture.domain(2, S1);
    assert!(matches!(cards.group.attach(&other), Ok(Outcome::Freed(_))));
    let calls = cards.fixture.sink().take();
    let issues = calls.iter().filter(|call| matches!(call, SinkCall::Issue(..))).count();
    assert_eq!(issues, 4, "a step and a flush for each SMMU: {calls:?}");
    assert!(domain.array().is_empty());
    assert_eq!(cards.in_use(), [1, 1]);
}

/// More SMMUs than work at the same time.
#[test]
fn a_group_spans_many_smmus() {
    let cards = Cards::new(Fixture::new(), 37, 2);
    let domain = cards.fixture.domain(1, S1);
    assert_eq!(cards.group.attach(&domain), Ok(Outcome::Done));
    assert_eq!(states(&domain), (0..37).map(|n| (n, 1, 2, EntryState::Live)).collect::<Vec<_>>());
    // The first SMMUs have their commands before a caller waits for one of them.
    let calls = cards.fixture.sink().take();
    let issues = calls.iter().take_while(|call| matches!(call, SinkCall::Issue(..))).count();
    assert!(issues >= 16, "{issues} of {calls:?}");
    let ste = cards.devices[0].read_ste().unwrap();
    assert!(matches!(ste.decode(), SteConfig::Stage1(_)));
    for device in &cards.devices {
        assert!(matches!(device.read_ste().unwrap().decode(), SteConfig::Stage1(_)));
    }
    assert!(matches!(cards.group.block(), Outcome::Freed(_)));
    assert!(cards.in_use().iter().all(|&tags| tags == 0));
    assert!(domain.into_tables().is_ok());
}

#[test]
fn each_member_leaves_alone() {
    let cards = Cards::new(Fixture::new(), 1, 3);
    let domain = cards.fixture.domain(1, S1);
    assert_eq!(cards.group.attach(&domain), Ok(Outcome::Done));
    let outcomes: Vec<_> = cards.devices.iter().map(Device::block).collect();
    assert_eq!(outcomes, [Outcome::Done, Outcome::Done, Outcome::Freed(ASID1)]);
    for device in &cards.devices {
        assert_eq!(cards.smmus[0].remove_device(device), Ok(()));
    }
    // The group of removed devices is refused by name, and its block has nothing to do.
    let stream = cards.devices[0].streams().next().unwrap();
    let refused = cards.group.attach(&domain).unwrap_err();
    assert!(matches!(refused, AttachError::Removed { smmu: SmmuId(0), .. }), "{refused}");
    assert_eq!(stream, StreamId(8));
    assert_eq!(cards.group.block(), Outcome::Done);
}

/// Members come from domains of their own, with different stages, and from none.
#[test]
fn members_come_from_different_domains() {
    let cards = Cards::new(Fixture::new(), 2, 2);
    let [a, b, c] = [(1, S1), (2, S2), (3, S1)].map(|(id, stage)| cards.fixture.domain(id, stage));
    let _ = cards.devices[0].attach(&a).unwrap();
    let _ = cards.devices[1].attach(&b).unwrap();
    let _ = cards.devices[2].bypass().unwrap();
    cards.fixture.sink().take();
    let mut outcomes = Vec::new();
    let installed = cards.group.prepare(Target::Domain(&c)).unwrap().publish().install();
    let worst = installed.commit_each(|device, outcome| {
        outcomes.push((device.smmu().0, device.streams().next().unwrap().0, outcome));
    });
    outcomes.sort_by_key(|(smmu, stream, _)| (*smmu, *stream));
    let vmid = CacheTag::Vmid(Vmid(1));
    let want = [
        (0, 8, Outcome::Freed(ASID1)),
        (0, 9, Outcome::Done),
        (1, 8, Outcome::Freed(vmid)),
        (1, 9, Outcome::Done),
    ];
    assert_eq!(outcomes, want);
    // Of outcomes that leave as much to settle, the first device's is told.
    assert_eq!(worst, Outcome::Freed(ASID1));
    assert!(a.array().is_empty() && b.array().is_empty());
    assert!((0..4).all(|n| cards.is_attached_to(n, &c)));
}

/// The order does not depend on where the allocator puts a device: the later ones lie in the memory
/// of those that were removed.
#[test]
fn commands_of_a_group_come_in_the_order_of_adding() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let mut devices: Vec<_> = (0..32).map(|n| fixture.device(&smmu, n)).collect();
    for device in devices.drain(8..24) {
        assert_eq!(smmu.remove_device(&device), Ok(()));
    }
    devices.extend((32..48).map(|n| fixture.device(&smmu, n)));
    let mut shuffled = devices.clone();
    shuffled.rotate_left(11);
    shuffled.reverse();
    let group = Group::new(&shuffled).unwrap();
    assert_eq!(group.attach(&fixture.domain(1, S2)), Ok(Outcome::Done));
    let added = (0..8).chain(24..48).map(|n| format!("smmu0 CFGI_STE sid={n:#x} leaf=1"));
    let commands = fixture.commands();
    let changed: Vec<_> = commands.iter().take(32).cloned().collect();
    assert_eq!(changed, added.collect::<Vec<_>>());
}

/// What stands in the way of the last member.
#[derive(Clone, Copy, Debug)]
enum Obstacle {
    /// Its SMMU has no stage 1.
    Walk,
    /// The number that the domain wants is taken on its SMMU.
    Number,
    /// Its SMMU is gone.
    Gone,
    /// It was removed.
    Removed,
}

/// A device of the group that cannot be attached keeps all others where they are.
#[rstest]
fn all_or_none(
    #[values(Obstacle::Walk, Obstacle::Number, Obstacle::Gone, Obstacle::Removed)] why: Obstacle,
) {
    let fixture = Fixture::new();
    let second = match why {
        Obstacle::Walk => IdRegisters { idr0: LARGE.idr0 & !0b10, ..LARGE },
        _ => LARGE,
    };
    let smmus = [fixture.smmu(0), fixture.smmu_of_kind(1, second, None)];
    let devices =
        [(0, 8), (0, 9), (1, 8)].map(|(smmu, stream)| fixture.device(&smmus[smmu], stream));
    let group = Group::new(&devices).unwrap();
    let old = fixture.domain(1, S1);
    let config = DomainConfig::default().with_asid(Asid(77));
    let new =
        Domain::with_config(&fixture.env, DomainId(2), tables(S1, 0x9000_0000), config).unwrap();
    let _ = devices[0].attach(&old).unwrap();
    let (mut taken, wanted) = (
        None,
        match why {
            Obstacle::Walk => "lacks stage 1",
            Obstacle::Number => "77",
            Obstacle::Gone => "smmu1 is gone",
            Obstacle::Removed => "is not a device of smmu1",
        },
    );
    match why {
        Obstacle::Walk => {}
        Obstacle::Number => {
            let asids = smmus[1].asids();
            taken = Some(asids.claim(SmmuId(1), Regime::El1, 16, Asid(77)).unwrap());
        }
        Obstacle::Gone => smmus[1].gone(&GoneProof::vouch(SmmuId(1))).unwrap(),
        Obstacle::Removed => smmus[1].remove_device(&devices[2]).unwrap(),
    }
    fixture.sink().take();
    let before = smmus[0].asids().stats();
    let error = group.attach(&new).unwrap_err();
    assert!(error.to_string().contains(wanted), "{error}");
    assert!(fixture.sink().take().is_empty(), "a command was sent");
    assert_eq!(smmus[0].asids().stats(), before);
    assert!(new.array().is_empty() && new.tag_on(SmmuId(0)).is_none());
    assert!(matches!(devices[0].attachment(), Attachment::Domain(d) if d.is_same(&old)));
    assert!(matches!(devices[1].attachment(), Attachment::Blocked));
    if let Some(tag) = taken {
        tag.abort();
    }
}

#[test]
fn a_busy_member_or_domain_is_named() {
    let cards = Cards::new(Fixture::new(), 1, 3);
    let [d, e] = [1, 2].map(|id| cards.fixture.domain(id, S1));
    let prepare = |domain| cards.group.prepare(Target::Domain(domain)).map(drop);
    let held = cards.devices[1].prepare(Target::Domain(&d)).unwrap();
    let busy = AttachError::DeviceBusy { smmu: SmmuId(0), stream: StreamId(9) };
    assert_eq!(prepare(&e), Err(busy));
    drop(held);
    let outsider = cards.fixture.device(&cards.smmus[0], 0x20);
    let held = outsider.prepare(Target::Domain(&d)).unwrap();
    assert_eq!(prepare(&d), Err(AttachError::DomainBusy { domain: DomainId(1) }));
    assert_eq!(prepare(&e), Ok(()));
    // A group that holds its locks refuses others.
    drop(held);
    let group = cards.group.prepare(Target::Domain(&d)).unwrap();
    for device in &cards.devices {
        let stream = device.streams().next().unwrap();
        let refused = device.prepare(Target::Blocked).map(drop);
        assert_eq!(refused, Err(AttachError::DeviceBusy { smmu: SmmuId(0), stream }));
    }
    assert_eq!(
        outsider.prepare(Target::Domain(&d)).map(drop),
        Err(AttachError::DomainBusy { domain: DomainId(1) })
    );
    drop(group);
    assert!(d.array().is_empty());
    assert_eq!(cards.in_use(), [0]);
}

#[test]
fn a_group_is_sorted_and_not_empty() {
    let cards = Cards::new(Fixture::new(), 2, 2);
    let twice: Vec<_> = cards.devices.iter().chain(&cards.devices).cloned().collect();
    let group = Group::new(&twice).unwrap();
    assert_eq!(group.devices().len(), 4);
    let smmus: Vec<_> = group.devices().iter().map(|device| device.smmu().0).collect();
    assert_eq!(smmus, [0, 0, 1, 1]);
    assert_eq!(Group::<HeapPlatform>::new(&[]).map(drop), Err(AttachError::EmptyGroup));
}

/// One of two SMMUs does not answer: its devices are unconfirmed, the others attached.
#[test]
fn an_smmu_that_fails_takes_its_own_devices_only() {
    let dead = Arc::new(AtomicBool::new(false));
    let on = Arc::clone(&dead);
    let fixture = Fixture::failing(move |call| match call {
        SinkCall::Wait(smmu) if *smmu == SmmuId(1) && on.load(Ordering::Relaxed) => {
            Some(SinkError::timeout(*smmu))
        }
        _ => None,
    });
    let cards = Cards::new(fixture, 3, 2);
    let [d, e] = [1, 2].map(|id| cards.fixture.domain(id, S1));
    assert_eq!(cards.group.attach(&d), Ok(Outcome::Done));
    dead.store(true, Ordering::Relaxed);
    let prepared = cards.group.prepare(Target::Domain(&e)).unwrap();
    let mut unconfirmed = Vec::new();
    let worst = prepared.publish().install().commit_each(|device, outcome| match outcome {
        Outcome::Unconfirmed(error) => {
            assert_eq!(error, SinkError::timeout(SmmuId(1)));
            unconfirmed.push(device.smmu().0);
        }
        outcome => assert!(outcome.settled().is_ok(), "{outcome:?}"),
    });
    assert!(matches!(worst, Outcome::Unconfirmed(_)));
    assert_eq!(unconfirmed, [1, 1]);
    for device in &cards.devices {
        let on_dead = device.smmu() == SmmuId(1);
        assert_eq!(device.is_confirmed(), !on_dead);
        let ste = device.read_ste().unwrap().decode();
        assert_eq!(ste == SteConfig::Invalid, on_dead);
    }
    // Both stay users of the old domain on that SMMU, and on no other.
    let alive = (1, 1, 2, EntryState::Live);
    let live: Vec<_> = states(&d).into_iter().filter(|row| row.3 == EntryState::Live).collect();
    assert_eq!(live, [alive]);
    dead.store(false, Ordering::Relaxed);
    assert_eq!(cards.smmus[1].settle(), Ok(()));
    assert!(d.array().is_empty());
    assert_eq!(cards.group.attach(&e), Ok(Outcome::Done));
    assert!(matches!(cards.group.block(), Outcome::Freed(_)));
    assert!(d.into_tables().is_ok() && e.into_tables().is_ok());
}

/// Each queued batch and each wait of a group's attach fails once, with all that follow on the same
/// SMMU. Afterwards everything can be settled.
#[test]
fn every_hardware_step_of_a_group_fails_once() {
    let mut failures = 0;
    for (from, to) in [(0, 1), (0, 2), (2, 0), (0, 4), (2, 3), (4, 0), (3, 2)] {
        for n in 1.. {
            let (left, dead) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(u32::MAX)));
            let (counter, which) = (Arc::clone(&left), Arc::clone(&dead));
            let fixture = Fixture::failing(move |call| {
                let (SinkCall::Issue(smmu, _) | SinkCall::Push(smmu, _) | SinkCall::Wait(smmu)) =
                    call;
                match counter.load(Ordering::Relaxed) {
                    0 => {}
                    1 if which.load(Ordering::Relaxed) == u32::MAX => {
                        which.store(smmu.0.into(), Ordering::Relaxed);
                    }
                    1 => {}
                    more => counter.store(more - 1, Ordering::Relaxed),
                }
                (which.load(Ordering::Relaxed) == u32::from(smmu.0))
                    .then(|| SinkError::timeout(*smmu))
            });
            let cards = Cards::new(fixture, 2, 3);
            let domains = [(1, S1), (2, S1), (3, S2)].map(|(id, s)| cards.fixture.domain(id, s));
            let go = |target: usize| match target {
                0..=2 => cards.group.attach(&domains[target]).unwrap(),
                3 => cards.group.bypass().unwrap(),
                _ => cards.group.block(),
            };
            assert_eq!(go(from).settled(), Ok(()));
            left.store(n, Ordering::Relaxed);
            let outcome = go(to);
            let what = format!("{from} to {to}, step {n}: {outcome:?}");
            if dead.load(Ordering::Relaxed) == u32::MAX {
                assert_eq!(outcome.settled(), Ok(()), "{what}");
                break;
            }
            failures += 1;
            assert!(outcome.settled().is_err(), "{what}: the failure was not reported");
            for device in &cards.devices {
                let (number, ste) = (u32::from(device.smmu().0), device.read_ste().unwrap());
                let healthy = number != dead.load(Ordering::Relaxed);
                assert!(!healthy || device.is_settled(), "{what}");
                assert!(device.is_confirmed() || ste.decode() == SteConfig::Invalid, "{what}");
                if from < 3 && !device.is_confirmed() {
                    let users = states(&domains[from]);
                    let used = users.iter().any(|row| u32::from(row.0) == number && row.2 > 0);
                    assert!(used, "{what}: the old domain no longer invalidates");
                }
            }
            left.store(0, Ordering::Relaxed);
            dead.store(u32::MAX, Ordering::Relaxed);
            for smmu in &cards.smmus {
                assert_eq!(smmu.settle(), Ok(()), "{what}");
            }
            assert_eq!(cards.group.block().settled(), Ok(()), "{what}");
            for smmu in &cards.smmus {
                for stats in [smmu.asids().stats(), smmu.vmids().stats()] {
                    assert_eq!((stats.in_use, stats.retiring), (0, 0), "{what}");
                    assert_eq!(stats.free, stats.capacity, "{what}");
                }
            }
            for domain in domains {
                assert!(domain.into_tables().is_ok(), "{what}: tables are kept for ever");
            }
        }
    }
    assert!(failures > 50, "{failures}");
}

#[test]
fn a_dropped_publication_takes_all_members_out() {
    let cards = Cards::new(Fixture::new(), 2, 2);
    let domain = cards.fixture.domain(1, S1);
    let published = cards.group.prepare(Target::Domain(&domain)).unwrap().publish();
    assert_eq!(states(&domain).len(), 2);
    drop(published);
    assert!(domain.array().is_empty());
    assert_eq!(cards.in_use(), [0, 0]);
    assert!(cards.devices.iter().all(Device::is_settled));
    assert!(domain.into_tables().is_ok());
}

#[test]
fn a_substream_of_each_member() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu_of_kind(0, LARGE, None);
    let config = DeviceConfig::default().with_substream_bits(4);
    let with = [8, 9].map(|n| smmu.add_device_with(&[StreamId(n)], config).unwrap());
    let without = fixture.device(&smmu, 10);
    let domain = fixture.domain(1, S1);
    let number = SubstreamId::new(3).unwrap();

    let all = Group::new(&[with[0].clone(), without, with[1].clone()]).unwrap();
    let refused = all.substream(number).map(drop).unwrap_err();
    let bits = 0;
    let (smmu_id, stream) = (SmmuId(0), StreamId(10));
    assert_eq!(
        refused,
        AttachError::SubstreamRange { smmu: smmu_id, stream, substream: number, bits }
    );
    // The members without a SubstreamID go together all the same.
    assert_eq!(all.attach(&domain), Ok(Outcome::Done));

    let group = Group::new(&with).unwrap();
    let other = fixture.domain(2, S1);
    fixture.sink().take();
    assert_eq!(group.substream(number).unwrap().attach(&other), Ok(Outcome::Done));
    let calls = fixture.sink().take();
    let waits = calls.iter().filter(|call| matches!(call, SinkCall::Wait(_))).count();
    let alone = with[0].substream(number).unwrap();
    assert!(matches!(alone.attachment(), Attachment::Domain(d) if d.is_same(&other)));
    let held = group.substream(number).unwrap().prepare(Target::Blocked).map(drop);
    assert_eq!(held, Ok(()));
    assert!(matches!(group.substream(number).unwrap().block(), Outcome::Freed(_)));
    assert!(matches!(alone.attachment(), Attachment::Blocked));
    fixture.sink().take();
    assert_eq!(with[0].substream(number).unwrap().attach(&other), Ok(Outcome::Done));
    let single = fixture.sink().take();
    let single = single.iter().filter(|call| matches!(call, SinkCall::Wait(_))).count();
    assert_eq!(waits, single, "a group waits longer than a device");
    let bypass = group.substream(number).unwrap().prepare(Target::Bypass).map(drop);
    assert!(matches!(bypass, Err(AttachError::SubstreamBypass { .. })));
}
