//! The switches of a scenario's devices: ATS and page requests.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use smmu_driver::smmu_attach::{AtsRefused, AtsSwitch};
use smmu_driver::smmu_invs::{AtsGate, Drained};
use smmu_driver::smmu_types::seam::TimedOut;
use smmu_driver::smmu_types::{SmmuId, StreamId};

use crate::machine::{AtsPower, Machine};
use crate::scenario::ScenarioFile;

/// The ATS switches of a scenario's devices.
pub struct Switches {
    machine: Arc<dyn Machine>,
    /// The machine's number of each device.
    devices: BTreeMap<(SmmuId, StreamId), usize>,
    /// Longer than any command queue's.
    patience: Duration,
}

impl fmt::Debug for Switches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switches").field("devices", &self.devices).finish_non_exhaustive()
    }
}

impl Switches {
    pub(super) fn new(file: &ScenarioFile, machine: Arc<dyn Machine>) -> Self {
        let numbered = file.places().into_iter().enumerate();
        let devices = numbered.map(|(n, device)| {
            // A scenario has 8 SMMUs at most.
            ((SmmuId(device.smmu as u16), device.stream), n)
        });
        let longest = file.smmus.iter().map(|smmu| smmu.timeout()).max().unwrap_or_default();
        Switches { machine, devices: devices.collect(), patience: 2 * longest }
    }

    fn switch(&self, smmu: SmmuId, stream: StreamId, to: AtsPower) -> Result<(), AtsRefused> {
        let device = self.devices.get(&(smmu, stream)).ok_or(AtsRefused::new())?;
        self.machine.switch_ats(*device, to).map_err(|_| AtsRefused::new())
    }

    fn switch_page_requests(
        &self,
        smmu: SmmuId,
        stream: StreamId,
        to: AtsPower,
    ) -> Result<(), AtsRefused> {
        let device = self.devices.get(&(smmu, stream)).ok_or(AtsRefused::new())?;
        self.machine.switch_page_requests(*device, to).map_err(|_| AtsRefused::new())
    }
}

impl AtsSwitch for Switches {
    fn enable(&self, smmu: SmmuId, stream: StreamId) -> Result<(), AtsRefused> {
        self.switch(smmu, stream, AtsPower::On)
    }

    fn disable(&self, smmu: SmmuId, stream: StreamId) {
        // A machine that is gone stops the scenario at its next check.
        let _ = self.switch(smmu, stream, AtsPower::Off);
    }

    fn enable_page_requests(&self, smmu: SmmuId, stream: StreamId) -> Result<(), AtsRefused> {
        self.switch_page_requests(smmu, stream, AtsPower::On)
    }

    fn disable_page_requests(&self, smmu: SmmuId, stream: StreamId) {
        let _ = self.switch_page_requests(smmu, stream, AtsPower::Off);
    }

    fn drain(&self, gate: &AtsGate) -> Result<Drained, TimedOut> {
        gate.drain(&self.machine.clock(), self.patience)
    }
}
