//! Counts of mutants, and the tables of `docs/mutations.md`.

use std::collections::BTreeMap;
use std::fmt;

use super::forgetful::{StoreMutant, StoreVerdict};
use super::mutation::Mutation;
use super::site::name_of;
use super::verdict::{Harmless, Mutant, Verdict};

/// How many mutants there were, and what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All.
    pub all: usize,
    /// Those of which the scenario failed.
    pub failed: usize,
    /// Those that only an audit noticed.
    pub audited: usize,
    /// The command changes nothing there.
    pub needless: usize,
    /// A later sync completes the command.
    pub completed_later: usize,
    /// The changed command does the same.
    pub same_effect: usize,
    /// Not noticed, and no audit can judge.
    pub unknown: usize,
}

impl Count {
    /// Those that were found.
    #[must_use]
    pub const fn noticed(&self) -> usize {
        self.failed + self.audited
    }

    fn add(&mut self, verdict: Verdict) {
        self.all += 1;
        *match verdict {
            Verdict::Failed => &mut self.failed,
            Verdict::Audited => &mut self.audited,
            Verdict::Harmless(Harmless::Needless) => &mut self.needless,
            Verdict::Harmless(Harmless::CompletedLater) => &mut self.completed_later,
            Verdict::Harmless(Harmless::SameEffect) => &mut self.same_effect,
            Verdict::Unknown => &mut self.unknown,
        } += 1;
    }
}

/// Counts of mutants, by the name of the command and the mutation.
///
/// `Display` prints two tables in Markdown: what came of each mutation, and each command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(pub BTreeMap<(String, Mutation), Count>);

impl Table {
    /// Counts mutants.
    pub fn of<'m>(mutants: impl IntoIterator<Item = &'m Mutant>) -> Self {
        let mut table = Table::default();
        for mutant in mutants {
            let key = (name_of(mutant.site.command), mutant.mutation);
            table.0.entry(key).or_default().add(mutant.verdict);
        }
        table
    }

    /// The sum of the counts for which `is_meant` holds.
    pub fn sum(&self, is_meant: impl Fn(&str, Mutation) -> bool) -> Count {
        let mut sum = Count::default();
        for ((command, mutation), count) in &self.0 {
            if is_meant(command, *mutation) {
                sum.all += count.all;
                sum.failed += count.failed;
                sum.audited += count.audited;
                sum.needless += count.needless;
                sum.completed_later += count.completed_later;
                sum.same_effect += count.same_effect;
                sum.unknown += count.unknown;
            }
        }
        sum
    }

    fn row(f: &mut fmt::Formatter<'_>, name: &str, count: &Count) -> fmt::Result {
        let Count { all, failed, audited, needless, completed_later, same_effect, unknown } = count;
        writeln!(
            f,
            "| {name} | {all} | {failed} | {audited} | {needless} | {completed_later} | {same_effect} \
             | {unknown} |"
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| mutation | made | noticed | by an audit alone | needless | completed later | same effect \
             | not noticed |\n|---|---|---|---|---|---|---|---|"
        )?;
        let made = Mutation::ALL.map(|kind| (kind, self.sum(|_, of| of == kind)));
        let made = made.into_iter().filter(|(_, count)| count.all > 0);
        let mut kinds = Vec::new();
        for (kind, count) in made {
            Self::row(f, kind.name(), &count)?;
            kinds.push(kind);
        }
        Self::row(f, "all", &self.sum(|_, _| true))?;
        let heads: Vec<&str> = kinds.iter().map(|mutation| mutation.name()).collect();
        writeln!(f, "\n| command | {} |", heads.join(" | "))?;
        writeln!(f, "|---|{}", "---|".repeat(heads.len()))?;
        let mut commands: Vec<&String> = self.0.keys().map(|(command, _)| command).collect();
        commands.dedup();
        for command in commands {
            let cell = |mutation: &Mutation| match self.0.get(&(command.clone(), *mutation)) {
                Some(count) => format!("{} of {}", count.noticed(), count.all),
                None => String::new(),
            };
            let cells: Vec<String> = kinds.iter().map(cell).collect();
            writeln!(f, "| `{command}` | {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}

/// What came of the stores of one scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCount {
    /// The scenario failed.
    pub noticed: usize,
    /// Nobody read the word.
    pub not_read: usize,
    /// Somebody read it, and the scenario passed.
    pub not_noticed: usize,
}

impl StoreCount {
    /// All.
    #[must_use]
    pub const fn all(&self) -> usize {
        self.noticed + self.not_read + self.not_noticed
    }
}

/// Counts of left-out stores, by scenario. `Display` prints a table in Markdown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreTable(pub BTreeMap<String, StoreCount>);

impl StoreTable {
    /// Counts mutants.
    pub fn of<'m>(mutants: impl IntoIterator<Item = &'m StoreMutant>) -> Self {
        let mut table = StoreTable::default();
        for mutant in mutants {
            let count = table.0.entry(mutant.scenario.clone()).or_default();
            *match mutant.verdict {
                StoreVerdict::Noticed => &mut count.noticed,
                StoreVerdict::NotRead => &mut count.not_read,
                StoreVerdict::NotNoticed => &mut count.not_noticed,
            } += 1;
        }
        table
    }

    /// All scenarios together.
    #[must_use]
    pub fn sum(&self) -> StoreCount {
        self.0.values().fold(StoreCount::default(), |sum, count| StoreCount {
            noticed: sum.noticed + count.noticed,
            not_read: sum.not_read + count.not_read,
            not_noticed: sum.not_noticed + count.not_noticed,
        })
    }
}

impl fmt::Display for StoreTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| scenario | left out | noticed | not read | not noticed |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        let sum = ("all", self.sum());
        let each = self.0.iter().map(|(scenario, count)| (scenario.as_str(), *count));
        for (name, count) in each.chain([sum]) {
            let StoreCount { noticed, not_read, not_noticed } = count;
            writeln!(f, "| {name} | {} | {noticed} | {not_read} | {not_noticed} |", count.all())?;
        }
        Ok(())
    }
}
