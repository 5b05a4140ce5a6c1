//! Turns an SMMU off past the driver, and tells the driver.

use smmu_driver::smmu_types::GoneProof;
use smmu_driver::smmu_types::regs::{self, gbpa};
use smmu_driver::smmu_types::seam::{RegistersExt, poll};

use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::GoneStep;

impl StepAction for GoneStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let name = self.smmu.get_ref();
        let at = rig.smmu_index(name)?;
        let smmu = rig.smmu(at)?.clone();
        let registers = rig.registers(at)?;
        let (clock, timeout) = (rig.machine.clock(), rig.timeout(name)?);
        let refused = |what| move |_| Stop::timed_out(format!("{name} does not turn off: {what}"));
        // Abort comes first, so that no device bypasses translation.
        registers.write(regs::GBPA, gbpa::ABORT | gbpa::UPDATE);
        let aborts = || registers.read(regs::GBPA) & (gbpa::ABORT | gbpa::UPDATE) == gbpa::ABORT;
        poll(&clock, timeout, || aborts().then_some(())).map_err(refused("GBPA"))?;
        registers.write(regs::CR0, 0);
        let off = || registers.read(regs::CR0ACK) == 0;
        poll(&clock, timeout, || off().then_some(())).map_err(refused("CR0ACK"))?;
        smmu.gone(&GoneProof::vouch(smmu.id()))?;
        rig.record_arrays();
        settled(rig)
    }
}
