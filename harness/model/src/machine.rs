//! The state that clones of a [`Model`](crate::Model) and its registers share.

use parking_lot::Mutex;
use smmu_types::Irq;

use crate::hazard::Hazard;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;

#[derive(Debug)]
pub(crate) struct ModelState {
    pub(crate) smmus: Vec<ModelSmmu>,
    pub(crate) interrupts: Vec<(usize, Irq)>,
    pub(crate) hazards: Vec<Hazard>,
}

#[derive(Debug)]
pub(crate) struct SharedModel {
    pub(crate) ram: ModelRam,
    pub(crate) state: Mutex<ModelState>,
}

impl SharedModel {
    /// Let one SMMU act, and collect what it has to say.
    pub(crate) fn act<T>(
        &self,
        index: usize,
        act: impl FnOnce(&mut ModelSmmu, &ModelRam) -> T,
    ) -> Option<T> {
        let state = &mut *self.state.lock();
        let smmu = state.smmus.get_mut(index)?;
        let result = act(smmu, &self.ram);
        state.interrupts.extend(smmu.interrupts.drain(..).map(|irq| (index, irq)));
        for hazard in smmu.hazards.drain(..) {
            if state.hazards.last() != Some(&hazard) {
                state.hazards.push(hazard);
            }
        }
        Some(result)
    }
}
