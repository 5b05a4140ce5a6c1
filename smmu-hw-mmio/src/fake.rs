//! Fake registers of an SMMU, and a writer of events, for tests and examples.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use smmu_types::fake::{FakeRegisters, HeapWindow};
use smmu_types::pool::Window;
use smmu_types::queue::{Position, QueueSize};
use smmu_types::regs::{self, gbpa};
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{EventRecord, PhysAddr};

pub use smmu_types::fake::ID_REGISTERS as ID;

/// The register write that the fake SMMU never acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unacknowledged {
    /// None: the SMMU acknowledges every write.
    None,
    /// `CR0ACK` does not follow these bits of `CR0`; it keeps their old value.
    Cr0(u32),
    /// `IRQ_CTRLACK` does not follow `IRQ_CTRL`.
    IrqCtrl,
    /// `GBPA.UPDATE` stays set.
    Gbpa,
    /// `GBPA.UPDATE` clears, and `GBPA.ABORT` is not kept.
    GbpaAbort,
    /// `STRTAB_BASE` stays as it was.
    StrtabBase,
    /// `STRTAB_BASE_CFG` stays as it was.
    StrtabBaseCfg,
}

/// Registers of an idle SMMU with the ID registers [`ID`]. It acknowledges every write.
#[must_use]
pub fn smmu() -> FakeRegisters {
    smmu_without_ack(Unacknowledged::None)
}

/// As [`smmu`], but the SMMU never acknowledges one kind of write.
#[must_use]
pub fn smmu_without_ack(unacknowledged: Unacknowledged) -> FakeRegisters {
    let registers = FakeRegisters::with_hook(move |registers, offset, value| {
        let (cr0ack, irq_ctrlack) = (regs::CR0ACK.offset(), regs::IRQ_CTRLACK.offset());
        match offset {
            o if o == regs::CR0.offset() => {
                let kept = if let Unacknowledged::Cr0(bits) = unacknowledged {
                    u64::from(bits)
                } else {
                    0
                };
                registers.set(cr0ack, registers.get(cr0ack) & kept | value & !kept);
            }
            o if o == regs::IRQ_CTRL.offset() && unacknowledged != Unacknowledged::IrqCtrl => {
                registers.set(irq_ctrlack, value);
            }
            o if o == regs::GBPA.offset() && unacknowledged != Unacknowledged::Gbpa => {
                let lost =
                    if unacknowledged == Unacknowledged::GbpaAbort { gbpa::ABORT } else { 0 };
                registers.set(offset, value & !u64::from(gbpa::UPDATE | lost));
            }
            o if o == regs::STRTAB_BASE.offset()
                && unacknowledged == Unacknowledged::StrtabBase =>
            {
                registers.set(offset, 0);
            }
            o if o == regs::STRTAB_BASE_CFG.offset()
                && unacknowledged == Unacknowledged::StrtabBaseCfg =>
            {
                registers.set(offset, 0);
            }
            _ => {}
        }
    });
    let id = [
        (regs::IDR0, ID.idr0),
        (regs::IDR1, ID.idr1),
        (regs::IDR3, ID.idr3),
        (regs::IDR5, ID.idr5),
        (regs::IIDR, ID.iidr),
        (regs::AIDR, ID.aidr),
    ];
    for (register, value) in id {
        registers.set(register.offset(), value.into());
    }
    registers
}

/// The SMMU's side of an event queue: it writes records.
#[derive(Debug)]
pub struct EventWriter {
    memory: Arc<[AtomicU64]>,
    first_word: usize,
    size: QueueSize,
    producer: Position,
    overflow: u32,
}

impl EventWriter {
    /// A writer to the queue of `size` at `base`, inside `window`.
    #[must_use]
    pub fn new(window: &HeapWindow, base: PhysAddr, size: QueueSize) -> Self {
        let first_word = (base.0.saturating_sub(window.base().0) / 8) as usize;
        EventWriter { memory: window.share(), first_word, size, producer: Position(0), overflow: 0 }
    }

    /// Write a record and update `EVENTQ_PROD`, as an SMMU does.
    ///
    /// If the queue is full, the record is dropped and the call returns `false`. `OVFLG` toggles if
    /// the driver has acknowledged the last overflow.
    pub fn write(&mut self, registers: &FakeRegisters, record: EventRecord) -> bool {
        let consumer = registers.read(regs::EVENTQ_CONS);
        let used = self.size.used(self.producer.pointer(self.size), consumer);
        let room = used.is_some_and(|used| used < self.size.entries());
        if room {
            let first = self.first_word + self.producer.index(self.size) * 4;
            for (word, value) in self.memory[first..first + 4].iter().zip(record.0) {
                word.store(value, Ordering::Relaxed);
            }
            // The record is visible before EVENTQ_PROD covers it.
            fence(Ordering::SeqCst);
            self.producer = self.producer.advanced(1);
        } else if (self.overflow ^ consumer) >> 31 == 0 {
            self.overflow ^= 1 << 31;
        }
        let producer = self.producer.pointer(self.size) | self.overflow;
        registers.set(regs::EVENTQ_PROD.offset(), producer.into());
        room
    }
}

/// Registers on a bus without a device: reads return ones, writes have no effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AbsentDevice;

impl Registers for AbsentDevice {
    fn read32(&self, _offset: u32) -> u32 {
        u32::MAX
    }
    fn write32(&self, _offset: u32, _value: u32) {}
    fn read64(&self, _offset: u32) -> u64 {
        u64::MAX
    }
    fn write64(&self, _offset: u32, _value: u64) {}
}
