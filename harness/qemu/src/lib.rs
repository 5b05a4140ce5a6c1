//! QEMU as a machine with real SMMUv3 models: no guest code, this process is the CPU.
//!
//! [`find()`] says which QEMU to use, [`Machine::start`] starts one, and then
//!
//! * [`Machine::qtest`] reads and writes device registers,
//! * [`Machine::ram`] is the machine's RAM as plain memory of this process,
//! * [`Machine::dma_write`], [`Machine::edu_copy_in`] and [`Machine::edu_copy_out`] make
//!   devices do DMA through their SMMU,
//! * [`Machine::take_interrupts`] tells which interrupts the SMMUs raised.
//!
//! ```no_run
//! use smmu_qemu::{DeviceConfig, DeviceKind, Machine, MachineConfig};
//!
//! let qemu = smmu_qemu::find(None, smmu_qemu::guess_target_dir().as_deref())?;
//! let machine = Machine::start(&qemu, &MachineConfig {
//!     devices: vec![DeviceConfig { smmu: 0, stream_id: 8, kind: DeviceKind::TestDev }],
//!     ..MachineConfig::default()
//! })?;
//! let idr0 = machine.qtest().readl(machine.smmu_base(0))?;
//! let outcome = machine.dma_write(0, machine.ram().base() + 0x1000)?;
//! # Ok::<(), smmu_qemu::QemuError>(())
//! ```
//!
//! Addresses are plain numbers here; the register and DMA-memory seams are put on top.
//! A start takes some 50 ms, a register access some 10 us, [`Machine::reset`] some 1 ms.
//!
//! QEMU's sockets are a pair each, given to the child as its standard input and output,
//! and RAM is a nameless file: nothing of a machine is on disk.

mod devices;
mod error;
pub mod find;
mod line;
mod pci;
mod plan;
mod probe;
mod process;
mod qmp;
mod qtest;
mod ram;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

pub use devices::{DmaOutcome, TESTDEV_PATTERN};
pub use error::{BinaryProblem, Channel, Missing, Origin, QemuError};
pub use find::{QemuBinary, Search, find, guess_target_dir};
pub use plan::{
    ConfigError, DeviceConfig, DeviceKind, MachineConfig, SMMU_BASE, SMMU_SPACING, SmmuConfig,
    Stage,
};
pub use qmp::Qmp;
pub use qtest::{Access, Qtest};
pub use ram::{RAM_BASE, SharedRam};

use devices::Device;
use plan::Plan;
use process::Process;

/// A start may have to load some 70 MiB from a cold disk.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The first interrupt line of SMMU 0, as the interrupt controller numbers its inputs.
const FIRST_LINE: u32 = 112;
const LINES_PER_SMMU: u32 = 4;

/// An interrupt of an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Irq {
    /// An event was recorded.
    EventQueue,
    /// A page request was recorded.
    PriQueue,
    /// A `CMD_SYNC` that asked for an interrupt is complete.
    CmdSync,
    /// An error was flagged in `GERROR`.
    Gerror,
}

/// One running QEMU. It may be shared between threads; dropping it ends QEMU.
pub struct Machine {
    qtest: Qtest,
    qmp: Qmp,
    ram: SharedRam,
    process: Arc<Process>,
    version: String,
    smmus: usize,
    plan: Plan,
    devices: Vec<Device>,
}

impl Machine {
    /// Starts a machine and makes its devices ready: bridges and base addresses are
    /// programmed, interrupts are observed. The SMMUs are as after reset.
    pub fn start(qemu: &QemuBinary, config: &MachineConfig) -> Result<Self, QemuError> {
        let plan = Plan::new(config)?;
        Self::launch(qemu, config, plan).map_err(|error| match error {
            // It did not like its arguments. Whether it lacks something tells more than
            // its complaint of the first thing that it missed.
            QemuError::Exited { .. } => qemu.check_features().err().unwrap_or(error),
            error => error,
        })
    }

    fn launch(qemu: &QemuBinary, config: &MachineConfig, plan: Plan) -> Result<Self, QemuError> {
        let ram = SharedRam::new(config.ram_size)?;
        let pair = || UnixStream::pair().map_err(QemuError::system("make a pair of sockets"));
        let (qtest, qtest_theirs) = pair()?;
        let (monitor, monitor_theirs) = pair()?;
        let file = ram.file();
        let mut command = Command::new(qemu.path());
        command
            .args(arguments(config.ram_size, file.fd().as_raw_fd()))
            .args(&plan.arguments)
            .stdin(Stdio::from(OwnedFd::from(qtest_theirs)))
            .stdout(Stdio::from(OwnedFd::from(monitor_theirs)));
        let process = Arc::new(Process::spawn(command, qemu.path(), file)?);
        let timeout = config.reply_timeout;
        let qmp = Qmp::connect(monitor, Arc::clone(&process), START_TIMEOUT, timeout)?;
        let qtest = Qtest::new(qtest, Arc::clone(&process), timeout)?;
        qtest.irq_intercept_in(&gic(&qmp)?)?;
        pci::program(&qtest, &plan)?;
        ram.clear_device_tree();
        qtest.take_raised();
        Ok(Self {
            qtest,
            qmp,
            ram,
            process,
            version: qemu.version().to_owned(),
            smmus: config.smmus.len(),
            devices: plan.endpoints.iter().copied().map(Device::new).collect(),
            plan,
        })
    }

    /// The version of this QEMU, such as `11.1.3`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The id of the QEMU process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The number of SMMUs.
    pub fn smmus(&self) -> usize {
        self.smmus
    }

    /// The physical address of the registers of an SMMU (an SMMU that the machine has not
    /// is at an address that nothing decodes).
    pub fn smmu_base(&self, smmu: usize) -> u64 {
        SMMU_BASE + SMMU_SPACING * smmu as u64
    }

    /// The machine's RAM.
    pub fn ram(&self) -> &SharedRam {
        &self.ram
    }

    /// Accesses to registers, and virtual time.
    pub fn qtest(&self) -> &Qtest {
        &self.qtest
    }

    /// The interrupts raised since the last call, in order, with the SMMU of each. All are
    /// pulses. They are complete as soon as the access that caused them has returned.
    pub fn take_interrupts(&self) -> Vec<(usize, Irq)> {
        let raised = self.qtest.take_raised();
        let all = raised.into_iter().filter_map(interrupt);
        all.filter(|(smmu, _)| *smmu < self.smmus).collect()
    }

    /// Runs a command of QEMU's monitor; `arguments` is an object, or null for none.
    ///
    /// For a reset use [`reset`](Self::reset): after a bare `system_reset` no PCI device has an
    /// address.
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value, QemuError> {
        self.qmp.execute(command, arguments)
    }

    /// Resets the machine as its power button would and makes its devices ready again.
    /// RAM keeps its contents; so do some registers whose value at reset the
    /// architecture leaves open.
    ///
    /// No other thread may use the machine meanwhile, or it sees devices without address.
    pub fn reset(&self) -> Result<(), QemuError> {
        self.ram.keep_over(|| self.qmp.execute_until("system_reset", "RESET"))?;
        pci::program(&self.qtest, &self.plan)?;
        self.qtest.take_raised();
        Ok(())
    }

    /// Fails, with QEMU's last words, if the process has ended, or with the failure of the qtest channel if that is of no
    /// use any more.
    pub fn check(&self) -> Result<(), QemuError> {
        self.process.check("check")?;
        self.qtest.failure().map_or(Ok(()), Err)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.process.kill();
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("qemu", &self.process.path())
            .field("version", &self.version)
            .field("pid", &self.pid())
            .field("smmus", &self.smmus)
            .finish_non_exhaustive()
    }
}

/// QEMU's arguments before those of the plan.
fn arguments(ram_size: u64, ram: i32) -> Vec<String> {
    let kib = ram_size / 1024;
    let fixed = [
        ["-accel", "qtest"],
        ["-display", "none"],
        ["-cpu", "cortex-a57"],
        ["-chardev", "socket,id=qtest,fd=0"],
        ["-qtest", "chardev:qtest"],
        // Else each command is written to standard error.
        ["-qtest-log", "none"],
        ["-chardev", "socket,id=monitor,fd=1"],
        ["-qmp", "chardev:monitor"],
        ["-run-with", "exit-with-parent=on"],
        ["-machine", "virt,highmem=off,gic-version=3,memory-backend=ram"],
    ];
    let mut all = vec!["-nodefaults".to_owned()];
    all.extend(fixed.as_flattened().iter().map(|&text| text.to_owned()));
    all.extend([
        "-m".to_owned(),
        format!("{kib}K"),
        "-object".to_owned(),
        format!("memory-backend-file,id=ram,size={kib}K,mem-path=/proc/self/fd/{ram},share=on"),
    ]);
    all
}

/// The path of the interrupt controller in QEMU's tree of objects.
fn gic(qmp: &Qmp) -> Result<String, QemuError> {
    const PARENT: &str = "/machine/unattached";
    let children = qmp.execute("qom-list", json!({ "path": PARENT }))?;
    let mut children = children.as_array().into_iter().flatten();
    children
        .find(|child| child["type"] == "child<arm-gicv3>")
        .and_then(|child| child["name"].as_str())
        .map(|name| format!("{PARENT}/{name}"))
        .ok_or(QemuError::NoGic)
}

fn interrupt(line: u32) -> Option<(usize, Irq)> {
    let line = line.checked_sub(FIRST_LINE)?;
    let irq = match line % LINES_PER_SMMU {
        0 => Irq::EventQueue,
        1 => Irq::PriQueue,
        2 => Irq::CmdSync,
        _ => Irq::Gerror,
    };
    Some((usize::try_from(line / LINES_PER_SMMU).ok()?, irq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_named() {
        assert_eq!(interrupt(112), Some((0, Irq::EventQueue)));
        assert_eq!(interrupt(113), Some((0, Irq::PriQueue)));
        assert_eq!(interrupt(114), Some((0, Irq::CmdSync)));
        assert_eq!(interrupt(115), Some((0, Irq::Gerror)));
        assert_eq!(interrupt(123), Some((2, Irq::Gerror)));
        assert_eq!(interrupt(3), None);
    }

    #[test]
    fn a_machine_can_be_shared() {
        fn shared<T: Send + Sync>() {}
        shared::<Machine>();
    }
}
