//! `new`: writes a scenario file to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use super::exit::Exit;

#[derive(Debug, clap::Args)]
pub(super) struct NewArgs {
    /// The file, with or without .toml. It must not be there yet.
    name: PathBuf,
}

const TEMPLATE: &str = include_str!("template.toml");

impl NewArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        let mut path = self.name.clone();
        if path.extension().is_none_or(|ending| ending != "toml") {
            path.as_mut_os_string().push(".toml");
        }
        let failed = |error: std::io::Error| Exit::Usage(format!("{}: {error}", path.display()));
        let mut file =
            OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        file.write_all(TEMPLATE.as_bytes()).map_err(failed)?;
        let shown = path.display();
        writeln!(std::io::stdout(), "{shown} is written; run it: smmu-harness run {shown}")?;
        Ok(())
    }
}
