//! `cargo xtask board`: a compiler for bare metal, images for boards, and a Linux to test on.

mod aarch32;
mod barriers;
mod boot;
mod elf;
mod images;
mod initramfs;
mod kernel;
mod kilobytes;
mod linux;

use std::path::{Path, PathBuf};

pub(crate) use aarch32::{build as build_aarch32, clippy as clippy_of_aarch32};
pub(crate) use images::{build as build_images, clippy, require as require_package};

use crate::args::{BoardOptions, BoardPart, Boot};
use crate::bare_target::TARGET;
use crate::compiler::{self, BareCompiler};
use crate::error::Error;
use crate::process::{print, say, watch};
use crate::qemu;
use crate::workspace::Workspace;
use boot::{BootReport, RatesRun};
use images::Image;
use linux::LinuxSystem;

/// Does what the command line asks for, and prints the results.
pub(crate) fn run(workspace: &Workspace, options: &BoardOptions) -> Result<(), Error> {
    match &options.part {
        BoardPart::Compiler => print(compiler::provide(workspace)?),
        BoardPart::Libraries => {
            let compiler = provide(workspace)?;
            let count = check_libraries(workspace, &compiler)?;
            print(format_args!("{count} checks for {TARGET}"));
        }
        BoardPart::Clippy => {
            require_package(workspace)?;
            let compiler = provide(workspace)?;
            let count = clippy(workspace, &compiler)?;
            aarch32::clippy(workspace, &compiler)?;
            print(format_args!("{count} runs of clippy for {TARGET}, one for {}", aarch32::TARGET));
        }
        BoardPart::Images => {
            require_package(workspace)?;
            let images = build_images(workspace, &provide(workspace)?)?;
            for image in &images {
                print(image);
            }
            for counted in check_barriers(&images)? {
                print(counted);
            }
            if options.boot == Boot::Yes {
                print(boot_tour(workspace, &images)?);
            }
        }
        BoardPart::Aarch32 => {
            let image = aarch32::build(workspace, &provide(workspace)?)?;
            print(format_args!("aarch32\n  ELF    {}", image.display()));
            if options.boot == Boot::Yes {
                print(boot::aarch32(&qemu::provide(workspace)?, &image)?);
            }
        }
        BoardPart::Rates(cpus) => {
            require_package(workspace)?;
            let rates = images::build_one(workspace, &provide(workspace)?, images::RATES)?;
            print(boot::rates(&qemu::provide(workspace)?, &rates, *cpus, RatesRun::Whole)?);
        }
        BoardPart::Linux(Some(program)) => {
            let system = linux::make(workspace, program)?;
            print(&system);
            if options.boot == Boot::Yes {
                print(boot::linux(&qemu::provide(workspace)?, &system)?);
            }
        }
        BoardPart::Linux(None) => {
            require_package(workspace)?;
            let images = build_images(workspace, &provide(workspace)?)?;
            let system = make_linux(workspace, &images)?;
            print(&system);
            if options.boot == Boot::Yes {
                print(check_linux(workspace, &system)?);
            }
        }
    }
    Ok(())
}

/// Makes the Linux that runs the image `linux`.
pub(crate) fn make_linux(workspace: &Workspace, images: &[Image]) -> Result<LinuxSystem, Error> {
    linux::make(workspace, &images::find(images, images::LINUX)?.path)
}

/// Runs the tests of the image `linux` in its Linux.
pub(crate) fn check_linux(
    workspace: &Workspace,
    system: &LinuxSystem,
) -> Result<BootReport, Error> {
    boot::check_linux(&qemu::provide(workspace)?, system)
}

/// Counts what orders memory in the hot paths of the image that is built for speed.
pub(crate) fn check_barriers(images: &[Image]) -> Result<Vec<barriers::Counted>, Error> {
    let path = &images::find(images, images::RATES)?.path;
    let file = std::fs::read(path).map_err(Error::io("read", path))?;
    barriers::check(&file).map_err(|why| Error::Barriers { path: path.clone(), why })
}

/// Boots the image that shows the driver on a machine with one SMMU.
pub(crate) fn boot_tour(workspace: &Workspace, images: &[Image]) -> Result<BootReport, Error> {
    let tour = images::find(images, images::TOUR)?;
    let qemu = qemu::provide(workspace)?;
    boot::tour(&qemu, tour, &workspace.board_folder())
}

/// Boots the image that measures rates, for a moment: it works, and its figures count for nothing.
pub(crate) fn boot_rates(workspace: &Workspace, images: &[Image]) -> Result<BootReport, Error> {
    let rates = images::find(images, images::RATES)?;
    boot::rates(&qemu::provide(workspace)?, rates, 4, RatesRun::Short)
}

/// Boots the image for a 32-bit CPU, beside an SMMU and a test device.
pub(crate) fn boot_aarch32(workspace: &Workspace, image: &Path) -> Result<BootReport, Error> {
    boot::aarch32(&qemu::provide(workspace)?, image)
}

/// Where the image lies that runs scenarios, if it is among these.
pub(crate) fn path_of_scenarios(images: &[Image]) -> Option<PathBuf> {
    images::find(images, images::SCENARIOS).ok().map(|image| image.path.clone())
}

fn provide(workspace: &Workspace) -> Result<BareCompiler, Error> {
    let compiler = compiler::provide(workspace)?;
    say(&compiler);
    Ok(compiler)
}

/// Runs clippy over each `no_std` library with every feature that claims to need no `std`, and returns
/// the number of checks.
pub(crate) fn check_libraries(
    workspace: &Workspace,
    compiler: &BareCompiler,
) -> Result<usize, Error> {
    let mut count = 0;
    for library in workspace.crates.iter().filter(|library| library.no_std) {
        // One at a time: together they would share features, and so the standard library.
        for features in library.no_std_feature_sets() {
            say(format_args!("{} {features}", library.name));
            let mut check = compiler.clippy(workspace)?;
            check.args(["--quiet", "--locked", "--lib", "--target", TARGET]);
            check.args(["--package", &library.name]);
            check.args(["--no-default-features", "--features", &features]);
            let status = watch(check.args(["--", "-D", "warnings"]))?;
            if !status.success() {
                return Err(Error::Library { name: library.name.clone(), features, status });
            }
            count += 1;
        }
    }
    Ok(count)
}
