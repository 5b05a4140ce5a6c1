//! The state that clones of a [`Model`](crate::Model) and its registers share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use smmu_types::Irq;

use crate::hazard::Hazard;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::waiting::stalls::{DmaProgress, Transaction};

#[derive(Debug)]
pub(crate) struct ModelState {
    pub(crate) smmus: Vec<ModelSmmu>,
    pub(crate) interrupts: Vec<(usize, Irq)>,
    pub(crate) hazards: Vec<Hazard>,
}

#[derive(Debug)]
pub(crate) struct SharedModel {
    pub(crate) ram: ModelRam,
    state: Mutex<ModelState>,
}

impl SharedModel {
    pub(crate) fn new(ram: ModelRam, smmus: Vec<ModelSmmu>) -> Self {
        let state = ModelState { smmus, interrupts: Vec::new(), hazards: Vec::new() };
        SharedModel { ram, state: Mutex::new(state) }
    }

    /// The state. A panic of another thread under the lock does not spread to this one.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ModelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Let one SMMU act under the lock, and collect its interrupts and hazards. `None` if `index`
    /// is out of range.
    pub(crate) fn act<T>(
        &self,
        index: usize,
        act: impl FnOnce(&mut ModelSmmu, &ModelRam) -> T,
    ) -> Option<T> {
        self.act_with_memo(index, |smmu, ram| {
            smmu.memo.forget();
            act(smmu, ram)
        })
    }

    /// [`act`](Self::act), where nothing but a transaction happens.
    fn act_with_memo<T>(
        &self,
        index: usize,
        act: impl FnOnce(&mut ModelSmmu, &ModelRam) -> T,
    ) -> Option<T> {
        let state = &mut *self.lock();
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

    /// A device begins an untranslated transaction, which may stall.
    pub(crate) fn start(&self, smmu: usize, transaction: Transaction) -> DmaProgress {
        let begun = self.act_with_memo(smmu, |smmu, ram| {
            smmu.memo.open();
            let begun = smmu.begin(ram, transaction);
            smmu.memo.close();
            begun
        });
        begun.unwrap_or(DmaProgress::Refused)
    }
}
