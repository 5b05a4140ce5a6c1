//! The snapshot beside a scenario file: the transcript that a run must repeat.

use std::io::ErrorKind;
use std::path::Path;

use similar::TextDiff;
use smmu_engine::run::{RunOutcome, RunReport};

/// How a transcript compares with its snapshot.
#[derive(Debug)]
pub(super) enum Compared {
    /// There is no snapshot.
    None,
    /// It is the same.
    Same,
    /// It was written now.
    Blessed,
    /// It differs: the lines that do, with `-` and `+`.
    Differs(String),
    /// The snapshot cannot be read or written.
    Unusable(String),
}

/// Whether a run writes snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Snapshots {
    Compare,
    Bless,
}

/// Unchanged lines around a difference.
const CONTEXT: usize = 3;

impl Compared {
    /// Its name in JSON.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Compared::None => "none",
            Compared::Same => "same",
            Compared::Blessed => "blessed",
            Compared::Differs(_) => "differs",
            Compared::Unusable(_) => "unusable",
        }
    }

    /// Whether the run must count as failed.
    pub(super) const fn fails(&self) -> bool {
        matches!(self, Compared::Differs(_) | Compared::Unusable(_))
    }
}

/// Compares the transcript of a run that passed with the snapshot at `path`, or writes it.
pub(super) fn compare(report: &RunReport, path: &Path, mode: Snapshots) -> Compared {
    if report.outcome != RunOutcome::Passed {
        // A failed run has its own error. Nothing of it is worth keeping.
        return Compared::None;
    }
    let now = report.snapshot();
    if mode == Snapshots::Bless {
        return match std::fs::write(path, now) {
            Ok(()) => Compared::Blessed,
            Err(error) => Compared::Unusable(format!("{}: {error}", path.display())),
        };
    }
    let kept = match std::fs::read_to_string(path) {
        Ok(kept) => kept,
        Err(error) if error.kind() == ErrorKind::NotFound => return Compared::None,
        Err(error) => return Compared::Unusable(format!("{}: {error}", path.display())),
    };
    let (kept, now) = (report.comparable(&kept), report.comparable(&now));
    if kept == now {
        return Compared::Same;
    }
    let diff = TextDiff::from_lines(&*kept, &*now);
    let shown = diff.unified_diff().context_radius(CONTEXT).to_string();
    Compared::Differs(shown)
}
