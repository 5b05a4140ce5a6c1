//! `lint`: checks what firmware tables say about SMMUs, and prints which device is behind which.

mod acpi;
mod checks;
mod device_tree;
pub(super) mod files;
mod machine;
mod print;
mod reserved;

use std::io::Write;
use std::path::PathBuf;

use super::exit::Exit;
use super::output_format::OutputFormat;
use files::TableKind;
use machine::Severity;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LintArgs {
    /// A flattened device tree, an ACPI table IORT, a file of several ACPI tables, or a folder of
    /// such files.
    #[arg(value_name = "FILE | FOLDER", required = true)]
    paths: Vec<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

const EXAMPLES: &str = "\
Examples:
  smmu-harness lint board.dtb
  smmu-harness lint /sys/firmware/fdt
  smmu-harness lint /sys/firmware/acpi/tables

An error means that a driver cannot follow the table, or translates wrongly by it. A warning means
that the table looks mistaken.

Exit status: 0 no error, 1 errors in a table, 2 wrong usage, or a file is no such table.";

impl LintArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        let (mut tables, mut broken) = (Vec::new(), false);
        let mut complain = |error: String| {
            broken = true;
            // Without standard error, no reader is left.
            let _ = writeln!(std::io::stderr(), "error: {error}");
        };
        for path in &self.paths {
            let found = files::find(path);
            tables.extend(found.tables);
            found.unread.into_iter().for_each(&mut complain);
        }
        let mut out = anstream::stdout().lock();
        let mut failed = false;
        let mut first = true;
        for table in &tables {
            let read = match table.kind {
                TableKind::DeviceTree => {
                    device_tree::read(&table.bytes).map_err(|error| error.to_string())
                }
                TableKind::Iort => acpi::read(&table.bytes).map_err(|error| error.to_string()),
            };
            let mut machine = match read {
                Ok(machine) => machine,
                Err(error) => {
                    complain(format!("{}: {error}", table.name));
                    continue;
                }
            };
            checks::check(&mut machine);
            failed |= machine.count(Severity::Error).0 > 0;
            match self.format {
                OutputFormat::Human => {
                    if !std::mem::take(&mut first) {
                        writeln!(out)?;
                    }
                    print::human(&mut out, &table.name, &machine)?;
                }
                OutputFormat::Json => print::json(&mut out, &table.name, &machine)?,
            }
        }
        out.flush()?;
        match (broken, failed) {
            (true, _) => Err(Exit::Complained),
            (false, true) => Err(Exit::Failed),
            (false, false) => Ok(()),
        }
    }
}
