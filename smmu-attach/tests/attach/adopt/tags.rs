//! Numbers of foreign tags: reserved, shared by SMMUs, free after the last stream.

use rstest::rstest;
use smmu_attach::adopt::*;
use smmu_attach::*;
use smmu_types::legal::El2Regime;
use smmu_types::*;

use super::rig::*;

#[test]
fn inv_4_reserved_numbers_are_never_given_out() {
    let rig = Rig::of(IdRegisters { idr0: REGISTERS.idr0 & !(1 << 12 | 1 << 18), ..REGISTERS });
    let smmu = rig.adopt(&[TWO_LEVEL, STAGE2]);
    let (mut held, mut numbers) = (Vec::new(), Vec::new());
    while let Ok(tag) = smmu.asids().allocate(SMMU, Regime::El1, 8) {
        numbers.push(tag.tag());
        held.push(tag);
    }
    assert_eq!(numbers.len(), 253);
    assert!(!numbers.contains(&asid(1)) && !numbers.contains(&asid(2)));
    assert!(numbers.contains(&asid(3)), "the stream with ASID 3 was aborted and flushed");
    while let Ok(tag) = smmu.vmids().allocate() {
        assert_ne!(tag.tag(), VMID1);
        held.push(tag);
    }
}

#[test]
fn inv_4_an_asid_of_two_smmus_is_free_after_both() {
    let (one, two) = (Rig::new(), Rig::new());
    let first = one.adopt(&[STAGE1]);
    let survey = two.survey().unwrap();
    // The two rigs have memory at the same address, so each has an environment of its own.
    let adopt =
        |adoption| two.adopting_with(SmmuId(1), &[STAGE1, LINEAR], adoption, SmmuConfig::default());
    let alone = SmmuConfig::default().with_asids(first.asids().clone());
    let taken = two.adopting_with(SmmuId(1), &[STAGE1], Adoption::new(&survey), alone);
    assert!(matches!(taken, Err(AdoptError::Tag { tag, .. }) if tag == asid(1)));
    // Not taken over after all: nothing is left of it.
    drop(adopt(Adoption::new(&survey).beside(&first)).unwrap());
    assert_eq!(first.asids().stats().in_use, 1);
    let second = adopt(Adoption::new(&survey).beside(&first)).unwrap().abort_others().unwrap();
    assert_eq!(first.asids().stats().in_use, 2);

    let device = first.add_device(&[StreamId(STAGE1)]).unwrap();
    assert_eq!(device.block(), Outcome::Done);
    assert!(first.asids().claim(SMMU, Regime::El1, 16, Asid(1)).is_err(), "the second uses it");
    let device = second.add_device(&[StreamId(STAGE1)]).unwrap();
    assert_eq!(device.block(), Outcome::Freed(asid(1)));
    assert!(first.asids().claim(SMMU, Regime::El1, 16, Asid(1)).is_ok());
}

/// Three SMMUs of one space are prepared before the first is taken over. The second has not the ASID
/// of the others, and the first is given up.
#[rstest]
fn inv_4_an_asid_is_reserved_while_one_smmu_of_the_space_is_left(
    #[values(true, false)] first_is_taken: bool,
) {
    let rigs = [Rig::new(), Rig::new(), Rig::new()];
    let surveys = rigs.each_ref().map(|rig| rig.survey().unwrap());
    let keep = [STAGE1, LINEAR, STAGE1];
    let adopt = |n: usize, adoption| {
        rigs[n]
            .adopting_with(SmmuId(n as u16), &[keep[n]], adoption, SmmuConfig::default())
            .unwrap()
    };
    let first = adopt(0, Adoption::new(&surveys[0]));
    let second = adopt(1, Adoption::new(&surveys[1]).beside_adopting(&first));
    let third = adopt(2, Adoption::new(&surveys[2]).beside_adopting(&second));
    let third = third.abort_others().unwrap();
    let is_free = || third.asids().claim(SMMU, Regime::El1, 16, Asid(1)).is_ok();
    let first = if first_is_taken {
        Some(first.abort_others().unwrap())
    } else {
        drop(first);
        None
    };
    assert!(!is_free(), "two SMMUs use it, or one");
    // The second never ran: its number is free without a flush.
    drop(second);
    assert!(third.asids().claim(SMMU, Regime::El1, 16, Asid(3)).is_ok());
    let block = |smmu: &Smmu<Adoptive>| smmu.add_device(&[StreamId(STAGE1)]).unwrap().block();
    let last = Outcome::Freed(asid(1));
    assert_eq!(block(&third), if first_is_taken { Outcome::Done } else { last });
    if let Some(first) = first {
        assert!(!is_free(), "the first uses it");
        assert_eq!(block(&first), last);
    }
    assert!(is_free());
}

/// Its streams may still run, so neither the space nor the other SMMU frees the number.
#[test]
fn inv_4_a_number_stays_taken_when_its_smmu_is_dropped() {
    let (one, two) = (Rig::new(), Rig::new());
    let first = one.adopt(&[STAGE1, STAGE2]);
    let asids = first.asids().clone();
    let survey = two.survey().unwrap();
    let (adoption, config) = (Adoption::new(&survey).beside(&first), SmmuConfig::default());
    let second = two.adopting_with(SmmuId(1), &[STAGE1], adoption, config).unwrap();
    let second = second.abort_others().unwrap();
    drop(first);
    assert_eq!(second.add_device(&[StreamId(STAGE1)]).unwrap().block(), Outcome::Done);
    assert_eq!((asids.stats().in_use, asids.stats().quarantined), (1, 0));
    drop(second);
    assert_eq!((asids.stats().in_use, asids.stats().quarantined), (0, 1));
    assert!(asids.claim(SMMU, Regime::El1, 16, Asid(1)).is_err());
}

#[test]
fn an_smmu_that_is_gone_gives_its_numbers_back() {
    let rig = Rig::new();
    let smmu = rig.adopt(&KEPT);
    let devices: Vec<_> =
        KEPT.iter().map(|&stream| smmu.add_device(&[StreamId(stream)]).unwrap()).collect();
    assert_eq!(smmu.gone(&GoneProof::vouch(SMMU)), Ok(()));
    let stats = smmu.asids().stats();
    assert_eq!((stats.in_use, stats.retiring, stats.quarantined), (0, 0, 0));
    assert!(devices.iter().all(Device::is_settled));
}

#[test]
fn both_regimes_may_have_one_asid() {
    for el2 in [El2Regime::El2E2h, El2Regime::El2] {
        let mut rig = Rig::new();
        rig.registers.idr0 |= 1 << 9;
        rig.el2 = el2;
        let strw = rig.ste(TWINS[0]).0[1] | 2 << 30;
        rig.memory.set(rig.ste_at(TWINS[0]) + 8, strw);
        let survey = rig.survey().unwrap();
        let live = survey.stream(StreamId(TWINS[0])).unwrap();
        // EL2 without E2H has no ASIDs.
        let number = if el2 == El2Regime::El2E2h { Asid(1) } else { Asid(0) };
        let tags: Vec<_> = live.tags().collect();
        assert_eq!(tags, [CacheTag::Asid(Regime::El2, number)]);

        let smmu = rig.adopt(&[STAGE1, TWINS[0]]);
        let flushes = rig.commands();
        assert!(flushes.ends_with(&["TLBI_EL2_ALL".into(), "TLBI_NSNH_ALL".into()]), "{flushes:?}");
        assert_eq!(smmu.asids().stats().in_use, 1);
        let device = smmu.add_device(&[StreamId(TWINS[0])]).unwrap();
        assert_eq!(device.block(), Outcome::Done, "EL1 still has the number, or there is none");
        let commands = rig.commands();
        assert!(commands.contains(&"TLBI_EL2_ALL".into()), "{commands:?}");
        let device = smmu.add_device(&[StreamId(STAGE1)]).unwrap();
        assert_eq!(device.block(), Outcome::Freed(asid(1)));
        assert!(smmu.asids().claim(SMMU, Regime::El1, 16, Asid(1)).is_ok());
    }
}
