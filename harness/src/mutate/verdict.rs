//! A mutant, and what came of it.

use super::mutation::Mutation;
use super::site::Site;

/// One mutation in one place of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// The scenario.
    pub scenario: String,
    /// Which command it is, counted from 0.
    pub number: usize,
    /// The command.
    pub site: Site,
    /// What was done.
    pub mutation: Mutation,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The scenario failed.
    Failed,
    /// The scenario passed. An audit in between found something stale that is not stale without the
    /// mutation.
    Audited,
    /// Neither: nothing was stale.
    Harmless(Harmless),
    /// The scenario passed, and no audit can judge: on a backend that has none, or of an answer to a
    /// fault.
    Unknown,
}

/// Why a mutation does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harmless {
    /// The command itself changes nothing there: without it nothing is stale either.
    Needless,
    /// A later `CMD_SYNC` completes it, before anything depends on it.
    CompletedLater,
    /// The command is needed, and the changed one does the same.
    SameEffect,
}

impl Verdict {
    /// Whether the mutation was found.
    #[must_use]
    pub const fn is_noticed(self) -> bool {
        matches!(self, Verdict::Failed | Verdict::Audited)
    }

    /// In a few words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Failed => "noticed",
            Verdict::Audited => "noticed by an audit",
            Verdict::Harmless(Harmless::Needless) => "harmless: the command changes nothing",
            Verdict::Harmless(Harmless::CompletedLater) => "harmless: a later sync completes it",
            Verdict::Harmless(Harmless::SameEffect) => "harmless: it has the same effect",
            Verdict::Unknown => "not noticed",
        }
    }
}
