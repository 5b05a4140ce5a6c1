//! The registers of page 0 and page 1, as they are stored.

use smmu_types::regs::gbpa;

/// The address bits of a base register.
pub(crate) const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_ffe0;

/// The stored values. All are 0 at power-on, so transactions bypass until the driver sets
/// `GBPA.ABORT`.
#[derive(Debug, Default)]
pub(crate) struct RegisterFile {
    pub(crate) cr0: u32,
    pub(crate) cr1: u32,
    pub(crate) cr2: u32,
    pub(crate) gbpa: u32,
    pub(crate) gbpa_update: Option<u32>,
    pub(crate) irq_ctrl: u32,
    pub(crate) gerror: u32,
    pub(crate) gerrorn: u32,
    pub(crate) gerror_msi: MsiTarget,
    pub(crate) eventq_msi: MsiTarget,
    pub(crate) priq_msi: MsiTarget,
    pub(crate) strtab_base: u64,
    pub(crate) strtab_base_cfg: u32,
    pub(crate) cmdq_base: u64,
    pub(crate) cmdq_prod: u32,
    pub(crate) cmdq_cons: u32,
    pub(crate) eventq_base: u64,
    pub(crate) eventq_prod: u32,
    pub(crate) eventq_cons: u32,
    pub(crate) priq_base: u64,
    pub(crate) priq_prod: u32,
    pub(crate) priq_cons: u32,
}

impl RegisterFile {
    pub(crate) fn aborts_all(&self) -> bool {
        self.gbpa & gbpa::ABORT != 0
    }
}

/// Target of an MSI: the values of `*_IRQ_CFG0` to `*_IRQ_CFG2`. Address 0 means no MSI.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MsiTarget {
    pub(crate) address: u64,
    pub(crate) data: u32,
    pub(crate) attributes: u32,
}
