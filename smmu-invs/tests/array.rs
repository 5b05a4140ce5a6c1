//! The contracts of merge, unref, settle, purge and find, case by case.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rstest::rstest;
use smmu_invs::{EntryState, InvArray, InvError, InvKind, InvSpec, UnrefOutcome};
use smmu_types::fake::RecordingSink;
use smmu_types::range::RangeSupport;
use smmu_types::{Asid, CacheTag, FlushProof, Regime, SmmuId, StreamId, SubstreamId, Vmid};

const A: SmmuId = SmmuId(0);
const B: SmmuId = SmmuId(1);

fn asid(smmu: SmmuId, asid: u16) -> InvSpec {
    let tag = CacheTag::Asid(Regime::El1, Asid(asid));
    InvSpec::tagged(smmu, tag, RangeSupport::Ril)
}

fn vmid(smmu: SmmuId, vmid: u16) -> InvSpec {
    InvSpec::tagged(smmu, CacheTag::Vmid(Vmid(vmid)), RangeSupport::Ril)
}

fn array(request: &[InvSpec]) -> InvArray {
    InvArray::empty().merge(request).unwrap()
}

fn unref(array: &InvArray, request: &[InvSpec]) -> Vec<UnrefOutcome> {
    let mut outcomes = Vec::new();
    array.unref(request, |index, outcome| {
        assert_eq!(index, outcomes.len());
        outcomes.push(outcome);
    });
    outcomes
}

fn settle(array: &InvArray, smmu: SmmuId, tag: CacheTag) -> bool {
    array.settle(&FlushProof::obtain(&RecordingSink::new(), smmu, tag).unwrap())
}

#[test]
fn inv_1_order_is_smmu_kind_id_ssid() {
    let ssid = |n| SubstreamId::new(n);
    let request = [
        asid(A, 9),
        vmid(A, 1),
        InvSpec::vsmmu(A, Vmid(1), RangeSupport::Single),
        InvSpec::s1_clear(A, Vmid(1)),
        InvSpec::ats(A, StreamId(1), ssid(0)),
        InvSpec::ats(A, StreamId(1), ssid(7)),
        InvSpec::ats(A, StreamId(1), None),
        InvSpec::ats_full(A, StreamId(0)),
        asid(B, 1),
    ];
    let array = array(&request);
    assert!(array.iter().map(|view| view.spec).eq(request));
    assert_eq!(
        array.to_string(),
        "smmu0 S1_ASID 9 users=1\n\
         smmu0 S2_VMID 1 users=1\n\
         smmu0 S2_VMID_VSMMU 1 users=1\n\
         smmu0 S2_VMID_S1_CLEAR 1 users=1\n\
         smmu0 ATS 0x1 ssid=0x0 users=1\n\
         smmu0 ATS 0x1 ssid=0x7 users=1\n\
         smmu0 ATS 0x1 users=1\n\
         smmu0 ATS_FULL 0x0 users=1\n\
         smmu1 S1_ASID 1 users=1"
    );
}

#[rstest]
#[case(&[asid(A, 2), asid(A, 1)], InvError::Unsorted { index: 1 })]
#[case(&[asid(B, 1), asid(A, 2)], InvError::Unsorted { index: 1 })]
#[case(&[asid(A, 1), asid(A, 2), asid(A, 2)], InvError::Duplicate { index: 2 })]
fn inv_5_wrong_requests_are_refused(#[case] request: &[InvSpec], #[case] want: InvError) {
    assert_eq!(InvArray::empty().merge(request).unwrap_err(), want);
}

#[test]
fn a_key_with_other_options_is_a_conflict() {
    let tag = CacheTag::Asid(Regime::El2, Asid(1));
    let el2 = InvSpec::tagged(A, tag, RangeSupport::Ril);
    let error = array(&[asid(A, 1)]).merge(&[el2]).unwrap_err();
    assert_eq!(error, InvError::Conflict { key: el2.key });
}

#[test]
fn inv_4_a_second_unref_changes_nothing() {
    let array = array(&[asid(A, 1), InvSpec::ats(A, StreamId(5), None)]);
    let request = [asid(A, 1), asid(B, 1), InvSpec::ats(A, StreamId(5), None)];
    use UnrefOutcome::{LastUserGone, NotPresent};
    assert_eq!(unref(&array, &request), [LastUserGone, NotPresent, LastUserGone]);
    let before: Vec<_> = array.iter().collect();
    assert_eq!(unref(&array, &request), [NotPresent; 3]);
    assert!(array.iter().eq(before));
}

#[test]
fn inv_4_unref_takes_entries_in_any_order_and_number() {
    let array = array(&[asid(A, 1), asid(B, 2)]).merge(&[asid(B, 2)]).unwrap();
    let outcomes = unref(&array, &[asid(B, 2), asid(A, 1), asid(B, 2), asid(B, 2)]);
    use UnrefOutcome::{LastUserGone, NotPresent, StillUsed};
    assert_eq!(outcomes, [StillUsed { users: 1 }, LastUserGone, LastUserGone, NotPresent]);
}

#[test]
fn inv_3_retiring_entries_survive_merge_and_purge() {
    let (tag, other) = (asid(A, 1), asid(B, 1));
    let mut array = array(&[tag, InvSpec::ats(A, StreamId(5), None), other]);
    unref(&array, &[tag, InvSpec::ats(A, StreamId(5), None)]);
    assert_eq!(array.find(A, InvKind::S1Asid), None, "only live entries are found");
    assert_eq!(array.merge(&[tag]).unwrap_err(), InvError::Retiring { key: tag.key });
    for step in 0..2 {
        array = match step {
            0 => array.purge().unwrap().unwrap(),
            _ => array.merge(&[other]).unwrap(),
        };
        let states: Vec<_> = array.iter().map(|view| view.state).collect();
        assert_eq!(states, [EntryState::Retiring, EntryState::Live]);
    }

    assert!(!settle(&array, B, CacheTag::Asid(Regime::El1, Asid(1))), "live on the other SMMU");
    assert!(!settle(&array, A, CacheTag::Asid(Regime::El2, Asid(1))), "another regime");
    assert!(!settle(&array, A, CacheTag::Vmid(Vmid(1))), "another kind");
    assert!(settle(&array, A, CacheTag::Asid(Regime::El1, Asid(1))));
    let array = array.merge(&[tag]).unwrap();
    assert_eq!(array.find(A, InvKind::S1Asid).map(|f| (f.spec, f.users)), Some((tag, 1)));
}

#[test]
fn a_vmid_settles_its_nested_flush_too() {
    let request = [vmid(A, 3), InvSpec::s1_clear(A, Vmid(3))];
    let array = array(&request);
    unref(&array, &request);
    assert!(!array.is_empty());
    assert!(settle(&array, A, CacheTag::Vmid(Vmid(3))));
    assert!(array.is_empty());
}

#[test]
fn find_skips_a_vsmmu_and_merge_revives_it() {
    let vsmmu = |n| InvSpec::vsmmu(A, Vmid(n), RangeSupport::Ril);
    let request = [vsmmu(3), InvSpec::s1_clear(A, Vmid(3))];
    let array = array(&[vsmmu(3), vsmmu(4), InvSpec::s1_clear(A, Vmid(3))]);
    assert_eq!(array.find(A, InvKind::S2VmidVsmmu), None);
    assert_eq!(array.find(A, InvKind::S2Vmid), None, "a plain S2 user gets a VMID of its own");
    unref(&array, &request);
    let array = array.merge(&request).unwrap();
    assert!(array.iter().all(|view| (view.users, view.state) == (1, EntryState::Live)));
}

#[test]
fn find_searches_one_smmu_and_one_kind() {
    let array = array(&[vmid(A, 2), asid(B, 5), vmid(B, 7)]);
    let id = |smmu, kind| array.find(smmu, kind).map(|found| found.spec.key.id);
    assert_eq!(id(A, InvKind::S1Asid), None);
    assert_eq!(id(A, InvKind::S2Vmid), Some(2));
    assert_eq!(id(B, InvKind::S1Asid), Some(5));
    assert_eq!(id(B, InvKind::S2Vmid), Some(7));
    assert_eq!(id(SmmuId(2), InvKind::S1Asid), None);
}

#[test]
fn inv_2_merge_does_not_change_its_inputs() {
    let first = array(&[asid(A, 1)]);
    let second = first.merge(&[asid(A, 1), asid(B, 1)]).unwrap();
    assert_eq!(first.to_string(), "smmu0 S1_ASID 1 users=1");
    assert_eq!(second.to_string(), "smmu0 S1_ASID 1 users=2\nsmmu1 S1_ASID 1 users=1");
    assert_eq!(InvArray::empty().to_string(), "(no entries)");
}

/// A request as long as those of a group of devices, at each distance from the entries there are.
#[rstest]
fn inv_1_a_long_request_merges_as_one_entry_after_another(#[values(1, 2, 3, 7)] apart: u32) {
    let ats = |n: u32| InvSpec::ats(A, StreamId(n), None);
    let there: Vec<_> = (0..40).map(|n| ats(n * apart)).collect();
    let request: Vec<_> = (0..40).map(|n| ats(n * 2 + 5)).collect();
    let old = array(&there);
    unref(&old, &there[3..9]);
    let at_once = old.merge(&request).unwrap();
    let one_by_one =
        request.iter().fold(old.merge(&[]).unwrap(), |array, spec| array.merge(&[*spec]).unwrap());
    assert_eq!(at_once.to_string(), one_by_one.to_string());
}
