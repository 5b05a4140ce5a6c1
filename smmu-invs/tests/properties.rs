//! The array against a model that keeps a map.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use smmu_invs::{EntryState, InvArray, InvError, InvKey, InvKind, InvSpec, UnrefOutcome};
use smmu_types::fake::RecordingSink;
use smmu_types::range::RangeSupport;
use smmu_types::{Asid, CacheTag, FlushProof, Regime, SmmuId, StreamId, SubstreamId, Vmid};

#[derive(Clone, Debug)]
enum Step {
    Merge(Vec<InvSpec>),
    Unref(Vec<InvSpec>),
    Settle(u16, CacheTag),
    Purge,
}

fn tag(asid: bool, id: u16) -> CacheTag {
    if asid { CacheTag::Asid(Regime::El1, Asid(id)) } else { CacheTag::Vmid(Vmid(id)) }
}

fn spec() -> impl Strategy<Value = InvSpec> {
    (0..3u16, 0..6u8, 1..4u16, 0..3u32).prop_map(|(smmu, kind, id, ssid)| {
        let range = if smmu == 1 { RangeSupport::Ril } else { RangeSupport::Single };
        let smmu = SmmuId(smmu);
        match kind {
            0 => InvSpec::tagged(smmu, tag(true, id), range),
            1 => InvSpec::tagged(smmu, tag(false, id), range),
            2 => InvSpec::vsmmu(smmu, Vmid(id), range),
            3 => InvSpec::s1_clear(smmu, Vmid(id)),
            4 => {
                let substream = SubstreamId::new(ssid).filter(|_| ssid != 2);
                InvSpec::ats(smmu, StreamId(id.into()), substream)
            }
            _ => InvSpec::ats_full(smmu, StreamId(id.into())),
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let request = || prop::collection::vec(spec(), 0..5);
    prop_oneof![
        4 => request().prop_map(|mut request| {
            request.sort_by_key(|spec| spec.key);
            request.dedup();
            Step::Merge(request)
        }),
        4 => request().prop_map(Step::Unref),
        3 => (0..3u16, any::<bool>(), 1..4u16)
            .prop_map(|(smmu, asid, id)| Step::Settle(smmu, tag(asid, id))),
        1 => Just(Step::Purge),
    ]
}

#[derive(Default)]
struct Model {
    users: BTreeMap<InvKey, u32>,
    retiring: BTreeSet<InvKey>,
    trash: BTreeSet<InvKey>,
}

impl Model {
    fn merge(&mut self, request: &[InvSpec]) -> Result<(), InvError> {
        let stuck = |spec: &&InvSpec| {
            matches!(spec.key.kind, InvKind::S1Asid | InvKind::S2Vmid)
                && self.retiring.contains(&spec.key)
        };
        if let Some(spec) = request.iter().find(stuck) {
            return Err(InvError::Retiring { key: spec.key });
        }
        self.trash.clear();
        for spec in request {
            self.retiring.remove(&spec.key);
            *self.users.entry(spec.key).or_default() += 1;
        }
        Ok(())
    }

    fn unref(&mut self, key: InvKey) -> UnrefOutcome {
        let Some(users) = self.users.get_mut(&key) else { return UnrefOutcome::NotPresent };
        *users -= 1;
        if *users > 0 {
            return UnrefOutcome::StillUsed { users: *users };
        }
        self.users.remove(&key);
        if key.kind.is_ats() { &mut self.trash } else { &mut self.retiring }.insert(key);
        UnrefOutcome::LastUserGone
    }

    fn settle(&mut self, smmu: SmmuId, tag: CacheTag) -> bool {
        let (asid, id) = match tag {
            CacheTag::Asid(_, asid) => (true, asid.0),
            CacheTag::Vmid(vmid) => (false, vmid.0),
        };
        let hit = |key: &InvKey| {
            (key.smmu, key.id, key.kind == InvKind::S1Asid) == (smmu, id.into(), asid)
        };
        let settled: Vec<_> = self.retiring.iter().copied().filter(hit).collect();
        self.retiring.retain(|key| !hit(key));
        self.trash.extend(&settled);
        !settled.is_empty()
    }

    fn rows(&self) -> Vec<(InvKey, u32, EntryState)> {
        let live = self.users.iter().map(|(key, users)| (*key, *users, EntryState::Live));
        let retiring = self.retiring.iter().map(|key| (*key, 0, EntryState::Retiring));
        let trash = self.trash.iter().map(|key| (*key, 0, EntryState::Trash));
        let mut rows: Vec<_> = live.chain(retiring).chain(trash).collect();
        rows.sort_by_key(|row| row.0);
        rows
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn inv_1_to_5_the_array_is_the_map(steps in prop::collection::vec(step(), 0..60)) {
        let sink = RecordingSink::new();
        let mut model = Model::default();
        let mut array = InvArray::empty();
        for step in steps {
            match step {
                Step::Merge(request) => match (array.merge(&request), model.merge(&request)) {
                    (Ok(merged), Ok(())) => array = merged,
                    (got, want) => prop_assert_eq!(got.map(|_| ()), want),
                },
                Step::Unref(request) => {
                    let mut got = Vec::new();
                    array.unref(&request, |index, outcome| got.push((index, outcome)));
                    let want = request.iter().map(|spec| model.unref(spec.key));
                    prop_assert!(want.enumerate().eq(got));
                }
                Step::Settle(smmu, tag) => {
                    let proof = FlushProof::obtain(&sink, SmmuId(smmu), tag).unwrap();
                    prop_assert_eq!(array.settle(&proof), model.settle(SmmuId(smmu), tag));
                }
                Step::Purge => match array.purge().unwrap() {
                    Some(purged) => {
                        prop_assert!(!model.trash.is_empty());
                        model.trash.clear();
                        array = purged;
                    }
                    None => prop_assert!(model.trash.is_empty()),
                },
            }
            let rows: Vec<_> = array.iter().map(|v| (v.spec.key, v.users, v.state)).collect();
            prop_assert!(rows.is_sorted_by(|a, b| a.0 < b.0));
            prop_assert_eq!(rows, model.rows());
            prop_assert_eq!(array.is_empty(), model.users.is_empty() && model.retiring.is_empty());
            for (smmu, kind) in [(0, InvKind::S1Asid), (1, InvKind::S2Vmid), (2, InvKind::S2VmidS1Clear)] {
                let lowest = model.users.iter().find(|(k, _)| (k.smmu.0, k.kind) == (smmu, kind));
                let found = array.find(SmmuId(smmu), kind);
                prop_assert_eq!(found.map(|f| (f.spec.key, f.users)), lowest.map(|(k, u)| (*k, *u)));
            }
        }
    }
}
