//! `GERROR`: errors become active, and the SMMU signals them.

use smmu_types::regs::{gerror, irq_ctrl};
use smmu_types::{Irq, PhysAddr};

use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::regs::register_file::MsiTarget;

impl ModelSmmu {
    /// Make errors active. An active error stays active: a second toggle would clear it.
    pub(crate) fn raise_error(&mut self, ram: &ModelRam, bits: u32) {
        let fresh = bits & !self.active_errors();
        if fresh == 0 {
            return;
        }
        self.regs.gerror ^= fresh;
        if self.regs.irq_ctrl & irq_ctrl::GERROR != 0 {
            self.signal(ram, self.regs.gerror_msi, Irq::Gerror, gerror::MSI_GERROR_ABT);
        }
    }

    /// Send the configured MSI, or signal the wired interrupt if none is configured (3.18).
    pub(crate) fn signal(&mut self, ram: &ModelRam, msi: MsiTarget, wire: Irq, abort: u32) {
        if !self.profile.msi || msi.address == 0 {
            self.interrupt(wire);
        } else if ram.write32(PhysAddr(msi.address), msi.data).is_none() {
            self.raise_error(ram, abort);
        }
    }

    pub(crate) fn active_errors(&self) -> u32 {
        self.regs.gerror ^ self.regs.gerrorn
    }
}
