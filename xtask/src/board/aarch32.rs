//! The image of `harness/aarch32`: the driver on a 32-bit CPU, which QEMU boots beside its SMMU.
//!
//! No compiler comes with `core` for the target, so each build has its own, from the source of the
//! library.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::compiler::{BareCompiler, Room};
use crate::error::Error;
use crate::process::{say, watch};
use crate::workspace::Workspace;

/// The package, from the workspace's root. It is a workspace of its own.
const PACKAGE: &str = "harness/aarch32";
const NAME: &str = "aarch32";
const ROOM: Room = Room(NAME);
/// Without floating point, and with the 64-bit atomics of Armv7.
pub(crate) const TARGET: &str = "armv7a-none-eabi";

/// Builds the image, and writes it to the folder of the boards.
pub(crate) fn build(workspace: &Workspace, compiler: &BareCompiler) -> Result<PathBuf, Error> {
    say(format_args!("building {NAME}, with core and alloc for {TARGET}"));
    let mut build = compiler.cargo_in(ROOM, workspace);
    build.arg("build");
    let status = watch(with_core(&mut build, workspace))?;
    if !status.success() {
        let program = format!("cargo build of {NAME}");
        return Err(Error::Failed { program, status, output: String::new() });
    }
    let built = compiler.folder_of(ROOM, TARGET, "release").join(NAME);
    let path = workspace.board_folder().join(format!("{NAME}.elf"));
    fs::copy(&built, &path).map_err(Error::io("write", &path))?;
    Ok(path)
}

/// Runs clippy over the package.
pub(crate) fn clippy(workspace: &Workspace, compiler: &BareCompiler) -> Result<(), Error> {
    say(format_args!("clippy: {PACKAGE}"));
    let mut clippy = compiler.clippy_in(ROOM, workspace)?;
    with_core(&mut clippy, workspace).args(["--quiet", "--", "-D", "warnings"]);
    if watch(&mut clippy)?.success() {
        return Ok(());
    }
    Err(Error::Clippy { what: PACKAGE.to_owned() })
}

fn with_core<'c>(command: &'c mut Command, workspace: &Workspace) -> &'c mut Command {
    command
        .current_dir(workspace.root.join(PACKAGE))
        .args(["--release", "--locked", "--target", TARGET])
        // Building the standard library is unstable, so this build is.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_UNSTABLE_BUILD_STD", "core,alloc")
}
