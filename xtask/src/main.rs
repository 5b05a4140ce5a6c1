//! Development tasks of the workspace, run as `cargo xtask`.
//!
//! `cargo xtask test` fetches what the suite needs into the target folder and runs the
//! whole suite; `cargo xtask qemu` does only the part that provides QEMU. `cargo xtask fuzz`
//! and `cargo xtask bench` are apart, as they need more than a stable toolchain.
//! `cargo xtask help` says the rest.

mod apt;
mod args;
mod bench;
mod error;
mod fetch;
mod fuzz;
mod process;
mod qemu;
mod report;
mod steps;
mod tools;
mod unpack;
mod workspace;

use std::process::ExitCode;

use args::{Command, QemuOutput};
use error::Error;
use process::{print, say};
use workspace::Workspace;

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            say(format_args!("error: {error}\n\n{}", args::USAGE));
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("error: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Help => print(args::USAGE),
        Command::Qemu(output) => {
            let found = qemu::provide(&Workspace::find()?)?;
            match output {
                QemuOutput::PathOnly => print(found.path.display()),
                QemuOutput::Human => print(&found),
            }
        }
        Command::Fuzz(options) => {
            let report = fuzz::run(&Workspace::find()?, &options)?;
            print(&report);
            if report.failed() {
                return Ok(ExitCode::from(FAILED));
            }
        }
        Command::Bench(kept) => {
            let report = bench::run(&Workspace::find()?, kept)?;
            print(&report);
            if report.failed() {
                return Ok(ExitCode::from(FAILED));
            }
        }
        Command::Test(options) => {
            let report = steps::run(&Workspace::find()?, &options);
            print(&report);
            if report.failed() {
                return Ok(ExitCode::from(FAILED));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
