//! `cargo xtask bench`: instructions of typed code beside those of words packed by hand.
//!
//! The benchmarks are pairs of functions, `<case>_typed` and `<case>_packed`; the second is the bar of the first.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::error::Error;
use crate::process::{capture, capture_success, last_lines, on_path, say};
use crate::tools::{self, Version};
use crate::workspace::Workspace;

const LIBRARY: &str = "gungraun";
const RUNNER: &str = "gungraun-runner";
const METADATA_LIMIT: Duration = Duration::from_secs(120);
/// With the build of the benchmarks.
const LIMIT: Duration = Duration::from_secs(1800);

/// The instructions of each pair.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BenchReport {
    pairs: BTreeMap<String, Pair>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pair {
    typed: Option<u64>,
    packed: Option<u64>,
}

pub(crate) fn run(workspace: &Workspace) -> Result<BenchReport, Error> {
    if on_path("valgrind").is_empty() {
        return Err(Error::NoValgrind);
    }
    // Library and runner talk in a form that changes with each version.
    let version = locked_version(workspace)?;
    let runner = tools::provide(workspace, RUNNER, Version::Exactly(&version))?;
    say(format_args!("{RUNNER} {version}: {runner}; building and running the benchmarks"));
    let mut command = workspace.cargo();
    command
        .args(["bench", "--package", "smmu-types", "--bench", "instructions"])
        .args(["--", "--output-format=json"])
        .env("GUNGRAUN_RUNNER", &runner.path);
    let captured = capture(&mut command, "", LIMIT)?;
    if !captured.status.success() {
        return Err(Error::Failed {
            program: "cargo bench".to_owned(),
            status: captured.status,
            output: last_lines(&captured.stderr, 30),
        });
    }
    BenchReport::read(&captured.stdout)
}

/// The version of the library that the workspace is locked to.
fn locked_version(workspace: &Workspace) -> Result<String, Error> {
    let mut command = workspace.cargo();
    command.args(["metadata", "--format-version", "1"]);
    let json = capture_success(&mut command, METADATA_LIMIT)?;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
    let packages = value["packages"].as_array().cloned().unwrap_or_default();
    packages
        .iter()
        .find(|package| package["name"] == LIBRARY)
        .and_then(|package| package["version"].as_str().map(str::to_owned))
        .ok_or(Error::NoPackage { name: LIBRARY })
}

impl BenchReport {
    /// From the runner's summaries, one JSON object a line.
    fn read(output: &str) -> Result<Self, Error> {
        let unknown = |what: &str| Error::Counts { what: what.to_owned() };
        let mut report = Self::default();
        for line in output.lines().filter(|line| line.starts_with('{')) {
            let value: serde_json::Value =
                serde_json::from_str(line).map_err(|error| unknown(&error.to_string()))?;
            let name = value["function_name"].as_str().ok_or_else(|| unknown("no function"))?;
            let metrics = &value["profiles"][0]["data"]["parts"][0]["metrics"];
            let count = metrics["Ir"]["values"]["new"].as_u64();
            let count = count.ok_or_else(|| unknown(&format!("{name} has no instructions")))?;
            if let Some(case) = name.strip_suffix("_typed") {
                report.pairs.entry(case.to_owned()).or_default().typed = Some(count);
            } else if let Some(case) = name.strip_suffix("_packed") {
                report.pairs.entry(case.to_owned()).or_default().packed = Some(count);
            } else {
                return Err(unknown(&format!("{name} is neither typed nor packed")));
            }
        }
        if report.pairs.is_empty() {
            return Err(unknown("no benchmark ran"));
        }
        Ok(report)
    }

    pub(crate) fn failed(&self) -> bool {
        !self.pairs.values().all(|pair| pair.holds())
    }
}

impl Pair {
    /// Not one instruction more.
    fn holds(self) -> bool {
        matches!((self.typed, self.packed), (Some(typed), Some(packed)) if typed <= packed)
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nInstructions\n  {:<16} {:>6} {:>6} {:>6}",
            "case", "typed", "packed", "ratio"
        )?;
        for (case, pair) in &self.pairs {
            let shown =
                |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
            let ratio = match (pair.typed, pair.packed) {
                (Some(typed), Some(packed)) => format!("{:.2}", typed as f64 / packed as f64),
                _ => "-".to_owned(),
            };
            let (typed, packed) = (shown(pair.typed), shown(pair.packed));
            let verdict = if pair.holds() { "" } else { "   TOO MANY" };
            writeln!(f, "  {case:<16} {typed:>6} {packed:>6} {ratio:>6}{verdict}")?;
        }
        f.write_str(if self.failed() {
            "\nFAILED: the bar is a ratio of 1.00."
        } else {
            "\nNo typed form costs an instruction more than words packed by hand."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, count: u64) -> String {
        serde_json::json!({
            "function_name": name,
            "profiles": [{"data": {"parts": [{"metrics": {"Ir": {"values": {"new": count}}}}]}}],
        })
        .to_string()
    }

    #[test]
    fn pairs_are_compared() {
        let good = [line("sync_typed", 4), line("sync_packed", 4)].join("\n");
        let report = BenchReport::read(&good).unwrap();
        assert!(!report.failed());
        assert!(
            report.to_string().contains("  sync                  4      4   1.00\n"),
            "{report}"
        );

        let bad = [good, line("cd_typed", 26), line("cd_packed", 25)].join("\n");
        let report = BenchReport::read(&bad).unwrap();
        assert!(report.failed());
        assert!(report.to_string().contains("26     25   1.04   TOO MANY"), "{report}");
    }

    #[test]
    fn what_has_no_partner_or_no_count_is_no_success() {
        assert!(BenchReport::read(&line("sync_typed", 4)).unwrap().failed());
        assert!(BenchReport::read("").is_err());
        assert!(BenchReport::read(&line("sync", 4)).is_err());
        assert!(BenchReport::read("{\"function_name\":\"sync_typed\"}").is_err());
        assert!(BenchReport::read("{").is_err());
    }
}
