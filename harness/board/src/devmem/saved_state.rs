//! The registers of an SMMU before the process uses it, and how they become the same again.

use core::time::Duration;

use smmu_types::regs::{self, Reg, Rw, cr0, gbpa};
use smmu_types::seam::{Registers, RegistersExt, Wait, poll};

/// Longest wait for one acknowledgement.
const PATIENCE: Duration = Duration::from_secs(1);

/// What an enabled SMMU means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfEnabled {
    /// Firmware or another program drives it: refuse it.
    Refuse,
    /// A process that could not restore it has left it on: at the end it is off.
    TurnOffAtTheEnd,
}

/// The SMMU translates already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the SMMU translates already (CR0={cr0:#x}): firmware or another process drives it. If a \
     killed process has left it so, use --turn-off"
)]
pub struct AlreadyOn {
    /// `CR0`.
    pub cr0: u32,
}

/// A register did not become what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{register} is {got:#x} and was {saved:#x}; the SMMU does not take the write")]
pub struct NotRestored {
    /// The register.
    pub register: &'static str,
    /// What it was.
    pub saved: u32,
    /// What it is.
    pub got: u32,
}

/// What decides what the SMMU does with DMA while no driver runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedState {
    /// `CR0`.
    pub cr0: u32,
    /// `GBPA`, without `UPDATE`.
    pub gbpa: u32,
    /// `IRQ_CTRL`.
    pub irq_ctrl: u32,
}

impl SavedState {
    /// Reads the registers.
    ///
    /// # Errors
    ///
    /// The SMMU translates already. Its tables would be lost, so `CR0` could not be restored.
    pub fn read(smmu: &impl Registers, if_enabled: IfEnabled) -> Result<Self, AlreadyOn> {
        let mut cr0 = smmu.read(regs::CR0);
        if (cr0 | smmu.read(regs::CR0ACK)) & cr0::SMMUEN != 0 {
            match if_enabled {
                IfEnabled::Refuse => return Err(AlreadyOn { cr0 }),
                IfEnabled::TurnOffAtTheEnd => cr0 = 0,
            }
        }
        let gbpa = smmu.read(regs::GBPA) & !gbpa::UPDATE;
        Ok(SavedState { cr0, gbpa, irq_ctrl: smmu.read(regs::IRQ_CTRL) })
    }

    /// Restores the registers, whatever the SMMU does now. Allocates nothing and takes no lock.
    ///
    /// `GBPA` goes first: it decides as soon as translation is off.
    ///
    /// # Errors
    ///
    /// The first register that did not become what it was. The others are written all the same.
    pub fn restore(&self, smmu: &impl Registers, wait: &impl Wait) -> Result<(), NotRestored> {
        let updated = || (smmu.read(regs::GBPA) & gbpa::UPDATE == 0).then_some(());
        let _ = poll(wait, PATIENCE, updated);
        smmu.write(regs::GBPA, self.gbpa | gbpa::UPDATE);
        let _ = poll(wait, PATIENCE, updated);
        let written = |register: Reg<u32, Rw>, ack: u32, saved: u32| {
            smmu.write(register, saved);
            let _ = poll(wait, PATIENCE, || (smmu.read32(ack) == saved).then_some(()));
        };
        written(regs::CR0, regs::CR0ACK.offset(), self.cr0);
        written(regs::IRQ_CTRL, regs::IRQ_CTRLACK.offset(), self.irq_ctrl);
        self.check(smmu)
    }

    /// Whether the registers are as before.
    ///
    /// # Errors
    ///
    /// The first register that is not.
    pub fn check(&self, smmu: &impl Registers) -> Result<(), NotRestored> {
        is("GBPA", self.gbpa, smmu.read(regs::GBPA))?;
        is("CR0", self.cr0, smmu.read(regs::CR0ACK))?;
        is("IRQ_CTRL", self.irq_ctrl, smmu.read(regs::IRQ_CTRLACK))
    }
}

fn is(register: &'static str, saved: u32, got: u32) -> Result<(), NotRestored> {
    if got == saved { Ok(()) } else { Err(NotRestored { register, saved, got }) }
}

#[cfg(test)]
mod tests {
    use smmu_hw_mmio::fake::{Unacknowledged, smmu, smmu_without_ack};
    use smmu_types::seam::CountingWait;

    use super::*;

    /// `GBPA.SHCFG` = incoming, as after a reset.
    const RESET_GBPA: u32 = 0x1000;

    #[test]
    fn registers_are_as_before_and_gbpa_goes_first() {
        let smmu = smmu();
        smmu.set(regs::GBPA.offset(), RESET_GBPA.into());
        let saved = SavedState::read(&smmu, IfEnabled::Refuse).unwrap();
        smmu.write(regs::GBPA, RESET_GBPA | gbpa::ABORT | gbpa::UPDATE);
        smmu.write(regs::IRQ_CTRL, 5);
        smmu.write(regs::CR0, cr0::SMMUEN | cr0::CMDQEN | cr0::EVENTQEN);
        smmu.take_writes();
        assert_eq!(saved.restore(&smmu, &CountingWait::new()), Ok(()));
        let order: Vec<u32> = smmu.take_writes().iter().map(|(offset, _)| *offset).collect();
        assert_eq!(order, [regs::GBPA.offset(), regs::CR0.offset(), regs::IRQ_CTRL.offset()]);
        let now = (smmu.read(regs::CR0), smmu.read(regs::GBPA), smmu.read(regs::IRQ_CTRL));
        assert_eq!(now, (0, RESET_GBPA, 0));
    }

    #[test]
    fn an_enabled_smmu_is_refused_or_off_at_the_end() {
        let smmu = smmu();
        smmu.write(regs::CR0, cr0::SMMUEN);
        let refused = SavedState::read(&smmu, IfEnabled::Refuse);
        assert_eq!(refused, Err(AlreadyOn { cr0: cr0::SMMUEN }));
        let saved = SavedState::read(&smmu, IfEnabled::TurnOffAtTheEnd).unwrap();
        assert_eq!(saved.restore(&smmu, &CountingWait::new()), Ok(()));
        assert_eq!(smmu.read(regs::CR0), 0);
        // `CR0ACK` lags.
        smmu.set(regs::CR0ACK.offset(), cr0::SMMUEN.into());
        assert!(SavedState::read(&smmu, IfEnabled::Refuse).is_err());
    }

    #[test]
    fn a_register_that_stays_is_named_and_the_others_are_restored() {
        let saved = SavedState { cr0: 0, gbpa: RESET_GBPA, irq_ctrl: 0 };
        for (fault, register) in [
            (Unacknowledged::Cr0(cr0::SMMUEN), "CR0"),
            (Unacknowledged::Gbpa, "GBPA"),
            (Unacknowledged::IrqCtrl, "IRQ_CTRL"),
        ] {
            let smmu = smmu_without_ack(fault);
            smmu.set(regs::CR0.offset(), cr0::SMMUEN.into());
            smmu.set(regs::CR0ACK.offset(), cr0::SMMUEN.into());
            smmu.set(regs::IRQ_CTRLACK.offset(), 5);
            let error = saved.restore(&smmu, &CountingWait::new()).unwrap_err();
            assert_eq!(error.register, register);
            assert_eq!(smmu.take_writes().len(), 3, "{register}");
        }
    }
}
