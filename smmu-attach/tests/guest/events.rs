//! Events of the host's SMMU: whose they are, and what the guest gets.

use rstest::rstest;
use smmu_attach::guest::{EventOwner, HostReason};
use smmu_types::EventRecord;

use crate::checks::{Mapped, World};

/// SSV, SubstreamID 7; the host's StreamIDs of a device whose stage 1 translates, that bypasses,
/// that aborts, and whose STE is invalid.
const STAGE1: u64 = 0x0000_4100_0000_7800;
const BYPASS: u64 = 0x0000_4400_0000_7800;
const ABORTS: u64 = 0x0000_4500_0000_7800;
const INVALID: u64 = 0x0000_4600_0000_7800;
const UNKNOWN: u64 = 0x0000_0008_0000_7800;

fn owner(world: &World, words: [u64; 4]) -> EventOwner {
    world.smmu.event(&EventRecord(words), &Mapped)
}

/// A stage-1 fault, with every field of the host's set: STAG 0x21, ImpDef, an address of its own
/// in word 3.
#[rstest]
#[case::translation(0x10)]
#[case::addr_size(0x11)]
#[case::access(0x12)]
#[case::permission(0x13)]
fn a_fault_of_stage_1_is_the_guests(#[case] kind: u64) {
    // PnU, InD, RnW, CLASS = IN; NSIPA.
    let word1 = 0xffff_024e_0000_0021;
    let record = [STAGE1 | kind, word1, 0x5678, 0x0000_dead_beef_0008];
    let told = [0x0000_0008_0000_7800 | kind, 0x0000_020e_0000_0000, 0x5678, 0];
    assert_eq!(owner(&World::rich(), record), EventOwner::Guest(EventRecord(told)));
    // Stalled: the tag stays.
    let record = [record[0], word1 | 1 << 31, record[2], record[3]];
    let told = [told[0], 0x0000_020e_8000_0021, told[2], 0];
    assert_eq!(owner(&World::rich(), record), EventOwner::Guest(EventRecord(told)));
    // A guest without stalls could not answer.
    assert_eq!(owner(&World::modest(), record), EventOwner::Host(HostReason::Stalled));
    // S2.
    let record = [record[0], word1 | 1 << 39, record[2], record[3]];
    assert_eq!(owner(&World::rich(), record), EventOwner::Host(HostReason::Stage2));
}

#[test]
fn a_permission_fault_keeps_the_direction_of_the_table_access() {
    let word1 = 1 << 44 | 1 << 40 | 1 << 35;
    let record = [STAGE1 | 0x13, word1, 0x5000, 0];
    let told = [0x0000_0008_0000_7813, word1, 0x5000, 0];
    assert_eq!(owner(&World::rich(), record), EventOwner::Guest(EventRecord(told)));
    // The bit is the implementation's in the other faults.
    let record = [STAGE1 | 0x10, word1, 0x5000, 0];
    let told = [0x0000_0008_0000_7810, word1 & !(1 << 44), 0x5000, 0];
    assert_eq!(owner(&World::rich(), record), EventOwner::Guest(EventRecord(told)));
}

const G: Option<HostReason> = None;
const MEMORY: Option<HostReason> = Some(HostReason::HostMemory);
const ENTRY: Option<HostReason> = Some(HostReason::NotOfThisEntry);
const KIND: Option<HostReason> = Some(HostReason::UnknownKind);

/// Each event number with each state of the guest's STE: stage 1, bypass, abort, invalid.
#[rstest]
#[case::f_uut(0x01, [G, G, ENTRY, ENTRY])]
#[case::c_bad_streamid(0x02, [MEMORY; 4])]
#[case::f_ste_fetch(0x03, [MEMORY; 4])]
#[case::c_bad_ste(0x04, [ENTRY, ENTRY, ENTRY, G])]
#[case::f_bad_ats_treq(0x05, [G, G, ENTRY, ENTRY])]
#[case::f_stream_disabled(0x06, [G, ENTRY, ENTRY, ENTRY])]
#[case::f_transl_forbidden(0x07, [G, G, ENTRY, ENTRY])]
#[case::c_bad_substreamid(0x08, [G, G, ENTRY, ENTRY])]
#[case::f_cd_fetch(0x09, [MEMORY; 4])]
#[case::c_bad_cd(0x0a, [G, ENTRY, ENTRY, ENTRY])]
#[case::f_walk_eabt(0x0b, [MEMORY; 4])]
#[case::f_translation(0x10, [G, ENTRY, ENTRY, ENTRY])]
#[case::f_permission(0x13, [G, ENTRY, ENTRY, ENTRY])]
#[case::f_tlb_conflict(0x20, [G, ENTRY, ENTRY, ENTRY])]
#[case::f_cfg_conflict(0x21, [MEMORY; 4])]
#[case::e_page_request(0x24, [G, ENTRY, ENTRY, ENTRY])]
#[case::f_vms_fetch(0x25, [MEMORY; 4])]
#[case::reserved(0x14, [KIND; 4])]
#[case::none(0x00, [KIND; 4])]
#[case::implementation_defined(0xe0, [KIND; 4])]
fn each_event_has_an_owner(#[case] kind: u64, #[case] reasons: [Option<HostReason>; 4]) {
    let guests = [8, 0xb, 0x10, 0x11];
    for ((stream, reason), guest) in
        [STAGE1, BYPASS, ABORTS, INVALID].into_iter().zip(reasons).zip(guests)
    {
        let found = owner(&World::rich(), [stream | kind, 0, 0, 0]);
        match (reason, found) {
            (Some(reason), found) => assert_eq!(found, EventOwner::Host(reason)),
            (None, EventOwner::Guest(record)) => assert_eq!(record.stream().0, guest),
            (None, other) => panic!("{stream:x}: {other:?}"),
        }
    }
    let found = owner(&World::rich(), [UNKNOWN | kind, 0, 0, 0]);
    assert_eq!(found, EventOwner::Host(HostReason::UnknownStream));
}

#[rstest]
#[case::f_bad_ats_treq(0x05)]
#[case::f_transl_forbidden(0x07)]
fn events_of_ats_are_the_hosts_if_the_guest_sees_none(#[case] kind: u64) {
    assert_eq!(
        owner(&World::modest(), [STAGE1 | kind, 0, 0, 0]),
        EventOwner::Host(HostReason::NoAts)
    );
}

/// All bits set, and what is left of them.
#[rstest]
#[case::f_uut(0x01, [0x0000_0008_ffff_f801, 0xe_0000_0000, u64::MAX, 0])]
#[case::c_bad_cd(0x0a, [0x0000_0008_ffff_f80a, 0, 0, 0])]
#[case::f_bad_ats_treq(0x05, [0x0000_0008_ffff_f805, 0xf000_000f, u64::MAX << 12, 0])]
#[case::f_stream_disabled(0x06, [0x0000_0008_0000_0006, 0, 0, 0])]
#[case::f_transl_forbidden(0x07, [0x0000_0008_0000_0007, 0x8_0000_0000, u64::MAX, 0])]
#[case::c_bad_substreamid(0x08, [0x0000_0008_ffff_f008, 0, 0, 0])]
#[case::e_page_request(0x24, [0x0000_0008_ffff_f824, 0x000f_f0ee_0000_0000, u64::MAX << 12, 0])]
fn a_guest_gets_its_own_fields_alone(#[case] kind: u64, #[case] told: [u64; 4]) {
    let record = [0x0000_4100_ffff_ff00 | kind, u64::MAX, u64::MAX, u64::MAX];
    assert_eq!(owner(&World::rich(), record), EventOwner::Guest(EventRecord(told)));
}

#[test]
fn a_conflict_of_the_tlb_has_no_reason_for_the_guest() {
    // Every bit but S2.
    let record = [0x0000_4100_ffff_ff20, !(1 << 39), 0x5000, u64::MAX];
    let told = [0x0000_0008_ffff_f820, 0xe_0000_0000, 0x5000, 0];
    assert_eq!(owner(&World::rich(), record), EventOwner::Guest(EventRecord(told)));
    let record = [record[0], u64::MAX, record[2], record[3]];
    assert_eq!(owner(&World::rich(), record), EventOwner::Host(HostReason::Stage2));
}
