//! `cargo xtask tsan`: runs the tests with threads under ThreadSanitizer.
//!
//! The standard library is built with the sanitizer as well. Without that, each of its locks looks
//! like a data race.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::nightly;
use crate::process::{Captured, capture, last_lines, say};
use crate::report::StepOutcome;
use crate::workspace::Workspace;

const TASK: &str = "ThreadSanitizer";
/// Time limit of one package: build and tests.
const LIMIT: Duration = Duration::from_secs(1800);
/// Lines of output shown for a failing package.
const SHOWN: usize = 80;

/// Tests of one package that share memory between threads.
struct ThreadedTests {
    package: &'static str,
    /// Which of its test programs.
    program: &'static [&'static str],
    /// The beginning of the tests' names; empty for all.
    filter: &'static str,
    what: &'static str,
}

const TESTS: &[ThreadedTests] = &[
    ThreadedTests {
        package: "smmu-cmdq",
        program: &["--test", "stress"],
        filter: "",
        what: "callers of one queue, and an SMMU that fails at random",
    },
    ThreadedTests {
        package: "smmu-attach",
        program: &["--test", "attach"],
        filter: "every_step::random_work_of_four_threads",
        what: "four threads attach, replace, unmap and block at random",
    },
    ThreadedTests {
        package: "smmu-driver",
        program: &["--test", "restart"],
        filter: "",
        what: "restarts beside attaches and unmaps",
    },
    ThreadedTests {
        package: "smmu-engine",
        program: &["--lib"],
        filter: "run::rig::tests",
        what: "unmaps that race attaches, on the model",
    },
];

/// Result of each package.
#[derive(Debug, Default)]
pub(crate) struct TsanReport {
    rows: Vec<(&'static str, &'static str, StepOutcome, Duration)>,
}

pub(crate) fn run(workspace: &Workspace) -> Result<TsanReport, Error> {
    nightly::require_source(TASK)?;
    let host = nightly::host(TASK)?;
    let mut report = TsanReport::default();
    for tests in TESTS {
        say(format_args!("{}: {}", tests.package, tests.what));
        let start = Instant::now();
        let Captured { status, stdout, stderr } =
            capture(&mut command(workspace, tests, &host), "", LIMIT)?;
        let outcome = match passed(&stdout) {
            _ if !status.success() => {
                say(last_lines(&format!("{stderr}{stdout}"), SHOWN));
                StepOutcome::Failed("see above".to_owned())
            }
            0 => StepOutcome::Failed(format!("no test is named `{}`", tests.filter)),
            count => StepOutcome::Passed(format!("{count} tests")),
        };
        report.rows.push((tests.package, tests.what, outcome, start.elapsed()));
    }
    Ok(report)
}

fn command(workspace: &Workspace, tests: &ThreadedTests, host: &str) -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(&workspace.root)
        .args(["test", "-Zbuild-std", "--target", host, "--package", tests.package])
        .args(tests.program)
        .args(["--", "--test-threads=1", tests.filter])
        .env("RUSTFLAGS", "-Zsanitizer=thread")
        .env("CARGO_TARGET_DIR", workspace.target.join("tsan"))
        // rustup's `cargo` goes by the first of these.
        .env("RUSTUP_TOOLCHAIN", nightly::TOOLCHAIN)
        .env_remove("CARGO")
        .env_remove("RUSTC");
    command
}

/// How many tests have passed, as libtest prints it.
fn passed(output: &str) -> usize {
    let results = output.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    results.filter_map(|rest| rest.split(' ').next()?.parse::<usize>().ok()).sum()
}

impl TsanReport {
    pub(crate) fn failed(&self) -> bool {
        self.rows.iter().any(|(_, _, outcome, _)| !matches!(outcome, StepOutcome::Passed(_)))
    }
}

impl fmt::Display for TsanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for (package, what, outcome, took) in &self.rows {
            let result = match outcome {
                StepOutcome::Passed(count) => format!("passed    {count}"),
                StepOutcome::Failed(why) => format!("FAILED    {why}"),
                StepOutcome::NotRun(why) => format!("not run   {why}"),
            };
            writeln!(f, "  {package:<12} {:>5.0} s   {result}: {what}", took.as_secs_f64())?;
        }
        f.write_str(if self.failed() {
            "\nFAILED: see the output above of each package marked FAILED."
        } else {
            "\nNo data race was found."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_tests_counts_none() {
        let output = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 0 ignored\n\
                      test result: ok. 1 passed; 0 failed\n";
        assert_eq!(passed(output), 4);
        assert_eq!(passed("test result: ok. 0 passed; 0 failed; 41 filtered out\n"), 0);
        assert_eq!(passed("test result: FAILED. 2 passed; 1 failed\n"), 0);
    }

    #[test]
    fn each_package_has_a_line() {
        let passed = StepOutcome::Passed("3 tests".into());
        let mut report = TsanReport::default();
        report.rows.push(("smmu-engine", "unmaps", passed, Duration::from_secs(7)));
        assert!(!report.failed());
        assert!(report.to_string().contains("  smmu-engine      7 s   passed    3 tests: unmaps"));
        let failed = StepOutcome::Failed("see above".into());
        report.rows.push(("smmu-cmdq", "callers", failed, Duration::from_secs(9)));
        assert!(report.failed() && report.to_string().contains("FAILED    see above: callers"));
    }
}
