//! The event queue: a bounded drain of event records.

use core::ops::ControlFlow;

use smmu_types::queue::{Eventq, QueueSize};
use smmu_types::seam::{DmaBlock, DmaLayout, Registers};
use smmu_types::{EventRecord, FieldError, PhysAddr};

use crate::ring::{Drained, Record, Ring, RingError, layout};

/// The DMA block that an event queue of `size` needs, aligned to its size.
#[must_use]
pub const fn event_layout(size: QueueSize) -> DmaLayout {
    layout(size, <EventRecord as Record>::WORDS)
}

/// Why a driver cannot use the event queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventQueueError {
    /// The block is too small.
    #[error(
        "the block has {bytes} bytes, the queue needs {need}; allocate the block with event_layout"
    )]
    BlockTooSmall {
        /// Bytes of the block.
        bytes: u64,
        /// Bytes that the queue needs.
        need: u64,
    },
    /// `EVENTQ_BASE` cannot hold the block's address.
    #[error(
        "EVENTQ_BASE cannot hold the block's address: {0}; allocate the block with event_layout"
    )]
    Base(#[from] FieldError),
    /// `EVENTQ_PROD` has an impossible value.
    #[error(
        "EVENTQ_PROD = {producer:#x} is not within one queue of EVENTQ_CONS = {consumer:#x}; the SMMU was reset or is gone"
    )]
    Lost {
        /// Value of `EVENTQ_PROD`.
        producer: u32,
        /// Value that the driver last wrote to `EVENTQ_CONS`.
        consumer: u32,
    },
}

impl From<RingError> for EventQueueError {
    fn from(error: RingError) -> Self {
        match error {
            RingError::BlockTooSmall { bytes, need } => Self::BlockTooSmall { bytes, need },
            RingError::Base(error) => Self::Base(error),
            RingError::Lost { producer, consumer } => Self::Lost { producer, consumer },
        }
    }
}

/// Result of one [`EventQueue::drain`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainedEvents {
    /// Number of records handed over. If it equals the size of the queue, more records may wait.
    pub records: u32,
    /// Whether the SMMU dropped events since the last call because the queue was full. It never
    /// drops the event of a stalled transaction: the SMMU retries such a transaction when the queue
    /// has room (7.4).
    pub overflowed: bool,
}

/// The event queue of one SMMU, with one reader.
#[derive(Debug)]
pub struct EventQueue<R, B>(Ring<Eventq, R, B>);

impl<R: Registers, B: DmaBlock> EventQueue<R, B> {
    /// The same as [`event_layout`].
    #[must_use]
    pub const fn layout(size: QueueSize) -> DmaLayout {
        event_layout(size)
    }

    /// An empty queue in `block`. It starts at 0, as
    /// [`enable_events`](crate::Invalidated::enable_events) sets the registers.
    pub fn new(registers: R, block: B, size: QueueSize) -> Result<Self, EventQueueError> {
        Ok(EventQueue(Ring::new(registers, block, size)?))
    }

    /// The queue in `block` that a running SMMU fills already, read on from `EVENTQ_CONS`. Address and
    /// size are those of [`Occupied`](crate::Occupied); the block keeps its content.
    ///
    /// # Errors
    ///
    /// The block does not fit, or `EVENTQ_PROD` and `EVENTQ_CONS` have impossible values.
    pub fn of_running(registers: R, block: B, size: QueueSize) -> Result<Self, EventQueueError> {
        Ok(EventQueue(Ring::of_running(registers, block, size)?))
    }

    /// Physical address of the queue, for `EVENTQ_BASE`.
    #[must_use]
    pub fn base(&self) -> PhysAddr {
        self.0.base()
    }

    /// Size of the queue.
    #[must_use]
    pub const fn size(&self) -> QueueSize {
        self.0.size()
    }

    /// Hand all waiting records to `take`, at most one queue of them, and free their slots.
    ///
    /// The bound protects the caller from a device that faults without end. Call again while
    /// [`DrainedEvents::records`] equals the size of the queue.
    ///
    /// If `take` panics, the next call hands over the same record again.
    pub fn drain(
        &mut self,
        mut take: impl FnMut(EventRecord),
    ) -> Result<DrainedEvents, EventQueueError> {
        self.drain_while(|record| {
            take(record);
            ControlFlow::Continue(())
        })
    }

    /// [`drain`](Self::drain) until `take` breaks. The record that it breaks at stays in the queue,
    /// and so do all behind it: the next call begins with that record.
    ///
    /// `take` breaks where it cannot take charge of a record that must not be lost, such as that of a
    /// stalled transaction.
    pub fn drain_while(
        &mut self,
        take: impl FnMut(EventRecord) -> ControlFlow<()>,
    ) -> Result<DrainedEvents, EventQueueError> {
        let Drained { records, overflowed } = self.0.drain(take)?;
        Ok(DrainedEvents { records, overflowed })
    }
}
