//! The command line.
//!
//! Results go to standard output, progress and errors to standard error. `EXIT_STATUS` lists the
//! exit status of each outcome.

mod backend_args;
mod conform;
mod decode;
mod diff;
mod difference;
mod exit;
mod explain;
mod explore;
mod foreign;
mod install;
mod lint;
mod list;
mod mutate;
mod new;
mod one_of;
mod output_file;
mod output_format;
mod probe;
mod run;
mod schema;
mod similar_name;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use anstream::ColorChoice;
use clap::{CommandFactory, Parser, Subcommand};
use smmu_engine::machine::Backend;

use exit::Exit;

/// Runs SMMUv3 driver scenarios on a software model and on real SMMUs.
#[derive(Debug, Parser)]
#[command(name = "smmu-harness", version, after_help = EXIT_STATUS)]
struct Cli {
    /// When to print in colour.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    color: Colour,
    #[command(subcommand)]
    command: CliCommand,
}

/// When to print in colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

const EXIT_STATUS: &str = "Exit status: 0 passed, 1 a scenario failed, two runs differ, the input has nothing to \
                           decode, a configuration is refused, or a table has errors, 2 wrong usage or wrong input, \
                           3 backend not available, 4 timed out.";

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// List the scenarios, what each needs, and the backends that can run it.
    List(list::ListArgs),
    /// Run scenarios. By default, all of them on the model.
    Run(run::RunArgs),
    /// Write a scenario file to begin with.
    New(new::NewArgs),
    /// Print the scenario format: its JSON Schema for editors, or its reference page.
    Schema(schema::SchemaArgs),
    /// Show what a backend's SMMU can do, decoded and as raw ID registers.
    Probe(probe::ProbeArgs),
    /// Decode commands, events, STEs, CDs and registers from words, dumps and logs.
    Decode(decode::DecodeArgs),
    /// Explain why an SMMU would refuse an STE or a CD, or treat it as another one.
    Explain(explain::ExplainArgs),
    /// Compare two runs: which commands a change adds, removes or moves, per step.
    Diff(diff::DiffArgs),
    /// Let several SMMUs carry out random commands, tables and DMA, and compare them.
    Explore(explore::ExploreArgs),
    /// Check what a machine must do: registers, queues, walks, caches, faults, interrupts.
    Conform(conform::ConformArgs),
    /// Change each command that scenarios send, one at a time, and count which changes they notice.
    Mutate(mutate::MutateArgs),
    /// Check firmware tables (device tree, IORT), and show which device is behind which SMMU.
    Lint(lint::LintArgs),
    /// Print the completions for a shell.
    Completions(install::CompletionsArgs),
    /// Print a manual page.
    Man(install::ManArgs),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    main_with(Vec::new())
}

/// Runs the command line of this process, in which `--backend` also takes the names of these backends.
///
/// It is the whole `main` of a program for a backend of yours: `list`, `run`, `conform`, `probe` and
/// `explain` know it. Call it once.
///
/// ```no_run
/// # use smmu_engine::machine::{Backend, BackendError, Machine, MachineSpec, Need};
/// # struct Mine;
/// # impl Backend for Mine {
/// #     fn name(&self) -> &'static str {
/// #         "mine"
/// #     }
/// #     fn describe(&self) -> String {
/// #         "an emulator".into()
/// #     }
/// #     fn offers(&self, need: Need) -> bool {
/// #         need == Need::Stage1
/// #     }
/// #     fn start(&self, _: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
/// #         Err(BackendError::Unavailable("it is not installed".into()))
/// #     }
/// # }
/// fn main() -> std::process::ExitCode {
///     smmu_harness::cli::main_with(vec![Box::new(Mine)])
/// }
/// ```
#[must_use]
pub fn main_with(backends: Vec<Box<dyn Backend>>) -> ExitCode {
    let complain = |error: &dyn Display| {
        // Without standard error, no reader is left.
        let _ = writeln!(io::stderr(), "error: {error}");
    };
    if let Err(error) = foreign::register(backends) {
        complain(&error);
        return ExitCode::from(2);
    }
    // On `--help` or a mistake, clap prints and exits with 0 or 2.
    let cli = Cli::parse();
    let colour = match cli.color {
        Colour::Auto => ColorChoice::Auto,
        Colour::Always => ColorChoice::Always,
        Colour::Never => ColorChoice::Never,
    };
    colour.write_global();
    let done = match cli.command {
        CliCommand::List(list) => list.run(),
        CliCommand::Run(run) => run.run(),
        CliCommand::New(new) => new.run(),
        CliCommand::Completions(completions) => completions.run(Cli::command()),
        CliCommand::Man(man) => man.run(Cli::command()),
        CliCommand::Schema(schema) => schema.run(),
        CliCommand::Probe(probe) => probe.run(),
        CliCommand::Decode(decode) => decode.run(),
        CliCommand::Explain(explain) => explain.run(),
        CliCommand::Diff(diff) => diff.run(),
        CliCommand::Explore(explore) => explore.run(),
        CliCommand::Conform(conform) => conform.run(),
        CliCommand::Mutate(mutate) => mutate.run(),
        CliCommand::Lint(lint) => lint.run(),
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
        // The reader of the output has closed it, as `head` does.
        Err(Exit::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(Exit::Output(error)) => {
            complain(&format!("cannot write the output: {error}"));
            1
        }
    })
}
