//! The PRI queue over many laps, on overflow, and when the reader stops in the middle.
#![cfg(feature = "fake")]
#![expect(clippy::unwrap_used, reason = "tests")]

use core::ops::ControlFlow;

use rstest::rstest;
use smmu_hw_mmio::fake::{EventWriter, PriWriter, smmu};
use smmu_hw_mmio::{
    DrainedEvents, DrainedRequests, EventQueue, PriQueue, PriQueueError, event_layout,
    page_request_layout,
};
use smmu_types::fake::{FakeRegisters, HeapWindow, PoolBlock, heap_pool};
use smmu_types::queue::QueueSize;
use smmu_types::regs;
use smmu_types::seam::{DmaLayout, DmaMemory};
use smmu_types::{EventKind, EventRecord, Iova, PrgIndex, PriRecord, RequestedAccess, StreamId};

type TestQueue<'a> = PriQueue<&'a FakeRegisters, PoolBlock<HeapWindow>>;

/// Request `n`: each one is different in both words.
fn request(n: u32) -> PriRecord {
    let group = PrgIndex::new((n % 512) as u16).unwrap();
    let access = RequestedAccess { read: true, ..RequestedAccess::default() };
    let page = Iova(u64::from(n) << 12);
    let request = PriRecord::new(StreamId(n), group, page, access).unwrap();
    if n.is_multiple_of(3) { request.with_last() } else { request }
}

fn setup(registers: &FakeRegisters, log2: u8) -> (TestQueue<'_>, PriWriter) {
    let size = QueueSize::from_log2(log2).unwrap();
    let pool = heap_pool(0x1_0000);
    let block = pool.allocate(page_request_layout(size)).unwrap();
    let queue = PriQueue::new(registers, block, size).unwrap();
    let writer = PriWriter::new(pool.window(), queue.base(), size);
    (queue, writer)
}

fn drain(queue: &mut TestQueue<'_>) -> (Result<DrainedRequests, PriQueueError>, Vec<PriRecord>) {
    let mut records = Vec::new();
    (queue.drain(|record| records.push(record)), records)
}

#[rstest]
fn many_laps_lose_and_repeat_no_request(
    #[values(0, 1, 2, 3, 5)] log2: u8,
    #[values(1, 2, 3, 7, 32)] burst: u32,
) {
    let registers = smmu();
    let (mut queue, mut writer) = setup(&registers, log2);
    let burst = burst.min(1 << log2);
    let mut n = 0;
    while n < 700 {
        for i in 0..burst {
            assert!(writer.write(&registers, request(n + i)));
        }
        let (drained, records) = drain(&mut queue);
        assert_eq!(drained, Ok(DrainedRequests { records: burst, overflowed: false }));
        assert_eq!(records, (n..n + burst).map(request).collect::<Vec<_>>());
        n += burst;
    }
}

/// 8.1.1: one write of `PRIQ_CONS` frees the whole queue and acknowledges the overflow.
#[test]
fn one_write_frees_the_queue_and_acknowledges_the_overflow() {
    let registers = smmu();
    let (mut queue, mut writer) = setup(&registers, 2);
    // The flag toggles in both directions.
    for round in 0..5 {
        for n in 0..4 {
            assert!(writer.write(&registers, request(round * 8 + n)));
        }
        assert!(!writer.write(&registers, request(99)));
        registers.take_writes();
        let (drained, records) = drain(&mut queue);
        assert_eq!(drained, Ok(DrainedRequests { records: 4, overflowed: true }));
        assert_eq!(records, (0..4).map(|n| request(round * 8 + n)).collect::<Vec<_>>());
        let flags = [regs::PRIQ_PROD, regs::PRIQ_CONS].map(|r| registers.get(r.offset()));
        assert_eq!(flags[0], flags[1]);
        assert_eq!(registers.take_writes(), [(regs::PRIQ_CONS.offset(), flags[1])]);
        assert!(writer.write(&registers, request(7)), "the queue takes requests again");
        assert_eq!(drain(&mut queue).1, [request(7)]);
    }
}

/// A group that is incomplete at an overflow is answered already. So no request behind the overflow
/// may come in the same call, where it would look like one more of that group.
#[test]
fn no_call_returns_requests_from_both_sides_of_an_overflow() {
    let registers = smmu();
    let (mut queue, mut writer) = setup(&registers, 3);
    for n in 0..8 {
        assert!(writer.write(&registers, request(n)));
    }
    assert!(!writer.write(&registers, request(8)));
    let mut seen = Vec::new();
    let drained = queue.drain(|record| seen.push(record));
    assert_eq!(drained, Ok(DrainedRequests { records: 8, overflowed: true }));
    assert!(writer.write(&registers, request(9)));
    let (drained, records) = drain(&mut queue);
    assert_eq!(drained, Ok(DrainedRequests { records: 1, overflowed: false }));
    assert_eq!(records, [request(9)]);
}

/// The overflow comes while a call is already taking requests, and with more than the call may
/// take: it is acknowledged only with the last request from before it.
#[test]
fn an_overflow_is_acknowledged_with_the_last_request_before_it() {
    let registers = smmu();
    let (mut queue, mut writer) = setup(&registers, 2);
    for n in 0..2 {
        assert!(writer.write(&registers, request(n)));
    }
    let mut more = 2;
    let drained = queue.drain(|_| {
        // Each request that is taken brings more, until the queue overflows.
        while more < 6 {
            if !writer.write(&registers, request(more)) {
                break;
            }
            more += 1;
        }
    });
    assert_eq!(drained, Ok(DrainedRequests { records: 4, overflowed: true }));
    let (drained, records) = drain(&mut queue);
    assert_eq!((drained, records), (Ok(DrainedRequests::default()), vec![]));
    assert!(writer.write(&registers, request(50)));
    assert_eq!(drain(&mut queue).1, [request(50)]);
}

#[rstest]
fn a_request_at_which_the_reader_stops_stays(
    #[values(0, 1, 3)] taken: u32,
    #[values(false, true)] overflow: bool,
) {
    let registers = smmu();
    let (mut queue, mut writer) = setup(&registers, 2);
    for n in 0..4 {
        assert!(writer.write(&registers, request(n)));
    }
    if overflow {
        assert!(!writer.write(&registers, request(4)));
    }
    registers.take_writes();
    let mut left = taken;
    let drained = queue.drain_while(|_| match left.checked_sub(1) {
        Some(less) => {
            left = less;
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(()),
    });
    // An overflow stays active: the queue may hold the rest of a group from before it.
    assert_eq!(drained, Ok(DrainedRequests { records: taken, overflowed: false }));
    let written = if taken == 0 { vec![] } else { vec![(regs::PRIQ_CONS.offset(), taken.into())] };
    assert_eq!(registers.take_writes(), written);
    let (drained, records) = drain(&mut queue);
    assert_eq!(drained, Ok(DrainedRequests { records: 4 - taken, overflowed: overflow }));
    assert_eq!(records, (taken..4).map(request).collect::<Vec<_>>());
}

#[test]
fn an_event_at_which_the_reader_stops_stays() {
    let registers = smmu();
    let size = QueueSize::from_log2(2).unwrap();
    let pool = heap_pool(0x1000);
    let block = pool.allocate(event_layout(size)).unwrap();
    let mut queue = EventQueue::new(&registers, block, size).unwrap();
    let mut writer = EventWriter::new(pool.window(), queue.base(), size);
    let event = |n| EventRecord::new(EventKind::F_TRANSLATION, StreamId(n)).with_stall(n as u16);
    for n in 0..3 {
        assert!(writer.write(&registers, event(n)));
    }
    let mut seen = Vec::new();
    let drained = queue.drain_while(|record| {
        if seen.len() == 1 {
            return ControlFlow::Break(());
        }
        seen.push(record);
        ControlFlow::Continue(())
    });
    assert_eq!(drained, Ok(DrainedEvents { records: 1, overflowed: false }));
    queue.drain(|record| seen.push(record)).unwrap();
    assert_eq!(seen, [event(0), event(1), event(2)]);
}

#[rstest]
#[case::all_ones(u32::MAX)]
#[case::more_than_a_queue(5 + 8 + 1)]
#[case::before_the_consumer(4)]
#[case::reserved_bit(0x0010_0005)]
fn an_impossible_producer_is_an_error(#[case] producer: u32) {
    let registers = smmu();
    let (mut queue, mut writer) = setup(&registers, 3);
    for n in 0..5 {
        writer.write(&registers, request(n));
    }
    assert_eq!(drain(&mut queue).1.len(), 5);
    registers.take_writes();
    registers.set(regs::PRIQ_PROD.offset(), producer.into());
    let (drained, records) = drain(&mut queue);
    assert_eq!(drained, Err(PriQueueError::Lost { producer, consumer: 5 }));
    assert!(drained.unwrap_err().to_string().starts_with("PRIQ_PROD = "));
    assert!(records.is_empty() && registers.take_writes().is_empty());
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    let registers = smmu();
    let pool = heap_pool(0x1000);
    let size = QueueSize::from_log2(3).unwrap();
    let small = pool.allocate(DmaLayout::new(64, 64).unwrap()).unwrap();
    assert_eq!(
        PriQueue::new(&registers, small, size).map(|_| ()),
        Err(PriQueueError::BlockTooSmall { bytes: 64, need: 128 })
    );
    let _pad = pool.allocate(DmaLayout::new(64, 64).unwrap()).unwrap();
    let crooked = pool.allocate(DmaLayout::new(128, 64).unwrap()).unwrap();
    let refused = PriQueue::new(&registers, crooked, size).map(|_| ());
    assert!(matches!(refused, Err(PriQueueError::Base(_))));
}
