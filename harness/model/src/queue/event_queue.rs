//! The event queue: the SMMU writes a record, or loses it.

use smmu_types::regs::{cr0, gerror, irq_ctrl};
use smmu_types::{EventRecord, Irq};

use crate::injected_fault::InjectedFault;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::queue::ring::QueueRing;

const OVERFLOW: u32 = 1 << 31;
/// The most events that an SMMU keeps of those that are not in its event queue.
const UNRECORDED: usize = 64;

impl ModelSmmu {
    pub(crate) fn event_ring(&self) -> QueueRing {
        let limit = self.profile.eventq_log2;
        QueueRing::new(self.regs.eventq_base, limit, EventRecord::BYTES as u64)
    }

    /// Write a record. The SMMU loses it if the queue is off, is full or aborts.
    pub(crate) fn record(&mut self, ram: &ModelRam, event: EventRecord) {
        let on = self.regs.cr0 & cr0::EVENTQEN != 0;
        if self.record_if_room(ram, event) {
            return;
        }
        self.leave_out(event);
        let lost = on && self.is_event_queue_full();
        if lost && (self.regs.eventq_prod ^ self.regs.eventq_cons) & OVERFLOW == 0 {
            self.regs.eventq_prod ^= OVERFLOW;
        }
    }

    /// Keep an event that does not come into the event queue, for
    /// [`Model::take_unrecorded`](crate::Model::take_unrecorded).
    pub(crate) fn leave_out(&mut self, event: EventRecord) {
        if self.unrecorded.len() < UNRECORDED {
            self.unrecorded.push(event);
        }
    }

    fn is_event_queue_full(&self) -> bool {
        let ring = self.event_ring();
        let mask = ring.size.pointer_mask();
        let (prod, cons) = (self.regs.eventq_prod & mask, self.regs.eventq_cons & mask);
        // An impossible `CONS` says nothing about free slots: treat the queue as full.
        ring.size.used(prod, cons).is_none_or(|used| used == ring.size.entries())
    }

    /// Write a record if the queue is writable. Says whether it is in the queue.
    pub(crate) fn record_if_room(&mut self, ram: &ModelRam, event: EventRecord) -> bool {
        // 7.2.1: on, with no abort unacknowledged, and not full.
        let shut = self.regs.cr0 & cr0::EVENTQEN == 0
            || self.active_errors() & gerror::EVENTQ_ABT != 0
            || self.is_event_queue_full();
        if shut {
            return false;
        }
        let ring = self.event_ring();
        let mask = ring.size.pointer_mask();
        let (prod, cons) = (self.regs.eventq_prod & mask, self.regs.eventq_cons & mask);
        let aborts = self.main.faults.contains(&InjectedFault::EventQueueAbort);
        let slot = ring.rounded_down().slot(prod);
        if aborts || ram.write_words(slot, &event.0).is_none() {
            self.raise_error(ram, gerror::EVENTQ_ABT);
            return false;
        }
        self.regs.eventq_prod = self.regs.eventq_prod & OVERFLOW | ring.after(prod);
        if prod == cons && self.regs.irq_ctrl & irq_ctrl::EVENTQ != 0 {
            self.signal(ram, self.regs.eventq_msi, Irq::EventQueue, gerror::MSI_EVENTQ_ABT);
        }
        true
    }
}
