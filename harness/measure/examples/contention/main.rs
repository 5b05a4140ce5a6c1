//! Simulates cores that contend for a command queue. The tables say how far each way to push scales.
//!
//!     cargo run --release -p smmu-measure --example contention
//!
//! `--help` lists the options. With `--calibrate` it measures two threads of this machine on the
//! real queue, and says how far off the simulation is.

mod calibrate;
mod machine;
mod options;
mod report;
mod simulate;
mod smmu;
mod strategies;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::process::ExitCode;

use options::{Mode, Options};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("contention: {error}");
            return ExitCode::from(2);
        }
    };
    match text(&options) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("contention: {error}");
            ExitCode::FAILURE
        }
    }
}

fn text(options: &Options) -> Result<String, Box<dyn Error>> {
    Ok(match options.mode {
        Mode::Help => report::HELP.to_owned(),
        Mode::Tables => report::tables(options)?,
        Mode::Calibrate => calibrate::calibrate(options)?,
    })
}
