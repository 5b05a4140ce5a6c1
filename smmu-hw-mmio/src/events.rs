//! The event queue: a bounded drain of event records.
//!
//! 1. The driver reads `EVENTQ_PROD`, then [observes](DmaBlock::observe) each record: it is
//!    complete.
//! 2. The driver copies the records, one by one.
//! 3. The driver calls [`DmaBlock::observe`] again and writes `EVENTQ_CONS`. So every copy is done
//!    before the SMMU may write a newer record into the slot.

use core::sync::atomic::Ordering;

use smmu_types::queue::{
    ConsumerRegister, Eventq, Position, ProducerRegister, QueueSize, QueueState,
};
use smmu_types::regs::{self, queue_base};
use smmu_types::seam::{DmaBlock, DmaLayout, Registers, RegistersExt};
use smmu_types::{EventRecord, FieldError, PhysAddr};

const ENTRY_BYTES: u64 = EventRecord::BYTES as u64;
const ENTRY_WORDS: usize = EventRecord::BYTES / 8;

/// The DMA block that an event queue of `size` needs, aligned to its size.
#[must_use]
pub const fn event_layout(size: QueueSize) -> DmaLayout {
    match DmaLayout::naturally_aligned(size.entries() as u64 * ENTRY_BYTES) {
        Some(layout) => layout,
        // A queue has 32 bytes to 16 MiB, so the layout always exists.
        None => unreachable!(),
    }
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

/// Result of one [`EventQueue::drain`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainedEvents {
    /// Number of records handed over. If it equals the size of the queue, more records may wait.
    pub records: u32,
    /// Whether the SMMU dropped events since the last call because the queue was full.
    pub overflowed: bool,
}

/// The event queue of one SMMU, with one reader.
#[derive(Debug)]
pub struct EventQueue<R, B> {
    registers: R,
    block: B,
    consumer: ConsumerRegister<Eventq>,
}

impl<R: Registers, B: DmaBlock> EventQueue<R, B> {
    /// The same as [`event_layout`].
    #[must_use]
    pub const fn layout(size: QueueSize) -> DmaLayout {
        event_layout(size)
    }

    /// An empty queue in `block`. It starts at 0, as
    /// [`enable_events`](crate::Invalidated::enable_events) sets the registers.
    pub fn new(registers: R, block: B, size: QueueSize) -> Result<Self, EventQueueError> {
        let need = u64::from(size.entries()) * ENTRY_BYTES;
        let bytes = block.words().len() as u64 * 8;
        if bytes < need {
            return Err(EventQueueError::BlockTooSmall { bytes, need });
        }
        queue_base::encode(block.address(), size, ENTRY_BYTES)?;
        Ok(EventQueue { registers, block, consumer: ConsumerRegister::at(size, Position(0)) })
    }

    /// Physical address of the queue, for `EVENTQ_BASE`.
    #[must_use]
    pub fn base(&self) -> PhysAddr {
        self.block.address()
    }

    /// Size of the queue.
    #[must_use]
    pub const fn size(&self) -> QueueSize {
        self.consumer.pointer().size()
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
        let mut drained = DrainedEvents::default();
        let most = self.size().entries();
        while drained.records < most {
            let state = self.read_state()?;
            if state.overflowed() {
                self.consumer = state.acknowledge().consumer();
                drained.overflowed = true;
            } else if state.is_empty() {
                break;
            }
            let count = state.used().min(most - drained.records);
            for _ in 0..count {
                take(self.load());
                self.consumer = self.consumer.advanced(1);
            }
            drained.records += count;
            self.block.observe(0..0);
            self.registers.write(regs::EVENTQ_CONS, self.consumer.encode());
            if count == 0 {
                // A flag that toggles at every read must not keep the caller here.
                break;
            }
        }
        Ok(drained)
    }

    fn read_state(&self) -> Result<QueueState<Eventq>, EventQueueError> {
        let producer = self.registers.read(regs::EVENTQ_PROD);
        let register = ProducerRegister::decode(self.size(), producer);
        match QueueState::new(register, self.consumer) {
            // A bus without a device reads as ones, which the reserved bits tell from a pointer.
            Ok(state) if register.encode() == producer => Ok(state),
            _ => Err(EventQueueError::Lost { producer, consumer: self.consumer.encode() }),
        }
    }

    fn load(&self) -> EventRecord {
        let first = self.consumer.pointer().index() as usize * ENTRY_WORDS;
        let mut record = EventRecord::default();
        self.block.observe(first..first + ENTRY_WORDS);
        let slot = &self.block.words()[first..first + ENTRY_WORDS];
        for (word, value) in slot.iter().zip(&mut record.0) {
            *value = word.load(Ordering::Relaxed);
        }
        record
    }
}
