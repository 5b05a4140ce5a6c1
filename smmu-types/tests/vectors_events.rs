//! Event records and page requests against other implementations: positions and whole records, as
//! literal numbers.
//!
//! Sources, each named where it is used:
//!
//! - EDK2's `SmmuV3Registers.h` (BSD-2-Clause-Patent), bit fields of every record;
//! - Linux's `arm-smmu-v3.h`, the numbers of its fields of translation faults, fetches and page
//!   requests;
//! - OpenVMM's SMMU definitions (MIT), FreeBSD's `smmu.c` (BSD-2-Clause) and Marvell's register
//!   description of Odyssey (BSD-3-Clause), event numbers;
//! - the tables of IHI 0070 itself, for bits newer than all of these: `GPCF` and addresses of 56
//!   bits.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "common/outside.rs"]
mod outside;
#[path = "common/xorshift.rs"]
mod xorshift;

use outside::Positions;
use rstest::rstest;
use smmu_types::fields::{events, page_request};
use smmu_types::{
    EventClass, EventKind, EventRecord, Iova, Ipa, PhysAddr, PrgIndex, PriRecord, RequestedAccess,
    StreamId, SubstreamId, fields,
};
use xorshift::Xorshift;

const HEAD: Positions =
    &[("EventNumber", 7, 0), ("SSV", 11, 11), ("SubstreamID", 31, 12), ("StreamID", 63, 32)];
const NUMBER: Positions = &[("EventNumber", 7, 0)];
const STREAM: Positions = &[("StreamID", 63, 32)];
const ACCESS: Positions = &[("PnU", 97, 97), ("InD", 98, 98), ("RnW", 99, 99)];
const STAGE: Positions = &[("NSIPA", 102, 102), ("S2", 103, 103)];
const CLASS: Positions = &[("CLASS", 105, 104)];
const INPUT: Positions = &[("InputAddr", 191, 128)];
const PAGE: Positions = &[("InputAddr", 191, 140)];
const REASON: Positions = &[("Reason", 79, 64)];
const REASON32: Positions = &[("Reason", 95, 64)];
const GPCF: Positions = &[("GPCF", 80, 80)];
// EDK2 and Linux have the 52 bits that SMMUv3.3 had.
const FETCH: Positions = &[("FetchAddr", 247, 195)];
const IPA: Positions = &[("IPA", 247, 204)];
const STALL: Positions = &[("STAG", 79, 64), ("Stall", 95, 95)];
const IMPDEF: Positions = &[("ImpDef", 127, 112)];

/// EDK2; those of translation faults, `C_BAD_*`, fetches and `TTRnW` in Linux as well.
#[rstest]
#[case(EventKind::F_UUT, &[HEAD, REASON, ACCESS, INPUT])]
#[case(EventKind::C_BAD_STREAMID, &[HEAD])]
#[case(EventKind::F_STE_FETCH, &[HEAD, REASON, GPCF, FETCH])]
#[case(EventKind::C_BAD_STE, &[HEAD])]
#[case(
    EventKind::F_BAD_ATS_TREQ,
    &[HEAD, &[("Span", 67, 64), ("PRIV", 92, 92), ("X", 93, 93), ("W", 94, 94), ("R", 95, 95)], PAGE]
)]
#[case(EventKind::F_STREAM_DISABLED, &[NUMBER, STREAM])]
#[case(
    EventKind::F_TRANSL_FORBIDDEN,
    &[&[("EventNumber", 7, 0), ("StreamID", 63, 32), ("RnW", 99, 99)], INPUT]
)]
#[case(
    EventKind::C_BAD_SUBSTREAMID,
    &[NUMBER, &[("SubstreamID", 31, 12)], STREAM]
)]
#[case(EventKind::F_CD_FETCH, &[HEAD, REASON, GPCF, FETCH])]
#[case(EventKind::C_BAD_CD, &[HEAD])]
#[case(EventKind::F_WALK_EABT, &[HEAD, REASON, GPCF, ACCESS, STAGE, CLASS, INPUT, FETCH])]
#[case(EventKind::F_TRANSLATION, &[HEAD, STALL, ACCESS, STAGE, CLASS, IMPDEF, INPUT, IPA])]
#[case(EventKind::F_ADDR_SIZE, &[HEAD, STALL, ACCESS, STAGE, CLASS, IMPDEF, INPUT, IPA])]
#[case(EventKind::F_ACCESS, &[HEAD, STALL, ACCESS, STAGE, CLASS, IMPDEF, INPUT, IPA])]
#[case(
    EventKind::F_PERMISSION,
    &[HEAD, STALL, ACCESS, STAGE, CLASS, &[("TTRnW", 108, 108)], IMPDEF, INPUT, IPA]
)]
#[case(EventKind::F_TLB_CONFLICT, &[HEAD, REASON32, ACCESS, STAGE, INPUT, IPA])]
#[case(EventKind::F_CFG_CONFLICT, &[HEAD, REASON32])]
#[case(
    EventKind::E_PAGE_REQUEST,
    &[
        HEAD,
        &[("uX", 97, 97), ("uW", 98, 98), ("uR", 99, 99), ("pX", 101, 101), ("pW", 102, 102)],
        &[("pR", 103, 103), ("Span", 115, 108)],
        PAGE,
    ]
)]
#[case(EventKind::F_VMS_FETCH, &[HEAD, REASON, GPCF, FETCH])]
#[case(EventKind(0xe3), &[HEAD])]
#[case(EventKind(0x7f), &[HEAD])]
fn positions(#[case] kind: EventKind, #[case] want: &[Positions]) {
    let layout = fields::event(kind);
    let fields: Vec<_> = layout.fields().iter().map(|f| (f.name(), f.hi(), f.lo())).collect();
    assert_eq!(fields, want.concat());
    assert_eq!(layout.name(), kind.name().unwrap_or("event"));
    assert_eq!(layout.bits(), 256);
}

/// FreeBSD's, EDK2's and Odyssey's numbers, in Linux as well.
#[test]
fn numbers() {
    let want = [
        (0x01, "F_UUT"),
        (0x02, "C_BAD_STREAMID"),
        (0x03, "F_STE_FETCH"),
        (0x04, "C_BAD_STE"),
        (0x05, "F_BAD_ATS_TREQ"),
        (0x06, "F_STREAM_DISABLED"),
        (0x07, "F_TRANSL_FORBIDDEN"),
        (0x08, "C_BAD_SUBSTREAMID"),
        (0x09, "F_CD_FETCH"),
        (0x0a, "C_BAD_CD"),
        (0x0b, "F_WALK_EABT"),
        (0x10, "F_TRANSLATION"),
        (0x11, "F_ADDR_SIZE"),
        (0x12, "F_ACCESS"),
        (0x13, "F_PERMISSION"),
        (0x20, "F_TLB_CONFLICT"),
        (0x21, "F_CFG_CONFLICT"),
        (0x24, "E_PAGE_REQUEST"),
        (0x25, "F_VMS_FETCH"),
    ];
    let names: Vec<_> =
        (0..=255u8).filter_map(|n| EventKind(n).name().map(|name| (n, name))).collect();
    assert_eq!(names, want);
    let defined: Vec<_> =
        (0..=255u8).filter(|n| EventKind(*n).is_implementation_defined()).collect();
    assert_eq!(defined, (0xe0..=0xef).collect::<Vec<_>>());
}

/// Whole records: words made by hand from EDK2's bit fields, and their texts.
#[rstest]
#[case(
    [0x0000_0123_0000_7801, 0x0000_000e_0000_0042, 0xffff_0000_0000_1234, 0],
    "F_UUT sid=0x123 ssid=0x7 read iova=0xffff000000001234 pnu=1 ind=1 reason=0x42"
)]
#[case([0x0000_0123_0000_0002, 0, 0, 0], "C_BAD_STREAMID sid=0x123")]
#[case(
    [0x0000_0123_0000_0003, 0x0001_0007, 0, 0x0080_0000_4000_0040],
    "F_STE_FETCH sid=0x123 fetch=0x80000040000040 gpcf=1 reason=0x7"
)]
#[case([0x0000_0123_0000_7804, 0, 0, 0], "C_BAD_STE sid=0x123 ssid=0x7")]
#[case(
    [0x0000_0123_0000_7805, 0xd000_0002, 0x8000, 0],
    "F_BAD_ATS_TREQ sid=0x123 ssid=0x7 iova=0x8000 span=2 access=rw- priv=1"
)]
#[case([0x0000_0123_0000_0006, 0, 0, 0], "F_STREAM_DISABLED sid=0x123")]
#[case(
    [0x0000_0123_0000_0007, 0, 0x1234, 0],
    "F_TRANSL_FORBIDDEN sid=0x123 write iova=0x1234"
)]
// No SSV, and still a SubstreamID.
#[case([0x0000_0123_0000_7008, 0, 0, 0], "C_BAD_SUBSTREAMID sid=0x123 ssid=0x7")]
#[case([0x0000_0123_0000_0009, 0, 0, 0x48], "F_CD_FETCH sid=0x123 fetch=0x48")]
#[case([0x0000_0123_0000_000a, 0, 0, 0], "C_BAD_CD sid=0x123")]
#[case(
    [0x0000_0123_0000_000b, 0x0000_0188_0000_0000, 0x1234, 0x48],
    "F_WALK_EABT sid=0x123 read iova=0x1234 class=TT stage=2 fetch=0x48"
)]
#[case(
    [0x0000_0123_0000_0010, 0x0000_0200_0000_0000, 0x1234, 0],
    "F_TRANSLATION sid=0x123 write iova=0x1234 class=IN stage=1"
)]
#[case(
    [0x0000_0123_0000_7810, 0x0000_0288_8000_00cd, 0x1234, 0x00ff_0000_0000_1000],
    "F_TRANSLATION sid=0x123 ssid=0x7 read iova=0x1234 class=IN stage=2 ipa=0xff000000001000 stall stag=0xcd"
)]
#[case(
    [0x0000_0123_0000_0011, 0x0000_00c0_0000_0000, 0x1234, 0x2000],
    "F_ADDR_SIZE sid=0x123 write iova=0x1234 class=CD stage=2 ipa=0x2000 nsipa=1"
)]
#[case(
    [0x0000_0123_0000_0012, 0xbeef_020a_0000_0000, 0x1234, 0],
    "F_ACCESS sid=0x123 read iova=0x1234 class=IN stage=1 pnu=1 impdef=0xbeef"
)]
#[case(
    [0x0000_0123_0000_0013, 0x0000_0188_0000_0000, 0x1234, 0x2000],
    "F_PERMISSION sid=0x123 read iova=0x1234 class=TT stage=2 ipa=0x2000 ttrnw=write"
)]
#[case(
    [0x0000_0123_0000_0013, 0x0000_1180_0000_0000, 0x1234, 0x2000],
    "F_PERMISSION sid=0x123 write iova=0x1234 class=TT stage=2 ipa=0x2000 ttrnw=read"
)]
#[case(
    [0x0000_0123_0000_0020, 0x0000_0088_1234_5678, 0x1234, 0x2000],
    "F_TLB_CONFLICT sid=0x123 read iova=0x1234 stage=2 ipa=0x2000 reason=0x12345678"
)]
#[case([0x0000_0123_0000_0021, 0x8765_4321, 0, 0], "F_CFG_CONFLICT sid=0x123 reason=0x87654321")]
#[case(
    [0x0000_0123_0000_7824, 0x000f_f0c8_0000_0000, 0x8000, 0],
    "E_PAGE_REQUEST sid=0x123 ssid=0x7 iova=0x8000 span=255 unprivileged=r-- privileged=rw-"
)]
#[case([0x0000_0123_0000_0025, 1, 0, 0x8], "F_VMS_FETCH sid=0x123 fetch=0x8 reason=0x1")]
#[case([0x0000_0123_0000_00e3, 0x1234, 0x5678, 0x9abc], "event 0xe3 sid=0x123")]
fn whole_records(#[case] words: [u64; 4], #[case] text: &str) {
    let record = EventRecord(words);
    assert_eq!(record.to_string(), text);
    getters_agree_with_the_table(record);
    let kind = record.kind();
    if kind.name().is_some() {
        assert_eq!(fields::event(kind).residue(&words).next(), None, "{text}");
    }
}

/// Getters agree with the table for each field of the kind, and return nothing for other fields.
fn getters_agree_with_the_table(record: EventRecord) {
    let layout = fields::event(record.kind());
    let field = |name: &str| layout.field(name).map(|field| field.get(&record.0));
    let name = layout.name();
    assert_eq!(field("EventNumber"), Some(record.kind().0.into()), "{name}");
    assert_eq!(field("StreamID"), Some(record.stream().0.into()), "{name}");
    let ssv = field("SSV").map_or(field("SubstreamID").is_some(), |ssv| ssv == 1);
    assert_eq!(
        record.substream().map(|s| u64::from(s.get())),
        field("SubstreamID").filter(|_| ssv),
        "{name}"
    );
    for (bit, value) in [
        ("RnW", record.is_read()),
        ("InD", record.is_instruction()),
        ("PnU", record.is_privileged()),
        ("S2", record.is_stage2()),
    ] {
        assert!(field(bit).is_none_or(|v| v == value.into()), "{name}: {bit}");
    }
    for (bit, value) in [
        ("Stall", record.is_stalled()),
        ("NSIPA", record.is_non_secure_ipa()),
        ("GPCF", record.is_granule_protection_fault()),
    ] {
        assert_eq!(field(bit).unwrap_or(0), value.into(), "{name}: {bit}");
    }
    let class = match record.class() {
        EventClass::Cd => 0,
        EventClass::Tt => 1,
        EventClass::In => 2,
        EventClass::Reserved => 3,
    };
    assert!(field("CLASS").is_none_or(|v| v == class), "{name}");
    let table_read = field("TTRnW").filter(|_| class == 1);
    assert_eq!(record.is_table_read().map(u64::from), table_read, "{name}");
    assert!(field("STAG").is_none_or(|v| v == record.stall_tag().into()), "{name}");
    assert!(field("IPA").is_none_or(|v| v == record.ipa().0), "{name}");
    assert_eq!(record.fetch_address().map(|a| a.0), field("FetchAddr"), "{name}");
    assert_eq!(record.reason().map(u64::from), field("Reason"), "{name}");
    assert_eq!(record.implementation_defined().map(u64::from), field("ImpDef"), "{name}");
    let ats = record.ats_request();
    assert_eq!(ats.is_some(), record.kind() == EventKind::F_BAD_ATS_TREQ);
    if let Some(ats) = ats {
        assert_eq!(field("InputAddr"), Some(ats.address.0));
        assert_eq!(field("Span"), Some(ats.span.into()));
        assert_eq!(field("R"), Some(ats.access.read.into()));
        assert_eq!(field("W"), Some(ats.access.write.into()));
        assert_eq!(field("X"), Some(ats.access.execute.into()));
        assert_eq!(field("PRIV"), Some(ats.privileged.into()));
    }
    let hint = record.page_hint();
    assert_eq!(hint.is_some(), record.kind() == EventKind::E_PAGE_REQUEST);
    if let Some(hint) = hint {
        assert_eq!(field("InputAddr"), Some(hint.address.0));
        assert_eq!(field("Span"), Some(hint.span.into()));
        assert_eq!(field("uR"), Some(hint.unprivileged.read.into()));
        assert_eq!(field("uW"), Some(hint.unprivileged.write.into()));
        assert_eq!(field("uX"), Some(hint.unprivileged.execute.into()));
        assert_eq!(field("pR"), Some(hint.privileged.read.into()));
        assert_eq!(field("pW"), Some(hint.privileged.write.into()));
        assert_eq!(field("pX"), Some(hint.privileged.execute.into()));
    }
    if ats.is_none() && hint.is_none() {
        assert!(field("InputAddr").is_none_or(|v| v == record.address().0), "{name}");
    }
}

#[test]
fn every_pattern_is_read_as_its_table_says() {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    for round in 0..50_000u64 {
        let mut words = [(); 4].map(|()| random.next());
        words[0] = words[0] & !0xff | round & 0xff;
        let record = EventRecord(words);
        getters_agree_with_the_table(record);
        assert!(!record.to_string().is_empty());
    }
}

#[test]
fn a_field_that_is_set_again_has_the_second_value() {
    let substream = |value| SubstreamId::new(value).unwrap();
    let twice = EventRecord::new(EventKind::F_WALK_EABT, StreamId(8))
        .with_substream(substream(0xf))
        .with_access(Iova(!0), true)
        .with_class(EventClass::Tt)
        .with_fetch(PhysAddr(0xff8))
        .unwrap();
    let twice = twice
        .with_substream(substream(0x10))
        .with_access(Iova(0x1000), false)
        .with_class(EventClass::In)
        .with_fetch(PhysAddr(0x1000))
        .unwrap();
    assert_eq!(twice.0, [0x8_0001_080b, 0x200_0000_0000, 0x1000, 0x1000]);
    let stall =
        EventRecord::new(EventKind::F_ACCESS, StreamId(8)).with_stall(0xff).with_stall(0x100);
    assert_eq!(stall.stall_tag(), 0x100);
    // Reason lies where other kinds have STAG.
    let fetch = EventRecord::new(EventKind::F_CD_FETCH, StreamId(8));
    assert_eq!(fetch.with_stall(0xff), fetch);
}

#[test]
fn records_of_models_are_what_they_were_made_of() {
    let substream = SubstreamId::new(7).unwrap();
    let stalled = EventRecord::new(EventKind::F_PERMISSION, StreamId(0x123))
        .with_substream(substream)
        .with_access(Iova(0x1234), true)
        .with_class(EventClass::Tt)
        .with_stage2(Ipa(0x2fff))
        .with_stall(0xabcd);
    assert_eq!(
        stalled.0,
        [0x0000_0123_0000_7813, 0x0000_0188_8000_abcd, 0x1234, 0x2000],
        "{stalled}"
    );
    assert_eq!(stalled.substream(), Some(substream));
    let bad = EventRecord::new(EventKind::C_BAD_SUBSTREAMID, StreamId(1)).with_substream(substream);
    assert_eq!(bad.0, [0x0000_0001_0000_7008, 0, 0, 0]);
    let fetch = EventRecord::new(EventKind::F_VMS_FETCH, StreamId(1));
    assert!(fetch.with_fetch(PhysAddr(4)).is_err());
    assert!(fetch.with_fetch(PhysAddr(1 << 56)).is_err());
    let fetch = fetch.with_fetch(PhysAddr(0x00ff_ffff_ffff_fff8)).unwrap();
    let fetch = fetch.with(events::f_vms_fetch::REASON, 9).unwrap();
    assert_eq!(fetch.0, [0x0000_0001_0000_0025, 9, 0, 0x00ff_ffff_ffff_fff8]);
    assert_eq!(
        (fetch.fetch_address(), fetch.reason()),
        (Some(PhysAddr(0x00ff_ffff_ffff_fff8)), Some(9))
    );
}

/// Linux's positions of page requests.
#[test]
fn page_request_positions() {
    let fields: Vec<_> =
        page_request::LAYOUT.fields().iter().map(|f| (f.name(), f.hi(), f.lo())).collect();
    let want = [
        ("StreamID", 31, 0),
        ("SubstreamID", 51, 32),
        ("Priv", 58, 58),
        ("X", 59, 59),
        ("R", 60, 60),
        ("W", 61, 61),
        ("Last", 62, 62),
        ("SSV", 63, 63),
        ("PRGIndex", 72, 64),
        ("PageAddress", 127, 76),
    ];
    assert_eq!(fields, want);
}

const NONE: RequestedAccess = RequestedAccess { read: false, write: false, execute: false };
const READ: RequestedAccess = RequestedAccess { read: true, ..NONE };

fn request(group: u16, access: RequestedAccess) -> PriRecord {
    let group = PrgIndex::new(group).unwrap();
    PriRecord::new(StreamId(0x123), group, Iova(0xffff_0000_0000_8000), access).unwrap()
}

/// Words made by hand from Linux's positions.
#[rstest]
#[case(
    request(0x1ff, READ),
    [0x1000_0000_0000_0123, 0xffff_0000_0000_81ff],
    "page request sid=0x123 iova=0xffff000000008000 access=r-- group=511"
)]
#[case(
    request(3, RequestedAccess { read: true, write: true, execute: true })
        .with_substream(SubstreamId::new(0xf_ffff).unwrap())
        .with_privilege()
        .with_last(),
    [0xfc0f_ffff_0000_0123, 0xffff_0000_0000_8003],
    "page request sid=0x123 ssid=0xfffff iova=0xffff000000008000 access=rwx priv=1 group=3 last"
)]
#[case(
    PriRecord::stop(StreamId(0x123), SubstreamId::new(7).unwrap()),
    [0xc000_0007_0000_0123, 0],
    "stop marker sid=0x123 ssid=0x7"
)]
// The same bits without a PASID are a request (chapter 8).
#[case(
    request(0, NONE).with_last(),
    [0x4000_0000_0000_0123, 0xffff_0000_0000_8000],
    "page request sid=0x123 iova=0xffff000000008000 access=--- group=0 last"
)]
fn page_requests(#[case] record: PriRecord, #[case] words: [u64; 2], #[case] text: &str) {
    assert_eq!(record.0, words);
    assert_eq!(record.to_string(), text);
    assert_eq!(record.get(page_request::STREAMID), record.stream().0.into());
    assert_eq!(record.get(page_request::SSV), record.substream().is_some().into());
    assert_eq!(record.get(page_request::PAGEADDRESS), record.address().0);
    assert_eq!(record.get(page_request::PRGINDEX), record.group().get().into());
    assert_eq!(record.get(page_request::R), record.access().read.into());
    assert_eq!(record.get(page_request::W), record.access().write.into());
    assert_eq!(record.get(page_request::X), record.access().execute.into());
    assert_eq!(record.get(page_request::PRIV), record.is_privileged().into());
    assert_eq!(record.get(page_request::LAST), record.is_last().into());
    assert_eq!(page_request::LAYOUT.residue(&record.0).next(), None);
    let substream = record.substream().map_or(0, |s| s.get().into());
    assert_eq!(record.get(page_request::SUBSTREAMID), substream);
}

#[test]
fn page_requests_refuse_what_they_cannot_hold() {
    assert!(PrgIndex::new(512).is_none());
    assert!(PriRecord::new(StreamId(1), PrgIndex::default(), Iova(0x10), READ).is_err());
}
