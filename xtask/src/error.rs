//! Errors of all tasks, each with its remedy.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot start `{program}`: {source}")]
    Start { program: String, source: io::Error },

    #[error("`{program}` ran longer than {seconds} s and was stopped")]
    TimedOut { program: String, seconds: u64 },

    #[error("`{program}` failed ({status}){output}")]
    Failed { program: String, status: std::process::ExitStatus, output: String },

    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error(
        "{task} needs the nightly toolchain, which is missing ({why}); \
         run `rustup toolchain install nightly`"
    )]
    NoNightly { task: &'static str, why: String },

    #[error(
        "{task} needs the source of the standard library, which the nightly toolchain lacks; \
         run `rustup component add rust-src --toolchain nightly`"
    )]
    NoStdSource { task: &'static str },

    #[error(
        "counting instructions needs valgrind, which is not on PATH; on Debian: apt install valgrind"
    )]
    NoValgrind,

    #[error("`cargo metadata` lists no package `{name}`; check that it is still a dependency")]
    NoPackage { name: &'static str },

    #[error("cannot read the results of the benchmarks: {what}")]
    Counts { what: String },

    #[error("git knows no revision `{name}`; name a commit, a branch or a tag")]
    NoRevision { name: String },

    #[error("{file}, line {line}: {why}")]
    AcceptedMutant { file: String, line: usize, why: &'static str },

    #[error("cannot read what cargo-mutants found: {}", path.display())]
    Outcomes { path: PathBuf },

    #[error("unknown fuzz target `{name}`; the targets are: {known}")]
    NoSuchTarget { name: String, known: String },

    #[error(
        "`cargo metadata` has no field {field}; run `cargo metadata --no-deps` to see its output"
    )]
    Metadata { field: &'static str },

    #[error(
        "SMMU_QEMU is {}, which is not suitable: {why}; unset it, or set it to a \
         qemu-system-aarch64 of version {} or later with the qtest accelerator",
        path.display(),
        crate::qemu_names::OLDEST_MAJOR
    )]
    NamedQemu { path: PathBuf, why: String },

    #[error("cannot unpack QEMU on this system ({why}); {}", crate::qemu_names::INSTALL_HINT)]
    NotDebian { why: String },

    #[error(
        "apt has no Debian mirror (component main over http or https) to fetch QEMU from; {}",
        crate::qemu_names::INSTALL_HINT
    )]
    NoMirror,

    #[error(
        "found no suitable QEMU to fetch:\n{tried}Check the network, or {}",
        crate::qemu_names::INSTALL_HINT
    )]
    NothingFetched { tried: String },

    #[error(
        "no compiler for {}: {why}; install one yourself: `rustup target add {}`",
        crate::bare_target::TARGET,
        crate::bare_target::TARGET
    )]
    NoBareCompiler { why: String },

    #[error(
        "the compiler for {} has no clippy: {why}; run `rustup component add clippy`",
        crate::bare_target::TARGET
    )]
    NoBareClippy { why: String },

    #[error("clippy finds faults in {what}; they are above")]
    Clippy { what: String },

    #[error("unpacked {name}, but this compiler is not suitable: {why}")]
    UnpackedCompiler { name: String, why: String },

    #[error("clippy fails for {name} with features [{features}] on bare metal ({status})")]
    Library { name: String, features: String, status: std::process::ExitStatus },

    #[error("no images to build: {} is missing", manifest.display())]
    NoBoardPackage { manifest: PathBuf },

    #[error(
        "harness/board has a binary `{name}` whose largest size is unknown; add it to the table in xtask/src/board/images.rs"
    )]
    UnknownImage { name: String },

    #[error("harness/board has no binary `{name}`")]
    NoImage { name: &'static str },

    #[error("cannot use {}: {why}", path.display())]
    BrokenImage { path: PathBuf, why: String },

    #[error("too many barriers in {}: {why}", path.display())]
    Barriers { path: PathBuf, why: String },

    #[error(
        "`{name}` is too large: {bytes} bytes are loaded, {limit} are allowed ({}); \
         make it smaller, or raise the limit in xtask/src/board/images.rs",
        path.display()
    )]
    LargeImage { name: &'static str, bytes: u64, limit: u64, path: PathBuf },

    #[error(
        "no Linux kernel for arm64: {why}; it comes from Debian, by apt and dpkg of a Debian machine"
    )]
    NoKernel { why: String },

    #[error("{name} did not pass in QEMU: {why}; its console is above")]
    Boot { name: &'static str, why: String },

    #[error("unpacked {package_version}, but this QEMU is not suitable: {why}")]
    Unpacked { package_version: String, why: String },
}

impl Error {
    /// Adds the action and the path to an I/O error.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
