//! A transaction that is known from before ends as one that is judged anew.

use proptest::prelude::*;
use smmu_types::{Command, StreamId};

use super::model_rig::{
    A, B, GLOBAL, IOVA, ModelRig, OTHER, S1_RW, S2_RW, SID, cfgi_cd, cfgi_ste, nh_asid, nh_va,
    stage2_ste,
};
use crate::DmaProgress;
use smmu_types::Leaf;

const NESTED: StreamId = StreamId(0x18);
const STREAMS: [StreamId; 3] = [SID, OTHER, NESTED];

/// Words that change, each with the values that it may have.
fn build(rig: &ModelRig) -> Vec<(u64, Vec<u64>)> {
    let root = rig.stage1(SID, 5);
    rig.stage2(OTHER, 3);
    let second = rig.table();
    let nested = rig.table();
    rig.write_cd(NESTED, 6, nested);
    let [_, _, w2, w3] = stage2_ste(4, second);
    rig.put_all(rig.ste(NESTED), &[1 | 7 << 1 | rig.cd(NESTED), 0, w2, w3]);
    // Stage 2 maps all of RAM to itself.
    for at in 0..2 {
        rig.map_block(second, 0x4000_0000 + at * 0x20_0000, 2, 0x4000_0000 + at * 0x20_0000, S2_RW);
    }
    rig.run(&[cfgi_ste(NESTED)]);
    let mut words = Vec::new();
    for (tables, attributes) in [(root, S1_RW), (nested, S1_RW)] {
        for page in [0, 1] {
            let iova = IOVA + 0x1000 * page;
            rig.map(tables, iova, A, attributes);
            let values = vec![A | 3 | attributes, B | 3 | attributes, A | 3 | GLOBAL, 0];
            words.push((rig.slot(tables, iova, 3), values));
        }
        let upper = rig.slot(tables, IOVA, 2);
        words.push((upper, vec![rig.get(upper), 0, rig.get(upper) | 1 << 62, B | 1 | attributes]));
    }
    let own = rig.slot(second, 0x4000_0000, 2);
    words.push((own, vec![rig.get(own), 0, 0x4000_0000 | 1 | S2_RW & !(1 << 7)]));
    for stream in STREAMS {
        let (ste, cd) = (rig.ste(stream), rig.cd(stream));
        // S1STALLD and a word that the SMMU does not use, the CD's root, the STE without V.
        words.push((ste, vec![rig.get(ste), 0, 1]));
        words.push((ste + 56, vec![0, 1]));
        words.push((cd + 8, vec![rig.get(cd + 8), root, nested]));
    }
    words
}

#[derive(Clone, Debug)]
enum Act {
    Dma { stream: usize, at: u64, write: bool, times: u32 },
    Store { word: usize, value: usize },
    Flush(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let dma = (0..3usize, 0..2u64, any::<bool>(), 1..7u32)
        .prop_map(|(stream, at, write, times)| Act::Dma { stream, at, write, times });
    let store =
        (any::<usize>(), any::<usize>()).prop_map(|(w, v)| Act::Store { word: w, value: v });
    prop::collection::vec(
        prop_oneof![6 => dma, 3 => store, 1 => (0..4usize).prop_map(Act::Flush)],
        1..60,
    )
}

/// What a transaction and its judge tell.
type Told = (Option<DmaProgress>, Vec<String>);

fn carry_out(rig: &ModelRig, words: &[(u64, Vec<u64>)], act: &Act, known: bool) -> Vec<Told> {
    let mut told = Vec::new();
    match act {
        Act::Dma { stream, at, write, times } => {
            for n in 0..*times {
                let iova = IOVA + 0x1000 * at + 0x100 + 4 * u64::from(n);
                if !known {
                    // Any act of the SMMU makes it forget.
                    rig.model.take_page_responses(0);
                }
                let stream = STREAMS[*stream];
                let end = if *write {
                    rig.model.start_write32(0, stream, iova, n)
                } else {
                    rig.model.start_read32(0, stream, iova)
                };
                let hazards = rig.model.take_hazards();
                told.push((Some(end), hazards.iter().map(ToString::to_string).collect()));
            }
        }
        Act::Store { word, value } => {
            let (at, values) = &words[word % words.len()];
            rig.put(*at, values[value % values.len()]);
        }
        Act::Flush(what) => rig.run(&match what {
            0 => vec![Command::CfgiAll, Command::TlbiNsnhAll],
            1 => vec![nh_va(0, 5, IOVA, Leaf::All)],
            2 => vec![nh_asid(4, 6)],
            _ => vec![cfgi_ste(SID), cfgi_cd(NESTED)],
        }),
    }
    told
}

proptest! {
    #[test]
    fn a_known_transaction_ends_as_a_judged_one(acts in acts()) {
        let [known, judged] = [true, false].map(|known| {
            let rig = ModelRig::new();
            let words = build(&rig);
            let told: Vec<Told> =
                acts.iter().flat_map(|act| carry_out(&rig, &words, act, known)).collect();
            let pages = [A, B].map(|page| [0x100, 0x104, 0x108].map(|at| rig.get((page + at) & !7)));
            (told, pages, rig.event_lines())
        });
        prop_assert_eq!(known, judged);
    }
}

#[test]
fn a_run_of_transactions_is_known_until_a_word_changes() {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW);
    for _ in 0..20 {
        assert_eq!(rig.dma(SID, IOVA), Some(A));
    }
    assert!(rig.model.known_transactions(0) >= 10);
    assert_eq!(rig.missing(), Vec::<String>::new());
    rig.map(root, IOVA, B, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.missing(), [nh_va(0, 5, IOVA, Leaf::Last).to_string()]);
}
