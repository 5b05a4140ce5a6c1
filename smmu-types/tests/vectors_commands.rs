//! Commands against other implementations: positions and whole commands, as literal numbers.
//!
//! Sources, each named where it is used:
//!
//! - EDK2's `SmmuV3Registers.h` (BSD-2-Clause-Patent), bit fields of most commands;
//! - Renode's model of the SMMUv3, `ARM_SMMUv3` (MIT), bit fields of prefetches, ranges and
//!   `CMD_SYNC`;
//! - TF-RMM's `smmuv3_priv.h` (BSD-3-Clause) and FreeBSD's `smmu_reg.h` (BSD-2-Clause), opcodes and
//!   single fields;
//! - Linux's `arm-smmu-v3.h`, the numbers of its fields;
//! - Marvell's register description of Odyssey (BSD-3-Clause), opcodes of Secure state.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "common/outside.rs"]
mod outside;
#[path = "common/xorshift.rs"]
mod xorshift;

use outside::Positions;
use rstest::rstest;
use smmu_types::fields::{command, opcode_name};
use smmu_types::range::{Level, LevelHint, Span, SpanAddress};
use smmu_types::{
    Asid, AtcScope, AtcSpan, Command, CommandErrorCode, Completion, Granule, Iova, Ipa, Leaf,
    MsiAttributes, PhysAddr, PrefetchSpan, PrgIndex, PriResponse, RawCommand, ResumeAction,
    Shareability, SteRange, StreamId, SubstreamId, SyncMsi, Vmid, regs,
};
use xorshift::Xorshift;

const SID: (&str, u16, u16) = ("StreamID", 63, 32);
const SSID: (&str, u16, u16) = ("SubstreamID", 31, 12);
const SSV: (&str, u16, u16) = ("SSV", 11, 11);
const SSEC: (&str, u16, u16) = ("SSec", 10, 10);
const VMID: (&str, u16, u16) = ("VMID", 47, 32);
const ASID: (&str, u16, u16) = ("ASID", 63, 48);

/// Every field of every table but `Opcode`.
#[rstest]
// Renode; SSec, SSV and StreamID in TF-RMM as well.
#[case(0x01, &[SSEC, SSV, SSID, SID])]
// Renode; Size and Address in Linux as well.
#[case(
    0x02,
    &[SSEC, SSV, SSID, SID, ("Size", 68, 64), ("Stride", 73, 69), ("NS", 75, 75), ("Address", 127, 76)]
)]
// EDK2 and Renode; SSec, StreamID and Leaf in TF-RMM as well.
#[case(0x03, &[SSEC, SID, ("Leaf", 64, 64)])]
// EDK2 and Renode; Range in Linux as well.
#[case(0x04, &[SSEC, SID, ("Range", 68, 64)])]
// EDK2; SubstreamID, StreamID and Leaf in Linux as well.
#[case(0x05, &[SSEC, SSID, SID, ("Leaf", 64, 64)])]
// EDK2.
#[case(0x06, &[SSEC, SID])]
#[case(0x07, &[SSEC, VMID])]
// EDK2 and Renode.
#[case(0x10, &[VMID])]
#[case(0x11, &[VMID, ASID])]
// EDK2 and Linux; the sixth bit of SCALE and TTL128 in Renode.
#[case(0x12, &[("NUM", 16, 12), ("SCALE", 25, 20), VMID, ASID, ("Leaf", 64, 64), ("TTL128", 71, 71),
    ("TTL", 73, 72), ("TG", 75, 74), ("Address", 127, 76)])]
#[case(0x13, &[("NUM", 16, 12), ("SCALE", 25, 20), VMID, ("Leaf", 64, 64), ("TTL128", 71, 71),
    ("TTL", 73, 72), ("TG", 75, 74), ("Address", 127, 76)])]
// EDK2, with the same two of the ranges above.
#[case(0x20, &[])]
#[case(0x21, &[ASID])]
#[case(0x22, &[("NUM", 16, 12), ("SCALE", 25, 20), ASID, ("Leaf", 64, 64), ("TTL128", 71, 71),
    ("TTL", 73, 72), ("TG", 75, 74), ("Address", 127, 76)])]
#[case(0x23, &[("NUM", 16, 12), ("SCALE", 25, 20), ("Leaf", 64, 64), ("TTL128", 71, 71),
    ("TTL", 73, 72), ("TG", 75, 74), ("Address", 127, 76)])]
#[case(0x28, &[VMID])]
// EDK2 and Linux have the addresses of 52 bits that SMMUv3.3 had; the field has 56 since (4.1.6).
#[case(0x2a, &[("NUM", 16, 12), ("SCALE", 25, 20), VMID, ("Leaf", 64, 64), ("TTL128", 71, 71),
    ("TTL", 73, 72), ("TG", 75, 74), ("Address", 119, 76)])]
#[case(0x30, &[])]
// Linux.
#[case(0x40, &[("Global", 9, 9), SSV, SSID, SID, ("Size", 69, 64), ("Address", 127, 76)])]
#[case(0x41, &[SSV, SSID, SID, ("PRGIndex", 72, 64), ("Resp", 77, 76)])]
// EDK2; Linux has both of Ac and Ab as one field 13:12, 1 to retry and 2 to abort.
#[case(0x44, &[SSEC, ("Ac", 12, 12), ("Ab", 13, 13), SID, ("STAG", 79, 64)])]
// The parameters of 4.7.2, in the places of all other commands.
#[case(0x45, &[SSEC, SID])]
// EDK2, FreeBSD and Linux; the 56 bits of the address in Renode.
#[case(0x46, &[("CS", 13, 12), ("MSH", 23, 22), ("MSIAttr", 27, 24), ("MSIData", 63, 32),
    ("MSIAddress", 119, 66)])]
#[case(0x70, &[])]
fn positions(#[case] opcode: u8, #[case] want: Positions) {
    let layout = command(opcode).unwrap();
    let (first, rest) = layout.fields().split_first().unwrap();
    assert_eq!((first.name(), first.hi(), first.lo()), ("Opcode", 7, 0));
    let fields: Vec<_> = rest.iter().map(|f| (f.name(), f.hi(), f.lo())).collect();
    assert_eq!(fields, want, "{}", layout.name());
    assert_eq!(layout.bits(), 128);
}

/// FreeBSD's, TF-RMM's, EDK2's and Renode's opcodes; 0x50 to 0x60 in Renode and Odyssey's.
#[test]
fn opcodes() {
    let want = [
        (0x01, "PREFETCH_CONFIG"),
        (0x02, "PREFETCH_ADDR"),
        (0x03, "CFGI_STE"),
        (0x04, "CFGI_STE_RANGE"),
        (0x05, "CFGI_CD"),
        (0x06, "CFGI_CD_ALL"),
        (0x07, "CFGI_VMS_PIDM"),
        (0x10, "TLBI_NH_ALL"),
        (0x11, "TLBI_NH_ASID"),
        (0x12, "TLBI_NH_VA"),
        (0x13, "TLBI_NH_VAA"),
        (0x18, "TLBI_EL3_ALL"),
        (0x1a, "TLBI_EL3_VA"),
        (0x20, "TLBI_EL2_ALL"),
        (0x21, "TLBI_EL2_ASID"),
        (0x22, "TLBI_EL2_VA"),
        (0x23, "TLBI_EL2_VAA"),
        (0x28, "TLBI_S12_VMALL"),
        (0x2a, "TLBI_S2_IPA"),
        (0x30, "TLBI_NSNH_ALL"),
        (0x40, "ATC_INV"),
        (0x41, "PRI_RESP"),
        (0x44, "RESUME"),
        (0x45, "STALL_TERM"),
        (0x46, "SYNC"),
        (0x50, "TLBI_S_EL2_ALL"),
        (0x51, "TLBI_S_EL2_ASID"),
        (0x52, "TLBI_S_EL2_VA"),
        (0x53, "TLBI_S_EL2_VAA"),
        (0x58, "TLBI_S_S12_VMALL"),
        (0x5a, "TLBI_S_S2_IPA"),
        (0x60, "TLBI_SNH_ALL"),
        (0x70, "DPTI_ALL"),
        (0x73, "DPTI_PA"),
    ];
    let all = (0..=255u8).filter_map(|n| opcode_name(n).map(|name| (n, name)));
    // Only 4.1.1 has the implementation defined range.
    let (names, rest): (Vec<_>, Vec<_>) = all.partition(|(n, _)| *n < 0x80);
    assert_eq!(names, want);
    assert!(rest.into_iter().eq((0x80..=0x8f).map(|n| (n, "IMPDEF_COMMAND"))));
    for (opcode, name) in want {
        if let Some(layout) = command(opcode) {
            assert_eq!(layout.name(), format!("CMD_{name}"));
        }
    }
    let untyped: Vec<_> = want.iter().filter(|(n, _)| command(*n).is_none()).map(|w| w.0).collect();
    assert_eq!(untyped, [0x18, 0x1a, 0x50, 0x51, 0x52, 0x53, 0x58, 0x5a, 0x60, 0x73]);
}

fn substream(value: u32) -> SubstreamId {
    SubstreamId::new(value).unwrap()
}

fn ranged<A: SpanAddress>(address: A, num: u8, scale: u8, hint: LevelHint) -> Span<A> {
    Span::ranged(address, Leaf::Last, Granule::K4, num, scale, hint).unwrap()
}

const L3: LevelHint = LevelHint::Bits64(Level::L3);

/// Whole commands. "From" names the source of the field positions, written out by hand.
#[rstest]
// From Renode and TF-RMM.
#[case(
    Command::PrefetchConfig { stream: StreamId(0x123), substream: Some(substream(7)) },
    [0x0000_0123_0000_7801, 0]
)]
#[case(Command::PrefetchConfig { stream: StreamId(0x123), substream: None }, [0x0000_0123_0000_0001, 0])]
// From Renode: Stride 9 is 0x120, Size 3 is 3.
#[case(
    Command::PrefetchAddr {
        stream: StreamId(0x123),
        substream: Some(substream(7)),
        span: PrefetchSpan::new(Iova(0xffff_0000_0020_0000), 9, 3).unwrap(),
    },
    [0x0000_0123_0000_7802, 0xffff_0000_0020_0123]
)]
// What Linux's driver sends.
#[case(Command::CfgiSte { stream: StreamId(0x123), leaf: Leaf::Last }, [0x0000_0123_0000_0003, 1])]
#[case(Command::CfgiSte { stream: StreamId(0x123), leaf: Leaf::All }, [0x0000_0123_0000_0003, 0])]
#[case(Command::CfgiAll, [0x4, 0x1f])]
// From EDK2.
#[case(
    Command::CfgiSteRange { stream: StreamId(0xffff_0000), range: SteRange::new(15).unwrap() },
    [0xffff_0000_0000_0004, 15]
)]
#[case(
    Command::CfgiCd { stream: StreamId(0x123), substream: substream(0xf_ffff), leaf: Leaf::Last },
    [0x0000_0123_ffff_f005, 1]
)]
#[case(Command::CfgiCdAll { stream: StreamId(0x123) }, [0x0000_0123_0000_0006, 0])]
#[case(Command::CfgiVmsPidm { vmid: Vmid(0x1234) }, [0x0000_1234_0000_0007, 0])]
#[case(Command::TlbiNhAll { vmid: Vmid(0x1234) }, [0x0000_1234_0000_0010, 0])]
// What Linux's driver sends.
#[case(Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(0x7cd) }, [0x07cd_0000_0000_0011, 0])]
#[case(
    Command::TlbiNhVa { vmid: Vmid(0), asid: Asid(0x7cd), span: ranged(Iova(0x1000), 0, 0, L3) },
    [0x07cd_0000_0000_0012, 0x1701]
)]
// From EDK2: NUM 31 and SCALE 20 are 0x0141_f000.
#[case(
    Command::TlbiNhVaa {
        vmid: Vmid(5),
        span: Span::ranged(Iova(0xffff_0000_0000_0000), Leaf::All, Granule::K64, 31, 20, LevelHint::Unknown)
            .unwrap(),
    },
    [0x0000_0005_0141_f013, 0xffff_0000_0000_0c00]
)]
// From Renode: SCALE 39 is 0x0270_0000, TTL128 is 0x80.
#[case(
    Command::TlbiNhVa {
        vmid: Vmid(5),
        asid: Asid(6),
        span: Span::ranged(
            Iova(1 << 24), Leaf::Last, Granule::K16, 0, 39, LevelHint::Bits128(Level::L2)
        )
        .unwrap(),
    },
    [0x0006_0005_0270_0012, 0x0100_0a81]
)]
// From EDK2.
#[case(Command::TlbiEl2All, [0x20, 0])]
#[case(Command::TlbiEl2Asid { asid: Asid(0xffff) }, [0xffff_0000_0000_0021, 0])]
#[case(
    Command::TlbiEl2Va { asid: Asid(9), span: Span::single(Iova(0x8000), Leaf::Last).unwrap() },
    [0x0009_0000_0000_0022, 0x8001]
)]
#[case(
    Command::TlbiEl2Vaa { span: Span::single(Iova(0x8000), Leaf::All).unwrap() },
    [0x0000_0000_0000_0023, 0x8000]
)]
#[case(Command::TlbiS12Vmall { vmid: Vmid(5) }, [0x0000_0005_0000_0028, 0])]
#[case(
    Command::TlbiS2Ipa { vmid: Vmid(5), span: ranged(Ipa(0x20_0000), 0, 9, LevelHint::Bits64(Level::L2)) },
    [0x0000_0005_0090_002a, 0x20_0601]
)]
#[case(Command::TlbiNsnhAll, [0x30, 0])]
// What Linux's driver sends.
#[case(
    Command::AtcInv {
        stream: StreamId(0x123),
        substream: Some(substream(7)),
        scope: AtcScope::Substream,
        span: AtcSpan::new(Iova(0x8000), 2).unwrap(),
    },
    [0x0000_0123_0000_7840, 0x8002]
)]
// From Linux: bit 9 is Global.
#[case(
    Command::AtcInv {
        stream: StreamId(0x123),
        substream: Some(substream(7)),
        scope: AtcScope::Global,
        span: AtcSpan::EVERYTHING,
    },
    [0x0000_0123_0000_7a40, 52]
)]
#[case(
    Command::PriResp {
        stream: StreamId(0x123),
        substream: Some(substream(7)),
        group: PrgIndex::new(0x1ff).unwrap(),
        response: PriResponse::Success,
    },
    [0x0000_0123_0000_7841, 0x21ff]
)]
#[case(
    Command::PriResp {
        stream: StreamId(0x123),
        substream: None,
        group: PrgIndex::new(1).unwrap(),
        response: PriResponse::Invalid,
    },
    [0x0000_0123_0000_0041, 0x1001]
)]
#[case(
    Command::PriResp {
        stream: StreamId(0x123),
        substream: None,
        group: PrgIndex::new(1).unwrap(),
        response: PriResponse::Failure,
    },
    [0x0000_0123_0000_0041, 0x1]
)]
// From EDK2 and Linux.
#[case(
    Command::Resume { stream: StreamId(0x123), tag: 0xabcd, action: ResumeAction::Terminate },
    [0x0000_0123_0000_0044, 0xabcd]
)]
#[case(
    Command::Resume { stream: StreamId(0x123), tag: 0xabcd, action: ResumeAction::Retry },
    [0x0000_0123_0000_1044, 0xabcd]
)]
#[case(
    Command::Resume { stream: StreamId(0x123), tag: 0xabcd, action: ResumeAction::Abort },
    [0x0000_0123_0000_2044, 0xabcd]
)]
#[case(Command::StallTerm { stream: StreamId(0x123) }, [0x0000_0123_0000_0045, 0])]
// What Linux's driver sends.
#[case(Command::SYNC, [0x0fc0_0046, 0])]
// What FreeBSD's driver sends.
#[case(Command::sync(Completion::Event), [0x0fc0_2046, 0])]
#[case(
    Command::sync(Completion::Msi(SyncMsi::new(PhysAddr(0x8_1000_0004), 0).unwrap())),
    [0x0fc0_1046, 0x8_1000_0004]
)]
// From EDK2: MSH 2 is 0x0080_0000, MSIAttr 5 is 0x0500_0000.
#[case(
    Command::Sync {
        completion: Completion::Msi(SyncMsi::new(PhysAddr(0x1000), 0xdead_beef).unwrap()),
        attributes: MsiAttributes::new(Shareability::Outer, 5).unwrap(),
    },
    [0xdead_beef_0580_1046, 0x1000]
)]
#[case(Command::DptiAll, [0x70, 0])]
fn whole_commands(#[case] command: Command, #[case] words: [u64; 2]) {
    assert_eq!(command.encode(), RawCommand(words), "{command}");
    assert_eq!(Command::decode(RawCommand(words)), command);
    fields_are_what_was_put_in(command);
}

/// The operands of a command, by the architecture's names.
fn operands(command: Command) -> Vec<(&'static str, u64)> {
    fn optional(substream: Option<SubstreamId>) -> Vec<(&'static str, u64)> {
        match substream {
            Some(s) => vec![("SSV", 1), ("SubstreamID", s.get().into())],
            None => vec![("SSV", 0), ("SubstreamID", 0)],
        }
    }
    fn of<A: SpanAddress>(span: Span<A>) -> Vec<(&'static str, u64)> {
        let tg = match span.tg().granule() {
            None => 0,
            Some(Granule::K4) => 1,
            Some(Granule::K16) => 2,
            Some(Granule::K64) => 3,
        };
        vec![
            ("Address", span.start()),
            ("Leaf", (span.leaf() == Leaf::Last).into()),
            ("NUM", span.num().into()),
            ("SCALE", span.scale().into()),
            ("TG", tg),
            ("TTL", span.hint().ttl().into()),
            ("TTL128", span.hint().ttl128().into()),
        ]
    }
    let sid = |s: StreamId| ("StreamID", u64::from(s.0));
    let vm = |v: Vmid| ("VMID", u64::from(v.0));
    let asp = |a: Asid| ("ASID", u64::from(a.0));
    let leaf = |l: Leaf| ("Leaf", u64::from(l == Leaf::Last));
    match command {
        Command::PrefetchConfig { stream, substream } => {
            [vec![sid(stream)], optional(substream)].concat()
        }
        Command::PrefetchAddr { stream, substream, span } => {
            let span = [
                ("Address", span.address().0),
                ("Stride", span.stride().into()),
                ("Size", span.size().into()),
            ];
            [vec![sid(stream)], optional(substream), span.to_vec()].concat()
        }
        Command::CfgiSte { stream, leaf: l } => vec![sid(stream), leaf(l)],
        Command::CfgiSteRange { stream, range } => {
            vec![sid(stream), ("Range", range.get().into())]
        }
        Command::CfgiAll => vec![("Range", 31)],
        Command::CfgiCd { stream, substream, leaf: l } => {
            vec![sid(stream), ("SubstreamID", substream.get().into()), leaf(l)]
        }
        Command::CfgiCdAll { stream } | Command::StallTerm { stream } => vec![sid(stream)],
        Command::CfgiVmsPidm { vmid }
        | Command::TlbiNhAll { vmid }
        | Command::TlbiS12Vmall { vmid } => vec![vm(vmid)],
        Command::TlbiNhAsid { vmid, asid } => vec![vm(vmid), asp(asid)],
        Command::TlbiNhVa { vmid, asid, span } => [vec![vm(vmid), asp(asid)], of(span)].concat(),
        Command::TlbiNhVaa { vmid, span } => [vec![vm(vmid)], of(span)].concat(),
        Command::TlbiEl2Asid { asid } => vec![asp(asid)],
        Command::TlbiEl2Va { asid, span } => [vec![asp(asid)], of(span)].concat(),
        Command::TlbiEl2Vaa { span } => of(span),
        Command::TlbiS2Ipa { vmid, span } => [vec![vm(vmid)], of(span)].concat(),
        Command::AtcInv { stream, substream, scope, span } => {
            let rest = [
                ("Global", (scope == AtcScope::Global).into()),
                ("Address", span.address().0),
                ("Size", span.size().into()),
            ];
            [vec![sid(stream)], optional(substream), rest.to_vec()].concat()
        }
        Command::PriResp { stream, substream, group, response } => {
            let rest = [("PRGIndex", group.get().into()), ("Resp", response as u64)];
            [vec![sid(stream)], optional(substream), rest.to_vec()].concat()
        }
        Command::Resume { stream, tag, action } => vec![
            sid(stream),
            ("STAG", tag.into()),
            ("Ac", (action == ResumeAction::Retry).into()),
            ("Ab", (action == ResumeAction::Abort).into()),
        ],
        Command::Sync { completion, attributes } => {
            let how = vec![
                ("MSH", attributes.shareability() as u64),
                ("MSIAttr", attributes.memory().into()),
            ];
            let signal = match completion {
                Completion::Msi(msi) => {
                    vec![("CS", 1), ("MSIData", msi.data().into()), ("MSIAddress", msi.address().0)]
                }
                Completion::None => vec![("CS", 0)],
                Completion::Interrupt => vec![("CS", 1)],
                Completion::Event => vec![("CS", 2)],
                other => panic!("{other:?} has no operands here"),
            };
            [signal, how].concat()
        }
        Command::TlbiEl2All | Command::TlbiNsnhAll | Command::DptiAll => vec![],
        other => panic!("{other} has no operands here"),
    }
}

/// The table and the encoder agree: every field has the operand's value, and no other bit is set.
fn fields_are_what_was_put_in(put_in: Command) {
    let raw = put_in.encode();
    let layout = command(raw.opcode()).unwrap();
    let operands = operands(put_in);
    for (name, value) in &operands {
        let field = layout.field(name).unwrap_or_else(|| panic!("{put_in}: no {name}"));
        assert_eq!(field.get(&raw.0), *value, "{put_in}: {name}");
    }
    for field in layout.split(&raw.0) {
        let name = field.field.name();
        if !operands.iter().any(|(n, _)| *n == name) && name != "Opcode" {
            assert_eq!(field.value, 0, "{put_in}: {name}");
        }
        assert!(!field.is_reserved(), "{put_in}: {name}");
    }
    assert_eq!(layout.residue(&raw.0).next(), None, "{put_in}");
}

/// Any words decode, and encode to the same words. A typed command agrees with its table.
#[test]
fn decoding_is_total_and_loses_nothing() {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let mut typed = 0;
    for round in 0..400_000u64 {
        // Mostly few bits, so that reserved ones are often clear.
        let mut word = || random.next() & random.next() & random.next() & random.next();
        let (w0, w1) = (word(), word());
        let opcode = round & 0xff;
        let layout = command(opcode as u8);
        let fields = |word: usize| {
            let fields = layout.iter().flat_map(|layout| layout.fields());
            fields.filter(|field| field.word() == word).fold(0, |all, field| all | field.mask())
        };
        // Every second round within the fields of the table.
        let (m0, m1) = match round >> 8 & 1 {
            0 => (u64::MAX, u64::MAX),
            _ => (fields(0), fields(1)),
        };
        let raw = RawCommand([w0 & m0 & !0xff | opcode, w1 & m1]);
        let command = Command::decode(raw);
        assert_eq!(command.encode(), raw, "{command}");
        if !matches!(command, Command::Unknown(_)) {
            typed += 1;
            fields_are_what_was_put_in(command);
        }
    }
    assert!(typed > 5_000, "only {typed} commands were typed");
}

/// TF-RMM's and Odyssey's `CMDQ_CONS.ERR`, bits 30:24 (FreeBSD as well).
#[rstest]
#[case(0, CommandErrorCode::NONE, "CERROR_NONE")]
#[case(1, CommandErrorCode::ILL, "CERROR_ILL")]
#[case(2, CommandErrorCode::ABT, "CERROR_ABT")]
#[case(3, CommandErrorCode::ATC_INV_SYNC, "CERROR_ATC_INV_SYNC")]
#[case(4, CommandErrorCode(4), "CERROR 0x4")]
fn error_codes(#[case] code: u32, #[case] want: CommandErrorCode, #[case] text: &str) {
    let cons = 0x800f_ffff | code << 24;
    assert_eq!(regs::cmdq_cons::error(cons), want);
    assert_eq!(want.to_string(), text);
}
