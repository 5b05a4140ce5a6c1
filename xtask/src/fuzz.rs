//! `cargo xtask fuzz`: runs each fuzz target for a given time.
//!
//! A fuzz crate is in the folder `fuzz` of the crate that it tests. It is a workspace of its own,
//! as cargo-fuzz requires.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::args::FuzzOptions;
use crate::error::Error;
use crate::nightly;
use crate::process::{Captured, capture, capture_success, last_lines, say, watch};
use crate::report::StepOutcome;
use crate::tools::{self, Tool, ToolVersion};
use crate::workspace::Workspace;

const QUESTION_LIMIT: Duration = Duration::from_secs(60);
/// Extra time for the start, and for shrinking a failing input.
const SLACK: Duration = Duration::from_secs(120);
/// Lines of output shown for a failing target.
const SHOWN: usize = 40;

/// A package of fuzz targets.
#[derive(Debug)]
pub(crate) struct FuzzCrate {
    pub(crate) folder: PathBuf,
    /// The crate that it tests.
    tests: String,
}

#[derive(Debug)]
struct FuzzRow {
    tests: String,
    target: String,
    statistics: Statistics,
    outcome: StepOutcome,
}

/// Result of each target.
#[derive(Debug, Default)]
pub(crate) struct FuzzReport {
    rows: Vec<FuzzRow>,
}

/// Counts that libFuzzer prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Statistics {
    runs: Option<u64>,
    runs_per_second: Option<u64>,
}

/// All fuzz crates, sorted by folder.
pub(crate) fn crates(workspace: &Workspace) -> Vec<FuzzCrate> {
    let Ok(entries) = std::fs::read_dir(&workspace.root) else { return Vec::new() };
    let mut crates: Vec<FuzzCrate> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let folder = entry.path().join("fuzz");
            let tests = entry.file_name().to_string_lossy().into_owned();
            folder.join("Cargo.toml").is_file().then_some(FuzzCrate { folder, tests })
        })
        .collect();
    crates.sort_by(|a, b| a.folder.cmp(&b.folder));
    crates
}

pub(crate) fn run(workspace: &Workspace, options: &FuzzOptions) -> Result<FuzzReport, Error> {
    nightly::require("fuzzing")?;
    let crates = crates(workspace);
    let mut wanted = Vec::new();
    for fuzz_crate in &crates {
        for target in targets(workspace, fuzz_crate)? {
            wanted.push((fuzz_crate, target));
        }
    }
    for name in &options.targets {
        if !wanted.iter().any(|(_, target)| target == name) {
            let known: Vec<&str> = wanted.iter().map(|(_, target)| target.as_str()).collect();
            return Err(Error::NoSuchTarget { name: name.clone(), known: known.join(", ") });
        }
    }
    wanted.retain(|(_, target)| options.targets.is_empty() || options.targets.contains(target));

    let tool = tools::provide(workspace, "cargo-fuzz", ToolVersion::Any)?;
    let mut report = FuzzReport::default();
    for fuzz_crate in &crates {
        let mine: Vec<&String> = wanted
            .iter()
            .filter(|(of, _)| of.folder == fuzz_crate.folder)
            .map(|(_, target)| target)
            .collect();
        if mine.is_empty() {
            continue;
        }
        say(format_args!("building the fuzz targets of {}", fuzz_crate.tests));
        let mut build = cargo_fuzz(workspace, &tool, "build", &fuzz_crate.folder);
        if let [target] = mine.as_slice() {
            build.arg(target);
        }
        let status = watch(&mut build)?;
        for target in mine {
            let (statistics, outcome) = if status.success() {
                run_target(workspace, &tool, fuzz_crate, target, options.seconds)?
            } else {
                (Statistics::default(), StepOutcome::Failed("does not build".to_owned()))
            };
            let (tests, target) = (fuzz_crate.tests.clone(), target.clone());
            report.rows.push(FuzzRow { tests, target, statistics, outcome });
        }
    }
    Ok(report)
}

fn run_target(
    workspace: &Workspace,
    tool: &Tool,
    fuzz_crate: &FuzzCrate,
    target: &str,
    seconds: u32,
) -> Result<(Statistics, StepOutcome), Error> {
    say(format_args!("{} {target}: {seconds} s", fuzz_crate.tests));
    let mut command = cargo_fuzz(workspace, tool, "run", &fuzz_crate.folder);
    // Inputs of earlier runs, then the seeds.
    let corpus = fuzz_crate.folder.join("corpus").join(target);
    std::fs::create_dir_all(&corpus).map_err(Error::io("create", &corpus))?;
    let seeds = fuzz_crate.folder.join("seeds").join(target);
    command.arg(target).arg(&corpus);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.args(["--", "-print_final_stats=1", "-timeout=10"]);
    command.arg(format!("-max_total_time={seconds}"));
    let limit = Duration::from_secs(seconds.into()) + SLACK;
    let Captured { status, stderr, .. } = capture(&mut command, "", limit)?;
    let outcome = if status.success() {
        StepOutcome::Passed(String::new())
    } else {
        say(last_lines(&stderr, SHOWN));
        StepOutcome::Failed(format!(
            "see above; inputs: {}/artifacts/{target}",
            fuzz_crate.tests_fuzz()
        ))
    };
    Ok((Statistics::read(&stderr), outcome))
}

/// The targets of a fuzz crate: its programs.
fn targets(workspace: &Workspace, fuzz_crate: &FuzzCrate) -> Result<Vec<String>, Error> {
    let mut command = workspace.cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]);
    command.arg(fuzz_crate.folder.join("Cargo.toml"));
    let json = capture_success(&mut command, QUESTION_LIMIT)?;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
    let list = value["packages"][0]["targets"].as_array().cloned().unwrap_or_default();
    let program = |target: &serde_json::Value| {
        let kinds = target["kind"].as_array()?;
        kinds.contains(&"bin".into()).then(|| target["name"].as_str().map(str::to_owned))?
    };
    Ok(list.iter().filter_map(program).collect())
}

/// cargo-fuzz calls rustup's `cargo`, so that `RUSTUP_TOOLCHAIN` chooses the toolchain.
fn cargo_fuzz(workspace: &Workspace, tool: &Tool, subcommand: &str, folder: &Path) -> Command {
    let mut command = Command::new(&tool.path);
    command
        .current_dir(&workspace.root)
        .args(["fuzz", subcommand, "--fuzz-dir"])
        .arg(folder)
        .arg("--target-dir")
        .arg(target_dir(workspace))
        .env("RUSTUP_TOOLCHAIN", nightly::TOOLCHAIN)
        .env_remove("CARGO")
        .env_remove("RUSTC");
    command
}

/// Target folder of the fuzz crates: they use other flags than the workspace.
pub(crate) fn target_dir(workspace: &Workspace) -> PathBuf {
    workspace.target.join("fuzz")
}

impl FuzzCrate {
    fn tests_fuzz(&self) -> String {
        format!("{}/fuzz", self.tests)
    }
}

impl Statistics {
    /// Reads libFuzzer's final statistics; empty if it ended early.
    fn read(output: &str) -> Self {
        let number = |name: &str| {
            let line = output.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        Statistics {
            runs: number("stat::number_of_executed_units:"),
            runs_per_second: number("stat::average_exec_per_sec:"),
        }
    }
}

impl FuzzReport {
    pub(crate) fn failed(&self) -> bool {
        self.rows.iter().any(|row| !matches!(row.outcome, StepOutcome::Passed(_)))
    }
}

impl fmt::Display for FuzzReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ("crate", "target", "runs", "runs/s");
        writeln!(f, "\n  {:<14} {:<14} {:>12} {:>9}   result", head.0, head.1, head.2, head.3)?;
        let shown =
            |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        for FuzzRow { tests, target, statistics, outcome } in &self.rows {
            let runs = shown(statistics.runs);
            let speed = shown(statistics.runs_per_second);
            let result = match outcome {
                StepOutcome::Passed(_) => "passed".to_owned(),
                StepOutcome::Failed(why) => format!("FAILED   {why}"),
                StepOutcome::NotRun(why) => format!("not run   {why}"),
            };
            writeln!(f, "  {tests:<14} {target:<14} {runs:>12} {speed:>9}   {result}")?;
        }
        f.write_str(if self.failed() {
            "\nFAILED: see the output above of each target marked FAILED."
        } else {
            "\nNo target failed."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_libfuzzer_are_read() {
        let output = "#5\tDONE cov: 12\nstat::number_of_executed_units: 4711\n\
                      stat::average_exec_per_sec:     942\nstat::new_units_added: 3\n";
        let want = Statistics { runs: Some(4711), runs_per_second: Some(942) };
        assert_eq!(Statistics::read(output), want);
        assert_eq!(Statistics::read("killed"), Statistics::default());
    }

    #[test]
    fn each_target_has_a_line() {
        let row = |target: &str, runs, outcome| FuzzRow {
            tests: "smmu-types".into(),
            target: target.into(),
            statistics: Statistics { runs, runs_per_second: runs },
            outcome,
        };
        let mut report = FuzzReport::default();
        report.rows.push(row("command", Some(120), StepOutcome::Passed(String::new())));
        assert!(!report.failed());
        report.rows.push(row("event", None, StepOutcome::Failed("does not build".into())));
        assert!(report.failed());
        let text = report.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "  smmu-types     command                 120       120   passed");
        assert_eq!(
            lines[3],
            "  smmu-types     event                     -         -   FAILED   does not build"
        );
    }
}
