//! The array against a model with a map, in random sequences: three SMMUs, tags of both stages,
//! virtual SMMUs, streams with and without substreams, both kinds of ATS entry. After each step
//! both have the same entries, users and states, find the same entries, and send the same commands.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use proptest::prelude::*;
use smmu_invs::{EntryState, InvArray, InvError, InvKey, InvKind, InvSpec, InvUsers, UnrefOutcome};
use smmu_types::fake::{RecordingSink, SinkCall};
use smmu_types::range::{Extent, Plan, RangeSupport, Span, SpanAddress, plan};
use smmu_types::{
    Asid, AtcScope, AtcSpan, CacheTag, Command, FlushProof, Granule, Iova, Leaf, Regime, SmmuId,
    StreamId, SubstreamId, Vmid,
};

#[derive(Clone, Debug)]
enum ArrayStep {
    Merge(Vec<InvSpec>, u32),
    Unref(Vec<InvSpec>),
    Settle(u16, CacheTag),
    RemoveSmmu(u16),
    Purge,
}

fn tag(asid: bool, id: u16) -> CacheTag {
    if asid { CacheTag::Asid(Regime::El1, Asid(id)) } else { CacheTag::Vmid(Vmid(id)) }
}

fn range(smmu: u16) -> RangeSupport {
    if smmu == 1 { RangeSupport::Ril } else { RangeSupport::Single }
}

fn spec() -> impl Strategy<Value = InvSpec> {
    (0..3u16, 0..6u8, 1..4u16, 0..3u32).prop_map(|(smmu, kind, id, ssid)| {
        let range = range(smmu);
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

fn step() -> impl Strategy<Value = ArrayStep> {
    let request = || prop::collection::vec(spec(), 0..12);
    prop_oneof![
        6 => (request(), 1..4u32).prop_map(|(mut request, users)| {
            request.sort_by_key(|spec| spec.key);
            request.dedup();
            ArrayStep::Merge(request, users)
        }),
        // Not sorted: mostly refused, sometimes for a repeated key.
        1 => (request(), 1..3u32).prop_map(|(request, users)| ArrayStep::Merge(request, users)),
        1 => (0..3u16).prop_map(ArrayStep::RemoveSmmu),
        4 => request().prop_map(ArrayStep::Unref),
        3 => (0..3u16, any::<bool>(), 1..4u16)
            .prop_map(|(smmu, asid, id)| ArrayStep::Settle(smmu, tag(asid, id))),
        1 => Just(ArrayStep::Purge),
    ]
}

#[derive(Default)]
struct MapModel {
    users: BTreeMap<InvKey, u32>,
    retiring: BTreeSet<InvKey>,
    trash: BTreeSet<InvKey>,
}

impl MapModel {
    fn merge(&mut self, request: &[InvSpec], users: u32) -> Result<(), InvError> {
        for index in 1..request.len() {
            match request[index - 1].key.cmp(&request[index].key) {
                Ordering::Less => {}
                Ordering::Equal => return Err(InvError::Duplicate { index }),
                Ordering::Greater => return Err(InvError::Unsorted { index }),
            }
        }
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
            *self.users.entry(spec.key).or_default() += users;
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

    fn remove(&mut self, smmu: SmmuId) -> usize {
        let of = |key: &&InvKey| key.smmu == smmu;
        let gone: Vec<_> = self.users.keys().chain(&self.retiring).filter(of).copied().collect();
        self.users.retain(|key, _| key.smmu != smmu);
        self.retiring.retain(|key| key.smmu != smmu);
        self.trash.extend(&gone);
        gone.len()
    }

    /// The commands of a walk for one page, phase by phase.
    fn commands(&self) -> Vec<(SmmuId, Command)> {
        let keys: BTreeSet<_> = self.users.keys().chain(&self.retiring).copied().collect();
        let phase = |key: &InvKey| match key.kind {
            InvKind::S1Asid | InvKind::S2Vmid | InvKind::S2VmidVsmmu => 0,
            InvKind::S2VmidS1Clear => 1,
            _ => 2,
        };
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_by_key(phase);
        keys.into_iter().map(|key| (key.smmu, command(&key))).collect()
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

const PAGE: Extent = Extent::range(0x5000, 0x1000, Granule::K4, Leaf::Last).with_page_hint();

fn span<A: SpanAddress>(smmu: SmmuId) -> Span<A> {
    match plan(range(smmu.0), PAGE) {
        Plan::Spans(mut spans) => spans.next().unwrap(),
        Plan::Everything => panic!("one page is not everything"),
    }
}

fn command(key: &InvKey) -> Command {
    let (asid, vmid) = (Asid(key.id as u16), Vmid(key.id as u16));
    let atc_inv = |span| Command::AtcInv {
        stream: StreamId(key.id),
        substream: SubstreamId::new(key.ssid),
        scope: AtcScope::Substream,
        span,
    };
    match key.kind {
        InvKind::S1Asid => Command::TlbiNhVa { vmid: Vmid(0), asid, span: span(key.smmu) },
        InvKind::S2VmidS1Clear => Command::TlbiNhAll { vmid },
        InvKind::Ats => atc_inv(AtcSpan::new(Iova(0x5000), 0).unwrap()),
        InvKind::AtsFull => atc_inv(AtcSpan::EVERYTHING),
        _ => Command::TlbiS2Ipa { vmid, span: span(key.smmu) },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn inv_1_to_5_the_array_is_the_map(steps in prop::collection::vec(step(), 0..60)) {
        let sink = RecordingSink::new();
        let mut model = MapModel::default();
        let mut array = InvArray::empty();
        for step in steps {
            match step {
                ArrayStep::Merge(request, users) => {
                    let merged = match NonZeroU32::new(users) {
                        Some(users) if users.get() > 1 => {
                            let each = |spec: &InvSpec| InvUsers { spec: *spec, users };
                            array.merge_users(&request.iter().map(each).collect::<Vec<_>>())
                        }
                        _ => array.merge(&request),
                    };
                    match (merged, model.merge(&request, users)) {
                        (Ok(merged), Ok(())) => array = merged,
                        (got, want) => prop_assert_eq!(got.map(|_| ()), want),
                    }
                }
                ArrayStep::Unref(request) => {
                    let mut got = Vec::new();
                    array.unref(&request, |index, outcome| got.push((index, outcome)));
                    let want = request.iter().map(|spec| model.unref(spec.key));
                    prop_assert!(want.enumerate().eq(got));
                }
                ArrayStep::Settle(smmu, tag) => {
                    let proof = FlushProof::obtain(&sink, SmmuId(smmu), tag).unwrap();
                    sink.take();
                    prop_assert_eq!(array.settle(&proof), model.settle(SmmuId(smmu), tag));
                }
                ArrayStep::RemoveSmmu(smmu) => {
                    let smmu = SmmuId(smmu);
                    prop_assert_eq!(array.remove_smmu(smmu), model.remove(smmu));
                }
                ArrayStep::Purge => match array.purge().unwrap() {
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
            array.invalidate(PAGE, &sink).unwrap();
            let sent = sink.take().into_iter().flat_map(|call| match call {
                SinkCall::Issue(smmu, commands) | SinkCall::Push(smmu, commands) => {
                    commands.into_iter().map(|command| (smmu, command)).collect()
                }
                SinkCall::Wait(_) => Vec::new(),
            });
            prop_assert_eq!(sent.collect::<Vec<_>>(), model.commands());
            let ats = |key: &InvKey| key.kind.is_ats();
            let any = model.users.keys().chain(&model.retiring).any(ats);
            prop_assert!(array.has_ats() || !any);
            let kinds = [InvKind::S1Asid, InvKind::S2Vmid, InvKind::S2VmidS1Clear];
            for (smmu, kind) in (0..).zip(kinds) {
                let lowest = model.users.iter().find(|(k, _)| (k.smmu.0, k.kind) == (smmu, kind));
                let found = array.find(SmmuId(smmu), kind).map(|f| (f.spec.key, f.users));
                prop_assert_eq!(found, lowest.map(|(k, u)| (*k, *u)));
            }
        }
    }
}
