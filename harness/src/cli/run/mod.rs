//! `run`: runs scenarios, and prints the result of each.

mod finished;
mod inputs;
mod own_snapshot;
mod print;
mod runner_args;
mod tally;
mod watch;

use std::io::Write;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::exit::Exit;
use super::one_of::one_of;
use super::output_format::OutputFormat;
use finished::Finished;
use inputs::{Input, inputs, is_path};
use own_snapshot::{Compared, Snapshots, compare};
use print::Printer;
use runner_args::RunnerArgs;
use smmu_engine::record::complete;
use smmu_engine::run::{RunOptions, Runner, Sabotage};
use tally::{Strictness, Tally};

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// Names of built-in scenarios, files that end in .toml, directories of such files, or `-` for
    /// standard input. Default: all built-in scenarios.
    names: Vec<String>,
    #[command(flatten)]
    backend: RunnerArgs,
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
    /// Print the transcript of each scenario. Named and failed scenarios always print theirs.
    #[arg(long)]
    transcript: bool,
    /// Fail if a scenario is skipped, or if the backend cannot make one of its checks.
    #[arg(long)]
    strict: bool,
    /// Write the transcript of each scenario file to a .snap file beside it. Later runs compare
    /// with that file.
    #[arg(long)]
    bless: bool,
    /// Run again whenever a named file changes, until you press Ctrl-C.
    #[arg(long, conflicts_with = "bless")]
    watch: bool,
    /// Break the driver in this way, to see which scenarios fail.
    #[arg(long, value_name = "HOW", value_parser = one_of(&Sabotage::ALL, Sabotage::name, Sabotage::text))]
    sabotage: Option<Sabotage>,
}

impl RunArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        let files = self.names.iter().any(|name| is_path(name));
        if self.bless && !(files && self.names.iter().all(|name| is_path(name))) {
            let message = "--bless is for scenario files; the snapshots of built-in scenarios are \
                           part of the repository";
            return Err(Exit::Usage(message.into()));
        }
        if !self.watch {
            return self.once(&*self.backend.open()?);
        }
        if !files {
            return Err(Exit::Usage("--watch needs a scenario file or a directory".into()));
        }
        let backend = self.backend.open()?;
        watch::watch(&self.names, || match self.once(&*backend) {
            // The results are printed. The next change may mend what failed.
            Ok(()) | Err(Exit::Failed | Exit::Complained | Exit::TimedOut) => Ok(()),
            Err(Exit::Usage(message)) => {
                writeln!(std::io::stderr(), "error: {message}")?;
                Ok(())
            }
            Err(other) => Err(other),
        })
    }

    fn once(&self, backend: &dyn Runner) -> Result<(), Exit> {
        let inputs = inputs(&self.names)?;
        let options = RunOptions { sabotage: self.sabotage };
        let start = Instant::now();
        let bar = progress(inputs.len());
        let mut printer = Printer::new(self.format, self.transcript);
        let mut tally = Tally::default();
        for Input { scenario, snapshot, named } in &inputs {
            bar.set_message(scenario.name.clone());
            let begun = Instant::now();
            let mut report = backend.run(scenario, options);
            complete(scenario, &mut report);
            let took = begun.elapsed();
            let mode = if self.bless { Snapshots::Bless } else { Snapshots::Compare };
            let compared =
                snapshot.as_ref().map_or(Compared::None, |path| compare(&report, path, mode));
            let title = &scenario.file.title;
            let finished = Finished { report: &report, title, compared, took, named: *named };
            bar.suspend(|| printer.scenario(&finished))?;
            bar.inc(1);
            tally.add(&finished);
        }
        bar.finish_and_clear();
        printer.summary(&tally, backend.name(), start.elapsed())?;
        let strictness = if self.strict { Strictness::Strict } else { Strictness::Lenient };
        tally.exit(strictness)
    }
}

fn progress(count: usize) -> ProgressBar {
    // The bar draws on standard error, and only if that is a terminal.
    let bar = ProgressBar::new(count as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}
