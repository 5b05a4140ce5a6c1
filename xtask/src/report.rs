//! The summary: what ran and passed, what failed, what was not run and why.

use std::fmt;
use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed(String),
    Failed(String),
    NotRun(String),
}

#[derive(Debug)]
struct Row {
    step: &'static str,
    outcome: Outcome,
    time: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn add(&mut self, step: &'static str, outcome: Outcome, time: Duration) {
        self.rows.push(Row { step, outcome, time });
    }

    pub(crate) fn failed(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.outcome, Outcome::Failed(_)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nSummary\n  {:<16} {:<8} {:>7}", "step", "result", "seconds")?;
        for row in &self.rows {
            let (result, note) = match &row.outcome {
                Outcome::Passed(note) => ("passed", note),
                Outcome::Failed(note) => ("FAILED", note),
                Outcome::NotRun(note) => ("not run", note),
            };
            let seconds = match row.outcome {
                Outcome::NotRun(_) => "-".to_owned(),
                _ => format!("{:.1}", row.time.as_secs_f64()),
            };
            // The rest of a long reason was shown when the step ended.
            let note = note.lines().next().unwrap_or_default();
            let line = format!("  {:<16} {result:<8} {seconds:>7}   {note}", row.step);
            writeln!(f, "{}", line.trim_end())?;
        }
        f.write_str(if self.failed() {
            "\nFAILED: see above for each step marked so."
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
        let mut report = Report::default();
        report.add("QEMU", Outcome::Passed(String::new()), Duration::from_millis(1250));
        report.add("advisories", Outcome::NotRun("no database".into()), Duration::ZERO);
        assert!(!report.failed());
        report.add("clippy", Outcome::Failed("exit status: 101".into()), Duration::ZERO);
        assert!(report.failed());
        let text = report.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[3], "  QEMU             passed       1.2");
        assert_eq!(lines[4], "  advisories       not run        -   no database");
        assert_eq!(lines[5], "  clippy           FAILED       0.0   exit status: 101");
    }
}
