//! QEMU as a machine with real SMMUv3 models: no guest code, this process is the CPU.
//!
//! [`find()`] says which QEMU to use, [`QemuMachine::start`] starts one, and then
//!
//! * [`QemuMachine::qtest`] reads and writes device registers,
//! * [`QemuMachine::ram`] is the machine's RAM as plain memory of this process,
//! * [`QemuMachine::dma_write`], [`QemuMachine::edu_copy_in`] and [`QemuMachine::edu_copy_out`] make
//!   devices do DMA through their SMMU,
//! * [`QemuMachine::take_interrupts`] tells which interrupts the SMMUs raised.
//!
//! ```no_run
//! use smmu_qemu::{DeviceConfig, DeviceKind, QemuMachine, MachineConfig};
//!
//! let qemu = smmu_qemu::find(None, smmu_qemu::guess_target_dir().as_deref())?;
//! let machine = QemuMachine::start(&qemu, &MachineConfig {
//!     devices: vec![DeviceConfig { smmu: 0, stream_id: 8, kind: DeviceKind::TestDev }],
//!     ..MachineConfig::default()
//! })?;
//! let idr0 = machine.qtest().readl(machine.smmu_base(0))?;
//! let outcome = machine.dma_write(0, machine.ram().base() + 0x1000)?;
//! # Ok::<(), smmu_qemu::QemuError>(())
//! ```
//!
//! Addresses are plain numbers here; the register and DMA-memory seams are put on top.
//! A start takes some 50 ms, a register access some 10 us, [`QemuMachine::reset`] some 1 ms.
//!
//! QEMU's sockets are a pair each, given to the child as its standard input and output,
//! and RAM is a nameless file: nothing of a machine is on disk.

mod devices;
mod error;
pub mod find;
mod line;
mod machine;
mod pci;
mod plan;
mod probe;
mod process;
mod qmp;
mod qtest;
mod ram;

pub use devices::{DmaOutcome, TESTDEV_PATTERN};
pub use error::{BinaryProblem, Channel, Missing, Origin, QemuError};
pub use find::{QemuBinary, Search, find, guess_target_dir};
pub use machine::{QemuMachine, SmmuIrq};
pub use plan::{
    ConfigError, DeviceConfig, DeviceKind, ImplementedStages, MachineConfig, QemuSmmuConfig,
    SMMU_BASE, SMMU_SPACING,
};
pub use qmp::Qmp;
pub use qtest::{Qtest, QtestCommand};
pub use ram::{RAM_BASE, SharedRam};

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct QemuReadme;
