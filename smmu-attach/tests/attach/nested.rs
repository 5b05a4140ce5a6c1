//! Virtual SMMUs: a guest's stage 1 over the host's stage 2.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rstest::rstest;
use smmu_attach::guest::*;
use smmu_attach::*;
use smmu_invs::{EntryState, InvKind};
use smmu_types::fake::SinkCall;
use smmu_types::range::Extent;
use smmu_types::seam::SinkError;
use smmu_types::*;

use crate::common::*;

const PAGE: Extent = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last);
/// A guest's STE: stage 1, one CD at this IPA.
const STAGE1: Ste = Ste([0x8000_000b, 0xd4, 0, 0, 0, 0, 0, 0]);
const OTHER_CD: Ste = Ste([0x9000_000b, 0xd4, 0, 0, 0, 0, 0, 0]);
const BYPASS: Ste = Ste([0x9, 0, 0, 0, 0, 0, 0, 0]);
const ABORT: Ste = Ste([0x1, 0, 0, 0, 0, 0, 0, 0]);

struct Host {
    fixture: Fixture,
    smmus: [Smmu<HeapPlatform>; 2],
    parent: Domain<HeapPlatform>,
    guest: IdRegisters,
}

impl Host {
    fn new() -> Self {
        Self::with(Fixture::new())
    }

    fn with(fixture: Fixture) -> Self {
        let smmus = [0, 1].map(|id| fixture.smmu_of_kind(id, LARGE, None));
        let parent = fixture.domain(1, S2);
        let guest = guest_ids(&[LARGE], &Emulation::new(OutputSize::Bits44)).unwrap();
        Host { fixture, smmus, parent, guest }
    }

    fn virtual_smmu(&self, smmu: usize) -> VirtualSmmu<HeapPlatform> {
        self.smmus[smmu].virtual_smmu(&self.parent, self.guest).unwrap()
    }

    fn device(&self, smmu: usize, stream: u32) -> Device<HeapPlatform> {
        let config = DeviceConfig::default().with_substream_bits(4);
        let device = self.smmus[smmu].add_device_with(&[StreamId(stream)], config).unwrap();
        self.fixture.sink().take();
        device
    }

    fn rows(&self) -> Vec<(u16, InvKind, u32, u32, EntryState)> {
        let array = self.parent.array();
        let row = |view: smmu_invs::InvView| {
            let key = view.spec.key;
            (key.smmu.0, key.kind, key.id, view.users, view.state)
        };
        array.iter().map(row).collect()
    }

    fn end(self, guests: Vec<VirtualSmmu<HeapPlatform>>) {
        for guest in guests {
            let ended = guest.end().unwrap();
            assert!(ended.settled().is_ok(), "{ended:?}");
        }
        for smmu in &self.smmus {
            let stats = smmu.vmids().stats();
            assert_eq!((stats.in_use, stats.retiring, stats.quarantined), (0, 0, 0));
        }
        assert!(self.parent.array().is_empty());
        assert!(self.parent.into_tables().is_ok());
    }
}

fn entry(of: &VirtualSmmu<HeapPlatform>, guest: Ste) -> HostEntry {
    of.policy().entry(&guest, AtsPermission::Denied).unwrap()
}

/// Two guests on one parent, one SMMU and one guest's ASIDs: each has its own VMID, and an unmap of
/// the parent reaches both, with what their stage 1 has cached.
#[test]
fn two_virtual_smmus_never_mix() {
    let host = Host::new();
    let guests = [host.virtual_smmu(0), host.virtual_smmu(0)];
    let [a, b] = guests.each_ref().map(VirtualSmmu::vmid);
    assert_ne!(a, b);
    assert!(!guests[0].is_same(&guests[1]));
    assert_eq!(guests.each_ref().map(VirtualSmmu::smmu), [SmmuId(0); 2]);
    let elsewhere = host.virtual_smmu(1);
    assert_eq!(elsewhere.smmu(), SmmuId(1));
    assert!(elsewhere.end().is_ok());
    let devices = [8, 9].map(|stream| host.device(0, stream));
    for (device, guest) in devices.iter().zip(&guests) {
        assert_eq!(device.attach_nested(guest, &entry(guest, STAGE1)), Ok(Outcome::Done));
        let Attachment::Nested(through) = device.attachment() else { panic!() };
        assert!(through.is_same(guest));
        let ste = device.read_ste().unwrap();
        assert_eq!(ste, entry(guest, STAGE1).entry());
        assert_eq!(ste.to_string(), format!("nested vmid={}", guest.vmid()));
    }
    let live = |kind, vmid: Vmid| (0, kind, vmid.0.into(), 1, EntryState::Live);
    assert_eq!(
        host.rows(),
        [
            live(InvKind::S2VmidVsmmu, a),
            live(InvKind::S2VmidVsmmu, b),
            live(InvKind::S2VmidS1Clear, a),
            live(InvKind::S2VmidS1Clear, b),
        ]
    );
    host.fixture.commands();
    host.parent.invalidate(PAGE).unwrap();
    let commands = host.fixture.commands();
    for vmid in [a, b] {
        let place = |name: &str| {
            let of = format!("vmid={vmid}");
            let found = |c: &String| c.contains(name) && c.split(' ').any(|word| word == of);
            commands.iter().position(found).unwrap_or_else(|| panic!("{name} {vmid}: {commands:?}"))
        };
        assert!(place("TLBI_S2_IPA") < place("TLBI_NH_ALL"), "{commands:?}");
    }

    // An entry of one guest is not one of the other.
    let foreign = devices[0].attach_nested(&guests[0], &entry(&guests[1], STAGE1)).unwrap_err();
    let (smmu, stream) = (SmmuId(0), StreamId(8));
    assert_eq!(foreign, AttachError::ForeignVirtualSmmu { smmu, stream });
    let elsewhere = host.device(1, 8);
    let foreign = elsewhere.attach_nested(&guests[0], &entry(&guests[0], STAGE1)).unwrap_err();
    assert_eq!(foreign, AttachError::ForeignVirtualSmmu { smmu: SmmuId(1), stream });
    for device in &devices {
        assert_eq!(device.block(), Outcome::Done);
    }
    drop(elsewhere);
    host.end(guests.into());
}

/// The VMID stays from creation to end, whatever devices come and go.
#[test]
fn the_vmid_lives_as_long_as_the_virtual_smmu() {
    let host = Host::new();
    let guest = host.virtual_smmu(0);
    let device = host.device(0, 8);
    for _ in 0..3 {
        let _ = device.attach_nested(&guest, &entry(&guest, STAGE1)).unwrap();
        // The end is refused while an SMMU may use the VMID.
        let guest = guest.clone().end().map(drop).unwrap_err();
        let _ = device.block();
        assert!(host.rows().iter().all(|row| row.4 == EntryState::Retiring), "{:?}", host.rows());
        // An unmap goes on flushing it.
        host.fixture.commands();
        host.parent.invalidate(PAGE).unwrap();
        assert!(host.fixture.commands().iter().any(|c| c.contains("TLBI_S2_IPA")));
        assert_eq!(host.smmus[0].vmids().stats().in_use, 1);
        drop(guest);
    }
    host.fixture.commands();
    let tag = CacheTag::Vmid(guest.vmid());
    assert_eq!(guest.end().unwrap(), Outcome::Freed(tag));
    assert_eq!(host.fixture.commands(), ["smmu0 TLBI_S12_VMALL vmid=1", "smmu0 SYNC"]);
    assert!(host.parent.array().is_empty());
    host.end(Vec::new());
}

#[test]
fn a_virtual_smmu_without_end() {
    let host = Host::new();
    let device = host.device(0, 8);
    drop(host.virtual_smmu(0));
    assert_eq!(host.smmus[0].vmids().stats().in_use, 0, "no device has used it");
    let guest = host.virtual_smmu(0);
    let _ = device.attach_nested(&guest, &entry(&guest, BYPASS)).unwrap();
    let _ = device.block();
    drop(guest);
    let stats = host.smmus[0].vmids().stats();
    assert_eq!((stats.in_use, stats.quarantined), (0, 1));
}

#[test]
fn an_unproven_end_is_tried_again() {
    let host = Host::new();
    let guest = host.virtual_smmu(0);
    let device = host.device(0, 8);
    let _ = device.attach_nested(&guest, &entry(&guest, STAGE1)).unwrap();
    let _ = device.block();
    host.fixture.fail_on("TLBI_S12_VMALL");
    let outcome = guest.end().unwrap();
    assert!(matches!(outcome, Outcome::Unflushed(CacheTag::Vmid(Vmid(1)), _)), "{outcome:?}");
    assert!(!host.parent.array().is_empty(), "an unmap no longer flushes it");
    assert!(host.parent.retry_flushes(SmmuId(0)).is_err());
    host.fixture.mend();
    assert_eq!(host.parent.retry_flushes(SmmuId(0)), Ok(0));
    host.end(Vec::new());
}

/// What a guest does to its STE, in syncs: it stays attached, and other VMIDs are not touched.
#[test]
fn a_guest_changes_its_entry() {
    let host = Host::new();
    let guest = host.virtual_smmu(0);
    let device = host.device(0, 8);
    let syncs = |ste| {
        let _ = device.attach_nested(&guest, &entry(&guest, ste)).unwrap();
        let commands = host.fixture.commands();
        assert!(!commands.iter().any(|c| c.contains("TLBI")), "{commands:?}");
        commands.iter().filter(|c| c.ends_with("SYNC")).count()
    };
    assert_eq!(syncs(ABORT), 0);
    assert_eq!(syncs(STAGE1), 2, "from abort");
    assert_eq!(syncs(STAGE1), 0, "nothing changes");
    assert_eq!(syncs(OTHER_CD), 1, "one word");
    assert!(matches!(device.attachment(), Attachment::Nested(_)));
    assert!(syncs(BYPASS) > 0);
    assert_eq!(device.read_ste().unwrap(), entry(&guest, BYPASS).entry());
    assert!(matches!(device.read_ste().unwrap().decode(), SteConfig::Stage2(_)));
    assert!(syncs(ABORT) > 0);
    assert!(matches!(device.attachment(), Attachment::Blocked));
    host.end(vec![guest]);
}

#[test]
fn what_cannot_be_nested_is_refused_by_name() {
    let host = Host::new();
    let stage1 = host.fixture.domain(2, S1);
    let refused = host.smmus[0].virtual_smmu(&stage1, host.guest).map(drop).unwrap_err();
    let (domain, smmu, stream) = (DomainId(2), SmmuId(0), StreamId(8));
    assert_eq!(refused, AttachError::ParentStage1 { domain, smmu });
    // More than the host has.
    let more = IdRegisters { idr0: host.guest.idr0 | 1 << 16, ..host.guest };
    let refused = host.smmus[0].virtual_smmu(&host.parent, more).map(drop).unwrap_err();
    assert!(matches!(refused, AttachError::Guest(_)), "{refused}");
    assert_eq!(host.smmus[0].vmids().stats().in_use, 0);
    // A guest that was told of ATS, and a device that uses none.
    let guest = host.virtual_smmu(0);
    let device = host.device(0, 8);
    // A nested stage 1 has no room for the host's substreams.
    let substream = device.substream(SubstreamId::new(1).unwrap()).unwrap();
    let _ = substream.attach(&stage1).unwrap();
    let refused = device.attach_nested(&guest, &entry(&guest, STAGE1)).unwrap_err();
    assert_eq!(refused, AttachError::SubstreamsAttached { smmu, domain: DomainId(1) });
    let _ = substream.block();
    let target = Target::Nested(&guest, entry(&guest, STAGE1));
    let refused = substream.prepare(target).map(drop).unwrap_err();
    assert_eq!(refused, AttachError::SubstreamStage2 { smmu, domain: DomainId(1) });
    let _ = device.attach_nested(&guest, &entry(&guest, STAGE1)).unwrap();
    let refused = substream.attach(&stage1).unwrap_err();
    assert!(matches!(refused, AttachError::StreamStage2 { .. }), "{refused}");
    let _ = device.block();
    // An SMMU that is gone.
    host.smmus[0].gone(&GoneProof::vouch(smmu)).unwrap();
    let refused = host.smmus[0].virtual_smmu(&host.parent, host.guest).map(drop).unwrap_err();
    assert_eq!(refused, AttachError::Gone { smmu });
    host.fixture.sink().take();
    assert!(matches!(guest.end(), Ok(Outcome::Freed(_))));
    assert!(host.fixture.sink().take().is_empty(), "a command to an SMMU that is gone");
    assert_eq!(stream, StreamId(8));
    drop(device);
    host.end(Vec::new());
}

/// The guest's commands arrive as its policy made them, in order.
#[test]
fn the_guests_commands_are_carried_out() {
    let host = Host::new();
    let guest = host.virtual_smmu(0);
    let streams = [StreamId(8)];
    let map = [VirtualDevice { guest: StreamId(1), host: &streams, entry: entry(&guest, STAGE1) }];
    let batch: Vec<_> =
        (0..40).map(|n| Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(n) }.encode()).collect();
    let mut out = [RawCommand::default(); 64];
    let progress = guest.policy().commands(&batch, &map[..], &mut out);
    assert_eq!(guest.run(&out[..progress.written]), Ok(()));
    let commands = host.fixture.commands();
    let mut flushed = commands.iter().filter(|c| !c.ends_with("SYNC"));
    for n in 0..40 {
        let want = format!("smmu0 TLBI_NH_ASID vmid={} asid={n}", guest.vmid());
        assert_eq!(flushed.next(), Some(&want));
    }
    assert!(commands.last().unwrap().ends_with("SYNC"));
    host.fixture.fail_on("TLBI_NH_ASID");
    assert_eq!(guest.run(&out[..1]), Err(SinkError::timeout(SmmuId(0))));
    host.end(vec![guest]);
}

/// Each queued batch and each wait of a nested attach fails once.
#[rstest]
#[case::from_abort(&[STAGE1])]
#[case::another_table(&[STAGE1, OTHER_CD])]
#[case::to_bypass(&[STAGE1, BYPASS])]
#[case::to_blocked(&[STAGE1, ABORT])]
fn every_step_fails_once(#[case] way: &[Ste]) {
    let (last, before) = way.split_last().unwrap();
    for n in 1.. {
        let left = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&left);
        let fixture = Fixture::failing(move |call| {
            let (SinkCall::Issue(smmu, _) | SinkCall::Push(smmu, _) | SinkCall::Wait(smmu)) = call;
            match counter.load(Ordering::Relaxed) {
                0 => None,
                1 => Some(SinkError::timeout(*smmu)),
                more => {
                    counter.store(more - 1, Ordering::Relaxed);
                    None
                }
            }
        });
        let host = Host::with(fixture);
        let guest = host.virtual_smmu(0);
        let device = host.device(0, 8);
        for ste in before {
            let _ = device.attach_nested(&guest, &entry(&guest, *ste)).unwrap();
        }
        left.store(n, Ordering::Relaxed);
        let outcome = device.attach_nested(&guest, &entry(&guest, *last)).unwrap();
        let failed = outcome.settled().is_err();
        if failed {
            let ste = device.read_ste().unwrap().decode();
            assert_eq!(ste, SteConfig::Invalid, "step {n}");
            if !before.is_empty() {
                assert!(!host.parent.array().is_empty(), "step {n}");
            }
            let guest = guest.clone().end().map(drop).unwrap_err();
            drop(guest);
        }
        left.store(0, Ordering::Relaxed);
        assert_eq!(host.smmus[0].settle(), Ok(()));
        assert_eq!(device.block().settled(), Ok(()));
        host.end(vec![guest]);
        if !failed {
            assert!(n > 1);
            break;
        }
    }
}

fn reread(guest: &VirtualSmmu<HeapPlatform>, device: &Device<HeapPlatform>, ste: Ste) -> Reread {
    guest.reread(device, &ste, AtsPermission::Denied).unwrap()
}

/// A guest's `CFGI_STE`: the device is attached only if something changed, and the SMMU forgets the
/// CDs in any case.
#[test]
fn a_guest_rereads_its_entry() {
    const FORGET: [&str; 2] = ["smmu0 CFGI_STE sid=0x8 leaf=1", "smmu0 SYNC"];
    let host = Host::new();
    let guest = host.virtual_smmu(0);
    let device = host.device(0, 8);

    // Blocked, and the guest's STE aborts: nothing to forget.
    for ste in [ABORT, Ste([0; 8])] {
        let found = reread(&guest, &device, ste);
        assert_eq!(found.change, SteChange::StaysBlocked);
        assert_eq!((found.confirmed(), host.fixture.commands().len()), (Ok(()), 0));
    }
    assert_eq!(reread(&guest, &device, Ste([0; 8])).entry, HostEntry::INVALID);

    let found = reread(&guest, &device, STAGE1);
    assert_eq!(found.change, SteChange::Attached(Outcome::Done));
    assert_eq!(found.entry, entry(&guest, STAGE1));
    assert!(found.refusal.is_none());
    assert_eq!(host.fixture.commands().len(), 4, "two steps from abort");
    let users = host.rows();

    // The guest has changed a CD, or nothing at all.
    for _ in 0..2 {
        assert_eq!(reread(&guest, &device, STAGE1).change, SteChange::Forgotten);
        assert_eq!(host.fixture.commands(), FORGET);
        assert_eq!(host.rows(), users);
    }
    // A bit that has no effect changes nothing.
    let ignored = Ste([STAGE1.0[0], STAGE1.0[1] | 1 << 19, 0, 0, 0, 0, 0, 0]);
    assert_eq!(reread(&guest, &device, ignored).change, SteChange::Forgotten);
    assert_eq!(host.fixture.commands(), FORGET);

    // Hitless: the attach sends the one command itself.
    let found = reread(&guest, &device, OTHER_CD);
    assert_eq!(found.change, SteChange::Attached(Outcome::Done));
    assert_eq!(host.fixture.commands(), FORGET);
    assert_eq!(device.read_ste(), Some(found.entry.entry()));

    // A stage 2 of its own is refused, and blocks the device.
    let found = reread(&guest, &device, Ste([0xd, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(found.change, SteChange::Attached(Outcome::Done));
    assert_eq!(found.refusal.map(|refusal| refusal.field), Some("Config"));
    assert!(matches!(device.attachment(), Attachment::Blocked));
    host.fixture.commands();
    let found = reread(&guest, &device, Ste([0xd, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!((found.change, found.refusal.is_some()), (SteChange::StaysBlocked, true));
    host.end(vec![guest]);
}

/// The same words as another attachment has are no reason to leave the device there.
#[test]
fn a_reread_does_not_take_another_attachment_for_its_own() {
    let host = Host::new();
    let guest = host.virtual_smmu(0);
    let device = host.device(0, 8);
    let _ = device.bypass().unwrap();
    host.fixture.commands();
    assert_eq!(reread(&guest, &device, ABORT).change, SteChange::Attached(Outcome::Done));
    assert!(matches!(device.attachment(), Attachment::Blocked));
    let _ = reread(&guest, &device, BYPASS);
    // Another guest, with the other's entry: its policy made another VMID.
    let other = host.virtual_smmu(0);
    assert_eq!(reread(&other, &device, BYPASS).change, SteChange::Attached(Outcome::Done));
    assert!(matches!(device.attachment(), Attachment::Nested(to) if to.is_same(&other)));
    assert_eq!(device.block(), Outcome::Done);
    host.end(vec![guest, other]);
}

/// The SMMU does not confirm: the guest's command is not complete, and the next one starts anew.
#[test]
fn a_reread_that_is_not_confirmed() {
    let host = Host::new();
    let guest = host.virtual_smmu(0);
    let device = host.device(0, 8);
    let _ = reread(&guest, &device, STAGE1);

    // The entries stay; the CDs may be cached still.
    host.fixture.fail_on("CFGI_STE");
    let failed = guest.reread(&device, &STAGE1, AtsPermission::Denied).map(drop);
    assert_eq!(failed, Err(AttachError::Sink(SinkError::timeout(SmmuId(0)))));
    assert!(matches!(device.attachment(), Attachment::Nested(_)));
    assert!(device.is_confirmed(), "the entries are as they were");

    // The entries change, unconfirmed: the same STE again is no longer the same.
    let found = reread(&guest, &device, OTHER_CD);
    assert_eq!(found.confirmed(), Err(SinkError::timeout(SmmuId(0))));
    assert!(matches!(found.change, SteChange::Attached(Outcome::Unconfirmed(_))));
    host.fixture.mend();
    let found = reread(&guest, &device, OTHER_CD);
    assert_eq!((found.change, found.confirmed()), (SteChange::Attached(Outcome::Done), Ok(())));
    assert_eq!(device.read_ste(), Some(found.entry.entry()));
    assert_eq!(reread(&guest, &device, OTHER_CD).change, SteChange::Forgotten);
    let _ = device.block();

    host.smmus[0].remove_device(&device).unwrap();
    let refused = guest.reread(&device, &ABORT, AtsPermission::Denied).map(drop);
    let removed = AttachError::Removed { smmu: SmmuId(0), stream: StreamId(8) };
    assert_eq!(refused, Err(removed));
    host.end(vec![guest]);
}
