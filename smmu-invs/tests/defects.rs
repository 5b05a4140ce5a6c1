//! Known defects and hazards of invalidation arrays, one test for each. `walk.rs` has those of the
//! walk.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use EntryState::{Live, Retiring, Trash};
use UnrefOutcome::{LastUserGone, NotPresent, StillUsed};
use rstest::rstest;
use smmu_invs::{EntryState, InvArray, InvError, InvKind, InvSpec, RequestBuffer, UnrefOutcome};
use smmu_types::fake::{RecordingSink, SinkCall};
use smmu_types::range::{Extent, RangeSupport};
use smmu_types::{
    Asid, CacheTag, Command, FlushProof, Granule, Leaf, Regime, SmmuId, StreamId, SubstreamId, Vmid,
};

const A: SmmuId = SmmuId(0);
const B: SmmuId = SmmuId(1);

fn asid(smmu: SmmuId, asid: u16) -> InvSpec {
    InvSpec::tagged(smmu, CacheTag::Asid(Regime::El1, Asid(asid)), RangeSupport::Ril)
}

fn vmid(id: u16) -> InvSpec {
    InvSpec::tagged(A, CacheTag::Vmid(Vmid(id)), RangeSupport::Single)
}

fn vsmmu(id: u16) -> InvSpec {
    InvSpec::vsmmu(A, Vmid(id), RangeSupport::Single)
}

fn ats(stream: u32) -> InvSpec {
    InvSpec::ats(A, StreamId(stream), None)
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

fn states(array: &InvArray) -> Vec<EntryState> {
    array.iter().map(|view| view.state).collect()
}

fn settle(array: &InvArray, tag: CacheTag) -> bool {
    array.settle(&FlushProof::obtain(&RecordingSink::new(), A, tag).unwrap())
}

fn commands(array: &InvArray, extent: Extent) -> Vec<Command> {
    let sink = RecordingSink::new();
    array.invalidate(extent, &sink).unwrap();
    let sent = |call| match call {
        SinkCall::Push(_, commands) | SinkCall::Issue(_, commands) => commands,
        SinkCall::Wait(_) => Vec::new(),
    };
    sink.take().into_iter().flat_map(sent).collect()
}

/// `unref`, then `purge`: the entries with other users are left.
#[rstest]
#[case::of_everything(&[1, 2, 3, 4], &[])]
#[case::of_the_middle_only(&[2, 3], &[1, 4])]
#[case::of_the_tail(&[3, 4], &[1, 2])]
#[case::of_the_tail_next_to_older_trash(&[2, 4], &[1, 3])]
fn unref_and_purge(#[case] gone: &[u32], #[case] left: &[u32]) {
    let all = array(&[1, 2, 3, 4].map(ats));
    let request: Vec<_> = gone.iter().map(|&stream| ats(stream)).collect();
    assert!(unref(&all, &request).iter().all(|outcome| *outcome == LastUserGone));
    assert_eq!(all.len(), 4, "readers may walk the array meanwhile");
    let purged = all.purge().unwrap().unwrap();
    assert!(purged.iter().map(|view| view.spec).eq(left.iter().map(|&stream| ats(stream))));
    assert!(purged.iter().all(|view| (view.users, view.state) == (1, Live)));
}

#[test]
fn one_merge_removes_trash_at_the_tail_and_inside() {
    let all = array(&[1, 2, 3].map(ats));
    unref(&all, &[ats(2)]);
    unref(&all, &[ats(3)]);
    let merged = all.merge(&[]).unwrap();
    assert!(merged.iter().map(|view| view.spec).eq([ats(1)]));
}

#[test]
fn merge_makes_a_new_entry_of_trash() {
    let all = array(&[1, 2, 3].map(ats)).merge(&[ats(2)]).unwrap();
    unref(&all, &[ats(2), ats(2), ats(3)]);
    assert_eq!(states(&all), [Live, Trash, Trash]);
    let again = all.merge(&[ats(2), ats(3)]).unwrap();
    assert!(again.iter().map(|view| (view.spec, view.users)).eq([1, 2, 3].map(|n| (ats(n), 1))));
    assert_eq!(states(&all), [Live, Trash, Trash], "the old array has not changed");
}

/// A builder with zeroed outcomes reports "last user" for an absent entry. The caller would flush
/// and free another domain's tag.
#[test]
fn an_absent_entry_is_not_the_last_user() {
    let all = array(&[asid(A, 1)]).merge(&[asid(A, 1)]).unwrap();
    let request = [asid(A, 1), asid(A, 2), asid(B, 1), ats(9)];
    assert_eq!(unref(&all, &request), [StillUsed { users: 1 }, NotPresent, NotPresent, NotPresent]);
    assert_eq!(unref(&all, &request)[0], LastUserGone);
    assert_eq!(unref(&all, &request), [NotPresent; 4], "a count does not go below 0");
    assert_eq!(states(&all), [Retiring]);
}

/// A result written into the request itself lands beyond its end if the array is longer.
#[test]
fn each_entry_of_a_request_has_exactly_one_outcome() {
    let all = array(&[asid(A, 1), asid(A, 2), ats(1), ats(2), asid(B, 1)]);
    assert_eq!(unref(&all, &[]), []);
    assert_eq!(unref(&all, &[asid(A, 1)]), [LastUserGone]);
    assert_eq!(unref(&all, &[asid(A, 2), ats(2)]), [LastUserGone; 2]);
}

/// Functions behind a bridge share a StreamID. Two entries with one key would have two counts, and
/// the walk would send each command twice.
#[test]
fn a_repeated_stream_is_refused() {
    let error = InvArray::empty().merge(&[asid(A, 1), ats(3), ats(3)]).unwrap_err();
    assert_eq!(error, InvError::Duplicate { index: 2 });
    let mut buffer = RequestBuffer::with_capacity(3).unwrap();
    buffer.push(ats(3)).unwrap();
    assert_eq!(buffer.push(ats(3)), Err(InvError::Duplicate { index: 1 }));
    // Two substreams of one stream are two keys.
    let substream = |n| InvSpec::ats(A, StreamId(3), SubstreamId::new(n));
    assert_eq!(array(&[substream(0), substream(1), ats(3)]).len(), 3);
}

/// A loop that continues without a step never ends, for example at a full flush of a nesting
/// parent.
#[rstest]
#[case::everything(Extent::everything(Granule::K4))]
#[case::too_large(Extent::range(0, 2 << 20, Granule::K4, Leaf::Last).with_page_hint())]
#[case::one_page(Extent::range(0, 0x1000, Granule::K4, Leaf::Last).with_page_hint())]
fn a_walk_with_a_nested_clear_ends(#[case] extent: Extent) {
    let clear = |id| InvSpec::s1_clear(A, Vmid(id));
    let all = array(&[vmid(1), vsmmu(2), clear(1), clear(2), InvSpec::ats_full(A, StreamId(1))]);
    let sent = commands(&all, extent);
    let clears = sent.iter().filter(|sent| matches!(sent, Command::TlbiNhAll { .. })).count();
    let flushes = sent.iter().filter(|sent| matches!(sent, Command::TlbiS12Vmall { .. })).count();
    assert!(matches!((flushes, clears), (2, 0) | (0, 2)), "{sent:?}");
    assert!(matches!(sent.last(), Some(Command::AtcInv { .. })));
}

/// A search by SMMU and kind alone returns another virtual SMMU's VMID.
#[test]
fn two_virtual_smmus_of_one_domain_stay_apart() {
    let all = array(&[vsmmu(3), vsmmu(4)]);
    assert_eq!(all.find(A, InvKind::S2VmidVsmmu), None);
    assert_eq!(unref(&all, &[vsmmu(4)]), [LastUserGone]);
    assert!(settle(&all, CacheTag::Vmid(Vmid(4))));
    assert_eq!(states(&all), [Live, Trash]);
}

/// A device that uses the parent domain directly needs its own VMID.
#[test]
fn find_gives_a_plain_device_no_virtual_smmus_tag() {
    let all = array(&[vsmmu(3)]);
    assert_eq!(all.find(A, InvKind::S2Vmid), None);
    let both = all.merge(&[vmid(5)]).unwrap();
    assert_eq!(both.find(A, InvKind::S2Vmid).map(|found| found.spec), Some(vmid(5)));
}

/// A count that also means "must be freed" is hard to read. Outcome and state are separate.
#[test]
fn a_user_count_counts_only_users() {
    let all = array(&[asid(A, 1)]);
    assert!(all.iter().all(|view| (view.users, view.state) == (1, Live)));
    assert_eq!(unref(&all, &[asid(A, 1)]), [LastUserGone]);
    assert!(all.iter().all(|view| (view.users, view.state) == (0, Retiring)));
}

/// After attach and detach a domain sends nothing, so its end needs no flush.
#[test]
fn a_domain_without_devices_sends_nothing() {
    let request = [vmid(1), InvSpec::s1_clear(A, Vmid(1)), ats(1)];
    let all = array(&request);
    assert!(!all.is_empty());
    unref(&all, &request);
    assert!(!all.is_empty(), "the flush is not proven");
    settle(&all, CacheTag::Vmid(Vmid(1)));
    assert!(all.is_empty());
    assert_eq!(commands(&all, Extent::everything(Granule::K4)), []);
}

/// A reader that skips an entry without users returns before its flush is done.
#[test]
fn a_reader_that_races_a_detach_still_flushes() {
    let page = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint();
    let all = array(&[asid(A, 1)]);
    let before = commands(&all, page);
    unref(&all, &[asid(A, 1)]);
    assert_eq!(commands(&all, page), before);
    settle(&all, CacheTag::Asid(Regime::El1, Asid(1)));
    assert_eq!(commands(&all, page), []);
}

#[test]
fn a_removed_smmu_gets_no_commands_and_has_no_users() {
    let all = array(&[asid(A, 1), ats(1), asid(B, 1), asid(SmmuId(2), 1)]);
    let all = all.merge(&[asid(B, 1), asid(B, 2)]).unwrap();
    unref(&all, &[asid(B, 2)]);
    assert_eq!(all.remove_smmu(B), 2, "one with two users, one retiring");
    assert_eq!(all.remove_smmu(B), 0);
    assert_eq!(all.remove_smmu(SmmuId(9)), 0);
    assert_eq!(states(&all), [Live, Live, Trash, Trash, Live]);
    assert_eq!(unref(&all, &[asid(B, 1)]), [NotPresent]);
    assert_eq!(commands(&all, Extent::everything(Granule::K4)).len(), 3);
    // A new SMMU takes its number.
    let again = all.merge(&[asid(B, 1)]).unwrap();
    assert_eq!(again.find(B, InvKind::S1Asid).map(|found| found.users), Some(1));
    assert_eq!(again.len(), 4);
}
