//! `cargo xtask bench`: counts instructions and compares them with their bars.
//!
//! A pair of benchmarks `<case>_typed` and `<case>_packed` compares typed code with words packed by
//! hand: the second is the bar. The bar of a benchmark `<case>_kept` is a count in the repository.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::process::{capture, capture_success, last_lines, on_path, say};
use crate::tools::{self, ToolVersion};
use crate::workspace::Workspace;

const LIBRARY: &str = "gungraun";
const RUNNER: &str = "gungraun-runner";
/// The packages with benchmarks of instructions, and their folders. Those with kept counts have them
/// in [`REFERENCE`].
const PACKAGES: [(&str, &str, HasKept); 5] = [
    ("smmu-types", "smmu-types", HasKept::No),
    ("smmu-cmdq", "smmu-cmdq", HasKept::Yes),
    ("smmu-tags", "smmu-tags", HasKept::Yes),
    ("smmu-invs", "smmu-invs", HasKept::Yes),
    ("smmu-driver", "harness/driver", HasKept::Yes),
];
/// Below the folder of a package.
const REFERENCE: &str = "benches/instructions.json";
const METADATA_LIMIT: Duration = Duration::from_secs(120);
/// Includes the build of the benchmarks.
const LIMIT: Duration = Duration::from_secs(1800);

/// Instruction counts of all benchmarks, and their bars.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BenchReport {
    pairs: BTreeMap<String, Pair>,
    kept: BTreeMap<String, u64>,
    reference: Reference,
    compiler: String,
}

/// The kept counts in the repository, and the compiler that made the code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reference {
    compiler: String,
    counts: BTreeMap<String, u64>,
}

/// Whether a package has kept counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HasKept {
    Yes,
    No,
}

/// What a run does with the kept counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeptCounts {
    /// Use them as the bar.
    Compare,
    /// Overwrite them.
    Replace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pair {
    typed: Option<u64>,
    packed: Option<u64>,
}

pub(crate) fn run(workspace: &Workspace, kept: KeptCounts) -> Result<BenchReport, Error> {
    if on_path("valgrind").is_empty() {
        return Err(Error::NoValgrind);
    }
    // Library and runner must have the same version: their protocol changes with each.
    let version = locked_version(workspace)?;
    let runner = tools::provide(workspace, RUNNER, ToolVersion::Exactly(&version))?;
    say(format_args!("{RUNNER} {version}: {runner}; building and running the benchmarks"));
    let mut report = BenchReport { compiler: compiler()?, ..BenchReport::default() };
    for (package, folder, has_kept) in PACKAGES {
        let mut command = workspace.cargo();
        command
            .args(["bench", "--package", package, "--bench", "instructions"])
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
        let counts = report.read(&captured.stdout)?;
        if has_kept == HasKept::No {
            continue;
        }
        let path = workspace.root.join(folder).join(REFERENCE);
        let reference = match kept {
            KeptCounts::Replace => {
                let reference = Reference { compiler: report.compiler.clone(), counts };
                let text = reference.text();
                std::fs::write(&path, text).map_err(Error::io("write", &path))?;
                reference
            }
            KeptCounts::Compare => Reference::read(&path)?,
        };
        report.reference.add(package, reference)?;
    }
    Ok(report)
}

/// Name of the compiler; counts of different compilers are not comparable.
fn compiler() -> Result<String, Error> {
    let mut command = std::process::Command::new("rustc");
    command.arg("--version");
    let said = capture_success(&mut command, METADATA_LIMIT)?;
    Ok(format!("{} for {}", said.trim(), std::env::consts::ARCH))
}

impl Reference {
    /// Adds the counts of a package. One compiler must have made all of them.
    fn add(&mut self, package: &str, other: Reference) -> Result<(), Error> {
        if !self.compiler.is_empty() && self.compiler != other.compiler {
            let (ours, theirs) = (&self.compiler, &other.compiler);
            let what = format!("{package}: {theirs} made its kept counts, and {ours} the others");
            return Err(Error::Counts { what });
        }
        self.compiler = other.compiler;
        self.counts.extend(other.counts);
        Ok(())
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let unknown = |what: &str| Error::Counts { what: format!("{}: {what}", path.display()) };
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| unknown(&error.to_string()))?;
        let compiler = value["compiler"].as_str().ok_or_else(|| unknown("no compiler"))?;
        let mut counts = BTreeMap::new();
        for (case, count) in value["counts"].as_object().ok_or_else(|| unknown("no counts"))? {
            let count = count.as_u64().ok_or_else(|| unknown(&format!("{case} is no number")))?;
            counts.insert(case.clone(), count);
        }
        Ok(Reference { compiler: compiler.to_owned(), counts })
    }

    fn text(&self) -> String {
        let value = serde_json::json!({ "compiler": self.compiler, "counts": self.counts });
        format!("{value:#}\n")
    }
}

/// The locked version of the library.
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
    /// Reads the runner's summaries of one benchmark file: one JSON object per line. Returns the
    /// file's counts that are compared with kept ones.
    fn read(&mut self, output: &str) -> Result<BTreeMap<String, u64>, Error> {
        let unknown = |what: &str| Error::Counts { what: what.to_owned() };
        let before = self.pairs.len() + self.kept.len();
        let mut kept = BTreeMap::new();
        for line in output.lines().filter(|line| line.starts_with('{')) {
            let value: serde_json::Value =
                serde_json::from_str(line).map_err(|error| unknown(&error.to_string()))?;
            let name = value["function_name"].as_str().ok_or_else(|| unknown("no function"))?;
            let metrics = &value["profiles"][0]["data"]["parts"][0]["metrics"];
            let count = metrics["Ir"]["values"]["new"].as_u64();
            let count = count.ok_or_else(|| unknown(&format!("{name} has no instructions")))?;
            if let Some(case) = name.strip_suffix("_typed") {
                self.pairs.entry(case.to_owned()).or_default().typed = Some(count);
            } else if let Some(case) = name.strip_suffix("_packed") {
                self.pairs.entry(case.to_owned()).or_default().packed = Some(count);
            } else if let Some(case) = name.strip_suffix("_kept") {
                kept.insert(case.to_owned(), count);
                if self.kept.insert(case.to_owned(), count).is_some() {
                    return Err(unknown(&format!("two benchmarks have the name {name}")));
                }
            } else {
                return Err(unknown(&format!("{name} is neither typed, packed nor kept")));
            }
        }
        if self.pairs.len() + self.kept.len() == before {
            return Err(unknown("no benchmark ran"));
        }
        Ok(kept)
    }

    /// Whether this compiler also made the kept counts.
    fn is_comparable(&self) -> bool {
        self.reference.compiler == self.compiler
    }

    fn reference_of(&self, case: &str) -> Option<u64> {
        self.reference.counts.get(case).copied()
    }

    /// Whether the case takes no instruction more than the kept count.
    fn keeps(&self, case: &str, count: u64) -> bool {
        !self.is_comparable() || self.reference_of(case).is_some_and(|before| count <= before)
    }

    pub(crate) fn failed(&self) -> bool {
        !self.pairs.values().all(|pair| pair.holds())
            || !self.kept.iter().all(|(case, count)| self.keeps(case, *count))
    }
}

impl Pair {
    /// Whether the typed form takes no instruction more.
    fn holds(self) -> bool {
        matches!((self.typed, self.packed), (Some(typed), Some(packed)) if typed <= packed)
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nInstructions\n  {:<24} {:>6} {:>6} {:>6}",
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
            writeln!(f, "  {case:<24} {typed:>6} {packed:>6} {ratio:>6}{verdict}")?;
        }
        writeln!(f, "\n  {:<24} {:>6} {:>6}", "case", "now", "kept")?;
        for (case, count) in &self.kept {
            let before = self.reference_of(case).map_or("-".to_owned(), |count| count.to_string());
            let verdict = match self.reference_of(case) {
                _ if !self.keeps(case, *count) => "   TOO MANY",
                Some(before) if self.is_comparable() && *count < before => "   fewer: --keep",
                _ => "",
            };
            writeln!(f, "  {case:<24} {count:>6} {before:>6}{verdict}")?;
        }
        if !self.is_comparable() {
            let (kept, here) = (&self.reference.compiler, &self.compiler);
            writeln!(f, "\nNot compared: {kept} made the kept counts, this is {here}.")?;
        }
        f.write_str(if self.failed() {
            "\nFAILED: a typed form may cost no more than words packed by hand, and no case more than its kept count.\n\
             To accept higher counts, run `cargo xtask bench --keep`."
        } else {
            "\nPassed: no typed form costs more than words packed by hand, and no case more than its kept count."
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

    fn report(output: &str) -> Result<BenchReport, Error> {
        let mut report = BenchReport::default();
        report.read(output)?;
        Ok(report)
    }

    #[test]
    fn pairs_are_compared() {
        let good = [line("sync_typed", 4), line("sync_packed", 4)].join("\n");
        let told = report(&good).unwrap();
        assert!(!told.failed());
        assert!(
            told.to_string().contains("  sync                          4      4   1.00\n"),
            "{told}"
        );

        let bad = [good, line("cd_typed", 26), line("cd_packed", 25)].join("\n");
        let told = report(&bad).unwrap();
        assert!(told.failed());
        assert!(told.to_string().contains("26     25   1.04   TOO MANY"), "{told}");
    }

    #[test]
    fn kept_counts_are_the_bar_for_the_same_compiler() {
        let mut told = report(&line("push_kept", 100)).unwrap();
        // It has no kept count.
        assert!(told.failed());
        let kept = |count| Reference {
            compiler: "rustc 1".into(),
            counts: [("push".to_owned(), count)].into(),
        };
        for (count, compiler, failed, says) in [
            (100, "rustc 1", false, "100    100\n"),
            (101, "rustc 1", false, "fewer: --keep"),
            (99, "rustc 1", true, "TOO MANY"),
            (99, "rustc 2", false, "Not compared: rustc 1 made the kept counts, this is rustc 2."),
        ] {
            (told.reference, told.compiler) = (kept(count), compiler.into());
            assert_eq!(told.failed(), failed);
            assert!(told.to_string().contains(says), "{told}");
        }
    }

    #[test]
    fn kept_counts_are_read_as_they_were_written() {
        let dir = std::env::temp_dir().join(format!("xtask-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("kept.json");
        let counts = [("push".to_owned(), 100)].into();
        let kept = Reference { compiler: "rustc 1".into(), counts };
        std::fs::write(&path, kept.text()).unwrap();
        assert_eq!(Reference::read(&path).unwrap(), kept);
        for (text, says) in [
            ("{", "EOF"),
            ("{}", "no compiler"),
            ("{\"compiler\": \"c\"}", "no counts"),
            ("{\"compiler\": \"c\", \"counts\": {\"a\": \"b\"}}", "a is no number"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Reference::read(&path).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("kept.json"), "{error}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(matches!(Reference::read(&path), Err(Error::Io { .. })));
    }

    #[test]
    fn kept_counts_of_several_packages_join() {
        let kept = |case: &str, compiler: &str| Reference {
            compiler: compiler.into(),
            counts: [(case.to_owned(), 100)].into(),
        };
        let mut all = Reference::default();
        all.add("a", kept("push", "rustc 1")).unwrap();
        all.add("b", kept("purge", "rustc 1")).unwrap();
        assert_eq!(all.counts.into_keys().collect::<Vec<_>>(), ["purge", "push"]);
        let mut other = kept("push", "rustc 1");
        let error = other.add("b", kept("purge", "rustc 2")).unwrap_err().to_string();
        assert!(
            error.contains("b: rustc 2 made its kept counts, and rustc 1 the others"),
            "{error}"
        );

        let twice = [line("push_kept", 1), line("push_kept", 2)].join("\n");
        let error = report(&twice).unwrap_err().to_string();
        assert!(error.contains("two benchmarks have the name push_kept"), "{error}");
    }

    #[test]
    fn a_missing_partner_or_count_is_a_failure() {
        assert!(report(&line("sync_typed", 4)).unwrap().failed());
        assert!(report("").is_err());
        assert!(report(&line("sync", 4)).is_err());
        assert!(report("{\"function_name\":\"sync_typed\"}").is_err());
        assert!(report("{").is_err());
    }
}
