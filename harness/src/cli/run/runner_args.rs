//! `--backend` of `run`, and what belongs to each: where scenarios run.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use smmu_engine::run::Runner;
use smmu_qemu::GuestLevel;

use crate::backend::{Board, BoardInQemu, BoardKind, Mock, Qemu, SILENCE};
use crate::cli::backend_args::foreign_backend;
use crate::cli::exit::Exit;
use crate::cli::foreign;

/// Where scenarios run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunnerName {
    /// The built-in model, which needs no installation.
    Mock,
    /// QEMU's SMMUv3.
    Qemu,
    /// A program on a CPU beside the SMMU: in QEMU, or at the other end of a UART.
    Board,
    /// A process of Linux on a CPU beside the SMMU, through /dev/mem: in QEMU, or at the other end of
    /// a UART.
    Devmem,
    /// A backend of another program.
    Foreign(&'static str),
}

impl RunnerName {
    /// Parses a name.
    fn parser() -> impl TypedValueParser<Value = RunnerName> {
        const BUILT_IN: &[(&str, &str, RunnerName)] = &[
            ("mock", "The built-in model, which needs no installation", RunnerName::Mock),
            ("qemu", "QEMU's SMMUv3", RunnerName::Qemu),
            (
                "board",
                "A program on a CPU beside the SMMU: in QEMU, or at the other end of a UART",
                RunnerName::Board,
            ),
            (
                "devmem",
                "A process of Linux on a CPU beside the SMMU, through /dev/mem: in QEMU, or at the other \
                 end of a UART",
                RunnerName::Devmem,
            ),
        ];
        foreign::name_parser(BUILT_IN, RunnerName::Foreign)
    }

    /// Whether it uses a QEMU.
    const fn has_qemu(self) -> bool {
        matches!(self, RunnerName::Qemu | RunnerName::Board | RunnerName::Devmem)
    }

    const fn is_board(self) -> bool {
        matches!(self, RunnerName::Board | RunnerName::Devmem)
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct RunnerArgs {
    /// The backend that runs. Two, such as `mock,qemu`, run one after the other, and the difference
    /// of their transcripts is printed side by side.
    #[arg(
        long,
        value_name = "BACKEND",
        value_parser = RunnerName::parser(),
        default_value = "mock",
        value_delimiter = ','
    )]
    backend: Vec<RunnerName>,
    /// The QEMU to use. Default: SMMU_QEMU, then what `cargo xtask qemu` unpacked, then PATH.
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
    /// Board: the image for QEMU. Devmem: the folder with `vmlinuz` and `initramfs.gz`. Default: what
    /// `cargo xtask board` and `cargo xtask board linux` have made.
    #[arg(long, value_name = "PATH", conflicts_with = "uart")]
    image: Option<PathBuf>,
    /// Board: a serial device below /dev, opened with 115200 8N1, or a command whose standard input
    /// and output are the UART.
    #[arg(long, value_name = "DEVICE|COMMAND")]
    uart: Option<String>,
    /// Board in QEMU: the number of CPUs. Default: 1.
    #[arg(long, value_name = "N", conflicts_with = "uart", value_parser = clap::value_parser!(u8).range(1..=8))]
    cpus: Option<u8>,
    /// Board in QEMU: the exception level at which the image starts. Default: 1.
    #[arg(long, value_name = "1|2", conflicts_with = "uart", value_parser = clap::value_parser!(u8).range(1..=2))]
    el: Option<u8>,
    /// Board in QEMU: the CPU. Default: cortex-a72.
    #[arg(long, value_name = "NAME", conflicts_with = "uart")]
    cpu: Option<String>,
    /// Board in QEMU: the number of SMMUs. Default: 1, and 3 if a scenario has several.
    #[arg(long, value_name = "N", conflicts_with = "uart", value_parser = clap::value_parser!(u8).range(1..=7))]
    smmus: Option<u8>,
    /// Board: the longest time without a line, in seconds. Default: 30.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    patience: Option<u16>,
}

impl RunnerArgs {
    /// Opens every backend that is named.
    pub(super) fn open(&self) -> Result<Vec<Box<dyn Runner>>, Exit> {
        let has = |wanted: fn(RunnerName) -> bool| self.backend.iter().any(|name| wanted(*name));
        if !has(RunnerName::is_board)
            && let Some(argument) = self.of_board()
        {
            return Err(Exit::Usage(format!("{argument} needs --backend board or devmem")));
        }
        if self.qemu.is_some() && (!has(RunnerName::has_qemu) || self.uart.is_some()) {
            let why = "--qemu needs --backend qemu, or board or devmem without --uart";
            return Err(Exit::Usage(why.into()));
        }
        match self.backend.as_slice() {
            [_] => {}
            [one, other] if one != other => {}
            _ => {
                return Err(Exit::Usage(
                    "--backend takes one backend, or two different ones".into(),
                ));
            }
        }
        self.backend.iter().map(|name| self.open_one(*name)).collect()
    }

    fn open_one(&self, name: RunnerName) -> Result<Box<dyn Runner>, Exit> {
        Ok(match name {
            RunnerName::Mock => Box::new(Mock),
            RunnerName::Qemu => Box::new(Qemu::find(self.qemu.as_deref())?),
            RunnerName::Board => Box::new(self.board(BoardKind::BareMetal)?),
            RunnerName::Devmem => Box::new(self.board(BoardKind::Process)?),
            RunnerName::Foreign(name) => Box::new(foreign_backend(name)?),
        })
    }

    fn board(&self, kind: BoardKind) -> Result<Board, Exit> {
        let silence = self.patience.map_or(SILENCE, |s| Duration::from_secs(s.into()));
        if let Some(uart) = &self.uart {
            return Ok(Board::at_uart(kind, uart, silence));
        }
        let defaults = BoardInQemu::default();
        let machine = BoardInQemu {
            cpus: self.cpus.unwrap_or(defaults.cpus),
            cpu: self.cpu.clone().unwrap_or(defaults.cpu),
            level: if self.el == Some(2) { GuestLevel::El2 } else { GuestLevel::El1 },
            smmus: self.smmus.map(usize::from),
        };
        let qemu = Qemu::find(self.qemu.as_deref())?.into_binary();
        let open = match kind {
            BoardKind::BareMetal => Board::in_qemu,
            BoardKind::Process => Board::linux_in_qemu,
        };
        Ok(open(qemu, self.image.clone(), machine, silence)?)
    }

    /// The first argument that only a board takes.
    fn of_board(&self) -> Option<&'static str> {
        let given = [
            ("--image", self.image.is_some()),
            ("--uart", self.uart.is_some()),
            ("--cpus", self.cpus.is_some()),
            ("--el", self.el.is_some()),
            ("--cpu", self.cpu.is_some()),
            ("--smmus", self.smmus.is_some()),
            ("--patience", self.patience.is_some()),
        ];
        given.into_iter().find_map(|(name, is_given)| is_given.then_some(name))
    }
}
