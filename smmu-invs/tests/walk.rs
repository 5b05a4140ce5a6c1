//! The commands of an invalidation, their order, and its waits.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use SinkCall::{Issue, Push, Wait};
use rstest::rstest;
use smmu_invs::{InvArray, InvSpec, InvalidateError};
use smmu_types::fake::{RecordingSink, SinkCall};
use smmu_types::range::{Extent, Plan, RangeSupport, Span, SpanAddress, plan};
use smmu_types::seam::SinkError;
use smmu_types::{
    Asid, AtcScope, AtcSpan, CacheTag, Command, FlushProof, Granule, Iova, Leaf, Regime, SmmuId,
    StreamId, SubstreamId, Vmid,
};

const A: SmmuId = SmmuId(0);
const B: SmmuId = SmmuId(1);
const PAGE: Extent = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint();
const ALL: Extent = Extent::everything(Granule::K4);

fn asid(smmu: SmmuId, regime: Regime, asid: u16, range: RangeSupport) -> InvSpec {
    InvSpec::tagged(smmu, CacheTag::Asid(regime, Asid(asid)), range)
}

fn vmid(smmu: SmmuId, vmid: u16) -> InvSpec {
    InvSpec::tagged(smmu, CacheTag::Vmid(Vmid(vmid)), RangeSupport::Single)
}

fn array(request: &[InvSpec]) -> InvArray {
    InvArray::empty().merge(request).unwrap()
}

fn calls(array: &InvArray, extent: Extent) -> Vec<SinkCall> {
    let sink = RecordingSink::new();
    array.invalidate(extent, &sink).unwrap();
    sink.take()
}

fn span<A: SpanAddress>(range: RangeSupport) -> Span<A> {
    match plan(range, PAGE) {
        Plan::Spans(mut spans) => spans.next().unwrap(),
        Plan::Everything => panic!("one page is not everything"),
    }
}

fn nh_va(asid: u16, range: RangeSupport) -> Command {
    Command::TlbiNhVa { vmid: Vmid(0), asid: Asid(asid), span: span(range) }
}

fn s2_ipa(vmid: u16) -> Command {
    Command::TlbiS2Ipa { vmid: Vmid(vmid), span: span(RangeSupport::Single) }
}

fn atc(stream: u32, substream: Option<u32>, address: u64, size: u8) -> Command {
    Command::AtcInv {
        stream: StreamId(stream),
        substream: substream.map(|s| SubstreamId::new(s).unwrap()),
        scope: AtcScope::Substream,
        span: AtcSpan::new(Iova(address), size).unwrap(),
    }
}

#[test]
fn an_empty_array_sends_nothing() {
    assert_eq!(calls(&InvArray::empty(), PAGE), []);
}

#[rstest]
#[case(Regime::El1, RangeSupport::Ril, PAGE, nh_va(7, RangeSupport::Ril))]
#[case(Regime::El1, RangeSupport::Single, PAGE, nh_va(7, RangeSupport::Single))]
#[case(Regime::El2, RangeSupport::Ril, PAGE,
    Command::TlbiEl2Va { asid: Asid(7), span: span(RangeSupport::Ril) })]
#[case(Regime::El1, RangeSupport::Ril, ALL, Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(7) })]
#[case(Regime::El2, RangeSupport::Single, ALL, Command::TlbiEl2Asid { asid: Asid(7) })]
fn stage_1(
    #[case] regime: Regime,
    #[case] range: RangeSupport,
    #[case] extent: Extent,
    #[case] command: Command,
) {
    let array = array(&[asid(A, regime, 7, range)]);
    assert_eq!(calls(&array, extent), [Issue(A, vec![command]), Wait(A)]);
}

#[test]
fn the_bytes_of_a_range_command_for_one_page() {
    // A literal from outside: TLBI_NH_VA of ASID 0x7cd, address 0x1000, leaf, TTL 3, TG 1.
    let array = array(&[asid(A, Regime::El1, 0x7cd, RangeSupport::Ril)]);
    let [Issue(_, commands), Wait(_)] = &calls(&array, PAGE)[..] else { panic!("one batch") };
    assert_eq!(commands[0].encode().0, [0x07cd_0000_0000_0012, 0x1701]);
}

#[test]
fn without_range_commands_two_mebibytes_flush_the_tag() {
    let extent = |bytes| Extent::range(0, bytes, Granule::K4, Leaf::Last).with_page_hint();
    let array = array(&[asid(A, Regime::El1, 7, RangeSupport::Single)]);
    let flush = Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(7) };
    assert_eq!(calls(&array, extent(2 << 20)), [Issue(A, vec![flush]), Wait(A)]);

    let sent = calls(&array, extent((2 << 20) - 0x1000));
    let sizes: Vec<_> = sent
        .iter()
        .map(|call| match call {
            Push(_, commands) => (64, commands.len()),
            Issue(_, commands) => (0, commands.len()),
            Wait(_) => (0, 0),
        })
        .collect();
    let mut want = vec![(64, 63); 8];
    want.extend([(0, 7), (0, 0)]);
    assert_eq!(
        sizes, want,
        "511 commands: all batches but the last are pushed, and each keeps one command back"
    );
}

#[test]
fn exactly_one_batch_is_not_pushed() {
    let array = array(&[asid(A, Regime::El1, 7, RangeSupport::Single)]);
    let extent = Extent::range(0, 64 << 12, Granule::K4, Leaf::Last).with_page_hint();
    let sent = calls(&array, extent);
    assert!(matches!(&sent[..], [Issue(A, commands), Wait(A)] if commands.len() == 64));
}

#[test]
fn inv_1_phases_and_inv_2_all_batches_go_out_before_the_first_wait() {
    let nested = |smmu: SmmuId| {
        let id = smmu.0 + 1;
        [
            InvSpec::vsmmu(smmu, Vmid(id), RangeSupport::Single),
            InvSpec::s1_clear(smmu, Vmid(id)),
            InvSpec::ats_full(smmu, StreamId(id.into())),
        ]
    };
    let array = array(&[nested(A), nested(B)].concat());
    let clear = |id| Command::TlbiNhAll { vmid: Vmid(id) };
    assert_eq!(
        calls(&array, PAGE),
        [
            Issue(A, vec![s2_ipa(1)]),
            Issue(B, vec![s2_ipa(2)]),
            Wait(A),
            Wait(B),
            Issue(A, vec![clear(1)]),
            Issue(B, vec![clear(2)]),
            Wait(A),
            Wait(B),
            Issue(A, vec![atc(1, None, 0, 52)]),
            Issue(B, vec![atc(2, None, 0, 52)]),
            Wait(A),
            Wait(B),
        ]
    );
}

#[test]
fn a_full_flush_needs_no_nested_clear() {
    let array = array(&[vmid(A, 1), InvSpec::s1_clear(A, Vmid(1))]);
    let flush = Command::TlbiS12Vmall { vmid: Vmid(1) };
    assert_eq!(calls(&array, ALL), [Issue(A, vec![flush]), Wait(A)]);
}

#[test]
fn a_nested_clear_without_its_flush_is_sent() {
    // The clear has another VMID, whose stage 1 no command has flushed.
    let array = array(&[vmid(A, 2), InvSpec::s1_clear(A, Vmid(1))]);
    let flush = Command::TlbiS12Vmall { vmid: Vmid(2) };
    let clear = Command::TlbiNhAll { vmid: Vmid(1) };
    assert_eq!(
        calls(&array, ALL),
        [Issue(A, vec![flush]), Wait(A), Issue(A, vec![clear]), Wait(A)]
    );
}

#[test]
fn ats_names_stream_and_substream() {
    let stream = StreamId(0x123);
    let array = array(&[
        asid(A, Regime::El1, 7, RangeSupport::Single),
        InvSpec::ats(A, stream, SubstreamId::new(7)),
        InvSpec::ats(A, stream, None),
    ]);
    let extent = Extent::range(0x8000, 0x4000, Granule::K4, Leaf::Last).with_page_hint();
    let sent = calls(&array, extent);
    assert_eq!(
        sent[2..],
        [Issue(A, vec![atc(0x123, Some(7), 0x8000, 2), atc(0x123, None, 0x8000, 2)]), Wait(A),]
    );
}

#[test]
fn inv_3_every_atc_batch_has_its_own_sync() {
    let streams: Vec<_> = (0..130).map(|n| InvSpec::ats(A, StreamId(n), None)).collect();
    let sent = calls(&array(&streams), PAGE);
    let issued: Vec<_> = sent
        .iter()
        .map(|call| match call {
            Issue(_, commands) => commands.len(),
            Wait(_) => 0,
            Push(..) => panic!("an ATC batch without a CMD_SYNC"),
        })
        .collect();
    assert_eq!(issued, [64, 64, 2, 0, 0, 0]);
}

#[test]
fn inv_2_beyond_the_tickets_the_walk_waits_for_the_oldest() {
    let request: Vec<_> =
        (0..20).map(|n| asid(SmmuId(n), Regime::El1, 7, RangeSupport::Ril)).collect();
    let sent = calls(&array(&request), PAGE);
    let mut waited = 0;
    let mut most = 0;
    let mut in_flight = 0;
    for call in sent {
        match call {
            Issue(..) => in_flight += 1,
            Wait(smmu) => {
                assert_eq!(smmu.0, waited);
                waited += 1;
                in_flight -= 1;
            }
            Push(..) => panic!("no batch is full"),
        }
        most = most.max(in_flight);
    }
    assert_eq!((waited, most, in_flight), (20, 16, 0));
}

#[test]
fn a_retiring_tag_gets_commands_until_it_is_settled() {
    let spec = asid(A, Regime::El1, 7, RangeSupport::Ril);
    let array = array(&[spec, InvSpec::ats(A, StreamId(1), None)]);
    array.unref(&[spec, InvSpec::ats(A, StreamId(1), None)], |_, _| {});
    let command = nh_va(7, RangeSupport::Ril);
    assert_eq!(calls(&array, PAGE), [Issue(A, vec![command]), Wait(A)]);
    let proof = FlushProof::obtain(&RecordingSink::new(), A, spec.tag().unwrap()).unwrap();
    assert!(array.settle(&proof));
    assert_eq!(calls(&array, PAGE), []);
}

fn timeout(smmu: SmmuId) -> SinkError {
    SinkError::timeout(smmu)
}

#[rstest]
#[case::issue(|call: &SinkCall| matches!(call, Issue(A, _)))]
#[case::wait(|call: &SinkCall| matches!(call, Wait(A)))]
fn inv_4_a_failing_smmu_does_not_stop_the_others(#[case] fails: fn(&SinkCall) -> bool) {
    let array = array(&[
        vmid(A, 1),
        InvSpec::s1_clear(A, Vmid(1)),
        InvSpec::ats_full(A, StreamId(1)),
        vmid(B, 2),
        InvSpec::s1_clear(B, Vmid(2)),
        InvSpec::ats_full(B, StreamId(2)),
    ]);
    let sink = RecordingSink::failing(move |call| fails(call).then_some(timeout(A)));
    let error = array.invalidate(PAGE, &sink).unwrap_err();
    assert_eq!(error, InvalidateError { first: timeout(A), failed: 1 });
    let (failed, other): (Vec<_>, Vec<_>) = sink
        .take()
        .into_iter()
        .partition(|call| matches!(call, Issue(A, _) | Push(A, _) | Wait(A)));
    assert_eq!(failed.iter().filter(|call| matches!(call, Issue(..))).count(), 1);
    assert_eq!(
        other,
        [
            Issue(B, vec![s2_ipa(2)]),
            Wait(B),
            Issue(B, vec![Command::TlbiNhAll { vmid: Vmid(2) }]),
            Wait(B),
            Issue(B, vec![atc(2, None, 0, 52)]),
            Wait(B),
        ]
    );
}

#[test]
fn inv_4_a_failed_push_ends_the_run_of_its_smmu() {
    let array = array(&[
        asid(A, Regime::El1, 7, RangeSupport::Single),
        asid(B, Regime::El1, 7, RangeSupport::Ril),
    ]);
    let sink = RecordingSink::failing(|call| matches!(call, Push(..)).then_some(timeout(A)));
    let extent = Extent::range(0, 256 << 12, Granule::K4, Leaf::Last).with_page_hint();
    let error = array.invalidate(extent, &sink).unwrap_err();
    assert_eq!(error.failed, 1);
    let sent = sink.take();
    assert!(matches!(&sent[..], [Push(A, _), Issue(B, _), Wait(B)]), "{sent:?}");
}

#[test]
fn every_failed_smmu_is_counted_once() {
    let request: Vec<_> =
        (0..20).flat_map(|n| [vmid(SmmuId(n), 1), InvSpec::s1_clear(SmmuId(n), Vmid(1))]).collect();
    let sink = RecordingSink::failing(|call| match call {
        Wait(smmu) if smmu.0 < 12 => Some(timeout(*smmu)),
        _ => None,
    });
    let error = array(&request).invalidate(PAGE, &sink).unwrap_err();
    assert_eq!(error, InvalidateError { first: timeout(A), failed: 12 });
    assert_eq!(
        error.to_string(),
        "the invalidation is not complete on 12 SMMUs, so devices may still reach what was \
         unmapped; the first: smmu0: no CMD_SYNC completion in time; nothing queued before it \
         counts as done"
    );
}

/// While the walk pushes a full batch, a detach makes the next entry trash. A `CMD_SYNC` must prove
/// the pushed commands all the same.
#[test]
fn inv_2_a_pushed_batch_is_synced_even_if_the_rest_becomes_trash() {
    let request: Vec<_> = (1..=65).map(|n| vmid(A, n)).collect();
    let array = Arc::new(array(&request));
    let sink = RecordingSink::failing({
        let array = Arc::clone(&array);
        move |call| {
            if matches!(call, Push(..)) {
                array.unref(&[vmid(A, 65)], |_, _| {});
                let tag = CacheTag::Vmid(Vmid(65));
                array.settle(&FlushProof::obtain(&RecordingSink::new(), A, tag).unwrap());
            }
            None
        }
    });
    array.invalidate(PAGE, &sink).unwrap();
    let sent = sink.take();
    let [Push(A, pushed), Issue(A, issued), Wait(A)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(pushed.len() + issued.len(), 64);
    let all: Vec<_> = pushed.iter().chain(issued).copied().collect();
    assert_eq!(all, (1..=64).map(s2_ipa).collect::<Vec<_>>());
}

#[test]
fn merge_computes_has_ats_anew() {
    let ats = [InvSpec::ats(A, StreamId(1), None)];
    let array = array(&[vmid(A, 1), ats[0]]);
    array.unref(&ats, |_, _| {});
    let merged = array.merge(&[vmid(A, 1)]).unwrap();
    assert!(array.has_ats() && !merged.has_ats());
}
