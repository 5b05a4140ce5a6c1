//! What can go wrong between this process and QEMU.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::plan::{ConfigError, DeviceKind};

/// Any failure of finding, starting or driving QEMU.
///
/// Cloneable, because a channel that failed once answers every later call with the
/// same error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QemuError {
    /// There is no QEMU anywhere we look.
    #[error(
        "no QEMU found (looked at {looked}); run `cargo xtask qemu`, or name one with \
         --qemu or SMMU_QEMU"
    )]
    NotFound {
        /// The places looked at, in order.
        looked: String,
    },
    /// The chosen file cannot serve.
    #[error("{origin} {} {problem}; run `cargo xtask qemu`, or name another with --qemu or SMMU_QEMU", path.display())]
    BadBinary {
        /// Who chose this file.
        origin: Origin,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: BinaryProblem,
    },
    /// The chosen QEMU works, but lacks something that is needed.
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
        /// All that is missing.
        missing: Vec<Missing>,
    },
    /// The machine asked for is impossible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system refused something this process needs.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// The program could not be started.
    #[error("cannot start {}: {source}", path.display())]
    Spawn {
        /// The program.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// QEMU ended by itself.
    #[error("QEMU ended ({status}) during `{doing}`; {}", said(stderr))]
    Exited {
        /// What was being done.
        doing: String,
        /// Its exit status.
        status: String,
        /// The last it wrote to standard error.
        stderr: String,
    },
    /// A channel to a living QEMU broke.
    #[error("the {channel} channel to QEMU broke during `{doing}`: {source}; {}", said(stderr))]
    Channel {
        /// Which channel.
        channel: Channel,
        /// What was being done.
        doing: String,
        /// The system's answer.
        source: Arc<io::Error>,
        /// The last QEMU wrote to standard error.
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
        /// What was being done.
        doing: String,
        /// The time it had.
        limit: Duration,
        /// The last QEMU wrote to standard error.
        stderr: String,
    },
    /// QEMU said something that the protocol does not know.
    #[error(
        "QEMU answered `{doing}` on the {channel} channel with {line:?}, which is not understood"
    )]
    Protocol {
        /// Which channel.
        channel: Channel,
        /// What was being done.
        doing: String,
        /// Its words, shortened.
        line: String,
    },
    /// QEMU refused a qtest command; the channel stays usable.
    #[error("QEMU refused the qtest command `{command}`: {text}")]
    QtestRefused {
        /// The command.
        command: String,
        /// Its words.
        text: String,
    },
    /// QEMU refused a QMP command; the channel stays usable.
    #[error("QEMU refused the QMP command `{command}` ({class}): {text}")]
    QmpRefused {
        /// The command.
        command: String,
        /// QEMU's class of the error.
        class: String,
        /// Its words.
        text: String,
    },
    /// The machine has no interrupt controller of the kind asked for.
    #[error(
        "QEMU's machine shows no arm-gicv3 under /machine/unattached, so interrupts cannot be seen"
    )]
    NoGic,
    /// A PCI function is not where it was asked to be.
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
    /// There is no DMA device of this index.
    #[error("there is no DMA device {device}; this machine has {count}")]
    NoSuchDevice {
        /// The index given.
        device: usize,
        /// How many there are.
        count: usize,
    },
    /// The device cannot do this.
    #[error("DMA device {device} is of kind {kind}, which cannot {action}")]
    WrongKind {
        /// Index of the device.
        device: usize,
        /// Its kind.
        kind: DeviceKind,
        /// What was asked of it.
        action: &'static str,
    },
    /// A DMA length the device cannot do.
    #[error(
        "a DMA of {length} bytes is impossible; `edu` moves 4 to 4096 bytes, in multiples of 4"
    )]
    BadLength {
        /// The length given.
        length: u32,
    },
    /// The device never finished.
    #[error(
        "DMA device {device} still shows its transfer running after {steps} virtual 100 ms steps"
    )]
    Stuck {
        /// Index of the device.
        device: usize,
        /// How many steps it had.
        steps: u32,
    },
}

impl QemuError {
    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source: Arc::new(source) }
    }
}

/// Who chose a QEMU program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The user, with `--qemu`.
    Explicit,
    /// The environment variable `SMMU_QEMU`.
    Environment,
    /// It lies where `cargo xtask qemu` unpacks one.
    TargetDir,
    /// It is on `PATH`.
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

/// Why a file cannot be used as QEMU.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BinaryProblem {
    /// No such file.
    #[error("does not exist")]
    Absent,
    /// A folder, a device, ...
    #[error("is not a file")]
    NotAFile,
    /// Execution is not permitted.
    #[error("is not executable")]
    NotExecutable,
    /// The system will not run it.
    #[error("cannot be run: {0}")]
    CannotRun(Arc<io::Error>),
    /// It ran, and did not say that it is QEMU.
    #[error("is not QEMU: `--version` printed {said:?}")]
    NotQemu {
        /// The first line of its output.
        said: String,
    },
    /// It did not come back.
    #[error("did not answer `--version` within {0:?}")]
    Silent(Duration),
}

/// Something a QEMU lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// It is older than the first version that can serve.
    Version {
        /// The oldest major version that can.
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
            Self::Version { needed } => write!(f, "what came with version {needed}"),
            Self::Accelerator(name) => write!(f, "accelerator `{name}`"),
            Self::Device(name) => write!(f, "device `{name}`"),
        }
    }
}

/// A way of talking to QEMU.
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
