//! QEMU as a machine with SMMUv3s: no guest code, this process plays the CPU.
//!
//! [`find()`] finds a QEMU, and [`QemuMachine::start`] starts it. Then
//!
//! * [`QemuMachine::qtest`] reads and writes device registers,
//! * [`QemuMachine::ram`] is the machine's RAM as memory of this process,
//! * [`QemuMachine::dma_write`], [`QemuMachine::edu_copy_in`] and [`QemuMachine::edu_copy_out`]
//!   make devices do DMA through their SMMU,
//! * [`QemuMachine::take_interrupts`] returns the interrupts that the SMMUs raised.
//!
//! A [`Guest`] is the exception: a QEMU whose CPU runs an image, and its UART.
//!
//! ```no_run
//! use smmu_qemu::{DeviceConfig, DeviceKind, MachineConfig, QemuMachine};
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
//! Addresses are plain numbers; a caller adds its own types. A start takes about 50 ms, a register
//! access about 10 us, [`QemuMachine::reset`] about 1 ms.
//!
//! A machine leaves nothing on disk: QEMU's sockets are its standard input and output, and RAM is a
//! file without a name.

mod devices;
mod error;
pub mod find;
mod guest;
mod line;
mod linux_tree;
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
pub use guest::{Guest, GuestConfig, GuestLevel, GuestProgram, open_uart};
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
