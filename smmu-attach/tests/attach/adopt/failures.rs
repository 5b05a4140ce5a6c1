//! An adoption that is refused or not confirmed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use smmu_attach::adopt::*;
use smmu_attach::*;
use smmu_types::fake::*;
use smmu_types::*;

use super::rig::*;
use crate::common::*;
use crate::substreams::Reached;

#[test]
fn inv_6_an_adoption_that_is_not_confirmed_keeps_everything() {
    // Two rounds, from bypass to abort, and the flush.
    for step in 1..=3 {
        let rig = Rig::new();
        let before = rig.stes();
        let adopting = rig.adopting(SMMU, &KEPT).unwrap();
        rig.fail_at.store(step, Ordering::Relaxed);
        let adopting = match adopting.abort_others() {
            Err(failed) => failed.into_adopting(),
            Ok(_) => panic!("step {step} did not fail"),
        };
        for (stream, old) in LIVE.into_iter().zip(&before) {
            let now = rig.ste(stream);
            if KEPT.contains(&stream) {
                assert_eq!(now, *old, "step {step}");
            } else {
                assert!(now == Ste::ABORT || now.0[0] & 1 == 0, "step {step}: {now:?}");
            }
        }
        rig.fail_at.store(0, Ordering::Relaxed);
        rig.commands();
        let (env, before_store) = (rig.env.clone(), Arc::new(Mutex::new(None)));
        let first = Arc::clone(&before_store);
        *rig.look.lock().unwrap() = Some(Box::new(move || {
            let calls = env.sink().take();
            first.lock().unwrap().get_or_insert(calls);
        }));
        let smmu = adopting.abort_others().unwrap();
        *rig.look.lock().unwrap() = None;
        // No word changes before the SMMU has forgotten what it may have fetched.
        if let Some(calls) = &*before_store.lock().unwrap() {
            assert_eq!(calls.first(), Some(&SinkCall::Issue(SMMU, vec![Command::CfgiAll])));
        }
        assert_eq!(rig.ste(BYPASS), Ste::ABORT);
        assert_eq!(smmu.asids().stats().in_use, 2, "step {step}");
    }
}

#[test]
fn a_replacement_that_is_not_confirmed_keeps_the_tag() {
    for step in 1..=6 {
        let rig = Rig::new();
        let smmu = rig.adopt(&[STAGE2]);
        let device = smmu.add_device(&[StreamId(STAGE2)]).unwrap();
        rig.fail_at.store(step, Ordering::Relaxed);
        let outcome = device.block();
        rig.fail_at.store(0, Ordering::Relaxed);
        match outcome {
            Outcome::Freed(tag) => assert_eq!(tag, VMID1),
            _ => {
                assert!(outcome.settled().is_err() && !device.is_settled(), "step {step}");
                let stats = smmu.vmids().stats();
                assert_eq!(stats.in_use + stats.retiring, 1, "step {step}: {outcome:?}");
                assert_eq!(device.settle(), Ok(()), "step {step}");
            }
        }
        assert!(device.is_settled());
        let stats = smmu.vmids().stats();
        assert_eq!((stats.in_use, stats.retiring, stats.quarantined), (0, 0, 0), "step {step}");
        assert!(smmu.vmids().claim(Vmid(1)).is_ok());
    }
}

#[test]
fn an_attach_that_is_not_confirmed_keeps_the_foreign_tag() {
    for step in (1..=6).chain(ONCE..ONCE + 6) {
        let rig = Rig::new();
        let smmu = rig.adopt(&[STAGE1]);
        let device = smmu.add_device(&[StreamId(STAGE1)]).unwrap();
        let domain = rig.domain(9, S1);
        rig.fail_at.store(step, Ordering::Relaxed);
        let outcome = device.attach(&domain).unwrap();
        rig.fail_at.store(0, Ordering::Relaxed);
        let is_free = || smmu.asids().claim(SMMU, Regime::El1, 16, Asid(1)).is_ok();
        if outcome == Outcome::Freed(asid(1)) {
            assert!(is_free() && device.is_settled(), "step {step}");
        } else {
            assert!(!is_free() && !device.is_settled(), "step {step}: {outcome:?}");
            assert_eq!(device.settle(), Ok(()), "step {step}");
            assert!(is_free() && device.is_settled(), "step {step}: {outcome:?}");
        }
        // A device whose change was not confirmed is attached as asked, and aborts until then.
        assert!(device.attach(&domain).unwrap().settled().is_ok());
        assert_eq!(rig.reached(STAGE1), Reached::Stage1(Asid(2)), "step {step}");
        assert_eq!(device.block(), Outcome::Freed(asid(2)), "step {step}");
    }
}

#[test]
fn a_refused_adoption_changes_nothing() {
    let rig = Rig::new();
    let before = rig.stes();
    let survey = rig.survey().unwrap();
    let adopt = || {
        let (adoption, config) = (Adoption::new(&survey), SmmuConfig::default());
        rig.adopting_with(SMMU, &KEPT, adoption, config).map(|_| ())
    };
    rig.refuses.store(true, Ordering::Relaxed);
    assert!(matches!(adopt(), Err(AdoptError::Map { .. })));
    rig.refuses.store(false, Ordering::Relaxed);

    // A number that the caller has reserved for another use.
    let vmids = smmu_tags::SpaceConfig { reserved: &[Vmid(1)], ..Default::default() };
    let config = SmmuConfig::default().with_vmids(vmids);
    let taken = rig.adopting_with(SMMU, &[STAGE2], Adoption::new(&survey), config);
    assert!(matches!(taken, Err(AdoptError::Tag { tag, .. }) if tag == VMID1));

    // The old owner changes an entry after the survey.
    let at = rig.ste_at(STAGE2);
    rig.memory.set(at, Ste::ABORT.0[0]);
    assert_eq!(adopt(), Err(AdoptError::Differs { smmu: SMMU, address: PhysAddr(at) }));
    rig.memory.set(at, before[3].0[0]);
    assert_eq!(adopt(), Ok(()));
    assert_eq!(rig.stes(), before);
    assert!(rig.commands().is_empty());
}
