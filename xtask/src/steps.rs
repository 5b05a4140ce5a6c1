//! `cargo xtask test`: the steps of the whole suite.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::args::{BoardUse, MutantOptions, QemuUse, TestOptions};
use crate::bare_target::TARGET;
use crate::board;
use crate::compiler::{self, BareCompiler};
use crate::error::Error;
use crate::fuzz;
use crate::mutants::{self, MutantRun};
use crate::output::Output;
use crate::process::{capture, capture_success, say, variable, watch};
use crate::qemu;
use crate::qemu_names;
use crate::qemu_probe::UsableQemu;
use crate::report::{StepOutcome, SuiteReport};
use crate::tools::{self, Tool, ToolVersion};
use crate::workspace::Workspace;

/// Time limit to reach the advisory database.
const ADVISORIES_LIMIT: Duration = Duration::from_secs(20);
/// Time limit to reach the package registry.
const REGISTRY_LIMIT: Duration = Duration::from_secs(60);
/// Names the image that the tests of the board boot.
const BOARD_IMAGE_VARIABLE: &str = "SMMU_BOARD_IMAGE";
/// Names the folder with the Linux that the tests of the board boot.
const BOARD_LINUX_VARIABLE: &str = "SMMU_BOARD_LINUX";
const PACKAGE_LIMIT: Duration = Duration::from_secs(300);
/// A mutant takes five to fifteen seconds.
const MOST_MUTANTS: usize = 50;
const VERSION_LIMIT: Duration = Duration::from_secs(60);

/// Runs all steps.
///
/// Two lanes run beside each other, since each leaves CPUs idle: what boards need, whose images are
/// linked by one thread each, and what the host compiles. The tests need both, and come last.
pub(crate) fn run(workspace: &Workspace, options: &TestOptions) -> SuiteReport {
    let mut suite = Suite::new(workspace);
    let nextest = suite.tool("cargo-nextest");
    let qemu = suite.qemu(options.qemu);
    let programs = thread::scope(|scope| {
        let board = scope.spawn(|| {
            let output = Output::kept();
            output.during(|| {
                let mut suite = Suite { kept: Some(output.clone()), ..Suite::new(workspace) };
                let programs = suite.of_boards(options);
                (suite.report, programs)
            })
        });
        suite.of_the_host(nextest.as_ref(), options);
        let (report, programs) = board.join().unwrap_or_else(|panic| resume_unwind(panic));
        suite.report.append(report);
        programs
    });
    suite.tests(nextest.as_ref(), qemu.as_ref(), &programs, options);
    suite.report
}

/// What the tests of the board boot.
#[derive(Debug, Default)]
struct BoardPrograms {
    /// The image that runs scenarios.
    image: Option<PathBuf>,
    /// The folder with the Linux that runs them.
    linux: Option<PathBuf>,
}

struct Suite<'a> {
    workspace: &'a Workspace,
    report: SuiteReport,
    /// Where a lane beside another keeps its output until a step has ended.
    kept: Option<Output>,
}

impl<'a> Suite<'a> {
    fn new(workspace: &'a Workspace) -> Self {
        Suite { workspace, report: SuiteReport::default(), kept: None }
    }

    fn step(&mut self, name: &'static str, work: impl FnOnce() -> StepOutcome) {
        say(format_args!("\n==> {name}"));
        let start = Instant::now();
        let outcome = work();
        if let StepOutcome::Failed(why) | StepOutcome::NotRun(why) = &outcome {
            say(format_args!("{name}: {why}"));
        }
        if let Some(output) = &self.kept {
            output.show();
        }
        self.report.add(name, outcome, start.elapsed());
    }

    /// The lane of boards.
    fn of_boards(&mut self, options: &TestOptions) -> BoardPrograms {
        let compiler = self.bare_metal(options.board);
        self.board_clippy(compiler.as_ref(), options.board);
        self.aarch32(compiler.as_ref(), options);
        // The tests boot an image, and a Linux.
        let programs = self.images(compiler, options);
        self.board_library();
        programs
    }

    /// The lane of the host, without the tests.
    fn of_the_host(&mut self, nextest: Option<&Tool>, options: &TestOptions) {
        self.rustfmt();
        self.clippy();
        self.each_alone(options.board);
        self.fuzz_targets();
        self.cargo(
            "docs",
            &["doc", "--workspace", "--no-deps", "--all-features"],
            Some(("RUSTDOCFLAGS", "-D warnings")),
        );
        self.package();
        let deny = self.tool("cargo-deny");
        self.dependencies(deny.as_ref());
        self.advisories(deny.as_ref());
        self.interleavings(nextest);
        self.cargo("doc tests", &["test", "--doc", "--workspace", "--all-features"], None);
        self.engine_of_a_board();
        self.mutants(options.base.as_deref());
    }

    fn tool(&mut self, name: &'static str) -> Option<Tool> {
        let workspace = self.workspace;
        let mut found = None;
        self.step(name, || match tools::provide(workspace, name, ToolVersion::Any) {
            Ok(tool) => {
                let note = tool.to_string();
                found = Some(tool);
                StepOutcome::Passed(note)
            }
            Err(error) => StepOutcome::Failed(error.to_string()),
        });
        found
    }

    fn qemu(&mut self, wanted: QemuUse) -> Option<UsableQemu> {
        let workspace = self.workspace;
        let mut found = None;
        self.step("QEMU", || match wanted {
            QemuUse::LeftOut => {
                StepOutcome::NotRun("QEMU scenarios: not run (--no-qemu)".to_owned())
            }
            QemuUse::Required => match qemu::provide(workspace) {
                Ok(qemu) => {
                    let note = qemu.to_string();
                    found = Some(qemu);
                    StepOutcome::Passed(note)
                }
                Err(error) => StepOutcome::Failed(format!("QEMU scenarios: not run: {error}")),
            },
        });
        found
    }

    fn tests(
        &mut self,
        nextest: Option<&Tool>,
        qemu: Option<&UsableQemu>,
        programs: &BoardPrograms,
        options: &TestOptions,
    ) {
        let workspace = self.workspace;
        self.step("tests", || {
            let Some(nextest) = nextest else {
                return StepOutcome::NotRun("cargo-nextest is missing".to_owned());
            };
            let mut command = subcommand(workspace, &nextest.path);
            command.args(["nextest", "run", "--workspace", "--all-features"]);
            // A snapshot that differs is a failure, not an update.
            command.env("INSTA_UPDATE", "no");
            if in_ci() {
                command.args(["--profile", "ci"]);
                command.env_remove("INSTA_FORCE_PASS");
            }
            match qemu {
                Some(qemu) => command
                    .env(qemu_names::VARIABLE, &qemu.path)
                    .env_remove(qemu_names::LEFT_OUT_VARIABLE),
                None => {
                    command.env(qemu_names::LEFT_OUT_VARIABLE, "1").env_remove(qemu_names::VARIABLE)
                }
            };
            // Without a program, or without QEMU, the tests of the board are ignored by name.
            for (variable, path) in
                [(BOARD_IMAGE_VARIABLE, &programs.image), (BOARD_LINUX_VARIABLE, &programs.linux)]
            {
                match path.as_ref().filter(|_| qemu.is_some()) {
                    Some(path) => command.env(variable, path),
                    None => command.env_remove(variable),
                };
            }
            watched(command.args(&options.nextest_args))
        });
    }

    fn cargo(&mut self, name: &'static str, args: &[&str], env: Option<(&str, &str)>) {
        let mut command = self.workspace.cargo();
        command.args(args).envs(env);
        self.step(name, || watched(&mut command));
    }

    /// The engine as a board has it: the locks, the publication and the countdown without `std`.
    ///
    /// The countdown belongs to the program, hence one thread. These tests are short, so a build
    /// that is not optimised is the quicker way. That engine runs the scenarios on the boards.
    fn engine_of_a_board(&mut self) {
        let build = ["test", "--package", "smmu-engine", "--no-default-features", "--lib"];
        let run = ["--", "--test-threads", "1"];
        let quick = ("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
        self.cargo("engine without std", &[&build[..], &run[..]].concat(), Some(quick));
    }

    /// Loom tests. They need a build of their own, with the atomics of the model checker.
    ///
    /// nextest runs the tests of all crates from one list, so no CPU waits for the last test of a
    /// crate.
    fn interleavings(&mut self, nextest: Option<&Tool>) {
        let workspace = self.workspace;
        self.step("interleavings", || {
            let Some(nextest) = nextest else {
                return StepOutcome::NotRun("cargo-nextest is missing".to_owned());
            };
            let mut command = subcommand(workspace, &nextest.path);
            command
                .args(["nextest", "run", "--cargo-profile", "loom", "--test", "loom"])
                .args(
                    ["smmu-tags", "smmu-invs", "smmu-cmdq", "smmu-attach", "smmu-driver"]
                        .map(|name| format!("--package={name}")),
                )
                .env("RUSTFLAGS", "--cfg loom")
                .env("CARGO_TARGET_DIR", workspace.target.join("loom"));
            if in_ci() {
                command.args(["--profile", "ci"]);
            }
            watched(&mut command)
        });
    }

    /// Changes of the lines that changed since a revision, if they are few.
    fn mutants(&mut self, base: Option<&str>) {
        let workspace = self.workspace;
        self.step("mutants", || {
            let Some(base) = base else {
                return StepOutcome::NotRun("no revision to compare with (--base REV)".to_owned());
            };
            let options = MutantOptions { base: Some(base.to_owned()), packages: Vec::new() };
            match mutants::run(workspace, &options, MOST_MUTANTS) {
                Ok(MutantRun::TooMany(count)) => StepOutcome::NotRun(format!(
                    "{count} mutants, more than {MOST_MUTANTS}; `cargo xtask mutants --base {base}` runs them"
                )),
                Ok(MutantRun::Complete(report)) => {
                    say(&report);
                    if report.failed() {
                        StepOutcome::Failed("a test does not notice a mutant".to_owned())
                    } else {
                        StepOutcome::Passed(String::new())
                    }
                }
                Err(error) => StepOutcome::Failed(error.to_string()),
            }
        });
    }

    fn clippy(&mut self) {
        let workspace = self.workspace;
        self.step("clippy", || {
            component(workspace, "clippy", "clippy").unwrap_or_else(|| {
                watched(workspace.cargo().args([
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--all-features",
                    "--",
                    "-D",
                    "warnings",
                ]))
            })
        });
    }

    /// Each library alone, without features and with each single feature.
    ///
    /// A build of the whole workspace unifies features, which hides a feature that a crate forgot
    /// to request. With boards, the step `bare metal` checks the sets without `std`; `--no-board`
    /// checks them here.
    fn each_alone(&mut self, board: BoardUse) {
        let workspace = self.workspace;
        self.step("crates alone", || {
            if let Some(missing) = component(workspace, "clippy", "clippy") {
                return missing;
            }
            let mut count = 0;
            for library in &workspace.crates {
                let sets = match board {
                    BoardUse::LeftOut => library.small_feature_sets().collect(),
                    BoardUse::Required => library.std_feature_sets(),
                };
                for features in sets {
                    say(format_args!("{} {features}", library.name));
                    let outcome = watched(workspace.cargo().args([
                        "clippy",
                        "--quiet",
                        "--lib",
                        "--package",
                        &library.name,
                        "--no-default-features",
                        "--features",
                        features,
                        "--",
                        "-D",
                        "warnings",
                    ]));
                    if !matches!(outcome, StepOutcome::Passed(_)) {
                        return StepOutcome::Failed(format!(
                            "{} with features [{features}]",
                            library.name
                        ));
                    }
                    count += 1;
                }
            }
            StepOutcome::Passed(format!("{count} builds"))
        });
    }

    /// Each `no_std` library for bare metal, with every feature that claims to need no `std`.
    fn bare_metal(&mut self, wanted: BoardUse) -> Option<BareCompiler> {
        let workspace = self.workspace;
        let mut found = None;
        self.step("bare metal", || {
            if wanted == BoardUse::LeftOut {
                return StepOutcome::NotRun("no library was checked (--no-board)".to_owned());
            }
            let checked = compiler::provide(workspace).and_then(|compiler| {
                say(&compiler);
                let compiler = found.insert(compiler);
                board::check_libraries(workspace, compiler)
            });
            match checked {
                Ok(count) => StepOutcome::Passed(format!("{count} checks for {TARGET}")),
                Err(error) => StepOutcome::Failed(error.to_string()),
            }
        });
        found
    }

    /// Clippy over the code of boards, which only the bare target has whole.
    fn board_clippy(&mut self, compiler: Option<&BareCompiler>, wanted: BoardUse) {
        let workspace = self.workspace;
        self.step("board clippy", || {
            if wanted == BoardUse::LeftOut {
                return StepOutcome::NotRun("clippy did not run (--no-board)".to_owned());
            }
            if let Err(error) = board::require_package(workspace) {
                return StepOutcome::NotRun(error.to_string());
            }
            let Some(compiler) = compiler else {
                return StepOutcome::Failed("no compiler; see the step `bare metal`".to_owned());
            };
            let checked = board::clippy(workspace, compiler)
                .and_then(|count| board::clippy_of_aarch32(workspace, compiler).map(|()| count));
            match checked {
                Ok(count) => {
                    StepOutcome::Passed(format!("{count} runs for {TARGET}, one for 32 bits"))
                }
                Err(error) => StepOutcome::Failed(error.to_string()),
            }
        });
    }

    /// The driver on a 32-bit CPU: its image, and the boot of it.
    fn aarch32(&mut self, compiler: Option<&BareCompiler>, options: &TestOptions) {
        let workspace = self.workspace;
        self.step("32-bit CPU", || {
            if options.board == BoardUse::LeftOut {
                return StepOutcome::NotRun("no image was built (--no-board)".to_owned());
            }
            let Some(compiler) = compiler else {
                return StepOutcome::Failed("no compiler; see the step `bare metal`".to_owned());
            };
            let done = board::build_aarch32(workspace, compiler).and_then(|image| {
                Ok(match options.qemu {
                    QemuUse::LeftOut => "built; not booted (--no-qemu)".to_owned(),
                    QemuUse::Required => board::boot_aarch32(workspace, &image)?.to_string(),
                })
            });
            match done {
                Ok(note) => StepOutcome::Passed(note),
                Err(error) => StepOutcome::Failed(error.to_string()),
            }
        });
    }

    /// The tests of the board's library that need no board, and the code of `BRINGUP.md`. Its package is no member of the
    /// workspace.
    fn board_library(&mut self) {
        let workspace = self.workspace;
        self.step("board library", || {
            if let Err(error) = board::require_package(workspace) {
                return StepOutcome::NotRun(error.to_string());
            }
            let mut outcome = StepOutcome::Passed(String::new());
            for part in ["--lib", "--doc"] {
                let mut test = workspace.cargo();
                test.args(["test", "--locked", part, "--features", "devmem", "--manifest-path"]);
                test.arg(workspace.root.join("harness/board/Cargo.toml"));
                test.env("CARGO_TARGET_DIR", workspace.board_folder().join("host"));
                if matches!(outcome, StepOutcome::Passed(_)) {
                    outcome = watched(&mut test);
                }
            }
            outcome
        });
    }

    /// The images of boards, their sizes, and the boot of one. Then a Linux for the one that is a
    /// process, and its tests there.
    fn images(&mut self, compiler: Option<BareCompiler>, options: &TestOptions) -> BoardPrograms {
        let workspace = self.workspace;
        let mut programs = BoardPrograms::default();
        let mut images = Vec::new();
        self.step("board images", || {
            if options.board == BoardUse::LeftOut {
                return StepOutcome::NotRun("no image was built (--no-board)".to_owned());
            }
            if let Err(error) = board::require_package(workspace) {
                return StepOutcome::NotRun(error.to_string());
            }
            let Some(compiler) = compiler else {
                return StepOutcome::Failed("no compiler; see the step `bare metal`".to_owned());
            };
            let built = board::build_images(workspace, &compiler).and_then(|built| {
                let note = format!("{} images", built.len());
                programs.image = board::path_of_scenarios(&built);
                images = built;
                match options.qemu {
                    QemuUse::LeftOut => Ok(format!("{note}; none was booted (--no-qemu)")),
                    QemuUse::Required => {
                        let tour = board::boot_tour(workspace, &images)?;
                        let rates = board::boot_rates(workspace, &images)?;
                        Ok(format!("{note}; {tour}; {rates}"))
                    }
                }
            });
            match built {
                Ok(note) => StepOutcome::Passed(note),
                Err(error) => StepOutcome::Failed(error.to_string()),
            }
        });
        self.step("board barriers", || {
            if options.board == BoardUse::LeftOut {
                return StepOutcome::NotRun("no image was built (--no-board)".to_owned());
            }
            if images.is_empty() {
                return StepOutcome::NotRun("no image; see the step `board images`".to_owned());
            }
            match board::check_barriers(&images) {
                Ok(counted) => StepOutcome::Passed(format!("{} functions", counted.len())),
                Err(error) => StepOutcome::Failed(error.to_string()),
            }
        });
        self.step("board Linux", || {
            if options.board == BoardUse::LeftOut {
                return StepOutcome::NotRun("no Linux was made (--no-board)".to_owned());
            }
            if images.is_empty() {
                return StepOutcome::NotRun("no image; see the step `board images`".to_owned());
            }
            let checked = board::make_linux(workspace, &images).and_then(|system| {
                programs.linux = Some(system.folder.clone());
                match options.qemu {
                    QemuUse::LeftOut => Ok("made; not booted (--no-qemu)".to_owned()),
                    QemuUse::Required => Ok(board::check_linux(workspace, &system)?.to_string()),
                }
            });
            match checked {
                Ok(note) => StepOutcome::Passed(note),
                Err(error) => StepOutcome::Failed(error.to_string()),
            }
        });
        programs
    }

    /// Compiles the fuzz targets; `cargo xtask fuzz` runs them.
    fn fuzz_targets(&mut self) {
        let workspace = self.workspace;
        self.step("fuzz targets", || {
            let target = fuzz::target_dir(workspace);
            // A check links nothing, so an empty file stands for libFuzzer and saves a C++
            // compiler.
            let library = target.join("libFuzzer.a");
            let empty =
                std::fs::create_dir_all(&target).and_then(|()| std::fs::write(&library, ""));
            if let Err(error) = empty {
                return StepOutcome::Failed(Error::io("write", &library)(error).to_string());
            }
            for fuzz_crate in fuzz::crates(workspace) {
                let mut check = workspace.cargo();
                check.args(["check", "--quiet", "--all-targets", "--manifest-path"]);
                check.arg(fuzz_crate.folder.join("Cargo.toml"));
                check.env("CUSTOM_LIBFUZZER_PATH", &library).env("CARGO_TARGET_DIR", &target);
                let outcome = watched(&mut check);
                if !matches!(outcome, StepOutcome::Passed(_)) {
                    return outcome;
                }
            }
            StepOutcome::Passed("compiled; `cargo xtask fuzz` runs them".to_owned())
        });
    }

    fn rustfmt(&mut self) {
        let workspace = self.workspace;
        self.step("rustfmt", || {
            if let Some(missing) = component(workspace, "fmt", "rustfmt") {
                return missing;
            }
            let mut outcome = watched(workspace.cargo().args(["fmt", "--all", "--check"]));
            for fuzz_crate in fuzz::crates(workspace) {
                let mut check = workspace.cargo();
                check.args(["fmt", "--check", "--manifest-path"]);
                check.arg(fuzz_crate.folder.join("Cargo.toml"));
                if matches!(outcome, StepOutcome::Passed(_)) {
                    outcome = watched(&mut check);
                }
            }
            outcome
        });
    }

    /// Packs every crate that is published, as a dry run, and checks for its licences and README.
    ///
    /// Nothing is built from the packages: the steps before have built the same files.
    fn package(&mut self) {
        const FILES: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md"];
        let workspace = self.workspace;
        self.step("package", || {
            // The dry run resolves dependencies from the registry; so does this probe.
            let mut reach = workspace.cargo();
            reach.args(["update", "--dry-run", "--quiet"]);
            if !capture(&mut reach, "", REGISTRY_LIMIT)
                .is_ok_and(|reached| reached.status.success())
            {
                return StepOutcome::NotRun("the package registry does not answer".to_owned());
            }
            let published = workspace.crates.iter().filter(|library| library.published);
            let mut count = 0;
            for library in published {
                let mut list = workspace.cargo();
                list.args(["package", "--list", "--allow-dirty", "--quiet", "--package"]);
                let listed = match capture_success(list.arg(&library.name), PACKAGE_LIMIT) {
                    Ok(listed) => listed,
                    Err(error) => return StepOutcome::Failed(error.to_string()),
                };
                let lacks = |file: &&str| !listed.lines().any(|line| line == *file);
                if let Some(file) = FILES.into_iter().find(|file| lacks(file)) {
                    return StepOutcome::Failed(format!("{} packs no {file}", library.name));
                }
                count += 1;
            }
            let mut publish = workspace.cargo();
            publish.args(["publish", "--workspace", "--dry-run", "--no-verify", "--allow-dirty"]);
            match capture_success(&mut publish, PACKAGE_LIMIT) {
                Ok(_) => StepOutcome::Passed(format!("{count} crates")),
                Err(error) => StepOutcome::Failed(error.to_string()),
            }
        });
    }

    fn dependencies(&mut self, deny: Option<&Tool>) {
        let workspace = self.workspace;
        self.step("dependencies", || match deny {
            None => StepOutcome::NotRun("cargo-deny is missing".to_owned()),
            Some(deny) => watched(
                subcommand(workspace, &deny.path)
                    .args(["deny", "check", "bans", "licenses", "sources"]),
            ),
        });
    }

    fn advisories(&mut self, deny: Option<&Tool>) {
        let workspace = self.workspace;
        self.step("advisories", || {
            let Some(deny) = deny else {
                return StepOutcome::NotRun("cargo-deny is missing".to_owned());
            };
            let mut fetch = subcommand(workspace, &deny.path);
            fetch.args(["deny", "fetch", "db"]);
            let fetched = capture(&mut fetch, "", ADVISORIES_LIMIT);
            if !fetched.is_ok_and(|fetched| fetched.status.success()) {
                return StepOutcome::NotRun("the advisory database does not answer".to_owned());
            }
            watched(subcommand(workspace, &deny.path).args([
                "deny",
                "check",
                "--disable-fetch",
                "advisories",
            ]))
        });
    }
}

/// A cargo subcommand by its path, because it may be outside `PATH`.
fn subcommand(workspace: &Workspace, path: &Path) -> Command {
    let mut command = Command::new(path);
    command.current_dir(&workspace.root);
    command
}

fn watched(command: &mut Command) -> StepOutcome {
    match watch(command) {
        Ok(status) if status.success() => StepOutcome::Passed(String::new()),
        Ok(status) => StepOutcome::Failed(status.to_string()),
        Err(error) => StepOutcome::Failed(error.to_string()),
    }
}

/// A failure with its remedy, if a component of the toolchain is missing.
fn component(workspace: &Workspace, subcommand: &str, component: &str) -> Option<StepOutcome> {
    let mut command = workspace.cargo();
    command.args([subcommand, "--version"]);
    let answer = capture(&mut command, "", VERSION_LIMIT);
    if answer.is_ok_and(|answer| answer.status.success()) {
        return None;
    }
    Some(StepOutcome::Failed(format!(
        "{component} is missing; run `rustup component add {component}`"
    )))
}

fn in_ci() -> bool {
    variable("CI").is_some_and(|value| value != "false")
}
