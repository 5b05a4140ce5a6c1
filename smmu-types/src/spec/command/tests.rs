//! Tests of commands and their operands.

use super::*;
use crate::range::{Level, LevelHint, SpanAddress};
use crate::{FieldError, Granule, PhysAddr, Shareability};
use rstest::rstest;
use std::string::ToString;

extern crate std;

fn leaf_page<A: SpanAddress>(address: A) -> Span<A> {
    let hint = LevelHint::Bits64(Level::L3);
    Span::ranged(address, Leaf::Last, Granule::K4, 0, 0, hint).unwrap()
}

fn stream_8_without_substream(span: AtcSpan) -> Command {
    Command::AtcInv { stream: StreamId(8), substream: None, scope: AtcScope::Substream, span }
}

// Values from outside: what Linux's driver sends.
#[rstest]
#[case(Command::CfgiSte { stream: StreamId(0x123), leaf: Leaf::Last }, [0x0000_0123_0000_0003, 1])]
#[case(Command::CfgiAll, [0x4, 0x1f])]
#[case(
    Command::TlbiNhVa { vmid: Vmid(0), asid: Asid(0x7cd), span: leaf_page(Iova(0x1000)) },
    [0x07cd_0000_0000_0012, 0x1701]
)]
#[case(Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(0x7cd) }, [0x07cd_0000_0000_0011, 0])]
#[case(Command::TlbiS12Vmall { vmid: Vmid(5) }, [0x0000_0005_0000_0028, 0])]
#[case(
    Command::AtcInv {
        stream: StreamId(0x123),
        substream: SubstreamId::new(7),
        scope: AtcScope::Substream,
        span: AtcSpan::new(Iova(0x8000), 2).unwrap(),
    },
    [0x0000_0123_0000_7840, 0x8002]
)]
#[case(Command::SYNC, [0x0fc0_0046, 0])]
fn matches_vectors(#[case] command: Command, #[case] words: [u64; 2]) {
    assert_eq!(command.encode(), RawCommand(words));
    assert_eq!(Command::decode(RawCommand(words)), command);
}

#[rstest]
#[case(Command::CfgiSteRange { stream: StreamId(0x40), range: SteRange::new(5).unwrap() }, 0x04)]
#[case(
    Command::CfgiCd { stream: StreamId(8), substream: SubstreamId::new(7).unwrap(), leaf: Leaf::All },
    0x05
)]
#[case(Command::CfgiCdAll { stream: StreamId(8) }, 0x06)]
#[case(Command::TlbiNhAll { vmid: Vmid(3) }, 0x10)]
#[case(Command::TlbiNhVaa { vmid: Vmid(3), span: leaf_page(Iova(0x8000)) }, 0x13)]
#[case(Command::TlbiEl2All, 0x20)]
#[case(Command::TlbiEl2Asid { asid: Asid(9) }, 0x21)]
#[case(Command::TlbiEl2Va { asid: Asid(9), span: leaf_page(Iova(0x8000)) }, 0x22)]
#[case(Command::TlbiS2Ipa { vmid: Vmid(3), span: leaf_page(Ipa(0x8000)) }, 0x2a)]
#[case(Command::TlbiNsnhAll, 0x30)]
#[case(Command::sync(Completion::Interrupt), 0x46)]
#[case(Command::sync(Completion::Msi(SyncMsi::new(PhysAddr(0x1004), 7).unwrap())), 0x46)]
#[case(Command::sync(Completion::Event), 0x46)]
fn opcode_and_round_trip(#[case] command: Command, #[case] opcode: u8) {
    let raw = command.encode();
    assert_eq!(raw.opcode(), opcode);
    assert_eq!(raw.is_invalidation(), command.is_invalidation());
    assert_eq!(Command::decode(raw), command);
}

#[rstest]
#[case::unknown_opcode([0xff, 0])]
#[case::opcode_zero([0, 0])]
#[case::secure_stream([0x0000_0123_0000_0003 | 1 << 10, 1])]
#[case::reserved_sync_signal([0x0fc0_3046, 0])]
#[case::reserved_bits([0x07cd_0000_0000_0011, 1 << 40])]
fn keeps_what_it_does_not_know(#[case] words: [u64; 2]) {
    let command = Command::decode(RawCommand(words));
    assert_eq!(command, Command::Unknown(RawCommand(words)));
    assert_eq!(command.encode().0, words);
    assert!(command.to_string().starts_with("UNKNOWN opcode=0x"));
}

#[rstest]
#[case::span_without_tg_has_no_num([0x07cd_0000_0000_1012, 0x1001])]
#[case::span_without_tg_has_no_ttl([0x07cd_0000_0000_0012, 0x1301])]
#[case::span_without_tg_has_no_ttl128([0x07cd_0000_0000_0012, 0x1081])]
#[case::reserved_range([0x07cd_0000_0000_0012, 0x1401])]
#[case::ttl128_without_ttl([0x07cd_0000_0000_1012, 0x1481])]
#[case::scale_above_39([0x07cd_0000_0280_0012, 0x1701])]
#[case::unaligned_to_its_level([0x07cd_0000_0090_0012, 0x1601])]
#[case::unaligned_to_its_granule([0x07cd_0000_0000_0012, 0x1b01])]
#[case::ipa_of_57_bits([0x0000_0005_0000_002a, 1 << 56])]
#[case::atc_size_53([0x0000_0008_0000_0040, 53])]
#[case::atc_address_of_everything([0x0000_0008_0000_0040, 0x1000 | 52])]
#[case::atc_unaligned([0x0000_0008_0000_0040, 0x1000 | 2])]
#[case::msi_of_57_bits([0x0fc0_1046, 1 << 56])]
#[case::msi_reserved_shareability([0x0f40_1046, 0x1000])]
#[case::pri_reserved_response([0x0000_0008_0000_0041, 0x3000])]
#[case::resume_retry_and_abort([0x0000_0008_0000_3044, 1])]
#[case::prefetch_of_a_secure_space([0x0000_0008_0000_0002, 0x1800])]
#[case::range_of_all_with_a_stream([0x0000_0008_0000_0004, 31])]
#[case::dpti_pa([0x73, 0x1000])]
fn what_has_no_defined_effect_is_unknown(#[case] words: [u64; 2]) {
    assert_eq!(Command::decode(RawCommand(words)), Command::Unknown(RawCommand(words)));
}

fn sync(completion: Completion, attributes: MsiAttributes) -> Command {
    Command::Sync { completion, attributes }
}

// Words that guests may send; what becomes of them is what the sections say.
#[rstest]
#[case::sync_without_a_signal_has_an_msi(
    [0xdead_beef_0fc0_0046, 0x4000_0010], sync(Completion::None, MsiAttributes::WRITE_BACK))]
#[case::sync_with_an_event_has_an_msi(
    [0xdead_beef_0fc0_2046, 0x4000_0010], sync(Completion::Event, MsiAttributes::WRITE_BACK))]
#[case::sync_with_data_and_no_address(
    [0xdead_beef_0fc0_1046, 0], sync(Completion::Interrupt, MsiAttributes::WRITE_BACK))]
#[case::sync_with_the_reserved_shareability(
    [0x0000_0007_0040_1046, 0x1000],
    sync(Completion::Msi(SyncMsi::new(PhysAddr(0x1000), 7).unwrap()), MsiAttributes::DEVICE))]
#[case::resume_retry_and_abort(
    [0x0000_0008_0000_3044, 0x21],
    Command::Resume { stream: StreamId(8), tag: 0x21, action: ResumeAction::Retry })]
#[case::atc_unaligned(
    [0x0000_0008_0000_0040, 0x5000 | 2],
    stream_8_without_substream(AtcSpan::new(Iova(0x4000), 2).unwrap()))]
#[case::atc_everything_with_an_address(
    [0x0000_0008_0000_0040, 0xffff_ffff_ffff_f000 | 52],
    stream_8_without_substream(AtcSpan::EVERYTHING))]
#[case::atc_substream_that_is_not_valid(
    [0x0000_0008_0000_7040, 0x5000],
    stream_8_without_substream(AtcSpan::new(Iova(0x5000), 0).unwrap()))]
#[case::all_with_a_stream([0x0000_0008_0000_0004, 31], Command::CfgiAll)]
#[case::prefetch_with_a_substream_that_is_not_valid(
    [0x0000_0008_0000_7001, 0], Command::PrefetchConfig { stream: StreamId(8), substream: None })]
#[case::answer_with_a_substream_that_is_not_valid(
    [0x0000_0008_0000_7041, 0x2003],
    Command::PriResp {
        stream: StreamId(8), substream: None, group: PrgIndex::new(3).unwrap(), response: PriResponse::Success,
    })]
#[case::scale_above_39(
    [0x0000_0005_03f0_002a, 0x1701],
    Command::TlbiS2Ipa {
        vmid: Vmid(5),
        span: Span::ranged(Ipa(0x1000), Leaf::Last, Granule::K4, 0, 39, LevelHint::Bits64(Level::L3)).unwrap(),
    })]
#[case::unaligned_to_its_level(
    [0x0000_0005_0090_002a, 0x1601],
    Command::TlbiS2Ipa {
        vmid: Vmid(5),
        span: Span::ranged(Ipa(0x1000), Leaf::Last, Granule::K4, 0, 9, LevelHint::Unknown).unwrap(),
    })]
#[case::unaligned_to_its_level_and_one_page(
    [0x0000_0005_0000_002a, 0x1681],
    Command::TlbiS2Ipa {
        vmid: Vmid(5),
        span: Span::ranged(Ipa(0x1000), Leaf::Last, Granule::K4, 1, 0, LevelHint::Unknown).unwrap(),
    })]
#[case::unaligned_to_its_granule(
    [0x0000_0005_0000_102a, 0x1801],
    Command::TlbiS2Ipa {
        vmid: Vmid(5),
        span: Span::ranged(Ipa(0), Leaf::Last, Granule::K16, 1, 0, LevelHint::Unknown).unwrap(),
    })]
fn what_an_smmu_carries_out_is_known(#[case] words: [u64; 2], #[case] command: Command) {
    let raw = RawCommand(words);
    assert_eq!(Command::decode(raw), Command::Unknown(raw), "decoding loses nothing");
    assert_eq!(Command::interpret(raw), command);
    assert_eq!(Command::interpret(command.encode()), command);
}

#[rstest]
#[case::reserved_opcode([0xff, 0])]
#[case::secure_stream([0x0000_0123_0000_0003 | 1 << 10, 1])]
#[case::secure_stream_of_all([0x0000_0123_0000_0404, 31])]
#[case::reserved_signal([0xdead_beef_0fc0_3046, 0x1000])]
#[case::reserved_bits([0x07cd_0000_0000_0011, 1 << 40])]
#[case::reserved_bits_beside_ignored_ones([0xdead_beef_0fc0_0046, 1])]
#[case::reserved_range([0x07cd_0000_0000_0012, 0x1401])]
#[case::reserved_range_unaligned([0x07cd_0000_0000_0012, 0x1801])]
#[case::ttl128_without_ttl([0x07cd_0000_0000_1012, 0x1481])]
#[case::span_without_tg_has_no_num([0x07cd_0000_0000_1012, 0x1001])]
#[case::reserved_response([0x0000_0008_0000_0041, 0x3000])]
#[case::atc_size_53([0x0000_0008_0000_0040, 53])]
#[case::dpti_pa([0x73, 0x1000])]
fn what_an_smmu_may_refuse_stays_unknown(#[case] words: [u64; 2]) {
    assert_eq!(Command::interpret(RawCommand(words)), Command::Unknown(RawCommand(words)));
}

#[test]
fn unknown_commands_name_their_opcode() {
    let text = |words| Command::Unknown(RawCommand(words)).to_string();
    assert_eq!(
        text([0x403, 1]),
        "UNKNOWN opcode=0x03 CFGI_STE raw=0x0000000000000403 0x0000000000000001"
    );
    assert!(text([0x5a, 0]).starts_with("UNKNOWN opcode=0x5a TLBI_S_S2_IPA raw="));
    assert!(text([0x8f, 0]).starts_with("UNKNOWN opcode=0x8f IMPDEF_COMMAND raw="));
    assert!(text([0x90, 0]).starts_with("UNKNOWN opcode=0x90 raw="));
}

#[test]
fn operands_refuse_what_cannot_be_said() {
    assert!(SteRange::new(31).is_err());
    assert_eq!(SteRange::new(30).map(SteRange::entries), Ok(1 << 31));
    assert!(AtcSpan::new(Iova(0x1000), 1).is_err());
    assert!(AtcSpan::new(Iova(0x1000), 52).is_err());
    assert!(AtcSpan::new(Iova(0), 53).is_err());
    assert_eq!(AtcSpan::new(Iova(0), 52), Ok(AtcSpan::EVERYTHING));
    assert_eq!(AtcSpan::covering(Iova(0), Iova(u64::MAX)), AtcSpan::EVERYTHING);
    assert_eq!(
        AtcSpan::covering(Iova(0x8fff), Iova(0x8000)),
        AtcSpan::new(Iova(0x8000), 0).unwrap()
    );
    assert_eq!(
        AtcSpan::covering(Iova(0x8000), Iova(0xb000)),
        AtcSpan::new(Iova(0x8000), 2).unwrap()
    );
    assert_eq!(
        AtcSpan::covering(Iova(1 << 63), Iova(!0)),
        AtcSpan::new(Iova(1 << 63), 51).unwrap()
    );
    assert!(PrefetchSpan::new(Iova(0x10), 0, 0).is_err());
    assert!(PrefetchSpan::new(Iova(0), 32, 0).is_err());
    assert!(PrefetchSpan::new(Iova(0), 0, 32).is_err());
    assert!(matches!(SyncMsi::new(PhysAddr(0), 0), Err(FieldError::Reserved { .. })));
    assert!(SyncMsi::new(PhysAddr(6), 0).is_err());
    assert!(SyncMsi::new(PhysAddr(1 << 56), 0).is_err());
    assert!(MsiAttributes::new(Shareability::Reserved, 0).is_err());
    assert!(MsiAttributes::new(Shareability::Outer, 16).is_err());
}

#[rstest]
#[case(Command::PrefetchConfig { stream: StreamId(8), substream: SubstreamId::new(7) }, "PREFETCH_CONFIG sid=0x8 ssid=0x7")]
#[case(
    Command::PrefetchAddr { stream: StreamId(8), substream: None, span: PrefetchSpan::new(Iova(0x1000), 9, 3).unwrap() },
    "PREFETCH_ADDR sid=0x8 iova=0x1000 stride=9 size=3"
)]
#[case(Command::CfgiVmsPidm { vmid: Vmid(3) }, "CFGI_VMS_PIDM vmid=3")]
#[case(stream_8_without_substream(AtcSpan::EVERYTHING), "ATC_INV sid=0x8 iova=0x0 size=52")]
#[case(
    Command::PriResp { stream: StreamId(8), substream: None, group: PrgIndex::new(3).unwrap(), response: PriResponse::Success },
    "PRI_RESP sid=0x8 group=3 resp=success"
)]
#[case(
    Command::Resume { stream: StreamId(8), tag: 0x21, action: ResumeAction::Retry },
    "RESUME sid=0x8 stag=0x21 action=retry"
)]
#[case(Command::StallTerm { stream: StreamId(8) }, "STALL_TERM sid=0x8")]
#[case(Command::DptiAll, "DPTI_ALL")]
#[case(
    Command::sync(Completion::Msi(SyncMsi::new(PhysAddr(0x1004), 7).unwrap())),
    "SYNC cs=irq msi=0x1004:0x7"
)]
fn in_words(#[case] command: Command, #[case] text: &str) {
    assert_eq!(command.to_string(), text);
}

#[rstest]
#[case([0x46, 0], Completion::None, MsiAttributes::DEVICE)]
#[case([0x2046, 0], Completion::Event, MsiAttributes::DEVICE)]
#[case([0x0fc0_1046, 0], Completion::Interrupt, MsiAttributes::WRITE_BACK)]
fn a_sync_without_an_msi_has_attributes_all_the_same(
    #[case] words: [u64; 2],
    #[case] completion: Completion,
    #[case] attributes: MsiAttributes,
) {
    let command = Command::decode(RawCommand(words));
    assert_eq!(command, Command::Sync { completion, attributes });
    assert!(!command.to_string().contains("msh="));
}
