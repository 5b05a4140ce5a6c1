//! Random steps on a space, compared with a model that keeps a set of numbers.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use smmu_tags::{
    AsidSpace, Choice, FreshTag, InUseTag, RetiringTag, SpaceConfig, TagError, TagStats,
};
use smmu_types::fake::RecordingSink;
use smmu_types::{Asid, CacheTag, FlushProof, Regime, SmmuId};

#[derive(Clone, Copy, Debug)]
enum TagStep {
    Allocate { wide: bool, el2: bool, smmu: u16 },
    Claim { wide: bool, number: u16 },
    Reserve(u16),
    Abort(usize),
    Install(usize),
    Retire(usize),
    Free(usize),
    DropInUse(usize),
    Quarantine(usize),
}

fn steps() -> impl Strategy<Value = Vec<TagStep>> {
    let pick = || 0..1000usize;
    let step = prop_oneof![
        8 => (any::<bool>(), any::<bool>(), 0..3u16)
            .prop_map(|(wide, el2, smmu)| TagStep::Allocate { wide, el2, smmu }),
        3 => (any::<bool>(), 0..300u16).prop_map(|(wide, number)| TagStep::Claim { wide, number }),
        1 => (0..300u16).prop_map(TagStep::Reserve),
        1 => pick().prop_map(TagStep::Abort),
        4 => pick().prop_map(TagStep::Install),
        3 => pick().prop_map(TagStep::Retire),
        2 => pick().prop_map(TagStep::Free),
        1 => pick().prop_map(TagStep::DropInUse),
        1 => pick().prop_map(TagStep::Quarantine),
    ];
    prop::collection::vec(step, 0..300)
}

#[derive(Default)]
struct SpaceModel {
    taken: BTreeSet<u16>,
    reserved: BTreeSet<u16>,
    quarantined: u32,
    high_water: u32,
    // Where the next search begins, by limit.
    rounds: BTreeMap<u32, u32>,
}

impl SpaceModel {
    fn choose(&mut self, choice: Choice, limit: u32) -> Option<u16> {
        let free = |n: &u32| *n != 0 && !self.taken.contains(&(*n as u16));
        let Choice::NextFit = choice else {
            return (0..limit).find(free).map(|n| n as u16);
        };
        let from = self.rounds.get(&limit).copied().unwrap_or(0);
        let found = (from..limit).chain(0..from).find(free)?;
        self.rounds.insert(limit, (found + 1) % limit);
        Some(found as u16)
    }
}

fn number(tag: CacheTag) -> u16 {
    match tag {
        CacheTag::Asid(_, asid) => asid.0,
        CacheTag::Vmid(vmid) => vmid.0,
    }
}

fn take<T>(from: &mut Vec<T>, index: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(index % from.len()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn no_number_is_live_twice_and_the_counts_add_up(
        bits in prop_oneof![Just(8u8), Just(16)],
        choice in prop_oneof![Just(Choice::Lowest), Just(Choice::NextFit)],
        // Most of the numbers below 256, so that they run out.
        reserved in prop::collection::btree_set(0..256u16, 0..250),
        steps in steps(),
    ) {
        let list: Vec<Asid> = reserved.iter().copied().map(Asid).collect();
        let config = SpaceConfig { reserved: &list, choice, ..SpaceConfig::default() };
        let space = AsidSpace::with_config(bits, config).unwrap();
        let sink = RecordingSink::new();
        let mut model = SpaceModel::default();
        model.reserved.extend(reserved.iter().filter(|n| **n != 0));
        model.taken.clone_from(&model.reserved);
        let mut fresh: Vec<FreshTag> = Vec::new();
        let mut in_use: Vec<InUseTag> = Vec::new();
        let mut retiring: Vec<RetiringTag> = Vec::new();

        for step in steps {
            match step {
                TagStep::Allocate { wide, el2, smmu } => {
                    let width = if wide { 16 } else { 8 };
                    let regime = if el2 { Regime::El2 } else { Regime::El1 };
                    let smmu = SmmuId(smmu);
                    let want = model.choose(choice, 1 << width.min(bits));
                    match (space.allocate(smmu, regime, width), want) {
                        (Ok(tag), Some(want)) => {
                            prop_assert_eq!(tag.tag(), CacheTag::Asid(regime, Asid(want)));
                            prop_assert_eq!(tag.smmu(), smmu);
                            prop_assert!(model.taken.insert(want));
                            fresh.push(tag);
                        }
                        (Err(TagError::Exhausted { .. }), None) => {}
                        (got, want) => prop_assert!(false, "{:?}, the model says {:?}", got, want),
                    }
                }
                TagStep::Claim { wide, number: n } => {
                    let width = if wide { 16 } else { 8 };
                    let in_range = u32::from(n) < 1 << width.min(bits);
                    let free = !model.taken.contains(&n);
                    match space.claim(SmmuId(9), Regime::El1, width, Asid(n)) {
                        Ok(tag) => {
                            prop_assert!(n != 0 && in_range && free);
                            prop_assert_eq!(tag.tag(), CacheTag::Asid(Regime::El1, Asid(n)));
                            model.taken.insert(n);
                            fresh.push(tag);
                        }
                        Err(TagError::Zero { .. }) => prop_assert_eq!(n, 0),
                        Err(TagError::OutOfRange { .. }) => prop_assert!(!in_range),
                        Err(TagError::NotFree { .. }) => prop_assert!(in_range && !free),
                        Err(other) => prop_assert!(false, "{}", other),
                    }
                }
                TagStep::Reserve(n) => {
                    let possible = u32::from(n) < 1 << bits
                        && (n == 0 || !model.taken.contains(&n));
                    prop_assert_eq!(space.reserve(Asid(n)).is_ok(), possible);
                    if possible && n != 0 {
                        model.taken.insert(n);
                        model.reserved.insert(n);
                    }
                }
                TagStep::Abort(i) => {
                    if let Some(tag) = take(&mut fresh, i) {
                        model.taken.remove(&number(tag.tag()));
                        tag.abort();
                    }
                }
                TagStep::Install(i) => in_use.extend(take(&mut fresh, i).map(FreshTag::install)),
                TagStep::Retire(i) => retiring.extend(take(&mut in_use, i).map(InUseTag::retire)),
                TagStep::Free(i) => {
                    if let Some(tag) = take(&mut retiring, i) {
                        let proof = FlushProof::obtain(&sink, tag.smmu(), tag.tag()).unwrap();
                        model.taken.remove(&number(tag.tag()));
                        tag.free(proof).unwrap();
                    }
                }
                TagStep::DropInUse(i) => {
                    model.quarantined += u32::from(take(&mut in_use, i).is_some());
                }
                TagStep::Quarantine(i) => {
                    if let Some(tag) = take(&mut retiring, i) {
                        tag.quarantine();
                        model.quarantined += 1;
                    }
                }
            }
            let capacity = (1 << bits) - 1 - model.reserved.len() as u32;
            let taken = (model.taken.len() - model.reserved.len()) as u32;
            let want = TagStats {
                capacity,
                free: capacity - taken,
                fresh: fresh.len() as u32,
                in_use: in_use.len() as u32,
                retiring: retiring.len() as u32,
                quarantined: model.quarantined,
            };
            prop_assert_eq!(space.stats(), want);
            let known = want.in_use + want.retiring + want.quarantined;
            model.high_water = model.high_water.max(known);
            prop_assert_eq!(space.high_water(), model.high_water);
            let sum = want.free + want.fresh + want.in_use + want.retiring + want.quarantined;
            prop_assert_eq!(sum, capacity);
        }
    }
}
