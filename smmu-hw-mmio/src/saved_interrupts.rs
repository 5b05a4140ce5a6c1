//! The interrupts of an SMMU that sleeps.

use smmu_types::regs::{self, Reg, Rw};
use smmu_types::seam::{Registers, RegistersExt};

/// `*_IRQ_CFG0` to `*_IRQ_CFG2` of one interrupt.
type MsiRegisters = (Reg<u64, Rw>, Reg<u32, Rw>, Reg<u32, Rw>);

const MSIS: [MsiRegisters; 3] = [
    (regs::GERROR_IRQ_CFG0, regs::GERROR_IRQ_CFG1, regs::GERROR_IRQ_CFG2),
    (regs::EVENTQ_IRQ_CFG0, regs::EVENTQ_IRQ_CFG1, regs::EVENTQ_IRQ_CFG2),
    (regs::PRIQ_IRQ_CFG0, regs::PRIQ_IRQ_CFG1, regs::PRIQ_IRQ_CFG2),
];

/// The interrupts of an SMMU: which are on, and the address, data and attributes of their MSIs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedInterrupts {
    irq_ctrl: u32,
    msis: [(u64, u32, u32); 3],
}

impl SavedInterrupts {
    /// Reads them. Without MSIs the registers read as zero.
    pub(crate) fn read<R: Registers>(registers: &R) -> Self {
        SavedInterrupts {
            irq_ctrl: registers.read(regs::IRQ_CTRL),
            msis: MSIS.map(|(address, data, attributes)| {
                (registers.read(address), registers.read(data), registers.read(attributes))
            }),
        }
    }

    /// `IRQ_CTRL`.
    pub(crate) const fn enabled(&self) -> u32 {
        self.irq_ctrl
    }

    /// Writes the MSI registers. The caller has turned the interrupts off.
    pub(crate) fn restore<R: Registers>(&self, registers: &R) {
        for ((address, data, attributes), saved) in MSIS.into_iter().zip(self.msis) {
            registers.write(address, saved.0);
            registers.write(data, saved.1);
            registers.write(attributes, saved.2);
        }
    }
}
