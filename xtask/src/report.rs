//! The summary of `cargo xtask test`: each step with its result and reason.

use std::fmt;
use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StepOutcome {
    Passed(String),
    Failed(String),
    NotRun(String),
}

#[derive(Debug)]
struct StepRow {
    step: &'static str,
    outcome: StepOutcome,
    time: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct SuiteReport {
    rows: Vec<StepRow>,
}

impl SuiteReport {
    pub(crate) fn add(&mut self, step: &'static str, outcome: StepOutcome, time: Duration) {
        self.rows.push(StepRow { step, outcome, time });
    }

    /// Adds the steps of another lane.
    pub(crate) fn append(&mut self, mut other: SuiteReport) {
        self.rows.append(&mut other.rows);
    }

    pub(crate) fn failed(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.outcome, StepOutcome::Failed(_)))
    }
}

impl fmt::Display for SuiteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nSummary\n  {:<16} {:<8} {:>7}", "step", "result", "seconds")?;
        for row in &self.rows {
            let (result, note) = match &row.outcome {
                StepOutcome::Passed(note) => ("passed", note),
                StepOutcome::Failed(note) => ("FAILED", note),
                StepOutcome::NotRun(note) => ("not run", note),
            };
            let seconds = match row.outcome {
                StepOutcome::NotRun(_) => "-".to_owned(),
                _ => format!("{:.1}", row.time.as_secs_f64()),
            };
            // The step itself printed the rest of a long reason.
            let note = note.lines().next().unwrap_or_default();
            let line = format!("  {:<16} {result:<8} {seconds:>7}   {note}", row.step);
            writeln!(f, "{}", line.trim_end())?;
        }
        f.write_str(if self.failed() {
            "\nFAILED: see the output above of each step marked FAILED."
        } else {
            "\nAll steps that ran passed."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_named_with_its_reason() {
        let mut report = SuiteReport::default();
        report.add("QEMU", StepOutcome::Passed(String::new()), Duration::from_millis(1250));
        report.add("advisories", StepOutcome::NotRun("no database".into()), Duration::ZERO);
        assert!(!report.failed());
        report.add("clippy", StepOutcome::Failed("exit status: 101".into()), Duration::ZERO);
        assert!(report.failed());
        let text = report.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[3], "  QEMU             passed       1.2");
        assert_eq!(lines[4], "  advisories       not run        -   no database");
        assert_eq!(lines[5], "  clippy           FAILED       0.0   exit status: 101");
    }
}
