//! A virtual command queue of Tegra241's CMDQV, as the driver holds it.

use core::time::Duration;

use smmu_cmdq::Opcodes;
use smmu_types::regs::vcmdq;
use smmu_types::seam::{Registers, TimedOut, Wait, poll};

/// A virtual command queue (VCMDQ).
pub(crate) struct VirtualQueue<R> {
    pub(crate) registers: R,
    pub(crate) takes: Opcodes,
}

/// Disables a virtual queue, and waits until its status says so.
pub(crate) fn stop_virtual_queue<R: Registers, W: Wait>(
    registers: &R,
    wait: &W,
    timeout: Duration,
) -> Result<(), TimedOut> {
    registers.write32(vcmdq::CONFIG, 0);
    poll(wait, timeout, || (registers.read32(vcmdq::STATUS) & vcmdq::ENABLE == 0).then_some(()))
}
