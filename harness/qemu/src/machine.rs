//! One running QEMU: start, reset, DMA, interrupts and end.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::devices::{Devices, DmaOutcome, EduCopy};
use super::error::QemuError;
use super::find::QemuBinary;
use super::pci;
use super::plan::{MachineConfig, MachinePlan, SMMU_BASE, SMMU_SPACING};
use super::process::Process;
use super::qmp::Qmp;
use super::qtest::Qtest;
use super::ram::SharedRam;

/// A start may load about 70 MiB from a cold disk.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The first interrupt line of SMMU 0, as the interrupt controller numbers its inputs.
const FIRST_LINE: u32 = 112;
const LINES_PER_SMMU: u32 = 4;

/// An interrupt of an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmmuIrq {
    /// An event was recorded.
    EventQueue,
    /// A page request was recorded.
    PriQueue,
    /// A `CMD_SYNC` that asked for an interrupt is complete.
    CmdSync,
    /// An error was flagged in `GERROR`.
    Gerror,
}

/// One running QEMU. Threads may share it. Dropping it ends QEMU.
pub struct QemuMachine {
    qtest: Qtest,
    qmp: Qmp,
    ram: SharedRam,
    process: Arc<Process>,
    version: String,
    smmus: usize,
    plan: MachinePlan,
    devices: Devices,
}

impl QemuMachine {
    /// Starts a machine and makes its devices ready: programs bridges and base addresses, and
    /// observes interrupts. The SMMUs are as after reset.
    pub fn start(qemu: &QemuBinary, config: &MachineConfig) -> Result<Self, QemuError> {
        let plan = MachinePlan::new(config)?;
        Self::launch(qemu, config, plan).map_err(|error| match error {
            // QEMU refused its arguments. All missing features say more than its message about the
            // first.
            QemuError::Exited { .. } => qemu.check_features().err().unwrap_or(error),
            error => error,
        })
    }

    fn launch(
        qemu: &QemuBinary,
        config: &MachineConfig,
        plan: MachinePlan,
    ) -> Result<Self, QemuError> {
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
        let process = Arc::new(Process::spawn(command, qemu.path(), Some(file))?);
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
            devices: Devices::new(&plan.endpoints),
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

    /// The physical address of the registers of an SMMU. Without such an SMMU, no device decodes
    /// the address.
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

    /// The interrupts since the last call, in order, with the SMMU of each. All are pulses. An
    /// interrupt is here as soon as the access that caused it has returned.
    pub fn take_interrupts(&self) -> Vec<(usize, SmmuIrq)> {
        let raised = self.qtest.take_raised();
        let all = raised.into_iter().filter_map(interrupt);
        all.filter(|(smmu, _)| *smmu < self.smmus).collect()
    }

    /// Has an `iommu-testdev` write [`TESTDEV_PATTERN`], four bytes little-endian, at `iova`.
    /// The write is complete when this returns.
    ///
    /// [`TESTDEV_PATTERN`]: super::TESTDEV_PATTERN
    pub fn dma_write(&self, device: usize, iova: u64) -> Result<DmaOutcome, QemuError> {
        self.devices.dma_write(&self.qtest, device, iova)
    }

    /// Has an `edu` read `length` bytes at `iova` into the start of its buffer.
    ///
    /// The device does not report a refusal: look at the SMMU's events. A refused read fills the
    /// buffer with zeros. QEMU records one event for every four bytes of a refused transfer, so
    /// prefer a length of 4. Virtual time passes.
    pub fn edu_copy_in(&self, device: usize, iova: u64, length: u32) -> Result<(), QemuError> {
        self.devices.edu_copy(&self.qtest, device, iova, length, EduCopy::In)
    }

    /// Has an `edu` write the first `length` bytes of its buffer at `iova`. To write a chosen
    /// value, first bring it into the buffer with [`edu_copy_in`], from an address that the
    /// device can reach.
    ///
    /// Refusals, events and time are as for [`edu_copy_in`].
    ///
    /// [`edu_copy_in`]: Self::edu_copy_in
    pub fn edu_copy_out(&self, device: usize, iova: u64, length: u32) -> Result<(), QemuError> {
        self.devices.edu_copy(&self.qtest, device, iova, length, EduCopy::Out)
    }

    /// Runs a command of QEMU's monitor. `arguments` is an object, or null for none.
    ///
    /// For a reset use [`reset`](Self::reset): after a bare `system_reset` no PCI device has an
    /// address.
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value, QemuError> {
        self.qmp.execute(command, arguments)
    }

    /// Resets the machine as its power button would, and makes its devices ready again. RAM keeps
    /// its contents. So do some registers whose reset value is UNKNOWN in the architecture.
    ///
    /// No other thread may use the machine during a reset: it would see devices without addresses.
    pub fn reset(&self) -> Result<(), QemuError> {
        self.ram.keep_over(|| self.qmp.execute_until("system_reset", "RESET"))?;
        pci::program(&self.qtest, &self.plan)?;
        self.qtest.take_raised();
        Ok(())
    }

    /// Fails if QEMU has ended, with the end of its standard error, or if the qtest channel has
    /// failed, with the channel's error.
    pub fn check(&self) -> Result<(), QemuError> {
        self.process.check("check")?;
        self.qtest.failure().map_or(Ok(()), Err)
    }
}

impl Drop for QemuMachine {
    fn drop(&mut self) {
        self.process.kill();
    }
}

impl std::fmt::Debug for QemuMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QemuMachine")
            .field("qemu", &self.process.path())
            .field("version", &self.version)
            .field("pid", &self.pid())
            .field("smmus", &self.smmus)
            .finish_non_exhaustive()
    }
}

/// QEMU's fixed arguments; those of the plan follow.
fn arguments(ram_size: u64, ram: i32) -> Vec<String> {
    let kib = ram_size / 1024;
    let fixed = [
        ["-accel", "qtest"],
        ["-display", "none"],
        ["-cpu", "cortex-a57"],
        ["-chardev", "socket,id=qtest,fd=0"],
        ["-qtest", "chardev:qtest"],
        // By default QEMU writes each command to standard error.
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

fn interrupt(line: u32) -> Option<(usize, SmmuIrq)> {
    let line = line.checked_sub(FIRST_LINE)?;
    let irq = match line % LINES_PER_SMMU {
        0 => SmmuIrq::EventQueue,
        1 => SmmuIrq::PriQueue,
        2 => SmmuIrq::CmdSync,
        _ => SmmuIrq::Gerror,
    };
    Some((usize::try_from(line / LINES_PER_SMMU).ok()?, irq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_named() {
        assert_eq!(interrupt(112), Some((0, SmmuIrq::EventQueue)));
        assert_eq!(interrupt(113), Some((0, SmmuIrq::PriQueue)));
        assert_eq!(interrupt(114), Some((0, SmmuIrq::CmdSync)));
        assert_eq!(interrupt(115), Some((0, SmmuIrq::Gerror)));
        assert_eq!(interrupt(123), Some((2, SmmuIrq::Gerror)));
        assert_eq!(interrupt(3), None);
    }

    #[test]
    fn a_machine_can_be_shared() {
        fn shared<T: Send + Sync>() {}
        shared::<QemuMachine>();
    }
}
