//! Tables of a guest that span pages, change, or go away.

use smmu_types::{CacheTag, Command, Leaf, PhysAddr, Vmid};

use super::model_rig::{A, B, GLOBAL, IOVA, S1_RW, S2_RW, SID, cd, cfgi_ste, s2_ipa, stage2_ste};
use super::nested_rig::{ASID, Guest, VMID, ipa};
use super::substream_rig::{CDTAB, LEAF, LEAF2, device, profile};
use crate::{Hazard, Profile};

/// A guest with 128 CDs: two pages, which RAM holds apart. CD 64 maps `IOVA` to `A`.
fn two_pages_of_cds(prefetch: bool) -> Guest {
    let guest = Guest::without_config(Profile { prefetch, ..profile() });
    let rig = &guest.rig;
    guest.back(CDTAB, LEAF, S2_RW);
    guest.back(CDTAB + 0x1000, LEAF2, S2_RW);
    rig.put_all(LEAF2, &cd(ASID, ipa(guest.root)));
    let [_, _, w2, w3] = stage2_ste(VMID, guest.stage2);
    rig.put_all(rig.ste(SID), &[1 | 7 << 1 | ipa(CDTAB) | 7 << 59, 2, w2, w3]);
    rig.run(&[cfgi_ste(SID)]);
    rig.put(A, 0xa);
    assert_eq!(device(rig, SID, Some(64)).read32(IOVA), Ok(0xa));
    assert_eq!((rig.missing(), rig.audit()), (vec![], vec![]));
    guest
}

#[test]
fn each_page_of_a_table_of_cds_may_be_freed() {
    let guest = two_pages_of_cds(false);
    let rig = &guest.rig;
    let freed = |at: u64| format!("smmu0: the CDs of stream 0x8 at {at:#x} lie in freed memory");
    for (page, cds) in [(LEAF, vec![freed(LEAF)]), (LEAF2, vec![freed(LEAF2)])] {
        rig.model.memory_freed(PhysAddr(page), 0x1000);
        assert_eq!(rig.audit(), cds);
        rig.model.memory_reused(PhysAddr(page), 0x1000);
    }
    // The page after the table, and what has the table's address as an IPA.
    for page in [LEAF2 + 0x1000, LEAF + 0x1000, CDTAB] {
        rig.model.memory_freed(PhysAddr(page), 0x1000);
    }
    assert_eq!(rig.audit(), Vec::<String>::new());
}

/// Stage 2 hides the first page: the audit still finds the CDs of the second.
#[test]
fn one_page_of_a_table_of_cds_is_gone() {
    let guest = two_pages_of_cds(false);
    let rig = &guest.rig;
    guest.hide(CDTAB);
    let gone = s2_ipa(VMID, ipa(CDTAB), Leaf::Last);
    rig.run(&[gone, Command::CfgiCdAll { stream: SID }]);
    guest.map(IOVA, ipa(B), S1_RW);
    assert_eq!(rig.audit(), [format!("TLBI_NH_VA vmid=3 asid=5 va={IOVA:#x} leaf=1")]);
}

/// The guest replaces its last-level table, and a DMA goes to a page that no line covers.
#[test]
fn a_walk_from_a_table_that_the_guest_replaced() {
    let guest = Guest::with(Profile { prefetch: false, ..Profile::default() });
    let rig = &guest.rig;
    assert_eq!(guest.dma(), Some(A));
    let old = guest.leaf_table();
    rig.put(guest.slot(IOVA, 2), ipa(guest.table()) | 3);
    guest.map(IOVA, ipa(A), S1_RW);
    guest.map(IOVA + 0x1000, ipa(B), S1_RW);
    assert_eq!(rig.dma(SID, IOVA + 0x1000), None, "through the old table");
    let hazards = rig.model.take_hazards();
    let [Hazard::StaleTable { table, missing, .. }] = hazards[..] else { panic!("{hazards:?}") };
    let next = IOVA + 0x1000;
    assert_eq!(table.0, old);
    assert_eq!(missing.to_string(), format!("TLBI_NH_VA vmid=3 asid=5 va={next:#x} leaf=0"));
}

/// A global page matches every ASID, and one VMID.
#[test]
fn a_global_page_of_the_last_owner_of_a_vmid() {
    let guest = Guest::new();
    let rig = &guest.rig;
    guest.map(IOVA, ipa(A), GLOBAL);
    assert_eq!(guest.dma(), Some(A));
    // Another guest: the same pages through other tables of stage 2.
    let (next, cds) = (rig.table(), rig.cd(SID) & !0xfff);
    for page in [A, cds, guest.root, guest.slot(IOVA, 2) & !0xfff, guest.leaf_table()] {
        rig.map(next, ipa(page), page, S2_RW);
    }
    guest.write_ste(rig.cd(SID), 0, VMID, next);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(guest.dma(), Some(A));
    let hazards = rig.model.take_hazards();
    let clash = hazards.iter().any(|hazard| {
        let tag = Some(CacheTag::Vmid(Vmid(VMID)));
        matches!(hazard, Hazard::TagClash { tag: of, reached, .. } if *of == tag && reached.0 & !0xfff == A)
    });
    assert!(clash, "{hazards:?}");
    rig.run(&[Command::TlbiS12Vmall { vmid: Vmid(VMID) }]);
    assert_eq!((guest.dma(), rig.missing(), rig.audit()), (Some(A), vec![], vec![]));
}

/// The prefetcher brings the old entry of stage 2 back, so the command must come after the change.
#[test]
fn a_tlbi_of_stage_2_before_the_change_does_not_help() {
    let guest = Guest::warm();
    let stale = s2_ipa(VMID, ipa(A), Leaf::Last);
    guest.rig.run(&[stale]);
    guest.back(A, B, S2_RW);
    guest.rig.run(&[Command::TlbiNhAll { vmid: Vmid(VMID) }]);
    assert_eq!(guest.dma(), Some(A));
    assert_eq!(guest.rig.missing(), [stale.to_string()]);
}

/// The address stays; what the guest allows does not.
#[test]
fn the_guest_changes_a_permission() {
    let guest = Guest::warm();
    guest.map(IOVA, ipa(A), S1_RW | 1 << 7);
    let owed = [format!("TLBI_NH_VA vmid=3 asid=5 va={IOVA:#x} leaf=1")];
    assert_eq!(guest.rig.audit(), owed);
    assert_eq!((guest.dma(), guest.rig.missing()), (Some(A), owed.to_vec()));
}

/// A guest without a valid CD still leaves entries of stage 2.
#[test]
fn the_audit_sees_stage_2_of_a_guest_without_cds() {
    let guest = Guest::new();
    let (rig, page) = (&guest.rig, guest.rig.cd(SID) & !0xfff);
    rig.put(rig.cd(SID), 0);
    guest.forget_cd();
    assert_eq!((guest.dma(), rig.event_lines()), (None, vec!["C_BAD_CD sid=0x8".to_owned()]));
    assert_eq!(rig.audit(), Vec::<String>::new());
    guest.back(page, rig.table(), S2_RW);
    assert_eq!(rig.audit(), [s2_ipa(VMID, ipa(page), Leaf::Last).to_string()]);
}
