//! A driver that forgets one publication or one store, on SMMUs that do not snoop.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use smmu_engine::machine::{Backend, BackendError, Machine, MachineSpec, Need};
use smmu_engine::run::{RunOptions, RunOutcome, RunReport, run};
use smmu_engine::scenario::Scenario;
use smmu_model::{CachedStore, CpuCaches, Lapse};
use smmu_types::PhysAddr;

use super::trial::{NoMutants, by_threads, repeats};
use crate::backend::{MockVariant, NOT_SNOOPING, UNHELPFUL, USUAL_ONLY, start};

/// [`UNHELPFUL`], and [`NOT_SNOOPING`]: no SMMU sees a store before its publication.
const OPPONENT: MockVariant = MockVariant {
    name: "unhelpful, not snooping",
    change: |profile, streams| {
        (UNHELPFUL.change)(profile, streams);
        (NOT_SNOOPING.change)(profile, streams);
    },
};

/// [`OPPONENT`], whose driver forgets something.
struct Forgetful {
    lapse: Option<Lapse>,
    caches: Mutex<Option<CpuCaches>>,
}

impl Backend for Forgetful {
    fn name(&self) -> &'static str {
        OPPONENT.name()
    }

    fn describe(&self) -> String {
        OPPONENT.describe()
    }

    fn offers(&self, need: Need) -> bool {
        OPPONENT.offers(need)
    }

    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        let machine = start(spec, OPPONENT.change);
        if let (Some(caches), Some(lapse)) = (&machine.caches, self.lapse) {
            caches.forget(lapse);
        }
        self.caches.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&machine.caches);
        Ok(Box::new(machine))
    }
}

/// A run in which the driver or the owner of the page tables may have forgotten something.
#[derive(Debug)]
pub struct ForgetfulRun {
    /// The report.
    pub report: RunReport,
    /// The address of each publication that had something to write back, in their order.
    pub publications: Vec<PhysAddr>,
    /// The stores that reached memory, or should have, in their order. Those to pages of the scenario
    /// are among them.
    pub stores: Vec<CachedStore>,
    /// Reads of the word of a [`Lapse::Store`] while memory lacked the store.
    pub wrong_reads: u64,
}

/// Runs a scenario on the least helpful SMMUs, which do not snoop, with at most one lapse.
#[must_use]
pub fn run_forgetful(scenario: &Scenario, lapse: Option<Lapse>) -> ForgetfulRun {
    let backend = Forgetful { lapse, caches: Mutex::default() };
    let report = run(scenario, &backend, RunOptions::default());
    match backend.caches.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(caches) => ForgetfulRun {
            report,
            publications: caches.publications(),
            stores: caches.stores(),
            wrong_reads: caches.wrong_reads(),
        },
        // A run that was skipped has no machine.
        None => {
            let (publications, stores) = (Vec::new(), Vec::new());
            ForgetfulRun { report, publications, stores, wrong_reads: 0 }
        }
    }
}

/// A store that was left out, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreMutant {
    /// The scenario.
    pub scenario: String,
    /// Which of [`ForgetfulRun::stores`] it is.
    pub number: usize,
    /// The store.
    pub store: CachedStore,
    /// What came of it.
    pub verdict: StoreVerdict,
}

/// What came of a store that was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreVerdict {
    /// The scenario failed.
    Noticed,
    /// Nobody read the word before a later store to it, or before the end. So it did no harm.
    NotRead,
    /// The SMMU or an audit read the old value. Nothing that the scenario does or expects depends on it.
    NotNoticed,
}

impl StoreVerdict {
    /// In a few words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            StoreVerdict::Noticed => "noticed",
            StoreVerdict::NotRead => "harmless: not read before the next store to the word",
            StoreVerdict::NotNoticed => "not noticed",
        }
    }
}

/// Leaves out each store of a scenario, one at a time, by `threads` threads. A store is a word that a
/// publication changes in memory, of the driver's tables and queues, or of page tables. If one
/// publication changes many words alike, such as all STEs of a new table, the first stands for all.
///
/// # Errors
///
/// The scenario is skipped, fails as it stands, or has another order in each run.
pub fn store_mutants(scenario: &Scenario, threads: usize) -> Result<Vec<StoreMutant>, NoMutants> {
    let name = || scenario.name.clone();
    if !repeats(scenario) {
        return Err(NoMutants::Parallel(name()));
    }
    if let Some(usual) = USUAL_ONLY.iter().find(|usual| usual.scenario == scenario.name) {
        return Err(NoMutants::UsualOnly(name(), usual.reason));
    }
    let original = run_forgetful(scenario, None);
    match original.report.outcome {
        RunOutcome::Passed => {}
        RunOutcome::Skipped { reason } => return Err(NoMutants::Skipped(name(), reason)),
        other => {
            let why = other.failure().map_or_else(String::new, ToString::to_string);
            return Err(NoMutants::Fails(name(), why));
        }
    }
    // The pages that devices write to are the scenario's, and come first in RAM.
    let pages = scenario.file.pages.len() as u64 * 4096;
    let base = original.publications.first().map_or(0, |first| first.0);
    let is_ours = |store: &CachedStore| store.at.0 >= base + pages;
    let mut seen = BTreeSet::new();
    let mut is_first = |store: &CachedStore| seen.insert((store.publication, store.old, store.new));
    let all = original.stores.into_iter().enumerate();
    let work: Vec<(usize, CachedStore)> =
        all.filter(|(_, store)| is_ours(store) && is_first(store)).collect();
    let mut done = by_threads(&work, threads, |&(number, store)| {
        let ran = run_forgetful(scenario, Some(Lapse::Store(number)));
        let verdict = match ran.report.outcome {
            RunOutcome::Passed if ran.wrong_reads == 0 => StoreVerdict::NotRead,
            RunOutcome::Passed => StoreVerdict::NotNoticed,
            _ => StoreVerdict::Noticed,
        };
        StoreMutant { scenario: name(), number, store, verdict }
    });
    done.sort_by_key(|mutant| mutant.number);
    Ok(done)
}
