//! Several threads on one queue.

use std::collections::BTreeMap;

use crate::common::{QueueFixture, illegal};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_types::seam::SinkError;
use smmu_types::{Asid, Command, Vmid};

const THREADS: u16 = 4;
const BATCHES: u16 = 150;

fn command(thread: u16, n: u16) -> Command {
    Command::TlbiNhAsid { vmid: Vmid(thread), asid: Asid(n) }
}

#[rstest]
fn every_ticket_is_proven_and_batches_stay_whole(
    #[values(2, 4, 6)] log2: u8,
    #[values(Pace::OnWrite, Pace::PerRead(1), Pace::PerRead(5))] pace: Pace,
) {
    let fixture = QueueFixture::new(pace);
    let queue = fixture.queue(log2);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let queue = &queue;
            scope.spawn(move || {
                for batch in 0..BATCHES {
                    // Some batches are longer than the smallest ring.
                    let length = batch % 6;
                    let commands: Vec<_> =
                        (0..length).map(|n| command(thread, batch * 8 + n)).collect();
                    let _proof = queue.run(&commands).unwrap();
                }
            });
        }
    });
    let mut next: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
    let mut open: Option<u16> = None;
    for executed in fixture.device.executed() {
        match executed {
            Command::Sync { .. } => open = None,
            Command::TlbiNhAsid { vmid, asid } => {
                assert_eq!(*open.get_or_insert(vmid.0), vmid.0, "a batch was interleaved");
                next.entry(vmid.0).or_default().push(asid.0);
            }
            other => panic!("{other} was never queued"),
        }
    }
    for thread in 0..THREADS {
        let want: Vec<u16> =
            (0..BATCHES).flat_map(|batch| (0..batch % 6).map(move |n| batch * 8 + n)).collect();
        assert_eq!(next.get(&thread), Some(&want));
    }
}

#[rstest]
fn each_thread_learns_of_its_own_failures(#[values(2, 4, 6)] log2: u8) {
    let fixture = QueueFixture::new(Pace::PerRead(2));
    let queue = fixture.queue(log2);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let queue = &queue;
            scope.spawn(move || {
                for batch in 0..BATCHES {
                    let good = [command(thread, batch * 2), command(thread, batch * 2 + 1)];
                    if batch % 3 != thread % 3 {
                        let _proof = queue.run(&good).unwrap();
                        continue;
                    }
                    let bad = illegal(u64::from(thread) << 16 | u64::from(batch));
                    let result = queue.run(&[good[0], bad, good[1]]);
                    let raw = bad.encode();
                    assert!(
                        matches!(result, Err(SinkError::Command { command, .. }) if command == raw),
                        "{result:?}"
                    );
                }
            });
        }
        let queue = &queue;
        scope.spawn(move || {
            for _ in 0..1000 {
                queue.handle_gerror();
                std::thread::yield_now();
            }
        });
    });
    let good =
        fixture.device.executed().into_iter().filter(|c| matches!(c, Command::TlbiNhAsid { .. }));
    assert_eq!(good.count(), usize::from(THREADS * BATCHES * 2));
}
