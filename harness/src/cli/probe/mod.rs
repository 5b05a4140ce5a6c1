//! `probe`: shows what an SMMU can do: a backend's, or one whose ID registers are given.

mod json;

use std::io::Write;

use serde_json::json;

use super::backend_args::BackendArgs;
use super::exit::Exit;
use super::output_format::{OutputFormat, json_line};
use smmu_decode::{KnownIds, ids};
use smmu_engine::run::{self, RigError};
use smmu_types::{Capabilities, Quirks};

#[derive(Debug, clap::Args)]
pub(super) struct ProbeArgs {
    #[command(flatten)]
    backend: BackendArgs,
    /// Show the SMMU with these ID registers, such as those of your board: IDR0=0x...,IDR1=0x...
    #[arg(long, value_name = "REGISTERS", conflicts_with_all = ["backend", "qemu"])]
    idr: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

impl ProbeArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        if let Some(text) = &self.idr {
            let known = ids::parse(text);
            let known = known.map_err(|error| Exit::Usage(format!("--idr: {error}")))?;
            return self.given(&known);
        }
        let backend = self.backend.open()?;
        let probed = run::probe(&*backend).map_err(|error| match error {
            RigError::Backend(error) => error.into(),
            other => Exit::Unavailable(other.to_string()),
        })?;
        let (id, caps) = (probed.id, probed.caps);
        let quirks: Vec<String> = probed.quirks.iter().map(|quirk| quirk.to_string()).collect();
        let mut out = std::io::stdout().lock();
        match self.format {
            OutputFormat::Human => {
                writeln!(out, "backend          {}", backend.describe())?;
                writeln!(out, "{caps}")?;
                let known = if quirks.is_empty() { "none".into() } else { quirks.join(", ") };
                writeln!(out, "quirks           {known}")?;
                let raw = id.named().map(|(name, value)| format!("{name} {value:#010x}"));
                writeln!(out, "raw              {}", raw.join("  "))?;
            }
            OutputFormat::Json => {
                let fields = json!({
                    "backend": backend.name(),
                    "description": backend.describe(),
                    "capabilities": json::capabilities(&caps),
                    "quirks": quirks,
                    "registers": json::registers(&id),
                });
                writeln!(out, "{}", json_line("probe", fields))?;
            }
        }
        Ok(())
    }

    /// Shows an SMMU of which some ID registers may be unknown.
    fn given(&self, known: &KnownIds) -> Result<(), Exit> {
        let (id, caps) = (known.values, Capabilities::decode(known.values));
        let quirks: Vec<String> =
            Quirks::of(caps.implementation).iter().map(|quirk| quirk.to_string()).collect();
        let mut missing: Vec<&str> = known.missing().collect();
        missing.extend(Some("IIDR").filter(|name| !known.is_known(name)));
        let mut out = std::io::stdout().lock();
        match self.format {
            OutputFormat::Human => {
                for line in caps.to_string().lines() {
                    let (label, _) = line.split_at_checked(LABEL).unwrap_or((line, ""));
                    let unknown: Vec<&str> = needs(label.trim())
                        .iter()
                        .copied()
                        .filter(|name| !known.is_known(name))
                        .collect();
                    match unknown.is_empty() {
                        true => writeln!(out, "{line}")?,
                        false if label.trim() == "more" => {
                            writeln!(out, "{line} (not given: {})", unknown.join(", "))?;
                        }
                        false => {
                            writeln!(out, "{label}unknown: {} is not given", unknown.join(", "))?;
                        }
                    }
                }
                let none =
                    if known.is_known("IIDR") { "none" } else { "unknown: IIDR is not given" };
                let listed = if quirks.is_empty() { none.into() } else { quirks.join(", ") };
                writeln!(out, "quirks           {listed}")?;
                let given = id.named().into_iter().filter(|(name, _)| known.is_known(name));
                let raw: Vec<String> =
                    given.map(|(name, value)| format!("{name} {value:#010x}")).collect();
                writeln!(out, "raw              {}", raw.join("  "))?;
            }
            OutputFormat::Json => {
                let fields = json!({
                    "backend": "given",
                    "capabilities": json::capabilities(&caps),
                    "not_given": missing,
                    "quirks": quirks,
                    "registers": json::registers(&id),
                });
                writeln!(out, "{}", json_line("probe", fields))?;
            }
        }
        Ok(())
    }
}

/// The width of a label.
const LABEL: usize = 17;

/// The registers from which a line of the capabilities comes.
fn needs(label: &str) -> &'static [&'static str] {
    match label {
        "architecture" => &["AIDR"],
        "granules" | "output address" | "virtual address" => &["IDR5"],
        "StreamID" => &["IDR0", "IDR1"],
        "SubstreamID" | "largest queues" => &["IDR1"],
        "range commands" => &["IDR3"],
        "more" => &["IDR0", "IDR1", "IDR3", "IDR5"],
        _ => &["IDR0"],
    }
}
