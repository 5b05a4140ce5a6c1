//! A window onto the registers of one modelled SMMU, as a driver sees them.

use std::sync::Arc;

use smmu_types::seam::Registers;

use crate::machine::SharedModel;

/// Which registers of an SMMU a window shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RegisterBank {
    /// Pages 0 and 1 of the SMMU.
    Smmu,
    /// The VCMDQ of its second command queue.
    SecondQueue,
}

/// A window onto registers of one modelled SMMU: [`Registers`] for a driver.
///
/// [`Model::registers`](crate::Model::registers) shows the SMMU's own registers, and
/// [`Model::second_queue`](crate::Model::second_queue) those of its second command queue, at the
/// offsets of [`regs::vcmdq`](smmu_types::regs::vcmdq). Clones show the same registers.
#[derive(Clone)]
pub struct ModelRegisters {
    shared: Arc<SharedModel>,
    smmu: usize,
    bank: RegisterBank,
}

impl std::fmt::Debug for ModelRegisters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ModelRegisters { shared: _, smmu, bank } = self;
        let mut debug = f.debug_struct("ModelRegisters");
        debug.field("smmu", smmu).field("bank", bank).finish_non_exhaustive()
    }
}

impl ModelRegisters {
    pub(crate) fn of_smmu(shared: Arc<SharedModel>, smmu: usize) -> Self {
        ModelRegisters { shared, smmu, bank: RegisterBank::Smmu }
    }

    pub(crate) fn of_second_queue(shared: Arc<SharedModel>, smmu: usize) -> Self {
        ModelRegisters { shared, smmu, bank: RegisterBank::SecondQueue }
    }

    fn load(&self, offset: u32, bytes: u32) -> u64 {
        let value = self.shared.act(self.smmu, |smmu, ram| match self.bank {
            RegisterBank::Smmu => smmu.read(ram, offset, bytes),
            RegisterBank::SecondQueue => smmu.read_second(ram, offset, bytes),
        });
        value.unwrap_or(0)
    }

    fn store(&self, offset: u32, bytes: u32, value: u64) {
        self.shared.act(self.smmu, |smmu, ram| match self.bank {
            RegisterBank::Smmu => smmu.write(ram, offset, bytes, value),
            RegisterBank::SecondQueue => {
                smmu.see_stes(ram);
                smmu.write_second(offset, bytes, value);
            }
        });
    }
}

impl Registers for ModelRegisters {
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
