//! ATS: requests, translated transactions, `ATC_INV`, and the device's own switch (IHI 0070, 3.9).

use rstest::rstest;
use smmu_types::seam::RegistersExt;
use smmu_types::{AtcScope, AtcSpan, Command, CommandErrorCode, Iova, Leaf, StreamId, regs};

use super::model_rig::{
    A, B, IOVA, ModelRig, OTHER, S1_RW, S2_RW, SID, cd, cfgi_ste, nh_asid, nh_va, stage2_ste,
};
use super::queue::{acknowledge, error};
use super::substream_rig::{CDTAB, FULL_ATS, device, linear, profile, quiet, root_to, ssid, word0};
use crate::AtsDmaFailure::{NotPermitted, Refused, Request};
use crate::AtsRequestFailure::{Aborted, NoAccess, SwitchedOff, Unsupported};
use crate::{
    AtsDmaFailure, AtsRequestFailure, AtsSwitch, Hazard, InjectedFault, ModelDevice, Profile,
    WhileAtsOff,
};

/// `CR0` with `ATSCHK`, and without.
const CHECKED: u32 = 0x1d;
const UNCHECKED: u32 = 0xd;

fn with_ats() -> Profile {
    Profile { ats: true, ats_errors: true, ..profile() }
}

/// `SID` with full ATS and a linear table of CDs, whose default is CD 0. Its ATS is on.
fn on(profile: Profile) -> (ModelRig, ModelDevice) {
    let rig = linear(profile, 2 | FULL_ATS);
    rig.regs.write(regs::CR0, CHECKED);
    let device = device(&rig, SID, None);
    device.switch_ats(AtsSwitch::On);
    (rig, device)
}

fn atc_inv(stream: StreamId, substream: Option<u32>, iova: u64, size: u8) -> Command {
    let span = AtcSpan::new(Iova(iova), size).unwrap();
    let (substream, scope) = (substream.map(ssid), AtcScope::Substream);
    Command::AtcInv { stream, substream, scope, span }
}

fn everything(stream: StreamId) -> Command {
    atc_inv(stream, None, 0, AtcSpan::MAX_SIZE)
}

/// The number of entries in the ATC of `SID`.
fn cached(device: &ModelDevice) -> usize {
    device.atc_entries().len()
}

#[test]
fn dma_through_the_atc() {
    let (rig, device) = on(with_ats());
    let process = device.with_substream(ssid(1));
    assert_eq!((device.ats_read32(IOVA), process.ats_read32(IOVA)), (Ok(0xa), Ok(0xb)));
    process.ats_write32(IOVA + 8, 7).unwrap();
    assert_eq!(rig.get(B + 8), 7);
    let entries = device.atc_entries();
    let described: Vec<_> =
        entries.iter().map(|(s, t)| (s.map(|s| s.get()), t.iova.0, t.address.0, t.bytes)).collect();
    assert_eq!(described, [(None, IOVA, A, 0x1000), (Some(1), IOVA, B, 0x1000)]);
    // 3.9.1.2: a translation fault is a success without permissions, and no event.
    assert_eq!(device.ats_read32(IOVA + 0x1000), Err(Request(NoAccess)));
    assert_eq!((cached(&device), rig.event_lines()), (2, vec![]));
    device.switch_ats(AtsSwitch::Off);
    assert_eq!(device.ats_read32(IOVA), Err(Request(SwitchedOff)));
    assert_eq!(device.read32(IOVA), Ok(0xa), "untranslated");
    quiet(&rig);
}

#[test]
fn stage_2_alone_has_full_ats() {
    let rig = ModelRig::with(with_ats());
    let root = rig.table();
    rig.map_block(root, 0x4000_0000, 2, 0x4000_0000, S2_RW);
    let mut ste = stage2_ste(3, root);
    ste[1] |= FULL_ATS;
    rig.put_all(rig.ste(SID), &ste);
    rig.run(&[cfgi_ste(SID)]);
    let device = device(&rig, SID, None);
    device.switch_ats(AtsSwitch::On);
    device.ats_write32(A, 7).unwrap();
    assert_eq!((rig.get(A), device.atc_entries()[0].1.bytes), (7, 1 << 21));
    quiet(&rig);
}

const BAD_REQUEST: &str = "F_BAD_ATS_TREQ sid=0x8 iova=0x50000000 span=1 access=rw-";

// 3.9.1.2 and 5.2, EATS. With REC_CFG_ATS the SMMU records what is wrong with the configuration.
#[rstest]
#[case::off([word0(CDTAB, 0, 4), 2], Unsupported, [Some(BAD_REQUEST); 2])]
#[case::checked_by_a_dpt([word0(CDTAB, 0, 4), 2 | 3 << 28], Unsupported, [Some(BAD_REQUEST); 2])]
#[case::bypass([1 | 4 << 1, FULL_ATS], Unsupported, [Some(BAD_REQUEST); 2])]
#[case::abort([1, FULL_ATS], Unsupported, [None; 2])]
#[case::split_without_nesting(
    [word0(CDTAB, 0, 4), 2 | 2 << 28], Aborted, [None, Some("C_BAD_STE sid=0x8")]
)]
#[case::invalid([0, FULL_ATS], Aborted, [None, Some("C_BAD_STE sid=0x8")])]
#[case::terminate(
    [word0(CDTAB, 0, 4), FULL_ATS], Aborted, [None, Some("F_STREAM_DISABLED sid=0x8")]
)]
#[case::no_cd([word0(CDTAB + 0x400, 0, 4), 2 | FULL_ATS], Aborted, [None, Some("C_BAD_CD sid=0x8")])]
#[case::no_memory(
    [word0(0, 0, 4), 2 | FULL_ATS], Aborted, [None, Some("F_CD_FETCH sid=0x8 fetch=0x0")]
)]
fn a_request_that_the_smmu_refuses(
    #[case] ste: [u64; 2],
    #[case] expected: AtsRequestFailure,
    #[case] events: [Option<&str>; 2],
) {
    for (record, event) in [0, regs::cr2::REC_CFG_ATS].into_iter().zip(events) {
        let rig = linear(with_ats(), 2);
        rig.regs.write(regs::CR0, 0xc);
        rig.regs.write(regs::CR2, regs::cr2::RECINVSID | record);
        rig.regs.write(regs::CR0, CHECKED);
        rig.put_all(rig.ste(SID), &ste);
        rig.run(&[cfgi_ste(SID)]);
        let device = device(&rig, SID, None);
        device.switch_ats(AtsSwitch::On);
        assert_eq!(device.ats_request(IOVA), Err(expected));
        assert_eq!(rig.event_lines(), Vec::from_iter(event));
        assert_eq!((cached(&device), rig.missing()), (0, vec![]));
    }
}

#[test]
fn a_stream_beyond_the_table_needs_both_bits_to_be_recorded() {
    use regs::cr2::{REC_CFG_ATS, RECINVSID};
    for (cr2, recorded) in [(RECINVSID, 0), (REC_CFG_ATS, 0), (RECINVSID | REC_CFG_ATS, 1)] {
        let rig = ModelRig::with(with_ats());
        rig.regs.write(regs::CR0, 0xc);
        rig.regs.write(regs::CR2, cr2);
        rig.regs.write(regs::CR0, UNCHECKED);
        let device = device(&rig, StreamId(0x100), None);
        device.switch_ats(AtsSwitch::On);
        assert_eq!(device.ats_request(IOVA), Err(Aborted));
        assert_eq!(rig.event_lines().len(), recorded, "CR2 = {cr2:#x}");
    }
}

#[test]
fn translation_is_off() {
    let (rig, device) = on(with_ats());
    assert_eq!(device.ats_read32(IOVA), Ok(0xa));
    rig.regs.write(regs::CR0, 0xc);
    // 3.9.1.3: the SMMU forbids also what the device has cached.
    assert_eq!(device.ats_read32(IOVA), Err(Refused));
    assert_eq!(device.ats_request(IOVA), Err(Unsupported));
    let forbidden = format!("F_TRANSL_FORBIDDEN sid=0x8 read iova={A:#x}");
    assert_eq!(rig.event_lines(), [forbidden, BAD_REQUEST.into()]);
    // 4.5.1: the SMMU ignores ATC_INV.
    rig.run(&[everything(SID)]);
    assert_eq!(cached(&device), 1);
}

#[test]
fn an_smmu_without_ats_answers_nothing() {
    let rig = linear(profile(), 2 | FULL_ATS);
    let device = device(&rig, SID, None);
    device.switch_ats(AtsSwitch::On);
    assert_eq!(device.ats_request(IOVA), Err(Unsupported));
    assert_eq!(rig.event_lines(), Vec::<String>::new());
}

/// 13.6.4: a request that S1DSS lets skip stage 1 gets its own address.
#[test]
fn a_request_that_skips_stage_1() {
    let rig = linear(with_ats(), 1 | FULL_ATS);
    let device = device(&rig, SID, None);
    device.switch_ats(AtsSwitch::On);
    assert_eq!(device.ats_read32(B), Ok(0xb));
    assert_eq!(device.with_substream(ssid(1)).ats_read32(IOVA), Ok(0xb));
    quiet(&rig);
    // 3.9.2: a change of S1DSS must invalidate the ATC.
    rig.put(rig.ste(SID) + 8, 2 | FULL_ATS);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.audit(), [format!("ATC_INV sid=0x8 iova={B:#x} size=0")]);
}

// 3.9.1.3. The device has its translation; then the STE changes.
#[rstest]
#[case::full(CHECKED, [word0(CDTAB, 0, 4), 2 | FULL_ATS], true, None)]
#[case::off(CHECKED, [word0(CDTAB, 0, 4), 2], false, Some("F_TRANSL_FORBIDDEN"))]
#[case::bypass(CHECKED, [1 | 4 << 1, FULL_ATS], false, Some("F_TRANSL_FORBIDDEN"))]
#[case::abort(CHECKED, [1, FULL_ATS], false, None)]
#[case::invalid(CHECKED, [0, FULL_ATS], false, None)]
#[case::unchecked_full(UNCHECKED, [word0(CDTAB, 0, 4), 2 | FULL_ATS], true, None)]
#[case::unchecked_off(UNCHECKED, [word0(CDTAB, 0, 4), 2], true, None)]
#[case::unchecked_abort(UNCHECKED, [1, 0], true, None)]
fn a_translated_transaction(
    #[case] cr0: u32,
    #[case] ste: [u64; 2],
    #[case] passes: bool,
    #[case] event: Option<&str>,
) {
    let (rig, device) = on(with_ats());
    rig.regs.write(regs::CR0, cr0);
    assert_eq!(device.ats_read32(IOVA), Ok(0xa));
    rig.put_all(rig.ste(SID), &ste);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(device.ats_read32(IOVA), if passes { Ok(0xa) } else { Err(Refused) });
    let event = event.map(|name| format!("{name} sid=0x8 read iova={A:#x}"));
    assert_eq!(rig.event_lines(), Vec::from_iter(event));
    // Without the check, the device reaches what an abort STE has taken away.
    let reached = ste[0] == 1 && cr0 == UNCHECKED;
    assert_eq!(rig.missing().len(), usize::from(reached));
    assert_eq!(rig.audit().len(), usize::from(reached));
}

/// 4.5.1. The ATC has a page and a block of three sources, and a page of another device.
#[rstest]
#[case::everything(everything(SID), "g")]
#[case::everything_of_another(everything(OTHER), "abcdef")]
#[case::the_page_of_every_substream(atc_inv(SID, None, IOVA, 0), "bdf g")]
#[case::a_page_of_the_block(atc_inv(SID, None, IOVA + 0x20_3000, 0), "ace g")]
#[case::a_page_that_nobody_has(atc_inv(SID, None, IOVA + 0x1000, 0), "abcdef g")]
#[case::the_span_of_both(atc_inv(SID, None, IOVA, 10), "g")]
#[case::one_substream(atc_inv(SID, Some(1), 0, 52), "abef g")]
#[case::a_page_of_one_substream(atc_inv(SID, Some(2), IOVA, 0), "abcdf g")]
#[case::another_substream(atc_inv(SID, Some(3), 0, 52), "abcdef g")]
#[case::global(
    Command::AtcInv {
        stream: SID,
        substream: Some(ssid(1)),
        scope: AtcScope::Global,
        span: AtcSpan::EVERYTHING,
    },
    "abef g"
)]
#[case::a_tlbi(Command::TlbiNsnhAll, "abcdef g")]
#[case::the_configuration(Command::CfgiAll, "abcdef g")]
fn an_atc_inv_drops_what_it_must(#[case] command: Command, #[case] stays: &str) {
    let (rig, device) = on(Profile { prefetch: false, ..with_ats() });
    let root = rig.table();
    rig.map(root, IOVA, A, S1_RW);
    rig.map_block(root, IOVA + 0x20_0000, 2, 0x4000_0000, S1_RW);
    for n in 0..3 {
        rig.put_all(CDTAB + n * 64, &cd(20, root));
    }
    rig.put_all(rig.ste(OTHER), &[word0(CDTAB, 0, 4), 2 | FULL_ATS]);
    rig.run(&[Command::CfgiAll, Command::TlbiNsnhAll]);
    let mut names = Vec::new();
    for substream in [None, Some(1), Some(2)] {
        let source = substream.map_or(device.clone(), |n| device.with_substream(ssid(n)));
        for iova in [IOVA, IOVA + 0x20_0000] {
            source.ats_request(iova + 0x1000 * u64::from(iova != IOVA)).unwrap();
            names.push((substream.map(ssid), iova));
        }
    }
    let other = super::substream_rig::device(&rig, OTHER, None);
    other.switch_ats(AtsSwitch::On);
    other.ats_request(IOVA).unwrap();
    rig.run(&[command]);
    let left: Vec<_> = device.atc_entries().into_iter().map(|(s, t)| (s, t.iova.0)).collect();
    let mut text: String = ('a'..)
        .zip(names)
        .filter(|(_, entry)| left.contains(entry))
        .map(|(name, _)| name)
        .collect();
    if !other.atc_entries().is_empty() {
        text.push('g');
    }
    assert_eq!(text, stays.replace(' ', ""));
    assert_eq!(rig.missing(), Vec::<String>::new());
}

/// 4.5.1: an SMMU without substreams may ignore a command that has one.
#[test]
fn an_atc_inv_with_a_substream_that_the_smmu_lacks() {
    let (rig, device) = on(Profile { substream_bits: 0, prefetch: false, ..with_ats() });
    device.ats_request(IOVA).unwrap();
    rig.run(&[atc_inv(SID, Some(0), 0, 52)]);
    assert_eq!(cached(&device), 1);
    rig.run(&[everything(SID)]);
    assert_eq!(cached(&device), 0);
}

/// A driver unmaps a page that a substream has in its ATC (4.5.1). Without any one of the commands,
/// the model names what is missing, and the device still reads the page.
#[rstest]
#[case::all(None, None)]
#[case::tlbi(Some(0), Some("TLBI_NH_VA vmid=0 asid=11 va=0x50000000 leaf=1"))]
#[case::sync_between(Some(1), Some("ATC_INV sid=0x8 ssid=0x1 iova=0x50000000 size=0"))]
#[case::atc_inv(Some(2), Some("ATC_INV sid=0x8 ssid=0x1 iova=0x50000000 size=0"))]
fn an_unmap_beside_an_atc(#[case] left_out: Option<usize>, #[case] missing: Option<&str>) {
    let (rig, device) = on(with_ats());
    let process = device.with_substream(ssid(1));
    assert_eq!((process.read32(IOVA), process.ats_read32(IOVA)), (Ok(0xb), Ok(0xb)));
    let root = rig.get(CDTAB + 64 + 8);
    rig.unmap(root, IOVA);
    let commands = [
        nh_va(0, 11, IOVA, Leaf::Last),
        Command::SYNC,
        atc_inv(SID, Some(1), IOVA, 0),
        Command::SYNC,
    ];
    for (number, command) in commands.into_iter().enumerate() {
        if left_out != Some(number) {
            rig.send(command);
        }
    }
    assert!(rig.wait());
    let mut found = rig.audit();
    // With a TLB line that stays, the device asks again and gets the same page.
    found.retain(|name| Some(name.as_str()) == missing || missing.is_none());
    assert_eq!(found, Vec::from_iter(missing));
    let reached = process.ats_read32(IOVA);
    assert_eq!(reached, if missing.is_some() { Ok(0xb) } else { Err(Request(NoAccess)) });
    assert_eq!(rig.missing().is_empty(), missing.is_none());
}

#[test]
fn the_hazard_of_an_atc_says_who_reaches_what() {
    let (rig, device) = on(with_ats());
    device.with_substream(ssid(1)).ats_request(IOVA).unwrap();
    rig.unmap(rig.get(CDTAB + 64 + 8), IOVA);
    rig.run(&[nh_asid(0, 11)]);
    let [hazard] = rig.model.audit()[..] else { panic!() };
    let text = format!(
        "smmu0: at iova 0x50000000 stream 0x8 substream 0x1 reaches {B:#x} through the device's \
         ATC, where the tables now end in F_TRANSLATION; missing: ATC_INV sid=0x8 ssid=0x1 \
         iova=0x50000000 size=0"
    );
    assert_eq!(hazard.to_string(), text);
}

#[test]
fn permissions_of_an_atc_entry() {
    let (rig, device) = on(with_ats());
    let root = rig.get(CDTAB + 8);
    let slot = rig.slot(root, IOVA, 3);
    let writable = rig.get(slot);
    // Read-only: the device asks for both, and gets what there is.
    rig.put(slot, writable | 1 << 7);
    rig.run(&[nh_asid(0, 10)]);
    assert_eq!(device.ats_read32(IOVA), Ok(0xa));
    assert_eq!(device.ats_write32(IOVA, 7), Err(NotPermitted));
    // More permissions need no ATC_INV: the device asks again.
    rig.put(slot, writable);
    rig.run(&[nh_asid(0, 10)]);
    quiet(&rig);
    assert_eq!(device.ats_write32(IOVA, 7), Ok(()));
    // Fewer permissions do.
    rig.put(slot, writable | 1 << 7);
    rig.run(&[nh_asid(0, 10)]);
    assert_eq!(rig.audit(), ["ATC_INV sid=0x8 iova=0x50000000 size=0"]);
    rig.run(&[atc_inv(SID, None, IOVA, 0)]);
    quiet(&rig);
}

#[test]
fn a_block_that_became_pages_is_compared_page_by_page() {
    let (rig, device) = on(with_ats());
    let root = rig.get(CDTAB + 8);
    let base = IOVA + 0x40_0000;
    rig.map_block(root, base, 2, 0x4000_0000, S1_RW);
    assert!(device.ats_request(base).is_ok());
    let pages = rig.table();
    for n in 0..512 {
        rig.put(pages + n * 8, (0x4000_0000 + n * 0x1000) | 3 | S1_RW);
    }
    rig.put(rig.slot(root, base, 2), pages | 3);
    rig.run(&[nh_asid(0, 10)]);
    quiet(&rig);
    rig.put(pages + 511 * 8, 0);
    let last = base + 511 * 0x1000;
    rig.run(&[nh_va(0, 10, last, Leaf::Last)]);
    assert_eq!(rig.audit(), [format!("ATC_INV sid=0x8 iova={last:#x} size=0")]);
}

/// 3.9.1.4. The device keeps what it was not seen to drop; a quarantine ends the danger.
#[test]
fn an_atc_inv_that_times_out() {
    let (rig, device) = on(with_ats());
    device.ats_request(IOVA).unwrap();
    rig.model.inject(0, InjectedFault::AtcTimeout { stream: SID });
    rig.unmap(rig.get(CDTAB + 8), IOVA);
    rig.run(&[nh_asid(0, 10)]);
    rig.send(atc_inv(SID, None, IOVA, 0));
    rig.send(Command::SYNC);
    assert!(!rig.wait());
    assert_eq!(error(&rig), Some(CommandErrorCode::ATC_INV_SYNC));
    assert_eq!(rig.audit(), ["ATC_INV sid=0x8 iova=0x50000000 size=0"]);
    device.switch_ats(AtsSwitch::Off);
    quiet(&rig);
    acknowledge(&rig);
    assert!(rig.wait());
    quiet(&rig);
}

/// 3.9.2: the driver turns ATS off, and an `ATC_INV` to the device has no completed `CMD_SYNC`.
#[rstest]
#[case::not_consumed(&[everything(SID)], false, true)]
#[case::consumed(&[everything(SID)], true, true)]
#[case::of_a_substream(&[atc_inv(SID, Some(1), 0, 52)], true, true)]
#[case::complete(&[everything(SID), Command::SYNC], true, false)]
#[case::of_another(&[everything(OTHER)], true, false)]
fn ats_goes_off_beside_an_atc_inv(
    #[case] commands: &[Command],
    #[case] consumed: bool,
    #[case] hazard: bool,
) {
    let (rig, device) = on(with_ats());
    device.ats_request(IOVA).unwrap();
    for command in commands {
        rig.send(*command);
    }
    if consumed {
        assert!(rig.wait());
    }
    device.switch_ats(AtsSwitch::Off);
    let hazards = rig.model.take_hazards();
    assert_eq!(hazards.len(), usize::from(hazard), "{hazards:?}");
    for found in hazards {
        assert!(matches!(found, Hazard::AtcInvOutstanding { stream: SID, .. }), "{found}");
        assert_eq!(found.missing(), Some(&Command::SYNC));
    }
}

#[rstest]
#[case::answers(WhileAtsOff::Answers, None)]
#[case::never_answers(WhileAtsOff::NeverAnswers, Some(CommandErrorCode::ATC_INV_SYNC))]
fn an_atc_inv_while_ats_is_off(
    #[case] while_ats_off: WhileAtsOff,
    #[case] expected: Option<CommandErrorCode>,
) {
    let (rig, device) = on(Profile { while_ats_off, ..with_ats() });
    device.ats_request(IOVA).unwrap();
    device.switch_ats(AtsSwitch::Off);
    rig.send(everything(SID));
    rig.send(Command::SYNC);
    assert_eq!(rig.wait(), expected.is_none());
    assert_eq!(error(&rig), expected);
    assert_eq!(cached(&device), usize::from(expected.is_some()));
    assert_eq!(rig.missing(), Vec::<String>::new());
}

/// What the device has not answered when its ATS goes off is never answered.
#[test]
fn an_outstanding_atc_inv_times_out_when_ats_goes_off() {
    let (rig, device) = on(Profile { while_ats_off: WhileAtsOff::NeverAnswers, ..with_ats() });
    device.ats_request(IOVA).unwrap();
    rig.send(everything(SID));
    assert!(rig.wait());
    device.switch_ats(AtsSwitch::Off);
    assert_eq!(rig.missing(), [Command::SYNC.to_string()]);
    rig.send(Command::SYNC);
    assert!(!rig.wait());
    assert_eq!(error(&rig), Some(CommandErrorCode::ATC_INV_SYNC));
}

/// The ATC survives the switch: a driver invalidates it before it turns ATS on again.
#[rstest]
#[case::invalidated(true)]
#[case::forgotten(false)]
fn ats_comes_back_over_another_table(#[case] invalidated: bool) {
    let (rig, device) = on(with_ats());
    assert_eq!(device.ats_read32(IOVA), Ok(0xa));
    device.switch_ats(AtsSwitch::Off);
    rig.put(CDTAB + 8, root_to(&rig, B));
    rig.run(&[Command::CfgiCdAll { stream: SID }, nh_asid(0, 10)]);
    quiet(&rig);
    if invalidated {
        rig.run(&[everything(SID)]);
    }
    device.switch_ats(AtsSwitch::On);
    let stale: &[&str] = &["ATC_INV sid=0x8 iova=0x50000000 size=0"];
    assert_eq!(rig.audit(), if invalidated { &[][..] } else { stale });
    assert_eq!(device.ats_read32(IOVA), Ok(if invalidated { 0xb } else { 0xa }));
    assert_eq!(rig.missing(), if invalidated { &[][..] } else { stale });
}

/// While the SMMU forbids translated transactions, the device cannot use a stale entry.
#[test]
fn a_blocked_device_is_no_hazard_until_it_is_let_through() {
    let (rig, device) = on(with_ats());
    assert_eq!(device.ats_read32(IOVA), Ok(0xa));
    rig.put_all(rig.ste(SID), &[1, 0]);
    rig.run(&[cfgi_ste(SID)]);
    quiet(&rig);
    rig.put(CDTAB + 8, root_to(&rig, B));
    rig.put_all(rig.ste(SID), &[word0(CDTAB, 0, 4), 2 | FULL_ATS]);
    rig.run(&[cfgi_ste(SID), nh_asid(0, 10)]);
    assert_eq!(rig.audit(), ["ATC_INV sid=0x8 iova=0x50000000 size=0"]);
}

#[test]
fn a_device_outside_the_machine_is_refused() {
    let rig = ModelRig::with(with_ats());
    let device = rig.model.device(7, SID);
    device.switch_ats(AtsSwitch::On);
    assert_eq!(device.ats_request(0), Err(SwitchedOff));
    assert_eq!(device.ats_write32(0, 0), Err::<(), _>(AtsDmaFailure::Refused));
    assert!(device.write32(0, 0).is_err() && device.atc_entries().is_empty());
}
