//! The life of a tag and the promises of a space, case by case.

extern crate std;

use crate::*;
use alloc::sync::Arc;
use rstest::rstest;
use smmu_types::fake::{RecordingObserver, RecordingSink};
use smmu_types::seam::Notice;
use smmu_types::{Asid, CacheTag, FlushProof, Regime, SmmuId, Vmid};
use std::string::ToString;

const SMMU: SmmuId = SmmuId(3);

fn asid(number: u16) -> CacheTag {
    CacheTag::Asid(Regime::El1, Asid(number))
}

fn fresh(space: &AsidSpace) -> FreshTag {
    space.allocate(SMMU, Regime::El1, 8).unwrap()
}

fn stats(space: &AsidSpace) -> [u32; 6] {
    let TagStats { capacity, free, fresh, in_use, retiring, quarantined } = space.stats();
    [capacity, free, fresh, in_use, retiring, quarantined]
}

#[test]
fn inv_1_each_step_is_counted_and_the_lowest_number_returns() {
    let space = AsidSpace::new(8).unwrap();
    let tag = fresh(&space);
    assert_eq!((tag.tag(), tag.smmu()), (asid(1), SMMU));
    assert_eq!(stats(&space), [255, 254, 1, 0, 0, 0]);
    let tag = tag.install();
    assert_eq!(stats(&space), [255, 254, 0, 1, 0, 0]);
    let tag = tag.retire();
    assert_eq!(stats(&space), [255, 254, 0, 0, 1, 0]);
    let second = fresh(&space);
    assert_eq!(second.tag(), asid(2), "a retiring number is not free");
    let proof = FlushProof::obtain(&RecordingSink::new(), SMMU, tag.tag()).unwrap();
    assert_eq!(tag.free(proof).unwrap(), asid(1));
    assert_eq!(fresh(&space).tag(), asid(1));
}

#[test]
fn inv_2_a_fresh_tag_goes_back_at_once() {
    let space = AsidSpace::new(8).unwrap();
    fresh(&space).abort();
    drop(fresh(&space));
    assert_eq!(stats(&space), [255, 255, 0, 0, 0, 0]);
}

#[test]
fn inv_2_a_foreign_proof_frees_nothing() {
    let space = AsidSpace::new(8).unwrap();
    let sink = RecordingSink::new();
    let tag = fresh(&space).install().retire();

    let other_smmu = FlushProof::obtain(&sink, SmmuId(4), asid(1)).unwrap();
    let error = tag.free(other_smmu).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ASID 1 of smmu3 cannot be freed: the flush was proven on smmu4; flush it on smmu3"
    );

    let el2 = CacheTag::Asid(Regime::El2, Asid(1));
    let other_tag = FlushProof::obtain(&sink, SMMU, el2).unwrap();
    let error = error.into_tag().free(other_tag).unwrap_err();
    assert_eq!(error.error(), TagError::ProofOfOtherTag { smmu: SMMU, want: asid(1), got: el2 });
    assert_eq!(stats(&space), [255, 254, 0, 0, 1, 0]);

    let (tag, proof) = error.into_parts();
    assert_eq!(proof.tag(), el2);
    let proof = FlushProof::obtain(&sink, SMMU, asid(1)).unwrap();
    tag.free(proof).unwrap();
    assert_eq!(stats(&space), [255, 255, 0, 0, 0, 0]);
}

#[test]
fn inv_3_a_number_dropped_in_use_is_never_given_out_again() {
    let space = AsidSpace::new(8).unwrap();
    drop(fresh(&space).install());
    drop(fresh(&space).install().retire());
    fresh(&space).install().retire().quarantine();
    assert_eq!(stats(&space), [255, 252, 0, 0, 0, 3]);
    assert_eq!(fresh(&space).tag(), asid(4));
}

#[test]
fn an_exhausted_space_says_what_to_do() {
    let space = VmidSpace::new(SMMU, 8).unwrap();
    space.reserve(Vmid(9)).unwrap();
    drop(space.allocate().unwrap().install());
    let held: std::vec::Vec<_> = (0..253).map(|_| space.allocate().unwrap()).collect();
    assert_eq!(held.last().unwrap().tag(), CacheTag::Vmid(Vmid(255)));
    let error = space.allocate().unwrap_err();
    assert_eq!(
        error.to_string(),
        "smmu3: all 255 VMIDs that it can use are taken, 1 of the space by firmware and 1 \
         quarantined for good; detach a domain from smmu3"
    );
}

#[test]
fn widths_share_one_space() {
    let space = AsidSpace::new(16).unwrap();
    let wide = |_| space.allocate(SmmuId(1), Regime::El2, 16).unwrap();
    let held: std::vec::Vec<_> = (0..255).map(wide).collect();
    assert!(matches!(
        space.allocate(SmmuId(2), Regime::El1, 8),
        Err(TagError::Exhausted { limit: 255, smmu: SmmuId(2), .. })
    ));
    assert_eq!(wide(0).tag(), CacheTag::Asid(Regime::El2, Asid(256)));
    drop(held);
    assert_eq!(space.allocate(SmmuId(2), Regime::El1, 8).unwrap().tag(), asid(1));
}

#[rstest]
#[case(0)]
#[case(7)]
#[case(17)]
#[case(255)]
fn widths_other_than_8_and_16_are_refused(#[case] bits: u8) {
    let kind = TagKind::Asid;
    assert_eq!(AsidSpace::new(bits).unwrap_err(), TagError::BadWidth { kind, bits });
    assert!(VmidSpace::new(SMMU, bits).is_err());
    let space = AsidSpace::new(8).unwrap();
    assert!(space.allocate(SMMU, Regime::El1, bits).is_err());
}

#[test]
fn reserved_numbers_are_left_out() {
    let space = AsidSpace::new(8).unwrap();
    for number in [0, 1, 3, 0] {
        space.reserve(Asid(number)).unwrap();
    }
    let again = space.reserve(Asid(1)).unwrap_err();
    assert_eq!(again, TagError::AlreadyTaken { kind: TagKind::Asid, number: 1 });
    assert_eq!(stats(&space), [253, 253, 0, 0, 0, 0]);
    let held = [fresh(&space), fresh(&space)];
    assert_eq!(held.each_ref().map(|t| t.tag()), [asid(2), asid(4)]);
    let kind = TagKind::Asid;
    assert_eq!(space.reserve(Asid(2)).unwrap_err(), TagError::AlreadyTaken { kind, number: 2 });
    assert_eq!(
        space.reserve(Asid(256)).unwrap_err(),
        TagError::OutOfRange { kind, number: 256, last: 255 }
    );
}

#[test]
fn a_claim_gives_out_exactly_this_number() {
    let space = VmidSpace::new(SMMU, 8).unwrap();
    let tag = space.claim(Vmid(9)).unwrap();
    assert_eq!((tag.tag(), tag.smmu()), (CacheTag::Vmid(Vmid(9)), SMMU));
    assert_eq!(space.stats().fresh, 1);
    let held: std::vec::Vec<_> = (1..=8).map(|_| space.allocate().unwrap()).collect();
    assert_eq!(held.last().unwrap().tag(), CacheTag::Vmid(Vmid(8)));
    assert_eq!(space.allocate().unwrap().tag(), CacheTag::Vmid(Vmid(10)), "9 is claimed");

    let tag = tag.install().retire();
    assert!(space.claim(Vmid(9)).is_err(), "a retiring number is not free");
    let proof = FlushProof::obtain(&RecordingSink::new(), SMMU, tag.tag()).unwrap();
    tag.free(proof).unwrap();
    drop(space.claim(Vmid(9)).unwrap());
    assert_eq!(space.claim(Vmid(255)).unwrap().tag(), CacheTag::Vmid(Vmid(255)));
    drop(held);
    assert_eq!(space.stats().free, 255);
}

#[test]
fn a_claim_of_a_number_that_is_not_free_says_what_to_do() {
    let space = VmidSpace::new(SMMU, 8).unwrap();
    space.reserve(Vmid(2)).unwrap();
    drop(space.claim(Vmid(3)).unwrap().install());
    let _held = space.allocate().unwrap();
    for number in [1, 2, 3] {
        let error = space.claim(Vmid(number)).unwrap_err();
        assert_eq!(error, TagError::NotFree { kind: TagKind::Vmid, smmu: SMMU, number });
    }
    assert_eq!(
        space.claim(Vmid(2)).unwrap_err().to_string(),
        "smmu3: VMID 2 cannot be claimed: it is given out, reserved or quarantined; detach the \
         domain that has it, or use another number"
    );
    assert_eq!(
        space.claim(Vmid(0)).unwrap_err().to_string(),
        "VMID 0 cannot be claimed: a space never gives it out; use 1 to 255"
    );
    assert_eq!(
        space.claim(Vmid(256)).unwrap_err().to_string(),
        "VMID 256 is out of range: the last one that can be used is 255"
    );
    assert_eq!(
        space.stats(),
        TagStats { capacity: 254, free: 252, fresh: 1, quarantined: 1, ..TagStats::default() }
    );
}

#[test]
fn a_claim_of_an_asid_keeps_to_the_width_of_its_smmu() {
    let space = AsidSpace::new(16).unwrap();
    let kind = TagKind::Asid;
    let narrow = space.claim(SMMU, Regime::El1, 8, Asid(256)).unwrap_err();
    assert_eq!(narrow, TagError::OutOfRange { kind, number: 256, last: 255 });
    let wide = space.claim(SmmuId(1), Regime::El2, 16, Asid(u16::MAX)).unwrap();
    assert_eq!(wide.tag(), CacheTag::Asid(Regime::El2, Asid(u16::MAX)));
    assert_eq!(
        space.claim(SMMU, Regime::El1, 7, Asid(1)).unwrap_err(),
        TagError::BadWidth { kind, bits: 7 }
    );
    let other_regime = space.claim(SMMU, Regime::El1, 16, Asid(u16::MAX)).unwrap_err();
    assert_eq!(other_regime, TagError::NotFree { kind, smmu: SMMU, number: u16::MAX });
}

#[test]
fn a_list_is_reserved_at_construction() {
    let reserved = &[5, 0, 1, 5, 255].map(Asid);
    let config = SpaceConfig { reserved, ..SpaceConfig::default() };
    let space = AsidSpace::with_config(8, config.clone()).unwrap();
    assert_eq!(stats(&space), [252, 252, 0, 0, 0, 0]);
    let held: std::vec::Vec<_> = (0..252).map(|_| fresh(&space)).collect();
    assert!(held.iter().all(|t| !reserved.iter().any(|r| t.tag() == asid(r.0))));
    assert!(space.allocate(SMMU, Regime::El1, 8).is_err());

    let reserved = &[Asid(300)];
    let error = AsidSpace::with_config(8, SpaceConfig { reserved, ..config }).unwrap_err();
    let kind = TagKind::Asid;
    assert_eq!(error, TagError::OutOfRange { kind, number: 300, last: 255 });
}

#[test]
fn next_fit_delays_reuse_for_each_width() {
    let config = SpaceConfig { choice: Choice::NextFit, ..SpaceConfig::default() };
    let space = AsidSpace::with_config(16, config).unwrap();
    for want in (1..=255).chain(1..=3) {
        assert_eq!(space.allocate(SMMU, Regime::El1, 8).unwrap().tag(), asid(want));
    }
    for want in (1..=65535).chain(1..=3) {
        assert_eq!(space.allocate(SMMU, Regime::El1, 16).unwrap().tag(), asid(want));
    }
    assert_eq!(fresh(&space).tag(), asid(4), "the narrow round goes on where it was");
}

#[test]
fn the_high_water_mark_stays() {
    let space = AsidSpace::new(8).unwrap();
    assert_eq!(space.high_water(), 0);
    let held = [fresh(&space), fresh(&space), fresh(&space)].map(FreshTag::install);
    for in_use in held {
        let proof = FlushProof::obtain(&RecordingSink::new(), SMMU, in_use.tag()).unwrap();
        in_use.retire().free(proof).unwrap();
    }
    drop(fresh(&space).install());
    assert_eq!((space.high_water(), space.stats().quarantined), (3, 1));
    let _held: std::vec::Vec<_> = (0..3).map(|_| fresh(&space).install()).collect();
    assert_eq!(space.high_water(), 4, "a quarantined number counts");
}

#[rstest]
fn rounds_by_cpu_begin_in_quarters_and_come_round(
    #[values(Keep::WhileUsed, Keep::Forever)] keep: Keep,
) {
    std::thread_local!(static CPU: core::cell::Cell<usize> = const { core::cell::Cell::new(0) });
    let choice = Choice::NextFitByCpu(|| CPU.get());
    let config = SpaceConfig { choice, keep, ..SpaceConfig::default() };
    let space = AsidSpace::with_config(8, config).unwrap();
    let on = |cpu| {
        CPU.set(cpu);
        fresh(&space).tag()
    };
    assert_eq!([0, 1, 2, 3, 5].map(on), [1, 64, 128, 192, 65].map(asid));
    assert_eq!([0, 1, 2, 3].map(on), [2, 66, 129, 193].map(asid));
    CPU.set(0);
    let held: std::vec::Vec<_> = (0..255).map(|_| fresh(&space)).collect();
    assert!(space.allocate(SMMU, Regime::El1, 8).is_err(), "every number is in every round");
    drop(held);
}

#[test]
fn inv_3_the_listener_hears_of_each_lost_number() {
    let heard = Arc::new(RecordingObserver::new());
    let listener: Listener = heard.clone();
    let config = SpaceConfig { listener: Some(listener), ..SpaceConfig::default() };
    let space = AsidSpace::with_config(8, config.clone()).unwrap();
    let proof = FlushProof::obtain(&RecordingSink::new(), SMMU, asid(1)).unwrap();
    fresh(&space).install().retire().free(proof).unwrap();
    drop(fresh(&space));
    fresh(&space).abort();
    assert_eq!(heard.take(), []);
    drop(fresh(&space).install());
    drop(fresh(&space).install().retire());
    fresh(&space).install().retire().quarantine();
    let foreign = FlushProof::obtain(&RecordingSink::new(), SMMU, asid(1)).unwrap();
    drop(fresh(&space).install().retire().free(foreign));
    let lost = [1, 2, 3, 4].map(|number| Notice::TagDropped { smmu: SMMU, tag: asid(number) });
    assert_eq!(heard.take(), lost);
    assert_eq!(space.stats().quarantined, 4);
}

#[test]
fn a_virtual_smmu_owns_its_vmid_and_users_only_flush_it() {
    let space = VmidSpace::new(SMMU, 8).unwrap();
    let sink = RecordingSink::new();
    let vsmmu = Arc::new(space.allocate_for_vsmmu().unwrap());
    let user = Arc::clone(&vsmmu);
    assert_eq!((user.vmid(), user.smmu()), (Vmid(1), SMMU));
    assert_eq!(space.stats().in_use, 1, "in use from its creation");
    user.flush(&sink).unwrap();
    user.flush_stage1(&sink).unwrap();
    assert_eq!(space.stats().in_use, 1, "a user's flush frees nothing");
    assert_eq!(space.allocate().unwrap().tag(), CacheTag::Vmid(Vmid(2)));

    let vsmmu = Arc::try_unwrap(vsmmu).expect_err("a user is left");
    drop(user);
    let retiring = Arc::try_unwrap(vsmmu).unwrap().end();
    assert_eq!(space.stats().retiring, 1);
    let proof = FlushProof::obtain(&sink, SMMU, retiring.tag()).unwrap();
    retiring.free(proof).unwrap();
    assert_eq!(space.stats().free, 255);

    drop(space.allocate_for_vsmmu().unwrap());
    assert_eq!(space.stats().quarantined, 1, "without a proof the number is lost");
}

#[test]
#[cfg(target_pointer_width = "64")]
fn memory_is_as_stated() {
    let wide = AsidSpace::new(16).unwrap();
    let narrow = VmidSpace::new(SMMU, 8).unwrap();
    assert_eq!([wide.bytes(), narrow.bytes()], [8840, 552]);
    let choice = Choice::NextFitByCpu(|| 0);
    let config = SpaceConfig { choice, ..SpaceConfig::default() };
    assert_eq!(AsidSpace::with_config(16, config).unwrap().bytes(), 8840 + 352);
}

#[test]
fn a_shared_tag_is_the_installed_one() {
    let space = AsidSpace::new(8).unwrap();
    let in_use = fresh(&space).install();
    let found = in_use.share();
    assert_eq!((found.tag(), found.smmu()), (asid(1), SMMU));
}

#[test]
#[cfg(target_pointer_width = "64")]
fn a_tag_is_small() {
    assert_eq!(size_of::<FreshTag>(), 24);
}

#[test]
fn handles_and_tags_outlive_each_other() {
    let space = AsidSpace::new(8).unwrap();
    let other = space.clone();
    let tag = fresh(&space);
    drop(space);
    assert_eq!(other.stats().fresh, 1);
    drop(other);
    drop(tag.install());
}
