//! The ring: order, laps, room, time-outs, and impossible values of `CMDQ_CONS`.

use core::time::Duration;

use crate::common::{FixtureQueue, QueueFixture, SMMU, nth, size};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{QueueConfig, QueueError, QueueSet, SyncBy};
use smmu_types::fake::heap_pool;
use smmu_types::queue::Position;
use smmu_types::seam::{CommandSink, CountingWait, DmaLayout, DmaMemory, SinkError, Stall, Wait};
use smmu_types::{Command, SmmuId};

#[rstest]
fn no_command_is_lost_or_doubled_over_many_laps(
    #[values(1, 2, 3, 4, 6)] log2: u8,
    #[values(Pace::OnWrite, Pace::PerRead(1), Pace::PerRead(3), Pace::PerRead(100))] pace: Pace,
    #[values(0, 1, 2, 3, 7, 64)] batch: u64,
) {
    let fixture = QueueFixture::new(pace);
    let queue = fixture.queue(log2);
    let mut want = Vec::new();
    let mut n = 0;
    while want.len() < 700 {
        let commands: Vec<Command> = (n..n + batch).map(nth).collect();
        n += batch;
        let proof = queue.run(&commands).unwrap();
        assert_eq!(proof.smmu(), SMMU);
        want.extend(commands);
        want.push(Command::SYNC);
        // Proven means carried out.
        assert_eq!(fixture.device.executed().len(), want.len());
    }
    assert_eq!(fixture.device.executed(), want);
    assert_eq!(queue.failure_counts().total, 0);
}

#[test]
fn several_tickets_in_flight_are_proven_in_any_order() {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let queue = fixture.queue(6);
    for lap in 0..40 {
        let [a, b, c] = [0, 1, 2].map(|n| queue.issue(&[nth(lap * 3 + n)]).unwrap());
        assert_eq!(a.positions(), Position(lap * 6)..Position(lap * 6 + 2));
        for ticket in [c, a, b] {
            let end = ticket.positions().end;
            let _proof = queue.wait(ticket).unwrap();
            assert!(fixture.device.executed().len() as u64 >= end.0);
        }
    }
}

#[test]
fn a_caller_waits_for_room_in_a_full_ring() {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let queue = fixture.queue(2);
    let tickets: Vec<_> = (0..50).map(|n| queue.issue(&[nth(n)]).unwrap()).collect();
    for ticket in tickets {
        let _proof = queue.wait(ticket).unwrap();
    }
    assert_eq!(fixture.device.executed().len(), 100);
}

#[test]
fn pushed_commands_precede_the_sync_that_proves_them() {
    let fixture = QueueFixture::new(Pace::PerRead(2));
    let queue = fixture.queue(3);
    let pushed = queue.push(None, &[]).unwrap();
    let pushed = queue.push(Some(pushed), &[nth(0), nth(1)]).unwrap();
    let more = (2..30).map(nth).collect::<Vec<_>>();
    let pushed = queue.push(Some(pushed), &more).unwrap();
    let ticket = queue.prove(pushed, &[nth(30)]).unwrap();
    let _proof = queue.wait(ticket).unwrap();
    let mut want: Vec<_> = (0..31).map(nth).collect();
    want.push(Command::SYNC);
    assert_eq!(fixture.device.executed(), want);
}

#[test]
fn waits_for_a_dead_device_are_bounded() {
    let fixture = QueueFixture::new(Pace::Dead);
    let queue = fixture.queue(2);
    // The error says where the queue stood.
    let timeout = |producer| SinkError::Timeout {
        smmu: SMMU,
        stall: Some(Stall::new(producer, 0, Some(nth(0).encode()))),
    };
    let ticket = queue.issue(&[nth(0)]).unwrap();
    let error = queue.wait(ticket).unwrap_err();
    assert_eq!(error, timeout(2));
    assert_eq!(
        error.to_string(),
        "smmu0: no CMD_SYNC completion in time; nothing queued before it counts as done: CMDQ_PROD = 0x2, \
         CMDQ_CONS = 0x0, the SMMU stands at TLBI_NH_ASID vmid=0 asid=0"
    );
    // Two of four slots are free. A batch no longer than the ring is queued whole or not at all.
    assert_eq!(queue.push(None, &[nth(7), nth(8), nth(9)]).unwrap_err(), timeout(2));
    let _pushed = queue.push(None, &[nth(1), nth(2)]).unwrap();
    assert_eq!(queue.push(None, &[nth(3)]).unwrap_err(), timeout(4));
    assert_eq!(queue.run(&[nth(3)]), Err(timeout(4)));
    assert_eq!(queue.run(&(0..100).map(nth).collect::<Vec<_>>()), Err(timeout(4)));
    // The device carries out what is queued once it runs again, and the queue still works.
    fixture.device.set_pace(Pace::PerRead(1));
    let _proof = queue.run(&[nth(4)]).unwrap();
    let want = [nth(0), Command::SYNC, nth(1), nth(2), nth(4), Command::SYNC];
    assert_eq!(fixture.device.executed(), want);
}

#[test]
fn the_timeout_is_the_configured_one() {
    let fixture = QueueFixture::new(Pace::Dead);
    let wait = CountingWait::new();
    let config = QueueConfig { timeout: Duration::from_micros(70), ..QueueConfig::default() };
    let queue = fixture.queue_on(&fixture.device, &wait, 3, config);
    assert!(matches!(queue.run(&[]), Err(SinkError::Timeout { .. })));
    assert!((Duration::from_micros(69)..=Duration::from_micros(72)).contains(&wait.now()));
}

#[rstest]
// The value of a bus without a device.
#[case::all_ones(u32::MAX)]
// Pointer 9 of a ring of 8, with five commands in flight: ahead of the producer.
#[case::ahead(9)]
#[case::reserved_bit(1 << 23)]
#[case::bit_above_the_wrap(1 << 5)]
fn an_impossible_consumer_halts_the_queue(#[case] cons: u32) {
    let fixture = QueueFixture::new(Pace::Dead);
    let queue = fixture.queue(3);
    let ticket = queue.issue(&[nth(0), nth(1)]).unwrap();
    let other = queue.issue(&[nth(2)]).unwrap();
    fixture.device.lie(Some(cons));
    let lost = SinkError::Lost { smmu: SMMU, cons };
    assert_eq!(queue.wait(ticket), Err(lost));
    // A plausible value afterwards proves nothing.
    fixture.device.lie(None);
    fixture.device.set_pace(Pace::OnWrite);
    assert_eq!(queue.wait(other), Err(lost));
    assert_eq!(queue.push(None, &[nth(3)]).unwrap_err(), lost);
    assert_eq!(queue.handle_gerror(), None);
}

#[test]
fn all_ones_completes_nothing_even_with_a_plausible_pointer() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(3);
    for n in 0..6 {
        let _proof = queue.run(&[nth(n)]).unwrap();
    }
    let _pushed = queue.push(None, &[nth(6)]).unwrap();
    fixture.device.set_pace(Pace::Dead);
    // Position 15: index and wrap bit are all ones.
    let ticket = queue.issue(&[nth(7)]).unwrap();
    assert_eq!(ticket.positions().end, Position(15));
    fixture.device.lie(Some(u32::MAX));
    assert_eq!(queue.wait(ticket), Err(SinkError::Lost { smmu: SMMU, cons: u32::MAX }));
}

#[test]
fn a_consumer_that_moves_back_halts_the_queue() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(3);
    let _proof = queue.run(&[nth(0), nth(1), nth(2)]).unwrap();
    fixture.device.set_pace(Pace::Dead);
    let ticket = queue.issue(&[nth(3)]).unwrap();
    fixture.device.lie(Some(1));
    assert_eq!(queue.wait(ticket), Err(SinkError::Lost { smmu: SMMU, cons: 1 }));
}

#[test]
fn other_smmus_and_other_queues_are_unknown() {
    let fixtures = [QueueFixture::new(Pace::OnWrite), QueueFixture::new(Pace::OnWrite)];
    let [queue, twin] = [&fixtures[0], &fixtures[1]].map(|fixture| fixture.queue(3));
    let stranger = SmmuId(7);
    let unknown = SinkError::UnknownSmmu { smmu: stranger };
    assert_eq!(CommandSink::push(&queue, stranger, None, &[]).unwrap_err(), unknown);
    assert_eq!(CommandSink::run(&queue, stranger, &[]), Err(unknown));
    let ticket = queue.issue(&[]).unwrap();
    assert_eq!(twin.wait(ticket), Err(SinkError::UnknownSmmu { smmu: SMMU }));
    let pushed = || queue.push(None, &[]).unwrap();
    let unknown = SinkError::UnknownSmmu { smmu: SMMU };
    assert_eq!(twin.push(Some(pushed()), &[]).unwrap_err(), unknown);
    assert_eq!(twin.prove(pushed(), &[]).unwrap_err(), unknown);
}

#[test]
fn a_set_sends_each_batch_to_its_own_queue() {
    let fixtures = [QueueFixture::new(Pace::PerRead(1)), QueueFixture::new(Pace::PerRead(1))];
    let make = |id: u16, fixture: usize| {
        let fixture = &fixtures[fixture];
        let (device, block) = (&fixture.device, fixture.block(3, SyncBy::Polling));
        let (wait, config) = (CountingWait::new(), QueueConfig::default());
        let queue: FixtureQueue<'_> =
            FixtureQueue::with_cells(SmmuId(id), device, block, size(3), wait, config).unwrap();
        device.enable(queue.base(), size(3));
        queue
    };
    let set = QueueSet::new([make(0, 0), make(5, 1)]).unwrap();
    let _pushed = set.push(SmmuId(5), None, &[nth(1)]).unwrap();
    assert_eq!(set.issue(SmmuId(5), &[]).unwrap().positions(), Position(1)..Position(2));
    assert_eq!(set.issue(SmmuId(0), &[]).unwrap().smmu(), SmmuId(0));
    let unknown = SinkError::UnknownSmmu { smmu: SmmuId(1) };
    assert_eq!(set.push(SmmuId(1), None, &[]).unwrap_err(), unknown);
    assert!(set.get(SmmuId(1)).is_none());
    let pushed = set.push(SmmuId(5), None, &[nth(1)]).unwrap();
    assert_eq!(set.prove(pushed, &[]).unwrap().smmu(), SmmuId(5));
    let twins: [FixtureQueue<'_>; 2] = [make(3, 0), make(3, 1)];
    assert_eq!(QueueSet::new(twins).map(|_| ()), Err(QueueError::Duplicate { smmu: SmmuId(3) }));
}

#[test]
fn unsuitable_blocks_are_refused() {
    let fixture = QueueFixture::new(Pace::Dead);
    let pool = heap_pool(0x1_0000);
    let make = |layout: DmaLayout, log2| {
        let block = pool.allocate(layout).unwrap();
        let (wait, config) = (CountingWait::new(), QueueConfig::default());
        FixtureQueue::<'_, 1024>::with_cells(SMMU, &fixture.device, block, size(log2), wait, config)
            .map(|_| ())
    };
    let _off = pool.allocate(DmaLayout::new(64, 64).unwrap()).unwrap();
    assert_eq!(
        make(DmaLayout::new(64, 64).unwrap(), 3),
        Err(QueueError::BlockTooSmall { bytes: 64, need: 128 })
    );
    assert_eq!(make(DmaLayout::new(64, 64).unwrap(), 0), Err(QueueError::TooSmall { entries: 1 }));
    assert!(matches!(make(DmaLayout::new(128, 64).unwrap(), 3), Err(QueueError::Base(_))));
    let sizes = (1..=19).map(|log2| smmu_cmdq::layout(size(log2), SyncBy::Polling));
    for (log2, layout) in (1..).zip(sizes) {
        assert_eq!(layout.bytes(), 16 << log2);
        assert!(layout.align() >= layout.bytes());
    }
}
