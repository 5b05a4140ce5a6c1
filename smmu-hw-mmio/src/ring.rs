//! The ring of an output queue: the SMMU produces records, and one reader takes them.
//!
//! 1. The driver reads `PROD`, then [observes](DmaBlock::observe) each record: it is complete.
//! 2. The driver copies the records, one by one.
//! 3. The driver calls [`DmaBlock::observe`] again and writes `CONS`. So every copy is done before
//!    the SMMU may write a newer record into the slot.
//! 4. The write that acknowledges an overflow also frees every slot that was in use. For a PRI
//!    queue this ends the drain: each record taken so far is older than the acknowledgement (8.1.1).

use core::ops::ControlFlow;
use core::sync::atomic::Ordering;

use smmu_types::queue::{
    ConsumerRegister, Eventq, Overflows, Position, Priq, ProducerRegister, QueueSize, QueueState,
    WhileOverflowed,
};
use smmu_types::regs::{self, Reg, Rw, queue_base};
use smmu_types::seam::{DmaBlock, DmaLayout, Registers, RegistersExt};
use smmu_types::{EventRecord, FieldError, PhysAddr, PriRecord};

/// A kind of output queue: its registers and its records.
pub(crate) trait OutputQueue: Overflows {
    type Record: Record;
    const PROD: Reg<u32, Rw>;
    const CONS: Reg<u32, Rw>;
}

/// A record, as words.
pub(crate) trait Record: Copy + Default {
    const WORDS: usize;
    fn words(&mut self) -> &mut [u64];
}

impl Record for EventRecord {
    const WORDS: usize = EventRecord::BYTES / 8;
    fn words(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

impl Record for PriRecord {
    const WORDS: usize = PriRecord::BYTES / 8;
    fn words(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

impl OutputQueue for Eventq {
    type Record = EventRecord;
    const PROD: Reg<u32, Rw> = regs::EVENTQ_PROD;
    const CONS: Reg<u32, Rw> = regs::EVENTQ_CONS;
}

impl OutputQueue for Priq {
    type Record = PriRecord;
    const PROD: Reg<u32, Rw> = regs::PRIQ_PROD;
    const CONS: Reg<u32, Rw> = regs::PRIQ_CONS;
}

/// The DMA block of a queue of `size`, aligned to its size.
pub(crate) const fn layout(size: QueueSize, words: usize) -> DmaLayout {
    match DmaLayout::naturally_aligned(size.entries() as u64 * words as u64 * 8) {
        Some(layout) => layout,
        // A queue has 16 bytes to 16 MiB, so the layout always exists.
        None => unreachable!(),
    }
}

/// Why a driver cannot use a queue. Each queue has an error of its own, which names its registers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RingError {
    BlockTooSmall { bytes: u64, need: u64 },
    Base(FieldError),
    Lost { producer: u32, consumer: u32 },
}

/// What one drain took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drained {
    pub(crate) records: u32,
    pub(crate) overflowed: bool,
}

/// An output queue with one reader.
#[derive(Debug)]
pub(crate) struct Ring<K, R, B> {
    registers: R,
    block: B,
    consumer: ConsumerRegister<K>,
}

impl<K: OutputQueue, R: Registers, B: DmaBlock> Ring<K, R, B> {
    /// An empty queue in `block` that starts at 0.
    pub(crate) fn new(registers: R, block: B, size: QueueSize) -> Result<Self, RingError> {
        Self::reading(registers, block, ConsumerRegister::at(size, Position(0)))
    }

    /// The queue in `block` that the SMMU fills already, read on from where its `CONS` is.
    pub(crate) fn of_running(registers: R, block: B, size: QueueSize) -> Result<Self, RingError> {
        let register = registers.read(K::CONS);
        let consumer = ConsumerRegister::decode(size, register);
        let ring = Self::reading(registers, block, consumer)?;
        if consumer.encode() != register {
            let producer = ring.registers.read(K::PROD);
            return Err(RingError::Lost { producer, consumer: register });
        }
        ring.read_state()?;
        Ok(ring)
    }

    fn reading(registers: R, block: B, consumer: ConsumerRegister<K>) -> Result<Self, RingError> {
        let (size, entry) = (consumer.pointer().size(), K::Record::WORDS as u64 * 8);
        let need = u64::from(size.entries()) * entry;
        let bytes = block.words().len() as u64 * 8;
        if bytes < need {
            return Err(RingError::BlockTooSmall { bytes, need });
        }
        queue_base::encode(block.address(), size, entry).map_err(RingError::Base)?;
        Ok(Ring { registers, block, consumer })
    }

    pub(crate) fn base(&self) -> PhysAddr {
        self.block.address()
    }

    pub(crate) const fn size(&self) -> QueueSize {
        self.consumer.pointer().size()
    }

    /// Hand the waiting records to `take`, at most one queue of them, and free their slots. A record
    /// for which `take` breaks stays in the queue, and so do all behind it.
    pub(crate) fn drain(
        &mut self,
        mut take: impl FnMut(K::Record) -> ControlFlow<()>,
    ) -> Result<Drained, RingError> {
        let mut drained = Drained::default();
        let most = self.size().entries();
        let mut broken = false;
        while drained.records < most && !broken {
            let state = self.read_state()?;
            if !state.overflowed() && state.is_empty() {
                break;
            }
            let count = state.used().min(most - drained.records);
            let mut taken = 0;
            while taken < count {
                if take(self.load()).is_break() {
                    broken = true;
                    break;
                }
                self.consumer = self.consumer.advanced(1);
                taken += 1;
            }
            drained.records += taken;
            let acknowledges = state.overflowed() && taken == state.used();
            if acknowledges {
                self.consumer = self.consumer.acknowledging(state.producer());
                drained.overflowed = true;
            }
            if taken > 0 || acknowledges {
                self.block.observe(0..0);
                self.registers.write(K::CONS, self.consumer.encode());
            }
            let ends = acknowledges && K::WHILE_OVERFLOWED == WhileOverflowed::Discards;
            if ends || taken == 0 {
                // A flag that toggles at every read must not keep the caller here.
                break;
            }
        }
        Ok(drained)
    }

    fn read_state(&self) -> Result<QueueState<K>, RingError> {
        let producer = self.registers.read(K::PROD);
        let register = ProducerRegister::decode(self.size(), producer);
        match QueueState::new(register, self.consumer) {
            // A bus without a device reads as ones, which the reserved bits tell from a pointer.
            Ok(state) if register.encode() == producer => Ok(state),
            _ => Err(RingError::Lost { producer, consumer: self.consumer.encode() }),
        }
    }

    fn load(&self) -> K::Record {
        let words = K::Record::WORDS;
        let first = self.consumer.pointer().index() as usize * words;
        let mut record = K::Record::default();
        self.block.observe(first..first + words);
        let slot = &self.block.words()[first..first + words];
        for (word, value) in slot.iter().zip(record.words()) {
            *value = word.load(Ordering::Relaxed);
        }
        record
    }
}
