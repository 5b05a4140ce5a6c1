//! `list`: the scenarios, what each needs, and the backends that can run it.

use std::io::Write;

use serde_json::json;

use super::exit::Exit;
use super::foreign;
use super::output_format::{OutputFormat, json_line};
use crate::backend::{Board, Qemu};
use smmu_engine::scenario::Scenario;

use crate::scenario_files::builtin;

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

/// The backends that can run a scenario, whether or not they are installed.
fn backends(scenario: &Scenario) -> Vec<&'static str> {
    let mut can = vec!["mock"];
    if scenario.file.needs.iter().all(|need| Qemu::can(*need)) {
        can.push("qemu");
    }
    if scenario.file.needs.iter().all(|need| Board::can(*need)) {
        can.push("board");
    }
    for backend in foreign::all() {
        if scenario.file.needs.iter().all(|need| backend.offers(*need)) {
            can.push(backend.name());
        }
    }
    can
}

impl ListArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        let mut out = std::io::stdout().lock();
        let scenarios = builtin()?;
        let width = scenarios.iter().map(|s| s.name.len()).max().unwrap_or(0);
        for scenario in &scenarios {
            let needs: Vec<&str> = scenario.file.needs.iter().map(|need| need.name()).collect();
            let backends = backends(scenario);
            let (name, title) = (&scenario.name, &scenario.file.title);
            match self.format {
                OutputFormat::Json => {
                    let fields = json!({
                        "name": name, "title": title, "needs": needs, "backends": backends,
                    });
                    writeln!(out, "{}", json_line("built-in scenario", fields))?;
                }
                OutputFormat::Human => {
                    writeln!(out, "{name:width$}  {title}")?;
                    writeln!(
                        out,
                        "{:width$}  needs {}; runs on {}",
                        "",
                        needs.join(", "),
                        backends.join(", ")
                    )?;
                }
            }
        }
        Ok(())
    }
}
