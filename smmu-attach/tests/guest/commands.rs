//! A guest's commands: vectors, refusals, and what stops a batch.

use rstest::rstest;
use smmu_attach::guest::{
    CommandReason, GuestConfig, HostEntry, Progress, Stop, StreamMap, StreamSet, VirtualDevice,
};
use smmu_types::{
    AtsMode, CommandErrorCode, Completion, MsiAttributes, RawCommand, SteRange, StreamId,
};

use crate::checks::{Mapped, World};

fn translated(world: &World, words: &[[u64; 2]]) -> (Progress, Vec<[u64; 2]>) {
    let batch: Vec<RawCommand> = words.iter().copied().map(RawCommand).collect();
    let mut out = vec![RawCommand::default(); 64];
    let progress = world.smmu.commands(&batch, &Mapped, &mut out);
    let out = out[..progress.written].iter().map(|raw| raw.0).collect();
    (progress, out)
}

/// Literal words of IHI 0070 and of Linux. The VMID is 0x2a; 8 is the host's 0x4100; 9 is its
/// 0x4201, 0x4202 and 0x4203.
#[rstest]
#[case::nsnh_all([0x30, 0], &[[0x0000_002a_0000_0010, 0]])]
#[case::nh_all([0x0000_0005_0000_0010, 0], &[[0x0000_002a_0000_0010, 0]])]
#[case::nh_asid([0x07cd_0005_0000_0011, 0], &[[0x07cd_002a_0000_0011, 0]])]
#[case::nh_va([0x07cd_0000_0000_0012, 0x1701], &[[0x07cd_002a_0000_0012, 0x1701]])]
#[case::nh_va_single([0x07cd_ffff_0000_0012, 0x1001], &[[0x07cd_002a_0000_0012, 0x1001]])]
#[case::nh_va_range([0x07cd_0000_0091_f012, 0x20_0600], &[[0x07cd_002a_0091_f012, 0x20_0600]])]
#[case::nh_vaa([0x0000_0000_0000_0013, 0x1001], &[[0x0000_002a_0000_0013, 0x1001]])]
#[case::cfgi_cd([0x0000_0008_0000_7005, 1], &[[0x0000_4100_0000_7005, 1]])]
#[case::cfgi_cd_all([0x0000_0008_0000_0006, 0], &[[0x0000_4100_0000_0006, 0]])]
#[case::three_streams([0x0000_0009_0000_0006, 0], &[
    [0x0000_4201_0000_0006, 0], [0x0000_4202_0000_0006, 0], [0x0000_4203_0000_0006, 0],
])]
#[case::atc_inv([0x0000_0008_0000_7840, 0x8002], &[[0x0000_4100_0000_7840, 0x8002]])]
#[case::atc_inv_all([0x0000_0008_0000_0040, 0x34], &[[0x0000_4100_0000_0040, 0x34]])]
#[case::atc_inv_global([0x0000_0008_0000_7a40, 0x8002], &[[0x0000_4100_0000_7a40, 0x8002]])]
#[case::resume([0x0000_0008_0000_1044, 0x21], &[[0x0000_4100_0000_1044, 0x21]])]
#[case::stall_term([0x0000_0009_0000_0045, 0], &[
    [0x0000_4201_0000_0045, 0], [0x0000_4202_0000_0045, 0], [0x0000_4203_0000_0045, 0],
])]
#[case::pri_resp([0x0000_0008_0000_7841, 0x2003], &[[0x0000_4100_0000_7841, 0x2003]])]
// Hints, a device without a stream of the host, and one without ATS.
#[case::prefetch_config([0x0000_7777_0000_0001, 0], &[])]
#[case::prefetch_addr([0x0000_7777_0000_0002, 0x1000], &[])]
#[case::no_stream([0x0000_000a_0000_0006, 0], &[])]
#[case::ats_is_off([0x0000_000b_0000_0040, 0x8002], &[])]
fn a_command_becomes(#[case] command: [u64; 2], #[case] host: &[[u64; 2]]) {
    let (progress, out) = translated(&World::rich(), &[command]);
    assert_eq!(out, host);
    assert_eq!(progress, Progress { done: 1, written: host.len(), stop: Stop::End });
    assert_eq!(progress.resume(), None);
}

/// Bits that the architecture ignores do not reach the host.
#[rstest]
// SSV = 0 with a SubstreamID.
#[case::substream([0x0000_0008_0000_7040, 0x8002], [0x0000_4100_0000_0040, 0x8002])]
// An address that is not aligned to its size.
#[case::address([0x0000_0008_0000_0040, 0xb002], [0x0000_4100_0000_0040, 0x8002])]
// A range with level 2 at 1 MiB, where no entry of level 2 begins: two pages of any level.
#[case::level([0x07cd_0000_0000_0012, 0x10_0600], [0x07cd_002a_0000_1012, 0x10_0400])]
// A retry with Ab = 1.
#[case::resume([0x0000_0008_0000_3044, 0x21], [0x0000_4100_0000_1044, 0x21])]
fn ignored_bits_are_dropped(#[case] command: [u64; 2], #[case] host: [u64; 2]) {
    assert_eq!(translated(&World::rich(), &[command]).1, [host]);
}

const HYP: &str = "no EL2 (IDR0.Hyp = 0)";
const STAGE2: &str = "no stage 2 (IDR0.S2P = 0)";

#[rstest]
#[case::el2_all([0x20, 0], CommandReason::Absent(HYP))]
#[case::el2_asid([0x07cd_0000_0000_0021, 0], CommandReason::Absent(HYP))]
#[case::el2_va([0x07cd_0000_0000_0022, 0x1001], CommandReason::Absent(HYP))]
#[case::el2_vaa([0x23, 0x1001], CommandReason::Absent(HYP))]
#[case::s12_vmall([0x0000_0005_0000_0028, 0], CommandReason::Absent(STAGE2))]
#[case::s2_ipa([0x0000_0005_0000_002a, 0x1001], CommandReason::Absent(STAGE2))]
#[case::vms([0x0000_0005_0000_0007, 0], CommandReason::Absent("no MPAM (IDR3.MPAM = 0)"))]
#[case::dpti([0x70, 0], CommandReason::Absent("no device permission table (IDR3.DPT = 0)"))]
#[case::opcode_0([0, 0], CommandReason::Reserved)]
#[case::opcode([0xff, 0], CommandReason::Reserved)]
#[case::secure([0x0000_0000_0000_0430, 0], CommandReason::Reserved)]
#[case::reserved_bit([0x30, 1], CommandReason::Reserved)]
#[case::reserved_signal([0x0000_3046, 0], CommandReason::Reserved)]
#[case::unknown_cd([0x0000_4100_0000_0006, 0], CommandReason::UnknownStream(StreamId(0x4100)))]
#[case::unknown_atc([0x0000_0007_0000_0040, 0x8002], CommandReason::UnknownStream(StreamId(7)))]
#[case::unknown_resume([0x0000_0007_0000_1044, 1], CommandReason::UnknownStream(StreamId(7)))]
#[case::resume_of_three([0x0000_0009_0000_1044, 1], CommandReason::NotOneStream { streams: 3 })]
#[case::pri_of_three([0x0000_0009_0000_0041, 0x2003], CommandReason::NotOneStream { streams: 3 })]
#[case::resume_of_none([0x0000_000a_0000_1044, 1], CommandReason::NotOneStream { streams: 0 })]
fn all_else_is_refused(#[case] command: [u64; 2], #[case] reason: CommandReason) {
    let flush = [0x30, 0];
    let (progress, out) = translated(&World::rich(), &[flush, command, flush]);
    let Stop::Refused(refusal) = progress.stop else { panic!("{progress:?}") };
    assert_eq!((refusal.index, refusal.command.0, refusal.reason), (1, command, reason));
    assert_eq!((progress.done, progress.written, out.len()), (1, 1, 1));
    assert_eq!((progress.resume(), progress.error_code()), (None, CommandErrorCode::ILL));
    let text = refusal.to_string();
    assert!(
        text.starts_with("command 1 of the guest") && text.ends_with(reason.remedy()),
        "{text}"
    );
    assert!(text.contains(&reason.to_string()), "{text}");
}

#[rstest]
#[case::atc_inv([0x0000_0008_0000_7840, 0x8002], "no ATS (IDR0.ATS = 0)")]
#[case::resume([0x0000_0008_0000_1044, 0x21], "no stalls (IDR0.STALL_MODEL = 1)")]
#[case::stall_term([0x0000_0008_0000_0045, 0], "no stalls (IDR0.STALL_MODEL = 1)")]
#[case::pri_resp([0x0000_0008_0000_7841, 0x2003], "no page requests (IDR0.PRI = 0)")]
fn a_guest_that_sees_less_may_send_less(#[case] command: [u64; 2], #[case] absent: &'static str) {
    let (progress, out) = translated(&World::modest(), &[command]);
    let Stop::Refused(refusal) = progress.stop else { panic!("{progress:?}") };
    assert_eq!((refusal.reason, out.len()), (CommandReason::Absent(absent), 0));
}

/// Range operands need IDR3.RIL, and the wide ones IDR5.DS and IDR5.D128 too. No world has these.
#[rstest]
#[case::scale([0x07cd_0000_0200_0012, 0x400], "SCALE of 31")]
#[case::wide_descriptors([0x07cd_0000_0000_0012, 0x1780], "128-bit descriptors")]
#[case::level_1_of_16k([0x07cd_0000_0000_0012, 0x0900], "level 1 of 16 KiB")]
fn operands_need_their_feature(#[case] command: [u64; 2], #[case] absent: &str) {
    for opcode in [0x12, 0x13] {
        let asid = if opcode == 0x13 { u64::MAX >> 16 } else { u64::MAX };
        let command = [command[0] & asid & !0xff | opcode, command[1]];
        let (progress, _) = translated(&World::rich(), &[command]);
        let Stop::Refused(refusal) = progress.stop else { panic!("{command:x?} {progress:?}") };
        assert!(refusal.reason.to_string().contains(absent), "{refusal}");
    }
}

#[rstest]
#[case::sync_none([0x0fc0_0046, 0], Completion::None)]
#[case::sync_sev([0x0fc0_2046, 0], Completion::Event)]
fn a_sync_is_the_hosts(#[case] command: [u64; 2], #[case] completion: Completion) {
    let flush = [0x30, 0];
    let (progress, out) = translated(&World::plain(), &[flush, command, flush]);
    assert_eq!(out.len(), 1);
    let attributes = MsiAttributes::WRITE_BACK;
    let stop = Stop::Sync { completion, attributes };
    assert_eq!(progress, Progress { done: 1, written: 1, stop });
    assert_eq!((progress.resume(), progress.error_code()), (Some(2), CommandErrorCode::NONE));
}

#[rstest]
#[case::one([0x0000_0008_0000_0003, 1], StreamSet::One(StreamId(8)))]
#[case::range([0x0000_0009_0000_0004, 3], StreamSet::Range(StreamId(9), SteRange::new(3).unwrap()))]
#[case::all([0x0000_0004, 0x1f], StreamSet::All)]
#[case::all_with_a_stream([0x0000_0009_0000_0004, 0x1f], StreamSet::All)]
fn changed_entries_are_the_hosts(#[case] command: [u64; 2], #[case] set: StreamSet) {
    let flush = [0x30, 0];
    let (progress, _) = translated(&World::plain(), &[flush, command, flush]);
    assert_eq!(progress, Progress { done: 1, written: 1, stop: Stop::Reread(set) });
    assert_eq!(progress.resume(), Some(2));
}

#[test]
fn a_set_has_the_streams_of_its_block() {
    let set =
        |stream: u32, range: u8| StreamSet::Range(StreamId(stream), SteRange::new(range).unwrap());
    // 2^(3 + 1) entries: 0 to 15.
    let members =
        |set: StreamSet| (0..64).filter(|id| set.contains(StreamId(*id))).collect::<Vec<_>>();
    assert_eq!(members(set(9, 3)), (0..16).collect::<Vec<_>>());
    assert_eq!(members(set(0x11, 0)), [0x10, 0x11]);
    assert_eq!(members(StreamSet::One(StreamId(9))), [9]);
    assert_eq!(members(StreamSet::All).len(), 64);
    assert!(set(0, 30).contains(StreamId(0x7fff_ffff)) && !set(0, 30).contains(StreamId(1 << 31)));
    assert!(set(u32::MAX, 30).contains(StreamId(1 << 31)));
}

#[test]
fn a_full_output_says_how_much_it_needs() {
    let world = World::rich();
    let batch = [[0x0000_0008_0000_0006, 0], [0x0000_0009_0000_0006, 0]].map(RawCommand);
    let mut out = [RawCommand([u64::MAX; 2]); 3];
    let progress = world.smmu.commands(&batch, &Mapped, &mut out);
    assert_eq!(progress, Progress { done: 1, written: 1, stop: Stop::OutputFull { needed: 3 } });
    assert_eq!(out[1..], [RawCommand([u64::MAX; 2]); 2], "a part of a translation was written");
    assert_eq!(progress.resume(), Some(1));
    // No loop over `resume` waits for room that never comes.
    let progress = world.smmu.commands(&batch[1..], &Mapped, &mut out[..2]);
    assert_eq!((progress.done, progress.resume()), (0, None));
    assert_eq!(progress.stop, Stop::OutputFull { needed: 3 });
    let progress = world.smmu.commands(&batch, &Mapped, &mut []);
    assert_eq!((progress.done, progress.stop), (0, Stop::OutputFull { needed: 1 }));
}

/// The host fails in the middle: the guest's queue stops at the first command that is not done.
#[test]
fn partial_progress_of_the_host_is_the_guests() {
    let world = World::rich();
    let prefetch = [0x0000_7777_0000_0001, 0];
    let batch = [prefetch, [0x30, 0], [0x0000_0009_0000_0006, 0], prefetch, [0x30, 0], [0x46, 0]]
        .map(RawCommand);
    let done = |host| world.smmu.done_after(&batch, &Mapped, host);
    // Three commands are one of the guest's.
    assert_eq!([0, 1, 2, 3, 4, 5, 6].map(done), [1, 2, 2, 2, 4, 5, 5]);
}

#[test]
fn a_slice_of_devices_is_a_map() {
    let (one, two) = ([StreamId(0x100)], [StreamId(0x200), StreamId(0x201)]);
    let entry = World::rich()
        .smmu
        .entry(
            &smmu_types::Ste([0x4000_000b, 1 << 28, 0, 0, 0, 0, 0, 0]),
            smmu_attach::guest::AtsPermission::Allowed,
        )
        .unwrap();
    let devices = [
        VirtualDevice { guest: StreamId(1), host: &one, entry },
        VirtualDevice { guest: StreamId(2), host: &two, entry: HostEntry::INVALID },
    ];
    let map = &devices[..];
    assert_eq!(
        map.host(StreamId(1)).map(|of| (of.streams, of.ats)),
        Some((&one[..], AtsMode::Full))
    );
    assert_eq!(
        map.host(StreamId(2)).map(|of| (of.streams, of.ats)),
        Some((&two[..], AtsMode::Off))
    );
    assert_eq!(map.host(StreamId(0x100)), None);
    let of = |host| map.guest(StreamId(host)).map(|of| (of.stream, of.config));
    assert_eq!(of(0x201), Some((StreamId(2), GuestConfig::Invalid)));
    assert_eq!(of(0x100), Some((StreamId(1), GuestConfig::Stage1)));
    assert_eq!(of(1), None);
}
