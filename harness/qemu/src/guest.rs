//! A program on a CPU beside the SMMUs, and the UART by which this process speaks with it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::termios::{ControlModes, OptionalActions, SpecialCodeIndex};

use super::error::QemuError;
use super::find::QemuBinary;
use super::linux_tree::TreeFile;
use super::plan::{MachineConfig, MachinePlan, SMMU_BASE, SMMU_SPACING};
use super::process::Process;

/// INTID of the event queue's interrupt of SMMU 0: input 112 of the interrupt controller is SPI 112.
const FIRST_INTID: u32 = 32 + 112;
const INTIDS_PER_SMMU: u32 = 4;
const GERROR: u32 = 3;
const BAUD: u32 = 115_200;

/// The exception level at which a guest starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuestLevel {
    /// EL1.
    #[default]
    El1,
    /// EL2.
    El2,
}

/// What a guest runs.
#[derive(Clone, Debug)]
pub enum GuestProgram {
    /// A program without an operating system: an ELF file.
    Image(PathBuf),
    /// Linux. Its device tree tells of all SMMUs.
    Linux {
        /// The kernel.
        kernel: PathBuf,
        /// The first root file system.
        initramfs: PathBuf,
        /// The kernel's command line. What follows `--` are the arguments of `/init`.
        options: String,
    },
}

/// A guest and its machine.
#[derive(Clone, Debug)]
pub struct GuestConfig {
    /// What it runs.
    pub program: GuestProgram,
    /// SMMUs and devices. A guest has 512 MiB of RAM, whatever this says.
    pub machine: MachineConfig,
    /// The number of CPUs.
    pub cpus: u8,
    /// QEMU's name of the CPU.
    pub cpu: String,
    /// Where it starts.
    pub level: GuestLevel,
}

/// A program that runs, and ends when this is dropped.
pub struct Guest {
    process: Process,
    /// Removed after the process has ended.
    _tree: Option<TreeFile>,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("pid", &self.pid()).finish_non_exhaustive()
    }
}

impl Guest {
    /// Starts QEMU with a guest. Returns its UART.
    ///
    /// QEMU's device tree tells of SMMU 0 only. An image's command line tells of the others, one
    /// `smmu=ADDRESS,eventq=INTID,gerror=INTID,ids=FIRST-LAST` each, where the IDs are those of PCI.
    ///
    /// # Errors
    ///
    /// The machine is impossible, or QEMU does not start.
    pub fn qemu(qemu: &QemuBinary, config: &GuestConfig) -> Result<(Self, UnixStream), QemuError> {
        let plan = MachinePlan::new(&config.machine)?;
        let mut command = Command::new(qemu.path());
        let level = if config.level == GuestLevel::El2 { ",virtualization=on" } else { "" };
        let machine = format!("virt,gic-version=3{level}");
        let hardware = |command: &mut Command| {
            command.args(["-nodefaults", "-display", "none", "-m", "512M", "-cpu", &config.cpu]);
            command.args(["-smp", &config.cpus.to_string()]).args(&plan.arguments);
        };
        hardware(&mut command);
        command.args(["-M", &machine, "-no-reboot"]);
        command.args(["-chardev", "socket,id=uart,fd=0", "-serial", "chardev:uart"]);
        // The guest tells its exit status so.
        command.args(["-semihosting-config", "enable=on,target=native"]);
        command.args(["-run-with", "exit-with-parent=on"]);
        let mut tree = None;
        match &config.program {
            GuestProgram::Image(image) => {
                command.arg("-kernel").arg(image);
                let further = further_smmus(&plan);
                if !further.is_empty() {
                    command.args(["-append", &further]);
                }
            }
            GuestProgram::Linux { kernel, initramfs, options } => {
                command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
                command.args(["-append", options]);
                if plan.buses.len() > 1 {
                    let mut ask = Command::new(qemu.path());
                    hardware(&mut ask);
                    let file = TreeFile::make(ask, &machine, &plan.buses)?;
                    command.arg("-dtb").arg(file.path());
                    tree = Some(file);
                }
            }
        }
        let (mut guest, uart) = Self::start(command, qemu.path())?;
        guest._tree = tree;
        Ok((guest, uart))
    }

    /// Starts a command of the shell whose standard input and output are a UART.
    ///
    /// # Errors
    ///
    /// The shell does not start.
    pub fn command(text: &str) -> Result<(Self, UnixStream), QemuError> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", text]);
        Self::start(command, Path::new("/bin/sh"))
    }

    fn start(mut command: Command, path: &Path) -> Result<(Self, UnixStream), QemuError> {
        let pair = UnixStream::pair().map_err(QemuError::system("make a pair of sockets"))?;
        let (ours, theirs) = pair;
        let output = theirs.try_clone().map_err(QemuError::system("copy a socket"))?;
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        command.stdout(Stdio::from(OwnedFd::from(output)));
        let process = Process::spawn(command, path, None)?;
        Ok((Guest { process, _tree: None }, ours))
    }

    /// How the program ended, and the end of its standard error, if it ends within `limit`.
    #[must_use]
    pub fn ending(&self, limit: Duration) -> Option<(String, String)> {
        self.process.ending(limit)
    }

    /// The id of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn further_smmus(plan: &MachinePlan) -> String {
    let each = plan.buses.iter().enumerate().skip(1).map(|(smmu, (first, last))| {
        let base = SMMU_BASE + SMMU_SPACING * smmu as u64;
        let eventq = FIRST_INTID + INTIDS_PER_SMMU * smmu as u32;
        let gerror = eventq + GERROR;
        let (first, last) = (first << 8, last << 8 | 0xff);
        format!("smmu={base:#x},eventq={eventq},gerror={gerror},ids={first:#x}-{last:#x}")
    });
    each.collect::<Vec<_>>().join(" ")
}

/// Opens a serial device as a UART: raw, 115200 baud, 8 data bits, no parity, one stop bit. A read
/// without data returns 0 bytes after 100 ms.
///
/// # Errors
///
/// The device cannot be opened, or is no serial device.
pub fn open_uart(path: &Path) -> io::Result<File> {
    // Without `NONBLOCK`, the open of a modem line waits for a carrier.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let uart = rustix::fs::open(path, flags, Mode::empty())?;
    let mut settings = rustix::termios::tcgetattr(&uart)?;
    settings.make_raw();
    settings.control_modes -= ControlModes::CSTOPB | ControlModes::CRTSCTS | ControlModes::HUPCL;
    settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    settings.set_speed(BAUD)?;
    settings.special_codes[SpecialCodeIndex::VMIN] = 0;
    settings.special_codes[SpecialCodeIndex::VTIME] = 1;
    rustix::termios::tcsetattr(&uart, OptionalActions::Flush, &settings)?;
    let flags = rustix::fs::fcntl_getfl(&uart)?;
    rustix::fs::fcntl_setfl(&uart, flags - OFlags::NONBLOCK)?;
    Ok(File::from(uart))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceConfig, DeviceKind, QemuSmmuConfig};

    #[test]
    fn the_command_line_tells_of_further_smmus() {
        let device = |smmu, stream_id| DeviceConfig { smmu, stream_id, kind: DeviceKind::TestDev };
        let config = MachineConfig {
            smmus: vec![QemuSmmuConfig::default(); 3],
            devices: vec![device(0, 0x8), device(1, 0x900), device(2, 0xd00)],
            ..MachineConfig::default()
        };
        let plan = MachinePlan::new(&config).unwrap();
        assert_eq!(
            further_smmus(&plan),
            "smmu=0xc020000,eventq=148,gerror=151,ids=0x800-0x9ff \
             smmu=0xc040000,eventq=152,gerror=155,ids=0xc00-0xdff"
        );
    }

    #[test]
    fn a_file_is_no_uart() {
        assert!(open_uart(Path::new("/dev/null")).is_err());
        assert!(open_uart(Path::new("/no/such/device")).is_err());
    }
}
