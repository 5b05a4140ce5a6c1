//! The command line.
//!
//! Results go to standard output, progress and errors to standard error. Exit status: 0 passed, 1 a scenario
//! failed, 2 wrong usage or a wrong scenario file, 3 backend not available, 4 timed out.

mod decode;
mod explain;
mod list;
mod probe;
mod run;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};

use crate::backend::{Mock, Qemu};
use smmu_engine::machine::{Backend, BackendError};
use smmu_engine::scenario::{Scenario, ScenarioError};

use crate::scenario_files::{self, LoadError, builtin};

/// Runs SMMUv3 driver scenarios on a software model and on real SMMUs.
#[derive(Debug, Parser)]
#[command(name = "smmu-harness", version, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "Exit status: 0 passed, 1 a scenario failed, nothing was found to decode, or a \
                           configuration is refused, 2 wrong usage or wrong input, 3 backend not available, \
                           4 timed out.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Say which scenarios there are, what they need and where they can run.
    List(list::List),
    /// Run scenarios: all of them on the model, unless told otherwise.
    Run(run::Run),
    /// Say what a backend's SMMU can do, in words and raw.
    Probe(probe::Probe),
    /// Decode commands, events, STEs, CDs and registers, out of words, dumps and whole logs.
    Decode(decode::Decode),
    /// Say why an SMMU would refuse an STE or a CD, or take it for another one.
    Explain(explain::Explain),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For machines: one JSON object a line.
    Json,
}

/// Where scenarios run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackendName {
    /// The built-in model; nothing to install.
    Mock,
    /// QEMU's SMMUv3.
    Qemu,
}

#[derive(Debug, clap::Args)]
struct BackendArgs {
    /// Where to run.
    #[arg(long, value_enum, default_value_t = BackendName::Mock)]
    backend: BackendName,
    /// The QEMU to use; else SMMU_QEMU, else what `cargo xtask qemu` unpacked, else PATH.
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
}

impl BackendArgs {
    fn open(&self) -> Result<Box<dyn Backend>, Exit> {
        match self.backend {
            BackendName::Mock if self.qemu.is_some() => {
                Err(Exit::Usage("--qemu goes with --backend qemu".into()))
            }
            BackendName::Mock => Ok(Box::new(Mock)),
            BackendName::Qemu => {
                Ok(Box::new(Qemu::find(self.qemu.as_deref()).map_err(Exit::from)?))
            }
        }
    }
}

/// A parser of one of `all`, by the name that each has on the command line.
fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
    text: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let values = all.iter().map(|&one| PossibleValue::new(name(one)).help(text(one)));
    let parser = PossibleValuesParser::new(values.collect::<Vec<_>>());
    parser.try_map(move |chosen| {
        all.iter().copied().find(|&one| name(one) == chosen).ok_or("it is not one of the names")
    })
}

/// Why the program ends with something other than success.
#[derive(Debug)]
enum Exit {
    Failed,
    /// Wrong input that was already complained about.
    Complained,
    TimedOut,
    Usage(String),
    Unavailable(String),
    Output(io::Error),
}

impl From<ScenarioError> for Exit {
    fn from(error: ScenarioError) -> Self {
        Exit::Usage(error.to_string())
    }
}

impl From<LoadError> for Exit {
    fn from(error: LoadError) -> Self {
        Exit::Usage(error.to_string())
    }
}

impl From<BackendError> for Exit {
    fn from(error: BackendError) -> Self {
        Exit::Unavailable(error.to_string())
    }
}

impl From<io::Error> for Exit {
    fn from(error: io::Error) -> Self {
        Exit::Output(error)
    }
}

/// Run the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    // Prints help and mistakes, and exits with 0 or 2, by itself.
    let cli = Cli::parse();
    let done = match cli.command {
        Command::List(list) => list.run(),
        Command::Run(run) => run.run(),
        Command::Probe(probe) => probe.run(),
        Command::Decode(decode) => decode.run(),
        Command::Explain(explain) => explain.run(),
    };
    let complain = |error: &dyn Display| {
        // Where standard error is gone too there is nobody left to tell.
        let _ = writeln!(io::stderr(), "error: {error}");
    };
    ExitCode::from(match done {
        Ok(()) => 0,
        Err(Exit::Failed) => 1,
        Err(Exit::Complained) => 2,
        Err(Exit::TimedOut) => 4,
        Err(Exit::Usage(message)) => {
            complain(&message);
            2
        }
        Err(Exit::Unavailable(message)) => {
            complain(&message);
            3
        }
        // Whoever read the output has seen enough.
        Err(Exit::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(Exit::Output(error)) => {
            complain(&format!("cannot write the output: {error}"));
            1
        }
    })
}

/// The scenarios of these names: all that are built in where there are none. A name that ends in `.toml` is a file.
fn scenarios(names: &[String]) -> Result<Vec<Scenario>, Exit> {
    let mut known = builtin()?;
    if names.is_empty() {
        return Ok(known);
    }
    let mut chosen: Vec<Scenario> = Vec::new();
    let names_known: Vec<String> = known.iter().map(|scenario| scenario.name.clone()).collect();
    for name in names {
        if Path::new(name).extension().is_some_and(|ending| ending == "toml") {
            chosen.push(scenario_files::load(Path::new(name))?);
        } else if let Some(at) = known.iter().position(|scenario| scenario.name == *name) {
            chosen.push(known.swap_remove(at));
        } else if !names_known.contains(name) {
            let message = format!(
                "no scenario is named \"{name}\"; `smmu-harness list` shows them, and a file's name ends \
                 in .toml"
            );
            return Err(Exit::Usage(message));
        }
    }
    Ok(chosen)
}
