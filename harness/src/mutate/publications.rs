//! A driver that forgets one publication, on SMMUs that do not snoop.

use std::sync::{Mutex, PoisonError};

use smmu_engine::machine::{Backend, BackendError, Machine, MachineSpec, Need};
use smmu_engine::run::{RunOptions, RunReport, run};
use smmu_engine::scenario::Scenario;
use smmu_model::CpuCaches;
use smmu_types::PhysAddr;

use crate::backend::{NOT_SNOOPING, start};

/// [`NOT_SNOOPING`] without one publication.
#[derive(Default)]
struct Forgetful {
    left_out: Option<usize>,
    caches: Mutex<Option<CpuCaches>>,
}

impl Backend for Forgetful {
    fn name(&self) -> &'static str {
        NOT_SNOOPING.name()
    }

    fn describe(&self) -> String {
        NOT_SNOOPING.describe()
    }

    fn offers(&self, need: Need) -> bool {
        NOT_SNOOPING.offers(need)
    }

    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        let machine = start(spec, NOT_SNOOPING.change);
        if let (Some(caches), Some(number)) = (&machine.caches, self.left_out) {
            caches.leave_out(number);
        }
        self.caches.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&machine.caches);
        Ok(Box::new(machine))
    }
}

/// A run on [`NOT_SNOOPING`] in which the driver and the owner of the page tables forget the
/// publication of this number, and the address of each that had something to write back.
#[must_use]
pub fn without_publication(
    scenario: &Scenario,
    left_out: Option<usize>,
) -> (RunReport, Vec<PhysAddr>) {
    let backend = Forgetful { left_out, ..Forgetful::default() };
    let report = run(scenario, &backend, RunOptions::default());
    let caches = backend.caches.into_inner().unwrap_or_else(PoisonError::into_inner);
    (report, caches.map(|caches| caches.publications()).unwrap_or_default())
}
