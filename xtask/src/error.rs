//! What can go wrong, and what to do then.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot start `{program}`: {source}")]
    Start { program: String, source: io::Error },

    #[error("`{program}` did not end within {seconds} s and was stopped")]
    TimedOut { program: String, seconds: u64 },

    #[error("`{program}` failed ({status}){output}")]
    Failed { program: String, status: std::process::ExitStatus, output: String },

    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error(
        "fuzzing needs the nightly toolchain, for its sanitizers, and it is not here ({why}); \
         `rustup toolchain install nightly` brings it"
    )]
    NoNightly { why: String },

    #[error(
        "instructions are counted by valgrind, and it is not on PATH; on Debian: apt install valgrind"
    )]
    NoValgrind,

    #[error("`cargo metadata` names no package `{name}`; is it a dependency still?")]
    NoPackage { name: &'static str },

    #[error("the benchmarks came in an unknown form: {what}")]
    Counts { what: String },

    #[error("there is no fuzz target `{name}`; there are: {known}")]
    NoSuchTarget { name: String, known: String },

    #[error("`cargo metadata` names no {field}; run `cargo metadata --no-deps` to see its answer")]
    Metadata { field: &'static str },

    #[error(
        "SMMU_QEMU names {}, which cannot be used: {why}; unset it, or name a \
         qemu-system-aarch64 of version {} or later with the qtest accelerator",
        path.display(),
        crate::qemu::OLDEST_MAJOR
    )]
    NamedQemu { path: PathBuf, why: String },

    #[error("QEMU cannot be unpacked on this system ({why}); {}", crate::qemu::INSTALL_HINT)]
    NotDebian { why: String },

    #[error(
        "apt is not set up with a Debian mirror (component main over http or https), so \
         there is nowhere to fetch QEMU from; {}",
        crate::qemu::INSTALL_HINT
    )]
    NoMirror,

    #[error(
        "no suitable QEMU could be fetched:\n{tried}Check the network, or {}",
        crate::qemu::INSTALL_HINT
    )]
    NothingFetched { tried: String },

    #[error("the packages of {package_version} were unpacked, but QEMU cannot be used: {why}")]
    Unpacked { package_version: String, why: String },
}

impl Error {
    /// Names the action and the path of an I/O error.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
