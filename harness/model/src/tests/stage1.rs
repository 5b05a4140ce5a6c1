//! Stage-1 translations, and the commands that drop them.

use rstest::rstest;
use smmu_types::range::{LevelHint, Span};
use smmu_types::seam::RegistersExt;
use smmu_types::{
    Asid, CacheTag, Command, EventKind, Granule, Iova, Leaf, PhysAddr, Regime, Vmid, regs,
};

use super::model_rig::{
    A, B, C, GLOBAL, IOVA, ModelRig, OTHER, RAM, S1_RW, SID, cfgi_cd, cfgi_ste, nh_asid, nh_va,
    nh_vaa, page, ranged, stage2_ste,
};
use crate::{Hazard, Now, Permissions, Profile};

/// A stage-1 stream of ASID 5 with one page, after one DMA to it.
fn warm() -> (ModelRig, u64) {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.missing(), Vec::<String>::new());
    (rig, root)
}

#[test]
fn without_caches_each_transaction_walks() {
    let rig = ModelRig::with(Profile { caches: false, ..Profile::default() });
    let root = rig.stage1(SID, 5);
    for page in [A, B] {
        rig.map(root, IOVA, page, S1_RW);
        assert_eq!(rig.dma(SID, IOVA), Some(page));
    }
    rig.put(rig.ste(SID), 0);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!((rig.missing(), rig.audit()), (vec![], vec![]));
}

#[test]
fn a_mapping_leads_to_its_page_and_offset() {
    let (rig, _) = warm();
    rig.put(A + 0x120, 0x1234_5678_9abc_def0);
    assert_eq!(rig.read(SID, IOVA + 0x120), Some(0x9abc_def0));
    assert_eq!(rig.read(SID, IOVA + 0x124), Some(0x1234_5678));
    assert_eq!(rig.events(), []);
    assert_eq!(rig.model.audit(), []);
}

// As measured on QEMU's SMMUv3: the PTE changes from A to B, then the command, then DMA.
#[rstest]
#[case::none(None, A)]
#[case::va(Some(nh_va(0, 5, IOVA, Leaf::All)), B)]
#[case::va_leaf(Some(nh_va(0, 5, IOVA, Leaf::Last)), B)]
#[case::asid(Some(nh_asid(0, 5)), B)]
#[case::all(Some(Command::TlbiNhAll { vmid: Vmid(0) }), B)]
#[case::nsnh(Some(Command::TlbiNsnhAll), B)]
#[case::vaa(Some(nh_vaa(0, IOVA, Leaf::Last)), B)]
#[case::s12(Some(Command::TlbiS12Vmall { vmid: Vmid(0) }), B)]
#[case::va_wrong_asid(Some(nh_va(0, 6, IOVA, Leaf::All)), A)]
#[case::wrong_asid(Some(nh_asid(0, 6)), A)]
#[case::neighbour(Some(nh_va(0, 5, IOVA + 0x1000, Leaf::All)), A)]
#[case::va_wrong_vmid(Some(nh_va(7, 5, IOVA, Leaf::All)), A)]
#[case::asid_wrong_vmid(Some(nh_asid(7, 5)), A)]
#[case::all_wrong_vmid(Some(Command::TlbiNhAll { vmid: Vmid(7) }), A)]
#[case::s12_wrong_vmid(Some(Command::TlbiS12Vmall { vmid: Vmid(7) }), A)]
#[case::cfgi_ste(Some(cfgi_ste(SID)), A)]
#[case::cfgi_all(Some(Command::CfgiAll), A)]
fn a_changed_page_is_seen_after(#[case] command: Option<Command>, #[case] reached: u64) {
    let (rig, root) = warm();
    rig.map(root, IOVA, B, S1_RW);
    rig.run(command.as_slice());
    let stale = format!("TLBI_NH_VA vmid=0 asid=5 va={IOVA:#x} leaf=1");
    let expected = if reached == A { vec![stale] } else { vec![] };
    assert_eq!(rig.audit(), expected);
    assert_eq!(rig.dma(SID, IOVA), Some(reached));
    assert_eq!(rig.missing(), expected);
}

#[test]
fn a_stale_line_is_described() {
    let (rig, root) = warm();
    rig.map(root, IOVA, B, S1_RW | 1 << 7);
    rig.dma(SID, IOVA);
    let hazards = rig.model.take_hazards();
    let [hazard @ Hazard::StaleTranslation { stream, tag, reached, now, .. }] = &hazards[..] else {
        panic!("{hazards:?}");
    };
    assert_eq!(*stream, SID);
    assert_eq!(*tag, Some(CacheTag::Asid(Regime::El1, Asid(5))));
    assert_eq!(page(*reached), A);
    let permissions = Permissions { read: true, write: false };
    assert_eq!(*now, Now::Page { address: PhysAddr(B), permissions });
    assert_eq!(
        hazard.to_string(),
        "smmu0: at iova 0x50000000 stream 0x8 reaches 0x40100000 through a cached line of ASID 5, \
         where the tables now lead to 0x40101000 (read-only); missing: TLBI_NH_VA vmid=0 asid=5 \
         va=0x50000000 leaf=1"
    );
}

#[test]
fn faults_are_not_cached_and_unmapping_needs_a_flush() {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    assert_eq!(rig.dma(SID, IOVA), None);
    rig.map(root, IOVA, A, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    rig.unmap(root, IOVA);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    let [Hazard::StaleTranslation { now, .. }] = rig.model.take_hazards()[..] else {
        panic!("no hazard");
    };
    assert_eq!(now, Now::Fault(EventKind::F_TRANSLATION));
    rig.run(&[nh_va(0, 5, IOVA, Leaf::Last)]);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!(rig.missing(), Vec::<String>::new());
}

#[test]
fn an_invalidation_before_the_change_does_not_help() {
    let (rig, root) = warm();
    rig.run(&[nh_va(0, 5, IOVA, Leaf::All)]);
    rig.map(root, IOVA, B, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(A), "the prefetcher was quicker");
    let rig = ModelRig::with(Profile { prefetch: false, ..Profile::default() });
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW);
    rig.dma(SID, IOVA);
    rig.run(&[nh_va(0, 5, IOVA, Leaf::All)]);
    rig.map(root, IOVA, B, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(B));
}

#[test]
fn asids_separate_and_clash() {
    let (rig, first) = warm();
    let second = rig.stage1(OTHER, 6);
    rig.map(second, IOVA, B, S1_RW);
    assert_eq!((rig.dma(SID, IOVA), rig.dma(OTHER, IOVA)), (Some(A), Some(B)));
    // The second stream now uses the ASID of the first.
    rig.write_cd(OTHER, 5, second);
    rig.run(&[cfgi_cd(OTHER)]);
    assert_eq!(rig.dma(OTHER, IOVA), Some(A));
    let hazards = rig.model.take_hazards();
    let [Hazard::TagClash { origin, table, missing, .. }] = &hazards[..] else {
        panic!("{hazards:?}");
    };
    assert_eq!((origin.0, table.0), (first, second));
    assert_eq!(*missing, nh_asid(0, 5));
    assert!(!rig.audit().is_empty());
}

#[test]
fn reuse_of_an_asid_without_flush_keeps_the_old_table() {
    let (rig, old) = warm();
    rig.map(old, IOVA + 0x2000, C, S1_RW);
    let new = rig.table();
    rig.map(new, IOVA + 0x2000, B, S1_RW);
    rig.map(new, IOVA, B, S1_RW);
    rig.map(new, IOVA + 0x1000, C, S1_RW);
    rig.write_cd(SID, 5, new);
    rig.run(&[cfgi_cd(SID)]);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    // The SMMU looks up even an untouched page in the old table.
    assert_eq!(rig.dma(SID, IOVA + 0x1000), None);
    assert_eq!(rig.dma(SID, IOVA + 0x2000), Some(C));
    assert_eq!(rig.missing(), ["TLBI_NH_ASID vmid=0 asid=5"; 3]);
    assert!(rig.audit().iter().all(|missing| missing == "TLBI_NH_ASID vmid=0 asid=5"));
    rig.run(&[nh_asid(0, 5)]);
    assert_eq!(rig.dma(SID, IOVA), Some(B));
    assert_eq!(rig.dma(SID, IOVA + 0x1000), Some(C));
    assert_eq!(rig.missing(), Vec::<String>::new());
    assert_eq!(rig.audit(), Vec::<String>::new());
}

#[rstest]
#[case::asid(nh_asid(0, 5), A)]
#[case::va_of_another_asid(nh_va(0, 6, IOVA, Leaf::Last), B)]
#[case::vaa(nh_vaa(0, IOVA, Leaf::Last), B)]
#[case::all(Command::TlbiNhAll { vmid: Vmid(0) }, B)]
fn global_entries(#[case] command: Command, #[case] reached: u64) {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, GLOBAL);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    rig.map(root, IOVA, B, GLOBAL);
    rig.run(&[command]);
    assert_eq!(rig.dma(SID, IOVA), Some(reached));
    let expected = format!("TLBI_NH_VAA vmid=0 va={IOVA:#x} leaf=1");
    assert_eq!(rig.missing(), if reached == A { vec![expected] } else { vec![] });
}

#[test]
fn a_global_entry_serves_every_asid() {
    let rig = ModelRig::new();
    let (one, two) = (rig.stage1(SID, 5), rig.stage1(OTHER, 6));
    rig.map(one, IOVA, A, GLOBAL);
    rig.map(two, IOVA, B, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.dma(OTHER, IOVA), Some(A));
    assert_eq!(rig.missing().len(), 1);
}

#[test]
fn leaf_invalidation_keeps_cached_tables() {
    let (rig, root) = warm();
    // The driver replaces the last-level table and reuses the old one.
    let upper = rig.slot(root, IOVA, 2);
    let old = rig.get(upper) & !0xfff;
    let new = rig.table();
    rig.put(upper, new | 3);
    rig.map(root, IOVA, B, S1_RW);
    rig.run(&[nh_va(0, 5, IOVA, Leaf::Last)]);
    let expected = vec![format!("TLBI_NH_VA vmid=0 asid=5 va={IOVA:#x} leaf=0")];
    assert_eq!(rig.dma(SID, IOVA), Some(A), "through the old table");
    assert_eq!(rig.missing(), expected);
    rig.put_all(old, &[0; 512]);
    rig.run(&[nh_va(0, 5, IOVA, Leaf::Last)]);
    assert_eq!(rig.dma(SID, IOVA), None, "the old table is empty now");
    let [Hazard::StaleTable { table, .. }] = rig.model.take_hazards()[..] else {
        panic!("no hazard");
    };
    assert_eq!(table.0, old);
    assert_eq!(rig.audit().len(), 1);
    rig.run(&[nh_va(0, 5, IOVA, Leaf::All)]);
    assert_eq!(rig.dma(SID, IOVA), Some(B));
    assert_eq!(rig.missing(), Vec::<String>::new());
    assert_eq!(rig.audit(), Vec::<String>::new());
}

#[test]
fn a_level_hint_keeps_tables_from_its_level_on() {
    let (rig, root) = warm();
    rig.put(rig.slot(root, IOVA, 2), rig.table() | 3);
    rig.map(root, IOVA, B, S1_RW);
    // Leaves of level 2, and tables above them; then leaves alone.
    rig.run(&[ranged(IOVA, 0, 9, 2, Leaf::All), nh_va(0, 5, IOVA, Leaf::Last)]);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    rig.run(&[ranged(IOVA, 0, 0, 3, Leaf::All)]);
    assert_eq!(rig.dma(SID, IOVA), Some(B));
}

#[test]
fn the_oldest_of_several_lines_serves() {
    let (rig, root) = warm();
    // A block takes the table's place, and only another page is flushed.
    rig.put(rig.slot(root, IOVA, 2), RAM | 1 | S1_RW);
    rig.run(&[nh_va(0, 5, IOVA + 0x1000, Leaf::All)]);
    assert_eq!(rig.dma(SID, IOVA + 0x10_2000), Some(C));
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.missing().len(), 1);
    rig.run(&[nh_va(0, 5, IOVA, Leaf::All)]);
    assert_eq!(rig.dma(SID, IOVA + 0x10_0000), Some(A));
    assert_eq!(rig.dma(SID, IOVA), Some(RAM));
}

#[test]
fn a_smaller_input_size_does_not_drop_lines() {
    let (rig, _) = warm();
    rig.put(rig.cd(SID), rig.get(rig.cd(SID)) & !0x3f | 34);
    rig.put(rig.cd(SID) + 8, 0);
    rig.run(&[cfgi_cd(SID)]);
    assert!(!rig.audit().is_empty());
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.missing(), ["TLBI_NH_ASID vmid=0 asid=5"]);
    rig.run(&[nh_asid(0, 5)]);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!(rig.missing(), Vec::<String>::new());
}

#[test]
fn blocks() {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map_block(root, IOVA, 2, 0x4000_0000, S1_RW);
    assert_eq!(rig.dma(SID, IOVA + 0x10_0000), Some(A));
    // A table takes its place.
    rig.put(rig.slot(root, IOVA, 2), 0);
    rig.map(root, IOVA + 0x10_0000, B, S1_RW);
    assert_eq!(rig.dma(SID, IOVA + 0x10_0000), Some(A));
    assert_eq!(rig.missing().len(), 1);
    // Any address inside drops it.
    rig.run(&[nh_va(0, 5, IOVA + 0x1f_f000, Leaf::All)]);
    assert_eq!(rig.dma(SID, IOVA + 0x10_0000), Some(B));
}

#[test]
fn the_audit_looks_at_every_page_of_a_block() {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map_block(root, IOVA, 2, 0x4000_0000, S1_RW);
    rig.dma(SID, IOVA + 0x10_0000);
    // Pages that map as the block did are no hazard, until one of them differs.
    rig.put(rig.slot(root, IOVA, 2), 0);
    for i in 0..512 {
        rig.map(root, IOVA + i * 0x1000, 0x4000_0000 + i * 0x1000, S1_RW);
    }
    assert_eq!(rig.audit(), Vec::<String>::new());
    rig.map(root, IOVA + 0x5000, B, S1_RW);
    let hazards = rig.model.audit();
    let [Hazard::StaleTranslation { iova, .. }] = hazards[..] else { panic!("{hazards:?}") };
    assert_eq!(iova, Iova(IOVA + 0x5000));
}

// 64 pages change from A to B: the pages that a command renews.
#[rstest]
#[case::eight(ranged(IOVA, 7, 0, 3, Leaf::Last), 0..8)]
#[case::five_from_three(ranged(IOVA + 0x3000, 4, 0, 3, Leaf::Last), 3..8)]
#[case::chunks(ranged(IOVA + 0x8000, 2, 3, 3, Leaf::Last), 8..32)]
#[case::no_hint(ranged(IOVA, 31, 1, 0, Leaf::All), 0..64)]
#[case::one_with_hint(ranged(IOVA + 0x9000, 0, 0, 3, Leaf::Last), 9..10)]
#[case::wrong_level(ranged(IOVA, 31, 1, 2, Leaf::All), 0..0)]
#[case::other_granule(
    Command::TlbiNhVa {
        vmid: Vmid(0),
        asid: Asid(5),
        span: Span::ranged(Iova(IOVA), Leaf::All, Granule::K16, 31, 1, LevelHint::Unknown).unwrap(),
    },
    0..0
)]
fn ranges_are_exact(#[case] command: Command, #[case] renewed: std::ops::Range<u64>) {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    let pages = 0..64u64;
    for i in pages.clone() {
        rig.map(root, IOVA + i * 0x1000, A, S1_RW);
        assert_eq!(rig.dma(SID, IOVA + i * 0x1000), Some(A));
    }
    for i in pages.clone() {
        rig.map(root, IOVA + i * 0x1000, B, S1_RW);
    }
    rig.run(&[command]);
    for i in pages {
        let expected = if renewed.contains(&i) { B } else { A };
        assert_eq!(rig.dma(SID, IOVA + i * 0x1000), Some(expected), "page {i}");
    }
}

#[rstest]
#[case::right(2, IOVA, B)]
#[case::page_level(3, IOVA, A)]
#[case::misaligned_for_its_level(2, IOVA + 0x1000, A)]
fn level_hints_of_a_block(#[case] ttl: u8, #[case] address: u64, #[case] reached: u64) {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map_block(root, IOVA, 2, 0x4000_0000, S1_RW);
    assert_eq!(rig.dma(SID, IOVA + 0x10_0000), Some(A));
    rig.put(rig.slot(root, IOVA, 2), 0);
    rig.map(root, IOVA + 0x10_0000, B, S1_RW);
    rig.run(&[ranged(address, 0, 9, ttl, Leaf::All)]);
    assert_eq!(rig.dma(SID, IOVA + 0x10_0000), Some(reached));
}

#[test]
fn denying_leaves_are_cached() {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW | 1 << 7);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert!(rig.read(SID, IOVA).is_some());
    rig.map(root, IOVA, A, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!(rig.missing().len(), 1);
    rig.run(&[nh_va(0, 5, IOVA, Leaf::Last)]);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
}

#[test]
fn tags_are_counted() {
    let (rig, _) = warm();
    let tag = CacheTag::Asid(Regime::El1, Asid(5));
    // A page and the two tables above it.
    assert_eq!(rig.model.lines_with_tag(0, tag), 3);
    assert_eq!(rig.model.lines_with_tag(0, CacheTag::Asid(Regime::El1, Asid(6))), 0);
    assert_eq!(rig.model.lines_with_tag(1, tag), 0);
    // While a stream uses the tag, the prefetcher fills it again after a flush.
    rig.run(&[nh_asid(0, 5)]);
    assert_eq!(rig.model.lines_with_tag(0, tag), 3);
    rig.put(rig.ste(SID), 0);
    rig.run(&[cfgi_ste(SID), nh_asid(0, 5)]);
    assert_eq!(rig.model.lines_with_tag(0, tag), 0);
}

#[rstest]
#[case::in_reach(Profile::default(), 5, Some(A))]
#[case::largest(Profile::default(), 0xffff, Some(A))]
#[case::eight_bits(Profile { asid_bits: 8, ..Profile::default() }, 0xff, Some(A))]
#[case::too_wide(Profile { asid_bits: 8, ..Profile::default() }, 0x105, None)]
fn asid_sizes(#[case] profile: Profile, #[case] asid: u16, #[case] reached: Option<u64>) {
    let rig = ModelRig::with(profile);
    let root = rig.stage1(SID, asid);
    rig.map(root, IOVA, A, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), reached);
    let refused: &[&str] = if reached.is_none() { &["C_BAD_CD sid=0x8"] } else { &[] };
    assert_eq!(rig.event_lines(), refused);
}

// T0SZ decides the number of levels.
#[rstest]
#[case::four_levels(16, 0)]
#[case::three_levels(25, 1)]
#[case::three_levels_short(30, 1)]
#[case::two_levels(34, 2)]
#[case::two_levels_short(39, 2)]
fn start_levels(#[case] t0sz: u64, #[case] start: u32) {
    let rig = ModelRig::new();
    let last = (1u64 << (64 - t0sz)) - 0x1000;
    let top = rig.table();
    let mut slot = 0;
    let mut table = top;
    for level in start..=3 {
        slot = table + (last >> (39 - 9 * level) & 0x1ff) * 8;
        if level < 3 {
            table = rig.table();
            rig.put(slot, table | 3);
        }
    }
    rig.put(slot, A | 3 | S1_RW);
    rig.write_stage1(SID, 5, top);
    let cd = rig.cd(SID);
    rig.put(cd, rig.get(cd) & !0x3f | t0sz);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.dma(SID, last), Some(A));
    assert_eq!(rig.dma(SID, last + 0x1000), None);
    assert_eq!(rig.event_lines().len(), 1);
}

#[test]
fn el2_entries_have_tags_of_their_own() {
    let rig = ModelRig::with(Profile { hyp: true, ..Profile::default() });
    rig.regs.write(regs::CR0, 0xc);
    rig.regs.write(regs::CR2, regs::cr2::E2H | regs::cr2::RECINVSID);
    rig.regs.write(regs::CR0, 0xd);
    let root = rig.table();
    rig.write_stage1(SID, 5, root);
    rig.put(rig.ste(SID) + 8, 2 << 30);
    rig.run(&[cfgi_ste(SID)]);
    rig.map(root, IOVA, A, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    rig.map(root, IOVA, B, S1_RW);
    rig.run(&[nh_asid(0, 5), Command::TlbiNsnhAll]);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.missing(), [format!("TLBI_EL2_VA asid=5 va={IOVA:#x} leaf=1")]);
    rig.run(&[Command::TlbiEl2Asid { asid: Asid(5) }]);
    assert_eq!(rig.dma(SID, IOVA), Some(B));
}

#[test]
fn memory_is_told_apart_from_what_is_cached() {
    let (rig, root) = warm();
    let in_memory = |iova| rig.model.in_memory(0, SID, iova);
    let page = |address, write| {
        let permissions = Permissions { read: true, write };
        Some(Now::Page { address: PhysAddr(address), permissions })
    };
    assert_eq!(in_memory(IOVA + 8), page(A + 8, true));
    // Nothing is flushed: the device still reaches A.
    rig.map(root, IOVA, B, S1_RW | 1 << 7);
    assert_eq!(in_memory(IOVA), page(B, false));
    rig.unmap(root, IOVA);
    assert_eq!(in_memory(IOVA), Some(Now::Fault(EventKind::F_TRANSLATION)));
    rig.put(rig.cd(SID), 0);
    assert_eq!(in_memory(IOVA), Some(Now::Fault(EventKind::C_BAD_CD)));
    rig.put(rig.ste(SID), 1 | 4 << 1);
    assert_eq!(in_memory(IOVA), page(IOVA, true));
    assert_eq!(in_memory(1 << 60), Some(Now::Fault(EventKind::F_ADDR_SIZE)));
    rig.put_all(rig.ste(SID), &stage2_ste(3, root));
    assert_eq!(in_memory(1 << 60), Some(Now::Fault(EventKind::F_ADDR_SIZE)));
    assert_eq!(in_memory(IOVA), Some(Now::Fault(EventKind::F_TRANSLATION)));
    rig.put(rig.ste(SID), 1);
    assert_eq!(in_memory(IOVA), Some(Now::Abort));
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    rig.regs.write(regs::CR0, 0xc);
    assert_eq!((in_memory(IOVA), rig.model.in_memory(1, SID, IOVA)), (None, None));
}
