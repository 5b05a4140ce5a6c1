//! STEs, CDs and stream tables, and the commands that drop them.

use rstest::rstest;
use smmu_types::seam::RegistersExt;
use smmu_types::{Command, EventKind, Leaf, PhysAddr, SteRange, StreamId, SubstreamId, regs};

use super::model_rig::{A, B, IOVA, ModelRig, OTHER, RAM, S1_RW, S2_RW, SID, cfgi_cd, cfgi_ste};
use crate::{Hazard, Profile};

/// 5.4 and 5.2: a CD whose TG0, and an STE whose S2TG, selects a granule that the SMMU lacks (IDR5)
/// is illegal.
#[rstest]
#[case::all(true, true, true, true)]
#[case::large(false, true, true, false)]
#[case::small(true, false, false, true)]
#[case::largest(false, false, true, false)]
fn a_granule_that_the_smmu_lacks_is_illegal(
    #[case] granule_4k: bool,
    #[case] granule_16k: bool,
    #[case] granule_64k: bool,
    #[case] legal: bool,
) {
    let profile = Profile { granule_4k, granule_16k, granule_64k, ..Profile::default() };
    let rig = ModelRig::with(profile);
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), legal.then_some(A));
    let root = rig.stage2(OTHER, 3);
    rig.map(root, IOVA, A, S2_RW);
    assert_eq!(rig.dma(OTHER, IOVA), legal.then_some(A));
    let refused = [format!("C_BAD_CD sid={SID}"), format!("C_BAD_STE sid={OTHER}")];
    assert_eq!(rig.event_lines(), if legal { &[][..] } else { &refused });
    assert_eq!(rig.missing(), Vec::<String>::new());
}

/// Two tables that map one address to A and to B. The stream has used the first.
fn warm() -> (ModelRig, u64) {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW);
    let second = rig.table();
    rig.map(second, IOVA, B, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    (rig, second)
}

fn range(stream: u32, range: u8) -> Command {
    Command::CfgiSteRange { stream: StreamId(stream), range: SteRange::new(range).unwrap() }
}

// The driver replaces the CD by one with another ASID and table.
#[rstest]
#[case::none(None, A)]
#[case::cd(Some(cfgi_cd(SID)), B)]
#[case::cd_all(Some(Command::CfgiCdAll { stream: SID }), B)]
#[case::ste(Some(cfgi_ste(SID)), B)]
#[case::ste_all_levels(Some(Command::CfgiSte { stream: SID, leaf: Leaf::All }), B)]
#[case::all(Some(Command::CfgiAll), B)]
#[case::range(Some(range(9, 0)), B)]
#[case::cd_of_another(Some(cfgi_cd(OTHER)), A)]
#[case::ste_of_another(Some(cfgi_ste(OTHER)), A)]
#[case::wider_range(Some(range(0x10, 4)), B)]
#[case::range_of_others(Some(range(0x10, 3)), A)]
#[case::another_substream(
    Some(Command::CfgiCd { stream: SID, substream: SubstreamId::new(1).unwrap(), leaf: Leaf::Last }),
    A
)]
#[case::tlbi(Some(Command::TlbiNsnhAll), A)]
fn a_changed_cd_is_seen_after(#[case] command: Option<Command>, #[case] reached: u64) {
    let (rig, second) = warm();
    rig.write_cd(SID, 6, second);
    rig.run(command.as_slice());
    let expected: &[&str] = if reached == A { &["CFGI_CD sid=0x8 ssid=0x0 leaf=1"] } else { &[] };
    assert_eq!(rig.audit(), expected);
    assert_eq!(rig.dma(SID, IOVA), Some(reached));
    assert_eq!(rig.missing(), expected);
}

// The driver replaces the STE by one that aborts.
#[rstest]
#[case::none(None, Some(A))]
#[case::ste(Some(cfgi_ste(SID)), None)]
#[case::all(Some(Command::CfgiAll), None)]
#[case::range(Some(range(0, 4)), None)]
#[case::cd(Some(cfgi_cd(SID)), Some(A))]
#[case::another(Some(cfgi_ste(OTHER)), Some(A))]
fn a_changed_ste_is_seen_after(#[case] command: Option<Command>, #[case] reached: Option<u64>) {
    let (rig, _) = warm();
    rig.put(rig.ste(SID), 1);
    rig.run(command.as_slice());
    let expected: &[&str] = if reached.is_some() { &["CFGI_STE sid=0x8 leaf=1"] } else { &[] };
    assert_eq!(rig.dma(SID, IOVA), reached);
    assert_eq!(rig.missing(), expected);
    assert_eq!(rig.events(), [], "an abort STE is silent");
}

#[test]
fn valid_and_invalid_stes_stay_cached_until_cfgi_ste() {
    let (rig, _) = warm();
    let ste = rig.get(rig.ste(SID));
    rig.put(rig.ste(SID), 0);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.dma(SID, IOVA), None);
    rig.missing();
    // The SMMU caches the invalid STE as well.
    rig.put(rig.ste(SID), ste);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!(rig.missing(), ["CFGI_STE sid=0x8 leaf=1"]);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.event_lines(), ["C_BAD_STE sid=0x8"; 2]);
}

#[test]
fn unused_bits_may_differ() {
    let (rig, _) = warm();
    rig.put(rig.ste(SID) + 24, 0xffff_ffff_ffff_ffff);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.missing(), Vec::<String>::new());
}

#[test]
fn an_invalidation_before_the_change_does_not_help() {
    let (rig, second) = warm();
    rig.run(&[cfgi_ste(SID)]);
    rig.write_cd(SID, 6, second);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.missing(), ["CFGI_CD sid=0x8 ssid=0x0 leaf=1"]);
}

#[test]
fn bypass_and_abort() {
    let rig = ModelRig::new();
    rig.put(rig.ste(SID), 1 | 4 << 1);
    rig.put(rig.ste(OTHER), 1);
    rig.run(&[cfgi_ste(SID), cfgi_ste(OTHER)]);
    assert_eq!(rig.dma(SID, A), Some(A));
    assert_eq!(rig.dma(OTHER, A), None);
    assert_eq!(rig.dma(SID, 1 << 20), None, "nothing answers there");
    assert_eq!(rig.events(), []);
    assert_eq!(rig.dma(SID, 1 << 44), None);
    assert_eq!(
        rig.event_lines(),
        ["F_ADDR_SIZE sid=0x8 write iova=0x100000000000 class=IN stage=1"]
    );
}

#[rstest]
#[case::as_built(0, 0, Some(A))]
#[case::invalid(1 << 31, 0, None)]
#[case::aarch32(1 << 41, 0, None)]
#[case::no_abort(1 << 46, 0, None)]
#[case::stall(0, 1 << 44, None)]
#[case::hardware_access_flag(0, 1 << 43, None)]
#[case::big_endian(0, 1 << 15, None)]
#[case::t0sz_12(0x3f, 12, None)]
#[case::t0sz_40(0x3f, 40, None)]
#[case::granule(3 << 6, 1 << 6, None)]
#[case::table_beyond_ips(7 << 32, 0, Some(A))]
#[case::ips_above_oas(7 << 32, 6 << 32, Some(A))]
#[case::reserved_ips(7 << 32, 7 << 32, Some(A))]
fn cd_checks(#[case] clear: u64, #[case] set: u64, #[case] reached: Option<u64>) {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW);
    let cd = rig.cd(SID);
    rig.put(cd, rig.get(cd) & !clear | set);
    rig.run(&[cfgi_cd(SID)]);
    assert_eq!(rig.dma(SID, IOVA), reached);
    let refused: &[&str] = if reached.is_none() { &["C_BAD_CD sid=0x8"] } else { &[] };
    assert_eq!(rig.event_lines(), refused);
}

#[test]
fn a_table_beyond_the_output_size_is_illegal() {
    let rig = ModelRig::new();
    rig.write_stage1(SID, 5, 1 << 45);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!(rig.event_lines(), ["C_BAD_CD sid=0x8"]);
}

#[rstest]
#[case::as_built(0, 0, Some(A))]
#[case::substreams_are_ignored(1 << 59, 0, Some(A))]
#[case::stall_disable(0, 1 << 27, None)]
#[case::stream_world_without_el2(0, 2 << 30, Some(A))]
fn ste_checks(#[case] w0: u64, #[case] w1: u64, #[case] reached: Option<u64>) {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW);
    rig.put(rig.ste(SID), rig.get(rig.ste(SID)) | w0);
    rig.put(rig.ste(SID) + 8, w1);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.dma(SID, IOVA), reached);
    let refused: &[&str] = if reached.is_none() { &["C_BAD_STE sid=0x8"] } else { &[] };
    assert_eq!(rig.event_lines(), refused);
}

#[test]
fn the_upper_table_is_unsupported() {
    let (rig, _) = warm();
    rig.put(rig.cd(SID), rig.get(rig.cd(SID)) & !(1 << 30));
    rig.run(&[cfgi_cd(SID)]);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert!(matches!(rig.model.take_hazards()[..], [Hazard::Unsupported { .. }]));
}

#[test]
fn without_walks_only_cached_lines_serve() {
    let (rig, _) = warm();
    rig.put(rig.cd(SID), rig.get(rig.cd(SID)) | 1 << 14);
    rig.run(&[cfgi_cd(SID)]);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    let expected = [format!("TLBI_NH_VA vmid=0 asid=5 va={IOVA:#x} leaf=1")];
    assert_eq!(rig.missing(), expected);
    assert_eq!(rig.audit(), expected);
    rig.run(&[Command::TlbiNsnhAll]);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!(rig.event_lines().len(), 1);
}

const L1: u64 = RAM + 0x3_0000;
const L2: u64 = RAM + 0x18_0000;

/// A two-level table, in which stream 0x108 has an entry below `descriptor`.
fn two_level(profile: Profile, descriptor: u64) -> ModelRig {
    let rig = ModelRig::off(profile);
    rig.bring_up();
    let r = &rig.regs;
    r.write(regs::CR0, regs::cr0::CMDQEN | regs::cr0::EVENTQEN);
    r.write(regs::STRTAB_BASE, L1);
    r.write(regs::STRTAB_BASE_CFG, 1 << 16 | 8 << 6 | 16);
    rig.put(L1 + 8, descriptor);
    let root = rig.table();
    rig.map(root, IOVA, A, S1_RW);
    rig.write_cd(SID, 5, root);
    rig.put(L2 + 8 * 64, 1 | 5 << 1 | rig.cd(SID));
    r.write(regs::CR0, 0xd);
    rig
}

const DEEP: StreamId = StreamId(0x108);

#[rstest]
#[case::full(L2 | 9, Some(A))]
#[case::just_enough(L2 | 5, Some(A))]
#[case::too_short(L2 | 4, None)]
#[case::inactive(L2, None)]
#[case::reserved(L2 | 12, None)]
#[case::more_than_the_split(L2 | 10, None)]
fn two_level_tables(#[case] descriptor: u64, #[case] reached: Option<u64>) {
    let rig = two_level(Profile::default(), descriptor);
    assert_eq!(rig.dma(DEEP, IOVA), reached);
    assert_eq!(rig.dma(StreamId(0x8), IOVA), None, "no descriptor there");
    let bad = usize::from(reached.is_none()) + 1;
    let events = rig.event_lines();
    assert_eq!(events.len(), bad);
    assert!(events.iter().all(|e| e.starts_with("C_BAD_STREAMID")));
    assert_eq!(rig.missing(), Vec::<String>::new());
}

/// A fetch that aborts tells the address of the descriptor, not of what it would lead to (7.3.4, 7.3.10).
#[test]
fn level_1_descriptors_that_cannot_be_read() {
    const HOLE: u64 = 0x8000_0000;
    let profile = Profile { substream_bits: 12, two_level_cd: true, ..Profile::default() };
    let rig = two_level(profile, L2 | 9);
    // A table of CDs of two levels with 2^12 of them; S1DSS = 2, so that a plain DMA has CD 0.
    rig.put_all(L2 + 8 * 64, &[1 | 5 << 1 | 1 << 4 | 12 << 59 | HOLE, 2]);
    rig.run(&[cfgi_ste(DEEP)]);
    assert_eq!(rig.dma(DEEP, IOVA), None);
    rig.regs.write(regs::CR0, 0xc);
    rig.regs.write(regs::STRTAB_BASE, HOLE);
    rig.regs.write(regs::CR0, 0xd);
    rig.run(&[Command::CfgiAll]);
    assert_eq!(rig.dma(DEEP, IOVA), None);
    let events: Vec<_> = rig.events().iter().map(|e| (e.kind(), e.fetch_address())).collect();
    let at = |address| Some(PhysAddr(address));
    assert_eq!(events, [(EventKind::F_CD_FETCH, at(HOLE)), (EventKind::F_STE_FETCH, at(HOLE + 8))]);
    assert_eq!(rig.missing(), Vec::<String>::new());
}

/// 6.3.25: with `LOG2SIZE` below `SPLIT` there is one descriptor, and no StreamID at or beyond
/// 2^`LOG2SIZE` is usable, also if `Span` reaches it.
#[rstest]
#[case::one_stream(0, 0, false)]
#[case::last(4, 0xf, true)]
#[case::beyond(4, 0x10, false)]
#[case::last_but_one_bit(7, 0x7f, true)]
#[case::beyond_half(7, 0x80, false)]
#[case::next_descriptor(7, 0x100, false)]
fn a_two_level_table_within_one_second_level(
    #[case] log2: u32,
    #[case] stream: u32,
    #[case] reached: bool,
) {
    let rig = two_level(Profile::default(), 0);
    let r = &rig.regs;
    r.write(regs::CR0, regs::cr0::CMDQEN | regs::cr0::EVENTQEN);
    r.write(regs::STRTAB_BASE_CFG, 1 << 16 | 8 << 6 | log2);
    // All streams but the first.
    for n in 1..0x100 {
        rig.put(L2 + n * 64, 1 | 5 << 1 | rig.cd(SID));
    }
    rig.put(L1, L2 | 9);
    rig.put(L1 + 8, L2 | 9);
    r.write(regs::CR0, 0xd);
    assert_eq!(rig.dma(StreamId(stream), IOVA), reached.then_some(A));
    let bad = [format!("C_BAD_STREAMID sid={stream:#x}")];
    let bad_ste = [format!("C_BAD_STE sid={stream:#x}")];
    let refused = if stream == 0 { &bad_ste } else { &bad };
    assert_eq!(rig.event_lines(), if reached { &[][..] } else { refused });
    assert_eq!(rig.missing(), Vec::<String>::new());
}

#[test]
fn a_level_1_descriptor_is_cached_even_when_inactive() {
    let rig = two_level(Profile::default(), 0);
    assert_eq!(rig.dma(DEEP, IOVA), None);
    rig.put(L1 + 8, L2 | 9);
    rig.run(&[cfgi_ste(DEEP)]);
    assert_eq!(rig.dma(DEEP, IOVA), None);
    assert_eq!(rig.missing(), ["CFGI_STE sid=0x108 leaf=0"]);
    rig.run(&[Command::CfgiSte { stream: DEEP, leaf: Leaf::All }]);
    assert_eq!(rig.dma(DEEP, IOVA), Some(A));
    assert_eq!(rig.missing(), Vec::<String>::new());
    // The reverse: a descriptor that the driver removed stays in use.
    rig.put(L1 + 8, 0);
    rig.run(&[cfgi_ste(DEEP)]);
    assert_eq!(rig.dma(DEEP, IOVA), Some(A));
    assert_eq!(rig.audit(), ["CFGI_STE sid=0x108 leaf=0", "CFGI_STE sid=0x108 leaf=1"]);
    rig.run(&[range(DEEP.0, 3)]);
    assert_eq!(rig.dma(DEEP, IOVA), None);
}

/// 5.1.1: no stream below the descriptor has an STE, in memory or in the cache. The audit names the
/// first that could.
#[test]
fn a_stale_level_1_descriptor_needs_no_stream() {
    let rig = two_level(Profile::default(), 0);
    rig.put(L2 + 8 * 64, 0);
    assert_eq!(rig.dma(DEEP, IOVA), None);
    assert_eq!(rig.audit(), Vec::<String>::new());
    rig.put(L1 + 8, L2 | 9);
    assert_eq!(rig.audit(), ["CFGI_STE sid=0x100 leaf=0"]);
    rig.run(&[Command::CfgiSte { stream: DEEP, leaf: Leaf::All }]);
    assert_eq!(rig.audit(), Vec::<String>::new());
}

#[test]
fn a_stream_beyond_the_table_is_recorded_on_request_only() {
    let rig = ModelRig::new();
    assert_eq!(rig.dma(StreamId(0x100), IOVA), None);
    assert_eq!(rig.event_lines(), ["C_BAD_STREAMID sid=0x100"]);
    rig.regs.write(regs::CR0, 0xc);
    rig.regs.write(regs::CR2, 0);
    rig.regs.write(regs::CR0, 0xd);
    assert_eq!(rig.dma(StreamId(0x100), IOVA), None);
    assert_eq!(rig.dma(StreamId(u32::MAX), IOVA), None);
    assert_eq!(rig.events(), []);
}

#[test]
fn switching_translation_off_and_on_drops_nothing() {
    let (rig, second) = warm();
    rig.regs.write(regs::CR0, 0xc);
    rig.write_cd(SID, 6, second);
    rig.regs.write(regs::CR0, 0xd);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.missing().len(), 1);
    rig.model.reset();
    rig.bring_up();
    assert_eq!(rig.dma(SID, IOVA), Some(B));
}
