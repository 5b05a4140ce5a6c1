//! The event queue, global errors and interrupts.

use smmu_types::queue::QueueSize;
use smmu_types::regs::{cr0, gerror, irq_ctrl};
use smmu_types::{EventRecord, PhysAddr};

use super::device::Smmu;
use super::memory::Ram;
use super::profile::Fault;
use smmu_types::Irq;

const OVERFLOW: u32 = 1 << 31;

/// One circular queue, as its base register describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    pub(super) base: u64,
    pub(super) size: QueueSize,
    entry: u64,
}

impl Ring {
    /// `limit` is log2 of the largest queue of this SMMU; a larger one counts as that.
    pub(super) fn new(register: u64, limit: u8, entry: u64) -> Self {
        let log2 = (register & 0x1f).min(u64::from(limit)) as u8;
        // `Profile::bounded` keeps the limit within the architecture's.
        let size = QueueSize::from_log2(log2).unwrap_or(SMALLEST);
        Ring { base: register & 0x000f_ffff_ffff_ffe0, size, entry }
    }

    pub(super) fn align(&self) -> u64 {
        (u64::from(self.size.entries()) * self.entry).max(32)
    }

    pub(super) fn slot(&self, pointer: u32) -> PhysAddr {
        let index = u64::from(pointer & (self.size.entries() - 1));
        PhysAddr(self.base + index * self.entry)
    }

    pub(super) fn after(&self, pointer: u32) -> u32 {
        pointer.wrapping_add(1) & self.size.pointer_mask()
    }
}

/// Where an interrupt is written to, as its three registers say. An address of 0 means nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Msi {
    pub(super) address: u64,
    pub(super) data: u32,
    pub(super) attributes: u32,
}

const SMALLEST: QueueSize = match QueueSize::from_log2(0) {
    Some(size) => size,
    None => unreachable!(),
};

impl Smmu {
    pub(super) fn event_ring(&self) -> Ring {
        let limit = self.profile.eventq_log2;
        Ring::new(self.regs.eventq_base, limit, EventRecord::BYTES as u64)
    }

    /// Write a record, or lose it as the architecture has it.
    pub(super) fn record(&mut self, ram: &Ram, event: EventRecord) {
        if self.regs.cr0 & cr0::EVENTQEN == 0 {
            return;
        }
        let ring = self.event_ring();
        let mask = ring.size.pointer_mask();
        let (prod, cons) = (self.regs.eventq_prod & mask, self.regs.eventq_cons & mask);
        // A consumer that is nowhere in the queue leaves its contents unknown: nothing is written.
        if ring.size.used(prod, cons).is_none_or(|used| used == ring.size.entries()) {
            if (self.regs.eventq_prod ^ self.regs.eventq_cons) & OVERFLOW == 0 {
                self.regs.eventq_prod ^= OVERFLOW;
            }
            return;
        }
        let aborts = self.main.faults.contains(&Fault::EventQueueAbort);
        // The SMMU takes the bits below the queue's alignment as zero.
        let aligned = Ring { base: ring.base & !(ring.align() - 1), ..ring };
        if aborts || ram.write_words(aligned.slot(prod), &event.0).is_none() {
            self.raise_error(ram, gerror::EVENTQ_ABT);
            return;
        }
        self.regs.eventq_prod = self.regs.eventq_prod & OVERFLOW | ring.after(prod);
        if prod == cons && self.regs.irq_ctrl & irq_ctrl::EVENTQ != 0 {
            self.signal(ram, self.regs.eventq_msi, Irq::EventQueue, gerror::MSI_EVENTQ_ABT);
        }
    }

    /// Make errors active; those that are active already stay as they are.
    pub(super) fn raise_error(&mut self, ram: &Ram, bits: u32) {
        let fresh = bits & !self.active_errors();
        if fresh == 0 {
            return;
        }
        self.regs.gerror ^= fresh;
        if self.regs.irq_ctrl & irq_ctrl::GERROR != 0 {
            self.signal(ram, self.regs.gerror_msi, Irq::Gerror, gerror::MSI_GERROR_ABT);
        }
    }

    /// Interrupt by the MSI that is set up, or by the wire where none is (3.18).
    fn signal(&mut self, ram: &Ram, msi: Msi, wire: Irq, abort: u32) {
        if !self.profile.msi || msi.address == 0 {
            self.interrupt(wire);
        } else if ram.write32(PhysAddr(msi.address), msi.data).is_none() {
            self.raise_error(ram, abort);
        }
    }

    pub(super) fn active_errors(&self) -> u32 {
        self.regs.gerror ^ self.regs.gerrorn
    }
}
