//! Fake registers of an SMMU, and writers of events and page requests, for tests and examples.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use smmu_types::fake::{FakeRegisters, HeapWindow};
use smmu_types::pool::Window;
use smmu_types::queue::{Eventq, Position, Priq, QueueKind, QueueSize, WhileOverflowed};
use smmu_types::regs::{self, Reg, Rw, gbpa};
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{EventRecord, PhysAddr, PriRecord};

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
    /// `GBPA.UPDATE` clears, and `GBPA.ABORT` stays set.
    GbpaBypass,
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
                let stuck =
                    if unacknowledged == Unacknowledged::GbpaBypass { gbpa::ABORT } else { 0 };
                let kept = value & !u64::from(gbpa::UPDATE | lost) | u64::from(stuck);
                registers.set(offset, kept);
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

/// The SMMU's side of an output queue: a ring that it fills.
#[derive(Debug)]
struct Writer {
    memory: Arc<[AtomicU64]>,
    first_word: usize,
    size: QueueSize,
    producer: Position,
    overflow: u32,
}

impl Writer {
    fn new(window: &HeapWindow, base: PhysAddr, size: QueueSize) -> Self {
        let first_word = (base.0.saturating_sub(window.base().0) / 8) as usize;
        Writer { memory: window.share(), first_word, size, producer: Position(0), overflow: 0 }
    }

    fn write(
        &mut self,
        registers: &FakeRegisters,
        [prod, cons]: [Reg<u32, Rw>; 2],
        record: &[u64],
        while_overflowed: WhileOverflowed,
    ) -> bool {
        let consumer = registers.read(cons);
        let used = self.size.used(self.producer.pointer(self.size), consumer);
        let overflowed = (self.overflow ^ consumer) >> 31 != 0;
        let discards = overflowed && while_overflowed == WhileOverflowed::Discards;
        let room = !discards && used.is_some_and(|used| used < self.size.entries());
        if room {
            let words = record.len();
            let first = self.first_word + self.producer.index(self.size) * words;
            for (word, value) in self.memory[first..first + words].iter().zip(record) {
                word.store(*value, Ordering::Relaxed);
            }
            // The record is visible before PROD covers it.
            fence(Ordering::SeqCst);
            self.producer = self.producer.advanced(1);
        } else if !overflowed {
            self.overflow ^= 1 << 31;
        }
        let producer = self.producer.pointer(self.size) | self.overflow;
        registers.set(prod.offset(), producer.into());
        room
    }
}

/// The SMMU's side of an event queue: it writes records.
#[derive(Debug)]
pub struct EventWriter(Writer);

impl EventWriter {
    /// A writer to the queue of `size` at `base`, inside `window`.
    #[must_use]
    pub fn new(window: &HeapWindow, base: PhysAddr, size: QueueSize) -> Self {
        EventWriter(Writer::new(window, base, size))
    }

    /// Write a record and update `EVENTQ_PROD`, as an SMMU does.
    ///
    /// If the queue is full, the record is dropped and the call returns `false`. `OVFLG` toggles if
    /// the driver has acknowledged the last overflow.
    pub fn write(&mut self, registers: &FakeRegisters, record: EventRecord) -> bool {
        let pointers = [regs::EVENTQ_PROD, regs::EVENTQ_CONS];
        self.0.write(registers, pointers, &record.0, Eventq::WHILE_OVERFLOWED)
    }
}

/// The SMMU's side of a PRI queue: it writes page requests.
#[derive(Debug)]
pub struct PriWriter(Writer);

impl PriWriter {
    /// A writer to the queue of `size` at `base`, inside `window`.
    #[must_use]
    pub fn new(window: &HeapWindow, base: PhysAddr, size: QueueSize) -> Self {
        PriWriter(Writer::new(window, base, size))
    }

    /// Write a page request and update `PRIQ_PROD`, as an SMMU does.
    ///
    /// If the queue is full, or the driver has not acknowledged the last overflow, the request is
    /// dropped and the call returns `false`: the device gets the answer of the SMMU.
    pub fn write(&mut self, registers: &FakeRegisters, record: PriRecord) -> bool {
        let pointers = [regs::PRIQ_PROD, regs::PRIQ_CONS];
        self.0.write(registers, pointers, &record.0, Priq::WHILE_OVERFLOWED)
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
