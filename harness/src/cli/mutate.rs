//! `mutate`: change each command of scenarios, one at a time, and see whether they fail.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;

use super::exit::Exit;
use super::output_format::{OutputFormat, json_line};
use crate::backend::{Qemu, UNHELPFUL};
use crate::mutate::{
    Count, Mutant, Mutation, NoMutants, NoSuchMutation, StoreMutant, StoreTable, StoreVerdict,
    Table, mutants, repeats, store_mutants,
};
use crate::scenario_files::builtin;
use smmu_engine::machine::{Backend, QueueName};
use smmu_engine::scenario::Scenario;
use smmu_types::Command;

/// Where the scenarios run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Where {
    /// The built-in model, as unhelpful as the architecture allows.
    Mock,
    /// QEMU's SMMUv3.
    Qemu,
}

#[derive(Debug, clap::Args)]
pub(super) struct MutateArgs {
    /// Names of built-in scenarios. Default: all whose commands are the same in each run.
    scenarios: Vec<String>,
    /// Where they run.
    #[arg(long, value_enum, default_value_t = Where::Mock)]
    backend: Where,
    /// The QEMU to use. Default: SMMU_QEMU, then what `cargo xtask qemu` unpacked, then PATH.
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
    /// Only these mutations, as left-out or wrong-tag. Default: all.
    #[arg(long, value_name = "MUTATION", value_delimiter = ',', value_parser = kind)]
    only: Vec<Mutation>,
    /// Leave out stores to the driver's tables and queues and to page tables instead, on SMMUs that do
    /// not snoop.
    #[arg(long, conflicts_with_all = ["only", "backend", "qemu"])]
    stores: bool,
    /// Threads that run scenarios, at least 1. Default: as many as CPUs, and 1 on QEMU.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Also print each mutant that was not noticed, and why it does no harm.
    #[arg(long)]
    missed: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

fn kind(text: &str) -> Result<Mutation, NoSuchMutation> {
    Mutation::of_keyword(text)
}

impl MutateArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        let mut scenarios = builtin()?;
        for name in &self.scenarios {
            let found = scenarios.iter().find(|scenario| scenario.name == *name);
            let found = found.ok_or_else(|| {
                Exit::Usage(format!("no built-in scenario is called {name}; `list` shows them"))
            })?;
            if !repeats(found) {
                return Err(Exit::Usage(NoMutants::Parallel(name.clone()).to_string()));
            }
        }
        scenarios.retain(|scenario| match self.scenarios.as_slice() {
            [] => repeats(scenario),
            names => names.contains(&scenario.name),
        });
        let kinds = if self.only.is_empty() { &Mutation::ALL[..] } else { &self.only };
        let backend: Box<dyn Backend> = match self.backend {
            Where::Mock if self.qemu.is_some() => {
                return Err(Exit::Usage("--qemu needs --backend qemu".into()));
            }
            Where::Mock => Box::new(UNHELPFUL),
            Where::Qemu => Box::new(Qemu::find(self.qemu.as_deref())?),
        };
        let threads = match (self.jobs, self.backend) {
            (Some(jobs), _) => usize::from(jobs),
            (None, Where::Mock) => std::thread::available_parallelism().map_or(1, usize::from),
            (None, Where::Qemu) => 1,
        };
        let start = Instant::now();
        let (ran, fails) = if self.stores {
            let (all, ran, fails) = each(&scenarios, |scenario| store_mutants(scenario, threads))?;
            self.print_stores(&all, ran, start.elapsed().as_secs_f64())?;
            (ran, fails)
        } else {
            let (all, ran, fails) =
                each(&scenarios, |scenario| mutants(scenario, &*backend, kinds, threads))?;
            self.print(&all, ran, start.elapsed().as_secs_f64())?;
            (ran, fails)
        };
        if fails || ran == 0 { Err(Exit::Failed) } else { Ok(()) }
    }

    fn print_stores(&self, all: &[StoreMutant], ran: usize, seconds: f64) -> Result<(), Exit> {
        let mut out = std::io::stdout().lock();
        let table = StoreTable::of(all);
        match self.format {
            OutputFormat::Human => write!(out, "{table}").map_err(Exit::Output)?,
            OutputFormat::Json => {
                for (scenario, count) in &table.0 {
                    let fields = json!({
                        "scenario": scenario, "all": count.all(), "noticed": count.noticed,
                        "not_read": count.not_read, "not_noticed": count.not_noticed,
                    });
                    writeln!(out, "{}", json_line("stores", fields)).map_err(Exit::Output)?;
                }
            }
        }
        let is_missed = |mutant: &&StoreMutant| mutant.verdict != StoreVerdict::Noticed;
        for mutant in all.iter().filter(|mutant| self.missed && is_missed(mutant)) {
            let StoreMutant { scenario, number, store, verdict } = mutant;
            let (at, old, new, verdict) = (store.at, store.old, store.new, verdict.name());
            match self.format {
                OutputFormat::Human => {
                    writeln!(
                        out,
                        "{scenario}: store {number}: {at} {old:#x} to {new:#x}: {verdict}"
                    )
                }
                OutputFormat::Json => {
                    let fields = json!({
                        "scenario": scenario, "number": number, "address": at.to_string(),
                        "old": format!("{old:#x}"), "new": format!("{new:#x}"), "verdict": verdict,
                    });
                    writeln!(out, "{}", json_line("missed store", fields))
                }
            }
            .map_err(Exit::Output)?;
        }
        let sum = table.sum();
        let (noticed, all) = (sum.noticed, sum.all());
        writeln!(
            std::io::stderr(),
            "{noticed} of {all} left-out stores of {ran} scenarios noticed, in {seconds:.1} s"
        )
        .map_err(Exit::Output)
    }

    fn print(&self, all: &[Mutant], scenarios: usize, seconds: f64) -> Result<(), Exit> {
        let mut out = std::io::stdout().lock();
        let table = Table::of(all);
        match self.format {
            OutputFormat::Json => {
                for ((command, mutation), count) in &table.0 {
                    let Count { all, failed, audited, needless, completed_later, .. } = count;
                    let fields = json!({
                        "command": command, "mutation": mutation.keyword(), "all": all,
                        "failed": failed, "audited": audited, "needless": needless,
                        "completed_later": completed_later, "same_effect": count.same_effect,
                        "unknown": count.unknown,
                    });
                    writeln!(out, "{}", json_line("mutations", fields)).map_err(Exit::Output)?;
                }
            }
            OutputFormat::Human => write!(out, "{table}").map_err(Exit::Output)?,
        }
        for mutant in all.iter().filter(|mutant| self.missed && !mutant.verdict.is_noticed()) {
            let Mutant { scenario, number, site, mutation, verdict } = mutant;
            let command = Command::decode(site.command);
            let (smmu, verdict) = (site.smmu, verdict.name());
            let is_second = site.queue == QueueName::Second;
            match self.format {
                OutputFormat::Json => {
                    let fields = json!({
                        "scenario": scenario, "number": number, "smmu": smmu,
                        "second_queue": is_second, "command": command.to_string(),
                        "mutation": mutation.keyword(),
                        "verdict": verdict,
                    });
                    writeln!(out, "{}", json_line("missed mutant", fields))
                }
                OutputFormat::Human => {
                    let mutation = mutation.name();
                    let queue = if is_second { ", second queue," } else { "" };
                    writeln!(
                        out,
                        "{scenario}: command {number}: smmu{smmu}{queue} {command}: {mutation}: \
                         {verdict}"
                    )
                }
            }
            .map_err(Exit::Output)?;
        }
        let sum = table.sum(|_, _| true);
        writeln!(
            std::io::stderr(),
            "{} of {} mutants of {scenarios} scenarios noticed, in {seconds:.1} s",
            sum.noticed(),
            sum.all
        )
        .map_err(Exit::Output)
    }
}

/// Tries the mutants of each scenario. Returns them, how many scenarios have some, and whether a
/// scenario fails as it stands.
fn each<M>(
    scenarios: &[Scenario],
    mut mutants: impl FnMut(&Scenario) -> Result<Vec<M>, NoMutants>,
) -> Result<(Vec<M>, usize, bool), Exit> {
    let (mut all, mut ran, mut fails) = (Vec::new(), 0, false);
    for (n, scenario) in scenarios.iter().enumerate() {
        progress(&format!("{}/{} {}", n + 1, scenarios.len(), scenario.name));
        match mutants(scenario) {
            Ok(found) => {
                ran += 1;
                all.extend(found);
            }
            Err(why) => {
                progress("");
                fails |= matches!(why, NoMutants::Fails(..));
                writeln!(std::io::stderr(), "{why}").map_err(Exit::Output)?;
            }
        }
    }
    progress("");
    Ok((all, ran, fails))
}

/// Shows on a terminal how far it is. An empty text clears the line.
fn progress(text: &str) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        // A progress line that cannot be written is no error.
        let _ = write!(err, "\r\x1b[K{text}");
        let _ = err.flush();
    }
}
