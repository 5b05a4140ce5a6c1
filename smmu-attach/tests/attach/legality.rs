//! What an attach accepts, the SMMU takes as it stands.

use std::collections::BTreeMap;

use smmu_attach::*;
use smmu_types::fake::ID_REGISTERS;
use smmu_types::legal::{self, Effect, SmmuView};
use smmu_types::seam::Notice;
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
    let (domain, smmu) = (DomainId(1), SmmuId(0));
    let tag = CacheTag::Vmid(Vmid(1));
    let told = fixture.observer().take();
    let tag = [Notice::TagAllocated { domain, smmu, tag }, Notice::TagAborted { smmu, tag }];
    assert!(told.ends_with(&tag), "{told:?}");
}

/// Of several rules that a description breaks, the error names the first.
#[test]
fn a_refusal_names_the_first_rule() {
    let fixture = Fixture::new();
    let device = fixture.device(&fixture.smmu(0), 8);
    // Beyond 44 bits of output, and a start level that does not fit the size.
    let mut table = tables(TranslationStage::Stage2 { start_level: 3 }, 1 << 46);
    table.0.t0sz = 24;
    let domain = Domain::new(&fixture.env, DomainId(1), table).unwrap();
    let refused = device.attach(&domain).unwrap_err();
    let AttachError::Illegal { broken, .. } = refused else { panic!("{refused}") };
    assert!(matches!(broken.rule, legal::Rule::TableBeyondOutput { .. }), "{refused}");
}

/// `VTCR_EL2` of a CPU becomes an STE, for each granule, start level and size. What the Arm ARM
/// allows (D8.2: at most 16 tables side by side at the start level, and one bit at least) is
/// attached, and nothing else.
#[test]
fn each_granule_and_start_level_of_a_cpu() {
    // All granules, 48 bits of output.
    let registers = IdRegisters { idr5: ID_REGISTERS.idr5 & !7 | 0b111 << 4 | 5, ..ID_REGISTERS };
    let caps = Capabilities::decode(registers);
    let fixture = Fixture::new();
    let config = SmmuConfig::default();
    let smmu = Smmu::new(&fixture.env, SmmuId(0), registers, caps, config).unwrap();
    let device = fixture.device(&smmu, 8);
    let mut accepted = std::collections::BTreeSet::new();
    // The field's encoding of the granule, and its start levels by SL0. Encoding 3 needs small
    // tables (4 KiB) or 52-bit descriptors (16 KiB), which this SMMU lacks; 64 KiB reserves it.
    for (tg0, shift, levels) in [
        (0, 12, [Some(2), Some(1), Some(0), None]),
        (2, 14, [Some(3), Some(2), Some(1), None]),
        (1, 16, [Some(3), Some(2), Some(1), None]),
    ] {
        for (sl0, level) in levels.into_iter().enumerate() {
            for t0sz in 12..=39u64 {
                let vtcr = 1 << 31
                    | 5 << 16
                    | tg0 << 14
                    | 3 << 12
                    | 1 << 10
                    | 1 << 8
                    | (sl0 as u64) << 6
                    | t0sz;
                let table = TableDescription::from_vtcr(vtcr, 7 << 48 | 0x4000_0000).unwrap();
                let domain = Domain::new(
                    &fixture.env,
                    DomainId(accepted.len() as u32),
                    DescribedTables(table, Default::default()),
                )
                .unwrap();
                let size = 64 - t0sz;
                let allowed = level.is_some_and(|level| {
                    let below = shift + (shift - 3) * (3 - level);
                    (below + 1..=(below + (shift - 3) + 4).min(48)).contains(&size)
                });
                let what = format!("granule 2^{shift}, level {level:?}, {size} bits");
                match device.attach(&domain) {
                    Ok(outcome) => {
                        assert_eq!(outcome.settled(), Ok(()));
                        assert!(allowed, "{what} was accepted");
                        accepted.insert((shift, level));
                        let SteConfig::Stage2(ste) = device.read_ste().unwrap().decode() else {
                            panic!("{what}")
                        };
                        assert_eq!((ste.t0sz, ste.start_level), (t0sz as u8, sl0 as u8), "{what}");
                        assert_eq!(ste.granule.shift(), shift as u32, "{what}");
                        assert_eq!(ste.table, PhysAddr(0x4000_0000), "{what}");
                    }
                    Err(error) => assert!(!allowed, "{what} was refused: {error}"),
                }
                let _ = device.block();
            }
        }
    }
    assert_eq!(accepted.len(), 9, "a start level was never attached: {accepted:?}");
}
