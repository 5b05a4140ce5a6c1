//! The events of nested translation: which stage, which class, which IPA (IHI 0070, 7.3.12 and 13).

use rstest::rstest;
use smmu_types::{Command, Leaf, ResumeAction, StallModel};

use super::model_rig::{A, B, IOVA, ModelRig, S1_RW, S2_RW, SID, cfgi_ste, s2_ipa};
use super::nested_rig::{Guest, VMID, ipa};
use crate::{DmaProgress, Profile};

/// A page that stage 2 translates for a DMA to `IOVA`.
#[derive(Clone, Copy, Debug)]
enum Of {
    Cd,
    Root,
    Leaf,
    Output,
}

fn page_of(guest: &Guest, of: Of) -> u64 {
    match of {
        Of::Cd => guest.rig.cd(SID) & !0xfff,
        Of::Root => guest.root,
        Of::Leaf => guest.leaf_table(),
        Of::Output => A,
    }
}

/// The IPA that the record gives, without its low bits.
fn event(kind: &str, of: Of, guest: &Guest) -> String {
    let class = match of {
        Of::Cd => "CD",
        Of::Root | Of::Leaf => "TT",
        Of::Output => "IN",
    };
    let at = ipa(page_of(guest, of));
    let rest = match (kind, of) {
        ("F_PERMISSION", Of::Root | Of::Leaf) => " ttrnw=read",
        _ => "",
    };
    format!("{kind} sid=0x8 write iova={IOVA:#x} class={class} stage=2 ipa={at:#x}{rest}")
}

#[rstest]
fn stage_2_faults(
    #[values(Of::Cd, Of::Root, Of::Leaf, Of::Output)] of: Of,
    #[values("F_TRANSLATION", "F_ACCESS", "F_PERMISSION", "F_ADDR_SIZE")] kind: &str,
) {
    let guest = Guest::new();
    let page = page_of(&guest, of);
    // The rig's STE has S2AFFD, which switches access flag faults off.
    let w2 = guest.rig.ste(SID) + 16;
    guest.rig.put(w2, guest.rig.get(w2) & !(1 << 53));
    guest.rig.run(&[cfgi_ste(SID)]);
    match kind {
        "F_TRANSLATION" => guest.hide(page),
        "F_ACCESS" => guest.back(page, page, S2_RW & !(1 << 10)),
        // The SMMU reads structures; the device writes.
        "F_PERMISSION" if matches!(of, Of::Output) => guest.back(page, page, S2_RW & !(1 << 7)),
        "F_PERMISSION" => guest.back(page, page, S2_RW & !(1 << 6)),
        _ => guest.back(page, 1 << 45, S2_RW),
    }
    assert_eq!(guest.dma(), None);
    assert_eq!(guest.rig.event_lines(), [event(kind, of, &guest)]);
    // Nothing of it is cached but a leaf that denies, which needs its TLBI.
    guest.show(page);
    guest.rig.run(&[s2_ipa(VMID, ipa(page), Leaf::Last), Command::TlbiNsnhAll]);
    assert_eq!(guest.dma(), Some(A));
    assert_eq!((guest.rig.missing(), guest.rig.audit()), (vec![], vec![]));
}

/// 7.3.12: the class tells what stage 2 was asked for, or that stage 1 read a descriptor.
#[rstest]
#[case::stage_2_of_a_cd(Of::Cd, "class=CD stage=2")]
#[case::stage_2_of_a_table(Of::Leaf, "class=TT stage=2")]
#[case::stage_2_of_the_output(Of::Output, "class=IN stage=2")]
fn stage_2_tables_that_cannot_be_read(#[case] of: Of, #[case] class: &str) {
    let guest = Guest::new();
    let page = page_of(&guest, of);
    // An IPA of its own 2 MiB: only this page has no table in memory.
    let far = ipa(0x1_0000_0000) | page;
    let move_to =
        |slot: u64| guest.rig.put(slot, guest.rig.get(slot) & 0xfff | far | S1_RW & !0xfff);
    match of {
        Of::Cd => {
            guest.write_ste(far - ipa(0) + (guest.rig.cd(SID) & 0xfff), 0, VMID, guest.stage2);
        }
        Of::Leaf => move_to(guest.slot(IOVA, 2)),
        _ => move_to(guest.slot(IOVA, 3)),
    }
    guest.rig.put(guest.rig.slot(guest.stage2, far, 2), 0x8000_0000 | 3);
    guest.rig.run(&[cfgi_ste(SID)]);
    assert_eq!(guest.dma(), None);
    let fetch = 0x8000_0000 + (far >> 12 & 0x1ff) * 8;
    let expected = format!("F_WALK_EABT sid=0x8 write iova={IOVA:#x} {class} fetch={fetch:#x}");
    assert_eq!(guest.rig.event_lines(), [expected]);
}

#[rstest]
#[case::cd(Of::Cd)]
#[case::table(Of::Leaf)]
fn structures_behind_stage_2_that_cannot_be_read(#[case] of: Of) {
    let guest = Guest::new();
    let page = page_of(&guest, of);
    guest.back(page, 0x8000_0000, S2_RW);
    assert_eq!(guest.dma(), None);
    let expected = match of {
        Of::Cd => {
            format!("F_CD_FETCH sid=0x8 fetch={:#x}", 0x8000_0000 + (guest.rig.cd(SID) & 0xfff))
        }
        _ => {
            let fetch = 0x8000_0000 + (IOVA >> 12 & 0x1ff) * 8;
            format!("F_WALK_EABT sid=0x8 write iova={IOVA:#x} class=TT stage=1 fetch={fetch:#x}")
        }
    };
    assert_eq!(guest.rig.event_lines(), [expected]);
}

#[rstest]
#[case::unmapped(0, "F_TRANSLATION")]
#[case::read_only(ipa(A) | 3 | S1_RW | 1 << 7, "F_PERMISSION")]
#[case::no_access_flag(ipa(A) | 3 | S1_RW & !(1 << 10), "F_ACCESS")]
#[case::beyond_ips(1 << 45 | 3 | S1_RW, "F_ADDR_SIZE")]
fn stage_1_faults(#[case] descriptor: u64, #[case] kind: &str) {
    let guest = Guest::new();
    guest.rig.put(guest.slot(IOVA, 3), descriptor);
    // 3.9.1.2: stage 2 has no say where stage 1 faults.
    for hidden in [false, true] {
        if hidden {
            guest.hide(A);
            guest.rig.run(&[Command::TlbiNsnhAll]);
        }
        assert_eq!(guest.dma(), None);
        let expected = format!("{kind} sid=0x8 write iova={IOVA:#x} class=IN stage=1");
        assert_eq!(guest.rig.event_lines(), [expected]);
        assert_eq!(guest.rig.missing(), Vec::<String>::new());
    }
}

/// An output of stage 1 beyond what stage 2 takes is a fault of stage 2.
#[test]
fn an_ipa_that_stage_2_does_not_take() {
    let guest = Guest::new();
    guest.map(IOVA, 1 << 40, S1_RW);
    assert_eq!(guest.dma(), None);
    let expected =
        format!("F_TRANSLATION sid=0x8 write iova={IOVA:#x} class=IN stage=2 ipa=0x10000000000");
    assert_eq!(guest.rig.event_lines(), [expected]);
}

/// 3.4.3: so is a table of CDs beyond it.
#[test]
fn a_table_of_cds_that_stage_2_does_not_take() {
    let guest = Guest::new();
    guest.configure((1 << 50) - ipa(0), 0);
    assert_eq!(guest.dma(), None);
    let expected = format!(
        "F_TRANSLATION sid=0x8 write iova={IOVA:#x} class=CD stage=2 ipa={:#x}",
        1u64 << 50
    );
    assert_eq!(guest.rig.event_lines(), [expected]);
}

// CD.R is for faults of stage 1, and S2R for those of stage 2.
#[rstest]
#[case::stage_1_recorded(true, true, false, 1)]
#[case::stage_1_silent(true, false, true, 0)]
#[case::stage_2_recorded(false, false, true, 1)]
#[case::stage_2_silent(false, true, false, 0)]
fn each_stage_records_its_faults(
    #[case] of_stage1: bool,
    #[case] cd_r: bool,
    #[case] s2r: bool,
    #[case] events: usize,
) {
    let guest = Guest::new();
    let (rig, cd, ste) = (&guest.rig, guest.rig.cd(SID), guest.rig.ste(SID));
    rig.put(cd, rig.get(cd) & !(1 << 45) | u64::from(cd_r) << 45);
    rig.put(ste + 16, rig.get(ste + 16) & !(1 << 58) | u64::from(s2r) << 58);
    rig.run(&[cfgi_ste(SID)]);
    if of_stage1 {
        rig.put(guest.slot(IOVA, 3), 0);
    } else {
        guest.hide(A);
    }
    assert_eq!((guest.dma(), rig.events().len()), (None, events));
}

/// S2S: a fault of stage 2 stalls, also in a fetch.
#[rstest]
fn stage_2_stalls(#[values(Of::Cd, Of::Leaf, Of::Output)] of: Of) {
    let guest = Guest::with(Profile { stall_model: StallModel::Both, ..Profile::default() });
    let (rig, ste) = (&guest.rig, guest.rig.ste(SID));
    rig.put(ste + 16, rig.get(ste + 16) | 1 << 57);
    rig.run(&[cfgi_ste(SID)]);
    let page = page_of(&guest, of);
    guest.hide(page);
    rig.run(&[Command::TlbiNsnhAll, Command::CfgiAll]);
    let DmaProgress::Stalled(id) = rig.model.start_write32(0, SID, IOVA, 7) else {
        panic!("no stall");
    };
    let expected = event("F_TRANSLATION", of, &guest) + " stall stag=0x0";
    assert_eq!(rig.event_lines(), [expected]);
    guest.show(page);
    rig.run(&[Command::Resume { stream: SID, tag: 0, action: ResumeAction::Retry }]);
    assert_eq!(rig.model.progress(0, id), DmaProgress::Written);
    assert_eq!(rig.get(A), 7);
}

/// The SMMU fetches nothing ahead: each entry comes back at the next DMA.
#[test]
fn without_a_prefetcher() {
    let guest = Guest::with(Profile { prefetch: false, ..Profile::default() });
    let rig: &ModelRig = &guest.rig;
    assert_eq!(guest.dma(), Some(A));
    guest.back(A, B, S2_RW);
    // The combined line is gone, but the walk meets the old line of stage 2.
    rig.run(&[Command::TlbiNhAll { vmid: smmu_types::Vmid(VMID) }]);
    assert_eq!(guest.dma(), Some(A));
    let stale = format!("TLBI_S2_IPA vmid=3 ipa={:#x} leaf=1", ipa(A));
    let missing = rig.missing();
    assert!(!missing.is_empty() && missing.iter().all(|each| *each == stale), "{missing:?}");
    rig.run(&[s2_ipa(VMID, ipa(A), Leaf::Last)]);
    assert_eq!(guest.dma(), Some(A));
    assert_eq!(rig.missing(), ["TLBI_NH_ALL vmid=3"]);
    rig.run(&[Command::TlbiNhAll { vmid: smmu_types::Vmid(VMID) }]);
    assert_eq!(guest.dma(), Some(B));
    assert_eq!((rig.missing(), rig.audit()), (vec![], vec![]));
}
