//! The second command queue: one virtual queue (VCMDQ) of Tegra241's CMDQV, whose registers are those of
//! [`regs::vcmdq`](smmu_types::regs::vcmdq).

use std::fmt;
use std::sync::Arc;

use smmu_types::regs::vcmdq::{
    BASE, CONFIG, CONS, CONS_INDX_BASE, ENABLE, ERROR, GERROR, GERRORN, PROD, STATUS,
};
use smmu_types::seam::Registers;

use super::Shared;
use super::device::Smmu;
use super::hazard::Violation;
use super::memory::Ram;
use super::queues::Which;

const BASE_BITS: u64 = 0x0000_ffff_ffff_ffff;

/// What is stored.
#[derive(Debug, Default)]
pub(super) struct SecondRegisters {
    pub(super) base: u64,
    pub(super) prod: u32,
    pub(super) cons: u32,
    config: u32,
    gerror: u32,
    gerrorn: u32,
}

impl SecondRegisters {
    fn enabled(&self) -> bool {
        self.config & ENABLE != 0
    }

    fn active(&self) -> u32 {
        self.gerror ^ self.gerrorn
    }

    pub(super) fn runs(&self) -> bool {
        self.enabled() && self.active() == 0
    }

    /// The queue stops; it did not stand still before.
    pub(super) fn raise_error(&mut self) {
        self.gerror ^= ERROR;
    }
}

/// The registers of the second command queue of one modelled SMMU.
#[derive(Clone)]
pub struct SecondQueueRegisters {
    shared: Arc<Shared>,
    index: usize,
}

impl fmt::Debug for SecondQueueRegisters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecondQueueRegisters").field("index", &self.index).finish_non_exhaustive()
    }
}

impl SecondQueueRegisters {
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
        SecondQueueRegisters { shared, index }
    }

    fn load(&self, offset: u32, bytes: u32) -> u64 {
        let read = self.shared.act(self.index, |smmu, ram| smmu.read_second(ram, offset, bytes));
        read.unwrap_or(0)
    }

    fn store(&self, offset: u32, bytes: u32, value: u64) {
        self.shared.act(self.index, |smmu, _| smmu.write_second(offset, bytes, value));
    }
}

impl Registers for SecondQueueRegisters {
    fn read32(&self, offset: u32) -> u32 {
        self.load(offset, 4) as u32
    }
    fn write32(&self, offset: u32, value: u32) {
        self.store(offset, 4, value.into());
    }
    fn read64(&self, offset: u32) -> u64 {
        self.load(offset, 8)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.store(offset, 8, value);
    }
}

fn is_wide(register: u32) -> bool {
    [BASE, CONS_INDX_BASE].contains(&register)
}

/// The register of an access, and whether it is to the upper half of it.
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

impl Smmu {
    pub(super) fn has_second_queue(&self) -> bool {
        self.profile.second_queue.is_some()
    }

    fn read_second(&mut self, ram: &Ram, offset: u32, bytes: u32) -> u64 {
        let (register, high) = match place(offset, bytes) {
            Ok(place) => place,
            Err(violation) => {
                self.violation(violation);
                return 0;
            }
        };
        if register == CONS {
            self.consume(ram, Which::Second, self.pace(Which::Second));
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

    fn write_second(&mut self, offset: u32, bytes: u32, value: u64) {
        let (register, high) = match place(offset, bytes) {
            Ok(place) => place,
            Err(violation) => return self.violation(violation),
        };
        let narrow = value as u32;
        match register {
            CONS => {
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
                let ring = self.command_ring(Which::Second);
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
        let value = self.defined(register, value.into(), 0x000f_ffff) as u32;
        let size = self.command_ring(Which::Second).size;
        let steps = |to| size.used(to, self.second_regs.cons);
        let back = steps(value) < steps(self.second_regs.prod) && self.second_regs.active() == 0;
        let beyond = value & !size.pointer_mask() != 0;
        if self.second_regs.enabled() && (steps(value).is_none() || back || beyond) {
            self.violation(Violation::Pointer { register, value });
        }
        self.second_regs.prod = value;
    }
}
