//! Writes of `CR0` and `CMDQ_PROD`, and the checks of bases, sizes and pointers.

use smmu_types::regs::{cr0, gerror};

use crate::hazard::Hazard;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::queue::feed::QueueId;
use crate::queue::ring::QueueRing;
use crate::regs::register_file::BASE_ADDRESS;
use crate::violation::Violation;

impl ModelSmmu {
    pub(crate) fn write_cr0(&mut self, ram: &ModelRam, value: u32) {
        let atschk = if self.profile.ats { cr0::ATSCHK } else { 0 };
        let priqen = if self.profile.pri { cr0::PRIQEN } else { 0 };
        let bits = cr0::SMMUEN | cr0::EVENTQEN | cr0::CMDQEN | priqen | atschk;
        let value = self.defined("CR0", value.into(), bits.into()) as u32;
        let rising = value & !self.regs.cr0;
        if rising & cr0::CMDQEN != 0 {
            let ring = self.command_ring(QueueId::Main);
            let (base, limit) = (self.regs.cmdq_base, self.profile.cmdq_log2);
            self.check_ring("CMDQ_BASE", base, &ring, limit);
            if ring.size.used(self.regs.cmdq_prod, self.regs.cmdq_cons).is_none() {
                let value = self.regs.cmdq_prod;
                self.violation(Violation::Pointer { register: "CMDQ_PROD", value });
            }
        }
        if rising & cr0::EVENTQEN != 0 {
            let ring = self.event_ring();
            let (base, limit) = (self.regs.eventq_base, self.profile.eventq_log2);
            self.check_ring("EVENTQ_BASE", base, &ring, limit);
        }
        if rising & cr0::PRIQEN != 0 {
            let ring = self.page_request_ring();
            let (base, limit) = (self.regs.priq_base, self.profile.priq_log2);
            self.check_ring("PRIQ_BASE", base, &ring, limit);
        }
        if rising & cr0::SMMUEN != 0 {
            self.check_stream_table();
            for missing in std::mem::take(&mut self.due) {
                self.hazard(Hazard::UnknownCaches { smmu: self.index, missing });
            }
        }
        if value & cr0::SMMUEN == 0 {
            self.stalls.end_all();
        }
        self.regs.cr0 = value;
        if rising & cr0::SMMUEN != 0 {
            self.fetch_ahead(ram);
        }
        if rising & cr0::EVENTQEN != 0 {
            self.retry_unrecorded(ram);
        }
    }

    pub(crate) fn check_ring(
        &mut self,
        register: &'static str,
        base: u64,
        ring: &QueueRing,
        limit: u8,
    ) {
        let log2 = base & 0x1f;
        if log2 > limit.into() {
            self.violation(Violation::Unsupported { register, field: "LOG2SIZE", value: log2 });
        }
        if !ring.is_aligned() {
            let (address, align) = (ring.base, ring.align());
            self.violation(Violation::Alignment { register, address, align });
        }
    }

    fn check_stream_table(&mut self) {
        let config = self.regs.strtab_base_cfg;
        let (log2, split, format) = (config & 0x3f, config >> 6 & 0x1f, config >> 16 & 3);
        let checks = [
            ("LOG2SIZE", log2, log2 <= self.profile.sid_bits.into()),
            ("FMT", format, format <= self.profile.two_level.into()),
            ("SPLIT", split, format != 1 || [6, 8, 10].contains(&split)),
        ];
        for (field, value, supported) in checks {
            if !supported {
                let (register, value) = ("STRTAB_BASE_CFG", value.into());
                self.violation(Violation::Unsupported { register, field, value });
            }
        }
        let align = self.stream_table().bytes();
        let address = self.regs.strtab_base & BASE_ADDRESS;
        if address & (align - 1) != 0 {
            self.violation(Violation::Alignment { register: "STRTAB_BASE", address, align });
        }
    }

    pub(crate) fn write_cmdq_prod(&mut self, value: u32) {
        let value = self.defined("CMDQ_PROD", value.into(), 0x000f_ffff) as u32;
        let ring = self.command_ring(QueueId::Main);
        let mask = ring.size.pointer_mask();
        let enabled = self.regs.cr0 & cr0::CMDQEN != 0;
        let steps = |to| ring.size.used(to, self.regs.cmdq_cons);
        // The producer only moves forward, at most to a full queue. After an error the driver may
        // move it back.
        let back =
            steps(value) < steps(self.regs.cmdq_prod) && self.active_errors() & gerror::CMDQ == 0;
        if enabled && (steps(value).is_none() || back || value & !mask != 0) {
            self.violation(Violation::Pointer { register: "CMDQ_PROD", value });
        }
        self.regs.cmdq_prod = value;
    }
}
