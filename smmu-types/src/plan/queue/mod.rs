//! Index and wrap arithmetic of the SMMU's circular queues (IHI 0070, 3.5.1).
//!
//! A pointer register holds an index in its low `log2` bits and a wrap bit above them. If the
//! indices are equal, the queue is empty with equal wrap bits and full with different ones. A
//! driver counts entries as a [`Position`], which does not wrap, so a completion test always
//! includes the wrap bit.
//!
//! [`ProducerRegister`] and [`ConsumerRegister`] hold one register of one kind of queue, with its
//! flags. A [`QueueState`] is made of one of each, and says how full the queue is.

mod registers;
#[cfg(test)]
mod state_tests;

pub use crate::spec::queue_size::QueueSize;
pub use registers::{
    Cmdq, ConsumerRegister, Eventq, Overflows, Priq, ProducerRegister, QueueKind, QueuePointer,
    QueueState, QueueStateError, WhileOverflowed,
};

/// A place in a queue, counted from the queue's first entry, without wrapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The value of the pointer register: wrap bit and index.
    #[must_use]
    pub const fn pointer(self, size: QueueSize) -> u32 {
        self.0 as u32 & size.pointer_mask()
    }

    /// The index in the ring.
    #[must_use]
    pub const fn index(self, size: QueueSize) -> usize {
        (self.0 & (size.entries() as u64 - 1)) as usize
    }

    /// `count` entries further on. After the last number comes 0, which keeps index and wrap bit
    /// correct. A queue never lives that long, but a guest may give an emulator any number.
    #[must_use]
    pub const fn advanced(self, count: u32) -> Self {
        Position(self.0.wrapping_add(count as u64))
    }

    /// The consumer's position, given its register and the producer at `self`.
    ///
    /// `None` if the register lies outside the entries in flight: the SMMU was reset or is gone.
    #[must_use]
    pub const fn consumer(self, size: QueueSize, register: u32) -> Option<Position> {
        match size.used(self.pointer(size), register) {
            Some(used) if used as u64 <= self.0 => Some(Position(self.0 - used as u64)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SIZE: QueueSize = QueueSize(3);

    #[rstest]
    #[case::empty(0, 0, Some(0))]
    #[case::empty_wrapped(8, 8, Some(0))]
    #[case::full(8, 0, Some(8))]
    #[case::full_wrapped(0, 8, Some(8))]
    #[case::across_the_wrap(9, 6, Some(3))]
    #[case::across_both_wraps(1, 14, Some(3))]
    #[case::consumer_ahead(2, 3, None)]
    #[case::ignores_error_bits(0x0000_0004, 0x7f00_0002, Some(2))]
    fn used(#[case] producer: u32, #[case] consumer: u32, #[case] want: Option<u32>) {
        assert_eq!(SIZE.used(producer, consumer), want);
    }

    #[test]
    fn behind_the_last_position_comes_the_first() {
        let last = Position(u64::MAX);
        assert_eq!(last.advanced(3), Position(2));
        assert_eq!(last.advanced(1).pointer(SIZE), last.pointer(SIZE).wrapping_add(1) & 0xf);
    }

    #[test]
    fn consumer_is_found_at_every_distance() {
        for producer in 0..100u64 {
            for behind in 0..=8u64.min(producer) {
                let consumer = Position(producer - behind);
                let found = Position(producer).consumer(SIZE, consumer.pointer(SIZE));
                assert_eq!(found, Some(consumer));
            }
        }
        assert_eq!(Position(3).consumer(SIZE, 5), None);
        assert_eq!(Position(3).consumer(SIZE, 15), None);
    }
}
