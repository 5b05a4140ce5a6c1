//! The registers of the second command queue, as they are stored.

use smmu_types::regs::vcmdq::{ENABLE, ERROR};

/// The stored values. All are 0 at power-on.
#[derive(Debug, Default)]
pub(crate) struct SecondRegisters {
    pub(crate) base: u64,
    pub(crate) prod: u32,
    pub(crate) cons: u32,
    pub(crate) config: u32,
    pub(crate) gerror: u32,
    pub(crate) gerrorn: u32,
}

impl SecondRegisters {
    pub(crate) fn enabled(&self) -> bool {
        self.config & ENABLE != 0
    }

    pub(crate) fn active(&self) -> u32 {
        self.gerror ^ self.gerrorn
    }

    pub(crate) fn runs(&self) -> bool {
        self.enabled() && self.active() == 0
    }

    /// Stop the queue. Call it only while no error is active: the bit toggles.
    pub(crate) fn raise_error(&mut self) {
        self.gerror ^= ERROR;
    }
}
