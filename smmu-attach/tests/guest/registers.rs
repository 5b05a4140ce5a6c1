//! The ID registers of a guest: vectors by hand, bounds, and why there are none.

use rstest::rstest;
use smmu_attach::guest::{Emulation, GuestIdsError, guest_ids};
use smmu_types::{IdRegisters, OutputSize};

use crate::checks::{PLAIN, RICH, World};

const LEAST: Emulation = Emulation::new(OutputSize::Bits48);

#[test]
fn a_guest_of_one_host_has_its_stage_1() {
    // S1P, TTF = 2, COHACC, ASID16, TTENDIAN = 2, STALL_MODEL = 1, TERM_MODEL, ST_LEVEL.
    assert_eq!(World::plain().ids.idr0, 0x0d40_101a);
    // HAD, RIL, BBML = 2; no XNX.
    let ids = World::plain().ids;
    assert_eq!((ids.idr1, ids.idr3, ids.idr5, ids.aidr), (0x0273_0010, 0x1404, 0x74, 1));
    // S1P, TTF = 3, COHACC, HTTU = 2, ATS, PRI, CD2L, ST_LEVEL.
    let ids = World::rich().ids;
    assert_eq!(ids.idr0, 0x0809_049e);
    // No override of attributes. HAD and RIL; BBML = 3 is reserved.
    assert_eq!((ids.idr1, ids.idr3, ids.idr5, ids.aidr), (0x0273_9d20, 0x0404, 0x0040_0075, 2));
    // S1P, TTF = 3, COHACC, CD2L, STALL_MODEL = 1, ST_LEVEL; no substreams and no PRI queue.
    let ids = World::modest().ids;
    assert_eq!((ids.idr0, ids.idr1, ids.idr5), (0x0908_001e, 0x0273_0020, 0x75));
}

#[test]
fn a_guest_of_two_hosts_has_what_both_have() {
    let ids = guest_ids(&[PLAIN, RICH], &LEAST).unwrap();
    // TTF = 2, TTENDIAN = 2, STALL_MODEL = 1, TERM_MODEL = 1 of the plain one; no ASID16 in the rich.
    assert_eq!(ids.idr0, 0x0d40_001a);
    // BBML = 3 of the rich one is reserved, and counts as level 0.
    assert_eq!((ids.idr1, ids.idr3, ids.idr5, ids.aidr), (0x0273_0010, 0x0404, 0x74, 1));
}

#[test]
fn the_emulation_bounds_what_a_guest_sees() {
    let mut emulation = LEAST;
    emulation.two_level_stream_table = false;
    emulation.stream_bits = 8;
    emulation.substream_bits = 10;
    emulation.cmdq_log2 = 7;
    emulation.eventq_log2 = 6;
    emulation.priq_log2 = 5;
    emulation.output_size = OutputSize::Bits40;
    (emulation.ats, emulation.page_requests) = (true, true);
    (emulation.msi, emulation.sev) = (true, true);
    let ids = guest_ids(&[RICH], &emulation).unwrap();
    // MSI and SEV; neither ST_LEVEL nor HTTU.
    assert_eq!(ids.idr0, 0x0109_641e);
    assert_eq!(ids.idr1, 7 << 21 | 6 << 16 | 5 << 11 | 10 << 6 | 8);
    assert_eq!(ids.idr5, 0x72);
    // Page requests come with ATS.
    emulation.ats = false;
    let ids = guest_ids(&[RICH], &emulation).unwrap();
    assert_eq!((ids.idr0 >> 16 & 1, ids.idr1 >> 11 & 0x1f), (0, 0));
    // Sizes beyond the architecture's are cut to it.
    let vast = IdRegisters { idr1: 0x03ff_ffff, ..RICH };
    let mut most = LEAST;
    (most.ats, most.page_requests) = (true, true);
    for size in [
        &mut most.stream_bits,
        &mut most.substream_bits,
        &mut most.cmdq_log2,
        &mut most.eventq_log2,
        &mut most.priq_log2,
    ] {
        *size = u8::MAX;
    }
    let ids = guest_ids(&[vast], &most).unwrap();
    assert_eq!(ids.idr1, 19 << 21 | 19 << 16 | 19 << 11 | 20 << 6 | 32);
}

/// 52 and 56 bits need a version and 128-bit descriptors, which a guest is not told of.
#[rstest]
#[case::bits_56(7, 4, 1 << 8, 6)]
#[case::bits_56_of_an_old_version(7, 0, 0, 5)]
#[case::bits_52(6, 1, 0, 6)]
#[case::bits_52_of_an_old_version(6, 0, 0, 5)]
#[case::bits_48(5, 0, 0, 5)]
#[case::later_version(6, 9, 0, 6)]
fn the_output_size_is_one_of_the_common_version(
    #[case] oas: u32,
    #[case] aidr: u32,
    #[case] d128: u32,
    #[case] expected: u32,
) {
    let host = IdRegisters { idr5: RICH.idr5 & !7 | oas | d128, aidr, ..RICH };
    let ids = guest_ids(&[host], &Emulation::new(OutputSize::Bits56)).unwrap();
    assert_eq!((ids.idr5 & 7, ids.idr5 >> 8 & 1, ids.aidr), (expected, 0, aidr.min(4)));
}

#[rstest]
#[case::vax_reserved(3, 0)]
#[case::vax_56(2, 1)]
#[case::vax_52(1, 1)]
fn input_addresses_have_52_bits_at_most(#[case] vax: u32, #[case] expected: u32) {
    let host = IdRegisters { idr5: RICH.idr5 | vax << 10, ..RICH };
    assert_eq!(guest_ids(&[host], &LEAST).unwrap().idr5 >> 10 & 3, expected);
}

/// Features of stage 2 and of the machine, and those that a guest's STE cannot use.
#[test]
fn a_guest_is_told_of_nothing_that_is_the_hosts() {
    let all = IdRegisters {
        idr0: 0x4dff_ffff & !(3 << 21 | 3 << 24 | 1 << 28),
        idr1: u32::MAX,
        idr3: u32::MAX,
        idr5: u32::MAX,
        idr2: u32::MAX,
        idr4: u32::MAX,
        idr6: u32::MAX,
        iidr: u32::MAX,
        aidr: u32::MAX,
    };
    let ids = guest_ids(&[all], &LEAST).unwrap();
    let hidden =
        1 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11 | 3 << 13 | 1 << 15 | 3 << 17 | 1 << 20 | 1 << 30;
    assert_eq!(ids.idr0 & hidden, 0, "{:#x}", ids.idr0);
    assert_eq!(ids.idr1 >> 26, 0, "{:#x}", ids.idr1);
    // HAD, PPS, STT, RIL, E0PD, EPAN.
    assert_eq!(ids.idr3, 1 << 2 | 1 << 5 | 1 << 9 | 1 << 10 | 1 << 13 | 1 << 17);
    assert_eq!((ids.idr2, ids.idr4, ids.idr6, ids.iidr), (0, 0, 0, 0));
}

fn with(idr0: u32, idr1: u32, idr5: u32) -> IdRegisters {
    IdRegisters { idr0, idr1, idr5, ..PLAIN }
}

#[rstest]
#[case::empty(&[], "no SMMU")]
#[case::no_stage_2(&[PLAIN, with(0x0d44_101a, PLAIN.idr1, PLAIN.idr5)], "SMMU 1 has IDR0 = 0xd44101a")]
#[case::no_stage_1(&[with(0x0d44_1019, PLAIN.idr1, PLAIN.idr5)], "SMMU 0 has")]
#[case::stalls(&[PLAIN, with(0x0e44_101b, PLAIN.idr1, PLAIN.idr5)], "IDR0.STALL_MODEL = 1, another 2")]
#[case::forced(&[with(0x0e44_101b, PLAIN.idr1, PLAIN.idr5)], "always stall")]
#[case::stall_model(&[with(0x0f44_101b, PLAIN.idr1, PLAIN.idr5)], "STALL_MODEL is reserved")]
#[case::endian(&[PLAIN, with(0x0d64_101b, PLAIN.idr1, PLAIN.idr5)], "IDR0.TTENDIAN = 2, another 3")]
#[case::big_endian(&[with(0x0d64_101b, PLAIN.idr1, PLAIN.idr5)], "no little-endian tables")]
#[case::short_tables(&[PLAIN, with(0x0d44_1017, PLAIN.idr1, PLAIN.idr5)], "no VMSAv8-64 tables")]
#[case::granules(&[with(PLAIN.idr0, PLAIN.idr1, 0x14), with(PLAIN.idr0, PLAIN.idr1, 0x44)], "no granule")]
#[case::queue(&[with(PLAIN.idr0, 0x0013_0010, PLAIN.idr5)], "IDR1.CMDQS = 0")]
fn there_is_a_reason_if_no_registers_serve(#[case] hosts: &[IdRegisters], #[case] reason: &str) {
    let error = guest_ids(hosts, &LEAST).unwrap_err();
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn forced_stalls_serve_a_guest_whose_stalls_are_forwarded() {
    let forced = with(0x0e44_101b, PLAIN.idr1, PLAIN.idr5 | 8 << 16);
    assert_eq!(guest_ids(&[forced], &LEAST), Err(GuestIdsError::ForcedStalls));
    let mut emulation = LEAST;
    emulation.stalls = true;
    let ids = guest_ids(&[forced, RICH], &emulation).unwrap();
    assert_eq!((ids.idr0 >> 24 & 3, ids.idr5 >> 16), (2, 8));
}
