//! Invalidations that are sent twice.

use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{Opcodes, Passes, QueueConfig, QueueError, QueueGroup, QueueSet, RepeatingSink};
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{
    Capabilities, Command, CommandErrorCode, IdRegisters, PrgIndex, PriResponse, Quirk, Quirks,
    RawCommand, ResumeAction, SmmuId, StreamId,
};

use crate::common::{QueueFixture, SMMU, atc, illegal, nth, refused};

const CFGI: Command = Command::CfgiAll;
const SYNC: Command = Command::SYNC;

fn resume() -> Command {
    Command::Resume { stream: StreamId(8), tag: 3, action: ResumeAction::Retry }
}

fn answer() -> Command {
    let (stream, group) = (StreamId(8), PrgIndex::new(5).unwrap());
    Command::PriResp { stream, substream: None, group, response: PriResponse::Success }
}

/// All sequences of `length` of these commands; equal ones are told apart by their number.
fn sequences(length: u32) -> impl Iterator<Item = Vec<Command>> {
    (0..5_usize.pow(length)).map(move |number| {
        let kind = |at: u32| number / 5_usize.pow(at) % 5;
        let command = |at: u32| match kind(at) {
            0 => nth(at.into()),
            1 => Command::CfgiSte { stream: StreamId(at), leaf: smmu_types::Leaf::Last },
            2 => atc(),
            3 => Command::Resume { stream: StreamId(at), tag: 1, action: ResumeAction::Abort },
            _ => answer(),
        };
        (0..length).map(command).collect()
    })
}

/// The commands of a device that has executed `commands` by two passes, and one `CMD_SYNC` at the
/// end: the architecture's order holds, and the erratum is obeyed.
fn judge(executed: &[Command], commands: &[Command]) {
    let (last, before) = executed.split_last().unwrap();
    assert_eq!(*last, SYNC);
    let tail = before.len() - commands.len();
    assert_eq!(&before[tail..], commands, "the second pass is the call");
    for command in commands {
        let at: Vec<_> = (0..executed.len()).filter(|at| executed[*at] == *command).collect();
        let asked = commands.iter().filter(|other| *other == command).count();
        let opcode = command.encode().opcode();
        if (0x03..0x40).contains(&opcode) {
            assert_eq!(at.len(), 2 * asked, "{command} in {executed:?}");
            let between = &executed[at[0]..at[1]];
            assert!(between.contains(&SYNC), "no CMD_SYNC between both of {command}");
        } else {
            assert_eq!(at.len(), asked, "{command} is repeated in {executed:?}");
        }
    }
}

#[test]
fn every_short_batch_obeys_the_erratum() {
    for length in 1..=4 {
        for commands in sequences(length) {
            let fixture = QueueFixture::new(Pace::OnWrite);
            let sink = RepeatingSink::new(fixture.queue(5), Passes::Two);
            assert_eq!(sink.run(SMMU, &commands).unwrap().smmu(), SMMU);
            judge(&fixture.device.executed(), &commands);
        }
    }
}

#[test]
fn without_an_invalidation_nothing_is_added() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let sink = RepeatingSink::new(fixture.queue(5), Passes::Two);
    let _proof = sink.run(SMMU, &[atc(), resume()]).unwrap();
    let _proof = sink.run(SMMU, &[]).unwrap();
    assert_eq!(fixture.device.executed(), [atc(), resume(), SYNC, SYNC]);
}

#[test]
fn one_pass_changes_nothing() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let sink = RepeatingSink::new(fixture.queue(5), Passes::One);
    let pushed = sink.push(SMMU, None, &[nth(1)]).unwrap();
    let pushed = sink.push(SMMU, Some(pushed), &[CFGI]).unwrap();
    let ticket = sink.prove(pushed, &[nth(2), atc()]).unwrap();
    let _proof = sink.wait(ticket).unwrap();
    assert_eq!(fixture.device.executed(), [nth(1), CFGI, nth(2), atc(), SYNC]);
}

#[test]
fn what_is_pushed_is_sent_twice_before_its_proof() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let sink = RepeatingSink::new(fixture.queue(6), Passes::Two);
    let pushed = sink.push(SMMU, None, &[nth(1), nth(2)]).unwrap();
    let pushed = sink.push(SMMU, Some(pushed), &[CFGI]).unwrap();
    let pushed = sink.push(SMMU, Some(pushed), &[]).unwrap();
    let ticket = sink.prove(pushed, &[nth(3), atc()]).unwrap();
    let _proof = sink.wait(ticket).unwrap();
    let mut want = vec![nth(1), nth(2), SYNC, nth(1), nth(2)];
    want.extend([CFGI, SYNC, CFGI]);
    want.extend([nth(3), SYNC, nth(3), atc(), SYNC]);
    assert_eq!(fixture.device.executed(), want);
}

#[test]
fn a_proof_without_commands_covers_both_passes_of_a_push() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let sink = RepeatingSink::new(fixture.queue(6), Passes::Two);
    let pushed = sink.push(SMMU, None, &[nth(1)]).unwrap();
    let ticket = sink.prove(pushed, &[]).unwrap();
    let _proof = sink.wait(ticket).unwrap();
    assert_eq!(fixture.device.executed(), [nth(1), SYNC, nth(1), SYNC]);
}

/// Queued as: 0 TLBI, 1 CFGI, 2 SYNC, 3 TLBI, 4 CFGI, 5 SYNC.
#[rstest]
fn an_error_of_either_pass_is_an_error_of_the_call(
    #[values(0, 1, 2, 3, 4, 5)] position: u64,
    // The queue replaces an illegal command, and gives up at the third abort of one command.
    #[values((CommandErrorCode::ILL, 1), (CommandErrorCode::ABT, 3))] errors: (
        CommandErrorCode,
        usize,
    ),
) {
    let (code, times) = errors;
    let fixture = QueueFixture::new(Pace::OnWrite);
    let sink = RepeatingSink::new(fixture.queue(5), Passes::Two);
    fixture.device.fail_at(position, &vec![code; times]);
    let batch = [nth(1), CFGI];
    let failed = batch.into_iter().chain([SYNC]).cycle().nth(position as usize).unwrap();
    assert_eq!(sink.run(SMMU, &batch), Err(refused(failed, code)));
}

#[rstest]
#[case::first_pass(2)]
#[case::second_pass(4)]
fn an_error_of_a_pushed_pass_is_an_error_of_the_proof(#[case] position: u64) {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let sink = RepeatingSink::new(fixture.queue(5), Passes::Two);
    // Queued as: 0 RESUME, 1 SYNC of another call, 2 TLBI, 3 SYNC, 4 TLBI, 5 SYNC.
    let _proof = sink.run(SMMU, &[resume()]).unwrap();
    fixture.device.fail_at(position, &[CommandErrorCode::ILL]);
    let pushed = sink.push(SMMU, None, &[nth(1)]).unwrap();
    let ticket = sink.prove(pushed, &[]).unwrap();
    assert_eq!(sink.wait(ticket), Err(refused(nth(1), CommandErrorCode::ILL)));
}

#[test]
fn a_stopped_smmu_is_a_timeout_with_its_queue() {
    let fixture = QueueFixture::new(Pace::Dead);
    let sink = RepeatingSink::new(fixture.queue(5), Passes::Two);
    let error = sink.run(SMMU, &[nth(1)]).unwrap_err();
    assert!(
        matches!(error, SinkError::Timeout { stall: Some(stall), .. } if stall.producer() == 4)
    );
}

#[test]
fn a_batch_longer_than_the_ring_goes_through_twice() {
    let fixture = QueueFixture::new(Pace::PerRead(3));
    let sink = RepeatingSink::new(fixture.queue(3), Passes::Two);
    let batch: Vec<_> = (0..40).map(nth).collect();
    let _proof = sink.run(SMMU, &batch).unwrap();
    let executed = fixture.device.executed();
    for command in batch {
        let at: Vec<_> = (0..executed.len()).filter(|at| executed[*at] == command).collect();
        assert_eq!(at.len(), 2, "{command}");
        assert!(executed[at[0]..at[1]].contains(&SYNC));
    }
}

#[test]
fn atc_inv_is_not_pushed_by_the_first_pass() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let sink = RepeatingSink::new(fixture.queue(5), Passes::Two);
    // The queue takes it where its own `CMD_SYNC` follows, and only there.
    let _proof = sink.run(SMMU, &[atc(), nth(1)]).unwrap();
    assert_eq!(fixture.device.executed(), [nth(1), SYNC, atc(), nth(1), SYNC]);
    let error = sink.push(SMMU, None, &[atc()]).map(drop).unwrap_err();
    assert_eq!(error, SinkError::AtcInvPushed { smmu: SMMU });
}

#[test]
fn an_unknown_command_is_repeated_by_its_opcode() {
    let fixture = QueueFixture::new(Pace::Dead);
    let sink = RepeatingSink::new(fixture.queue(5), Passes::Two);
    // TLBI_NSNH_ALL with a reserved bit, then an opcode that means nothing.
    let tlbi = Command::Unknown(RawCommand([0x30 | 1 << 40, 0]));
    let _ticket = sink.issue(SMMU, &[tlbi, illegal(1)]).unwrap();
    fixture.device.set_pace(Pace::PerRead(1));
    // TLBI, SYNC, TLBI, unknown, SYNC.
    let produced = sink.inner().with_registers(|device| {
        use smmu_types::seam::RegistersExt;
        device.read(smmu_types::regs::CMDQ_PROD)
    });
    assert_eq!(produced, Some(5));
}

/// Both passes of a call go to one queue of a group, and the sink is an element of a set.
#[test]
fn it_stands_between_a_group_and_a_set() -> Result<(), QueueError> {
    let [main, other] = [(); 2].map(|()| QueueFixture::new(Pace::PerRead(64)));
    let guest = QueueConfig { takes: Opcodes::VCMDQ_GUEST, ..QueueConfig::default() };
    let queues = [main.queue(5), other.queue_with(5, guest)];
    let group = QueueGroup::new(queues, |_: &[Command]| 0)?;
    let set = QueueSet::new([RepeatingSink::new(group, Passes::Two)])?;
    let _proof = set.run(SMMU, &[nth(1)]).unwrap();
    assert_eq!(other.device.executed(), [nth(1), SYNC, nth(1), SYNC]);
    // The virtual queue does not take CFGI, so the main queue gets the whole call.
    let pushed = set.push(SMMU, None, &[CFGI]).unwrap();
    let ticket = set.prove(pushed, &[CFGI, nth(2)]).unwrap();
    let _proof = set.wait(ticket).unwrap();
    let want = [CFGI, SYNC, CFGI, CFGI, nth(2), SYNC, CFGI, nth(2), SYNC];
    assert_eq!(main.device.executed(), want);
    let unknown = set.issue(SmmuId(1), &[]).map(drop);
    assert_eq!(unknown, Err(SinkError::UnknownSmmu { smmu: SmmuId(1) }));
    Ok(())
}

#[test]
fn pushed_commands_stay_with_their_smmu() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let sink = RepeatingSink::new(fixture.queue(5), Passes::Two);
    let pushed = sink.push(SMMU, None, &[nth(1)]).unwrap();
    let error = sink.push(SmmuId(1), Some(pushed), &[]).map(drop);
    assert_eq!(error, Err(SinkError::UnknownSmmu { smmu: SmmuId(1) }));
}

#[test]
fn the_quirk_chooses_the_passes_and_no_id_register_has_it() {
    let told = Quirks::NONE.with(Quirk::RepeatInvalidations);
    assert_eq!(Passes::suited_to(told), Passes::Two);
    assert_eq!(Passes::suited_to(Quirks::NONE), Passes::One);
    for product in 0..1 << 12 {
        for made in [0x43b, 0x36b, 0] {
            let id = IdRegisters { iidr: product << 20 | made, ..IdRegisters::default() };
            let quirks = Quirks::of(Capabilities::decode(id).implementation);
            assert_eq!(Passes::suited_to(quirks), Passes::One);
        }
    }
}
