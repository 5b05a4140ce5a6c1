//! `explore`: random raw work on several machines at once.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::json;

use super::exit::Exit;
use super::output_format::{OutputFormat, json_line};
use crate::backend::Qemu;
use crate::explore::{
    Deviation, Explorer, Finding, KNOWN_QEMU, Kind, QEMU_DEVIATIONS, Tally, Work,
};
use smmu_engine::machine::{Backend, BackendError};

/// What the machines can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Machines {
    /// What QEMU's SMMU has.
    Plain,
    /// ATS, page requests, stalls, substreams and two-level tables of CDs as well.
    Full,
}

/// A machine that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Taking {
    /// The built-in model. It always takes part, in several variants.
    Mock,
    /// QEMU's SMMUv3.
    Qemu,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExploreArgs {
    /// The first seed.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1, value_name = "K")]
    seeds: u64,
    /// Operations of each seed.
    #[arg(long, default_value_t = 4000, value_name = "M")]
    steps: usize,
    /// The machines that take part.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "mock")]
    backend: Vec<Taking>,
    /// Machines of this kind only. Default: each seed on both. QEMU is in the plain ones alone.
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "replay")]
    machine: Option<Machines>,
    /// Go on with further seeds for so long.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "replay"])]
    minutes: Option<u64>,
    /// The QEMU to use. Default: SMMU_QEMU, then what `cargo xtask qemu` unpacked, then PATH.
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
    /// Carry out the operations of a file instead of random ones.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "seeds", "steps"])]
    replay: Option<PathBuf>,
    /// Where the shortest operations that show a difference are written.
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    out: PathBuf,
    /// Count the known deviations of QEMU whose names contain TEXT as differences; "" has all.
    #[arg(long, value_name = "TEXT")]
    without: Option<String>,
    /// Print the known deviations of QEMU as a table, and do nothing else.
    #[arg(long, exclusive = true)]
    known: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

impl ExploreArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        if self.known {
            return self.print_known();
        }
        let mut known = QEMU_DEVIATIONS.to_vec();
        let mut qemu = match self.backend.contains(&Taking::Qemu) {
            true => Some(Qemu::find(self.qemu.as_deref())?),
            false if self.qemu.is_some() => {
                return Err(Exit::Usage("--qemu needs --backend qemu".into()));
            }
            false => None,
        };
        if let Some(qemu) = &qemu {
            let judged = qemu.describe() == KNOWN_QEMU;
            known.retain(|deviation| judged && !self.without(deviation));
        }
        let replayed = self.replayed()?;
        let mut sides = Vec::new();
        for kind in self.kinds(replayed.as_ref()) {
            let mut side = Side::of(kind)?;
            if kind == Kind::Plain
                && let Some(qemu) = qemu.take()
            {
                side.machines.push(qemu.describe());
                side.explorer.add(Box::new(qemu), &known)?;
            }
            sides.push(side);
        }
        let found = match &replayed {
            Some(work) => {
                let mut found = false;
                for side in &mut sides {
                    found |= self.one(side, work, None)?;
                }
                found
            }
            None => self.seeds(&mut sides)?,
        };
        for side in &sides {
            self.summary(side)?;
        }
        if found { Err(Exit::Failed) } else { Ok(()) }
    }

    /// The work of the file, if there is one.
    fn replayed(&self) -> Result<Option<Work>, Exit> {
        let Some(file) = &self.replay else { return Ok(None) };
        let wrong = |why: String| Exit::Usage(format!("{}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        Work::parse(&text).map(Some).map_err(|error| wrong(error.to_string()))
    }

    fn kinds(&self, replayed: Option<&Work>) -> Vec<Kind> {
        match (replayed, self.machine) {
            (Some(work), _) => vec![work.kind],
            (None, None) => Kind::ALL.to_vec(),
            (None, Some(Machines::Plain)) => vec![Kind::Plain],
            (None, Some(Machines::Full)) => vec![Kind::Full],
        }
    }

    /// Plays the seeds, each on both sides. Stops at the first difference if it plays for a time.
    fn seeds(&self, sides: &mut [Side<'_>]) -> Result<bool, Exit> {
        let start = Instant::now();
        let limit = self.minutes.map(|minutes| Duration::from_secs(60 * minutes));
        let count = if limit.is_some() { u64::MAX } else { self.seeds };
        let (mut found, mut told) = (false, start);
        for n in 0..count {
            if limit.is_some_and(|limit| start.elapsed() >= limit || found) {
                break;
            }
            let seed = self.seed.wrapping_add(n);
            for side in &mut *sides {
                found |=
                    self.one(side, &Explorer::work(side.kind, seed, self.steps), Some(seed))?;
                side.seeds += 1;
            }
            if limit.is_some() && told.elapsed() >= PROGRESS {
                told = Instant::now();
                let steps: u64 = sides.iter().map(|side| side.explorer.tally().steps).sum();
                let minutes = start.elapsed().as_secs() / 60;
                writeln!(
                    std::io::stderr(),
                    "{minutes} min: {} seeds, {steps} steps",
                    n.saturating_add(1)
                )?;
            }
        }
        Ok(found)
    }

    fn without(&self, deviation: &Deviation) -> bool {
        self.without.as_ref().is_some_and(|text| deviation.name.contains(text.as_str()))
    }

    fn print_known(&self) -> Result<(), Exit> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "| {KNOWN_QEMU} | section |\n|---|---|")?;
        for Deviation { name, section, .. } in QEMU_DEVIATIONS {
            writeln!(out, "| {name} | {section} |")?;
        }
        Ok(())
    }

    /// Carries out a list. Says whether a machine differs, and writes the file that shows it.
    fn one(&self, side: &mut Side<'_>, work: &Work, seed: Option<u64>) -> Result<bool, Exit> {
        let start = Instant::now();
        let explorer = &mut side.explorer;
        let played = explorer.play(&work.ops)?;
        side.seconds += start.elapsed().as_secs_f64();
        let Some(finding) = played else { return Ok(false) };
        let few = explorer.shrunk(&work.ops, &finding)?;
        // The shortest list has a finding too, and it is the one to tell.
        let finding = explorer.play(&few)?.unwrap_or(finding);
        let few = Work { kind: work.kind, ops: few };
        let kind = work.kind.name();
        let name = seed.map_or("explore-replay".into(), |seed| format!("explore-{kind}-{seed}"));
        let file = self.out.join(format!("{name}.raw"));
        std::fs::write(&file, text(&few, &finding))?;
        let mut out = std::io::stdout().lock();
        match self.format {
            OutputFormat::Human => {
                writeln!(
                    out,
                    "DIFFERENT {name}: {} operations in {}",
                    few.ops.len(),
                    file.display()
                )?;
                for line in finding.to_string().lines() {
                    writeln!(out, "          {line}")?;
                }
            }
            OutputFormat::Json => {
                let Finding { machine, expected, happened, .. } = &finding;
                let fields = json!({
                    "seed": seed, "machine": machine, "expected": expected, "happened": happened,
                    "file": file, "operations": few.ops.len(),
                    "machine_kind": kind,
                });
                writeln!(out, "{}", json_line("difference", fields))?;
            }
        }
        Ok(true)
    }

    fn summary(&self, side: &Side<'_>) -> Result<(), Exit> {
        let Side { kind, machines, seeds, seconds, .. } = side;
        let tally = side.explorer.tally();
        let Tally { steps, dmas, landed, stale, events, refused, deviations, .. } = tally;
        let Tally { stalls, translated, requests, pages, lost, .. } = tally;
        let mut out = std::io::stdout().lock();
        if self.format == OutputFormat::Json {
            let fields = json!({
                "machines": machines, "machine_kind": kind.name(), "seeds": seeds, "steps": steps,
                "dmas": dmas, "landed": landed, "stale": stale, "refused": refused,
                "stalled": stalls[0], "ended": stalls[1], "translated": translated,
                "ats_requests": requests[0], "ats_granted": requests[1],
                "page_requests": pages[0], "page_answers": pages[1], "lost": lost,
                "events": events, "deviations": deviations, "seconds": seconds,
            });
            writeln!(out, "{}", json_line("exploration", fields))?;
            return Ok(());
        }
        writeln!(
            out,
            "{} ({}): {steps} steps of {seeds} seeds in {seconds:.2} s ({:.0} a second)",
            machines.join(", "),
            kind.name(),
            *steps as f64 / seconds.max(1e-9)
        )?;
        writeln!(out, "{dmas} DMAs, {landed} reached memory, {stale} met something stale")?;
        if *kind == Kind::Full {
            let [[stalled, ended], [asked, given], [wanted, answered]] = [stalls, requests, pages];
            writeln!(out, "{stalled} DMAs waited, and {ended} of them ended later")?;
            writeln!(out, "{asked} requests for a translation, {given} were granted")?;
            writeln!(out, "{translated} DMAs were translated by their device")?;
            writeln!(out, "{wanted} page requests, {answered} answers; {lost} queues overflowed")?;
        }
        writeln!(out, "{refused} commands were refused")?;
        for (event, times) in events {
            writeln!(out, "{times:9} {event}")?;
        }
        for (deviation, times) in deviations {
            writeln!(out, "{times:9} known: {deviation}")?;
        }
        Ok(())
    }
}

/// A file of raw work.
fn text(work: &Work, finding: &Finding) -> String {
    let told = finding.to_string();
    told.lines().fold(String::new(), |text, line| text + &format!("# {line}\n")) + &work.lines()
}

/// How often a run for a time tells how far it is.
const PROGRESS: Duration = Duration::from_secs(60);

/// The machines of one kind.
struct Side<'a> {
    kind: Kind,
    machines: Vec<String>,
    explorer: Explorer<'a>,
    seeds: u64,
    /// Time that they worked.
    seconds: f64,
}

impl Side<'_> {
    fn of(kind: Kind) -> Result<Self, BackendError> {
        let (machines, explorer) = (vec!["mock".to_owned()], Explorer::of_model(kind)?);
        Ok(Side { kind, machines, explorer, seeds: 0, seconds: 0.0 })
    }
}
