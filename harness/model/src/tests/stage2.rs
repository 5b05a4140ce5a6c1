//! Stage-2 translations, and the commands that drop them.

use rstest::rstest;
use smmu_types::{CacheTag, Command, Leaf, Vmid};

use super::model_rig::{
    A, B, IOVA, ModelRig, S2_RW, SID, cfgi_ste, nh_asid, nh_va, s2_ipa, stage2_ste,
};
use crate::{Hazard, Profile};

fn warm() -> (ModelRig, u64) {
    let rig = ModelRig::new();
    let root = rig.stage2(SID, 3);
    rig.map(root, IOVA, A, S2_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    (rig, root)
}

// The same for stage 2, as measured on QEMU's SMMUv3.
#[rstest]
#[case::none(None, A)]
#[case::vmall(Some(Command::TlbiS12Vmall { vmid: Vmid(3) }), B)]
#[case::vmall_wrong(Some(Command::TlbiS12Vmall { vmid: Vmid(4) }), A)]
#[case::ipa(Some(s2_ipa(3, IOVA, Leaf::All)), B)]
#[case::ipa_leaf(Some(s2_ipa(3, IOVA, Leaf::Last)), B)]
#[case::ipa_wrong_vmid(Some(s2_ipa(4, IOVA, Leaf::All)), A)]
#[case::ipa_neighbour(Some(s2_ipa(3, IOVA + 0x1000, Leaf::All)), A)]
#[case::nh_all(Some(Command::TlbiNhAll { vmid: Vmid(3) }), A)]
#[case::nh_va(Some(nh_va(3, 0, IOVA, Leaf::All)), A)]
#[case::nh_asid(Some(nh_asid(3, 0)), A)]
#[case::nsnh(Some(Command::TlbiNsnhAll), B)]
fn a_changed_page_is_seen_after(#[case] command: Option<Command>, #[case] reached: u64) {
    let (rig, root) = warm();
    rig.map(root, IOVA, B, S2_RW);
    rig.run(command.as_slice());
    let stale = format!("TLBI_S2_IPA vmid=3 ipa={IOVA:#x} leaf=1");
    let expected = if reached == A { vec![stale] } else { vec![] };
    assert_eq!(rig.audit(), expected);
    assert_eq!(rig.dma(SID, IOVA), Some(reached));
    assert_eq!(rig.missing(), expected);
}

#[test]
fn leaf_invalidation_keeps_cached_tables() {
    let (rig, root) = warm();
    let upper = rig.slot(root, IOVA, 2);
    rig.put(upper, rig.table() | 3);
    rig.map(root, IOVA, B, S2_RW);
    rig.run(&[s2_ipa(3, IOVA, Leaf::Last)]);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.missing(), [format!("TLBI_S2_IPA vmid=3 ipa={IOVA:#x} leaf=0")]);
    rig.run(&[s2_ipa(3, IOVA, Leaf::All)]);
    assert_eq!(rig.dma(SID, IOVA), Some(B));
}

#[test]
fn reuse_of_a_vmid_without_flush() {
    let (rig, _) = warm();
    let new = rig.table();
    rig.map(new, IOVA, B, S2_RW);
    rig.put_all(rig.ste(SID), &stage2_ste(3, new));
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert!(matches!(rig.model.audit()[..], [Hazard::TagClash { .. }, ..]));
    assert_eq!(rig.missing(), ["TLBI_S12_VMALL vmid=3"]);
    assert_eq!(rig.model.lines_with_tag(0, CacheTag::Vmid(Vmid(3))), 3);
    rig.run(&[Command::TlbiS12Vmall { vmid: Vmid(3) }]);
    assert_eq!(rig.dma(SID, IOVA), Some(B));
    assert_eq!(rig.audit(), Vec::<String>::new());
}

#[test]
fn tables_side_by_side() {
    let rig = ModelRig::new();
    // 34 bits from level 2: sixteen tables.
    let tables = 0x4018_0000;
    let last = (1u64 << 34) - 0x1000;
    let pages = rig.table();
    rig.put(tables + (last >> 21) * 8, pages | 3);
    rig.put(pages + 0x1ff * 8, A | 3 | S2_RW);
    let mut ste = stage2_ste(3, tables);
    ste[2] = ste[2] & !(0xff << 32) | 30 << 32;
    rig.put_all(rig.ste(SID), &ste);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.dma(SID, last), Some(A));
    assert_eq!(rig.dma(SID, last + 0x1000), None);
    assert_eq!(
        rig.event_lines(),
        ["F_TRANSLATION sid=0x8 write iova=0x400000000 class=IN stage=2 ipa=0x400000000"]
    );
}

#[rstest]
#[case::as_built(0, 0, Some(A))]
#[case::t0sz_too_small(0x3f << 32, 18 << 32, None)]
#[case::t0sz_too_large(0x3f << 32, 40 << 32, None)]
#[case::start_too_low(3 << 38, 0, None)]
#[case::start_reserved(3 << 38, 3 << 38, None)]
#[case::granule(3 << 46, 1 << 46, None)]
#[case::aarch32(1 << 51, 0, None)]
#[case::big_endian(0, 1 << 52, None)]
#[case::hardware_access_flag(0, 1 << 56, None)]
#[case::stall(0, 1 << 57, None)]
#[case::reserved_size_is_the_largest(0, 7 << 48, Some(A))]
fn ste_checks(#[case] clear: u64, #[case] set: u64, #[case] reached: Option<u64>) {
    let rig = ModelRig::new();
    let root = rig.table();
    rig.map(root, IOVA, A, S2_RW);
    let mut ste = stage2_ste(3, root);
    ste[2] = ste[2] & !clear | set;
    rig.put_all(rig.ste(SID), &ste);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.dma(SID, IOVA), reached);
    let refused: &[&str] = if reached.is_none() { &["C_BAD_STE sid=0x8"] } else { &[] };
    assert_eq!(rig.event_lines(), refused);
}

#[test]
fn vmid_sizes() {
    let rig = ModelRig::with(Profile { vmid_bits: 8, ..Profile::default() });
    let root = rig.stage2(SID, 0x103);
    rig.map(root, IOVA, A, S2_RW);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!(rig.event_lines(), ["C_BAD_STE sid=0x8"]);
}

#[test]
fn absent_stages_are_refused() {
    let rig = ModelRig::with(Profile { stage2: false, ..Profile::default() });
    rig.stage2(SID, 3);
    assert_eq!(rig.dma(SID, IOVA), None);
    let rig1 = ModelRig::with(Profile { stage1: false, ..Profile::default() });
    rig1.stage1(SID, 5);
    assert_eq!(rig1.dma(SID, IOVA), None);
    for rig in [rig, rig1] {
        assert_eq!(rig.event_lines(), ["C_BAD_STE sid=0x8"]);
        assert_eq!(rig.missing(), Vec::<String>::new());
    }
}

#[test]
fn stage1_lines_carry_the_vmid_where_there_is_a_stage_2() {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.put(rig.ste(SID) + 16, 9);
    rig.run(&[cfgi_ste(SID)]);
    rig.map(root, IOVA, A, super::model_rig::S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    rig.map(root, IOVA, B, super::model_rig::S1_RW);
    rig.run(&[nh_asid(0, 5)]);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.missing(), [format!("TLBI_NH_VA vmid=9 asid=5 va={IOVA:#x} leaf=1")]);
    rig.run(&[Command::TlbiS12Vmall { vmid: Vmid(9) }]);
    assert_eq!(rig.dma(SID, IOVA), Some(B));
}
