//! A backend of another program, with the whole command line of the harness.
//!
//! ```console
//! $ cargo run --example foreign_backend -- conform --backend mine
//! $ cargo run --example foreign_backend -- run --backend mine,mock first-light
//! ```
//!
//! Copy this file into a crate of yours, outside of this workspace, and replace what is behind the six
//! methods of `MyMachine`. Here it is `smmu-model` without caches, as most emulators are.

use std::process::ExitCode;
use std::sync::Arc;

use smmu_engine::machine::{
    Backend, BackendError, Clock, DMA_PATTERN, DmaReadOutcome, DmaWriteOutcome, Machine,
    MachineDevice, MachineSpec, Need, Ram, Time, VirtualClock,
};
use smmu_model::{Model, Profile};
use smmu_types::Irq;
use smmu_types::seam::Registers;

/// One SMMU, and devices that write and read.
pub(crate) struct Mine;

impl Backend for Mine {
    fn name(&self) -> &'static str {
        "mine"
    }

    fn describe(&self) -> String {
        "a backend of another program".into()
    }

    fn offers(&self, need: Need) -> bool {
        matches!(need, Need::Stage1 | Need::Stage2 | Need::Nesting | Need::DmaReads)
    }

    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        if spec.smmus.len() != 1 {
            return Err(BackendError::Impossible(format!("{} SMMUs; it has 1", spec.smmus.len())));
        }
        let model = Model::new(8 << 20, &[Profile { caches: false, ..Profile::default() }]);
        let machine = MyMachine { model, devices: spec.devices.clone(), time: spec.time };
        spec.ram.check(&machine.ram())?;
        Ok(Box::new(machine))
    }
}

struct MyMachine {
    model: Model,
    devices: Vec<MachineDevice>,
    time: Time,
}

impl MyMachine {
    fn place(&self, device: usize) -> Result<MachineDevice, BackendError> {
        let found = self.devices.get(device).copied();
        found.ok_or_else(|| BackendError::Impossible(format!("there is no device {device}")))
    }
}

impl Machine for MyMachine {
    fn ram(&self) -> Ram {
        Ram::new(self.model.window())
    }

    fn registers(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError> {
        match self.model.registers(smmu) {
            Some(registers) => Ok(Arc::new(registers)),
            None => Err(BackendError::Impossible(format!("there is no SMMU {smmu}"))),
        }
    }

    fn dma_write(&self, device: usize, iova: u64) -> Result<DmaWriteOutcome, BackendError> {
        let place = self.place(device)?;
        Ok(match self.model.dma_write32(place.smmu, place.stream, iova, DMA_PATTERN) {
            Ok(()) => DmaWriteOutcome::Written,
            Err(_) => DmaWriteOutcome::Refused,
        })
    }

    fn dma_read(&self, device: usize, iova: u64) -> Result<DmaReadOutcome, BackendError> {
        let place = self.place(device)?;
        let read = self.model.dma_read32(place.smmu, place.stream, iova);
        Ok(read.map_or(DmaReadOutcome::Refused, DmaReadOutcome::Read))
    }

    fn take_interrupts(&self) -> Vec<(usize, Irq)> {
        self.model.take_interrupts()
    }

    fn check(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn clock(&self) -> Clock {
        match self.time {
            Time::Real => Clock::default(),
            Time::Virtual => {
                let model = self.model.clone();
                Clock::new(VirtualClock::new(move || model.tick()))
            }
        }
    }

    fn tells_time(&self) -> bool {
        self.time == Time::Real
    }
}

pub(crate) fn main() -> ExitCode {
    smmu_harness::cli::main_with(vec![Box::new(Mine)])
}
