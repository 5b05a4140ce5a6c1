//! Faults that wait for an answer: each gets one, whatever fails on the way.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod bytes;
mod hardware;
mod random;
mod storms;

use hardware::Hardware;
use rstest::rstest;
use smmu_attach::faults::{Answered, FaultId, FaultTable, FaultTag, Outstanding, Taken};
use smmu_types::seam::SinkError;
use smmu_types::{
    Command, EventKind, EventRecord, Iova, PrgIndex, PriRecord, PriResponse, RequestedAccess,
    ResumeAction, SmmuId, StreamId, SubstreamId,
};

const SMMU: SmmuId = SmmuId(2);

fn stall(stream: u32, tag: u16) -> EventRecord {
    EventRecord::new(EventKind::F_TRANSLATION, StreamId(stream))
        .with_access(Iova(0x5000), false)
        .with_stall(tag)
}

fn stall_of(stream: u32, substream: Option<u32>, tag: u16) -> EventRecord {
    let record = stall(stream, tag);
    substream.map_or(record, |id| record.with_substream(SubstreamId::new(id).unwrap()))
}

fn request(stream: u32, substream: Option<u32>, group: u16) -> PriRecord {
    let access = RequestedAccess { write: true, ..RequestedAccess::default() };
    let group = PrgIndex::new(group).unwrap();
    let record = PriRecord::new(StreamId(stream), group, Iova(0x7000), access).unwrap();
    match substream {
        Some(substream) => record.with_substream(SubstreamId::new(substream).unwrap()),
        None => record,
    }
}

fn resume(stream: u32, tag: u16, action: ResumeAction) -> Command {
    Command::Resume { stream: StreamId(stream), tag, action }
}

fn response(stream: u32, substream: Option<u32>, group: u16, response: PriResponse) -> Command {
    Command::PriResp {
        stream: StreamId(stream),
        substream: substream.and_then(SubstreamId::new),
        group: PrgIndex::new(group).unwrap(),
        response,
    }
}

fn table(hardware: &Hardware, capacity: usize) -> FaultTable<&Hardware> {
    FaultTable::new(hardware, SMMU, capacity).unwrap()
}

/// The words of the commands, from the architecture (4.5.2 and 4.7.1).
#[test]
fn the_commands_name_stream_substream_and_tag() {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 2);
    hardware.stalls(0x8, 0x21);
    let fault = faults.take_event(stall(0x8, 0x21)).unwrap().fault().unwrap();
    hardware.asks(0x8, Some(5), 3);
    let group = request(0x8, Some(5), 3).with_last();
    let group = faults.take_request(group).unwrap().fault().unwrap();
    assert_eq!((fault.stream(), fault.substream()), (StreamId(8), None));
    assert_eq!((group.stream(), group.substream()), (StreamId(8), SubstreamId::new(5)));
    assert!(fault.retry().is_sent() && group.success().is_sent());
    let words: Vec<_> = hardware.take().iter().map(|command| command.encode().0).collect();
    assert_eq!(words, [[0x8_0000_1044, 0x21], [0x8_0000_5841, 0x2003]]);
    hardware.check();
}

#[rstest]
#[case::retry(Some(ResumeAction::Retry))]
#[case::terminate(Some(ResumeAction::Terminate))]
#[case::abort(Some(ResumeAction::Abort))]
#[case::dropped(None)]
fn inv_1_and_2_a_stall_gets_one_answer(#[case] action: Option<ResumeAction>) {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 1);
    hardware.stalls(8, 1);
    let fault = faults.take_event(stall(8, 1)).unwrap().fault().unwrap();
    assert_eq!(faults.outstanding(), Outstanding { waiting: 1, sending: 0, kept: 0 });
    match action {
        Some(ResumeAction::Retry) => assert!(fault.retry().is_sent()),
        Some(ResumeAction::Terminate) => assert!(fault.terminate().is_sent()),
        Some(ResumeAction::Abort) => assert!(fault.abort().is_sent()),
        None => drop(fault),
    }
    assert_eq!(hardware.take(), [resume(8, 1, action.unwrap_or(ResumeAction::Abort))]);
    assert!(faults.outstanding().is_none());
    hardware.check();
}

#[rstest]
#[case::success(Some(PriResponse::Success))]
#[case::invalid(Some(PriResponse::Invalid))]
#[case::failure(Some(PriResponse::Failure))]
#[case::dropped(None)]
fn inv_1_and_2_a_group_gets_one_answer(
    #[case] answer: Option<PriResponse>,
    #[values(None, Some(7))] substream: Option<u32>,
) {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 1);
    hardware.asks(8, substream, 511);
    // Only the last request of a group waits for an answer.
    let first = faults.take_request(request(8, substream, 511)).unwrap();
    assert!(matches!(first, Taken::NoAnswer));
    let last = request(8, substream, 511).with_last();
    let group = faults.take_request(last).unwrap().fault().unwrap();
    match answer {
        Some(PriResponse::Success) => assert!(group.success().is_sent()),
        Some(PriResponse::Invalid) => assert!(group.invalid().is_sent()),
        Some(PriResponse::Failure) => assert!(group.failure().is_sent()),
        None => drop(group),
    }
    let answer = answer.unwrap_or(PriResponse::Invalid);
    assert_eq!(hardware.take(), [response(8, substream, 511, answer)]);
    hardware.check();
}

#[test]
fn what_does_not_wait_gets_no_answer() {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 1);
    let terminated = EventRecord::new(EventKind::F_TRANSLATION, StreamId(8));
    assert!(matches!(faults.take_event(terminated).unwrap(), Taken::NoAnswer));
    // A record whose kind has no stall, with the bit of one.
    let mut other = EventRecord::new(EventKind::C_BAD_STE, StreamId(8));
    other.0[1] |= 1 << 31;
    assert!(matches!(faults.take_event(other).unwrap(), Taken::NoAnswer));
    let marker = PriRecord::stop(StreamId(8), SubstreamId::new(3).unwrap());
    assert!(matches!(faults.take_request(marker).unwrap(), Taken::NoAnswer));
    assert_eq!(hardware.take(), []);
}

#[test]
fn a_repeated_fault_gets_one_answer() {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 8);
    hardware.stalls(8, 1);
    let fault = faults.take_event(stall(8, 1)).unwrap().fault().unwrap();
    assert!(matches!(faults.take_event(stall(8, 1)).unwrap(), Taken::Repeated));
    // The same tag of another stream, and the same number as a group, are other faults.
    hardware.stalls(9, 1);
    let other = faults.take_event(stall(9, 1)).unwrap().fault().unwrap();
    hardware.asks(8, None, 1);
    let group = faults.take_request(request(8, None, 1).with_last()).unwrap().fault().unwrap();
    // The same group number of another substream is another group.
    hardware.asks(8, Some(1), 1);
    let pasid = faults.take_request(request(8, Some(1), 1).with_last()).unwrap().fault().unwrap();
    let again = faults.take_request(request(8, Some(1), 1).with_last()).unwrap();
    assert!(matches!(again, Taken::Repeated));
    drop((fault, other, group, pasid));
    assert_eq!(hardware.take().len(), 4);
    // Once it is answered, the SMMU may use the tag again.
    hardware.stalls(8, 1);
    assert!(faults.take_event(stall(8, 1)).unwrap().fault().unwrap().retry().is_sent());
    hardware.check();
}

#[test]
fn inv_1_a_withdrawn_token_sends_nothing() {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 8);
    for (stream, tag) in [(8, 1), (9, 2), (8, 3)] {
        hardware.stalls(stream, tag);
    }
    let tokens = [(8, 1), (9, 2), (8, 3)]
        .map(|(stream, tag)| faults.take_event(stall(stream, tag)).unwrap().fault().unwrap());
    hardware.asks(8, Some(1), 4);
    let group = faults.take_request(request(8, Some(1), 4).with_last()).unwrap().fault().unwrap();
    let withdrawn = faults.withdraw(|id| id.stream == StreamId(8));
    assert_eq!((withdrawn.answered, withdrawn.error), (3, None));
    assert!(withdrawn.left.is_none());
    let sent = hardware.take();
    assert_eq!(sent.len(), 3);
    for command in [
        resume(8, 1, ResumeAction::Abort),
        resume(8, 3, ResumeAction::Abort),
        response(8, Some(1), 4, PriResponse::Invalid),
    ] {
        assert!(sent.contains(&command), "{command}");
    }
    let [first, other, second] = tokens;
    assert_eq!(first.retry(), Answered::Withdrawn);
    assert_eq!(group.success(), Answered::Withdrawn);
    drop(second);
    assert_eq!(hardware.take(), []);
    assert_eq!(other.retry(), Answered::Sent);
    hardware.check();
}

/// A substream leaves: its stalls and groups are answered once, those of others wait on. Each push
/// of an answer fails once.
#[rstest]
fn inv_1_and_3_a_substream_is_withdrawn_alone(
    #[values(None, Some(0), Some(3))] leaves: Option<u32>,
    #[values(0, 1, 2, 3)] fails: u32,
) {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 16);
    let of = SubstreamId::new;
    let mut tokens = Vec::new();
    for (tag, substream) in [(1, None), (2, Some(0)), (3, Some(3)), (4, leaves)] {
        hardware.stalls(8, tag);
        let token = faults.take_event(stall_of(8, substream, tag)).unwrap().fault().unwrap();
        assert_eq!(token.substream(), substream.and_then(of));
        tokens.push(token);
    }
    hardware.asks(8, leaves, 9);
    let group = faults.take_request(request(8, leaves, 9).with_last()).unwrap().fault().unwrap();
    // The same substream of another device.
    hardware.stalls(9, 1);
    let foreign = faults.take_event(stall_of(9, leaves, 1)).unwrap().fault().unwrap();

    let wanted = |id: &FaultId| id.stream == StreamId(8) && id.substream == leaves.and_then(of);
    hardware.fail_after(fails, 1);
    let withdrawn = faults.withdraw(wanted);
    assert_eq!(withdrawn.answered, 3);
    assert_eq!(withdrawn.left.kept, 3 - fails);
    hardware.mend();
    assert_eq!(faults.withdraw(wanted).left, Outstanding::default());
    assert_eq!(hardware.take().len(), 3);
    for token in tokens {
        let late = token.substream() == leaves.and_then(of);
        assert_eq!(token.retry(), if late { Answered::Withdrawn } else { Answered::Sent });
    }
    assert_eq!(group.success(), Answered::Withdrawn);
    assert_eq!(foreign.retry(), Answered::Sent);
    hardware.check();
}

/// The slot of a withdrawn fault may hold another one already.
#[test]
fn inv_1_a_token_of_an_earlier_generation_answers_nothing() {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 1);
    hardware.stalls(8, 1);
    let old = faults.take_event(stall(8, 1)).unwrap().fault().unwrap();
    let _ = faults.withdraw(|_| true);
    hardware.stalls(8, 1);
    let new = faults.take_event(stall(8, 1)).unwrap().fault().unwrap();
    hardware.take();
    assert_eq!(old.abort(), Answered::Withdrawn);
    assert_eq!(hardware.take(), []);
    assert_eq!(new.retry(), Answered::Sent);
    assert_eq!(hardware.take(), [resume(8, 1, ResumeAction::Retry)]);
    hardware.check();
}

#[test]
fn inv_2_a_leaked_token_waits_for_a_withdrawal() {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 1);
    hardware.stalls(8, 1);
    core::mem::forget(faults.take_event(stall(8, 1)).unwrap().fault().unwrap());
    assert_eq!(faults.outstanding().waiting, 1);
    assert_eq!(faults.withdraw(|_| true).answered, 1);
    hardware.check();
}

/// Each push of an answer fails once: the n-th of the run.
#[rstest]
fn inv_3_an_answer_that_the_queue_does_not_take_is_kept(#[values(0, 1, 2, 3, 4)] fails: u32) {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 8);
    for tag in 0..3 {
        hardware.stalls(8, tag);
    }
    hardware.asks(8, None, 0);
    hardware.asks(8, Some(1), 0);
    let tokens: Vec<_> =
        (0..3).map(|tag| faults.take_event(stall(8, tag)).unwrap().fault().unwrap()).collect();
    let group = faults.take_request(request(8, None, 0).with_last()).unwrap().fault().unwrap();
    let pasid = faults.take_request(request(8, Some(1), 0).with_last()).unwrap().fault().unwrap();
    hardware.fail_after(fails, 1);
    let mut ends: Vec<_> = tokens.into_iter().map(|token| token.retry()).collect();
    ends.extend([group.success(), pasid.invalid()]);
    let kept = ends.iter().filter(|end| matches!(end, Answered::Kept(SinkError::Timeout { .. })));
    assert_eq!(kept.count(), 1);
    assert_eq!(faults.outstanding(), Outstanding { waiting: 0, sending: 0, kept: 1 });
    assert_eq!(faults.send_kept(), Ok(1));
    assert_eq!(faults.send_kept(), Ok(0));
    // Each answer is what its token said, also the kept one.
    let sent = hardware.take();
    for tag in 0..3 {
        assert!(sent.contains(&resume(8, tag, ResumeAction::Retry)));
    }
    assert!(sent.contains(&response(8, None, 0, PriResponse::Success)));
    assert!(sent.contains(&response(8, Some(1), 0, PriResponse::Invalid)));
    hardware.check();
}

#[rstest]
fn inv_3_a_withdrawal_asks_a_queue_that_hangs_once(#[values(0, 1, 2, 3)] fails: u32) {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 8);
    let tokens: Vec<_> = (0..4)
        .map(|tag| {
            hardware.stalls(8, tag);
            faults.take_event(stall(8, tag)).unwrap().fault().unwrap()
        })
        .collect();
    hardware.fail_after(fails, u32::MAX);
    let withdrawn = faults.withdraw(|_| true);
    assert_eq!(withdrawn.answered, 4);
    assert!(withdrawn.error.is_some());
    assert_eq!(withdrawn.left, Outstanding { waiting: 0, sending: 0, kept: 4 - fails });
    assert_eq!(hardware.pushes(), fails + 1, "one try after the queue began to hang");
    // A withdrawal of a queue that still hangs waits once more, and changes nothing.
    assert_eq!(faults.withdraw(|_| true).left.kept, 4 - fails);
    assert_eq!(hardware.pushes(), fails + 2);
    assert!(tokens.into_iter().all(|token| token.retry() == Answered::Withdrawn));
    hardware.mend();
    let withdrawn = faults.withdraw(|_| true);
    assert_eq!((withdrawn.answered, withdrawn.error), (0, None));
    assert!(withdrawn.left.is_none());
    assert_eq!(hardware.take().len(), 4);
    hardware.check();
}

#[test]
fn inv_3_a_sink_that_panics_keeps_the_answer() {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 1);
    hardware.stalls(8, 1);
    let fault = faults.take_event(stall(8, 1)).unwrap().fault().unwrap();
    hardware.panic_once();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fault.retry()));
    assert!(panicked.is_err());
    assert_eq!(faults.outstanding().kept, 1);
    assert_eq!(faults.send_kept(), Ok(1));
    assert_eq!(hardware.take(), [resume(8, 1, ResumeAction::Retry)]);
    hardware.check();
}

#[test]
fn inv_5_a_full_table_answers_at_once() {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 1);
    hardware.stalls(8, 1);
    let first = faults.take_event(stall(8, 1)).unwrap().fault().unwrap();
    hardware.stalls(8, 2);
    assert!(matches!(faults.take_event(stall(8, 2)).unwrap(), Taken::NoRoom));
    hardware.asks(8, None, 2);
    let no_room = faults.take_request(request(8, None, 2).with_last()).unwrap();
    assert!(matches!(no_room, Taken::NoRoom));
    let want = [resume(8, 2, ResumeAction::Abort), response(8, None, 2, PriResponse::Success)];
    assert_eq!(hardware.take(), want);
    // If the queue does not take the answer, the record stays with its reader.
    hardware.stalls(8, 3);
    hardware.fail_after(0, 1);
    assert!(faults.take_event(stall(8, 3)).is_err());
    assert_eq!(hardware.take(), []);
    assert!(first.retry().is_sent());
    assert!(faults.take_event(stall(8, 3)).unwrap().fault().unwrap().abort().is_sent());
    hardware.check();
}

#[test]
fn a_reset_ends_stalls_and_keeps_groups() {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 4);
    hardware.stalls(8, 1);
    hardware.stalls(8, 2);
    hardware.asks(8, None, 1);
    let waiting = faults.take_event(stall(8, 1)).unwrap().fault().unwrap();
    let kept = faults.take_event(stall(8, 2)).unwrap().fault().unwrap();
    let group = faults.take_request(request(8, None, 1).with_last()).unwrap().fault().unwrap();
    hardware.fail_after(0, 1);
    assert!(matches!(kept.retry(), Answered::Kept(_)));
    hardware.reset();
    assert_eq!(faults.forget_stalls(), 2);
    // The SMMU uses a tag again.
    hardware.stalls(8, 1);
    let next = faults.take_event(stall(8, 1)).unwrap().fault().unwrap();
    assert_eq!(waiting.abort(), Answered::Withdrawn);
    assert_eq!(faults.send_kept(), Ok(0));
    assert!(group.success().is_sent() && next.retry().is_sent());
    assert!(faults.outstanding().is_none());
    hardware.check();

    let last = {
        hardware.asks(8, None, 1);
        faults.take_request(request(8, None, 1).with_last()).unwrap().fault().unwrap()
    };
    assert_eq!(faults.forget_all(), 1);
    assert_eq!(last.success(), Answered::Withdrawn);
}

#[test]
fn a_table_without_slots_answers_everything_itself() {
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, 0);
    hardware.stalls(8, 1);
    assert!(matches!(faults.take_event(stall(8, 1)).unwrap(), Taken::NoRoom));
    assert_eq!(faults.withdraw(|_| true).answered, 0);
    hardware.check();
}

/// A reader takes any record: a fault has exactly the tag that an answer needs.
#[test]
fn every_record_is_taken_or_needs_no_answer() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let hardware = Hardware::lenient(SMMU);
    let faults = table(&hardware, 4);
    for _ in 0..20_000 {
        let event = EventRecord([word() & !0xff | (word() % 0x30), word(), word(), word()]);
        let stalled = event.is_stalled();
        assert_eq!(faults.take_event(event).unwrap().fault().is_some(), stalled);
        let request = PriRecord([word(), word()]);
        let waits = request.is_last() && !request.is_stop();
        let group = faults.take_request(request).unwrap().fault();
        assert_eq!(group.is_some(), waits);
        drop(group);
        for command in hardware.take() {
            match command {
                Command::Resume { stream, tag, .. } => {
                    assert_eq!((stream, tag), (event.stream(), event.stall_tag()));
                }
                Command::PriResp { stream, substream, group, .. } => {
                    let want = (request.stream(), request.substream(), request.group());
                    assert_eq!((stream, substream, group), want);
                }
                other => unreachable!("{other}"),
            }
        }
    }
    let id = FaultTag::Stall(3);
    assert_ne!(id, FaultTag::Group(PrgIndex::new(3).unwrap()));
}

/// The seeds of the fuzz target `faults`: stalls and requests that repeat themselves, that find no room,
/// and whose answers the command queue does not take.
#[test]
fn the_seeds_of_the_fuzzer_are_answered_once() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/faults");
    let seeds = std::fs::read_dir(folder).unwrap();
    let waited: Vec<usize> =
        seeds.map(|seed| bytes::bytes(&std::fs::read(seed.unwrap().path()).unwrap())).collect();
    assert!(waited.len() >= 8, "{waited:?}");
    assert!(waited.iter().filter(|waited| **waited > 0).count() >= 6, "{waited:?}");
}
