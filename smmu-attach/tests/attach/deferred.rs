//! Unmaps that one flush completes.

use std::sync::Arc;

use smmu_attach::*;
use smmu_types::range::Extent;
use smmu_types::*;

use crate::common::*;

fn page(n: u64) -> Extent {
    Extent::range(0x10_0000 + n * 0x1000, 0x1000, Granule::K4, Leaf::Last)
}

fn shared(fixture: &Fixture) -> (Domain<HeapPlatform>, Vec<Device<HeapPlatform>>) {
    let domain = fixture.domain(1, S1);
    let devices: Vec<_> =
        (0..3).map(|id| fixture.device(&fixture.smmu_of_kind(id, LARGE, None), 8)).collect();
    for device in &devices {
        let _ = device.attach(&domain).unwrap();
    }
    fixture.sink().take();
    (domain, devices)
}

#[test]
fn unmaps_without_order_are_one_flush_on_each_smmu() {
    let fixture = Fixture::new();
    let (domain, _devices) = shared(&fixture);
    let mut unmaps = DeferredUnmaps::with_capacity(&domain, 256).unwrap();
    for n in 0..256 {
        assert_eq!(unmaps.defer(page(n * 7 % 256), n), Ok(()));
    }
    assert_eq!(unmaps.defer(page(0), 256), Err(256), "no room");
    assert!(fixture.commands().is_empty());
    assert_eq!((unmaps.len(), unmaps.is_empty()), (256, false));
    let pages: Vec<_> = unmaps.flush().unwrap().collect();
    assert!(pages.into_iter().eq(0..256));
    let commands = fixture.commands();
    let flush =
        |smmu: u16| [format!("smmu{smmu} TLBI_NH_ASID vmid=0 asid=1"), format!("smmu{smmu} SYNC")];
    assert_eq!(commands, (0..3).flat_map(flush).collect::<Vec<_>>());
    assert!(unmaps.is_empty());
    assert_eq!(unmaps.flush().unwrap().count(), 0);
    assert!(fixture.commands().is_empty(), "nothing was unmapped");
}

#[test]
fn neighbours_are_one_range() {
    let fixture = Fixture::new();
    let (domain, _devices) = shared(&fixture);
    let mut unmaps = DeferredUnmaps::with_capacity(&domain, 16).unwrap();
    for (n, order) in [4, 5, 6, 3, 2, 7].into_iter().enumerate() {
        unmaps.defer(page(order), n).unwrap();
    }
    assert_eq!(unmaps.flush().unwrap().count(), 6);
    let commands = fixture.commands();
    assert_eq!(commands.len(), 6, "{commands:#?}");
    assert!(
        commands[0].contains("va=0x102000") && commands[0].contains("pages=6x4K"),
        "{commands:?}"
    );
}

/// What the unmaps own comes back only after each SMMU has confirmed.
#[test]
fn nothing_comes_back_without_a_proof() {
    let fixture = Fixture::new();
    let (domain, _devices) = shared(&fixture);
    let owned = Arc::new(());
    let mut unmaps = DeferredUnmaps::with_capacity(&domain, 4).unwrap();
    unmaps.defer(page(0), Arc::clone(&owned)).unwrap();
    unmaps.defer(page(9), Arc::clone(&owned)).unwrap();
    fixture.fail_on("TLBI_NH_ASID");
    assert!(unmaps.flush().is_err());
    assert_eq!((unmaps.len(), Arc::strong_count(&owned)), (2, 3));
    fixture.mend();
    assert_eq!(unmaps.flush().unwrap().count(), 2);
    assert_eq!(Arc::strong_count(&owned), 1);

    // A value that is dropped flushes, or keeps all for ever.
    unmaps.defer(page(0), Arc::clone(&owned)).unwrap();
    fixture.commands();
    drop(unmaps);
    assert_eq!((fixture.commands().len(), Arc::strong_count(&owned)), (6, 1));
    let mut unmaps = DeferredUnmaps::with_capacity(&domain, 4).unwrap();
    unmaps.defer(page(0), Arc::clone(&owned)).unwrap();
    fixture.fail_on("TLBI_NH_VA");
    drop(unmaps);
    assert_eq!(Arc::strong_count(&owned), 2);
}

#[test]
fn a_capacity_beyond_memory_is_an_error() {
    let fixture = Fixture::new();
    let domain = fixture.domain(1, S1);
    assert!(DeferredUnmaps::<_, u64>::with_capacity(&domain, usize::MAX).is_err());
    // A value keeps the domain and its tables alive.
    let unmaps = DeferredUnmaps::<_, u64>::with_capacity(&domain, 1).unwrap();
    let domain = domain.into_tables().map(|_| ()).unwrap_err();
    drop(unmaps);
    assert!(domain.into_tables().is_ok());
}
