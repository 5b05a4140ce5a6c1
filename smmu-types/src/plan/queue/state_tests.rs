//! The registers against two counters that never wrap.

extern crate std;

use super::*;
use crate::{CommandErrorCode, FieldError};
use rstest::rstest;
use std::string::ToString;

fn size(log2: u8) -> QueueSize {
    QueueSize::from_log2(log2).unwrap()
}

/// What section 3.5.1 says of two indices and two wrap flags.
fn is_consistent(producer: QueuePointer, consumer: QueuePointer) -> bool {
    let (write, read) = (producer.index(), consumer.index());
    write == read || (write > read) == (producer.wrap() == consumer.wrap())
}

fn state<K: QueueKind>(
    size: QueueSize,
    prod: u32,
    cons: u32,
) -> Result<QueueState<K>, QueueStateError> {
    QueueState::new(ProducerRegister::decode(size, prod), ConsumerRegister::decode(size, cons))
}

#[test]
fn every_pair_of_small_queues_is_as_two_counters_have_it() {
    for log2 in 0..=5 {
        let size = size(log2);
        let entries = u64::from(size.entries());
        // Counters of up to three rounds reach every pair of registers.
        let mut reached = std::collections::HashMap::new();
        for produced in 0..=3 * entries {
            for consumed in produced.saturating_sub(entries)..=produced {
                let pair = (Position(produced).pointer(size), Position(consumed).pointer(size));
                reached.insert(pair, produced - consumed);
            }
        }
        for producer in 0..2 * size.entries() {
            for consumer in 0..2 * size.entries() {
                let found = state::<Eventq>(size, producer, consumer);
                let expected = reached.get(&(producer, consumer)).map(|used| *used as u32);
                assert_eq!(found.ok().map(QueueState::used), expected, "{producer} {consumer}");
                let consistent = is_consistent(
                    QueuePointer::decode(size, producer),
                    QueuePointer::decode(size, consumer),
                );
                assert_eq!(found.is_ok(), consistent);
                let Ok(found) = found else { continue };
                assert_eq!(found.used() + found.free(), size.entries());
                assert_eq!(found.is_empty(), producer == consumer);
                assert_eq!(found.is_full(), producer ^ consumer == size.entries());
            }
        }
    }
}

/// Two counters, and whether an overflow is active.
#[derive(Clone, Copy, Default)]
struct Counters {
    produced: u64,
    consumed: u64,
    overflow: bool,
}

/// All sequences of seven steps.
fn every_sequence<K: Overflows + Copy + core::fmt::Debug + PartialEq>() {
    let discards = K::NAME == Priq::NAME;
    for log2 in 0..=2 {
        let size = size(log2);
        for sequence in 0..4u32.pow(7) {
            let mut state = QueueState::<K>::empty(size);
            let mut model = Counters::default();
            for step in 0..7 {
                let used = (model.produced - model.consumed) as u32;
                match sequence >> (2 * step) & 3 {
                    0 => match state.produce(1) {
                        Ok(next) => {
                            assert!(!(model.overflow && discards), "8.1");
                            let free = state.free();
                            let kept = QueueStateError::NotFull { queue: K::NAME, free };
                            assert_eq!(state.lose(), Err(kept));
                            state = next;
                            model.produced += 1;
                        }
                        Err(error) => {
                            let (queue, free) = (K::NAME, 0);
                            let expected = match model.overflow && discards {
                                true => QueueStateError::Overflowed { queue },
                                false => QueueStateError::Full { queue, count: 1, free },
                            };
                            assert_eq!(error, expected);
                            state = state.lose().unwrap();
                            model.overflow = true;
                        }
                    },
                    1 => match state.consume(2) {
                        Ok(next) => {
                            state = next;
                            model.consumed += 2;
                        }
                        Err(error) => {
                            assert!(used < 2);
                            assert_eq!(
                                error,
                                QueueStateError::Empty { queue: K::NAME, count: 2, used }
                            );
                        }
                    },
                    2 => {
                        state = state.consume(used).unwrap();
                        model.consumed = model.produced;
                    }
                    _ => {
                        state = state.acknowledge();
                        model.overflow = false;
                    }
                }
                let (producer, consumer) = (state.producer(), state.consumer());
                assert_eq!(producer.pointer().bits(), Position(model.produced).pointer(size));
                assert_eq!(consumer.pointer().bits(), Position(model.consumed).pointer(size));
                assert_eq!(u64::from(state.used()), model.produced - model.consumed);
                assert_eq!(state.overflowed(), model.overflow);
                assert_eq!(producer.overflow_flag() != consumer.acknowledge_flag(), model.overflow);
                let read = QueueState::new(
                    ProducerRegister::<K>::decode(size, producer.encode()),
                    ConsumerRegister::<K>::decode(size, consumer.encode()),
                );
                assert!(read == Ok(state), "what is written is read again");
            }
        }
    }
}

#[test]
fn events_and_page_requests_are_counted_and_lost() {
    every_sequence::<Eventq>();
    every_sequence::<Priq>();
}

#[test]
fn an_overflow_is_told_once_until_it_is_acknowledged() {
    let full = QueueState::<Eventq>::empty(size(0)).produce(1).unwrap();
    let once = full.lose().unwrap();
    assert_eq!((once.producer().encode(), once.lose()), (0x8000_0001, Ok(once)));
    let seen = once.acknowledge();
    assert_eq!((seen.consumer().encode(), seen.acknowledge()), (0x8000_0000, seen));
    let again = seen.lose().unwrap();
    assert_eq!(again.producer().encode(), 0x1);
    assert!(again.overflowed() && !again.acknowledge().overflowed());
}

#[test]
fn an_overflow_stops_page_requests_but_not_events() {
    let events = QueueState::<Eventq>::empty(size(1)).produce(2).unwrap().lose().unwrap();
    let events = events.consume(1).unwrap();
    assert!(events.overflowed());
    assert_eq!(events.produce(1).map(QueueState::used), Ok(2));
    assert_eq!(events.lose(), Err(QueueStateError::NotFull { queue: "EVENTQ", free: 1 }));

    let requests = QueueState::<Priq>::empty(size(1));
    assert_eq!(requests.lose(), Err(QueueStateError::NotFull { queue: "PRIQ", free: 2 }));
    let requests = requests.produce(2).unwrap().lose().unwrap().consume(1).unwrap();
    assert_eq!(requests.produce(1), Err(QueueStateError::Overflowed { queue: "PRIQ" }));
    assert_eq!((requests.produce(0), requests.lose()), (Ok(requests), Ok(requests)));
    assert_eq!(requests.acknowledge().produce(1).map(QueueState::used), Ok(2));
}

#[rstest]
#[case::one_entry(0, 0x1, 0, true)]
#[case::the_largest(19, 0xf_ffff, 0x7_ffff, true)]
#[case::bits_above_are_left_out(4, 0xf_fff3, 3, true)]
fn pointers(#[case] log2: u8, #[case] register: u32, #[case] index: u32, #[case] wrap: bool) {
    let pointer = QueuePointer::decode(size(log2), register);
    assert_eq!((pointer.index(), pointer.wrap()), (index, wrap));
    assert_eq!(pointer.advanced(1).advanced(2 * pointer.size().entries() - 1), pointer);
    assert_ne!(pointer.advanced(pointer.size().entries()).wrap(), wrap);
}

#[test]
fn flags_are_those_of_their_queue() {
    let size = size(3);
    let all = u32::MAX;
    assert_eq!(ProducerRegister::<Cmdq>::decode(size, all).encode(), 0xf);
    assert_eq!(ConsumerRegister::<Cmdq>::decode(size, all).encode(), 0x7f00_000f);
    assert_eq!(ProducerRegister::<Eventq>::decode(size, all).encode(), 0x8000_000f);
    assert_eq!(ConsumerRegister::<Priq>::decode(size, all).encode(), 0x8000_000f);
    let consumer = ConsumerRegister::<Cmdq>::decode(size, 0x0200_0005);
    assert_eq!(consumer.error(), CommandErrorCode::ABT);
    assert_eq!(consumer.advanced(1).error(), CommandErrorCode::ABT);
    assert_eq!(consumer.with_error(CommandErrorCode::ILL).unwrap().encode(), 0x0100_0005);
    assert_eq!(
        consumer.with_error(CommandErrorCode(0x80)),
        Err(FieldError::TooLarge { field: "ERR", value: 0x80, max: 0x7f })
    );
}

#[test]
fn what_cannot_be_is_said() {
    let error = state::<Eventq>(size(3), 0x8000_0002, 3).unwrap_err();
    assert_eq!(
        error.to_string(),
        "EVENTQ_PROD = 0x80000002 is not within one queue of EVENTQ_CONS = 0x3; the SMMU was reset or is gone"
    );
    let producer = ProducerRegister::<Priq>::at(size(3), Position(9));
    let consumer = ConsumerRegister::at(size(4), Position(9));
    assert_eq!(
        QueueState::new(producer, consumer),
        Err(QueueStateError::DifferentSizes { queue: "PRIQ", producer: 3, consumer: 4 })
    );
}
