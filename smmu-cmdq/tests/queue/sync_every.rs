//! An SMMU that may not be given many commands without a `CMD_SYNC`.

use std::num::NonZeroU32;

use crate::common::{Machine, atc, nth, refused};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{CompareExchange, FetchAdd, QueueConfig, Reserve};
use smmu_types::{Command, CommandErrorCode};

fn every(every: u32) -> QueueConfig {
    QueueConfig { sync_every: NonZeroU32::new(every), ..QueueConfig::default() }
}

const LENGTHS: [u64; 12] = [0, 1, 2, 3, 4, 5, 62, 63, 64, 65, 127, 200];

/// Runs of commands without a `CMD_SYNC`, and what is in all of them.
fn runs(machine: &Machine) -> (usize, Vec<Command>) {
    let executed = machine.device.executed();
    assert_eq!(executed.last(), Some(&Command::SYNC), "the end of a call");
    let runs = executed.split(|command| *command == Command::SYNC);
    let longest = runs.clone().map(<[Command]>::len).max().unwrap_or(0);
    (longest, runs.flatten().copied().collect())
}

fn never_more_than<S: Reserve>(most: u32, log2: u8) {
    let machine = Machine::new(Pace::OnWrite);
    let queue = machine.queue_with::<S, 256>(log2, every(most));
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
        let (longest, carried_out) = runs(&machine);
        assert!(longest <= most as usize, "{longest} commands without a CMD_SYNC");
        assert_eq!(carried_out, want);
    }
}

#[rstest]
fn neither_pushed_nor_issued_are_there_ever_more_commands_without_one(
    #[values(1, 2, 3, 63, 64)] most: u32,
    #[values(1, 2, 3, 7, 8)] log2: u8,
) {
    never_more_than::<CompareExchange>(most, log2);
    never_more_than::<FetchAdd>(most, log2);
}

/// A batch that fits is not cut up: it costs no more than the one at its end.
#[rstest]
#[case(1, &[1, 1, 1, 1])]
#[case(2, &[1, 1, 1, 1])]
#[case(3, &[2, 2])]
#[case(4, &[4])]
#[case(63, &[4])]
fn a_long_batch_is_cut_where_it_has_to_be(#[case] most: u32, #[case] pieces: &[usize]) {
    let machine = Machine::new(Pace::OnWrite);
    let queue = machine.queue_with::<CompareExchange, 256>(6, every(most));
    let _proof = queue.run(&[nth(0), nth(1), nth(2), nth(3)]).unwrap();
    let executed = machine.device.executed();
    let runs: Vec<_> = executed.split(|c| *c == Command::SYNC).map(<[Command]>::len).collect();
    assert_eq!(runs.split_last(), Some((&0, pieces)));
}

#[test]
fn what_a_sync_within_a_batch_has_found_out_is_told_to_the_batch() {
    let machine = Machine::new(Pace::PerRead(1));
    let queue = machine.queue_with::<CompareExchange, 256>(6, every(3));
    // The CMD_SYNC behind the first piece.
    machine.device.fail_at(2, &[CommandErrorCode::ATC_INV_SYNC]);
    let ticket = queue.issue(&[atc(), nth(0), nth(1), nth(2)]).unwrap();
    let other = queue.issue(&[nth(3)]).unwrap();
    let error = refused(Command::SYNC, CommandErrorCode::ATC_INV_SYNC);
    assert_eq!(queue.wait(ticket), Err(error));
    let _proof = queue.wait(other).unwrap();
}

/// They have a `CMD_SYNC` of their own batch after all.
#[test]
fn atc_invalidations_may_be_pushed_where_each_batch_ends_with_a_sync() {
    let machine = Machine::new(Pace::PerRead(1));
    let queue = machine.queue_with::<CompareExchange, 256>(6, every(63));
    machine.device.fail_at(1, &[CommandErrorCode::ATC_INV_SYNC]);
    let pushed = queue.push(None, &[atc()]).unwrap();
    let other = queue.issue(&[nth(0)]).unwrap();
    let _proof = queue.wait(other).unwrap();
    let ticket = queue.prove(pushed, &[]).unwrap();
    let error = refused(Command::SYNC, CommandErrorCode::ATC_INV_SYNC);
    assert_eq!(queue.wait(ticket), Err(error));
}
