//! The array cases of the Linux driver's own test, as data. Flushes between the steps settle the
//! retiring entries.

use EntryState::{Live, Retiring, Trash};
use smmu_invs::{EntryState, InvArray, InvKey, InvKind, InvSpec, InvView, UnrefOutcome};
use smmu_types::fake::RecordingSink;
use smmu_types::range::RangeSupport;
use smmu_types::{CacheTag, FlushProof, SmmuId, StreamId, Vmid};

const SMMU: SmmuId = SmmuId(0);
const VMID: CacheTag = CacheTag::Vmid(Vmid(1));
const GONE: UnrefOutcome = UnrefOutcome::LastUserGone;

fn vmid() -> InvSpec {
    InvSpec::tagged(SMMU, VMID, RangeSupport::Single)
}

fn ats(stream: u32) -> InvSpec {
    InvSpec::ats(SMMU, StreamId(stream), None)
}

fn invs1() -> [InvSpec; 3] {
    [vmid(), InvSpec::s1_clear(SMMU, Vmid(1)), ats(3)]
}

fn invs2() -> [InvSpec; 3] {
    [vmid(), ats(4), ats(5)]
}

fn invs3() -> [InvSpec; 3] {
    [vmid(), ats(5), ats(6)]
}

enum KunitStep {
    Merge([InvSpec; 3]),
    Unref([InvSpec; 3], [UnrefOutcome; 3]),
    Settle,
    Purge,
}

fn still(users: u32) -> UnrefOutcome {
    UnrefOutcome::StillUsed { users }
}

type Row = (u32, u32, EntryState);

fn rows(array: &InvArray) -> Vec<Row> {
    let row = |InvView { spec, users, state }: InvView| {
        let no_ssid = if spec.key.kind.is_ats() { InvKey::NO_SSID } else { 0 };
        assert_eq!(spec.key.ssid, no_ssid);
        (spec.key.id, users, state)
    };
    array.iter().map(row).collect()
}

#[test]
fn linux_kunit_table() {
    let v = |users| (1, users, Live);
    let table: [(KunitStep, &[Row]); 9] = [
        (KunitStep::Merge(invs1()), &[v(1), v(1), (3, 1, Live)]),
        (KunitStep::Merge(invs2()), &[v(2), v(1), (3, 1, Live), (4, 1, Live), (5, 1, Live)]),
        (
            KunitStep::Unref(invs2(), [still(1), GONE, GONE]),
            &[v(1), v(1), (3, 1, Live), (4, 0, Trash), (5, 0, Trash)],
        ),
        (KunitStep::Merge(invs3()), &[v(2), v(1), (3, 1, Live), (5, 1, Live), (6, 1, Live)]),
        (
            KunitStep::Unref(invs1(), [still(1), GONE, GONE]),
            &[v(1), (1, 0, Retiring), (3, 0, Trash), (5, 1, Live), (6, 1, Live)],
        ),
        (KunitStep::Settle, &[v(1), (1, 0, Trash), (3, 0, Trash), (5, 1, Live), (6, 1, Live)]),
        (KunitStep::Purge, &[v(1), (5, 1, Live), (6, 1, Live)]),
        (
            KunitStep::Unref(invs3(), [GONE, GONE, GONE]),
            &[(1, 0, Retiring), (5, 0, Trash), (6, 0, Trash)],
        ),
        (KunitStep::Settle, &[(1, 0, Trash), (5, 0, Trash), (6, 0, Trash)]),
    ];
    let mut array = InvArray::empty();
    for (number, (step, want)) in table.into_iter().enumerate() {
        match step {
            KunitStep::Merge(request) => array = array.merge(&request).unwrap(),
            KunitStep::Unref(request, outcomes) => {
                let mut got = Vec::new();
                array.unref(&request, |index, outcome| got.push((index, outcome)));
                let outcomes: Vec<_> = outcomes.into_iter().enumerate().collect();
                assert_eq!(got, outcomes, "step {number}");
            }
            KunitStep::Settle => {
                let proof = FlushProof::obtain(&RecordingSink::new(), SMMU, VMID).unwrap();
                assert!(array.settle(&proof));
                assert!(!array.settle(&proof), "step {number}: a second settle finds nothing");
            }
            KunitStep::Purge => array = array.purge().unwrap().unwrap(),
        }
        assert_eq!(rows(&array), want, "step {number}");
    }
    assert!(array.is_empty());
    let purged = array.purge().unwrap().unwrap();
    assert_eq!((purged.len(), purged.find(SMMU, InvKind::S2Vmid)), (0, None));
    assert!(purged.purge().unwrap().is_none());
}
