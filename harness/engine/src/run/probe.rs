//! Asks a backend's SMMU what it can do.

use smmu_driver::smmu_hw_mmio::{self, Probe};

use super::rig_error::RigError;
use crate::machine::{Backend, MachineSmmu, MachineSpec};

/// What a backend's SMMU says of itself.
///
/// # Errors
///
/// The backend is not there, or its SMMU is none.
pub fn probe(backend: &dyn Backend) -> Result<Probe, RigError> {
    let spec = MachineSpec { smmus: vec![MachineSmmu::default()], ..MachineSpec::default() };
    let machine = backend.start(&spec)?;
    let registers = machine.registers(0)?;
    let probed = smmu_hw_mmio::probe(&registers);
    machine.check()?;
    probed.map_err(|error| RigError::Probe("the SMMU".into(), error))
}
