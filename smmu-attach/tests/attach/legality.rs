//! What an attach accepts, the SMMU takes as it stands.

use std::collections::BTreeMap;

use smmu_attach::*;
use smmu_types::fake::ID_REGISTERS;
use smmu_types::legal::{self, Effect, SmmuView};
use smmu_types::*;

use crate::common::*;

/// r4: no accepted description makes the SMMU do anything else, such as round a root down.
#[test]
fn r4_what_is_attached_is_legal() {
    let rules = SmmuView::new(ID_REGISTERS);
    let stages = (0..4).map(|start_level| TranslationStage::Stage2 { start_level }).chain([S1]);
    let stages: Vec<_> = stages.collect();
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    let (mut accepted, mut refused) = (0u32, BTreeMap::new());
    let mut number = 0;
    for granule in [Granule::K4, Granule::K16, Granule::K64] {
        for t0sz in 16..=39 {
            for &stage in &stages {
                for root in [0x8000_0000, 0x8000_1000, 0x8000_0040] {
                    let mut table = tables(stage, root);
                    (table.0.t0sz, table.0.granule) = (t0sz, granule);
                    number += 1;
                    let description = table.0;
                    let domain = Domain::new(&fixture.env, DomainId(number), table).unwrap();
                    let before = (smmu.asids().stats(), smmu.vmids().stats(), device.read_ste());
                    let to = Target::Domain(&domain);
                    let outcome = device.prepare(to).map(|prepared| {
                        let _ = prepared.publish().install().commit();
                    });
                    if let Err(error) = outcome {
                        let after = (smmu.asids().stats(), smmu.vmids().stats(), device.read_ste());
                        assert_eq!(before, after, "a refusal changed something: {error}");
                        *refused.entry(kind(&error)).or_insert(0u32) += 1;
                        continue;
                    }
                    accepted += 1;
                    let ste = device.read_ste().unwrap();
                    let mut check = |finding: legal::Finding| {
                        let harmless =
                            matches!(finding.effect(), Effect::Ignored | Effect::Reserved);
                        assert!(harmless, "{description:?}: {finding} -> {}", finding.effect());
                    };
                    legal::ste(&ste, &rules, &mut check);
                    if let Some(cd) = device.read_cd() {
                        legal::cd(&cd, &ste, &rules, &mut check);
                    }
                    assert_eq!(fixture.attach(&device, Target::Blocked).confirmed(), Ok(()));
                }
            }
        }
    }
    // Each way to refuse is met, and so is a fair number of good descriptions.
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), ["illegal", "share"]);
    assert!(accepted > 100 && refused["illegal"] > 100, "{accepted} accepted, {refused:?}");
}

fn kind(error: &AttachError) -> &'static str {
    match error {
        AttachError::Illegal { .. } => "illegal",
        AttachError::CannotShare { .. } => "share",
        other => panic!("an unexpected refusal: {other}"),
    }
}

#[test]
fn a_refusal_names_field_rule_and_remedy() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let device = fixture.device(&smmu, 8);
    // A root of 40 address bits at stage 2, start level 1, is two tables of 4 KiB side by side.
    let mut table = tables(S2, 0x8000_1000);
    table.0.t0sz = 24;
    let domain = Domain::new(&fixture.env, DomainId(1), table).unwrap();
    let refused = device.prepare(Target::Domain(&domain)).map(|_| ()).unwrap_err();
    let AttachError::Illegal { broken, .. } = refused else { panic!("{refused}") };
    assert_eq!((broken.structure, broken.field, broken.value), ("STE", "S2TTB", 0x8000_1000));
    let text = refused.to_string();
    for part in ["smmu0", "domain1", "STE.S2TTB = 0x80001000", broken.rule.remedy()] {
        assert!(text.contains(part), "{text}");
    }
}
