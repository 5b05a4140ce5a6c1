//! Reads and writes of the command queue control pages and their enhanced queues (3.5.6, 6.2.5).

use smmu_types::fields::{ecmdq_cons, ecmdq_prod};
use smmu_types::regs;

use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::queue::feed::QueueId;
use crate::regs::register_file::BASE_ADDRESS;
use crate::violation::Violation;

/// Where the control pages begin: behind the two pages of every SMMU.
const PAGES: u32 = 0x2_0000;
const PAGE: u32 = 0x1_0000;

/// `CMDQ_CONTROL_PAGE_BASE`: in registers, with a granule of 64 KiB.
const PRESET: u64 = 1 | 1 << 1;

const ALLOCATE: u64 = 1 << 62;
const PROD_BITS: u64 = ecmdq_prod::EN.mask() | ecmdq_prod::ERRACK.mask() | ecmdq_prod::WR.mask();
const CONS_BITS: u64 = ecmdq_cons::ERR.mask()
    | ecmdq_cons::ERR_REASON.mask()
    | ecmdq_cons::RD.mask()
    | ecmdq_cons::ENACK.mask();
const ENACK: u32 = ecmdq_cons::ENACK.mask() as u32;

/// A register that exists with `IDR1.ECMDQ` alone.
#[derive(Clone, Copy)]
pub(crate) enum EnhancedRegister {
    Id,
    PageBase(u32),
    PageConfig,
    PageStatus,
    Base(u16),
    Producer(u16),
    Consumer(u16),
}

impl EnhancedRegister {
    fn name(self) -> &'static str {
        match self {
            EnhancedRegister::Id => "IDR6",
            EnhancedRegister::PageBase(_) => "CMDQ_CONTROL_PAGE_BASE",
            EnhancedRegister::PageConfig => "CMDQ_CONTROL_PAGE_CFG",
            EnhancedRegister::PageStatus => "CMDQ_CONTROL_PAGE_STATUS",
            EnhancedRegister::Base(_) => "ECMDQ_BASE",
            EnhancedRegister::Producer(_) => "ECMDQ_PROD",
            EnhancedRegister::Consumer(_) => "ECMDQ_CONS",
        }
    }

    /// Whether an access of `bytes` at `offset` fits the register.
    fn fits(self, offset: u32, bytes: u32) -> bool {
        let wide = matches!(self, EnhancedRegister::PageBase(_) | EnhancedRegister::Base(_));
        offset.is_multiple_of(bytes) && (bytes == 4 || bytes == 8 && wide)
    }
}

impl ModelSmmu {
    /// The register at an offset; `None` also without enhanced queues.
    pub(crate) fn enhanced_register(&self, offset: u32) -> Option<EnhancedRegister> {
        let has = self.profile.enhanced_queues?;
        let aligned = offset & !3;
        if aligned == regs::IDR6.offset() {
            return Some(EnhancedRegister::Id);
        }
        let pages = 1 << has.pages_log2;
        let first = regs::cmdq_control_page_base(0).offset();
        if let Some(at) = aligned.checked_sub(first)
            && at < pages * regs::CMDQ_CONTROL_PAGE_STRIDE
        {
            return match at % regs::CMDQ_CONTROL_PAGE_STRIDE {
                0 | 4 => Some(EnhancedRegister::PageBase(at / regs::CMDQ_CONTROL_PAGE_STRIDE)),
                8 => Some(EnhancedRegister::PageConfig),
                0xc => Some(EnhancedRegister::PageStatus),
                _ => None,
            };
        }
        let at = aligned.checked_sub(PAGES).filter(|at| *at < pages * PAGE)?;
        // The queues of a page are spaced evenly.
        let stride = PAGE >> has.queues_log2;
        let queue = (at / stride) as u16;
        match at % stride {
            0 | 4 => Some(EnhancedRegister::Base(queue)),
            8 => Some(EnhancedRegister::Producer(queue)),
            0xc => Some(EnhancedRegister::Consumer(queue)),
            _ => None,
        }
    }

    pub(crate) fn read_enhanced(
        &mut self,
        ram: &ModelRam,
        register: EnhancedRegister,
        offset: u32,
        bytes: u32,
    ) -> u64 {
        if !register.fits(offset, bytes) {
            self.violation(Violation::Width { offset, bytes });
            return 0;
        }
        let value = match register {
            EnhancedRegister::Id => self.profile.id_registers().idr6.into(),
            EnhancedRegister::PageBase(page) => u64::from(PAGES + page * PAGE) | PRESET,
            EnhancedRegister::PageConfig | EnhancedRegister::PageStatus => 1,
            EnhancedRegister::Base(n) => self.enhanced[usize::from(n)].base,
            EnhancedRegister::Producer(n) => self.enhanced[usize::from(n)].prod.into(),
            EnhancedRegister::Consumer(n) => self.read_consumer(ram, n).into(),
        };
        if offset & 4 != 0 && bytes == 4 && register.fits(offset & !7, 8) {
            value >> 32
        } else {
            value
        }
    }

    /// The SMMU consumes at a read, as the main queue. The first read after a change of `EN` still
    /// shows the old `ENACK`, and commands may be consumed until then.
    fn read_consumer(&mut self, ram: &ModelRam, n: u16) -> u32 {
        let which = QueueId::Enhanced(n);
        self.consume(ram, which, self.pace(which));
        let shown = self.command_ring(which).readable(self.enhanced[usize::from(n)].cons);
        self.enhanced[usize::from(n)].acknowledge();
        shown
    }

    pub(crate) fn write_enhanced(
        &mut self,
        register: EnhancedRegister,
        offset: u32,
        bytes: u32,
        value: u64,
    ) {
        if !register.fits(offset, bytes) {
            return self.violation(Violation::Width { offset, bytes });
        }
        let name = register.name();
        match register {
            EnhancedRegister::Base(n) => {
                if self.enhanced_closed(name, n) {
                    return;
                }
                let old = self.enhanced[usize::from(n)].base;
                let value = match (bytes, offset & 4) {
                    (8, _) => value,
                    (_, 0) => old & !0xffff_ffff | value & 0xffff_ffff,
                    _ => old & 0xffff_ffff | value << 32,
                };
                let value = self.defined(name, value, ALLOCATE | BASE_ADDRESS | 0x1f);
                self.enhanced[usize::from(n)].base = value;
            }
            EnhancedRegister::Producer(n) => self.write_producer(name, n, value),
            EnhancedRegister::Consumer(n) => {
                if self.enhanced_closed(name, n) {
                    return;
                }
                let value = self.defined(name, value, CONS_BITS) as u32;
                // `ENACK` is the SMMU's.
                self.enhanced[usize::from(n)].cons = value & !ENACK;
            }
            EnhancedRegister::Id
            | EnhancedRegister::PageBase(_)
            | EnhancedRegister::PageConfig
            | EnhancedRegister::PageStatus => {
                self.violation(Violation::ReadOnly { register: name });
            }
        }
    }

    fn enhanced_closed(&mut self, register: &'static str, n: u16) -> bool {
        let closed = self.enhanced[usize::from(n)].is_used();
        if closed {
            self.violation(Violation::Enabled { register, by: "ECMDQ_PROD.EN" });
        }
        closed
    }

    fn write_producer(&mut self, register: &'static str, n: u16, value: u64) {
        let value = self.defined(register, value, PROD_BITS) as u32;
        let queue = &self.enhanced[usize::from(n)];
        if queue.is_changing() {
            return self.violation(Violation::Unacknowledged { register });
        }
        let ring = self.command_ring(QueueId::Enhanced(n));
        let mask = ring.size.pointer_mask();
        let steps = |to: u32| ring.size.used(to & mask, queue.cons & mask);
        let beyond = u64::from(value) & ecmdq_prod::WR.mask() & !u64::from(mask) != 0;
        let impossible = steps(value).is_none() || beyond;
        let (on, had_error) = (queue.cons & ENACK != 0, queue.has_error());
        let (turns_on, back) = (queue.turns_on(value), steps(value) < steps(queue.prod));
        let base = queue.base;
        // 3.5.6.3: `ERRACK` differs from `ERR` only by an error.
        let unequal = (value ^ queue.cons) & ecmdq_prod::ERRACK.mask() as u32 != 0;
        if turns_on {
            self.check_ring("ECMDQ_BASE", base, &ring, self.profile.cmdq_log2);
        }
        if (turns_on || on) && impossible || on && back && !had_error {
            self.violation(Violation::Pointer { register, value });
        }
        if unequal && (turns_on || on && !had_error) {
            let value = ecmdq_prod::ERRACK.get(&[value.into()]);
            self.violation(Violation::Unsupported { register, field: "ERRACK", value });
        }
        self.enhanced[usize::from(n)].prod = value;
    }
}
