//! `--backend` and `--qemu`: where scenarios run.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use smmu_engine::machine::{Backend, BackendError};

use super::exit::Exit;
use super::foreign;
use crate::backend::{Mock, Qemu};

/// Where scenarios run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BackendName {
    /// The built-in model, which needs no installation.
    Mock,
    /// QEMU's SMMUv3.
    Qemu,
    /// One of another program.
    Foreign(&'static str),
}

impl BackendName {
    /// Parses a name.
    pub(super) fn parser() -> impl TypedValueParser<Value = BackendName> {
        const BUILT_IN: &[(&str, &str, BackendName)] = &[
            ("mock", "The built-in model, which needs no installation", BackendName::Mock),
            ("qemu", "QEMU's SMMUv3", BackendName::Qemu),
        ];
        foreign::name_parser(BUILT_IN, BackendName::Foreign)
    }
}

/// A foreign backend.
pub(super) fn foreign_backend(name: &str) -> Result<&'static dyn Backend, BackendError> {
    foreign::named(name)
        .ok_or_else(|| BackendError::Unavailable(format!("there is no backend \"{name}\"")))
}

#[derive(Debug, clap::Args)]
pub(super) struct BackendArgs {
    /// The backend that runs.
    #[arg(long, value_name = "BACKEND", value_parser = BackendName::parser(), default_value = "mock")]
    pub(super) backend: BackendName,
    /// The QEMU to use. Default: SMMU_QEMU, then what `cargo xtask qemu` unpacked, then PATH.
    #[arg(long, value_name = "PATH")]
    pub(super) qemu: Option<PathBuf>,
}

impl BackendArgs {
    pub(super) fn open(&self) -> Result<Box<dyn Backend>, Exit> {
        if self.qemu.is_some() && self.backend != BackendName::Qemu {
            return Err(Exit::Usage("--qemu needs --backend qemu".into()));
        }
        Ok(match self.backend {
            BackendName::Mock => Box::new(Mock),
            BackendName::Qemu => Box::new(Qemu::find(self.qemu.as_deref())?),
            BackendName::Foreign(name) => Box::new(foreign_backend(name)?),
        })
    }
}
