//! From a StreamID to an STE, and from a SubstreamID to a CD.

use super::*;
use smmu_types::layout::Key;
use smmu_types::legal::StreamLookup;
use smmu_types::{ContextTableDescriptor, StreamId, StreamTableDescriptor, SubstreamId};

const LINEAR8: u32 = 8;
/// 16 bits, 8 of them for the second level.
const TWO_LEVEL: u32 = 0x1_0210;

#[rstest]
#[case::linear(0xff, LINEAR8, None, rich(), &[])]
#[case::beyond(0x100, LINEAR8, None, rich(), &[("LOG2SIZE", Rule::StreamBeyondTable { stream: 0x100 })])]
#[case::one_stream(1, 0, None, rich(), &[("LOG2SIZE", Rule::StreamBeyondTable { stream: 1 })])]
#[case::everything(u32::MAX, 32, None, rich(), &[])]
#[case::capped(0x1_0000, 20, None, qemu(), &[
    ("LOG2SIZE", Rule::StreamTableCapped { max: 16 }),
    ("LOG2SIZE", Rule::StreamBeyondTable { stream: 0x1_0000 }),
])]
#[case::format2(1, 0x2_0208, Some(0), rich(), &[("FMT", Rule::ReservedValue { behaves: "0b00: a linear table" })])]
#[case::format_absent(1, 0x1_0008, Some(0), idr0(3 << 27, 0),
    &[("FMT", Rule::Res0 { why: "without two-level tables (IDR0.ST_LEVEL = 0)" })])]
#[case::two_level(0x12ff, TWO_LEVEL, Some(0x8000_0009), rich(), &[])]
#[case::unknown(0x12ff, TWO_LEVEL, None, rich(), &[])]
#[case::split(0x3f, 0x1_0050, Some(0x8000_0007), rich(), &[("SPLIT", Rule::ReservedValue { behaves: "6" })])]
#[case::no_span(0x1200, TWO_LEVEL, Some(0x8000_0000), rich(), &[("Span", Rule::NoSpan)])]
#[case::span12(0x1200, TWO_LEVEL, Some(0x8000_000c), rich(), &[("Span", Rule::SpanReserved)])]
#[case::span31(0x1200, TWO_LEVEL, Some(0x8000_001f), rich(), &[("Span", Rule::SpanReserved)])]
#[case::span_large(0x1200, TWO_LEVEL, Some(0x8000_000a), rich(), &[("Span", Rule::SpanBeyondSplit { max: 9 })])]
#[case::in_span(0x1203, TWO_LEVEL, Some(0x8000_0003), rich(), &[])]
#[case::beyond_span(0x1204, TWO_LEVEL, Some(0x8000_0003), rich(),
    &[("Span", Rule::StreamBeyondSpan { index: 4, stes: 4 })])]
#[case::stes_beyond(0x1200, TWO_LEVEL, Some(1 << 48 | 9), rich(), &[("L2Ptr", Rule::StesBeyondOutput { bits: 48 })])]
#[case::stes_align(0x1200, TWO_LEVEL, Some(0x8000_1009), rich(), &[("L2Ptr", Rule::TableRounded { align: 14 })])]
fn stream_ids(
    #[case] stream: u32,
    #[case] config: u32,
    #[case] descriptor: Option<u64>,
    #[case] smmu: SmmuView,
    #[case] want: &[(&str, Rule)],
) {
    let descriptor = descriptor.map(|word| StreamTableDescriptor([word]));
    let table = StreamLookup { config, descriptor };
    let found = collect(|report| legal::stream_id(StreamId(stream), table, &smmu, report));
    assert_eq!(found, want);
}

const TABLE: &[(Key<Ste>, u64)] = &[(field::S1CDMAX, 4), (field::S1DSS, 2)];

#[rstest]
#[case::bypass(BYPASS, &[], None, rich(), &[])]
#[case::bypass_with(BYPASS, &[], Some(1), rich(), &[("Config", Rule::SubstreamWithoutStage1)])]
#[case::stage2_with(STAGE2, TABLE, Some(1), rich(), &[("Config", Rule::SubstreamWithoutStage1)])]
#[case::absent(STAGE1, TABLE, Some(1), idr1(0x7c0), &[("S1CDMax", Rule::SubstreamsAbsent)])]
#[case::off(STAGE1, &[], Some(0), rich(), &[("S1CDMax", Rule::SubstreamsOff)])]
#[case::one_cd(STAGE1, &[], None, rich(), &[])]
#[case::largest(STAGE1, TABLE, Some(15), rich(), &[])]
#[case::beyond(STAGE1, TABLE, Some(16), rich(), &[("S1CDMax", Rule::SubstreamBeyondTable { substream: 16 })])]
#[case::none(NESTED, TABLE, None, rich(), &[])]
#[case::zero_taken(NESTED, TABLE, Some(0), rich(), &[("S1DSS", Rule::Substream0Taken)])]
#[case::zero(STAGE1, &[(field::S1CDMAX, 4), (field::S1DSS, 1)], Some(0), rich(), &[])]
#[case::none_bypasses(STAGE1, &[(field::S1CDMAX, 4), (field::S1DSS, 1)], None, rich(), &[])]
#[case::none_missing(STAGE1, &[(field::S1CDMAX, 4)], None, rich(), &[("S1DSS", Rule::SubstreamMissing)])]
#[case::none_reserved(STAGE1, &[(field::S1CDMAX, 4), (field::S1DSS, 3)], None, rich(),
    &[("S1DSS", Rule::SubstreamMissing)])]
#[case::none_absent(STAGE1, &[(field::S1CDMAX, 4)], None, idr1(0x7c0), &[])]
#[case::abort(Ste::ABORT, &[], Some(1), rich(), &[])]
fn substream_ids(
    #[case] base: Ste,
    #[case] changes: &[(Key<Ste>, u64)],
    #[case] substream: Option<u32>,
    #[case] smmu: SmmuView,
    #[case] want: &[(&str, Rule)],
) {
    let entry = changes.iter().fold(base, |entry, &(key, value)| entry.with(key, value).unwrap());
    let substream = substream.map(|number| SubstreamId::new(number).unwrap());
    let found = collect(|report| legal::substream_id(substream, &entry, &smmu, report));
    assert_eq!(found, want);
}

#[rstest]
#[case::good(0x8000_1001, STAGE1, rich(), &[])]
#[case::invalid(0x8000_1000, STAGE1, rich(), &[("V", Rule::NoContextTable)])]
#[case::beyond(1 << 48 | 1, STAGE1, rich(), &[("L2Ptr", Rule::ContextTableBeyondOutput { bits: 48, minor: 2 })])]
#[case::beyond_ipa(1 << 48 | 1, NESTED, rich(), &[("L2Ptr", Rule::ContextsBeyondIntermediate { bits: 48 })])]
#[case::beyond_stage2(1 << 40 | 1, NESTED, rich(), &[("L2Ptr", Rule::BeyondStage2Input { bits: 40 })])]
#[case::large(0x8000_1001, STAGE1.with(field::S1FMT, 2).unwrap(), rich(),
    &[("L2Ptr", Rule::Res0 { why: "in bits 15:12 with tables of 64 KiB" })])]
fn context_tables(
    #[case] word: u64,
    #[case] entry: Ste,
    #[case] smmu: SmmuView,
    #[case] want: &[(&str, Rule)],
) {
    let descriptor = ContextTableDescriptor([word]);
    let found = collect(|report| legal::context_table(descriptor, &entry, &smmu, report));
    assert_eq!(found, want);
}
