use std::io::Write;

use serde_json::json;

use super::{BackendArgs, Exit, Format};
use crate::engine::{self, RigError};

#[derive(Debug, clap::Args)]
pub(super) struct Probe {
    #[command(flatten)]
    backend: BackendArgs,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

impl Probe {
    pub(super) fn run(&self) -> Result<(), Exit> {
        let backend = self.backend.open()?;
        let probed = engine::probe(&*backend).map_err(|error| match error {
            RigError::Backend(error) => error.into(),
            other => Exit::Unavailable(other.to_string()),
        })?;
        let (id, caps) = (probed.id, probed.caps);
        let quirks: Vec<String> = probed.quirks.iter().map(|quirk| quirk.to_string()).collect();
        let raw = [
            ("IDR0", id.idr0),
            ("IDR1", id.idr1),
            ("IDR3", id.idr3),
            ("IDR5", id.idr5),
            ("IIDR", id.iidr),
            ("AIDR", id.aidr),
        ];
        let mut out = std::io::stdout().lock();
        match self.format {
            Format::Human => {
                writeln!(out, "backend          {}", backend.describe())?;
                writeln!(out, "{caps}")?;
                let known = if quirks.is_empty() { "none".into() } else { quirks.join(", ") };
                writeln!(out, "quirks           {known}")?;
                let raw = raw.map(|(name, value)| format!("{name} {value:#010x}"));
                writeln!(out, "raw              {}", raw.join("  "))?;
            }
            Format::Json => {
                let registers: serde_json::Map<String, serde_json::Value> =
                    raw.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
                let words: serde_json::Map<String, serde_json::Value> = caps
                    .to_string()
                    .lines()
                    .filter_map(|line| line.split_at_checked(17))
                    .map(|(name, value)| (name.trim().to_owned(), json!(value)))
                    .collect();
                let line = json!({
                    "backend": backend.name(),
                    "description": backend.describe(),
                    "capabilities": words,
                    "quirks": quirks,
                    "registers": registers,
                });
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }
}
