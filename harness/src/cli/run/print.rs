//! Prints the result of each scenario and the summary, for people and as JSON.

use std::io::{self, Write};
use std::time::Duration;

use anstream::AutoStream;
use smmu_engine::record::{RECORD_SCHEMA, RecordLine, SummaryRecord};
use smmu_engine::run::{RunFailure, RunOutcome};

use super::finished::Finished;
use super::own_snapshot::Compared;
use super::tally::Tally;
use crate::cli::output_format::OutputFormat;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

pub(super) struct Printer {
    format: OutputFormat,
    transcripts: bool,
    out: AutoStream<io::StdoutLock<'static>>,
    /// Whether the output still has a reader. The scenarios run without a reader too, because the
    /// exit status is that of all of them.
    read: bool,
}

impl Printer {
    pub(super) fn new(format: OutputFormat, transcripts: bool) -> Self {
        Printer { format, transcripts, out: anstream::stdout().lock(), read: true }
    }

    pub(super) fn scenario(&mut self, finished: &Finished<'_>) -> io::Result<()> {
        let written = match self.format {
            _ if !self.read => Ok(()),
            OutputFormat::Json => {
                let line = RecordLine::Scenario(Box::new(finished.record()));
                writeln!(self.out, "{}", json(&line))
            }
            OutputFormat::Human => self.human(finished),
        };
        self.keep_reader(written)
    }

    pub(super) fn summary(
        &mut self,
        tally: &Tally,
        backend: &str,
        took: Duration,
    ) -> io::Result<()> {
        let written = match self.format {
            _ if !self.read => Ok(()),
            OutputFormat::Json => writeln!(self.out, "{}", summary_json(tally, backend, took)),
            OutputFormat::Human => human_summary(&mut self.out, tally, backend, took),
        };
        let written = written.and_then(|()| self.out.flush());
        self.keep_reader(written)
    }

    fn keep_reader(&mut self, written: io::Result<()>) -> io::Result<()> {
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.read = false;
                Ok(())
            }
            other => other,
        }
    }

    fn human(&mut self, finished: &Finished<'_>) -> io::Result<()> {
        let Finished { report, title, compared, named, .. } = finished;
        let out = &mut self.out;
        let (colour, word) = match &report.outcome {
            RunOutcome::Passed if compared.fails() => (RED, "FAILED"),
            RunOutcome::Passed => (GREEN, "passed"),
            RunOutcome::Failed(_) => (RED, "FAILED"),
            RunOutcome::TimedOut(_) => (RED, "TIMED OUT"),
            RunOutcome::Broken(_) => (RED, "BROKEN"),
            RunOutcome::Skipped { .. } => (YELLOW, "skipped"),
        };
        let failure = report.outcome.failure();
        // A difference is shown instead of the whole transcript.
        let whole = !matches!(compared, Compared::Differs(_));
        let wanted = self.transcripts || *named && whole || failure.is_some();
        if wanted && !report.transcript.is_empty() {
            writeln!(out, "--- {}: {title}", report.scenario)?;
            for line in &report.transcript {
                writeln!(out, "{line}")?;
            }
            for note in &report.notes {
                writeln!(out, "note: {note}")?;
            }
        }
        writeln!(out, "{colour}{word:9}{PLAIN} {}", report.scenario)?;
        if let Some(why) = failure {
            human_failure(out, why)?;
        }
        if let RunOutcome::Skipped { reason } = &report.outcome {
            writeln!(out, "          {reason}")?;
        }
        match compared {
            Compared::None | Compared::Same => {}
            Compared::Blessed => writeln!(out, "          the transcript is now its snapshot")?,
            Compared::Unusable(why) => writeln!(out, "          the snapshot: {why}")?,
            Compared::Differs(diff) => {
                writeln!(out, "          the transcript differs from the snapshot (`-`):")?;
                for line in diff.lines() {
                    let colour = match line.as_bytes().first() {
                        Some(b'-') => RED,
                        Some(b'+') => GREEN,
                        _ => PLAIN,
                    };
                    writeln!(out, "          {colour}{line}{PLAIN}")?;
                }
                writeln!(out, "          if this is right, run with --bless")?;
            }
        }
        for check in &report.unchecked {
            writeln!(out, "          not checked on {}: {check}", report.backend)?;
        }
        Ok(())
    }
}

/// `FILE:LINE`, what was expected, what happened, and what the model knows about it.
fn human_failure(out: &mut impl Write, why: &RunFailure) -> io::Result<()> {
    let RunFailure { step, file, line, text, expected, happened, hazards } = why;
    writeln!(out, "          {file}:{line}: step {step}: {text}")?;
    if let Some(expected) = expected {
        writeln!(out, "          expected  {expected}")?;
    }
    writeln!(out, "          happened  {happened}")?;
    // The text of a hazard ends with the missing command.
    hazards.iter().try_for_each(|hazard| writeln!(out, "          hazard    {}", hazard.text))
}

fn human_summary(
    out: &mut impl Write,
    tally: &Tally,
    backend: &str,
    took: Duration,
) -> io::Result<()> {
    if !tally.failures.is_empty() {
        writeln!(out, "failed: {}", tally.failures.join(", "))?;
    }
    write!(out, "{backend}: {} passed, {} failed", tally.passed, tally.failed)?;
    for (count, what) in [(tally.timed_out, "timed out"), (tally.broken, "broken")] {
        if count > 0 {
            write!(out, ", {count} {what}")?;
        }
    }
    write!(out, ", {} skipped", tally.skipped)?;
    if tally.unchecked > 0 {
        write!(out, ", {} checks not made here", tally.unchecked)?;
    }
    writeln!(out, " in {:.2} s", took.as_secs_f64())
}

/// One line of JSON.
fn json(line: &RecordLine) -> String {
    // No map of a record has keys that are no texts.
    serde_json::to_string(line).unwrap_or_default()
}

fn summary_json(tally: &Tally, backend: &str, took: Duration) -> String {
    json(&RecordLine::Summary(SummaryRecord {
        schema: RECORD_SCHEMA,
        backend: backend.to_owned(),
        passed: tally.passed,
        failed: tally.failed,
        skipped: tally.skipped,
        timed_out: tally.timed_out,
        broken: tally.broken,
        unchecked: tally.unchecked,
        failures: tally.failures.clone(),
        seconds: took.as_secs_f64(),
    }))
}
