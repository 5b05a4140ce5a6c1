//! Producer and consumer registers as types.

use core::marker::PhantomData;

use super::{Position, QueueSize};
use crate::regs::{cmdq_cons, queue_pointer};
use crate::spec::sealed::Sealed;
use crate::{CommandErrorCode, FieldError};

/// A kind of queue: [`Cmdq`], [`Eventq`] or [`Priq`].
pub trait QueueKind: Sealed {
    /// The prefix of its registers' names.
    const NAME: &'static str;
    /// Bits of its producer register beside the pointer.
    const PRODUCER_FLAGS: u32;
    /// Bits of its consumer register beside the pointer.
    const CONSUMER_FLAGS: u32;
    /// Whether the queue takes new entries while an overflow is active.
    const WHILE_OVERFLOWED: WhileOverflowed;
}

/// What a queue does with new entries until software acknowledges an overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhileOverflowed {
    /// It takes entries while there is room (7.4).
    Takes,
    /// It takes no entries, even if there is room (8.1).
    Discards,
}

/// A queue that the SMMU fills. The SMMU toggles a flag when it loses a record because the queue is
/// full (7.4 and 8.1).
pub trait Overflows: QueueKind {}

/// The command queue: software produces, and the SMMU consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cmdq;
/// The event queue: the SMMU produces, and software consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Eventq;
/// The PRI queue: the SMMU produces, and software consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Priq;

impl Sealed for Cmdq {}
impl Sealed for Eventq {}
impl Sealed for Priq {}

impl QueueKind for Cmdq {
    const NAME: &'static str = "CMDQ";
    const PRODUCER_FLAGS: u32 = 0;
    const CONSUMER_FLAGS: u32 = cmdq_cons::ERR;
    // Never used: the command queue has no overflow.
    const WHILE_OVERFLOWED: WhileOverflowed = WhileOverflowed::Takes;
}
impl QueueKind for Eventq {
    const NAME: &'static str = "EVENTQ";
    const PRODUCER_FLAGS: u32 = queue_pointer::OVERFLOW;
    const CONSUMER_FLAGS: u32 = queue_pointer::OVERFLOW;
    const WHILE_OVERFLOWED: WhileOverflowed = WhileOverflowed::Takes;
}
impl QueueKind for Priq {
    const NAME: &'static str = "PRIQ";
    const PRODUCER_FLAGS: u32 = queue_pointer::OVERFLOW;
    const CONSUMER_FLAGS: u32 = queue_pointer::OVERFLOW;
    const WHILE_OVERFLOWED: WhileOverflowed = WhileOverflowed::Discards;
}
impl Overflows for Eventq {}
impl Overflows for Priq {}

/// Index and wrap flag in a queue of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueuePointer {
    size: QueueSize,
    bits: u32,
}

impl QueuePointer {
    /// The pointer in a register's value. Bits above the wrap flag are dropped.
    #[must_use]
    pub const fn decode(size: QueueSize, register: u32) -> Self {
        QueuePointer { size, bits: register & size.pointer_mask() }
    }

    /// The size of the queue.
    #[must_use]
    pub const fn size(self) -> QueueSize {
        self.size
    }

    /// The index in the ring.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.bits & (self.size.entries() - 1)
    }

    /// The wrap flag.
    #[must_use]
    pub const fn wrap(self) -> bool {
        self.bits & self.size.entries() != 0
    }

    /// Index and wrap flag, as a register has them.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.bits
    }

    /// `count` entries further on; the wrap flag toggles each time the index passes the end.
    #[must_use]
    pub const fn advanced(self, count: u32) -> Self {
        QueuePointer::decode(self.size, self.bits.wrapping_add(count))
    }
}

/// An inconsistent pair of registers, or a step that their state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueStateError {
    /// The two registers were decoded with different queue sizes.
    #[error("{queue}: a producer of 2^{producer} entries and a consumer of 2^{consumer}")]
    DifferentSizes {
        /// The queue.
        queue: &'static str,
        /// log2 of the producer's size.
        producer: u8,
        /// log2 of the consumer's size.
        consumer: u8,
    },
    /// The producer is behind the consumer, or more than a queue ahead of it.
    #[error(
        "{queue}_PROD = {producer:#x} is not within one queue of {queue}_CONS = {consumer:#x}; the SMMU was reset or is gone"
    )]
    Inconsistent {
        /// The queue.
        queue: &'static str,
        /// The producer register.
        producer: u32,
        /// The consumer register.
        consumer: u32,
    },
    /// There is no room.
    #[error("{queue} has room for {free} entries, not {count}")]
    Full {
        /// The queue.
        queue: &'static str,
        /// Number of entries to produce.
        count: u32,
        /// Number of entries that fit.
        free: u32,
    },
    /// An overflow is active, and this queue takes no entries until software acknowledges it.
    #[error("{queue} takes no entries until its overflow is acknowledged")]
    Overflowed {
        /// The queue.
        queue: &'static str,
    },
    /// The SMMU loses no record while there is room.
    #[error("{queue} has room for {free} entries, so none is lost")]
    NotFull {
        /// The queue.
        queue: &'static str,
        /// Number of entries that fit.
        free: u32,
    },
    /// The queue has fewer entries.
    #[error("{queue} has {used} entries, not {count}")]
    Empty {
        /// The queue.
        queue: &'static str,
        /// Number of entries to consume.
        count: u32,
        /// Number of entries in the queue.
        used: u32,
    },
}

macro_rules! register {
    ($(#[$doc:meta])* $name:ident $flags:ident) => {
        $(#[$doc])*
        #[derive(Debug, PartialEq, Eq, Hash)]
        pub struct $name<K> {
            pointer: QueuePointer,
            flags: u32,
            kind: PhantomData<fn() -> K>,
        }

        impl<K> Clone for $name<K> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<K> Copy for $name<K> {}

        impl<K: QueueKind> $name<K> {
            /// Decodes the register of a queue of `size`. Reserved bits are dropped, and so are
            /// bits between the wrap flag and the flags. [`encode`](Self::encode) gives the same
            /// value only if all of them are 0.
            #[must_use]
            pub const fn decode(size: QueueSize, register: u32) -> Self {
                Self::new(QueuePointer::decode(size, register), register & K::$flags)
            }

            /// The register at a position, with its flags clear.
            #[must_use]
            pub const fn at(size: QueueSize, position: Position) -> Self {
                Self::new(QueuePointer::decode(size, position.pointer(size)), 0)
            }

            const fn new(pointer: QueuePointer, flags: u32) -> Self {
                $name { pointer, flags, kind: PhantomData }
            }

            /// The register's value.
            #[must_use]
            pub const fn encode(self) -> u32 {
                self.pointer.bits | self.flags
            }

            /// Index and wrap flag.
            #[must_use]
            pub const fn pointer(self) -> QueuePointer {
                self.pointer
            }

            /// `count` entries further on, with the same flags. Only [`QueueState`] checks that
            /// they fit.
            #[must_use]
            pub const fn advanced(self, count: u32) -> Self {
                Self::new(self.pointer.advanced(count), self.flags)
            }
        }
    };
}

register! {
    /// `CMDQ_PROD`, `EVENTQ_PROD` or `PRIQ_PROD`.
    ProducerRegister PRODUCER_FLAGS
}
register! {
    /// `CMDQ_CONS`, `EVENTQ_CONS` or `PRIQ_CONS`.
    ConsumerRegister CONSUMER_FLAGS
}

impl<K: Overflows> ProducerRegister<K> {
    /// `OVFLG`. It has a meaning only beside `OVACKFLG`: see [`QueueState::overflowed`].
    #[must_use]
    pub const fn overflow_flag(self) -> bool {
        self.flags & queue_pointer::OVERFLOW != 0
    }
}

impl<K: Overflows> ConsumerRegister<K> {
    /// `OVACKFLG`. It has a meaning only beside `OVFLG`: see [`QueueState::overflowed`].
    #[must_use]
    pub const fn acknowledge_flag(self) -> bool {
        self.flags & queue_pointer::OVERFLOW != 0
    }

    /// The register at the same place that acknowledges an overflow of this producer.
    #[must_use]
    pub const fn acknowledging(self, producer: ProducerRegister<K>) -> Self {
        Self::new(self.pointer, producer.flags)
    }
}

impl ConsumerRegister<Cmdq> {
    /// `ERR`: why the SMMU stopped. Only meaningful while `GERROR.CMDQ_ERR` is active.
    #[must_use]
    pub const fn error(self) -> CommandErrorCode {
        cmdq_cons::error(self.flags)
    }

    /// The register with another error code.
    ///
    /// # Errors
    ///
    /// The code has more than 7 bits.
    pub const fn with_error(self, error: CommandErrorCode) -> Result<Self, FieldError> {
        match crate::fields::cmdq_cons::ERR.place(error.0 as u64) {
            Ok(flags) => Ok(Self::new(self.pointer, flags as u32)),
            Err(error) => Err(error),
        }
    }
}

/// A consistent producer and consumer of one queue: the consumer is within one queue behind the
/// producer.
///
/// ```
/// use smmu_types::queue::{ConsumerRegister, Eventq, ProducerRegister, QueueSize, QueueState};
///
/// let size = QueueSize::from_log2(2).unwrap();
/// let producer = ProducerRegister::<Eventq>::decode(size, 0x8000_0005);
/// let consumer = ConsumerRegister::<Eventq>::decode(size, 0x0000_0001);
/// let state = QueueState::new(producer, consumer)?;
/// assert!(state.is_full() && state.overflowed());
/// let read = state.consume(4)?.acknowledge();
/// assert_eq!(read.consumer().encode(), 0x8000_0005);
/// assert!(read.is_empty() && !read.overflowed());
/// # Ok::<(), smmu_types::queue::QueueStateError>(())
/// ```
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct QueueState<K> {
    producer: ProducerRegister<K>,
    consumer: ConsumerRegister<K>,
    used: u32,
}

impl<K> Clone for QueueState<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for QueueState<K> {}

impl<K: QueueKind> QueueState<K> {
    /// The state that two registers describe.
    ///
    /// # Errors
    ///
    /// The sizes differ, or the indices are in one of the states that the architecture calls
    /// inconsistent (3.5.1).
    pub const fn new(
        producer: ProducerRegister<K>,
        consumer: ConsumerRegister<K>,
    ) -> Result<Self, QueueStateError> {
        let size = producer.pointer.size;
        if size.log2() != consumer.pointer.size.log2() {
            return Err(QueueStateError::DifferentSizes {
                queue: K::NAME,
                producer: size.log2(),
                consumer: consumer.pointer.size.log2(),
            });
        }
        match size.used(producer.pointer.bits, consumer.pointer.bits) {
            Some(used) => Ok(QueueState { producer, consumer, used }),
            None => Err(QueueStateError::Inconsistent {
                queue: K::NAME,
                producer: producer.encode(),
                consumer: consumer.encode(),
            }),
        }
    }

    /// An empty queue that counts from 0.
    #[must_use]
    pub const fn empty(size: QueueSize) -> Self {
        QueueState {
            producer: ProducerRegister::at(size, Position(0)),
            consumer: ConsumerRegister::at(size, Position(0)),
            used: 0,
        }
    }

    /// The producer register.
    #[must_use]
    pub const fn producer(self) -> ProducerRegister<K> {
        self.producer
    }

    /// The consumer register.
    #[must_use]
    pub const fn consumer(self) -> ConsumerRegister<K> {
        self.consumer
    }

    /// The size of the queue.
    #[must_use]
    pub const fn size(self) -> QueueSize {
        self.producer.pointer.size
    }

    /// Number of entries in the queue.
    #[must_use]
    pub const fn used(self) -> u32 {
        self.used
    }

    /// Number of free entries.
    #[must_use]
    pub const fn free(self) -> u32 {
        self.size().entries() - self.used
    }

    /// Whether the queue has no entries.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.used == 0
    }

    /// Whether the queue has no room.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.free() == 0
    }

    /// Whether an active overflow keeps new entries out, even if there is room.
    const fn discards(self) -> bool {
        matches!(K::WHILE_OVERFLOWED, WhileOverflowed::Discards)
            && self.producer.flags != self.consumer.flags
    }

    /// The state after `count` more entries.
    ///
    /// # Errors
    ///
    /// The queue has no room for them. Or it is a PRI queue with an active overflow, which takes no
    /// entries until software acknowledges the overflow (8.1). An event queue continues as soon as
    /// it has room (7.4).
    pub const fn produce(self, count: u32) -> Result<Self, QueueStateError> {
        if count > 0 && self.discards() {
            return Err(QueueStateError::Overflowed { queue: K::NAME });
        }
        if count > self.free() {
            return Err(QueueStateError::Full { queue: K::NAME, count, free: self.free() });
        }
        Ok(QueueState { producer: self.producer.advanced(count), used: self.used + count, ..self })
    }

    /// The state after `count` entries were consumed.
    ///
    /// # Errors
    ///
    /// The queue has fewer entries.
    pub const fn consume(self, count: u32) -> Result<Self, QueueStateError> {
        if count > self.used {
            return Err(QueueStateError::Empty { queue: K::NAME, count, used: self.used });
        }
        Ok(QueueState { consumer: self.consumer.advanced(count), used: self.used - count, ..self })
    }
}

impl<K: Overflows> QueueState<K> {
    /// Whether the SMMU lost records that software has not acknowledged: `OVFLG` differs from
    /// `OVACKFLG`.
    #[must_use]
    pub const fn overflowed(self) -> bool {
        self.producer.flags != self.consumer.flags
    }

    /// The state after the SMMU lost a record: `OVFLG` toggles, unless an overflow is active
    /// already.
    ///
    /// # Errors
    ///
    /// The queue has room. A PRI queue with an active overflow loses records even then.
    pub const fn lose(self) -> Result<Self, QueueStateError> {
        if !self.is_full() && !self.discards() {
            return Err(QueueStateError::NotFull { queue: K::NAME, free: self.free() });
        }
        let flags = self.consumer.flags ^ queue_pointer::OVERFLOW;
        Ok(QueueState { producer: ProducerRegister::new(self.producer.pointer, flags), ..self })
    }

    /// The state after software acknowledged an overflow: `OVACKFLG` equals `OVFLG`. No effect
    /// without an overflow.
    #[must_use]
    pub const fn acknowledge(self) -> Self {
        QueueState { consumer: self.consumer.acknowledging(self.producer), ..self }
    }
}
