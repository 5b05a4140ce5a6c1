//! The engine's machine on this board: registers, RAM, devices and interrupts that were found.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

use smmu_engine::machine::{
    Backend, BackendError, Clock, DmaWriteOutcome, Machine, MachineDevice, MachineSpec, Need,
    QueueFault, QueueName, Ram,
};
use smmu_engine::offers::offered_by_id_registers;
use smmu_hw_mmio::firmware::Stream;
use smmu_hw_mmio::{ProbeError, VolatileRegisters, probe};
use smmu_types::regs::{CR0, cr0};
use smmu_types::seam::Registers;
use smmu_types::{Capabilities, Iova, Irq};

use crate::dma::{DmaResult, Generator};
use crate::machine::Region;
use crate::timer::GenericTimer;

/// SMMUs whose interrupts are counted.
pub const MOST_SMMUS: usize = 8;

/// Interrupts that have come: handlers count, the machine reports. No lock.
#[derive(Debug)]
pub struct InterruptCounts([[AtomicU32; 2]; MOST_SMMUS]);

const COUNTED: [Irq; 2] = [Irq::EventQueue, Irq::Gerror];

impl InterruptCounts {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        InterruptCounts([const { [const { AtomicU32::new(0) }; 2] }; MOST_SMMUS])
    }

    /// Counts an interrupt: what a handler does. No effect for an SMMU or an interrupt that is not
    /// counted.
    pub fn count(&self, smmu: usize, irq: Irq) {
        let at = COUNTED.iter().position(|counted| *counted == irq);
        if let Some(count) = self.0.get(smmu).zip(at).and_then(|(each, at)| each.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Interrupts since the last call.
    fn take(&self) -> Vec<(usize, Irq)> {
        let mut all = Vec::new();
        for (smmu, each) in self.0.iter().enumerate() {
            for (irq, count) in COUNTED.into_iter().zip(each) {
                if count.swap(0, Ordering::Relaxed) > 0 {
                    all.push((smmu, irq));
                }
            }
        }
        all
    }
}

impl Default for InterruptCounts {
    fn default() -> Self {
        Self::new()
    }
}

/// A device that does DMA when a scenario asks.
pub struct BoardDevice {
    /// Its stream. The SMMU is counted as [`Parts::smmus`] counts.
    pub stream: Stream,
    /// The device.
    pub generator: Box<dyn Generator + Send>,
    /// The device's rings, if it reads them by the stream of its DMA.
    pub rings: Option<Region>,
}

/// Several CPUs for callers that run at the same time.
pub trait Together: Send + Sync {
    /// How many CPUs there are.
    fn cpus(&self) -> usize;

    /// Runs all callers, each on a CPU of its own as far as there are so many. Callers that share
    /// one run in their order. Returns when all have returned.
    fn run<'c>(&self, callers: Vec<Box<dyn FnOnce() + Send + 'c>>);
}

/// What the program has found of its machine.
pub struct Parts {
    /// The name of the backend in reports.
    pub name: &'static str,
    /// What it is, in one line.
    pub describe: String,
    /// The registers of each SMMU.
    pub smmus: Vec<&'static VolatileRegisters>,
    /// The devices.
    pub devices: Vec<BoardDevice>,
    /// RAM that nothing else uses.
    pub ram: Ram,
    /// What handlers count. `None` if the program has no handler.
    pub interrupts: Option<&'static InterruptCounts>,
    /// Tells the number of the CPU that calls.
    pub cpu_number: fn() -> usize,
    /// The CPUs, if the program can start more than its own.
    pub together: Option<Box<dyn Together>>,
    /// Prints a step that begins.
    pub step_begins: fn(usize, &str),
}

/// The board as a place where scenarios run, one at a time.
pub struct BoardBackend {
    shared: Arc<Shared>,
    capabilities: Vec<Capabilities>,
}

struct SharedDevice {
    stream: Stream,
    rings: Option<Region>,
    pattern: Vec<u8>,
    generator: spin::Mutex<Box<dyn Generator + Send>>,
}

struct Shared {
    name: &'static str,
    describe: String,
    smmus: Vec<&'static VolatileRegisters>,
    devices: Vec<SharedDevice>,
    ram: Ram,
    interrupts: Option<&'static InterruptCounts>,
    cpu_number: fn() -> usize,
    together: Option<Box<dyn Together>>,
    step_begins: fn(usize, &str),
}

impl BoardBackend {
    /// Asks the SMMUs what they can do.
    ///
    /// # Errors
    ///
    /// One of them, named by its index, is no SMMU that the driver can use.
    pub fn new(parts: Parts) -> Result<Self, (usize, ProbeError)> {
        let mut capabilities = Vec::new();
        for (n, registers) in parts.smmus.iter().enumerate() {
            capabilities.push(probe(*registers).map_err(|error| (n, error))?.caps);
        }
        let alone = parts.devices.iter().any(|device| device.generator.needs_all_memory());
        let devices = parts.devices.into_iter();
        let devices = devices.map(|BoardDevice { stream, generator, rings }| SharedDevice {
            stream,
            rings,
            pattern: generator.pattern().to_vec(),
            generator: spin::Mutex::new(generator),
        });
        let shared = Arc::new(Shared {
            name: parts.name,
            describe: parts.describe,
            smmus: parts.smmus,
            devices: devices.collect(),
            ram: parts.ram,
            interrupts: parts.interrupts,
            cpu_number: parts.cpu_number,
            // Callers that run at the same time look at their own pages only.
            together: parts.together.filter(|together| together.cpus() > 1 && !alone),
            step_begins: parts.step_begins,
        });
        Ok(BoardBackend { shared, capabilities })
    }
}

impl Backend for BoardBackend {
    fn name(&self) -> &'static str {
        self.shared.name
    }

    fn describe(&self) -> String {
        self.shared.describe.clone()
    }

    fn offers(&self, need: Need) -> bool {
        offered_by_id_registers(need, &self.capabilities).unwrap_or(match need {
            // Clearing `CR0.CMDQEN` stops the queue of any SMMU.
            Need::QueueStop => true,
            // Hardware has caches, and may drop from them what it likes: a scenario that shows a
            // stale entry tells which of them a board keeps.
            Need::Caches => true,
            Need::Parallel => self.shared.together.is_some(),
            _ => false,
        })
    }

    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        let shared = &self.shared;
        let (asked, there) = (spec.smmus.len(), shared.smmus.len());
        if asked > there {
            let what = format!("it has {there} of {asked} SMMUs");
            return Err(BackendError::Impossible(what));
        }
        spec.ram.check(&shared.ram)?;
        let mut devices = Vec::new();
        for MachineDevice { smmu, stream, .. } in &spec.devices {
            let is_it = |found: &Stream| usize::from(found.smmu.0) == *smmu && found.id == *stream;
            let found = shared.devices.iter().position(|found| is_it(&found.stream));
            devices.push(found.ok_or_else(|| {
                let what = format!("no device has StreamID {stream} behind SMMU {smmu}");
                BackendError::Impossible(what)
            })?);
        }
        // Those of the scenario before.
        let _ = shared.interrupts.map(InterruptCounts::take);
        Ok(Box::new(BoardMachine { shared: Arc::clone(shared), devices }))
    }
}

struct BoardMachine {
    shared: Arc<Shared>,
    devices: Vec<usize>,
}

impl BoardMachine {
    fn smmu(&self, smmu: usize) -> Result<&'static VolatileRegisters, BackendError> {
        let found = self.shared.smmus.get(smmu).copied();
        found.ok_or_else(|| BackendError::Impossible(format!("there is no SMMU {smmu}")))
    }

    fn device(&self, device: usize) -> Option<&SharedDevice> {
        self.shared.devices.get(*self.devices.get(device)?)
    }

    fn change_cr0(&self, smmu: usize, change: impl FnOnce(u32) -> u32) -> Result<(), BackendError> {
        let registers = self.smmu(smmu)?;
        registers.write32(CR0.offset(), change(registers.read32(CR0.offset())));
        Ok(())
    }
}

impl Machine for BoardMachine {
    fn ram(&self) -> Ram {
        self.shared.ram.clone()
    }

    fn registers(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError> {
        Ok(Arc::new(self.smmu(smmu)?))
    }

    fn pattern(&self, device: usize) -> Cow<'static, [u8]> {
        Cow::Owned(self.device(device).map_or_else(Vec::new, |found| found.pattern.clone()))
    }

    fn own_memory(&self, device: usize) -> Option<Range<u64>> {
        let rings = self.device(device)?.rings?;
        Some(rings.base..rings.end())
    }

    fn dma_write(&self, device: usize, iova: u64) -> Result<DmaWriteOutcome, BackendError> {
        let found = self
            .device(device)
            .ok_or_else(|| BackendError::Impossible(format!("there is no device {device}")))?;
        let mut generator = found.generator.lock();
        match generator.write(Iova(iova)) {
            DmaResult::Done => Ok(DmaWriteOutcome::Written),
            DmaResult::Refused(_) => Ok(DmaWriteOutcome::Refused),
            other => {
                let name = generator.name();
                Err(BackendError::Broken(format!("{name} does not tell its result: {other}")))
            }
        }
    }

    fn sees_interrupts(&self) -> bool {
        self.shared.interrupts.is_some()
    }

    fn take_interrupts(&self) -> Vec<(usize, Irq)> {
        self.shared.interrupts.map_or_else(Vec::new, InterruptCounts::take)
    }

    fn check(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn step_begins(&self, number: usize, text: &str) {
        (self.shared.step_begins)(number, text);
    }

    fn clock(&self) -> Clock {
        Clock::new(GenericTimer)
    }

    fn cpu_number(&self) -> fn() -> usize {
        self.shared.cpu_number
    }

    fn together(&self, callers: Vec<Box<dyn FnOnce() + Send + '_>>) -> Result<(), BackendError> {
        match &self.shared.together {
            Some(together) => {
                together.run(callers);
                Ok(())
            }
            None => Err(BackendError::Impossible("it has one CPU".into())),
        }
    }

    /// Turns the command queue off without the driver's knowledge. The queue keeps its state, and
    /// `mend` turns it on again.
    fn inject(&self, smmu: usize, queue: QueueName, fault: QueueFault) -> Result<(), BackendError> {
        if (queue, fault) != (QueueName::Main, QueueFault::Stopped) {
            let what = "a board offers one fault: a stopped main command queue".into();
            return Err(BackendError::Impossible(what));
        }
        self.change_cr0(smmu, |value| value & !cr0::CMDQEN)
    }

    fn mend(&self, smmu: usize) -> Result<(), BackendError> {
        self.change_cr0(smmu, |value| value | cr0::CMDQEN)
    }
}
