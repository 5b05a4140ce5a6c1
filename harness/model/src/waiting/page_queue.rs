//! The PRI queue (IHI 0070, chapter 8): requests come, and responses go to their devices.

use smmu_types::regs::{cr0, gerror, irq_ctrl, priq_irq_cfg2};
use smmu_types::{
    Command, CommandErrorCode, Irq, PrgIndex, PriRecord, PriResponse, StreamId, SubstreamId,
};

use crate::hazard::Hazard;
use crate::injected_fault::InjectedFault;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::queue::ring::QueueRing;
use crate::waiting::pages::Group;

const OVERFLOW: u32 = 1 << 31;

impl ModelSmmu {
    pub(crate) fn page_request_ring(&self) -> QueueRing {
        let limit = self.profile.priq_log2;
        QueueRing::new(self.regs.priq_base, limit, PriRecord::BYTES as u64)
    }

    /// A device sends a page request, or the marker that it has stopped using a PASID.
    pub(crate) fn page_request(&mut self, ram: &ModelRam, request: PriRecord) {
        let device = self.devices.get(&request.stream().0);
        if device.is_some_and(|device| device.asks == Some(false)) {
            return;
        }
        let group = Group::of(&request);
        let waits = request.is_last() && !request.is_stop();
        if waits {
            self.pages.waiting.insert(group);
            self.pages.answered.remove(&group);
        }
        // SMMUEN = 0 implies PRIQEN = 0 (8.2).
        let on = cr0::PRIQEN | cr0::SMMUEN;
        if self.regs.cr0 & on != on || self.active_errors() & gerror::PRIQ_ABT != 0 {
            self.pages.answer(group, PriResponse::Failure, true);
            return;
        }
        let ring = self.page_request_ring();
        let mask = ring.size.pointer_mask();
        let (prod, cons) = (self.regs.priq_prod & mask, self.regs.priq_cons & mask);
        let overflowed = (self.regs.priq_prod ^ self.regs.priq_cons) & OVERFLOW != 0;
        // An impossible `CONS` says nothing about free slots: treat the queue as full.
        let full = ring.size.used(prod, cons).is_none_or(|used| used == ring.size.entries());
        if overflowed || full {
            if !overflowed {
                self.regs.priq_prod ^= OVERFLOW;
            }
            self.pages.answer(group, PriResponse::Success, true);
            self.interrupt_by_request(ram, &request, false);
            return;
        }
        let aborts = self.main.faults.contains(&InjectedFault::PriQueueAbort);
        let slot = ring.rounded_down().slot(prod);
        if aborts || ram.write_words(slot, &request.0).is_none() {
            self.raise_error(ram, gerror::PRIQ_ABT);
            self.pages.answer(group, PriResponse::Failure, true);
            return;
        }
        self.regs.priq_prod = self.regs.priq_prod & OVERFLOW | ring.after(prod);
        self.interrupt_by_request(ram, &request, prod == cons);
    }

    /// Interrupt for a request that was written, or that the full queue discarded. `LO` decides
    /// which ones do, by wire or by MSI (6.3.36).
    fn interrupt_by_request(&mut self, ram: &ModelRam, request: &PriRecord, first: bool) {
        let last_only = self.regs.priq_msi.attributes & priq_irq_cfg2::LO != 0;
        let due = if last_only { request.is_last() } else { first };
        if due && self.regs.irq_ctrl & irq_ctrl::PRIQ != 0 {
            self.signal(ram, self.regs.priq_msi, Irq::PriQueue, gerror::MSI_PRIQ_ABT);
        }
    }

    pub(crate) fn page_response(
        &mut self,
        stream: StreamId,
        substream: Option<SubstreamId>,
        group: PrgIndex,
        response: PriResponse,
    ) -> Result<(), CommandErrorCode> {
        if !self.profile.pri {
            return Err(CommandErrorCode::ILL);
        }
        // The SMMU ignores the command while translation is off (4.5.2).
        if !self.translates() {
            return Ok(());
        }
        let of = Group { stream, substream, group };
        if !self.pages.answer(of, response, false) {
            let twice = self.pages.answered.contains(&of);
            let command = Command::PriResp { stream, substream, group, response };
            self.hazard(Hazard::WrongAnswer { smmu: self.index, command, twice });
        }
        Ok(())
    }
}
