//! The event queue over many laps, on overflow, and with impossible register values.
#![cfg(feature = "fake")]

use rstest::rstest;
use smmu_hw_mmio::fake::{EventWriter, smmu};
use smmu_hw_mmio::{DrainedEvents, EventQueue, EventQueueError};
use smmu_types::fake::{FakeRegisters, HeapWindow, PoolBlock, heap_pool};
use smmu_types::queue::QueueSize;
use smmu_types::regs;
use smmu_types::seam::{DmaLayout, DmaMemory};
use smmu_types::{EventKind, EventRecord, StreamId};

type TestEventQueue<'a> = EventQueue<&'a FakeRegisters, PoolBlock<HeapWindow>>;

fn record(n: u32) -> EventRecord {
    let mut record = EventRecord::new(EventKind::F_TRANSLATION, StreamId(n));
    record.0[1..].fill(u64::from(n));
    record
}

fn setup(
    registers: &FakeRegisters,
    log2: u8,
) -> Result<(TestEventQueue<'_>, EventWriter), EventQueueError> {
    let size =
        QueueSize::from_log2(log2).ok_or(EventQueueError::Lost { producer: 0, consumer: 0 })?;
    let pool = heap_pool(0x1_0000);
    let block = pool
        .allocate(TestEventQueue::layout(size))
        .map_err(|_| EventQueueError::BlockTooSmall { bytes: 0, need: 0 })?;
    let queue = EventQueue::new(registers, block, size)?;
    let writer = EventWriter::new(pool.window(), queue.base(), size);
    Ok((queue, writer))
}

fn drain(
    queue: &mut TestEventQueue<'_>,
) -> (Result<DrainedEvents, EventQueueError>, Vec<EventRecord>) {
    let mut records = Vec::new();
    (queue.drain(|record| records.push(record)), records)
}

#[rstest]
fn many_laps_lose_and_repeat_no_record(
    #[values(0, 1, 2, 3, 5)] log2: u8,
    #[values(1, 2, 3, 7, 32)] burst: u32,
) {
    let registers = smmu();
    let (mut queue, mut writer) = setup(&registers, log2).unwrap();
    let burst = burst.min(1 << log2);
    let mut n = 0;
    while n < 700 {
        for i in 0..burst {
            assert!(writer.write(&registers, record(n + i)));
        }
        let (drained, records) = drain(&mut queue);
        assert_eq!(drained, Ok(DrainedEvents { records: burst, overflowed: false }));
        assert_eq!(records, (n..n + burst).map(record).collect::<Vec<_>>());
        n += burst;
    }
    registers.take_writes();
    assert_eq!(drain(&mut queue).0, Ok(DrainedEvents::default()));
    assert!(registers.take_writes().is_empty());
}

#[test]
fn overflow_is_reported_once_and_acknowledged() {
    let registers = smmu();
    let (mut queue, mut writer) = setup(&registers, 2).unwrap();
    // The flag toggles in both directions.
    for round in 0..5 {
        for n in 0..4 {
            assert!(writer.write(&registers, record(round * 8 + n)));
        }
        assert!(!writer.write(&registers, record(99)));
        assert!(!writer.write(&registers, record(98)));
        let (drained, records) = drain(&mut queue);
        assert_eq!(drained, Ok(DrainedEvents { records: 4, overflowed: true }));
        assert_eq!(records, (0..4).map(|n| record(round * 8 + n)).collect::<Vec<_>>());
        let flags = [regs::EVENTQ_PROD, regs::EVENTQ_CONS].map(|r| registers.get(r.offset()) >> 31);
        assert_eq!(flags[0], flags[1]);
        assert_eq!(drain(&mut queue).0, Ok(DrainedEvents::default()));
    }
}

#[test]
fn an_overflow_of_an_empty_queue_is_acknowledged_too() {
    let registers = smmu();
    let (mut queue, _writer) = setup(&registers, 2).unwrap();
    registers.set(regs::EVENTQ_PROD.offset(), 1 << 31);
    assert_eq!(drain(&mut queue).0, Ok(DrainedEvents { records: 0, overflowed: true }));
    assert_eq!(registers.get(regs::EVENTQ_CONS.offset()), 1 << 31);
}

#[test]
fn slots_are_freed_after_the_records_are_taken() {
    let registers = smmu();
    let (mut queue, mut writer) = setup(&registers, 3).unwrap();
    for n in 0..5 {
        writer.write(&registers, record(n));
    }
    registers.take_writes();
    let drained = queue.drain(|_| assert!(registers.take_writes().is_empty()));
    assert_eq!(drained.map(|drained| drained.records), Ok(5));
    assert_eq!(registers.take_writes(), [(regs::EVENTQ_CONS.offset(), 5)]);
}

#[test]
fn a_storm_ends_after_one_queue() {
    use smmu_types::seam::Registers;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Full and in overflow at every read.
    struct Storm(AtomicU32);
    impl Registers for Storm {
        fn read32(&self, _: u32) -> u32 {
            self.0.fetch_xor(1 << 31, Ordering::Relaxed);
            self.0.load(Ordering::Relaxed)
        }
        fn write32(&self, _: u32, cons: u32) {
            let full = (cons & 0xf) ^ 8;
            self.0.store(full | self.0.load(Ordering::Relaxed) & 1 << 31, Ordering::Relaxed);
        }
        fn read64(&self, _: u32) -> u64 {
            0
        }
        fn write64(&self, _: u32, _: u64) {}
    }

    let size = QueueSize::from_log2(3).unwrap();
    let block = heap_pool(0x1000).allocate(TestEventQueue::layout(size)).unwrap();
    let storm = Storm(AtomicU32::new(8));
    let mut queue = EventQueue::new(&storm, block, size).unwrap();
    for _ in 0..20 {
        assert_eq!(queue.drain(|_| {}).unwrap().records, 8);
    }
}

#[test]
fn records_that_keep_coming_end_at_one_queue() {
    let registers = smmu();
    let (mut queue, mut writer) = setup(&registers, 3).unwrap();
    for n in 0..3 {
        assert!(writer.write(&registers, record(n)));
    }
    // Each read finds three records; the last one is cut short.
    let drained = queue.drain(|taken| {
        assert!(writer.write(&registers, record(taken.stream().0 + 3)));
    });
    assert_eq!(drained, Ok(DrainedEvents { records: 8, overflowed: false }));
    let (_, rest) = drain(&mut queue);
    assert_eq!(rest, [8, 9, 10].map(record));
}

#[test]
fn a_flag_that_always_toggles_ends_the_drain() {
    use smmu_types::seam::Registers;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Flicker(AtomicU32);
    impl Registers for Flicker {
        fn read32(&self, _: u32) -> u32 {
            self.0.fetch_xor(1 << 31, Ordering::Relaxed)
        }
        fn write32(&self, _: u32, _: u32) {}
        fn read64(&self, _: u32) -> u64 {
            0
        }
        fn write64(&self, _: u32, _: u64) {}
    }

    let size = QueueSize::from_log2(3).unwrap();
    let block = heap_pool(0x1000).allocate(TestEventQueue::layout(size)).unwrap();
    let mut queue = EventQueue::new(Flicker(AtomicU32::new(1 << 31)), block, size).unwrap();
    for _ in 0..5 {
        assert_eq!(queue.drain(|_| {}), Ok(DrainedEvents { records: 0, overflowed: true }));
    }
}

#[rstest]
#[case::all_ones(u32::MAX)]
#[case::more_than_a_queue(0x5 + 0x8 + 1)]
#[case::before_the_consumer(0x4)]
#[case::reserved_bit(0x0010_0005)]
fn an_impossible_producer_is_an_error(#[case] producer: u32) {
    let registers = smmu();
    let (mut queue, mut writer) = setup(&registers, 3).unwrap();
    for n in 0..5 {
        writer.write(&registers, record(n));
    }
    assert_eq!(drain(&mut queue).1.len(), 5);
    registers.take_writes();
    registers.set(regs::EVENTQ_PROD.offset(), producer.into());
    let (drained, records) = drain(&mut queue);
    assert_eq!(drained, Err(EventQueueError::Lost { producer, consumer: 5 }));
    assert!(records.is_empty() && registers.take_writes().is_empty());
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    let registers = smmu();
    let pool = heap_pool(0x1000);
    let size = QueueSize::from_log2(2).unwrap();
    let small = pool.allocate(DmaLayout::new(64, 64).unwrap()).unwrap();
    assert_eq!(
        EventQueue::new(&registers, small, size).map(|_| ()),
        Err(EventQueueError::BlockTooSmall { bytes: 64, need: 128 })
    );
    let _pad = pool.allocate(DmaLayout::new(64, 64).unwrap()).unwrap();
    let crooked = pool.allocate(DmaLayout::new(128, 64).unwrap()).unwrap();
    let refused = EventQueue::new(&registers, crooked, size).map(|_| ());
    assert!(matches!(refused, Err(EventQueueError::Base(_))));
}
