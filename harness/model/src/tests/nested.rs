//! Nested translation (`STE.Config` = 7): both stages, the TLBIs of both, and who owes which.

use rstest::rstest;
use smmu_types::{CacheTag, Command, Leaf, PhysAddr, Vmid};

use super::model_rig::{
    A, B, C, GLOBAL, IOVA, OTHER, RAM, S1_RW, S2_RW, SID, cd, cfgi_cd, cfgi_ste, nh_asid, nh_va,
    nh_vaa, ranged, s2_ipa, stage2_ste,
};
use super::nested_rig::{ASID, Guest, VMID, ipa};
use super::substream_rig::{CDTAB, L1CDS, LEAF, LEAF2, device, profile};
use crate::{Hazard, Profile};

const NOTHING: [String; 0] = [];

fn s12() -> Command {
    Command::TlbiS12Vmall { vmid: Vmid(VMID) }
}

fn nh_all(vmid: u16) -> Command {
    Command::TlbiNhAll { vmid: Vmid(vmid) }
}

fn forget_ipa(page: u64) -> Command {
    s2_ipa(VMID, ipa(page), Leaf::Last)
}

#[test]
fn a_dma_goes_through_both_stages() {
    let guest = Guest::new();
    let rig = &guest.rig;
    assert_eq!(guest.dma(), Some(A));
    // The output of stage 1 is an IPA, wherever it lies.
    guest.map(IOVA + 0x1000, ipa(C), S1_RW);
    guest.back(C, B, S2_RW);
    rig.put(B + 0x40, 77);
    assert_eq!(rig.read(SID, IOVA + 0x1040), Some(77));
    assert_eq!((rig.missing(), rig.audit(), rig.event_lines()), (vec![], vec![], vec![]));
    // Entries of stage 1 and of both stages carry the VMID, and the ASID below it.
    let of = |tag| rig.model.lines_with_tag(0, tag);
    assert!(of(CacheTag::Vmid(Vmid(VMID))) > 4);
    assert_eq!(of(CacheTag::Vmid(Vmid(0))), 0);
}

#[rstest]
#[case::a_stage_1_block(2, 3)]
#[case::a_stage_2_block(3, 2)]
#[case::two_blocks(2, 2)]
fn blocks(#[case] level1: u32, #[case] level2: u32) {
    let guest = Guest::new();
    let (rig, iova, base) = (&guest.rig, 0x6000_0000, RAM);
    match level1 {
        2 => rig.put(guest.slot(iova, 2), ipa(RAM) | 1 | S1_RW),
        _ => guest.map(iova + (A - RAM), ipa(A), S1_RW),
    }
    if level2 == 2 {
        rig.map_block(guest.stage2, ipa(RAM), 2, base, S2_RW);
    }
    assert_eq!(rig.dma(SID, iova + (A - RAM)), Some(A));
    assert_eq!((rig.missing(), rig.audit()), (vec![], vec![]));
}

/// 5.2 and 5.3: S1ContextPtr and L2Ptr are IPAs.
#[rstest]
#[case::linear(0)]
#[case::two_levels(1)]
fn tables_of_cds_lie_behind_stage_2(#[case] format: u64) {
    let guest = Guest::without_config(profile());
    let rig = &guest.rig;
    // RAM holds each piece elsewhere than its IPA says.
    let (seen, leaf) = (CDTAB, LEAF);
    if format == 0 {
        guest.back(seen, LEAF2, S2_RW);
        rig.put_all(LEAF2 + 3 * 64, &cd(ASID, ipa(guest.root)));
    } else {
        guest.back(seen, L1CDS, S2_RW);
        guest.back(leaf, LEAF2, S2_RW);
        rig.put(L1CDS, ipa(leaf) | 1);
        rig.put_all(LEAF2 + 3 * 64, &cd(ASID, ipa(guest.root)));
    }
    let [_, _, w2, w3] = stage2_ste(VMID, guest.stage2);
    let w0 = 1 | 7 << 1 | format << 4 | ipa(seen) | 6 << 59;
    rig.put_all(rig.ste(SID), &[w0, 1, w2, w3]);
    rig.run(&[cfgi_ste(SID)]);
    rig.put(A + 8, 9);
    assert_eq!(device(rig, SID, Some(3)).read32(IOVA + 8), Ok(9));
    assert_eq!((rig.missing(), rig.audit()), (vec![], vec![]));
    // S1DSS = 1: without a substream, stage 1 alone is skipped.
    assert_eq!(device(rig, SID, None).read32(ipa(A) + 8), Ok(9));
    assert_eq!(device(rig, SID, None).read32(A + 8), Err(crate::DmaRefused));
    let unmapped =
        format!("F_TRANSLATION sid=0x8 read iova={a:#x} class=IN stage=2 ipa={A:#x}", a = A + 8);
    assert_eq!(rig.event_lines(), [unmapped]);
    // 3.4: the size of an address that skips stage 1 is checked first, and is a fault of stage 1.
    assert_eq!(rig.read(SID, 1 << 44), None);
    let size = "F_ADDR_SIZE sid=0x8 read iova=0x100000000000 class=IN stage=1";
    assert_eq!(rig.event_lines(), [size]);
    assert_eq!(rig.audit(), NOTHING);
}

// The guest changes its page from A to B. The hypervisor sends the command with the guest's VMID.
#[rstest]
#[case::none(None, A)]
#[case::va(Some(nh_va(VMID, ASID, IOVA, Leaf::All)), B)]
#[case::va_leaf(Some(nh_va(VMID, ASID, IOVA, Leaf::Last)), B)]
#[case::vaa(Some(nh_vaa(VMID, IOVA, Leaf::Last)), B)]
#[case::asid(Some(nh_asid(VMID, ASID)), B)]
#[case::all(Some(nh_all(VMID)), B)]
#[case::s12(Some(s12()), B)]
#[case::nsnh(Some(Command::TlbiNsnhAll), B)]
#[case::va_as_the_guest_sent_it(Some(nh_va(0, ASID, IOVA, Leaf::All)), A)]
#[case::asid_as_the_guest_sent_it(Some(nh_asid(0, ASID)), A)]
#[case::va_wrong_asid(Some(nh_va(VMID, 6, IOVA, Leaf::All)), A)]
#[case::va_neighbour(Some(nh_va(VMID, ASID, IOVA + 0x1000, Leaf::All)), A)]
#[case::wrong_asid(Some(nh_asid(VMID, 6)), A)]
#[case::all_wrong_vmid(Some(nh_all(4)), A)]
#[case::s12_wrong_vmid(Some(Command::TlbiS12Vmall { vmid: Vmid(4) }), A)]
#[case::ipa_of_the_old_page(Some(forget_ipa(A)), A)]
#[case::cfgi_cd(Some(cfgi_cd(SID)), A)]
#[case::cfgi_ste(Some(cfgi_ste(SID)), A)]
fn the_guest_changes_a_page(#[case] command: Option<Command>, #[case] reached: u64) {
    let guest = Guest::warm();
    guest.map(IOVA, ipa(B), S1_RW);
    guest.rig.run(command.as_slice());
    let stale = format!("TLBI_NH_VA vmid=3 asid=5 va={IOVA:#x} leaf=1");
    let expected = if reached == A { vec![stale] } else { vec![] };
    assert_eq!(guest.rig.audit(), expected);
    assert_eq!(guest.dma(), Some(reached));
    assert_eq!(guest.rig.missing(), expected);
}

// The hypervisor moves the guest's page from A to B. The model names what it owes one by one: the
// SMMU fills combined entries from those of stage 2, so these come first (4.4.3).
#[rstest]
#[case::none(&[], "TLBI_S2_IPA")]
#[case::ipa(&[forget_ipa(A)], "TLBI_NH_ALL")]
#[case::all(&[nh_all(VMID)], "TLBI_S2_IPA")]
#[case::va(&[nh_va(VMID, ASID, IOVA, Leaf::All)], "TLBI_S2_IPA")]
#[case::the_wrong_way_around(&[nh_all(VMID), forget_ipa(A)], "TLBI_NH_ALL")]
#[case::all_of_another_vmid(&[forget_ipa(A), nh_all(4)], "TLBI_NH_ALL")]
#[case::another_ipa(&[forget_ipa(B), nh_all(VMID)], "TLBI_S2_IPA")]
#[case::the_address_as_an_ipa(&[s2_ipa(VMID, IOVA, Leaf::All), nh_all(VMID)], "TLBI_S2_IPA")]
#[case::ipa_and_all(&[forget_ipa(A), nh_all(VMID)], "")]
#[case::ipa_and_vaa(&[forget_ipa(A), nh_vaa(VMID, IOVA, Leaf::Last)], "")]
#[case::ipa_and_asid(&[forget_ipa(A), nh_asid(VMID, ASID)], "")]
#[case::s12(&[s12()], "")]
#[case::nsnh(&[Command::TlbiNsnhAll], "")]
fn the_hypervisor_moves_a_page(#[case] commands: &[Command], #[case] owed: &str) {
    let guest = Guest::warm();
    guest.back(A, B, S2_RW);
    guest.rig.run(commands);
    let missing = match owed {
        "TLBI_S2_IPA" => vec![format!("TLBI_S2_IPA vmid=3 ipa={:#x} leaf=1", ipa(A))],
        "TLBI_NH_ALL" => vec!["TLBI_NH_ALL vmid=3".to_owned()],
        _ => vec![],
    };
    // The line of stage 2 and the combined one: both are stale while the first is.
    let audit = guest.rig.audit();
    assert!(audit.iter().all(|each| missing.contains(each)), "{audit:?}");
    assert_eq!(audit.is_empty(), missing.is_empty());
    assert_eq!(guest.dma(), Some(if missing.is_empty() { B } else { A }));
    assert_eq!(guest.rig.missing(), missing);
}

#[test]
fn a_stale_combined_line_is_described() {
    let guest = Guest::warm();
    guest.hide(A);
    guest.rig.run(&[forget_ipa(A)]);
    assert_eq!(guest.dma(), Some(A));
    let hazards: Vec<_> = guest.rig.model.take_hazards().iter().map(ToString::to_string).collect();
    assert_eq!(
        hazards,
        [
            "smmu0: at iova 0x50000000 stream 0x8 reaches 0x40100000 through a cached line of ASID 5, \
          where the tables now end in F_TRANSLATION; missing: TLBI_NH_ALL vmid=3"
        ]
    );
}

/// A global page has no ASID: `TLBI_NH_ASID` keeps it.
#[rstest]
#[case::asid(nh_asid(VMID, ASID), A)]
#[case::all(nh_all(VMID), B)]
#[case::vaa(nh_vaa(VMID, IOVA, Leaf::Last), B)]
fn a_global_page_moves(#[case] command: Command, #[case] reached: u64) {
    let guest = Guest::new();
    guest.map(IOVA, ipa(A), GLOBAL);
    assert_eq!(guest.dma(), Some(A));
    guest.back(A, B, S2_RW);
    guest.rig.run(&[forget_ipa(A), command]);
    assert_eq!(guest.dma(), Some(reached));
    let owed = if reached == A { vec!["TLBI_NH_ALL vmid=3"] } else { vec![] };
    assert_eq!(guest.rig.missing(), owed);
}

/// The walk cache holds where a table of stage 1 lies, by both stages.
#[rstest]
#[case::ipa(&[], Some("TLBI_S2_IPA"))]
#[case::all(&[true], Some("TLBI_NH_ALL"))]
#[case::both(&[true, false], None)]
fn the_hypervisor_moves_a_table_of_the_guest(#[case] sent: &[bool], #[case] owed: Option<&str>) {
    let guest = Guest::warm();
    let (rig, old) = (&guest.rig, guest.leaf_table());
    let new = rig.table();
    for n in 0..512 {
        rig.put(new + n * 8, rig.get(old + n * 8));
    }
    guest.back(old, new, S2_RW);
    // The hypervisor uses the old page for something else.
    rig.put_all(old, &[0; 512]);
    rig.put(new + ((IOVA >> 12 & 0x1ff) + 1) * 8, ipa(B) | 3 | S1_RW);
    for ipa in sent {
        rig.run(&[if *ipa { forget_ipa(old) } else { nh_all(VMID) }]);
    }
    let names = |all: Vec<String>| -> Vec<String> {
        let names = all.iter().filter_map(|each| each.split_whitespace().next());
        names.map(str::to_owned).collect()
    };
    let audit = names(rig.audit());
    assert_eq!(audit.is_empty(), owed.is_none(), "{audit:?}");
    assert!(audit.iter().all(|name| Some(name.as_str()) == owed), "{audit:?}");
    assert_eq!(rig.dma(SID, IOVA + 0x1000), if owed.is_some() { None } else { Some(B) });
    let missing = names(rig.missing());
    assert_eq!(missing, Vec::from_iter(owed));
}

/// The guest replaces its last-level table.
#[test]
fn a_leaf_tlbi_keeps_the_tables_of_stage_1() {
    let guest = Guest::warm();
    guest.rig.put(guest.slot(IOVA, 2), ipa(guest.table()) | 3);
    guest.map(IOVA, ipa(B), S1_RW);
    guest.rig.run(&[nh_va(VMID, ASID, IOVA, Leaf::Last)]);
    assert_eq!(guest.dma(), Some(A));
    let expected = format!("TLBI_NH_VA vmid=3 asid=5 va={IOVA:#x} leaf=0");
    assert_eq!(guest.rig.missing(), [expected]);
    guest.rig.run(&[nh_va(VMID, ASID, IOVA, Leaf::All)]);
    assert_eq!(guest.dma(), Some(B));
    assert_eq!(guest.rig.missing(), NOTHING);
}

/// One command of any address in a block drops each piece of it, although stage 2 has split it.
#[rstest]
#[case::another_page(nh_va(VMID, ASID, 0x6000_0000, Leaf::Last), true)]
#[case::the_next_block(nh_va(VMID, ASID, 0x6020_0000, Leaf::Last), false)]
#[case::level_of_the_block(with_vmid(ranged(0x6000_0000, 0, 0, 2, Leaf::Last)), true)]
#[case::level_of_the_pages(with_vmid(ranged(0x6000_0000, 0, 0, 3, Leaf::Last)), false)]
fn a_block_that_stage_2_splits(#[case] command: Command, #[case] drops: bool) {
    let guest = Guest::new();
    let (rig, iova) = (&guest.rig, 0x6000_0000);
    rig.put(guest.slot(iova, 2), ipa(RAM) | 1 | S1_RW);
    let reach = |page: u64| rig.dma(SID, iova + (page - RAM));
    assert_eq!([reach(A), reach(B)], [Some(A), Some(B)]);
    assert_eq!((rig.missing(), rig.audit()), (vec![], vec![]));
    rig.put(guest.slot(iova, 2), 0);
    rig.run(&[command]);
    let expected = if drops { [None; 2] } else { [Some(A), Some(B)] };
    assert_eq!([reach(A), reach(B)], expected);
    assert_eq!(rig.missing().len(), if drops { 0 } else { 2 });
}

/// The same command for VMID 3.
fn with_vmid(command: Command) -> Command {
    let mut raw = command.encode();
    raw.0[0] |= u64::from(VMID) << 32;
    Command::decode(raw)
}

/// The CD stays in the configuration cache, whatever TLBIs the hypervisor sends.
#[rstest]
#[case::none(&[], A)]
#[case::tlbi(&[s12(), Command::TlbiNsnhAll], A)]
#[case::cd(&[s12(), cfgi_cd(SID)], B)]
#[case::cd_of_another(&[s12(), cfgi_cd(OTHER)], A)]
#[case::cd_all(&[s12(), Command::CfgiCdAll { stream: SID }], B)]
#[case::cd_before_the_tlbi(&[cfgi_cd(SID), s12()], A)]
fn the_hypervisor_moves_the_page_of_a_cd(#[case] commands: &[Command], #[case] reached: u64) {
    let guest = Guest::warm();
    let (rig, page) = (&guest.rig, guest.rig.cd(SID) & !0xfff);
    let (moved, root) = (rig.table(), guest.table());
    // The new page holds a CD with another ASID and another table, which maps IOVA to B.
    rig.put_all(moved + (rig.cd(SID) & 0xfff), &cd(6, ipa(root)));
    guest.back(page, moved, S2_RW);
    let tables = [guest.table(), guest.table()];
    rig.put(root + (IOVA >> 30) * 8, ipa(tables[0]) | 3);
    rig.put(tables[0] + (IOVA >> 21 & 0x1ff) * 8, ipa(tables[1]) | 3);
    rig.put(tables[1] + (IOVA >> 12 & 0x1ff) * 8, ipa(B) | 3 | S1_RW);
    rig.run(commands);
    assert_eq!(guest.dma(), Some(reached));
    let owed = rig.missing();
    let stale = "CFGI_CD sid=0x8 ssid=0x0 leaf=1".to_owned();
    assert_eq!(owed.contains(&stale), reached == A, "{owed:?}");
    assert_eq!(rig.audit().contains(&stale), reached == A);
}

/// Each VM assigns its ASIDs itself.
#[test]
fn two_guests_with_one_asid() {
    let guest = Guest::warm();
    let rig = &guest.rig;
    let (stage2, root) = (rig.table(), rig.table());
    rig.map(stage2, ipa(root), root, S2_RW);
    rig.map(stage2, ipa(rig.cd(OTHER) & !0xfff), rig.cd(OTHER) & !0xfff, S2_RW);
    rig.put_all(rig.cd(OTHER), &cd(ASID, ipa(root)));
    rig.put(root + (IOVA >> 30) * 8, ipa(RAM) | 1 | S1_RW);
    rig.map(stage2, ipa(RAM) + (IOVA & 0x3fff_ffff), B, S2_RW);
    let [_, _, w2, w3] = stage2_ste(4, stage2);
    rig.put_all(rig.ste(OTHER), &[1 | 7 << 1 | ipa(rig.cd(OTHER)), 0, w2, w3]);
    rig.run(&[cfgi_ste(OTHER)]);
    assert_eq!((rig.dma(OTHER, IOVA), guest.dma()), (Some(B), Some(A)));
    assert_eq!((rig.missing(), rig.audit()), (vec![], vec![]));
    // The second guest now has the VMID of the first.
    rig.put_all(rig.ste(OTHER), &[1 | 7 << 1 | ipa(rig.cd(OTHER)), 0, w2 & !0xffff | 3, w3]);
    rig.run(&[cfgi_ste(OTHER)]);
    assert_eq!(rig.dma(OTHER, IOVA), Some(A), "a page of another guest");
    let hazards = rig.model.take_hazards();
    let clashes: Vec<_> = hazards
        .iter()
        .filter_map(|hazard| match hazard {
            Hazard::TagClash { tag, origin, table, missing, .. } => {
                Some((*tag, origin.0, table.0, missing.to_string()))
            }
            _ => None,
        })
        .collect();
    let tag = Some(CacheTag::Vmid(Vmid(VMID)));
    let expected = (tag, guest.stage2, stage2, "TLBI_S12_VMALL vmid=3".to_owned());
    assert!(!clashes.is_empty() && clashes.iter().all(|clash| *clash == expected), "{hazards:?}");
}

#[rstest]
#[case::without_cfgi(false)]
#[case::with_cfgi(true)]
fn a_stream_gets_another_vmid(#[case] cfgi: bool) {
    let guest = Guest::warm();
    let rig = &guest.rig;
    guest.write_ste(rig.cd(SID), 0, 7, guest.stage2);
    if cfgi {
        rig.run(&[cfgi_ste(SID)]);
    }
    assert_eq!(guest.dma(), Some(A));
    let owed: &[&str] = if cfgi { &[] } else { &["CFGI_STE sid=0x8 leaf=1"] };
    assert_eq!(
        (rig.missing(), rig.audit()),
        (
            owed.iter().map(ToString::to_string).collect(),
            owed.iter().map(ToString::to_string).collect()
        )
    );
    assert_eq!(rig.model.lines_with_tag(0, CacheTag::Vmid(Vmid(7))) > 0, cfgi);
    // The old entries are there for the next owner of the VMID.
    assert!(rig.model.lines_with_tag(0, CacheTag::Vmid(Vmid(VMID))) > 0);
}

#[test]
fn the_guest_uses_an_asid_again() {
    let guest = Guest::warm();
    let (rig, root) = (&guest.rig, guest.table());
    rig.put_all(rig.cd(SID), &cd(ASID, ipa(root)));
    guest.forget_cd();
    assert_eq!(guest.dma(), Some(A));
    assert_eq!(rig.missing(), ["TLBI_NH_ASID vmid=3 asid=5"]);
    rig.run(&[nh_asid(VMID, ASID)]);
    assert_eq!(guest.dma(), None);
    assert_eq!((rig.missing(), rig.audit()), (vec![], vec![]));
}

/// A stream of stage 1 alone whose VMID a guest has.
#[test]
fn stage_1_alone_clashes_with_a_guest() {
    let guest = Guest::warm();
    let (rig, root) = (&guest.rig, guest.rig.table());
    rig.map(root, IOVA, B, S1_RW);
    rig.write_stage1(OTHER, ASID, root);
    rig.put(rig.ste(OTHER) + 16, VMID.into());
    rig.run(&[cfgi_ste(OTHER)]);
    assert_eq!(rig.dma(OTHER, IOVA), Some(A));
    assert_eq!(rig.missing(), ["TLBI_S12_VMALL vmid=3"]);
}

/// The hypervisor frees the page that a guest's CD lies in.
#[test]
fn a_cd_in_freed_memory() {
    let guest = Guest::warm();
    let (rig, page) = (&guest.rig, guest.rig.cd(SID) & !0xfff);
    rig.model.memory_freed(PhysAddr(page), 0x1000);
    let freed = |at: u64| format!("smmu0: the CDs of stream 0x8 at {at:#x} lie in freed memory");
    assert_eq!(rig.audit(), [freed(rig.cd(SID))]);
    // Unmapped, with every TLBI: the configuration cache still has it.
    guest.hide(page);
    rig.run(&[s12()]);
    assert_eq!(rig.audit(), ["CFGI_CD sid=0x8 ssid=0x0 leaf=1".to_owned(), freed(rig.cd(SID))]);
    guest.forget_cd();
    assert_eq!(rig.audit(), NOTHING);
}

#[test]
fn a_cd_of_a_guest_changes_in_two_words() {
    let guest = Guest::with(Profile { word_by_word: true, ..Profile::default() });
    let rig = &guest.rig;
    assert_eq!(guest.dma(), Some(A));
    rig.put_all(rig.cd(SID), &cd(6, ipa(guest.table())));
    guest.forget_cd();
    let hazards = rig.model.take_hazards();
    assert!(matches!(hazards[..], [Hazard::MixedUpdate { stream: SID, .. }]), "{hazards:?}");
}

#[rstest]
#[case::no_stage_1(false, true)]
#[case::no_stage_2(true, false)]
fn an_smmu_with_one_stage_refuses(#[case] stage1: bool, #[case] stage2: bool) {
    let guest = Guest::with(Profile { stage1, stage2, ..Profile::default() });
    assert_eq!(guest.dma(), None);
    assert_eq!(guest.rig.event_lines(), ["C_BAD_STE sid=0x8"]);
    assert_eq!(guest.rig.missing(), NOTHING);
}

// The rules of both stages hold.
#[rstest]
#[case::as_built(0, 0, 0, true)]
#[case::stage_1_may_not_disable_stalls(1 << 27, 0, 0, false)]
#[case::stage_2_may_not_stall(0, 0, 1 << 57, false)]
#[case::stage_2_of_aarch32(0, 1 << 51, 0, false)]
#[case::stage_2_granule(0, 0, 1 << 46, false)]
#[case::stage_2_start(0, 3 << 38, 0, false)]
fn ste_checks(#[case] w1: u64, #[case] clear: u64, #[case] set: u64, #[case] legal: bool) {
    let guest = Guest::new();
    let (rig, ste) = (&guest.rig, guest.rig.ste(SID));
    rig.put(ste + 8, w1);
    rig.put(ste + 16, rig.get(ste + 16) & !clear | set);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(guest.dma(), legal.then_some(A));
    assert_eq!(rig.event_lines(), if legal { vec![] } else { vec!["C_BAD_STE sid=0x8"] });
}
