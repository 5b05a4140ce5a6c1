//! SMMUs of different kinds behind one domain and one ASID space.

use smmu_attach::*;
use smmu_tags::AsidSpace;
use smmu_types::range::Extent;
use smmu_types::*;

use crate::common::*;

#[test]
fn one_domain_on_a_large_and_a_small_smmu() {
    let fixture = Fixture::new();
    let space = AsidSpace::new(16).unwrap();
    let large = fixture.smmu_of_kind(0, LARGE, Some(&space));
    let small = fixture.smmu_of_kind(1, SMALL, Some(&space));
    // The large one takes all numbers that the small one could have, but one.
    let taken: Vec<_> =
        (1..255).map(|_| space.allocate(SmmuId(0), Regime::El1, 16).unwrap()).collect();
    let domain = fixture.domain(1, S1);
    let devices = [fixture.device(&large, 8), fixture.device(&small, 8)];
    let _ = devices[1].attach(&domain).unwrap();
    let _ = devices[0].attach(&domain).unwrap();
    assert_eq!(domain.tag_on(SmmuId(1)), Some(CacheTag::Asid(Regime::El1, Asid(255))));
    assert_eq!(domain.tag_on(SmmuId(0)), Some(CacheTag::Asid(Regime::El1, Asid(256))));
    // No number is left for another domain behind the small one; the large one has more.
    let other = fixture.domain(2, S1);
    let spare = [fixture.device(&large, 9), fixture.device(&small, 9)];
    let error = spare[1].attach(&other).unwrap_err();
    assert!(matches!(error, AttachError::Tag(smmu_tags::TagError::Exhausted { .. })), "{error}");
    assert!(matches!(spare[0].attach(&other), Ok(Outcome::Done)));
    let _ = spare[0].block();
    fixture.commands();

    // One command for 16 pages where ranges exist, one a page elsewhere.
    let pages = Extent::range(0x10_0000, 0x1_0000, Granule::K4, Leaf::Last);
    assert_eq!(domain.invalidate(pages), Ok(()));
    let commands = fixture.commands();
    let on = |smmu: &str| {
        let mine = commands.iter().filter(|c| c.starts_with(smmu) && c.contains("TLBI"));
        mine.cloned().collect::<Vec<_>>()
    };
    assert_eq!(on("smmu0").len(), 1, "{commands:#?}");
    assert!(on("smmu0")[0].contains("asid=256"), "{commands:#?}");
    assert_eq!(on("smmu1").len(), 16, "{commands:#?}");
    for (n, command) in on("smmu1").iter().enumerate() {
        let page = format!("{:#x}", 0x10_0000 + n * 0x1000);
        assert!(command.contains(&page) && command.contains("asid=255"), "{command}");
    }
    for device in devices {
        assert_eq!(device.block().settled(), Ok(()));
    }
    assert!(domain.into_tables().is_ok());
    taken.into_iter().for_each(smmu_tags::FreshTag::abort);
}

/// A hint about the level of leaves counts for the domain's granule alone.
#[test]
fn a_level_hint_of_another_granule_is_not_passed_on() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu_of_kind(0, LARGE, None);
    let device = fixture.device(&smmu, 8);
    let domain = fixture.domain(1, S1);
    let _ = device.attach(&domain).unwrap();
    fixture.commands();
    let hinted = |granule| {
        let extent = Extent::range(0x40_0000, 0x1_0000, granule, Leaf::Last).with_page_hint();
        assert_eq!(domain.invalidate(extent), Ok(()));
        fixture.commands().iter().any(|command| command.contains("ttl=3"))
    };
    assert!(hinted(Granule::K4), "the hint is lost");
    assert!(!hinted(Granule::K64), "the hint is about another granule");
    let _ = device.block();
}
