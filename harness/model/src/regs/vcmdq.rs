//! Reads and writes of the second command queue's registers: a VCMDQ of Tegra241's CMDQV.

use smmu_types::regs::vcmdq::{
    BASE, CONFIG, CONS, CONS_INDX_BASE, ENABLE, ERROR, GERROR, GERRORN, PROD, STATUS,
};

use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::queue::feed::QueueId;
use crate::violation::Violation;

const BASE_BITS: u64 = 0x0000_ffff_ffff_ffff;

fn is_wide(register: u32) -> bool {
    [BASE, CONS_INDX_BASE].contains(&register)
}

/// The register of an access, and whether the access is to its upper half.
fn place(offset: u32, bytes: u32) -> Result<(u32, bool), Violation> {
    let register = offset & !(if offset >= BASE { 7 } else { 3 });
    if ![CONS, PROD, CONFIG, STATUS, GERROR, GERRORN, BASE, CONS_INDX_BASE].contains(&register) {
        return Err(Violation::Undefined { offset });
    }
    if !offset.is_multiple_of(bytes) || bytes == 8 && !is_wide(register) {
        return Err(Violation::Width { offset, bytes });
    }
    Ok((register, offset != register))
}

impl ModelSmmu {
    pub(crate) fn read_second(&mut self, ram: &ModelRam, offset: u32, bytes: u32) -> u64 {
        let (register, high) = match place(offset, bytes) {
            Ok(place) => place,
            Err(violation) => {
                self.violation(violation);
                return 0;
            }
        };
        if register == CONS {
            self.consume(ram, QueueId::Second, self.pace(QueueId::Second));
        }
        let r = &self.second_regs;
        let value = match register {
            CONS => r.cons.into(),
            PROD => r.prod.into(),
            CONFIG | STATUS => r.config.into(),
            GERROR => r.gerror.into(),
            GERRORN => r.gerrorn.into(),
            BASE => r.base,
            _ => 0,
        };
        if high { value >> 32 } else { value }
    }

    pub(crate) fn write_second(&mut self, offset: u32, bytes: u32, value: u64) {
        let (register, high) = match place(offset, bytes) {
            Ok(place) => place,
            Err(violation) => return self.violation(violation),
        };
        let narrow = value as u32;
        match register {
            CONS => {
                // The mask has `ERR` in bits 30:24, and index and wrap flag in bits 19:0.
                if !self.second_closed("VCMDQ_CONS_INDX") {
                    self.second_regs.cons =
                        self.defined("VCMDQ_CONS_INDX", value, 0x7f0f_ffff) as u32;
                }
            }
            PROD => self.write_second_prod(narrow),
            CONFIG => self.write_second_config(narrow),
            GERRORN => {
                let value = self.defined("VCMDQ_GERRORN", value, ERROR.into()) as u32;
                let toggled = value ^ self.second_regs.gerrorn;
                let active = self.second_regs.active();
                if toggled & !active != 0 {
                    self.violation(Violation::NotActive { bits: toggled & !active });
                }
                self.second_regs.gerrorn ^= toggled & active;
            }
            BASE => {
                if self.second_closed("VCMDQ_BASE") {
                    return;
                }
                let old = self.second_regs.base;
                let value = match (bytes, high) {
                    (8, _) => value,
                    (_, true) => old & 0xffff_ffff | value << 32,
                    (_, false) => old & !0xffff_ffff | value,
                };
                self.second_regs.base = self.defined("VCMDQ_BASE", value, BASE_BITS);
            }
            CONS_INDX_BASE => {
                self.defined("VCMDQ_CONS_INDX_BASE", value, 0);
            }
            STATUS => self.violation(Violation::ReadOnly { register: "VCMDQ_STATUS" }),
            _ => self.violation(Violation::ReadOnly { register: "VCMDQ_GERROR" }),
        }
    }

    fn second_closed(&mut self, register: &'static str) -> bool {
        let closed = self.second_regs.enabled();
        if closed {
            self.violation(Violation::Enabled { register, by: "VCMDQ_CONFIG.CMDQ_EN" });
        }
        closed
    }

    fn write_second_config(&mut self, value: u32) {
        let value = self.defined("VCMDQ_CONFIG", value.into(), ENABLE.into()) as u32;
        let was = self.second_regs.enabled();
        self.second_regs.config = value;
        match (was, self.second_regs.enabled()) {
            (false, true) => {
                let ring = self.command_ring(QueueId::Second);
                let (base, limit) = (self.second_regs.base, self.profile.cmdq_log2);
                self.check_ring("VCMDQ_BASE", base, &ring, limit);
                let (prod, cons) = (self.second_regs.prod, self.second_regs.cons);
                if ring.size.used(prod, cons).is_none() {
                    let register = "VCMDQ_PROD_INDX";
                    self.violation(Violation::Pointer { register, value: prod });
                }
            }
            (true, false) => self.inherit_timeout(),
            _ => {}
        }
    }

    fn write_second_prod(&mut self, value: u32) {
        let register = "VCMDQ_PROD_INDX";
        // Index and wrap flag of the largest queue. `beyond` is judged by this queue's own size.
        let value = self.defined(register, value.into(), 0x000f_ffff) as u32;
        let size = self.command_ring(QueueId::Second).size;
        let steps = |to| size.used(to, self.second_regs.cons);
        // After an error the driver may move the producer back, as in the main queue.
        let back = steps(value) < steps(self.second_regs.prod) && self.second_regs.active() == 0;
        let beyond = value & !size.pointer_mask() != 0;
        if self.second_regs.enabled() && (steps(value).is_none() || back || beyond) {
            self.violation(Violation::Pointer { register, value });
        }
        self.second_regs.prod = value;
    }
}
