//! `conform`: what a machine must do, checked past any driver.

use std::io::Write;
use std::time::Instant;

use serde_json::json;

use super::backend_args::{BackendArgs, BackendName};
use super::exit::Exit;
use super::one_of::one_of;
use super::output_format::{OutputFormat, json_line};
use super::similar_name::did_you_mean;
use crate::conform::{self, Check, DEVIATIONS, KINDS, Kind, Outcome, Suite};

#[derive(Debug, clap::Args)]
pub(super) struct ConformArgs {
    #[command(flatten)]
    backend: BackendArgs,
    /// The SMMU that the model is. Other backends have one kind.
    #[arg(
        long,
        value_name = "KIND",
        value_parser = one_of(KINDS, |kind| kind.name, |kind| kind.text)
    )]
    kind: Option<Kind>,
    /// Carry out only the checks whose names contain TEXT.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print the checks with their sections, and carry none out.
    #[arg(long)]
    list: bool,
    /// Print the known deviations as a table, and carry nothing out.
    #[arg(long, exclusive = true)]
    known: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

/// How many checks ended in which way.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    not_offered: usize,
    known: usize,
}

impl ConformArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        if self.known {
            return print_known();
        }
        let chosen = self.chosen()?;
        if self.list {
            return self.print_list(&chosen);
        }
        let kind = match (self.kind, self.backend.backend) {
            (Some(_), BackendName::Qemu) => {
                let what = "--kind is for the model: QEMU's SMMU is of one kind".into();
                return Err(Exit::Usage(what));
            }
            (kind, _) => kind.or_else(|| KINDS.first().copied()),
        };
        let Some(kind) = kind else { return Ok(()) };
        let backend = self.backend.open()?;
        let (start, mut tally) = (Instant::now(), Tally::default());
        let mut suite = Suite::new(&*backend, &kind);
        for check in chosen {
            let outcome = suite.run(check)?;
            match outcome {
                Outcome::Passed => tally.passed += 1,
                Outcome::NotOffered(_) => tally.not_offered += 1,
                Outcome::Known { .. } => tally.known += 1,
                Outcome::Failed { .. } | Outcome::Mended(_) => tally.failed += 1,
            }
            self.print(check, &outcome)?;
        }
        self.summary(backend.name(), &tally, start.elapsed().as_secs_f64())?;
        if tally.failed > 0 { Err(Exit::Failed) } else { Ok(()) }
    }

    fn chosen(&self) -> Result<Vec<&'static Check>, Exit> {
        let Some(text) = &self.only else { return Ok(conform::checks().collect()) };
        let chosen: Vec<&Check> =
            conform::checks().filter(|check| check.name.contains(text.as_str())).collect();
        if chosen.is_empty() {
            let near = did_you_mean(text, conform::checks().map(|check| check.name));
            return Err(Exit::Usage(format!("no check has \"{text}\" in its name{near}")));
        }
        Ok(chosen)
    }

    fn print_list(&self, chosen: &[&Check]) -> Result<(), Exit> {
        let mut out = std::io::stdout().lock();
        let width = chosen.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for check in chosen {
            let needs: Vec<&str> = check.needs.iter().map(|need| need.name()).collect();
            let Check { name, section, title, .. } = check;
            match self.format {
                OutputFormat::Json => {
                    let group = check.group.name();
                    let fields = json!({
                        "name": name, "group": group, "section": section, "title": title,
                        "needs": needs,
                    });
                    writeln!(out, "{}", json_line("check", fields))?;
                }
                OutputFormat::Human => {
                    let needs = match &*needs {
                        [] => String::new(),
                        needs => format!("; needs {}", needs.join(", ")),
                    };
                    writeln!(out, "{name:width$}  {section:8}  {title}{needs}")?;
                }
            }
        }
        Ok(())
    }

    fn print(&self, check: &Check, outcome: &Outcome) -> Result<(), Exit> {
        let mut out = std::io::stdout().lock();
        let Check { name, section, title, .. } = check;
        if self.format == OutputFormat::Json {
            let mut fields = json!({ "name": name, "section": section });
            let more = match outcome {
                Outcome::Passed => json!({ "outcome": "passed" }),
                Outcome::Failed { expected, got } => {
                    json!({ "outcome": "failed", "expected": expected, "got": got })
                }
                Outcome::NotOffered(need) => json!({ "outcome": "not-offered", "need": need }),
                Outcome::Known { deviation, expected, got } => json!({
                    "outcome": "known-deviation", "deviation": deviation.text,
                    "machine": deviation.machine, "expected": expected, "got": got,
                }),
                Outcome::Mended(deviation) => json!({
                    "outcome": "deviation-gone", "deviation": deviation.text,
                    "machine": deviation.machine,
                }),
            };
            if let (Some(fields), serde_json::Value::Object(more)) = (fields.as_object_mut(), more)
            {
                fields.extend(more);
            }
            writeln!(out, "{}", json_line("checked", fields))?;
            return Ok(());
        }
        match outcome {
            Outcome::Passed => writeln!(out, "passed       {name}")?,
            Outcome::NotOffered(need) => writeln!(out, "not offered  {name}: needs {need}")?,
            Outcome::Known { deviation, .. } => {
                writeln!(out, "known        {name}: {}", deviation.text)?;
            }
            Outcome::Failed { expected, got } => {
                writeln!(out, "FAILED       {name}: {title} ({section})")?;
                writeln!(out, "    expected {expected}")?;
                writeln!(out, "    got      {got}")?;
            }
            Outcome::Mended(deviation) => {
                writeln!(out, "FAILED       {name}: {title} ({section})")?;
                writeln!(out, "    expected the known deviation: {}", deviation.text)?;
                writeln!(out, "    got      what the architecture demands")?;
            }
        }
        Ok(())
    }

    fn summary(&self, backend: &str, tally: &Tally, seconds: f64) -> Result<(), Exit> {
        let Tally { passed, failed, not_offered, known } = tally;
        let mut out = std::io::stdout().lock();
        match self.format {
            OutputFormat::Human => writeln!(
                out,
                "{backend}: {passed} passed, {failed} failed, {known} known deviations, {not_offered} not \
                 offered in {seconds:.2} s"
            )?,
            OutputFormat::Json => {
                let fields = json!({
                    "backend": backend, "passed": passed, "failed": failed, "known": known,
                    "not_offered": not_offered, "seconds": seconds,
                });
                writeln!(out, "{}", json_line("conformance", fields))?;
            }
        }
        Ok(())
    }
}

fn print_known() -> Result<(), Exit> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "| machine | check | what it does |\n|---|---|---|")?;
    for entry in DEVIATIONS {
        writeln!(out, "| {} | `{}` | {} |", entry.machine, entry.check, entry.text)?;
    }
    Ok(())
}
