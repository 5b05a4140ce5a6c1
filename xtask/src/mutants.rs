//! `cargo xtask mutants`: changes one expression at a time, and runs the tests of its crate.
//!
//! A change that no test notices is a gap, or it changes nothing that a caller, a device or the SMMU
//! can see. The second kind is listed with its reason in `tests/accepted_mutants.txt` of the crate.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::accepted_mutants::{Accepted, place_of};
use crate::args::MutantOptions;
use crate::error::Error;
use crate::process::{capture_success, say, watch};
use crate::tools::{self, Tool, ToolVersion};
use crate::workspace::{CRATES, Workspace};

const GIT_LIMIT: Duration = Duration::from_secs(60);
const LIST_LIMIT: Duration = Duration::from_secs(300);
/// How cargo-mutants ends when every mutant had its run: all were noticed, some were not, or a test
/// hung.
const COMPLETE: [i32; 3] = [0, 2, 3];

/// What became of the mutants of a crate.
#[derive(Debug, Default, PartialEq, Eq)]
struct MutantRow {
    caught: usize,
    timed_out: usize,
    unviable: usize,
    accepted: usize,
    /// Those that no test noticed, and that no list accepts.
    survivors: Vec<String>,
}

/// What became of all mutants.
#[derive(Debug, Default)]
pub(crate) struct MutantReport {
    rows: BTreeMap<String, MutantRow>,
    /// Accepted mutants that a test noticed.
    noticed: Vec<String>,
}

impl MutantReport {
    pub(crate) fn failed(&self) -> bool {
        self.rows.values().any(|row| !row.survivors.is_empty())
    }

    /// Reads `outcomes.json` of cargo-mutants.
    fn read(outcomes: &str, accepted: &Accepted) -> Option<Self> {
        let value: Value = serde_json::from_str(outcomes).ok()?;
        let mut report = MutantReport::default();
        for outcome in value["outcomes"].as_array()? {
            // The run without a change is among them.
            let Some(mutant) = outcome["scenario"].get("Mutant") else { continue };
            let (name, package) = (mutant["name"].as_str()?, mutant["package"].as_str()?);
            let row = report.rows.entry(package.to_owned()).or_default();
            let is_accepted = accepted.has(name);
            match outcome["summary"].as_str()? {
                "CaughtMutant" => row.caught += 1,
                "Timeout" => row.timed_out += 1,
                "MissedMutant" if is_accepted => row.accepted += 1,
                "MissedMutant" => row.survivors.push(name.to_owned()),
                _ => row.unviable += 1,
            }
            if is_accepted && matches!(outcome["summary"].as_str()?, "CaughtMutant" | "Timeout") {
                report.noticed.push(place_of(name));
            }
        }
        report.noticed.sort();
        report.noticed.dedup();
        Some(report)
    }
}

impl fmt::Display for MutantReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n  {:<14} {:>7} {:>8} {:>9} {:>9} {:>10}",
            "crate", "noticed", "hung", "unviable", "accepted", "survivors"
        )?;
        for (package, row) in &self.rows {
            let MutantRow { caught, timed_out, unviable, accepted, survivors } = row;
            writeln!(
                f,
                "  {package:<14} {caught:>7} {timed_out:>8} {unviable:>9} {accepted:>9} {:>10}",
                survivors.len()
            )?;
        }
        for survivor in self.rows.values().flat_map(|row| &row.survivors) {
            writeln!(f, "  not noticed: {survivor}")?;
        }
        for noticed in &self.noticed {
            writeln!(f, "  accepted, but a test notices one of this name: {noticed}")?;
        }
        f.write_str(if self.failed() {
            "\nFAILED: write a test that notices each, or accept it with a reason in \
             tests/accepted_mutants.txt of its crate."
        } else {
            "\nEvery mutant was noticed or is accepted."
        })
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum MutantRun {
    Complete(MutantReport),
    /// So many mutants are more than the caller wants; none was run.
    TooMany(usize),
}

/// Runs the mutants of the crates, or those in the lines that changed since a revision. No run for
/// more than `most`.
pub(crate) fn run(
    workspace: &Workspace,
    options: &MutantOptions,
    most: usize,
) -> Result<MutantRun, Error> {
    let none = || Ok(MutantRun::Complete(MutantReport::default()));
    let accepted = Accepted::read(&workspace.root, &CRATES)?;
    let folder = workspace.target.join("mutants");
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let diff = match &options.base {
        Some(base) => {
            let diff = folder.join("change.diff");
            let text = change(workspace, base)?;
            if text.is_empty() {
                say(format_args!("no source of the crates changed since {base}"));
                return none();
            }
            fs::write(&diff, text).map_err(Error::io("write", &diff))?;
            Some(diff)
        }
        None => None,
    };
    let tool = tools::provide(workspace, "cargo-mutants", ToolVersion::Any)?;
    let packages: Vec<&str> = match options.packages.as_slice() {
        [] => CRATES.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    let command = |action: &[&str]| mutants(workspace, &tool, &packages, diff.as_deref(), action);
    let count = capture_success(&mut command(&["--list"]), LIST_LIMIT)?.lines().count();
    say(format_args!("{count} mutants"));
    if count == 0 {
        return none();
    }
    if count > most {
        return Ok(MutantRun::TooMany(count));
    }
    let mut all = command(&["--output"]);
    all.arg(&folder);
    let status = watch(&mut all)?;
    if !status.code().is_some_and(|code| COMPLETE.contains(&code)) {
        let (program, output) = ("cargo mutants".to_owned(), String::new());
        return Err(Error::Failed { program, status, output });
    }
    let path = folder.join("mutants.out/outcomes.json");
    let outcomes = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let report = MutantReport::read(&outcomes, &accepted).ok_or(Error::Outcomes { path })?;
    Ok(MutantRun::Complete(report))
}

/// The change of the crates' sources since a revision, of what is in the folder now.
fn change(workspace: &Workspace, base: &str) -> Result<String, Error> {
    let mut git = Command::new("git");
    git.current_dir(&workspace.root);
    // A name that begins with a dash would be an option.
    git.args(["rev-parse", "--verify", "--quiet", "--end-of-options"]);
    git.arg(format!("{base}^{{commit}}"));
    let commit = capture_success(&mut git, GIT_LIMIT)
        .map_err(|_| Error::NoRevision { name: base.to_owned() })?;
    let mut git = Command::new("git");
    git.current_dir(&workspace.root);
    git.args(["diff", "--no-color", "--no-ext-diff", commit.trim(), "--"]);
    git.args(CRATES.map(|name| format!("{name}/src")));
    capture_success(&mut git, GIT_LIMIT)
}

/// cargo-mutants reads the rest from `.cargo/mutants.toml`. It works on a copy of the workspace.
fn mutants(
    workspace: &Workspace,
    tool: &Tool,
    packages: &[&str],
    diff: Option<&Path>,
    action: &[&str],
) -> Command {
    let mut command = Command::new(&tool.path);
    command.current_dir(&workspace.root).arg("mutants");
    for package in packages {
        command.args(["--package", package]);
    }
    if let Some(diff) = diff {
        command.arg("--in-diff").arg(diff);
    }
    command
        .args(["--colors", "never"])
        .args(action)
        // A mutant is built once and runs for seconds.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("INSTA_UPDATE", "no");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(package: &str, name: &str, summary: &str) -> Value {
        serde_json::json!({
            "scenario": {"Mutant": {"package": package, "name": name}},
            "summary": summary,
        })
    }

    #[test]
    fn outcomes_are_counted_and_survivors_are_named() {
        let accepted = Accepted::parse(
            "list",
            "# The same words are stored again.\n\
             smmu-tags/src/a.rs: replace + with - in same\n\
             smmu-tags/src/a.rs: replace seen -> bool with true\n",
        )
        .unwrap();
        let outcomes = serde_json::json!({"outcomes": [
            {"scenario": "Baseline", "summary": "Success"},
            outcome("smmu-tags", "smmu-tags/src/a.rs:1:2: replace + with - in same", "MissedMutant"),
            outcome("smmu-tags", "smmu-tags/src/a.rs:9:2: replace + with - in other", "MissedMutant"),
            outcome("smmu-tags", "smmu-tags/src/a.rs:3:4: replace < with == in x", "Timeout"),
            outcome("smmu-tags", "smmu-tags/src/a.rs:4:4: replace x with ()", "CaughtMutant"),
            outcome("smmu-tags", "smmu-tags/src/a.rs:5:4: replace seen -> bool with true", "CaughtMutant"),
            outcome("smmu-invs", "smmu-invs/src/b.rs:5:4: replace x -> Y with Y::new()", "Unviable"),
        ]});
        let report = MutantReport::read(&outcomes.to_string(), &accepted).unwrap();
        let row = MutantRow {
            caught: 2,
            timed_out: 1,
            unviable: 0,
            accepted: 1,
            survivors: vec!["smmu-tags/src/a.rs:9:2: replace + with - in other".into()],
        };
        assert_eq!(report.rows["smmu-tags"], row);
        assert_eq!(report.rows["smmu-invs"].unviable, 1);
        assert_eq!(report.noticed, ["smmu-tags/src/a.rs: replace seen -> bool with true"]);
        assert!(report.failed());
        let text = report.to_string();
        assert!(text.contains("not noticed: smmu-tags/src/a.rs:9:2: replace + with - in other"));
        assert!(text.contains("FAILED"), "{text}");
        assert!(!MutantReport::default().failed());
        assert!(MutantReport::read("{}", &accepted).is_none());
    }
}
