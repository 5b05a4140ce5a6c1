//! How many scenarios ended how, and what the exit status is.

use smmu_engine::run::RunOutcome;

use super::finished::Finished;
use crate::cli::exit::Exit;

/// Whether a check that was not made counts as a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    Lenient,
    Strict,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
    pub(super) timed_out: usize,
    pub(super) broken: usize,
    pub(super) unchecked: usize,
    /// The scenarios that did not pass, without those that were skipped.
    pub(super) failures: Vec<String>,
    first_broken: Option<String>,
}

impl Tally {
    pub(super) fn add(&mut self, finished: &Finished<'_>) {
        let Finished { report, compared, .. } = finished;
        self.unchecked += report.unchecked.len();
        match &report.outcome {
            RunOutcome::Passed if compared.fails() => self.failed += 1,
            RunOutcome::Passed => self.passed += 1,
            RunOutcome::Failed(_) => self.failed += 1,
            RunOutcome::TimedOut(_) => self.timed_out += 1,
            RunOutcome::Broken(why) => {
                self.broken += 1;
                self.first_broken.get_or_insert_with(|| why.happened.clone());
            }
            RunOutcome::Skipped { .. } => self.skipped += 1,
        }
        if compared.fails() || report.outcome.failure().is_some() {
            self.failures.push(report.scenario.clone());
        }
    }

    pub(super) fn exit(self, strictness: Strictness) -> Result<(), Exit> {
        if self.failed > 0 {
            return Err(Exit::Failed);
        }
        if self.timed_out > 0 {
            return Err(Exit::TimedOut);
        }
        if let Some(message) = self.first_broken {
            return Err(Exit::Unavailable(message));
        }
        match strictness {
            Strictness::Strict if self.skipped + self.unchecked > 0 => Err(Exit::Failed),
            _ => Ok(()),
        }
    }
}
