//! SMMUs that allow only so many commands in a row without a `CMD_SYNC`.

use std::num::NonZeroU32;

use crate::common::{QueueFixture, atc, nth, refused};
use rstest::rstest;
use smmu_cmdq::QueueConfig;
use smmu_cmdq::fake::Pace;
use smmu_types::{Command, CommandErrorCode};

fn every(every: u32) -> QueueConfig {
    QueueConfig { sync_every: NonZeroU32::new(every), ..QueueConfig::default() }
}

const LENGTHS: [u64; 12] = [0, 1, 2, 3, 4, 5, 62, 63, 64, 65, 127, 200];

/// The longest run of commands without a `CMD_SYNC`, and the commands of all runs.
fn runs(fixture: &QueueFixture) -> (usize, Vec<Command>) {
    let executed = fixture.device.executed();
    assert_eq!(executed.last(), Some(&Command::SYNC), "the end of a call");
    let runs = executed.split(|command| *command == Command::SYNC);
    let longest = runs.clone().map(<[Command]>::len).max().unwrap_or(0);
    (longest, runs.flatten().copied().collect())
}

fn runs_never_exceed(most: u32, log2: u8) {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue_with(log2, every(most));
    let (mut pushed, mut n, mut want) = (None, 0, Vec::new());
    for length in LENGTHS.into_iter().cycle().take(60) {
        let commands: Vec<_> = (n..n + length).map(nth).collect();
        match n % 3 {
            0 => pushed = Some(queue.push(pushed, &commands).unwrap()),
            1 => drop(queue.run(&commands).unwrap()),
            _ => {
                let ticket = match pushed.take() {
                    Some(pushed) => queue.prove(pushed, &commands).unwrap(),
                    None => queue.issue(&commands).unwrap(),
                };
                let _proof = queue.wait(ticket).unwrap();
            }
        }
        n += length;
        want.extend(commands);
        let (longest, carried_out) = runs(&fixture);
        assert!(longest <= most as usize, "{longest} commands without a CMD_SYNC");
        assert_eq!(carried_out, want);
    }
}

#[rstest]
fn pushed_and_issued_commands_never_exceed_the_maximum_without_a_sync(
    #[values(1, 2, 3, 63, 64)] most: u32,
    #[values(1, 2, 3, 7, 8)] log2: u8,
) {
    runs_never_exceed(most, log2);
}

/// A batch that fits is not split: it costs no `CMD_SYNC` but the one at its end.
#[rstest]
#[case(1, &[1, 1, 1, 1])]
#[case(2, &[1, 1, 1, 1])]
#[case(3, &[2, 2])]
#[case(4, &[4])]
#[case(63, &[4])]
fn a_long_batch_is_split_only_where_necessary(#[case] most: u32, #[case] pieces: &[usize]) {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue_with(6, every(most));
    let _proof = queue.run(&[nth(0), nth(1), nth(2), nth(3)]).unwrap();
    let executed = fixture.device.executed();
    let runs: Vec<_> = executed.split(|c| *c == Command::SYNC).map(<[Command]>::len).collect();
    assert_eq!(runs.split_last(), Some((&0, pieces)));
}

#[test]
fn a_failed_sync_inside_a_batch_fails_the_batch() {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let queue = fixture.queue_with(6, every(3));
    // The CMD_SYNC behind the first piece.
    fixture.device.fail_at(2, &[CommandErrorCode::ATC_INV_SYNC]);
    let ticket = queue.issue(&[atc(), nth(0), nth(1), nth(2)]).unwrap();
    let other = queue.issue(&[nth(3)]).unwrap();
    let error = refused(Command::SYNC, CommandErrorCode::ATC_INV_SYNC);
    assert_eq!(queue.wait(ticket), Err(error));
    let _proof = queue.wait(other).unwrap();
}

/// Each batch ends with a `CMD_SYNC` of its own, which learns of the time-out.
#[test]
fn atc_invalidations_may_be_pushed_if_each_batch_ends_with_a_sync() {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let queue = fixture.queue_with(6, every(63));
    fixture.device.fail_at(1, &[CommandErrorCode::ATC_INV_SYNC]);
    let pushed = queue.push(None, &[atc()]).unwrap();
    let other = queue.issue(&[nth(0)]).unwrap();
    let _proof = queue.wait(other).unwrap();
    let ticket = queue.prove(pushed, &[]).unwrap();
    let error = refused(Command::SYNC, CommandErrorCode::ATC_INV_SYNC);
    assert_eq!(queue.wait(ticket), Err(error));
}
