//! Tables of 16 and 64 KiB pages (Arm ARM, D8): walks, blocks, and what commands drop of them.

use rstest::rstest;
use smmu_types::range::{LevelHint, Span};
use smmu_types::{Asid, Command, Granule, Iova, Leaf, Vmid};

use super::model_rig::*;
use crate::profile::Profile;

const ROOT: u64 = RAM + 0x8_0000;
const LAST: u64 = RAM + 0xa_0000;
const BLOCK: u64 = 1;
const PAGE: u64 = 3;

fn rig() -> ModelRig {
    ModelRig::with(Profile { granule_16k: true, granule_64k: true, ..Profile::default() })
}

/// Where the descriptors of each level for `IOVA` lie: 39 bits of input, so that a table of the first
/// level has 3 bits of index with 16 KiB (level 1), and 10 bits with 64 KiB (level 2).
struct Tree {
    block: u64,
    page: u64,
}

impl Tree {
    /// A CD, and tables that lead to the descriptor of the page.
    fn stage1(rig: &ModelRig, granule: Granule) -> Tree {
        rig.stage1(SID, 5);
        let tg0 = if granule == Granule::K16 { 2 << 6 } else { 1 << 6 };
        rig.put(rig.cd(SID), rig.get(rig.cd(SID)) | tg0);
        rig.put(rig.cd(SID) + 8, ROOT);
        rig.run(&[Command::CfgiAll]);
        Tree::at(rig, granule)
    }

    /// An STE of stage 2, likewise.
    fn stage2(rig: &ModelRig, granule: Granule) -> Tree {
        let mut ste = stage2_ste(3, ROOT);
        // S2TG; S2SL0: level 1 with 16 KiB, level 2 with 64 KiB.
        let size = if granule == Granule::K16 { 2 << 46 | 2 << 38 } else { 1 << 46 | 1 << 38 };
        ste[2] = ste[2] & !(3 << 46 | 3 << 38) | size;
        rig.put_all(rig.ste(SID), &ste);
        rig.run(&[Command::CfgiAll]);
        Tree::at(rig, granule)
    }

    fn at(rig: &ModelRig, granule: Granule) -> Tree {
        match granule {
            Granule::K16 => {
                rig.put(ROOT, (ROOT + 0x4000) | PAGE);
                let block = ROOT + 0x4000 + 8 * (IOVA >> 25 & 0x7ff);
                rig.put(block, LAST | PAGE);
                Tree { block, page: LAST + 8 * (IOVA >> 14 & 0x7ff) }
            }
            _ => {
                let block = ROOT + 8 * (IOVA >> 29);
                rig.put(block, LAST | PAGE);
                Tree { block, page: LAST + 8 * (IOVA >> 16 & 0x1fff) }
            }
        }
    }
}

#[rstest]
fn a_page_is_as_large_as_its_granule(
    #[values(Granule::K16, Granule::K64)] granule: Granule,
    #[values(1, 2)] stage: u8,
) {
    let rig = rig();
    let (tree, attributes) = match stage {
        1 => (Tree::stage1(&rig, granule), S1_RW),
        _ => (Tree::stage2(&rig, granule), S2_RW),
    };
    rig.put(tree.page, A | PAGE | attributes);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    let last = granule.bytes() - 0x1000;
    assert_eq!(rig.dma(SID, IOVA + last), Some(A + last));
    assert_eq!(rig.dma(SID, IOVA + granule.bytes()), None);
    assert_eq!(rig.event_lines().len(), 1);
    assert_eq!(rig.missing(), Vec::<String>::new());
}

/// Blocks of level 2: 32 MiB with 16 KiB, 512 MiB with 64 KiB. There is none of level 1.
#[rstest]
#[case(Granule::K16, 25)]
#[case(Granule::K64, 29)]
fn blocks_are_of_level_2_alone(#[case] granule: Granule, #[case] shift: u32) {
    let rig = rig();
    let tree = Tree::stage1(&rig, granule);
    rig.put(tree.block, RAM | BLOCK | S1_RW);
    let within = A - RAM;
    assert_eq!(rig.dma(SID, (IOVA >> shift << shift) + within), Some(A));
    if granule == Granule::K16 {
        rig.put(ROOT, RAM | BLOCK | S1_RW);
        rig.run(&[Command::TlbiNsnhAll]);
        assert_eq!(rig.dma(SID, IOVA), None);
    }
}

/// A command for any 4 KiB of a page drops it; a range of the page's granule does, and one of another
/// granule does not (4.4.1.1).
#[rstest]
fn commands_drop_the_page(#[values(Granule::K16, Granule::K64)] granule: Granule) {
    let ranged = |granule: Granule, hint| Command::TlbiNhVa {
        vmid: Vmid(0),
        asid: Asid(5),
        span: Span::ranged(Iova(IOVA), Leaf::Last, granule, 0, 0, hint).unwrap(),
    };
    let other = if granule == Granule::K16 { Granule::K64 } else { Granule::K16 };
    let level3 = LevelHint::from_ttl(3).unwrap();
    let inside = nh_va(0, 5, IOVA + granule.bytes() - 0x1000, Leaf::Last);
    for (command, drops) in [
        (inside, true),
        (nh_va(0, 5, IOVA + granule.bytes(), Leaf::Last), false),
        (ranged(granule, level3), true),
        (ranged(other, level3), false),
    ] {
        let rig = rig();
        let tree = Tree::stage1(&rig, granule);
        rig.put(tree.page, A | PAGE | S1_RW);
        assert_eq!(rig.dma(SID, IOVA), Some(A));
        rig.put(tree.page, (A + 0x1_0000) | PAGE | S1_RW);
        rig.run(&[command]);
        let reached = if drops { A + 0x1_0000 } else { A };
        assert_eq!(rig.dma(SID, IOVA), Some(reached), "{command}");
        assert_eq!(rig.model.take_hazards().is_empty(), drops, "{command}");
    }
}

/// A nested stream whose stages differ: a line covers the smaller of both pages, and a command of
/// stage 1 goes by the page of stage 1.
#[test]
fn a_page_of_stage_1_in_a_larger_one_of_stage_2() {
    let rig = rig();
    let tree = Tree::stage2(&rig, Granule::K64);
    for page in 0..0x20 {
        let identity = (RAM + 0x1_0000 * page) | PAGE | S2_RW;
        rig.put(tree.page - 8 * (IOVA >> 16 & 0x1fff) + 8 * page, identity);
    }
    rig.put(ROOT + 8 * (RAM >> 29), LAST | PAGE);
    let stage2 = [rig.get(rig.ste(SID) + 16), rig.get(rig.ste(SID) + 24)];
    let root = rig.stage1(SID, 5);
    rig.put(rig.ste(SID), rig.get(rig.ste(SID)) | 7 << 1);
    rig.put_all(rig.ste(SID) + 16, &stage2);
    rig.run(&[Command::CfgiAll]);
    rig.map(root, IOVA, B, S1_RW);
    rig.map(root, IOVA + 0x1000, A, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(B));
    assert_eq!(rig.dma(SID, IOVA + 0x1000), Some(A));
    assert_eq!(rig.missing(), Vec::<String>::new());
}

/// The smallest and largest input sizes of each granule, and those at which the first level changes.
/// With 25 bits one table is the whole walk of 16 and 64 KiB.
#[rstest]
#[case(Granule::K4, 39, 2)]
#[case(Granule::K4, 34, 2)]
#[case(Granule::K4, 33, 1)]
#[case(Granule::K4, 16, 0)]
#[case(Granule::K16, 39, 3)]
#[case(Granule::K16, 38, 2)]
#[case(Granule::K16, 28, 2)]
#[case(Granule::K16, 27, 1)]
#[case(Granule::K16, 17, 1)]
#[case(Granule::K16, 16, 0)]
#[case(Granule::K64, 39, 3)]
#[case(Granule::K64, 35, 3)]
#[case(Granule::K64, 34, 2)]
#[case(Granule::K64, 22, 2)]
#[case(Granule::K64, 21, 1)]
#[case(Granule::K64, 16, 1)]
fn the_first_level_follows_from_the_input_size(
    #[case] granule: Granule,
    #[case] t0sz: u64,
    #[case] first: u32,
) {
    let rig = rig();
    rig.stage1(SID, 5);
    let tg0 = match granule {
        Granule::K4 => 0,
        Granule::K64 => 1 << 6,
        Granule::K16 => 2 << 6,
    };
    rig.put(rig.cd(SID), rig.get(rig.cd(SID)) & !0x3f | tg0 | t0sz);
    rig.put(rig.cd(SID) + 8, ROOT);
    let (page, bits) = (granule.shift(), granule.shift() - 3);
    let last = (1u64 << (64 - t0sz)) - granule.bytes();
    for level in first..=3 {
        let table = ROOT + u64::from(level - first) * granule.bytes();
        let index = last >> (page + bits * (3 - level)) & ((1 << bits) - 1);
        let next = if level < 3 { table + granule.bytes() } else { A | S1_RW };
        rig.put(table + 8 * index, next | PAGE);
    }
    rig.run(&[Command::CfgiAll]);
    assert_eq!(rig.dma(SID, last), Some(A));
    assert_eq!(rig.dma(SID, last + granule.bytes() - 0x1000), Some(A + granule.bytes() - 0x1000));
    assert_eq!(rig.dma(SID, last + granule.bytes()), None);
    let beyond = format!("iova={:#x} class=IN stage=1", last + granule.bytes());
    let events = rig.event_lines();
    assert!(events.len() == 1 && events[0].starts_with("F_TRANSLATION"), "{events:?}");
    assert!(events[0].ends_with(&beyond), "{events:?}");
    assert_eq!(rig.missing(), Vec::<String>::new());
}
