//! The state in which a driver leaves an SMMU that it gives up.

use smmu_types::regs::{self, gbpa};
use smmu_types::seam::{Registers, RegistersExt, Wait};

use crate::bringup::{BringupError, Disabled, kept};

/// What happens to transactions after a driver has left the SMMU off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExitPolicy {
    /// The SMMU aborts every transaction (`GBPA.ABORT` = 1). No device reaches memory until another
    /// driver takes the SMMU over.
    #[default]
    Abort,
    /// Every transaction passes untranslated (`GBPA.ABORT` = 0), with the attributes that `GBPA`
    /// has. Some firmware and kernels without an SMMU driver expect this.
    ///
    /// Each device then reaches all memory. Before the call, stop every device whose DMA the tables
    /// confined: an address of a domain becomes a physical address.
    Bypass,
}

impl<R: Registers, W: Wait> Disabled<R, W> {
    /// Leaves the SMMU off, for a successor that knows nothing of this driver.
    ///
    /// `CR0` is 0 and reads so, `IRQ_CTRL` is 0, and `GBPA.ABORT` is as `policy` says and reads so.
    /// The SMMU writes no more to memory: neither queues nor MSIs. The bring-up sets no other field
    /// of `GBPA`, so the rest is as firmware left it.
    ///
    /// `GBPA` comes last. After an error before that, transactions abort, or follow the `GBPA` from
    /// before [`Bringup::begin`](crate::Bringup::begin) if translation was off then.
    ///
    /// # Errors
    ///
    /// A register gets no acknowledgement, or does not keep its value. The SMMU is off all the same.
    pub fn leave(self, policy: ExitPolicy) -> Result<(), BringupError> {
        let smmu = self.0;
        smmu.write_irq_ctrl(0)?;
        kept(regs::CR0.name(), 0, smmu.registers.read(regs::CR0).into())?;
        smmu.update_gbpa(|value| match policy {
            ExitPolicy::Abort => value | gbpa::ABORT,
            ExitPolicy::Bypass => value & !gbpa::ABORT,
        })
    }
}
