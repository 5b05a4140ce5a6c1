//! Development tasks of the workspace, run as `cargo xtask`.
//!
//! `cargo xtask test` fetches what the suite needs into the target folder and runs the whole suite.
//! `cargo xtask qemu` only provides QEMU, and `cargo xtask board` what boards need. `cargo xtask fuzz`, `cargo xtask tsan` and `cargo xtask
//! bench` are separate, because they need more than a stable toolchain. `cargo xtask help` lists all options.

mod accepted_mutants;
mod apt;
mod args;
mod aside;
mod bare_target;
mod bench;
mod board;
mod compiler;
mod debian;
mod debian_compiler;
mod error;
mod fetch;
mod fuzz;
mod link_probe;
mod mutants;
mod nightly;
mod output;
mod process;
mod qemu;
mod qemu_names;
mod qemu_probe;
mod report;
mod steps;
mod tools;
mod tsan;
mod unpack;
mod workspace;

use std::process::ExitCode;

use args::{QemuOutput, Task};
use error::Error;
use mutants::MutantRun;
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

fn run(command: Task) -> Result<ExitCode, Error> {
    match command {
        Task::Help => print(args::USAGE),
        Task::Qemu(output) => {
            let found = qemu::provide(&Workspace::find()?)?;
            match output {
                QemuOutput::PathOnly => print(found.path.display()),
                QemuOutput::Human => print(&found),
            }
        }
        Task::Fuzz(options) => {
            let report = fuzz::run(&Workspace::find()?, &options)?;
            print(&report);
            if report.failed() {
                return Ok(ExitCode::from(FAILED));
            }
        }
        Task::Mutants(options) => {
            // No limit, so the run is complete.
            let run = mutants::run(&Workspace::find()?, &options, usize::MAX)?;
            if let MutantRun::Complete(report) = run {
                print(&report);
                if report.failed() {
                    return Ok(ExitCode::from(FAILED));
                }
            }
        }
        Task::Tsan => {
            let report = tsan::run(&Workspace::find()?)?;
            print(&report);
            if report.failed() {
                return Ok(ExitCode::from(FAILED));
            }
        }
        Task::Bench(kept) => {
            let report = bench::run(&Workspace::find()?, kept)?;
            print(&report);
            if report.failed() {
                return Ok(ExitCode::from(FAILED));
            }
        }
        Task::Board(options) => board::run(&Workspace::find()?, &options)?,
        Task::Test(options) => {
            let report = steps::run(&Workspace::find()?, &options);
            print(&report);
            if report.failed() {
                return Ok(ExitCode::from(FAILED));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
