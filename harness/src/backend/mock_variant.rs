//! The model with other habits.

use smmu_engine::machine::{Backend, BackendError, Machine, MachineSpec, Need};
use smmu_model::Profile;

use super::mock::start;

/// The model with other habits: it differs from [`Mock`](super::Mock) in what no scenario asks for.
#[derive(Clone, Copy, Debug)]
pub struct MockVariant {
    /// What it is, in a few words.
    pub name: &'static str,
    /// Changes the profile of each SMMU.
    pub change: fn(&mut Profile),
}

impl Backend for MockVariant {
    fn name(&self) -> &'static str {
        self.name
    }

    fn describe(&self) -> String {
        format!("the built-in model: {}", self.name)
    }

    fn offers(&self, _need: Need) -> bool {
        true
    }

    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        Ok(Box::new(start(spec, self.change)))
    }
}
