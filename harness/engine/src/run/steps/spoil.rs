//! Breaks the STE of a device past the driver.

use core::sync::atomic::Ordering;

use smmu_driver::smmu_types::PhysAddr;

use super::install::ste_address;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{SpoilStep, SpoiltSte};

/// `STE.Config`, bits 3:1 of the first word.
const CONFIG: u64 = 0b111 << 1;

/// `STE.Config`: neither abort, bypass, nor a stage.
const RESERVED: u64 = 0b010 << 1;

/// Stage 1, and a CD at an address where no machine has RAM.
const TORN: u64 = 0xfff_0000_0000 | 0b101 << 1 | 1;

impl StepAction for SpoilStep {
    /// The SMMU is not told, and goes on with what it has cached.
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        rig.past_driver.insert(self.device.get_ref().clone());
        let device = rig.device(self.device.get_ref())?;
        let stream = device.streams().next().unwrap_or_default();
        let smmu = rig.smmu(usize::from(device.smmu().0))?;
        let at = ste_address(&rig.ram, smmu, stream)?;
        let missing = |at: PhysAddr| Stop::failed(format!("{at} is not in RAM"));
        let word = rig.ram.word(at).ok_or_else(|| missing(at))?.load(Ordering::Acquire);
        let spoilt = match self.ste {
            SpoiltSte::Reserved => word & !CONFIG | RESERVED,
            SpoiltSte::Torn => TORN,
        };
        rig.ram.store(at, spoilt).ok_or_else(|| missing(at))
    }
}
