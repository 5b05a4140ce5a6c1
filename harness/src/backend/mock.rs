use std::sync::Arc;

use smmu_types::CacheTag;
use smmu_types::seam::Registers;

use crate::machine::{
    Backend, BackendError, DMA_PATTERN, DmaOutcome, HazardReport, Insight, Irq, Machine,
    MachineDevice, MachineSpec, Ram,
};
use crate::model::{Hazard, Model, Profile};
use crate::scenario::Need;

const RAM_BYTES: usize = 8 << 20;

/// The built-in model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mock;

impl Backend for Mock {
    fn name(&self) -> &'static str {
        "mock"
    }

    fn describe(&self) -> String {
        "the built-in model, which keeps everything cached until it is invalidated".into()
    }

    fn offers(&self, _need: Need) -> bool {
        true
    }

    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        let profiles: Vec<Profile> = spec
            .smmus
            .iter()
            .map(|smmu| Profile { asid_bits: smmu.asid_bits, ..Profile::default() })
            .collect();
        let model = Model::new(RAM_BYTES, &profiles);
        Ok(Box::new(MockMachine { model, devices: spec.devices.clone() }))
    }
}

struct MockMachine {
    model: Model,
    devices: Vec<MachineDevice>,
}

impl Machine for MockMachine {
    fn ram(&self) -> Ram {
        Ram::new(self.model.window())
    }

    fn registers(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError> {
        match self.model.registers(smmu) {
            Some(registers) => Ok(Arc::new(registers)),
            None => Err(BackendError::Impossible(format!("there is no SMMU {smmu}"))),
        }
    }

    fn dma_write(&self, device: usize, iova: u64) -> Result<DmaOutcome, BackendError> {
        let &MachineDevice { smmu, stream } = self
            .devices
            .get(device)
            .ok_or_else(|| BackendError::Impossible(format!("there is no device {device}")))?;
        Ok(self.model.dma_write32(smmu, stream, iova, DMA_PATTERN))
    }

    fn take_interrupts(&self) -> Vec<(usize, Irq)> {
        self.model.take_interrupts()
    }

    fn check(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn insight(&self) -> Option<&dyn Insight> {
        Some(self)
    }
}

impl Insight for MockMachine {
    fn take_hazards(&self) -> Vec<HazardReport> {
        self.model.take_hazards().iter().map(report).collect()
    }

    fn audit(&self) -> Vec<HazardReport> {
        self.model.audit().iter().map(report).collect()
    }

    fn lines_with_tag(&self, smmu: usize, tag: CacheTag) -> usize {
        self.model.lines_with_tag(smmu, tag)
    }
}

fn report(hazard: &Hazard) -> HazardReport {
    let missing = match hazard {
        Hazard::StaleTranslation { missing, .. }
        | Hazard::StaleTable { missing, .. }
        | Hazard::TagClash { missing, .. }
        | Hazard::StaleConfiguration { missing, .. } => Some(missing.to_string()),
        _ => None,
    };
    HazardReport { text: hazard.to_string(), missing }
}
