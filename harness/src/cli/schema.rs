//! `schema`: the scenario format for editors, and its reference page.

use std::io::Write;

use smmu_engine::scenario::{reference, schema};

use super::exit::Exit;

/// What describes the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SchemaForm {
    /// The JSON Schema, which an editor checks files with.
    Json,
    /// The reference page, in Markdown.
    Markdown,
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
            SchemaForm::Markdown => write!(out, "{}", reference())?,
        }
        Ok(())
    }
}
