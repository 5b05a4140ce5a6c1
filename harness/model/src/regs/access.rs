//! Reads and writes of an SMMU's registers, and the rules that a driver keeps when it writes them.

use smmu_types::regs::{self, cr0, cr2, gbpa, gerror, irq_cfg2, irq_ctrl, priq_irq_cfg2};

use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::queue::enhanced::EnhancedQueue;
use crate::queue::feed::QueueId;
use crate::queue::ring::QueueRing;
use crate::regs::register_file::BASE_ADDRESS;
use crate::violation::Violation;

macro_rules! offsets {
    ($($name:ident)*) => {
        $(const $name: u32 = regs::$name.offset();)*

        /// The registers that the model has. The others belong to features that its ID registers
        /// deny.
        const REGISTERS: &[u32] = &[$($name),*];
    };
}

offsets! {
    IDR0 IDR1 IDR2 IDR3 IDR4 IDR5 IIDR AIDR CR0 CR0ACK CR1 CR2 GBPA IRQ_CTRL IRQ_CTRLACK GERROR GERRORN
    GERROR_IRQ_CFG0 GERROR_IRQ_CFG1 GERROR_IRQ_CFG2 STRTAB_BASE STRTAB_BASE_CFG CMDQ_BASE
    CMDQ_PROD CMDQ_CONS EVENTQ_BASE EVENTQ_IRQ_CFG0 EVENTQ_IRQ_CFG1 EVENTQ_IRQ_CFG2 PRIQ_BASE
    PRIQ_IRQ_CFG0 PRIQ_IRQ_CFG1 PRIQ_IRQ_CFG2 EVENTQ_PROD EVENTQ_CONS PRIQ_PROD PRIQ_CONS
}

const ALLOCATE: u64 = 1 << 62;

const OVERFLOW: u32 = 1 << 31;

/// `ADDR` of `*_IRQ_CFG0`. The bits beyond the output address size are reserved.
const MSI_ADDRESS: u64 = 0x00ff_ffff_ffff_fffc;

/// The register of an access, and the part of it.
struct RegisterAccess {
    register: u32,
    name: &'static str,
    /// The access is to the upper half of a 64-bit register.
    high: bool,
    /// The access is to the whole register.
    whole: bool,
}

fn is_wide(register: u32) -> bool {
    let msi = [GERROR_IRQ_CFG0, EVENTQ_IRQ_CFG0, PRIQ_IRQ_CFG0];
    [STRTAB_BASE, CMDQ_BASE, EVENTQ_BASE, PRIQ_BASE].contains(&register) || msi.contains(&register)
}

fn place(offset: u32, bytes: u32) -> Result<RegisterAccess, Violation> {
    if !offset.is_multiple_of(bytes) {
        return Err(Violation::Width { offset, bytes });
    }
    if let Some(name) = regs::name_of(offset).filter(|_| REGISTERS.contains(&offset)) {
        let wide = is_wide(offset);
        if bytes == 8 && !wide {
            return Err(Violation::Width { offset, bytes });
        }
        let whole = wide == (bytes == 8);
        return Ok(RegisterAccess { register: offset, name, high: false, whole });
    }
    // A driver may replace a 64-bit access by two 32-bit ones.
    let base = offset.checked_sub(4).filter(|base| is_wide(*base) && bytes == 4);
    match base.and_then(|base| regs::name_of(base).map(|name| (base, name))) {
        Some((register, name)) => Ok(RegisterAccess { register, name, high: true, whole: false }),
        None => Err(Violation::Undefined { offset }),
    }
}

impl ModelSmmu {
    pub(crate) fn read(&mut self, ram: &ModelRam, offset: u32, bytes: u32) -> u64 {
        if let Some(register) = self.enhanced_register(offset) {
            return self.read_enhanced(ram, register, offset, bytes);
        }
        match place(offset, bytes) {
            Ok(place) => {
                let value = self.load(ram, place.register);
                if place.high { value >> 32 } else { value }
            }
            Err(violation) => {
                self.violation(violation);
                0
            }
        }
    }

    pub(crate) fn write(&mut self, ram: &ModelRam, offset: u32, bytes: u32, value: u64) {
        if let Some(register) = self.enhanced_register(offset) {
            self.see_stes(ram);
            return self.write_enhanced(register, offset, bytes, value);
        }
        let place = match place(offset, bytes) {
            Ok(place) => place,
            Err(violation) => return self.violation(violation),
        };
        let value = if place.whole {
            value
        } else {
            let old = self.load(ram, place.register);
            match place.high {
                true => old & 0xffff_ffff | value << 32,
                false => old & !0xffff_ffff | value & 0xffff_ffff,
            }
        };
        self.store(ram, place.register, place.name, value);
    }

    fn load(&mut self, ram: &ModelRam, register: u32) -> u64 {
        let id = self.profile.id_registers();
        let r = &mut self.regs;
        let narrow = match register {
            IDR0 => id.idr0,
            IDR1 => id.idr1,
            IDR2 => id.idr2,
            IDR3 => id.idr3,
            IDR4 => id.idr4,
            IDR5 => id.idr5,
            IIDR => id.iidr,
            AIDR => id.aidr,
            CR0 | CR0ACK => r.cr0,
            CR1 => r.cr1,
            CR2 => r.cr2,
            GBPA => {
                // A read shows the new value while `UPDATE` is set (6.3.14.1). The first read still
                // shows `UPDATE`; the change takes effect with it.
                let update = match r.gbpa_update.take() {
                    Some(new) => {
                        r.gbpa = new;
                        gbpa::UPDATE
                    }
                    None => 0,
                };
                r.gbpa | update
            }
            IRQ_CTRL | IRQ_CTRLACK => r.irq_ctrl,
            GERROR => r.gerror,
            GERRORN => r.gerrorn,
            STRTAB_BASE => return r.strtab_base,
            STRTAB_BASE_CFG => r.strtab_base_cfg,
            CMDQ_BASE => return r.cmdq_base,
            CMDQ_PROD => r.cmdq_prod,
            CMDQ_CONS => {
                self.consume(ram, QueueId::Main, self.pace(QueueId::Main));
                self.command_ring(QueueId::Main).readable(self.regs.cmdq_cons)
            }
            GERROR_IRQ_CFG0 => return r.gerror_msi.address,
            GERROR_IRQ_CFG1 => r.gerror_msi.data,
            GERROR_IRQ_CFG2 => r.gerror_msi.attributes,
            EVENTQ_IRQ_CFG0 => return r.eventq_msi.address,
            EVENTQ_IRQ_CFG1 => r.eventq_msi.data,
            EVENTQ_IRQ_CFG2 => r.eventq_msi.attributes,
            EVENTQ_BASE => return r.eventq_base,
            EVENTQ_PROD => r.eventq_prod,
            EVENTQ_CONS => self.event_ring().readable(self.regs.eventq_cons),
            PRIQ_IRQ_CFG0 => return r.priq_msi.address,
            PRIQ_IRQ_CFG1 => r.priq_msi.data,
            PRIQ_IRQ_CFG2 => r.priq_msi.attributes,
            PRIQ_BASE => return r.priq_base,
            PRIQ_PROD => r.priq_prod,
            PRIQ_CONS => self.page_request_ring().readable(self.regs.priq_cons),
            _ => 0,
        };
        narrow.into()
    }

    fn store(&mut self, ram: &ModelRam, register: u32, name: &'static str, value: u64) {
        let narrow = value as u32;
        let enables = self.regs.cr0;
        match register {
            CR0 => self.write_cr0(ram, narrow),
            CR1 => {
                let any = cr0::SMMUEN | cr0::CMDQEN | cr0::EVENTQEN | cr0::PRIQEN;
                if self.closed(name, any, "an enable bit of CR0") {
                    return;
                }
                // 3.5.6.1: its attributes of queues are read-only.
                if self.enhanced.iter().any(EnhancedQueue::is_used) {
                    let by = "ECMDQ_PROD.EN";
                    return self.violation(Violation::Enabled { register: name, by });
                }
                self.regs.cr1 = self.defined(name, value, 0xfff) as u32;
            }
            CR2 => {
                if self.closed(name, cr0::SMMUEN, "CR0.SMMUEN") {
                    return;
                }
                let e2h = if self.profile.hyp { cr2::E2H } else { 0 };
                let ats = if self.profile.ats_errors { cr2::REC_CFG_ATS } else { 0 };
                let bits = e2h | ats | cr2::RECINVSID | cr2::PTM;
                self.regs.cr2 = self.defined(name, value, bits.into()) as u32;
            }
            GBPA => {
                if narrow & gbpa::UPDATE == 0 || self.regs.gbpa_update.is_some() {
                    return self.violation(Violation::Update);
                }
                let bits = u64::from(gbpa::UPDATE | gbpa::ABORT) | 0x000f_3f1f;
                let value = self.defined(name, value, bits) as u32;
                self.regs.gbpa_update = Some(value & !gbpa::UPDATE);
            }
            IRQ_CTRL => {
                let priq = if self.profile.pri { irq_ctrl::PRIQ } else { 0 };
                let bits = irq_ctrl::GERROR | irq_ctrl::EVENTQ | priq;
                self.regs.irq_ctrl = self.defined(name, value, bits.into()) as u32;
            }
            GERRORN => {
                let enhanced = if self.enhanced.is_empty() { 0 } else { gerror::CMDQP };
                let value = self.defined(name, value, (gerror::ALL | enhanced).into()) as u32;
                let active = self.active_errors();
                let toggled = value ^ self.regs.gerrorn;
                if toggled & !active != 0 {
                    self.violation(Violation::NotActive { bits: toggled & !active });
                }
                self.regs.gerrorn ^= toggled & active;
                if toggled & active & gerror::EVENTQ_ABT != 0 {
                    // The queue may be writable again.
                    self.retry_unrecorded(ram);
                }
            }
            STRTAB_BASE => {
                if self.closed(name, cr0::SMMUEN, "CR0.SMMUEN") {
                    return;
                }
                self.regs.strtab_base = self.defined(name, value, ALLOCATE | BASE_ADDRESS & !0x3f);
            }
            STRTAB_BASE_CFG => {
                if self.closed(name, cr0::SMMUEN, "CR0.SMMUEN") {
                    return;
                }
                self.regs.strtab_base_cfg = self.defined(name, value, 0x0003_07ff) as u32;
            }
            CMDQ_BASE => {
                if self.closed(name, cr0::CMDQEN, "CR0.CMDQEN") {
                    return;
                }
                self.regs.cmdq_base = self.defined(name, value, ALLOCATE | BASE_ADDRESS | 0x1f);
            }
            CMDQ_PROD => {
                self.see_stes(ram);
                self.write_cmdq_prod(narrow);
            }
            CMDQ_CONS => {
                if self.closed(name, cr0::CMDQEN, "CR0.CMDQEN") {
                    return;
                }
                self.regs.cmdq_cons = self.defined(name, value, 0x7f0f_ffff) as u32;
            }
            EVENTQ_BASE => {
                if self.closed(name, cr0::EVENTQEN, "CR0.EVENTQEN") {
                    return;
                }
                self.regs.eventq_base = self.defined(name, value, ALLOCATE | BASE_ADDRESS | 0x1f);
            }
            EVENTQ_PROD => {
                if self.closed(name, cr0::EVENTQEN, "CR0.EVENTQEN") {
                    return;
                }
                self.regs.eventq_prod = self.defined(name, value, 0x800f_ffff) as u32;
            }
            EVENTQ_CONS => {
                let value = self.defined(name, value, 0x800f_ffff) as u32;
                let (ring, prod) = (self.event_ring(), self.regs.eventq_prod);
                self.check_consumer(name, &ring, prod, enables & cr0::EVENTQEN, value);
                self.regs.eventq_cons = value;
                // The queue may be writable again.
                self.retry_unrecorded(ram);
            }
            GERROR_IRQ_CFG0 | GERROR_IRQ_CFG1 | GERROR_IRQ_CFG2 | EVENTQ_IRQ_CFG0
            | EVENTQ_IRQ_CFG1 | EVENTQ_IRQ_CFG2 => self.write_msi(register, name, value),
            PRIQ_BASE | PRIQ_IRQ_CFG0 | PRIQ_IRQ_CFG1 | PRIQ_IRQ_CFG2 | PRIQ_PROD | PRIQ_CONS
                if !self.profile.pri =>
            {
                // Without PRI the registers are reserved, and a driver may write 0.
                self.defined(name, value, 0);
            }
            PRIQ_IRQ_CFG0 | PRIQ_IRQ_CFG1 | PRIQ_IRQ_CFG2 => self.write_msi(register, name, value),
            PRIQ_BASE => {
                if self.closed(name, cr0::PRIQEN, "CR0.PRIQEN") {
                    return;
                }
                self.regs.priq_base = self.defined(name, value, ALLOCATE | BASE_ADDRESS | 0x1f);
            }
            PRIQ_PROD => {
                if self.closed(name, cr0::PRIQEN, "CR0.PRIQEN") {
                    return;
                }
                self.regs.priq_prod = self.defined(name, value, 0x800f_ffff) as u32;
            }
            PRIQ_CONS => {
                let value = self.defined(name, value, 0x800f_ffff) as u32;
                let (ring, prod) = (self.page_request_ring(), self.regs.priq_prod);
                self.check_consumer(name, &ring, prod, enables & cr0::PRIQEN, value);
                self.regs.priq_cons = value;
            }
            _ => self.violation(Violation::ReadOnly { register: name }),
        }
    }

    fn write_msi(&mut self, register: u32, name: &'static str, value: u64) {
        let gerror = [GERROR_IRQ_CFG0, GERROR_IRQ_CFG1, GERROR_IRQ_CFG2].contains(&register);
        let priq = [PRIQ_IRQ_CFG0, PRIQ_IRQ_CFG1, PRIQ_IRQ_CFG2].contains(&register);
        let (enable, by) = match (gerror, priq) {
            (true, _) => (irq_ctrl::GERROR, "IRQ_CTRL.GERROR_IRQEN"),
            (_, true) => (irq_ctrl::PRIQ, "IRQ_CTRL.PRIQ_IRQEN"),
            _ => (irq_ctrl::EVENTQ, "IRQ_CTRL.EVENTQ_IRQEN"),
        };
        if self.profile.msi && self.regs.irq_ctrl & enable != 0 {
            return self.violation(Violation::Enabled { register: name, by });
        }
        let bits = match register {
            // Without MSIs the registers are reserved, and a driver may write 0.
            _ if !self.profile.msi => 0,
            GERROR_IRQ_CFG0 | EVENTQ_IRQ_CFG0 | PRIQ_IRQ_CFG0 => {
                MSI_ADDRESS & ((1 << self.profile.output_size.bits()) - 1)
            }
            GERROR_IRQ_CFG1 | EVENTQ_IRQ_CFG1 | PRIQ_IRQ_CFG1 => u64::from(u32::MAX),
            PRIQ_IRQ_CFG2 => u64::from(irq_cfg2::MEMATTR | irq_cfg2::SH | priq_irq_cfg2::LO),
            _ => u64::from(irq_cfg2::MEMATTR | irq_cfg2::SH),
        };
        let value = self.defined(name, value, bits);
        let msi = match (gerror, priq) {
            (true, _) => &mut self.regs.gerror_msi,
            (_, true) => &mut self.regs.priq_msi,
            _ => &mut self.regs.eventq_msi,
        };
        match register {
            GERROR_IRQ_CFG0 | EVENTQ_IRQ_CFG0 | PRIQ_IRQ_CFG0 => msi.address = value,
            GERROR_IRQ_CFG1 | EVENTQ_IRQ_CFG1 | PRIQ_IRQ_CFG1 => msi.data = value as u32,
            _ => msi.attributes = value as u32,
        }
    }

    /// An impossible `CONS` of an output queue that is on is a violation.
    fn check_consumer(
        &mut self,
        register: &'static str,
        ring: &QueueRing,
        prod: u32,
        on: u32,
        value: u32,
    ) {
        let lost = ring.size.used(prod, value).is_none();
        let beyond = value & !OVERFLOW & !ring.size.pointer_mask() != 0;
        if on != 0 && (lost || beyond) {
            self.violation(Violation::Pointer { register, value });
        }
    }

    /// Whether an enable bit forbids the write of a register, which is a violation.
    fn closed(&mut self, register: &'static str, bits: u32, by: &'static str) -> bool {
        let closed = self.regs.cr0 & bits != 0;
        if closed {
            self.violation(Violation::Enabled { register, by });
        }
        closed
    }
}
