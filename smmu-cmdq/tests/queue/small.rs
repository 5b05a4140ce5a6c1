//! The smallest ring, and rings with fewer cells than slots.

use std::num::NonZeroU32;

use crate::common::{QueueFixture, atc, illegal, nth, refused};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{QueueConfig, SyncBy};
use smmu_types::seam::SinkError;
use smmu_types::{Command, CommandErrorCode, MsiAttributes, SmmuId};

/// Every kind of call, on one queue.
fn every_call<const CELLS: usize>(log2: u8, pace: Pace, config: QueueConfig) {
    let fixture = QueueFixture::new(pace);
    let queue = fixture.queue_of_cells::<CELLS>(log2, config);
    let mut want = Vec::new();
    for lap in 0..12 {
        // A pushed and an issued batch: empty, of a few commands, as long as the ring, and longer.
        for length in [0, 1, 2, 3, 1 << log2, (2 << log2) + 1] {
            let commands: Vec<_> = (lap..lap + length).map(nth).collect();
            let pushed = queue.push(None, &commands).unwrap();
            let pushed = queue.push(Some(pushed), &[]).unwrap();
            let ticket = queue.prove(pushed, &commands).unwrap();
            let _proof = queue.wait(ticket).unwrap();
            want.extend(commands.repeat(2));
        }
        // A refused command: alone, pushed, and inside a long batch.
        let (bad, ill) = (illegal(lap), CommandErrorCode::ILL);
        assert_eq!(queue.run(&[bad]), Err(refused(bad, ill)));
        let pushed = queue.push(None, &[bad]).unwrap();
        let ticket = queue.prove(pushed, &[]).unwrap();
        assert_eq!(queue.wait(ticket), Err(refused(bad, ill)));
        let mut long: Vec<_> = (0..3 << log2).map(nth).collect();
        long.insert(2, bad);
        assert_eq!(queue.run(&long), Err(refused(bad, ill)));
        long.remove(2);
        want.extend(long);
        let _proof = queue.run(&[atc()]).unwrap();
        want.push(atc());
    }
    let carried_out = fixture.device.executed();
    let is_sync = |command: &Command| matches!(command, Command::Sync { .. });
    let others: Vec<_> = carried_out.into_iter().filter(|command| !is_sync(command)).collect();
    assert_eq!(others, want);
    assert_eq!((queue.failure_counts().total, queue.failure_counts().retried), (36, 0));
}

#[rstest]
fn every_call_works_on_a_ring_of_two(
    #[values(1, 2)] log2: u8,
    #[values(Pace::OnWrite, Pace::PerRead(1), Pace::PerRead(7))] pace: Pace,
    #[values(SyncBy::Polling, SyncBy::Event, SyncBy::Msi(MsiAttributes::WRITE_BACK))]
    sync_by: SyncBy,
    #[values(None, NonZeroU32::new(1), NonZeroU32::new(63))] sync_every: Option<NonZeroU32>,
) {
    let config = QueueConfig { sync_by, sync_every, ..QueueConfig::default() };
    every_call::<256>(log2, pace, config);
    every_call::<2>(log2, pace, config);
}

#[rstest]
fn every_call_works_with_fewer_cells_than_slots(#[values(3, 6)] log2: u8) {
    let (pace, config) = (Pace::PerRead(1), QueueConfig::default());
    every_call::<2>(log2, pace, config);
    every_call::<4>(log2, pace, config);
    every_call::<16>(log2, pace, config);
}

fn in_flight_never_exceeds<const CELLS: usize>(log2: u8, most: u32) {
    let fixture = QueueFixture::new(Pace::Dead);
    let queue = fixture.queue_of_cells::<CELLS>(log2, QueueConfig::default());
    let full = |error| {
        let Err(SinkError::Timeout { smmu: SmmuId(0), stall: Some(stall) }) = error else {
            panic!("{error:?}")
        };
        (stall.producer(), stall.consumer())
    };
    for n in 0..most {
        let _pushed = queue.push(None, &[nth(n.into())]).unwrap();
    }
    assert_eq!(full(queue.push(None, &[nth(0)]).map(|_| ())), (most, 0));
    assert_eq!(full(queue.issue(&[]).map(|_| ())), (most, 0));
    // A long batch gets no further either, and CMDQ_PROD stays.
    let long: Vec<_> = (0..3 << log2).map(nth).collect();
    assert_eq!(full(queue.issue(&long).map(|_| ())), (most, 0));
    fixture.device.set_pace(Pace::PerRead(1));
    let _proof = queue.run(&[nth(9)]).unwrap();
    assert_eq!(fixture.device.executed().len() as u32, most + 2);
}

#[test]
fn commands_in_flight_never_exceed_cells_or_slots() {
    in_flight_never_exceeds::<2>(6, 2);
    in_flight_never_exceeds::<16>(6, 16);
    in_flight_never_exceeds::<64>(6, 64);
    in_flight_never_exceeds::<256>(6, 64);
    in_flight_never_exceeds::<256>(1, 2);
}
