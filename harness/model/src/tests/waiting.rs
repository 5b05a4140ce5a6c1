//! Stalled transactions, and page requests of devices.

use rstest::rstest;
use smmu_types::regs::{self, cr0, gerror, irq_ctrl};
use smmu_types::seam::RegistersExt;
use smmu_types::{
    Command, EventKind, Iova, Irq, PrgIndex, PriRecord, PriResponse, RequestedAccess, ResumeAction,
    StallModel, StreamId, SubstreamId,
};

use super::model_rig::{
    A, B, EVENTQ_LOG2, IOVA, ModelRig, OTHER, RAM, S1_RW, S2_RW, SID, cfgi_cd, cfgi_ste,
};
use crate::{AtsSwitch, DmaProgress, InjectedFault, PageResponse, Profile, StallId};

const PRIQ: u64 = RAM + 0x3000;
const PRIQ_LOG2: u64 = 2;

fn profile() -> Profile {
    Profile { stall_model: StallModel::Both, stall_max: 4, pri: true, ..Profile::default() }
}

/// A rig whose stream [`SID`] stalls, and its root table.
fn stalling() -> (ModelRig, u64) {
    let rig = ModelRig::with(profile());
    let root = rig.stage1(SID, 5);
    stall_in_cd(&rig, SID);
    (rig, root)
}

fn stall_in_cd(rig: &ModelRig, sid: StreamId) {
    rig.put(rig.cd(sid), rig.get(rig.cd(sid)) | 1 << 44);
    rig.run(&[cfgi_cd(sid)]);
}

fn write(rig: &ModelRig, iova: u64) -> DmaProgress {
    rig.model.start_write32(rig.smmu, SID, iova, 7)
}

fn stalled(progress: DmaProgress) -> StallId {
    match progress {
        DmaProgress::Stalled(id) => id,
        other => panic!("{other:?}"),
    }
}

fn progress(rig: &ModelRig, id: StallId) -> DmaProgress {
    rig.model.progress(rig.smmu, id)
}

fn resume(tag: u16, action: ResumeAction) -> Command {
    Command::Resume { stream: SID, tag, action }
}

fn texts(hazards: &[crate::Hazard]) -> Vec<String> {
    hazards.iter().map(ToString::to_string).collect()
}

#[test]
fn a_stalled_write_waits_and_is_retried() {
    let (rig, root) = stalling();
    let id = stalled(write(&rig, IOVA + 4));
    let events = rig.event_lines();
    let want = "F_TRANSLATION sid=0x8 write iova=0x50000004 class=IN stage=1 stall stag=0x0";
    assert_eq!(events, [want]);
    assert_eq!(progress(&rig, id), DmaProgress::Stalled(id));
    let unanswered = rig.model.unanswered();
    assert_eq!(
        texts(&unanswered),
        ["smmu0: a transaction of stream 0x8 stalls with tag 0x0; missing: RESUME sid=0x8 \
          stag=0x0 action=abort"]
    );
    assert_eq!(unanswered[0].missing(), Some(&resume(0, ResumeAction::Abort)));
    rig.map(root, IOVA, A, S1_RW);
    rig.run(&[resume(0, ResumeAction::Retry)]);
    assert_eq!(progress(&rig, id), DmaProgress::Written);
    assert_eq!(rig.get(A) >> 32, 7);
    assert_eq!(rig.model.unanswered(), []);
    assert_eq!(rig.model.take_hazards(), []);
}

#[test]
fn a_retry_that_faults_again_is_a_new_stall() {
    let (rig, _) = stalling();
    let id = stalled(write(&rig, IOVA));
    assert_eq!(rig.events().len(), 1);
    rig.run(&[resume(0, ResumeAction::Retry)]);
    assert_eq!(progress(&rig, id), DmaProgress::Stalled(id));
    assert_eq!(rig.events().len(), 1);
    rig.run(&[resume(0, ResumeAction::Abort)]);
    assert_eq!(progress(&rig, id), DmaProgress::Refused);
    assert_eq!(rig.model.take_hazards(), []);
}

#[rstest]
fn a_read_may_stall_and_end(
    #[values(ResumeAction::Abort, ResumeAction::Terminate)] action: ResumeAction,
) {
    let (rig, root) = stalling();
    let id = stalled(rig.model.start_read32(rig.smmu, SID, IOVA));
    // A transaction that is ended does not read, also if the page is there by now.
    rig.map(root, IOVA, A, S1_RW);
    rig.run(&[resume(0, action)]);
    assert_eq!(progress(&rig, id), DmaProgress::Refused);
    assert_eq!(rig.model.start_read32(rig.smmu, SID, IOVA), DmaProgress::Read(0));
    assert_eq!(rig.model.take_hazards(), []);
}

#[test]
fn stage_2_stalls_too() {
    let rig = ModelRig::with(profile());
    let root = rig.stage2(SID, 3);
    rig.put(rig.ste(SID) + 16, rig.get(rig.ste(SID) + 16) | 1 << 57);
    rig.run(&[cfgi_ste(SID)]);
    let id = stalled(write(&rig, IOVA));
    let events = rig.events();
    assert!(events[0].is_stalled() && events[0].is_stage2());
    rig.map(root, IOVA, A, S2_RW);
    rig.run(&[resume(events[0].stall_tag(), ResumeAction::Retry)]);
    assert_eq!(progress(&rig, id), DmaProgress::Written);
}

#[test]
fn an_access_that_needs_no_page_does_not_stall() {
    let (rig, root) = stalling();
    rig.map(root, IOVA, A, S1_RW);
    assert_eq!(write(&rig, IOVA), DmaProgress::Written);
    // Another stream of the same SMMU terminates.
    rig.stage1(OTHER, 6);
    assert_eq!(rig.model.start_write32(0, OTHER, IOVA, 1), DmaProgress::Refused);
    assert!(!rig.events()[0].is_stalled());
    assert_eq!(rig.model.unanswered(), []);
}

/// A stall is always recorded, also where `CD.R` = 0 leaves other events out (3.12.2).
#[test]
fn a_stall_is_recorded_whatever_cd_r_says() {
    let (rig, _) = stalling();
    rig.put(rig.cd(SID), rig.get(rig.cd(SID)) & !(1 << 45));
    rig.run(&[cfgi_cd(SID)]);
    stalled(write(&rig, IOVA));
    assert!(rig.events()[0].is_stalled());
}

#[rstest]
#[case::other_tag(SID, 1, false)]
#[case::other_stream(OTHER, 0, false)]
fn an_answer_to_another_fault_has_no_effect(
    #[case] stream: StreamId,
    #[case] tag: u16,
    #[case] twice: bool,
) {
    let (rig, _) = stalling();
    let id = stalled(write(&rig, IOVA));
    let command = Command::Resume { stream, tag, action: ResumeAction::Abort };
    rig.run(&[command]);
    assert_eq!(progress(&rig, id), DmaProgress::Stalled(id));
    let hazard = crate::Hazard::WrongAnswer { smmu: 0, command, twice };
    assert_eq!(rig.model.take_hazards(), [hazard]);
    assert!(hazard.to_string().ends_with("is for a fault that does not wait"));
}

#[test]
fn a_second_answer_is_a_hazard_and_hits_the_next_stall() {
    let (rig, _) = stalling();
    stalled(write(&rig, IOVA));
    let abort = resume(0, ResumeAction::Abort);
    rig.run(&[abort, abort]);
    let hazards = rig.model.take_hazards();
    assert_eq!(hazards, [crate::Hazard::WrongAnswer { smmu: 0, command: abort, twice: true }]);
    assert_eq!(hazards[0].missing(), None);
    assert!(hazards[0].to_string().ends_with("is for a fault that was answered before"));
    // The SMMU uses the tag again at once, so a late second answer ends another transaction.
    let next = stalled(write(&rig, IOVA + 0x1000));
    assert_eq!(rig.events().last().unwrap().stall_tag(), 0);
    rig.run(&[abort]);
    assert_eq!(progress(&rig, next), DmaProgress::Refused);
}

/// 7.4: a full queue loses events of terminated transactions, never those of stalled ones.
#[test]
fn a_full_event_queue_loses_no_stall() {
    let (rig, _) = stalling();
    rig.stage1(OTHER, 6);
    let entries = 1u64 << EVENTQ_LOG2;
    for n in 0..entries {
        let _ = rig.model.start_write32(0, OTHER, IOVA + n * 0x1000, 1);
    }
    let first = stalled(write(&rig, IOVA));
    let second = stalled(write(&rig, IOVA + 0x1000));
    let overflowed = |rig: &ModelRig| {
        (rig.regs.read(regs::EVENTQ_PROD) ^ rig.regs.read(regs::EVENTQ_CONS)) >> 31 != 0
    };
    assert!(!overflowed(&rig), "no event is lost");
    assert_eq!(rig.model.unanswered(), [], "the driver knows of no stall yet");
    let events = rig.events();
    assert_eq!(events.len() as u64, entries + 2);
    let stalls: Vec<_> = events.iter().filter(|event| event.is_stalled()).collect();
    assert_eq!(
        stalls.iter().map(|e| e.address()).collect::<Vec<_>>(),
        [Iova(IOVA), Iova(IOVA + 0x1000)]
    );
    for event in stalls {
        rig.run(&[resume(event.stall_tag(), ResumeAction::Abort)]);
    }
    assert_eq!([first, second].map(|id| progress(&rig, id)), [DmaProgress::Refused; 2]);
    assert_eq!(rig.model.take_hazards(), []);
}

#[test]
fn more_stalls_than_tags_wait_their_turn() {
    let (rig, _) = stalling();
    let ids: Vec<_> = (0..6).map(|n| stalled(write(&rig, IOVA + n * 0x1000))).collect();
    let events = rig.events();
    assert_eq!(events.iter().map(|e| e.stall_tag()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    rig.run(&[resume(2, ResumeAction::Abort)]);
    let events = rig.events();
    assert_eq!((events.len(), events[0].stall_tag()), (1, 2));
    assert_eq!(events[0].address(), Iova(IOVA + 4 * 0x1000));
    rig.run(&[0, 1, 2, 3].map(|tag| resume(tag, ResumeAction::Abort)));
    let tag = rig.events()[0].stall_tag();
    rig.run(&[resume(tag, ResumeAction::Abort)]);
    assert!(ids.iter().all(|id| progress(&rig, *id) == DmaProgress::Refused));
    assert_eq!((rig.model.unanswered(), rig.model.take_hazards()), (vec![], vec![]));
}

#[test]
fn an_event_queue_that_aborts_loses_no_stall() {
    let (rig, root) = stalling();
    rig.model.inject(0, InjectedFault::EventQueueAbort);
    let id = stalled(write(&rig, IOVA));
    assert_eq!(rig.events(), []);
    rig.regs.write(regs::GERRORN, rig.regs.read(regs::GERROR));
    rig.map(root, IOVA, A, S1_RW);
    rig.model.mend(0);
    // The page is there by now, so the retry ends without an event.
    assert_eq!(progress(&rig, id), DmaProgress::Written);
}

#[rstest]
fn a_transaction_ends_with_its_configuration(#[values(false, true)] stall_term: bool) {
    let (rig, _) = stalling();
    let id = stalled(write(&rig, IOVA));
    // Config 0: abort.
    rig.put(rig.ste(SID), 1);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(progress(&rig, id), DmaProgress::Stalled(id), "only an answer ends it");
    if stall_term {
        rig.run(&[Command::StallTerm { stream: SID }]);
        // It counts as an answer: a RESUME behind it is one too many.
        assert_eq!(rig.model.unanswered(), []);
    } else {
        rig.run(&[resume(0, ResumeAction::Retry)]);
    }
    assert_eq!(progress(&rig, id), DmaProgress::Refused);
    assert_eq!(rig.model.take_hazards(), []);
}

#[rstest]
fn translation_that_goes_off_ends_stalls(#[values(false, true)] reset: bool) {
    let (rig, _) = stalling();
    let id = stalled(write(&rig, IOVA));
    if reset {
        rig.model.reset();
    } else {
        rig.regs.write(regs::CR0, cr0::CMDQEN | cr0::EVENTQEN);
    }
    assert_eq!(progress(&rig, id), DmaProgress::Refused);
    assert_eq!(rig.model.unanswered(), []);
}

#[rstest]
// `CD.S` without stalls in the SMMU, and with stalls that the STE disables.
#[case::no_stalls(StallModel::TerminateOnly, 1 << 44, 0, "C_BAD_CD")]
#[case::disabled(StallModel::Both, 1 << 44, 1 << 27, "C_BAD_CD")]
#[case::disable_absent(StallModel::TerminateOnly, 0, 1 << 27, "C_BAD_STE")]
#[case::forced(StallModel::Forced, 0, 0, "C_BAD_CD")]
#[case::disable_forced(StallModel::Forced, 1 << 44, 1 << 27, "C_BAD_STE")]
#[case::disabled_and_not_used(StallModel::Both, 0, 1 << 27, "F_TRANSLATION")]
#[case::forced_and_used(StallModel::Forced, 1 << 44, 0, "F_TRANSLATION")]
fn entries_follow_the_stall_model(
    #[case] stall_model: StallModel,
    #[case] cd: u64,
    #[case] ste: u64,
    #[case] event: &str,
) {
    let rig = ModelRig::with(Profile { stall_model, ..profile() });
    rig.stage1(SID, 5);
    rig.put(rig.cd(SID), rig.get(rig.cd(SID)) | cd);
    rig.put(rig.ste(SID) + 8, rig.get(rig.ste(SID) + 8) | ste);
    rig.run(&[cfgi_ste(SID)]);
    let _ = write(&rig, IOVA);
    assert_eq!(rig.events()[0].kind().to_string(), event);
}

#[rstest]
#[case::resume(resume(0, ResumeAction::Abort))]
#[case::stall_term(Command::StallTerm { stream: SID })]
#[case::pri_resp(response(None, 0, PriResponse::Success))]
fn answers_are_illegal_without_the_feature(#[case] command: Command) {
    let rig = ModelRig::new();
    rig.send(command);
    assert!(!rig.wait());
    let active = rig.regs.read(regs::GERROR) ^ rig.regs.read(regs::GERRORN);
    assert_eq!(active & gerror::CMDQ, gerror::CMDQ);
}

/// A rig with a PRI queue of 4 entries.
fn asking() -> ModelRig {
    let rig = ModelRig::with(profile());
    rig.regs.write(regs::CR0, 0);
    rig.regs.write(regs::PRIQ_BASE, 1 << 62 | PRIQ | PRIQ_LOG2);
    rig.regs.write(regs::PRIQ_PROD, 0);
    rig.regs.write(regs::PRIQ_CONS, 0);
    rig.regs.write(regs::IRQ_CTRL, irq_ctrl::PRIQ);
    rig.regs.write(regs::CR0, 0xf);
    assert_eq!(rig.regs.read(regs::CR0ACK), 0xf);
    rig
}

fn request(substream: Option<u32>, group: u16) -> PriRecord {
    let access = RequestedAccess { read: true, ..RequestedAccess::default() };
    let group = PrgIndex::new(group).unwrap();
    let request = PriRecord::new(SID, group, Iova(IOVA), access).unwrap();
    substream.map_or(request, |s| request.with_substream(SubstreamId::new(s).unwrap()))
}

fn response(substream: Option<u32>, group: u16, response: PriResponse) -> Command {
    let substream = substream.and_then(SubstreamId::new);
    Command::PriResp { stream: SID, substream, group: PrgIndex::new(group).unwrap(), response }
}

fn heard(
    substream: Option<u32>,
    group: u16,
    response: PriResponse,
    automatic: bool,
) -> PageResponse {
    let substream = substream.and_then(SubstreamId::new);
    PageResponse {
        stream: SID,
        substream,
        group: PrgIndex::new(group).unwrap(),
        response,
        automatic,
    }
}

fn requests(rig: &ModelRig) -> Vec<PriRecord> {
    let mask = (2u32 << PRIQ_LOG2) - 1;
    let mut found = Vec::new();
    loop {
        let (prod, cons) = (rig.regs.read(regs::PRIQ_PROD), rig.regs.read(regs::PRIQ_CONS));
        if prod & mask == cons & mask {
            rig.regs.write(regs::PRIQ_CONS, prod);
            return found;
        }
        let slot = PRIQ + u64::from(cons & (mask >> 1)) * 16;
        found.push(PriRecord([rig.get(slot), rig.get(slot + 8)]));
        rig.regs.write(regs::PRIQ_CONS, cons & 1 << 31 | ((cons + 1) & mask));
    }
}

#[test]
fn a_group_gets_the_response_of_the_driver() {
    let rig = asking();
    rig.model.page_request(0, request(Some(3), 9));
    assert_eq!(rig.model.unanswered(), [], "a group waits once its last request is there");
    rig.model.page_request(0, request(Some(3), 9).with_last());
    rig.model.page_request(0, PriRecord::stop(SID, SubstreamId::new(3).unwrap()));
    assert_eq!(rig.model.take_interrupts(), [(0, Irq::PriQueue)]);
    let found = requests(&rig);
    assert_eq!(found[..2], [request(Some(3), 9), request(Some(3), 9).with_last()]);
    assert!(found[2].is_stop());
    assert_eq!(
        texts(&rig.model.unanswered()),
        ["smmu0: stream 0x8, substream 0x3, waits for the answer to page request group 9; \
          missing: PRI_RESP sid=0x8 ssid=0x3 group=9 resp=invalid"]
    );
    rig.run(&[response(Some(3), 9, PriResponse::Success)]);
    assert_eq!(rig.model.take_page_responses(0), [heard(Some(3), 9, PriResponse::Success, false)]);
    assert_eq!((rig.model.unanswered(), rig.model.take_hazards()), (vec![], vec![]));
}

/// A device that was told to ask no more sends nothing, and still gets the response to what it sent.
#[test]
fn a_device_asks_while_its_switch_is_on() {
    let rig = asking();
    let device = rig.model.device(0, SID);
    rig.model.page_request(0, request(None, 1).with_last());
    device.switch_page_requests(AtsSwitch::Off);
    rig.model.page_request(0, request(None, 2).with_last());
    rig.model.page_request(0, request(Some(3), 2).with_last());
    assert_eq!(requests(&rig), [request(None, 1).with_last()]);
    assert_eq!(rig.model.unanswered().len(), 1);
    rig.run(&[response(None, 1, PriResponse::Success)]);
    assert_eq!(rig.model.take_page_responses(0), [heard(None, 1, PriResponse::Success, false)]);
    device.switch_page_requests(AtsSwitch::On);
    rig.model.page_request(0, request(None, 3).with_last());
    assert_eq!(rig.model.unanswered().len(), 1);
    assert_eq!(rig.model.take_hazards(), []);
}

#[rstest]
#[case::other_group(Some(3), 8, false)]
#[case::other_substream(Some(4), 9, false)]
#[case::no_substream(None, 9, false)]
#[case::twice(Some(3), 9, true)]
fn a_response_to_nothing_is_a_hazard(
    #[case] substream: Option<u32>,
    #[case] group: u16,
    #[case] twice: bool,
) {
    let rig = asking();
    rig.model.page_request(0, request(Some(3), 9).with_last());
    let command = response(substream, group, PriResponse::Success);
    if twice {
        rig.run(&[command]);
    }
    rig.run(&[command]);
    let hazard = crate::Hazard::WrongAnswer { smmu: 0, command, twice };
    assert_eq!(rig.model.take_hazards(), [hazard]);
    assert_eq!(rig.model.unanswered().is_empty(), twice);
}

/// 8.1: an overflow discards requests, and the SMMU answers groups that lose their last one.
#[test]
fn a_full_pri_queue_answers_success_by_itself() {
    let rig = asking();
    for group in 0..4 {
        rig.model.page_request(0, request(None, group).with_last());
    }
    rig.model.page_request(0, request(None, 4));
    rig.model.page_request(0, request(None, 4).with_last());
    assert_eq!(rig.model.take_page_responses(0), [heard(None, 4, PriResponse::Success, true)]);
    // Room alone does not help: an active overflow keeps requests out.
    let cons = rig.regs.read(regs::PRIQ_CONS);
    rig.regs.write(regs::PRIQ_CONS, cons + 1);
    rig.model.page_request(0, request(Some(1), 5).with_last());
    let automatic = heard(Some(1), 5, PriResponse::Success, true);
    assert_eq!(rig.model.take_page_responses(0), [automatic]);
    assert_eq!(requests(&rig).len(), 3);
    rig.model.page_request(0, request(None, 4).with_last());
    assert_eq!(requests(&rig), [request(None, 4).with_last()]);
    rig.run(&[0, 1, 2, 3, 4].map(|group| response(None, group, PriResponse::Invalid)));
    assert_eq!((rig.model.unanswered(), rig.model.take_hazards()), (vec![], vec![]));
}

#[test]
fn a_pri_queue_that_is_off_fails_each_group() {
    let rig = asking();
    let failure = |group| heard(None, group, PriResponse::Failure, true);
    rig.regs.write(regs::CR0, 0xd);
    rig.model.page_request(0, request(None, 1).with_last());
    assert_eq!(rig.model.take_page_responses(0), [failure(1)]);
    rig.regs.write(regs::CR0, 0xe);
    rig.model.page_request(0, request(None, 2).with_last());
    assert_eq!(rig.model.take_page_responses(0), [failure(2)]);
    rig.regs.write(regs::CR0, 0xf);
    rig.model.inject(0, InjectedFault::PriQueueAbort);
    rig.model.page_request(0, request(None, 3).with_last());
    rig.model.mend(0);
    // The error stays active until the driver acknowledges it.
    rig.model.page_request(0, request(None, 4).with_last());
    assert_eq!(rig.model.take_page_responses(0), [failure(3), failure(4)]);
    let active = rig.regs.read(regs::GERROR) ^ rig.regs.read(regs::GERRORN);
    assert_eq!(active, gerror::PRIQ_ABT);
    rig.regs.write(regs::GERRORN, rig.regs.read(regs::GERROR));
    rig.model.page_request(0, request(None, 5).with_last());
    assert_eq!(rig.model.take_page_responses(0), []);
    assert_eq!(rig.model.unanswered().len(), 1);
    assert_eq!(rig.model.take_hazards(), []);
}

#[test]
fn groups_survive_a_reset_of_the_smmu() {
    let rig = asking();
    rig.model.page_request(0, request(None, 1).with_last());
    rig.model.reset();
    assert_eq!(rig.model.unanswered().len(), 1);
    rig.bring_up();
    // Translation on: the command reaches the device.
    rig.run(&[response(None, 1, PriResponse::Success)]);
    assert_eq!(rig.model.take_page_responses(0), [heard(None, 1, PriResponse::Success, false)]);
}

#[test]
fn registers_of_the_pri_queue_keep_their_rules() {
    let rig = asking();
    let violations = |rig: &ModelRig| texts(&rig.model.take_hazards());
    rig.regs.write(regs::PRIQ_BASE, PRIQ);
    rig.regs.write(regs::PRIQ_PROD, 0);
    assert_eq!(
        violations(&rig),
        [
            "smmu0: PRIQ_BASE was written while CR0.PRIQEN is set; the write is ignored",
            "smmu0: PRIQ_PROD was written while CR0.PRIQEN is set; the write is ignored",
        ]
    );
    rig.regs.write(regs::PRIQ_CONS, 3);
    assert_eq!(
        violations(&rig),
        ["smmu0: PRIQ_CONS = 0x3 is not a place that this pointer can be at"]
    );
    rig.regs.write(regs::CR0, 0);
    rig.regs.write(regs::PRIQ_BASE, PRIQ | 9);
    rig.regs.write(regs::CR0, cr0::PRIQEN);
    assert_eq!(violations(&rig)[0], "smmu0: PRIQ_BASE.LOG2SIZE = 9 is not supported here");
    let none = ModelRig::new();
    none.regs.write(regs::PRIQ_CONS, 0);
    none.regs.write(regs::PRIQ_CONS, 1);
    assert_eq!(violations(&none), ["smmu0: reserved bits 0x1 of PRIQ_CONS were set"]);
}

#[test]
fn page_tables_that_stall_do_not_share_the_event_kind() {
    // A permission fault stalls as well; the page is there, and the write is not allowed.
    let (rig, root) = stalling();
    rig.map(root, IOVA, B, S1_RW | 1 << 7);
    let id = stalled(write(&rig, IOVA));
    let event = rig.events()[0];
    assert!(event.is_stalled() && event.kind() == EventKind::F_PERMISSION);
    rig.run(&[resume(event.stall_tag(), ResumeAction::Abort)]);
    assert_eq!(progress(&rig, id), DmaProgress::Refused);
}
