//! Lets a command queue misbehave.

use crate::machine::QueueFault;
use crate::prelude::*;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{FaultStep, MsiFault, QueueBehaviour, WantedFault};

impl StepAction for FaultStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let smmu = rig.smmu_index(self.smmu.get_ref())?;
        let fault = match self.fault() {
            None => return Err("a fault that is none".to_owned().into()),
            Some(WantedFault::Queue(QueueBehaviour::Stopped)) => QueueFault::Stopped,
            Some(WantedFault::Queue(QueueBehaviour::Slow(count))) => {
                QueueFault::Slow(*count.get_ref())
            }
            Some(WantedFault::Queue(QueueBehaviour::Aborts(count))) => {
                QueueFault::Aborts(*count.get_ref())
            }
            Some(WantedFault::AtcTimeout(device)) => {
                let device = rig.device(device.get_ref())?;
                QueueFault::AtcTimeout(device.streams().next().unwrap_or_default())
            }
            Some(WantedFault::Msi(MsiFault::Lost)) => QueueFault::MsiLost,
        };
        Ok(rig.machine.inject(smmu, self.queue(), fault)?)
    }
}
