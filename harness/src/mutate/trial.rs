//! Runs a scenario with one mutation after the other.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use smmu_engine::machine::{Backend, Need};
use smmu_engine::run::{RunOptions, RunOutcome, run};
use smmu_engine::scenario::Scenario;
use smmu_types::Command;

use super::mutation::Mutation;
use super::site::Site;
use super::tamper::{Look, Plan, Seen, Tampered};
use super::verdict::{Harmless, Mutant, Verdict};
use crate::backend::{UNHELPFUL, USUAL_ONLY};

/// Why a scenario has no mutants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMutants {
    /// The backend cannot run it.
    #[error("{0}: skipped: {1}")]
    Skipped(String, String),
    /// It fails without any mutation.
    #[error("{0}: it fails as it stands: {1}")]
    Fails(String, String),
    /// It does on purpose what the unhelpful model refuses. On the usual one not everything is cached,
    /// so nothing could be called harmless there.
    #[error("{0}: left out: {1}")]
    UsualOnly(String, &'static str),
    /// Its commands have another order in each run.
    #[error("{0}: its callers run in parallel, so its commands have another order each time")]
    Parallel(String),
}

/// Whether the commands of a scenario are the same in each run.
#[must_use]
pub fn repeats(scenario: &Scenario) -> bool {
    !scenario.file.needs.contains(&Need::Parallel)
}

/// The commands of a scenario, in their order.
///
/// # Errors
///
/// The scenario is skipped, or fails.
pub fn sites(scenario: &Scenario, backend: &dyn Backend) -> Result<Vec<Site>, NoMutants> {
    Ok(original(scenario, backend)?.sites)
}

fn original(scenario: &Scenario, backend: &dyn Backend) -> Result<Seen, NoMutants> {
    let name = || scenario.name.clone();
    if !repeats(scenario) {
        return Err(NoMutants::Parallel(name()));
    }
    let usual = USUAL_ONLY.iter().find(|usual| usual.scenario == scenario.name);
    if let Some(usual) = usual
        && backend.describe() == UNHELPFUL.describe()
    {
        return Err(NoMutants::UsualOnly(name(), usual.reason));
    }
    let tampered = Tampered::new(backend, Plan::default());
    match run(scenario, &tampered, RunOptions::default()).outcome {
        RunOutcome::Passed => Ok(tampered.into_seen()),
        RunOutcome::Skipped { reason } => Err(NoMutants::Skipped(name(), reason)),
        other => {
            let why = other.failure().map_or_else(String::new, ToString::to_string);
            Err(NoMutants::Fails(name(), why))
        }
    }
}

/// Tries mutations of every command of a scenario, by `threads` threads: those of `kinds`, and
/// [`Mutation::LeftOut`], which tells whether a command is needed. Their order is that of the commands
/// and of [`Mutation::ALL`].
///
/// # Errors
///
/// The scenario is skipped, fails as it stands, or has another order in each run.
pub fn mutants(
    scenario: &Scenario,
    backend: &dyn Backend,
    kinds: &[Mutation],
    threads: usize,
) -> Result<Vec<Mutant>, NoMutants> {
    let original = original(scenario, backend)?;
    let is_wanted = |mutation: &Mutation| kinds.contains(mutation);
    let is_tried = |mutation: &Mutation| is_wanted(mutation) || *mutation == Mutation::LeftOut;
    let mut work = Vec::new();
    for (number, site) in original.sites.iter().enumerate() {
        work.extend(Mutation::of(site).filter(is_tried).map(|mutation| (number, *site, mutation)));
    }
    let mut done = by_threads(&work, threads, |(number, site, mutation)| {
        let tampered = Tampered::new(backend, Plan::change(*number, *mutation));
        let outcome = run(scenario, &tampered, RunOptions::default()).outcome;
        Mutant {
            scenario: scenario.name.clone(),
            number: *number,
            site: *site,
            mutation: *mutation,
            verdict: verdict(site, &outcome, &original.looks, tampered.into_seen()),
        }
    });
    done.sort_by_key(|mutant| (mutant.number, mutant.mutation));
    explain(&mut done);
    done.retain(|mutant| is_wanted(&mutant.mutation));
    Ok(done)
}

/// Does each piece of work once, by `threads` threads. The results come in any order.
pub(super) fn by_threads<W: Sync, M: Send>(
    work: &[W],
    threads: usize,
    each: impl Fn(&W) -> M + Sync,
) -> Vec<M> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(piece) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mutant = each(piece);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(mutant);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What the outcome and the audits say. The reason comes later.
fn verdict(site: &Site, outcome: &RunOutcome, original: &[Look], tampered: Seen) -> Verdict {
    if *outcome != RunOutcome::Passed {
        return Verdict::Failed;
    }
    // An audit looks for what is stale, not for what waits.
    let is_answer = matches!(
        Command::decode(site.command),
        Command::PriResp { .. } | Command::Resume { .. } | Command::StallTerm { .. }
    );
    if is_answer || original.is_empty() {
        return Verdict::Unknown;
    }
    // Where the driver goes another way, the scenario alone judges.
    let is_new = |look: &Look| {
        let same = original.iter().find(|other| other.before == look.before);
        same.is_some_and(|other| !look.stale.is_subset(&other.stale))
    };
    match tampered.looks.iter().any(is_new) {
        true => Verdict::Audited,
        false => Verdict::Harmless(Harmless::SameEffect),
    }
}

/// Sets the reasons of the harmless ones, by what leaving the command out does.
fn explain(mutants: &mut [Mutant]) {
    let needless: BTreeSet<usize> = mutants
        .iter()
        .filter(|mutant| mutant.mutation == Mutation::LeftOut && !mutant.verdict.is_noticed())
        .map(|mutant| mutant.number)
        .collect();
    for mutant in mutants {
        if let Verdict::Harmless(why) = &mut mutant.verdict {
            let is_sync = matches!(Command::decode(mutant.site.command), Command::Sync { .. });
            *why = match mutant.mutation {
                _ if is_sync => Harmless::CompletedLater,
                _ if needless.contains(&mutant.number) => Harmless::Needless,
                Mutation::AfterSync => Harmless::CompletedLater,
                _ => Harmless::SameEffect,
            };
        }
    }
}
