//! The event queue.
//!
//! 1. `EVENTQ_PROD` is read, then each record is [observed](DmaBlock::observe): it is complete.
//! 2. Records are copied out one by one.
//! 3. [`DmaBlock::observe`] again, then `EVENTQ_CONS` is written: no copy is made after the SMMU may have
//!    written a newer record into the slot.

use core::sync::atomic::Ordering;

use smmu_types::queue::{
    ConsumerRegister, Events, Position, ProducerRegister, QueueSize, QueueState,
};
use smmu_types::regs::{self, queue_base};
use smmu_types::seam::{DmaBlock, DmaLayout, Registers, RegistersExt};
use smmu_types::{EventRecord, FieldError, PhysAddr};

const ENTRY_BYTES: u64 = EventRecord::BYTES as u64;
const ENTRY_WORDS: usize = EventRecord::BYTES / 8;

/// The block that an event queue of `size` needs: its bytes, aligned to their number.
#[must_use]
pub const fn event_layout(size: QueueSize) -> DmaLayout {
    match DmaLayout::naturally_aligned(size.entries() as u64 * ENTRY_BYTES) {
        Some(layout) => layout,
        // 32 bytes to 16 MiB: never 0, never near the end of the number space.
        None => unreachable!(),
    }
}

/// Why the event queue cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventQueueError {
    /// The block is too small.
    #[error(
        "the block has {bytes} bytes and the queue needs {need}; allocate it with event_layout"
    )]
    BlockTooSmall {
        /// Bytes of the block.
        bytes: u64,
        /// Bytes that the queue needs.
        need: u64,
    },
    /// The block's address cannot be a queue's base.
    #[error("the block cannot hold the queue: {0}; allocate it with event_layout")]
    Base(#[from] FieldError),
    /// `EVENTQ_PROD` cannot be.
    #[error(
        "EVENTQ_PROD = {producer:#x} is not within one queue of EVENTQ_CONS = {consumer:#x}; the SMMU was reset or is gone"
    )]
    Lost {
        /// The register's value.
        producer: u32,
        /// What the driver wrote last.
        consumer: u32,
    },
}

/// What one [`EventQueue::drain`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records that were handed over. A whole queue of them means that there may be more.
    pub records: u32,
    /// The SMMU had to drop events since the last call, because the queue was full.
    pub overflowed: bool,
}

/// The event queue of one SMMU. It has one reader.
#[derive(Debug)]
pub struct EventQueue<R, B> {
    registers: R,
    block: B,
    consumer: ConsumerRegister<Events>,
}

impl<R: Registers, B: DmaBlock> EventQueue<R, B> {
    /// The block that a queue of `size` needs; [`event_layout`] without the types.
    #[must_use]
    pub const fn layout(size: QueueSize) -> DmaLayout {
        event_layout(size)
    }

    /// An empty queue in `block`. It counts from 0, as
    /// [`enable_events`](crate::Invalidated::enable_events) leaves the registers.
    pub fn new(registers: R, block: B, size: QueueSize) -> Result<Self, EventQueueError> {
        let need = u64::from(size.entries()) * ENTRY_BYTES;
        let bytes = block.words().len() as u64 * 8;
        if bytes < need {
            return Err(EventQueueError::BlockTooSmall { bytes, need });
        }
        queue_base::encode(block.address(), size, ENTRY_BYTES)?;
        Ok(EventQueue { registers, block, consumer: ConsumerRegister::at(size, Position(0)) })
    }

    /// Where the SMMU finds the queue.
    #[must_use]
    pub fn base(&self) -> PhysAddr {
        self.block.address()
    }

    /// Its size.
    #[must_use]
    pub const fn size(&self) -> QueueSize {
        self.consumer.pointer().size()
    }

    /// Hand over the records that are there, at most one whole queue of them, and free their places.
    ///
    /// The bound keeps a device that faults without end from keeping the caller. Call again while
    /// [`Drained::records`] is the size of the queue, or from a context that may stay.
    ///
    /// Should `take` panic, the record that it was given comes again.
    pub fn drain(&mut self, mut take: impl FnMut(EventRecord)) -> Result<Drained, EventQueueError> {
        let mut drained = Drained::default();
        let most = self.size().entries();
        while drained.records < most {
            let state = self.look()?;
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
                // An overflow flag that changes at every look must not keep us.
                break;
            }
        }
        Ok(drained)
    }

    fn look(&self) -> Result<QueueState<Events>, EventQueueError> {
        let producer = self.registers.read(regs::EVENTQ_PROD);
        let register = ProducerRegister::decode(self.size(), producer);
        match QueueState::new(register, self.consumer) {
            // All ones, from a bus without a device, could pass for a pointer; the reserved bits tell.
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
