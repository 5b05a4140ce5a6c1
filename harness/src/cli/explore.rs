//! `explore`: random raw work on several machines at once.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;

use super::exit::Exit;
use super::output_format::{OutputFormat, json_line};
use crate::backend::Qemu;
use crate::explore::{Deviation, Explorer, Finding, KNOWN_QEMU, QEMU_DEVIATIONS, RawOp, Tally};
use smmu_engine::machine::Backend;

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
        let (mut machines, mut explorer) = (vec!["mock".to_owned()], Explorer::of_model()?);
        if self.backend.contains(&Taking::Qemu) {
            let qemu = Qemu::find(self.qemu.as_deref())?;
            machines.push(qemu.describe());
            let judged = qemu.describe() == KNOWN_QEMU;
            known.retain(|deviation| judged && !self.without(deviation));
            explorer.add(Box::new(qemu), &known)?;
        } else if self.qemu.is_some() {
            return Err(Exit::Usage("--qemu needs --backend qemu".into()));
        }
        let start = Instant::now();
        let mut found = false;
        if let Some(file) = &self.replay {
            let text = std::fs::read_to_string(file)
                .map_err(|error| Exit::Usage(format!("{}: {error}", file.display())))?;
            let ops = RawOp::parse_all(&text)
                .map_err(|error| Exit::Usage(format!("{}: {error}", file.display())))?;
            found |= self.one(&mut explorer, &ops, None)?;
        } else {
            for seed in (self.seed..).take(usize::try_from(self.seeds).unwrap_or(usize::MAX)) {
                found |= self.one(&mut explorer, &Explorer::work(seed, self.steps), Some(seed))?;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        self.summary(&machines, explorer.tally(), seconds)?;
        if found { Err(Exit::Failed) } else { Ok(()) }
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
    fn one(
        &self,
        explorer: &mut Explorer<'_>,
        ops: &[RawOp],
        seed: Option<u64>,
    ) -> Result<bool, Exit> {
        let Some(finding) = explorer.play(ops)? else { return Ok(false) };
        let few = explorer.shrunk(ops, &finding)?;
        // The shortest list has a finding too, and it is the one to tell.
        let finding = explorer.play(&few)?.unwrap_or(finding);
        let name = seed.map_or_else(|| "explore-replay".into(), |seed| format!("explore-{seed}"));
        let file = self.out.join(format!("{name}.raw"));
        std::fs::write(&file, text(&few, &finding))?;
        let mut out = std::io::stdout().lock();
        match self.format {
            OutputFormat::Human => {
                writeln!(out, "DIFFERENT {name}: {} operations in {}", few.len(), file.display())?;
                for line in finding.to_string().lines() {
                    writeln!(out, "          {line}")?;
                }
            }
            OutputFormat::Json => {
                let Finding { machine, expected, happened, .. } = &finding;
                let fields = json!({
                    "seed": seed, "machine": machine, "expected": expected, "happened": happened,
                    "file": file, "operations": few.len(),
                });
                writeln!(out, "{}", json_line("difference", fields))?;
            }
        }
        Ok(true)
    }

    fn summary(&self, machines: &[String], tally: &Tally, seconds: f64) -> Result<(), Exit> {
        let Tally { steps, dmas, landed, stale, events, refused, deviations } = tally;
        let mut out = std::io::stdout().lock();
        if self.format == OutputFormat::Json {
            let fields = json!({
                "machines": machines, "seeds": self.seeds, "steps": steps, "dmas": dmas,
                "landed": landed, "stale": stale, "refused": refused, "events": events,
                "deviations": deviations, "seconds": seconds,
            });
            writeln!(out, "{}", json_line("exploration", fields))?;
            return Ok(());
        }
        writeln!(
            out,
            "{}: {steps} steps in {seconds:.2} s ({:.0} a second)",
            machines.join(", "),
            *steps as f64 / seconds.max(1e-9)
        )?;
        writeln!(out, "{dmas} DMAs, {landed} reached memory, {stale} met something stale")?;
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
fn text(ops: &[RawOp], finding: &Finding) -> String {
    let mut text = String::new();
    for line in finding.to_string().lines() {
        text += &format!("# {line}\n");
    }
    for op in ops {
        text += &format!("{op}\n");
    }
    text
}
