//! `--backend` and `--qemu`: where scenarios run.

use std::path::PathBuf;

use clap::ValueEnum;
use smmu_engine::machine::Backend;

use super::exit::Exit;
use crate::backend::{Mock, Qemu};

/// Where scenarios run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum BackendName {
    /// The built-in model, which needs no installation.
    Mock,
    /// QEMU's SMMUv3.
    Qemu,
}

#[derive(Debug, clap::Args)]
pub(super) struct BackendArgs {
    /// The backend that runs.
    #[arg(long, value_enum, default_value_t = BackendName::Mock)]
    pub(super) backend: BackendName,
    /// The QEMU to use. Default: SMMU_QEMU, then what `cargo xtask qemu` unpacked, then PATH.
    #[arg(long, value_name = "PATH")]
    pub(super) qemu: Option<PathBuf>,
}

impl BackendArgs {
    pub(super) fn open(&self) -> Result<Box<dyn Backend>, Exit> {
        match self.backend {
            BackendName::Mock if self.qemu.is_some() => {
                Err(Exit::Usage("--qemu needs --backend qemu".into()))
            }
            BackendName::Mock => Ok(Box::new(Mock)),
            BackendName::Qemu => {
                Ok(Box::new(Qemu::find(self.qemu.as_deref()).map_err(Exit::from)?))
            }
        }
    }
}
