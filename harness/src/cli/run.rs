//! `run`: runs scenarios, and prints the result of each.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::backend_args::BackendArgs;
use super::exit::Exit;
use super::one_of::one_of;
use super::output_format::OutputFormat;
use crate::scenario_files::{self, builtin};
use smmu_engine::run::{self, RunOptions, RunOutcome, RunReport, Sabotage};
use smmu_engine::scenario::Scenario;

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// Names of built-in scenarios, or files that end in .toml. Default: all built-in scenarios.
    names: Vec<String>,
    #[command(flatten)]
    backend: BackendArgs,
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
    /// Print the transcript of each scenario. Named and failed scenarios always print theirs.
    #[arg(long)]
    transcript: bool,
    /// Break the driver in this way, to see which scenarios fail.
    #[arg(long, value_name = "HOW", value_parser = one_of(&Sabotage::ALL, Sabotage::name, Sabotage::text))]
    sabotage: Option<Sabotage>,
}

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

impl RunArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        let scenarios = scenarios(&self.names)?;
        let backend = self.backend.open()?;
        let options = RunOptions { sabotage: self.sabotage };
        let start = Instant::now();
        let bar = progress(scenarios.len());
        let mut out = anstream::stdout().lock();
        let mut reports = Vec::new();
        let mut read = true;
        for scenario in &scenarios {
            bar.set_message(scenario.name.clone());
            let begun = Instant::now();
            let report = run::run(scenario, &*backend, options);
            let took = begun.elapsed();
            let printed = bar.suspend(|| match self.format {
                _ if !read => Ok(()),
                OutputFormat::Json => {
                    json_line(&report, took).and_then(|line| writeln!(out, "{line}"))
                }
                OutputFormat::Human => self.human(&mut out, &report, &scenario.file.title),
            });
            read &= still_read(printed)?;
            bar.inc(1);
            reports.push(report);
        }
        bar.finish_and_clear();
        let tally = Tally::of(&reports);
        let summed_up = match self.format {
            _ if !read => Ok(()),
            OutputFormat::Human => tally.human(&mut out, backend.name(), start.elapsed()),
            OutputFormat::Json => {
                let line = json!({
                    "summary": {
                        "backend": backend.name(),
                        "passed": tally.passed, "failed": tally.failed, "skipped": tally.skipped,
                        "timed_out": tally.timed_out, "broken": tally.broken,
                        "unchecked": tally.unchecked,
                        "seconds": start.elapsed().as_secs_f64(),
                    }
                });
                writeln!(out, "{line}")
            }
        };
        still_read(summed_up.and_then(|()| out.flush()))?;
        tally.exit(&reports)
    }

    fn human(&self, out: &mut impl Write, report: &RunReport, title: &str) -> std::io::Result<()> {
        let (colour, word) = match &report.outcome {
            RunOutcome::Passed => (GREEN, "passed"),
            RunOutcome::Failed(_) => (RED, "FAILED"),
            RunOutcome::TimedOut(_) => (RED, "TIMED OUT"),
            RunOutcome::Broken(_) => (RED, "BROKEN"),
            RunOutcome::Skipped { .. } => (YELLOW, "skipped"),
        };
        let failed = !matches!(report.outcome, RunOutcome::Passed | RunOutcome::Skipped { .. });
        if (self.transcript || !self.names.is_empty() || failed) && !report.transcript.is_empty() {
            writeln!(out, "--- {}: {title}", report.scenario)?;
            for line in &report.transcript {
                writeln!(out, "{line}")?;
            }
            for note in &report.notes {
                writeln!(out, "note: {note}")?;
            }
        }
        writeln!(out, "{colour}{word:9}{PLAIN} {}", report.scenario)?;
        match &report.outcome {
            RunOutcome::Failed(why) | RunOutcome::TimedOut(why) | RunOutcome::Broken(why) => {
                writeln!(out, "          step {}: {}", why.step, why.message)?;
            }
            RunOutcome::Skipped { reason } => writeln!(out, "          {reason}")?,
            RunOutcome::Passed => {}
        }
        for check in &report.unchecked {
            writeln!(out, "          not checked on {}: {check}", report.backend)?;
        }
        Ok(())
    }
}

/// The scenarios of these names, or all built-in ones without a name. A name that ends in `.toml`
/// is a file.
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
                "no scenario is named \"{name}\"; `smmu-harness list` shows the names, and a file must \
                 end in .toml"
            );
            return Err(Exit::Usage(message));
        }
    }
    Ok(chosen)
}

/// Whether the output still has a reader. The scenarios run without a reader too, because the exit
/// status is that of all of them.
fn still_read(written: std::io::Result<()>) -> std::io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// A report, and how long its run took.
#[derive(serde::Serialize)]
struct JsonLine<'a> {
    #[serde(flatten)]
    report: &'a RunReport,
    seconds: f64,
}

fn json_line(report: &RunReport, took: Duration) -> std::io::Result<String> {
    Ok(serde_json::to_string(&JsonLine { report, seconds: took.as_secs_f64() })?)
}

fn progress(count: usize) -> ProgressBar {
    // The bar draws on standard error, and only if that is a terminal.
    let bar = ProgressBar::new(count as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    timed_out: usize,
    broken: usize,
    unchecked: usize,
}

impl Tally {
    fn of(reports: &[RunReport]) -> Self {
        let mut tally = Tally::default();
        for report in reports {
            tally.unchecked += report.unchecked.len();
            match report.outcome {
                RunOutcome::Passed => tally.passed += 1,
                RunOutcome::Failed(_) => tally.failed += 1,
                RunOutcome::TimedOut(_) => tally.timed_out += 1,
                RunOutcome::Broken(_) => tally.broken += 1,
                RunOutcome::Skipped { .. } => tally.skipped += 1,
            }
        }
        tally
    }

    fn human(&self, out: &mut impl Write, backend: &str, took: Duration) -> std::io::Result<()> {
        write!(out, "{backend}: {} passed, {} failed", self.passed, self.failed)?;
        for (count, what) in [(self.timed_out, "timed out"), (self.broken, "broken")] {
            if count > 0 {
                write!(out, ", {count} {what}")?;
            }
        }
        write!(out, ", {} skipped", self.skipped)?;
        if self.unchecked > 0 {
            write!(out, ", {} checks not made here", self.unchecked)?;
        }
        writeln!(out, " in {:.2} s", took.as_secs_f64())
    }

    fn exit(&self, reports: &[RunReport]) -> Result<(), Exit> {
        if self.failed > 0 {
            return Err(Exit::Failed);
        }
        if self.timed_out > 0 {
            return Err(Exit::TimedOut);
        }
        let broken = reports.iter().find_map(|report| match &report.outcome {
            RunOutcome::Broken(why) => Some(why.message.clone()),
            _ => None,
        });
        broken.map_or(Ok(()), |message| Err(Exit::Unavailable(message)))
    }
}
