//! `diff`: which commands one run sends and another does not.

use std::path::{Path, PathBuf};

use super::difference::{DifferencePrinter, Layout};
use super::exit::Exit;
use super::output_format::OutputFormat;
use crate::view::diff::{ComparedLine, ComparedRun, compare, read};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DiffArgs {
    /// The first run: what `run --format json` or `run --transcript` prints, or a .snap file.
    first: PathBuf,
    /// The second run.
    second: PathBuf,
    /// Compare commands alone, and no tags, arrays, DMAs, events and checks.
    #[arg(long)]
    commands: bool,
    /// Print the runs side by side.
    #[arg(long, conflicts_with = "format")]
    side_by_side: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

const EXAMPLES: &str = "\
`-` stands before what the first run alone has, `+` before what the second alone has, and `<` and `>` before a command that has moved.

Examples:
  smmu-harness run --format json > before.jsonl
  smmu-harness run --format json > after.jsonl
  smmu-harness diff before.jsonl after.jsonl
  smmu-harness diff snapshots/first-light.snap after.jsonl --commands

Exit status: 0 equal, 1 different, 2 a file is no record and no transcript.";

impl DiffArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        let first = self.load(&self.first)?;
        let mut second = self.load(&self.second)?;
        let layout = if self.side_by_side { Layout::SideBySide } else { Layout::Lines };
        let mut printer = DifferencePrinter::new(self.format, layout);
        // A transcript without a name is compared with the only run of the other file.
        let alone = first.len() == 1 && second.len() == 1;
        for run in &first {
            let same = |other: &ComparedRun| {
                let unnamed = run.scenario.is_empty() || other.scenario.is_empty();
                run.scenario == other.scenario || alone && unnamed
            };
            let other = second.iter().position(same).map(|at| second.remove(at));
            match other {
                Some(other) => printer.both(run, &other, &compare(run, &other))?,
                None => printer.alone(run, true)?,
            }
        }
        // The snapshot of one scenario says nothing of the others.
        let is_snapshot = self.first.extension().is_some_and(|ending| ending == "snap");
        for run in second.iter().filter(|_| !is_snapshot) {
            printer.alone(run, false)?;
        }
        if printer.end()? { Err(Exit::Failed) } else { Ok(()) }
    }

    fn load(&self, path: &Path) -> Result<Vec<ComparedRun>, Exit> {
        let shown = path.display();
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| Exit::Usage(format!("{shown}: {error}")))?;
        let mut runs = read(&text).map_err(|error| Exit::Usage(format!("{shown}: {error}")))?;
        // A snapshot has the name of its scenario.
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if let [run] = runs.as_mut_slice()
            && run.scenario.is_empty()
            && path.extension().is_some_and(|ending| ending == "snap")
        {
            run.scenario = stem.split('@').next().unwrap_or_default().to_owned();
        }
        let kept = |run: ComparedRun| match self.commands {
            true => run.with_lines(ComparedLine::is_command),
            false => run,
        };
        Ok(runs.into_iter().map(kept).collect())
    }
}
