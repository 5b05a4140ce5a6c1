//! What `run` runs: built-in scenarios, files, the files of a directory, or standard input.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use smmu_engine::scenario::Scenario;

use crate::cli::exit::Exit;
use crate::cli::similar_name::did_you_mean;
use crate::scenario_files::{self, builtin, builtin_named, builtin_names};

/// A scenario, and where its own snapshot lies.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) scenario: Scenario,
    /// `None` for a built-in scenario and for standard input.
    pub(super) snapshot: Option<PathBuf>,
    /// The user named it, so its transcript is printed.
    pub(super) named: bool,
}

const STDIN: &str = "-";

/// The most that a scenario on standard input may have.
const MOST_BYTES: u64 = 1 << 20;

/// Whether a path is a directory of scenarios. A name in .toml is always that of a file.
fn is_directory(path: &Path) -> bool {
    path.extension().is_none_or(|ending| ending != "toml") && path.is_dir()
}

/// Whether an argument names a file or a directory, rather than a built-in scenario.
pub(super) fn is_path(name: &str) -> bool {
    name != STDIN && (name.contains(['/', '.']) || is_directory(Path::new(name)))
}

/// The scenarios of these arguments; without arguments, all that are built in.
pub(super) fn inputs(names: &[String]) -> Result<Vec<Input>, Exit> {
    let of_program = |scenario, named| Input { scenario, snapshot: None, named };
    if names.is_empty() {
        return Ok(builtin()?.into_iter().map(|scenario| of_program(scenario, false)).collect());
    }
    let (mut chosen, mut taken, mut files) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for name in names {
        if name == STDIN {
            chosen.push(of_program(from_stdin()?, true));
        } else if let Some(scenario) = builtin_named(name)? {
            // What is named twice runs once.
            if taken.insert(name) {
                chosen.push(of_program(scenario, true));
            }
        } else if is_path(name) {
            for path in paths(Path::new(name))? {
                if files.insert(path.clone()) {
                    let scenario = scenario_files::load(&path)?;
                    let snapshot = Some(path.with_extension("snap"));
                    chosen.push(Input { scenario, snapshot, named: true });
                }
            }
        } else {
            let hint = did_you_mean(name, builtin_names());
            let message = format!(
                "no scenario is named \"{name}\"{hint}; `smmu-harness list` shows the names, and a \
                 file ends in .toml"
            );
            return Err(Exit::Usage(message));
        }
    }
    Ok(chosen)
}

/// The files that a path stands for: itself, or the scenarios of a directory, sorted by name.
pub(super) fn paths(path: &Path) -> Result<Vec<PathBuf>, Exit> {
    if !is_directory(path) {
        return Ok(vec![path.to_owned()]);
    }
    let shown = path.display();
    let failed = |error: std::io::Error| Exit::Usage(format!("{shown}: {error}"));
    let mut found = Vec::new();
    for entry in path.read_dir().map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|ending| ending == "toml") {
            found.push(file);
        }
    }
    found.sort();
    if found.is_empty() {
        let message = format!("{shown}: the directory has no scenario, which is a file in .toml");
        return Err(Exit::Usage(message));
    }
    Ok(found)
}

fn from_stdin() -> Result<Scenario, Exit> {
    let mut text = String::new();
    let mut input = std::io::stdin().lock().take(MOST_BYTES + 1);
    input
        .read_to_string(&mut text)
        .map_err(|error| Exit::Usage(format!("standard input: {error}")))?;
    if text.len() as u64 > MOST_BYTES {
        let message = format!("standard input: a scenario has at most {MOST_BYTES} bytes");
        return Err(Exit::Usage(message));
    }
    Ok(Scenario::parse("stdin", "<stdin>", &text)?)
}
