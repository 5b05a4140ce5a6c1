//! The command line of `cargo xtask`, its help and its errors.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::bench::KeptCounts;
use crate::workspace::CRATES;

pub(crate) const USAGE: &str = "\
Usage: cargo xtask <COMMAND>

Commands:
  test [--no-qemu] [--no-board] [--base REV] [-- NEXTEST ARGS]
          Provide cargo-nextest, cargo-deny, QEMU and a compiler for bare metal.
          Run the tests, doc tests, loom tests, clippy, rustfmt, rustdoc,
          packaging and cargo-deny, check the libraries for bare metal, then
          print a summary. A failing step does not stop the later ones.
            --no-qemu   skip the QEMU scenarios; the summary says so
            --no-board  skip the steps of boards; the summary says so
            --base REV  also run the mutants of what changed since REV, if they
                        are at most 50
            -- ARGS     arguments for `cargo nextest run`, such as a test filter
  fuzz [--seconds N] [TARGET...]
          Provide cargo-fuzz, and run each named fuzz target (default: all) for
          N seconds (default: 60). Needs the nightly toolchain.
  bench [--keep]
          Provide gungraun-runner, and count instructions under valgrind. The
          encoders and decoders are compared with words packed by hand, the
          queue with the counts in the repository. Needs valgrind.
            --keep   write the new counts to the repository
  mutants [--base REV] [CRATE...]
          Provide cargo-mutants, change one expression of the crates at a time
          (default: all six), and run the tests of its crate. Fails for a change
          that no test notices and no tests/accepted_mutants.txt explains.
            --base REV   only lines that changed since REV
  tsan    Run the tests with threads under ThreadSanitizer, with a standard
          library built for it. Needs the nightly toolchain and its rust-src.
  board [--run] [PART]
          Find a compiler for aarch64-unknown-none-softfloat, or unpack Debian's
          into the target folder (on Debian, without root). Build the images of
          harness/board, check their sizes, and print where they are.
            --run            also boot the image `tour` in QEMU, or Linux and
                             the tests of the image `linux` there
            compiler         only provide the compiler
            libraries        run clippy over the libraries for bare metal
            clippy           run clippy over harness/board for bare metal
            aarch32          build the image of harness/aarch32, the driver on a 32-bit
                             CPU, with core and alloc from the library's source;
                             --run boots it
            rates [--cpus N] boot the image `rates` in QEMU: commands and unmaps per
                             second on 1, 2, 4 CPUs and so on up to N (default: 4)
            linux [PROGRAM]  fetch Debian's arm64 kernel, and pack an initramfs
                             that runs PROGRAM (default: the image `linux`)
  qemu [--print-path]
          Find a QEMU that the scenarios support, or unpack one into the target
          folder (on Debian and its derivatives, without root).
            --print-path   print only the path
  help    Print this text

Environment:
  SMMU_QEMU   path of the qemu-system-aarch64 to use; no search
  CI          if set and not \"false\", nextest uses its `ci` profile

Exit status: 0 all steps that ran passed, 1 a step failed, 2 wrong usage.";

/// CPUs of a machine that measures rates, and the most that QEMU's machine has.
const CPUS: u32 = 4;
const MOST_CPUS: u32 = 64;

/// The task that a command line names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Help,
    Qemu(QemuOutput),
    Test(TestOptions),
    Fuzz(FuzzOptions),
    Bench(KeptCounts),
    Mutants(MutantOptions),
    Tsan,
    Board(BoardOptions),
}

/// Output of `cargo xtask qemu`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum QemuOutput {
    Human,
    PathOnly,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TestOptions {
    pub(crate) qemu: QemuUse,
    pub(crate) board: BoardUse,
    /// The revision whose changes are tested by mutants.
    pub(crate) base: Option<String>,
    pub(crate) nextest_args: Vec<OsString>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FuzzOptions {
    pub(crate) seconds: u32,
    /// Names of targets; empty for all.
    pub(crate) targets: Vec<String>,
}

/// What `cargo xtask mutants` changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MutantOptions {
    /// Only lines that changed since this revision.
    pub(crate) base: Option<String>,
    /// Names of crates; empty for all.
    pub(crate) packages: Vec<String>,
}

/// Whether the scenarios also run on QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QemuUse {
    Required,
    LeftOut,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BoardOptions {
    pub(crate) part: BoardPart,
    pub(crate) boot: Boot,
}

/// What `cargo xtask board` makes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BoardPart {
    Compiler,
    Libraries,
    Clippy,
    Images,
    /// The image for a 32-bit CPU.
    Aarch32,
    /// A run of the image `rates` with this number of CPUs.
    Rates(u32),
    /// A Linux that runs this program; `None` for the image `linux`.
    Linux(Option<PathBuf>),
}

/// Whether QEMU boots what was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boot {
    Yes,
    No,
}

/// Whether the steps of boards run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BoardUse {
    Required,
    LeftOut,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("no command given")]
    NoCommand,
    #[error("unknown command `{0}`")]
    UnknownCommand(String),
    #[error("`{command}` has no argument `{argument}`{hint}")]
    UnknownArgument { command: &'static str, argument: String, hint: &'static str },
    #[error("`--run` boots the images or `linux`; without them it boots nothing")]
    NothingToBoot,
    #[error("`--cpus` needs a number from 1 to {MOST_CPUS}, not `{0}`")]
    Cpus(String),
    #[error("`--cpus` is an option of `board rates`")]
    CpusOfWhat,
    #[error("`--base` needs a revision, such as a branch or a commit")]
    Base,
    #[error("`{name}` is none of the crates: {}", CRATES.join(", "))]
    NoSuchCrate { name: String },
    #[error("`--seconds` needs a number above 0, not `{0}`")]
    Seconds(String),
}

pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Task, UsageError> {
    let mut args = args.into_iter();
    let Some(command) = args.next() else {
        return Err(UsageError::NoCommand);
    };
    match command.to_str() {
        Some("help" | "--help" | "-h") => Ok(Task::Help),
        Some("test") => parse_test(args),
        Some("fuzz") => parse_fuzz(args),
        Some("bench") => parse_bench(args),
        Some("qemu") => parse_qemu(args),
        Some("mutants") => parse_mutants(args),
        Some("tsan") => parse_tsan(args),
        Some("board") => parse_board(args),
        _ => Err(UsageError::UnknownCommand(lossy(&command))),
    }
}

fn parse_test(mut args: impl Iterator<Item = OsString>) -> Result<Task, UsageError> {
    let mut options = TestOptions {
        qemu: QemuUse::Required,
        board: BoardUse::Required,
        base: None,
        nextest_args: Vec::new(),
    };
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--no-qemu") => options.qemu = QemuUse::LeftOut,
            Some("--no-board") => options.board = BoardUse::LeftOut,
            Some("--base") => options.base = Some(revision(args.next())?),
            Some("--help" | "-h") => return Ok(Task::Help),
            Some("--") => {
                options.nextest_args = args.collect();
                break;
            }
            _ => {
                return Err(UsageError::UnknownArgument {
                    command: "test",
                    argument: lossy(&arg),
                    hint: "; put arguments for nextest after `--`",
                });
            }
        }
    }
    Ok(Task::Test(options))
}

fn parse_qemu(args: impl Iterator<Item = OsString>) -> Result<Task, UsageError> {
    let mut output = QemuOutput::Human;
    for arg in args {
        match arg.to_str() {
            Some("--print-path") => output = QemuOutput::PathOnly,
            Some("--help" | "-h") => return Ok(Task::Help),
            _ => {
                return Err(UsageError::UnknownArgument {
                    command: "qemu",
                    argument: lossy(&arg),
                    hint: "",
                });
            }
        }
    }
    Ok(Task::Qemu(output))
}

fn parse_fuzz(mut args: impl Iterator<Item = OsString>) -> Result<Task, UsageError> {
    let mut options = FuzzOptions { seconds: 60, targets: Vec::new() };
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--seconds") => {
                let value = args.next().unwrap_or_default();
                let seconds = value.to_str().and_then(|value| value.parse().ok());
                let wrong = || UsageError::Seconds(lossy(&value));
                options.seconds = seconds.filter(|&seconds| seconds > 0).ok_or_else(wrong)?;
            }
            Some("--help" | "-h") => return Ok(Task::Help),
            Some(target) if !target.starts_with('-') => options.targets.push(target.to_owned()),
            _ => {
                return Err(UsageError::UnknownArgument {
                    command: "fuzz",
                    argument: lossy(&arg),
                    hint: "",
                });
            }
        }
    }
    Ok(Task::Fuzz(options))
}

fn parse_bench(args: impl Iterator<Item = OsString>) -> Result<Task, UsageError> {
    let mut kept = KeptCounts::Compare;
    for arg in args {
        match arg.to_str() {
            Some("--keep") => kept = KeptCounts::Replace,
            Some("--help" | "-h") => return Ok(Task::Help),
            _ => {
                return Err(UsageError::UnknownArgument {
                    command: "bench",
                    argument: lossy(&arg),
                    hint: "",
                });
            }
        }
    }
    Ok(Task::Bench(kept))
}

fn revision(arg: Option<OsString>) -> Result<String, UsageError> {
    let name = arg.and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty() && !name.starts_with('-')).ok_or(UsageError::Base)
}

fn parse_mutants(mut args: impl Iterator<Item = OsString>) -> Result<Task, UsageError> {
    let mut options = MutantOptions::default();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--base") => options.base = Some(revision(args.next())?),
            Some("--help" | "-h") => return Ok(Task::Help),
            Some(name) if !name.starts_with('-') => {
                if !CRATES.contains(&name) {
                    return Err(UsageError::NoSuchCrate { name: name.to_owned() });
                }
                options.packages.push(name.to_owned());
            }
            _ => {
                return Err(UsageError::UnknownArgument {
                    command: "mutants",
                    argument: lossy(&arg),
                    hint: "",
                });
            }
        }
    }
    Ok(Task::Mutants(options))
}

fn parse_tsan(mut args: impl Iterator<Item = OsString>) -> Result<Task, UsageError> {
    match args.next() {
        None => Ok(Task::Tsan),
        Some(arg) if ["--help", "-h"].iter().any(|help| arg == *help) => Ok(Task::Help),
        Some(arg) => {
            let argument = lossy(&arg);
            Err(UsageError::UnknownArgument { command: "tsan", argument, hint: "" })
        }
    }
}

fn parse_board(mut args: impl Iterator<Item = OsString>) -> Result<Task, UsageError> {
    let mut options = BoardOptions { part: BoardPart::Images, boot: Boot::No };
    while let Some(arg) = args.next() {
        let unknown =
            |hint| UsageError::UnknownArgument { command: "board", argument: lossy(&arg), hint };
        match (arg.to_str(), &options.part) {
            (Some("--help" | "-h"), _) => return Ok(Task::Help),
            (Some("--run"), _) => options.boot = Boot::Yes,
            (Some("compiler"), BoardPart::Images) => options.part = BoardPart::Compiler,
            (Some("libraries"), BoardPart::Images) => options.part = BoardPart::Libraries,
            (Some("clippy"), BoardPart::Images) => options.part = BoardPart::Clippy,
            (Some("aarch32"), BoardPart::Images) => options.part = BoardPart::Aarch32,
            (Some("rates"), BoardPart::Images) => options.part = BoardPart::Rates(CPUS),
            (Some("--cpus"), BoardPart::Rates(_)) => {
                let value = args.next().unwrap_or_default();
                let cpus = value.to_str().and_then(|value| value.parse().ok());
                let cpus = cpus.filter(|cpus| (1..=MOST_CPUS).contains(cpus));
                let cpus = cpus.ok_or_else(|| UsageError::Cpus(lossy(&value)))?;
                options.part = BoardPart::Rates(cpus);
            }
            (Some("--cpus"), _) => return Err(UsageError::CpusOfWhat),
            (Some("linux"), BoardPart::Images) => options.part = BoardPart::Linux(None),
            (Some(name), _) if name.starts_with('-') => return Err(unknown("")),
            (_, BoardPart::Linux(None)) => options.part = BoardPart::Linux(Some(arg.into())),
            _ => {
                return Err(unknown(
                    "; its parts are compiler, libraries, clippy, aarch32, rates, linux [PROGRAM]",
                ));
            }
        }
    }
    if options.boot == Boot::Yes
        && matches!(options.part, BoardPart::Compiler | BoardPart::Libraries | BoardPart::Clippy)
    {
        return Err(UsageError::NothingToBoot);
    }
    Ok(Task::Board(options))
}

fn lossy(arg: &OsString) -> String {
    arg.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn test(qemu: QemuUse, nextest_args: &[&str]) -> Result<Task, UsageError> {
        Ok(Task::Test(TestOptions {
            qemu,
            board: BoardUse::Required,
            base: None,
            nextest_args: nextest_args.iter().map(OsString::from).collect(),
        }))
    }

    #[test]
    fn commands_and_their_options() {
        assert_eq!(parsed("help"), Ok(Task::Help));
        assert_eq!(parsed("test --help"), Ok(Task::Help));
        assert_eq!(parsed("qemu"), Ok(Task::Qemu(QemuOutput::Human)));
        assert_eq!(parsed("qemu --print-path"), Ok(Task::Qemu(QemuOutput::PathOnly)));
        assert_eq!(parsed("test"), test(QemuUse::Required, &[]));
        assert_eq!(parsed("test --no-qemu"), test(QemuUse::LeftOut, &[]));
    }

    #[test]
    fn board_takes_a_part_and_boots_what_can_boot() {
        let board = |part, boot| Ok(Task::Board(BoardOptions { part, boot }));
        assert_eq!(parsed("board"), board(BoardPart::Images, Boot::No));
        assert_eq!(parsed("board --run"), board(BoardPart::Images, Boot::Yes));
        assert_eq!(parsed("board compiler"), board(BoardPart::Compiler, Boot::No));
        assert_eq!(parsed("board libraries"), board(BoardPart::Libraries, Boot::No));
        assert_eq!(parsed("board clippy"), board(BoardPart::Clippy, Boot::No));
        assert_eq!(parsed("board aarch32 --run"), board(BoardPart::Aarch32, Boot::Yes));
        assert_eq!(parsed("board clippy --run"), Err(UsageError::NothingToBoot));
        assert_eq!(parsed("board linux --run"), board(BoardPart::Linux(None), Boot::Yes));
        let program = || BoardPart::Linux(Some("linux".into()));
        assert_eq!(parsed("board --run linux linux"), board(program(), Boot::Yes));
        assert_eq!(parsed("board compiler --run"), Err(UsageError::NothingToBoot));
        assert_eq!(parsed("board rates"), board(BoardPart::Rates(4), Boot::No));
        assert_eq!(parsed("board rates --cpus 2"), board(BoardPart::Rates(2), Boot::No));
        for (wrong, value) in [("0", "0"), ("65", "65"), ("two", "two"), ("", "")] {
            let line = format!("board rates --cpus {wrong}");
            assert_eq!(parsed(&line), Err(UsageError::Cpus(value.into())));
        }
        assert_eq!(parsed("board --cpus 2 rates"), Err(UsageError::CpusOfWhat));
        for wrong in ["board tour", "board --rum", "board compiler linux", "board linux a b"] {
            assert!(matches!(parsed(wrong), Err(UsageError::UnknownArgument { .. })), "{wrong}");
        }
    }

    #[test]
    fn what_needs_other_programs_can_be_left_out() {
        let Ok(Task::Test(options)) = parsed("test --no-board --no-qemu -- name") else {
            panic!("a test run")
        };
        assert_eq!((options.qemu, options.board), (QemuUse::LeftOut, BoardUse::LeftOut));
        assert_eq!(options.nextest_args, ["name"]);
        let Ok(Task::Test(options)) = parsed("test --base main") else { panic!("a test run") };
        assert_eq!(options.base.as_deref(), Some("main"));
        assert_eq!(parsed("test --base"), Err(UsageError::Base));
    }

    #[test]
    fn arguments_after_the_dashes_go_to_nextest() {
        assert_eq!(
            parsed("test -- --no-qemu -- --exact"),
            test(QemuUse::Required, &["--no-qemu", "--", "--exact"])
        );
    }

    #[test]
    fn fuzz_takes_a_time_and_targets() {
        let fuzz = |seconds, targets: &[&str]| {
            let targets = targets.iter().map(|&target| target.to_owned()).collect();
            Ok(Task::Fuzz(FuzzOptions { seconds, targets }))
        };
        assert_eq!(parsed("fuzz"), fuzz(60, &[]));
        assert_eq!(parsed("fuzz ste --seconds 5 cd"), fuzz(5, &["ste", "cd"]));
        assert_eq!(parsed("fuzz --seconds 0"), Err(UsageError::Seconds("0".into())));
        assert_eq!(parsed("fuzz --seconds"), Err(UsageError::Seconds(String::new())));
        assert!(parsed("fuzz --second 5").is_err());
        assert_eq!(parsed("bench"), Ok(Task::Bench(KeptCounts::Compare)));
        assert_eq!(parsed("bench --keep"), Ok(Task::Bench(KeptCounts::Replace)));
        assert!(parsed("bench commands").is_err());
        assert_eq!(parsed("tsan"), Ok(Task::Tsan));
        assert!(parsed("tsan smmu-cmdq").is_err());
    }

    #[test]
    fn mutants_take_a_revision_and_crates() {
        let mutants = |base: Option<&str>, packages: &[&str]| {
            let packages = packages.iter().map(|&name| name.to_owned()).collect();
            Ok(Task::Mutants(MutantOptions { base: base.map(str::to_owned), packages }))
        };
        assert_eq!(parsed("mutants"), mutants(None, &[]));
        let line = "mutants smmu-tags --base main smmu-invs";
        assert_eq!(parsed(line), mutants(Some("main"), &["smmu-tags", "smmu-invs"]));
        for wrong in ["mutants --base", "mutants --base --help"] {
            assert_eq!(parsed(wrong), Err(UsageError::Base), "{wrong}");
        }
        let name = "smmu-tag".to_owned();
        assert_eq!(parsed("mutants smmu-tag"), Err(UsageError::NoSuchCrate { name }));
        assert!(parsed("mutants --list").is_err());
    }

    #[test]
    fn usage_errors_name_the_mistake() {
        assert_eq!(parsed(""), Err(UsageError::NoCommand));
        assert_eq!(
            parsed("tset").map_err(|error| error.to_string()),
            Err("unknown command `tset`".to_owned())
        );
        assert_eq!(
            parsed("test my_filter").map_err(|error| error.to_string()),
            Err("`test` has no argument `my_filter`; put arguments for nextest after `--`".into())
        );
        assert!(parsed("qemu --path").is_err());
    }
}
