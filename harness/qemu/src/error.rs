//! The errors of finding, starting and driving QEMU.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::plan::{ConfigError, DeviceKind};

/// Any failure of finding, starting or driving QEMU.
///
/// `Clone`, because a failed channel returns the same error to every later call.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QemuError {
    /// No QEMU is found.
    #[error(
        "no QEMU found (searched {looked}); run `cargo xtask qemu`, or name one with \
         --qemu or SMMU_QEMU"
    )]
    NotFound {
        /// The places searched, in order.
        looked: String,
    },
    /// The chosen file is not suitable.
    #[error("{origin} {} {problem}; run `cargo xtask qemu`, or name another with --qemu or SMMU_QEMU", path.display())]
    BadBinary {
        /// What chose this file.
        origin: Origin,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: BinaryProblem,
    },
    /// The chosen QEMU runs, but lacks a feature.
    #[error(
        "QEMU {version} at {} lacks {}; run `cargo xtask qemu`, or name a fuller build with \
         --qemu or SMMU_QEMU",
        path.display(), listed(missing)
    )]
    Unfit {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: String,
        /// All missing features.
        missing: Vec<Missing>,
    },
    /// The configuration of the machine is impossible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    System {
        /// The action.
        what: &'static str,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// The program does not start.
    #[error("cannot start {}: {source}", path.display())]
    Spawn {
        /// The program.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// QEMU ended.
    #[error("QEMU ended ({status}) during `{doing}`; {}", said(stderr))]
    Exited {
        /// The command or action under way.
        doing: String,
        /// Its exit status.
        status: String,
        /// The end of its standard error.
        stderr: String,
    },
    /// A channel broke, and QEMU still runs.
    #[error("the {channel} channel to QEMU broke during `{doing}`: {source}; {}", said(stderr))]
    Channel {
        /// Which channel.
        channel: Channel,
        /// The command or action under way.
        doing: String,
        /// The system's error.
        source: Arc<io::Error>,
        /// The end of QEMU's standard error.
        stderr: String,
    },
    /// QEMU did not answer in time.
    #[error(
        "QEMU did not answer `{doing}` on the {channel} channel within {limit:?}; {}",
        said(stderr)
    )]
    Timeout {
        /// Which channel.
        channel: Channel,
        /// The command or action under way.
        doing: String,
        /// The time limit.
        limit: Duration,
        /// The end of QEMU's standard error.
        stderr: String,
    },
    /// QEMU sent a line that the protocol does not have.
    #[error(
        "QEMU answered `{doing}` on the {channel} channel with {line:?}, which the protocol does not have"
    )]
    Protocol {
        /// Which channel.
        channel: Channel,
        /// The command or action under way.
        doing: String,
        /// The line, shortened.
        line: String,
    },
    /// QEMU refused a qtest command; the channel stays usable.
    #[error("QEMU refused the qtest command `{command}`: {text}")]
    QtestRefused {
        /// The command.
        command: String,
        /// QEMU's message.
        text: String,
    },
    /// QEMU refused a QMP command; the channel stays usable.
    #[error("QEMU refused the QMP command `{command}` ({class}): {text}")]
    QmpRefused {
        /// The command.
        command: String,
        /// QEMU's class of the error.
        class: String,
        /// QEMU's message.
        text: String,
    },
    /// The machine does not show its interrupt controller.
    #[error(
        "QEMU's machine shows no arm-gicv3 under /machine/unattached, so interrupts cannot be seen"
    )]
    NoGic,
    /// A PCI function is not at its configured place.
    #[error(
        "DMA device {device} (StreamID {stream_id:#x}) is not at its place: its configuration \
         space reads {found:#010x} instead of {expected:#010x}"
    )]
    DeviceAbsent {
        /// Index of the device.
        device: usize,
        /// Its StreamID.
        stream_id: u32,
        /// Vendor and device id read.
        found: u32,
        /// Vendor and device id of this kind.
        expected: u32,
    },
    /// The machine has no DMA device of this index.
    #[error("no DMA device {device}; this machine has {count} (from 0)")]
    NoSuchDevice {
        /// The index given.
        device: usize,
        /// How many there are.
        count: usize,
    },
    /// A device of this kind cannot do this.
    #[error("DMA device {device} is of kind {kind}, which cannot {action}")]
    WrongKind {
        /// Index of the device.
        device: usize,
        /// Its kind.
        kind: DeviceKind,
        /// The requested action.
        action: &'static str,
    },
    /// The device cannot do a DMA of this length.
    #[error(
        "a DMA of {length} bytes is impossible; `edu` moves 4 to 4096 bytes, in multiples of 4"
    )]
    BadLength {
        /// The length given.
        length: u32,
    },
    /// The device did not finish.
    #[error(
        "DMA device {device} still shows its transfer running after {steps} virtual 100 ms steps"
    )]
    Stuck {
        /// Index of the device.
        device: usize,
        /// The number of steps waited.
        steps: u32,
    },
}

impl QemuError {
    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source: Arc::new(source) }
    }
}

/// What chose a QEMU program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The user, with `--qemu`.
    Explicit,
    /// The environment variable `SMMU_QEMU`.
    Environment,
    /// The target folder, where `cargo xtask qemu` unpacks one.
    TargetDir,
    /// `PATH`.
    SearchPath,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Explicit => "the QEMU named by --qemu,",
            Self::Environment => "the QEMU named by SMMU_QEMU,",
            Self::TargetDir => "the QEMU in the target folder,",
            Self::SearchPath => "the QEMU on PATH,",
        })
    }
}

/// Why a file is not a suitable QEMU.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BinaryProblem {
    /// The file does not exist.
    #[error("does not exist")]
    Absent,
    /// The path is a folder, a device, ...
    #[error("is not a file")]
    NotAFile,
    /// This process may not execute the file.
    #[error("is not executable")]
    NotExecutable,
    /// The system cannot run it.
    #[error("cannot be run: {0}")]
    CannotRun(Arc<io::Error>),
    /// It runs, and its version is not QEMU's.
    #[error("is not QEMU: `--version` printed {said:?}")]
    NotQemu {
        /// The first line of its output.
        said: String,
    },
    /// It does not answer in time.
    #[error("did not answer `--version` within {0:?}")]
    Silent(Duration),
}

/// A feature that a QEMU lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// The features of a newer version.
    Version {
        /// The oldest suitable major version.
        needed: u32,
    },
    /// The accelerator of this name.
    Accelerator(&'static str),
    /// The device of this name.
    Device(&'static str),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { needed } => write!(f, "the features of version {needed}"),
            Self::Accelerator(name) => write!(f, "accelerator `{name}`"),
            Self::Device(name) => write!(f, "device `{name}`"),
        }
    }
}

/// A channel to QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Channel {
    /// Accesses and clock steps.
    Qtest,
    /// The monitor.
    Qmp,
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qtest => "qtest",
            Self::Qmp => "QMP",
        })
    }
}

fn listed(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn said(stderr: &str) -> String {
    match stderr.trim() {
        "" => "it wrote nothing to standard error".to_owned(),
        text => format!("it wrote:\n{text}"),
    }
}
