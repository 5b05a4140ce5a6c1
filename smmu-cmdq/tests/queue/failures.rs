//! Commands that the SMMU refuses, and who learns of it.

use crate::common::{QueueFixture, SMMU, atc, illegal, nth, refused};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_types::queue::Position;
use smmu_types::regs;
use smmu_types::seam::{RegistersExt, SinkError};
use smmu_types::{Command, CommandErrorCode, RawCommand};

#[rstest]
#[case(Pace::OnWrite)]
#[case(Pace::PerRead(1))]
#[case(Pace::PerRead(64))]
fn an_illegal_command_fails_its_own_waiter_only(#[case] pace: Pace) {
    let fixture = QueueFixture::new(pace);
    let queue = fixture.queue(4);
    let mut want = Vec::new();
    for n in 0..50 {
        let bad = illegal(n);
        let before = queue.issue(&[nth(n)]).unwrap();
        let failing = queue.issue(&[nth(n), bad, nth(n + 1)]).unwrap();
        let behind = queue.issue(&[nth(n + 2)]).unwrap();
        let _proof = queue.wait(behind).unwrap();
        assert_eq!(queue.wait(failing), Err(refused(bad, CommandErrorCode::ILL)));
        let _proof = queue.wait(before).unwrap();
        let sync = Command::SYNC;
        // A CMD_SYNC replaces the refused command. No other command is lost or doubled.
        want.extend([nth(n), sync, nth(n), sync, nth(n + 1), sync, nth(n + 2), sync]);
    }
    assert_eq!(fixture.device.executed(), want);
    assert_eq!(queue.failure_counts().total, 50);
}

#[test]
fn the_error_names_the_command() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(4);
    fixture.device.fail_at(1, &[CommandErrorCode::ILL]);
    let error = queue.run(&[nth(1), nth(2), nth(3)]).unwrap_err();
    assert_eq!(error.to_string(), "smmu0: CERROR_ILL on TLBI_NH_ASID vmid=0 asid=2");
}

#[test]
fn two_failures_in_one_ring_and_in_one_batch() {
    let fixture = QueueFixture::new(Pace::PerRead(2));
    let queue = fixture.queue(4);
    let (a, b, c) = (illegal(1), illegal(2), illegal(3));
    let first = queue.issue(&[a]).unwrap();
    let good = queue.issue(&[nth(1)]).unwrap();
    let second = queue.issue(&[b, nth(2), c]).unwrap();
    assert_eq!(queue.wait(second), Err(refused(b, CommandErrorCode::ILL)));
    assert_eq!(queue.wait(first), Err(refused(a, CommandErrorCode::ILL)));
    let _proof = queue.wait(good).unwrap();
    assert_eq!(queue.failure_counts().total, 3);
    let _proof = queue.run(&[nth(3)]).unwrap();
}

#[test]
fn a_batch_longer_than_the_ring_learns_of_its_failure() {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let queue = fixture.queue(2);
    let mut commands: Vec<_> = (0..90).map(nth).collect();
    commands[40] = illegal(40);
    assert_eq!(queue.run(&commands), Err(refused(illegal(40), CommandErrorCode::ILL)));
    assert_eq!(fixture.device.executed().len(), 91);
    let _proof = queue.run(&commands[..40]).unwrap();
}

#[test]
fn a_fetch_abort_is_retried() {
    let fixture = QueueFixture::new(Pace::PerRead(8));
    let queue = fixture.queue(4);
    fixture.device.fail_at(1, &[CommandErrorCode::ABT; 2]);
    let _proof = queue.run(&[nth(0), nth(1), nth(2)]).unwrap();
    assert_eq!(fixture.device.executed(), [nth(0), nth(1), nth(2), Command::SYNC]);
    let counts = queue.failure_counts();
    assert_eq!((counts.total, counts.retried), (0, 2));
}

#[rstest]
#[case(CommandErrorCode::ABT)]
#[case(CommandErrorCode(9))]
fn a_persistent_error_halts_the_queue(#[case] code: CommandErrorCode) {
    let fixture = QueueFixture::new(Pace::PerRead(8));
    let queue = fixture.queue(4);
    fixture.device.fail_at(3, &[code; 3]);
    let before = queue.issue(&[nth(0)]).unwrap();
    let failing = queue.issue(&[nth(1), nth(2)]).unwrap();
    let behind = queue.issue(&[nth(3)]).unwrap();
    let error = refused(nth(2), code);
    assert_eq!(queue.wait(failing), Err(error));
    assert_eq!(queue.wait(behind), Err(error));
    let _proof = queue.wait(before).unwrap();
    assert_eq!(queue.run(&[nth(4)]), Err(error));
    assert_eq!(queue.push(None, &[nth(4)]).unwrap_err(), error);
    assert_eq!(fixture.device.executed().len(), 3);
}

#[test]
fn an_atc_timeout_fails_the_sync_of_its_own_batch() {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let queue = fixture.queue(4);
    fixture.device.fail_at(1, &[CommandErrorCode::ATC_INV_SYNC]);
    let failing = queue.issue(&[atc()]).unwrap();
    let behind = queue.issue(&[nth(0)]).unwrap();
    assert_eq!(queue.wait(failing), Err(refused(Command::SYNC, CommandErrorCode::ATC_INV_SYNC)));
    let _proof = queue.wait(behind).unwrap();
    // The SMMU tries the CMD_SYNC again, and it completes.
    assert_eq!(fixture.device.executed(), [atc(), Command::SYNC, nth(0), Command::SYNC]);
}

#[test]
fn an_atc_invalidation_cannot_be_pushed() {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let queue = fixture.queue(4);
    let raw = Command::Unknown(RawCommand([0x40 | 1 << 10, 0]));
    for command in [atc(), raw] {
        let refused = queue.push(None, &[nth(0), command]).unwrap_err();
        assert_eq!(refused, SinkError::AtcInvPushed { smmu: SMMU });
    }
    let _proof = queue.run(&[]).unwrap();
    // A CMD_SYNC lies in its place.
    let sync = Command::SYNC;
    assert_eq!(fixture.device.executed(), [nth(0), sync, nth(0), sync, sync]);
}

#[test]
fn a_pushed_failure_fails_the_sync_that_proves_it() {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let queue = fixture.queue(4);
    let before = queue.issue(&[nth(0)]).unwrap();
    let pushed = queue.push(None, &[nth(1), illegal(1)]).unwrap();
    let other = queue.issue(&[nth(2)]).unwrap();
    let pushed = queue.push(Some(pushed), &[nth(3)]).unwrap();
    let own = queue.prove(pushed, &[nth(4)]).unwrap();
    let late = queue.issue(&[nth(5)]).unwrap();
    assert_eq!(queue.wait(late).map(|_| ()), Ok(()));
    assert_eq!(queue.wait(own), Err(refused(illegal(1), CommandErrorCode::ILL)));
    let _proof = queue.wait(other).unwrap();
    let _proof = queue.wait(before).unwrap();
    // Later pushes do not see it.
    let pushed = queue.push(None, &[nth(6)]).unwrap();
    let ticket = queue.prove(pushed, &[]).unwrap();
    let _proof = queue.wait(ticket).unwrap();
}

/// The queue does not know who pushed a command, so both tickets fail.
#[test]
fn a_failure_between_pushed_commands_fails_both_tickets() {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let queue = fixture.queue(4);
    let pushed = queue.push(None, &[nth(0)]).unwrap();
    let failing = queue.issue(&[illegal(1)]).unwrap();
    let proving = queue.prove(pushed, &[nth(1)]).unwrap();
    let error = refused(illegal(1), CommandErrorCode::ILL);
    assert_eq!(queue.wait(proving), Err(error));
    assert_eq!(queue.wait(failing), Err(error));
}

#[test]
fn the_interrupt_handler_does_the_same_as_a_waiter() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(4);
    assert_eq!(queue.handle_gerror(), None);
    let ticket = queue.issue(&[nth(0), illegal(1), nth(1)]).unwrap();
    let failure = queue.handle_gerror().unwrap();
    assert_eq!((failure.position, failure.command), (Position(1), illegal(1).encode()));
    assert_eq!(queue.handle_gerror(), None);
    assert_eq!(queue.wait(ticket), Err(failure.error()));
}

#[test]
fn a_stale_error_code_is_ignored() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(4);
    assert!(queue.run(&[illegal(0)]).is_err());
    // CMDQ_CONS.ERR still says CERROR_ILL.
    assert_ne!(fixture.device.read(regs::CMDQ_CONS) >> 24, 0);
    let _proof = queue.run(&[nth(0)]).unwrap();
    assert_eq!(queue.handle_gerror(), None);
}

#[test]
fn an_error_from_before_the_queue_fails_no_command() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(4);
    fixture.device.raise_cmdq_error(CommandErrorCode::ILL);
    assert_eq!(queue.handle_gerror(), None);
    let _proof = queue.run(&[nth(0)]).unwrap();
}

#[test]
fn other_bits_of_gerrorn_stay() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(4);
    queue.with_registers(|registers| registers.write(regs::GERRORN, 0x1fc)).unwrap();
    // The lock is not reentrant.
    assert_eq!(queue.with_registers(|_| queue.with_registers(|_| ())), Some(None));
    assert!(queue.run(&[illegal(0)]).is_err());
    assert_eq!(fixture.device.read(regs::GERRORN), 0x1fd);
}

#[test]
fn all_tickets_fail_even_with_too_many_failures() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(6);
    let mut tickets = Vec::new();
    for n in 0..30 {
        tickets.push(queue.issue(&[illegal(n)]).unwrap());
        assert!(queue.handle_gerror().is_some());
    }
    let last = queue.issue(&[nth(0)]).unwrap();
    let mut errors = Vec::new();
    for ticket in tickets {
        errors.push(queue.wait(ticket).unwrap_err());
    }
    let told = (0..30).map(|n| match n {
        0..14 => SinkError::TooManyFailures { smmu: SMMU },
        _ => refused(illegal(n), CommandErrorCode::ILL),
    });
    assert_eq!(errors, told.collect::<Vec<_>>());
    let _proof = queue.wait(last).unwrap();
    assert_eq!((queue.failure_counts().total, queue.failure_counts().evicted), (30, 14));
}

#[test]
fn a_failure_is_reported_rather_than_a_timeout() {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let queue = fixture.queue(4);
    let ticket = queue.issue(&[illegal(0), nth(0)]).unwrap();
    let mut looks = 0;
    while queue.handle_gerror().is_none() && looks < 10 {
        fixture.device.read(regs::CMDQ_CONS);
        looks += 1;
    }
    fixture.device.set_pace(Pace::Dead);
    assert_eq!(queue.wait(ticket), Err(refused(illegal(0), CommandErrorCode::ILL)));
}

#[test]
fn ignored_bits_do_not_stop_the_smmu() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(4);
    // CMD_SYNC with SIG_NONE and an MSI, CMD_CFGI_ALL with a StreamID.
    let sent = [[0xdead_beef_0fc0_0046, 0x4000_0010], [0x0000_0008_0000_0004, 31]];
    let sent = sent.map(|words| Command::Unknown(RawCommand(words)));
    let _proof = queue.run(&sent).unwrap();
    assert_eq!(fixture.device.executed(), [Command::SYNC, Command::CfgiAll, Command::SYNC]);
}

/// No command comes between the pieces, so the batch's own `CMD_SYNC` is the first behind them.
#[rstest]
fn an_atc_invalidation_may_be_anywhere_in_a_batch_longer_than_the_ring(
    #[values(1, 2, 3)] log2: u8,
    #[values(0, 3, 19)] at: usize,
) {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let queue = fixture.queue(log2);
    let mut commands: Vec<_> = (0..20).map(nth).collect();
    commands[at] = atc();
    let _proof = queue.run(&commands).unwrap();
    fixture.device.fail_at(41, &[CommandErrorCode::ATC_INV_SYNC]);
    let failing = queue.issue(&commands).unwrap();
    assert_eq!(queue.wait(failing), Err(refused(Command::SYNC, CommandErrorCode::ATC_INV_SYNC)));
    let want: Vec<_> = commands.iter().copied().chain([Command::SYNC]).collect();
    assert_eq!(fixture.device.executed(), want.repeat(2));
    // A pushed batch has no CMD_SYNC.
    assert!(matches!(queue.push(None, &commands), Err(SinkError::AtcInvPushed { .. })));
}

/// Only the interrupt handler sees the errors. No waiter looks between the completion and the halt.
#[test]
fn commands_carried_out_before_the_halt_are_still_proven() {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let queue = fixture.queue(4);
    fixture.device.fail_at(3, &[CommandErrorCode::ABT; 3]);
    let before = queue.issue(&[nth(0)]).unwrap();
    let failing = queue.issue(&[nth(1), nth(2)]).unwrap();
    let mut errors = 0;
    while errors < 3 {
        fixture.device.read(regs::CMDQ_CONS);
        errors += u32::from(queue.handle_gerror().is_some());
    }
    let _proof = queue.wait(before).unwrap();
    assert_eq!(queue.wait(failing), Err(refused(nth(2), CommandErrorCode::ABT)));
}
