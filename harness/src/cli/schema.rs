//! `schema`: the scenario format for editors, its reference page, and the format of a record.

use std::io::Write;

use smmu_engine::record::record_schema;
use smmu_engine::scenario::{reference, schema};

use super::exit::Exit;

/// What describes the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SchemaForm {
    /// The JSON Schema, which an editor checks files with.
    Json,
    /// The reference page, in Markdown.
    Markdown,
    /// The JSON Schema of a line of `run --format json`.
    Record,
}

#[derive(Debug, clap::Args)]
pub(super) struct SchemaArgs {
    /// What to print.
    #[arg(long, value_enum, default_value_t = SchemaForm::Json)]
    form: SchemaForm,
}

impl SchemaArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        let mut out = std::io::stdout().lock();
        match self.form {
            SchemaForm::Json => writeln!(out, "{:#}", schema())?,
            SchemaForm::Record => writeln!(out, "{:#}", record_schema())?,
            SchemaForm::Markdown => write!(out, "{}", reference())?,
        }
        Ok(())
    }
}
