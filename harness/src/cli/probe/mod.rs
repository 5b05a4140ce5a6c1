//! `probe`: shows what a backend's SMMU can do.

mod json;

use std::io::Write;

use serde_json::json;

use super::backend_args::BackendArgs;
use super::exit::Exit;
use super::output_format::{JSON_SCHEMA, OutputFormat};
use smmu_engine::run::{self, RigError};

#[derive(Debug, clap::Args)]
pub(super) struct ProbeArgs {
    #[command(flatten)]
    backend: BackendArgs,
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

impl ProbeArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
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
                let line = json!({
                    "schema": JSON_SCHEMA,
                    "type": "probe",
                    "backend": backend.name(),
                    "description": backend.describe(),
                    "capabilities": json::capabilities(&caps),
                    "quirks": quirks,
                    "registers": json::registers(&id),
                });
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }
}
