//! `run`: runs scenarios, and prints the result of each.

mod finished;
mod inputs;
mod own_snapshot;
mod print;
mod runner_args;
mod tally;
mod watch;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::difference::{DifferencePrinter, Layout};
use super::exit::Exit;
use super::one_of::one_of;
use super::output_file::OutputFile;
use super::output_format::OutputFormat;
use crate::view::diff::{ComparedRun, compare as compare_runs};
use crate::view::report::report;
use crate::view::trace::trace;
use finished::Finished;
use inputs::{Input, inputs, is_path};
use own_snapshot::{Compared, Snapshots, compare};
use print::Printer;
use runner_args::RunnerArgs;
use smmu_engine::record::complete;
use smmu_engine::run::{RunOptions, RunOutcome, Runner, Sabotage};
use smmu_engine::transcript::LineKind;
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
    /// Write the run in the trace-event format of Chrome, for https://ui.perfetto.dev.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write the run as one page of HTML, with timelines, table entries as bits, and failures first.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
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
        let backends = self.backend.open()?;
        let (backend, other) = match backends.as_slice() {
            [backend, other] => (backend, Some(other)),
            [backend, ..] => (backend, None),
            [] => return Err(Exit::Usage("--backend names no backend".into())),
        };
        if let Some(other) = other {
            if self.watch || self.bless {
                let why =
                    "two backends run once and write no snapshot: leave --watch and --bless out";
                return Err(Exit::Usage(why.into()));
            }
            return self.compare([&**backend, &**other]);
        }
        if !self.watch {
            return self.once(&**backend);
        }
        if !files {
            return Err(Exit::Usage("--watch needs a scenario file or a directory".into()));
        }
        watch::watch(&self.names, || match self.once(&**backend) {
            // The results are printed. The next change may mend what failed.
            Ok(()) | Err(Exit::Failed | Exit::Complained | Exit::TimedOut) => Ok(()),
            Err(Exit::Usage(message)) => {
                writeln!(std::io::stderr(), "error: {message}")?;
                Ok(())
            }
            Err(other) => Err(other),
        })
    }

    /// Runs each scenario on two backends, and prints where they differ. What one of them cannot run
    /// or cannot record is left out of the comparison.
    fn compare(&self, backends: [&dyn Runner; 2]) -> Result<(), Exit> {
        let inputs = inputs(&self.names)?;
        let options = RunOptions { sabotage: self.sabotage };
        let bar = progress(inputs.len());
        let layout = Layout::SideBySide;
        let mut printer = DifferencePrinter::new(self.format, layout);
        let (mut skipped, mut failed) = (0, false);
        for Input { scenario, .. } in &inputs {
            bar.set_message(scenario.name.clone());
            let reports = backends.map(|backend| backend.run(scenario, options));
            bar.inc(1);
            if reports.iter().any(|report| matches!(report.outcome, RunOutcome::Skipped { .. })) {
                skipped += 1;
                continue;
            }
            failed |= reports.iter().any(|report| report.outcome.failure().is_some());
            let unrecorded: Vec<LineKind> =
                reports.iter().flat_map(|report| report.unrecorded.clone()).collect();
            let [first, second] = reports.map(|report| {
                let mut run = ComparedRun::of(&report.scenario, &report.transcript);
                run.backend = report.backend.into_owned();
                run.outcome = report.outcome.name().to_owned();
                run.with_lines(|line| !unrecorded.contains(&line.kind))
            });
            let difference = compare_runs(&first, &second);
            bar.suspend(|| printer.both(&first, &second, &difference))?;
        }
        bar.finish_and_clear();
        let differs = printer.end()?;
        if skipped > 0 {
            let names = backends.map(Runner::name).join(" or ");
            writeln!(std::io::stderr(), "{skipped} not compared: {names} skips them")?;
        }
        if differs || failed || self.strict && skipped > 0 { Err(Exit::Failed) } else { Ok(()) }
    }

    fn once(&self, backend: &dyn Runner) -> Result<(), Exit> {
        let inputs = inputs(&self.names)?;
        // A file that cannot be written is told before anything runs.
        let trace_file = self.trace.as_deref().map(OutputFile::open).transpose()?;
        let report_file = self.report.as_deref().map(OutputFile::open).transpose()?;
        let options = RunOptions { sabotage: self.sabotage };
        let start = Instant::now();
        let bar = progress(inputs.len());
        let mut printer = Printer::new(self.format, self.transcript);
        let mut tally = Tally::default();
        let mut records = Vec::new();
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
            if trace_file.is_some() || report_file.is_some() {
                records.push(finished.record());
            }
        }
        bar.finish_and_clear();
        printer.summary(&tally, backend.name(), start.elapsed())?;
        if let Some(file) = trace_file {
            file.write(&trace(&records).to_string())?;
        }
        if let Some(file) = report_file {
            let broken = self.sabotage.map(|how| format!("{}. {}", how.name(), how.text()));
            file.write(&report(&records, broken.as_deref()).map_err(std::io::Error::other)?)?;
        }
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
