//! The QEMU backend: scenarios on QEMU's SMMUv3.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use smmu_types::pool::Window;
use smmu_types::regs::{CR0, cr0};
use smmu_types::seam::Registers;
use smmu_types::{Irq, PhysAddr};

use smmu_engine::machine::{
    Backend, BackendError, Clock, DMA_PATTERN, DmaWriteOutcome, Machine, MachineSpec, QueueFault,
    Ram,
};
use smmu_engine::machine::{Need, QueueName};
use smmu_qemu as qemu;

/// QEMU's SMMUv3, driven by this process without guest code.
#[derive(Debug)]
pub struct Qemu {
    binary: qemu::QemuBinary,
}

impl Qemu {
    /// Whether a suitable QEMU offers this. Needs no QEMU.
    #[must_use]
    pub const fn can(need: Need) -> bool {
        match need {
            Need::Stage1
            | Need::Stage2
            | Need::SeveralSmmus
            | Need::Nesting
            | Need::QueueStop
            | Need::Reset
            | Need::Parallel
            | Need::Caches => true,
            Need::Asid8
            | Need::Ats
            | Need::Msi
            | Need::Sev
            | Need::SlowQueues
            | Need::FetchAborts
            | Need::AtcTimeouts
            | Need::LostMsis
            | Need::SecondQueue
            | Need::SmmuKinds
            // `edu` reads into a buffer that only its own DMA can look at.
            | Need::DmaReads
            // It loses the event and reports `EVENTQ_ABT_ERR`, but toggles no `OVFLG`.
            | Need::EventOverflow
            // It has neither, and no device that would wait or ask.
            | Need::Stalls
            | Need::PageRequests
            | Need::Substreams
            | Need::AtsDevices => false,
        }
    }

    /// Finds a QEMU: `explicit`, `SMMU_QEMU`, the one unpacked below `target/`, or one on `PATH`.
    ///
    /// # Errors
    ///
    /// No QEMU is found, or it is too old, or lacks a feature.
    pub fn find(explicit: Option<&Path>) -> Result<Self, BackendError> {
        let binary = qemu::find(explicit, qemu::guess_target_dir().as_deref())
            .map_err(|error| BackendError::Unavailable(error.to_string()))?;
        Ok(Qemu { binary })
    }

    /// The QEMU that was found.
    #[must_use]
    pub fn into_binary(self) -> qemu::QemuBinary {
        self.binary
    }
}

impl Backend for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn describe(&self) -> String {
        format!("QEMU {}", self.binary.version())
    }

    fn offers(&self, need: Need) -> bool {
        Self::can(need)
    }

    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        let devices = spec.devices.iter().map(|device| qemu::DeviceConfig {
            smmu: device.smmu,
            stream_id: device.stream.0,
            kind: qemu::DeviceKind::TestDev,
        });
        let usual = qemu::MachineConfig::default();
        let config = qemu::MachineConfig {
            ram_size: spec
                .ram
                .bytes
                .checked_next_multiple_of(1 << 20)
                .unwrap_or(u64::MAX)
                .max(usual.ram_size),
            smmus: spec.smmus.iter().map(|_| qemu::QemuSmmuConfig::default()).collect(),
            devices: devices.collect(),
            ..usual
        };
        let machine =
            qemu::QemuMachine::start(&self.binary, &config).map_err(|error| match error {
                qemu::QemuError::Config(_) => BackendError::Impossible(error.to_string()),
                _ => BackendError::Unavailable(error.to_string()),
            })?;
        let machine = StartedQemu { machine: Arc::new(machine) };
        spec.ram.check(&machine.ram())?;
        Ok(Box::new(machine))
    }
}

struct StartedQemu {
    machine: Arc<qemu::QemuMachine>,
}

fn broken(error: qemu::QemuError) -> BackendError {
    BackendError::Broken(error.to_string())
}

const _: () = assert!(DMA_PATTERN == qemu::TESTDEV_PATTERN);

impl Machine for StartedQemu {
    fn ram(&self) -> Ram {
        Ram::new(QemuRam(self.machine.ram().clone()))
    }

    fn registers(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError> {
        if smmu >= self.machine.smmus() {
            return Err(BackendError::Impossible(format!("there is no SMMU {smmu}")));
        }
        let base = self.machine.smmu_base(smmu);
        Ok(Arc::new(QemuRegisters { machine: Arc::clone(&self.machine), base }))
    }

    fn dma_write(&self, device: usize, iova: u64) -> Result<DmaWriteOutcome, BackendError> {
        match self.machine.dma_write(device, iova).map_err(broken)? {
            qemu::DmaOutcome::Written => Ok(DmaWriteOutcome::Written),
            qemu::DmaOutcome::Refused => Ok(DmaWriteOutcome::Refused),
            other => Err(BackendError::Broken(format!("the test device said {other:?}"))),
        }
    }

    fn take_interrupts(&self) -> Vec<(usize, Irq)> {
        let raised = self.machine.take_interrupts().into_iter();
        raised
            .map(|(smmu, irq)| {
                let irq = match irq {
                    qemu::SmmuIrq::EventQueue => Irq::EventQueue,
                    qemu::SmmuIrq::PriQueue => Irq::PriQueue,
                    qemu::SmmuIrq::CmdSync => Irq::CmdSync,
                    qemu::SmmuIrq::Gerror => Irq::Gerror,
                };
                (smmu, irq)
            })
            .collect()
    }

    fn check(&self) -> Result<(), BackendError> {
        self.machine.check().map_err(broken)
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    /// Turns the command queue off without the driver's knowledge. The queue keeps its state, and
    /// `mend` turns it on again.
    fn inject(&self, smmu: usize, queue: QueueName, fault: QueueFault) -> Result<(), BackendError> {
        if (queue, fault) != (QueueName::Main, QueueFault::Stopped) {
            let what = "QEMU offers one fault: a stopped main command queue".into();
            return Err(BackendError::Impossible(what));
        }
        self.change_cr0(smmu, |value| value & !cr0::CMDQEN)
    }

    fn mend(&self, smmu: usize) -> Result<(), BackendError> {
        self.change_cr0(smmu, |value| value | cr0::CMDQEN)
    }

    /// Resets the whole machine, so it must have one SMMU. Its devices are made ready again.
    fn reset(&self, _smmu: usize) -> Result<(), BackendError> {
        if self.machine.smmus() > 1 {
            let what = "QEMU resets all SMMUs at once; the scenario needs exactly one".into();
            return Err(BackendError::Impossible(what));
        }
        self.machine.reset().map_err(broken)
    }
}

impl StartedQemu {
    fn change_cr0(&self, smmu: usize, change: impl FnOnce(u32) -> u32) -> Result<(), BackendError> {
        let registers = self.registers(smmu)?;
        registers.write32(CR0.offset(), change(registers.read32(CR0.offset())));
        Ok(())
    }
}

struct QemuRam(qemu::SharedRam);

// SAFETY: the mapping is page-aligned and stays where it is while a clone of it lives. QEMU's SMMU
// finds the same bytes at the base of its RAM, through the caches of this host. QEMU itself writes
// there only what devices and SMMUs write.
unsafe impl Window for QemuRam {
    fn words(&self) -> &[AtomicU64] {
        self.0.words()
    }
    fn base(&self) -> PhysAddr {
        PhysAddr(self.0.base())
    }
}

struct QemuRegisters {
    machine: Arc<qemu::QemuMachine>,
    base: u64,
}

// After a break, reads return all ones, as the seam demands. `QemuMachine::check` returns the
// cause.
impl Registers for QemuRegisters {
    fn read32(&self, offset: u32) -> u32 {
        self.machine.qtest().readl(self.base + u64::from(offset)).unwrap_or(u32::MAX)
    }
    fn write32(&self, offset: u32, value: u32) {
        let _ = self.machine.qtest().writel(self.base + u64::from(offset), value);
    }
    fn read64(&self, offset: u32) -> u64 {
        self.machine.qtest().readq(self.base + u64::from(offset)).unwrap_or(u64::MAX)
    }
    fn write64(&self, offset: u32, value: u64) {
        let _ = self.machine.qtest().writeq(self.base + u64::from(offset), value);
    }
}
