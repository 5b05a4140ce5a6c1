//! The command line.

use std::ffi::OsString;

use crate::bench::Kept;

pub(crate) const USAGE: &str = "\
Usage: cargo xtask <COMMAND>

Commands:
  test [--no-qemu] [-- NEXTEST ARGS]
          Provide cargo-nextest, cargo-deny and QEMU, then run the tests, doc
          tests, clippy, rustfmt, rustdoc and cargo-deny, and sum up. A failing
          step does not stop the later ones.
            --no-qemu   leave QEMU out; the summary names what was not run
            -- ARGS     handed to `cargo nextest run`, e.g. a test filter
  fuzz [--seconds N] [TARGET...]
          Provide cargo-fuzz, and run every fuzz target, or the ones named, for
          N seconds each (60). Needs the nightly toolchain.
  bench [--keep]
          Provide gungraun-runner, and count the instructions of encoders and
          decoders beside those of words packed by hand, and those of queueing
          beside the ones that are kept in the repository. Needs valgrind.
            --keep   keep what was counted
  qemu [--print-path]
          Find a QEMU that the scenarios can use, or unpack one below the target
          folder (Debian and its derivatives; root is not needed).
            --print-path   print nothing but the path
  help    Print this text

Environment:
  SMMU_QEMU   the qemu-system-aarch64 to use instead of searching for one
  CI          if set and not \"false\", nextest runs with its `ci` profile

Exit status: 0 all passed, 1 something failed, 2 wrong usage.";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Qemu(QemuOutput),
    Test(TestOptions),
    Fuzz(FuzzOptions),
    Bench(Kept),
}

/// How `cargo xtask qemu` answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum QemuOutput {
    Human,
    PathOnly,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TestOptions {
    pub(crate) qemu: QemuUse,
    pub(crate) nextest_args: Vec<OsString>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FuzzOptions {
    pub(crate) seconds: u32,
    /// All, if empty.
    pub(crate) targets: Vec<String>,
}

/// Whether the scenarios run on QEMU too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QemuUse {
    Required,
    LeftOut,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("no command given")]
    NoCommand,
    #[error("there is no command `{0}`")]
    UnknownCommand(String),
    #[error("`{command}` does not know `{argument}`{hint}")]
    UnknownArgument { command: &'static str, argument: String, hint: &'static str },
    #[error("`--seconds` needs a number above 0, but has `{0}`")]
    Seconds(String),
}

pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut args = args.into_iter();
    let Some(command) = args.next() else {
        return Err(UsageError::NoCommand);
    };
    match command.to_str() {
        Some("help" | "--help" | "-h") => Ok(Command::Help),
        Some("test") => parse_test(args),
        Some("fuzz") => parse_fuzz(args),
        Some("bench") => parse_bench(args),
        Some("qemu") => parse_qemu(args),
        _ => Err(UsageError::UnknownCommand(lossy(&command))),
    }
}

fn parse_test(mut args: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut qemu = QemuUse::Required;
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--no-qemu") => qemu = QemuUse::LeftOut,
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--") => {
                return Ok(Command::Test(TestOptions { qemu, nextest_args: args.collect() }));
            }
            _ => {
                return Err(UsageError::UnknownArgument {
                    command: "test",
                    argument: lossy(&arg),
                    hint: "; arguments for nextest go behind `--`",
                });
            }
        }
    }
    Ok(Command::Test(TestOptions { qemu, nextest_args: Vec::new() }))
}

fn parse_qemu(args: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut output = QemuOutput::Human;
    for arg in args {
        match arg.to_str() {
            Some("--print-path") => output = QemuOutput::PathOnly,
            Some("--help" | "-h") => return Ok(Command::Help),
            _ => {
                return Err(UsageError::UnknownArgument {
                    command: "qemu",
                    argument: lossy(&arg),
                    hint: "",
                });
            }
        }
    }
    Ok(Command::Qemu(output))
}

fn parse_fuzz(mut args: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut options = FuzzOptions { seconds: 60, targets: Vec::new() };
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--seconds") => {
                let value = args.next().unwrap_or_default();
                let seconds = value.to_str().and_then(|value| value.parse().ok());
                let wrong = || UsageError::Seconds(lossy(&value));
                options.seconds = seconds.filter(|&seconds| seconds > 0).ok_or_else(wrong)?;
            }
            Some("--help" | "-h") => return Ok(Command::Help),
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
    Ok(Command::Fuzz(options))
}

fn parse_bench(args: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut kept = Kept::Compare;
    for arg in args {
        match arg.to_str() {
            Some("--keep") => kept = Kept::Replace,
            Some("--help" | "-h") => return Ok(Command::Help),
            _ => {
                return Err(UsageError::UnknownArgument {
                    command: "bench",
                    argument: lossy(&arg),
                    hint: "",
                });
            }
        }
    }
    Ok(Command::Bench(kept))
}

fn lossy(arg: &OsString) -> String {
    arg.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn test(qemu: QemuUse, nextest_args: &[&str]) -> Result<Command, UsageError> {
        Ok(Command::Test(TestOptions {
            qemu,
            nextest_args: nextest_args.iter().map(OsString::from).collect(),
        }))
    }

    #[test]
    fn commands_and_their_options() {
        assert_eq!(parsed("help"), Ok(Command::Help));
        assert_eq!(parsed("test --help"), Ok(Command::Help));
        assert_eq!(parsed("qemu"), Ok(Command::Qemu(QemuOutput::Human)));
        assert_eq!(parsed("qemu --print-path"), Ok(Command::Qemu(QemuOutput::PathOnly)));
        assert_eq!(parsed("test"), test(QemuUse::Required, &[]));
        assert_eq!(parsed("test --no-qemu"), test(QemuUse::LeftOut, &[]));
    }

    #[test]
    fn all_behind_the_dashes_belongs_to_nextest() {
        assert_eq!(
            parsed("test -- --no-qemu -- --exact"),
            test(QemuUse::Required, &["--no-qemu", "--", "--exact"])
        );
    }

    #[test]
    fn fuzz_takes_a_time_and_targets() {
        let fuzz = |seconds, targets: &[&str]| {
            let targets = targets.iter().map(|&target| target.to_owned()).collect();
            Ok(Command::Fuzz(FuzzOptions { seconds, targets }))
        };
        assert_eq!(parsed("fuzz"), fuzz(60, &[]));
        assert_eq!(parsed("fuzz ste --seconds 5 cd"), fuzz(5, &["ste", "cd"]));
        assert_eq!(parsed("fuzz --seconds 0"), Err(UsageError::Seconds("0".into())));
        assert_eq!(parsed("fuzz --seconds"), Err(UsageError::Seconds(String::new())));
        assert!(parsed("fuzz --second 5").is_err());
        assert_eq!(parsed("bench"), Ok(Command::Bench(Kept::Compare)));
        assert_eq!(parsed("bench --keep"), Ok(Command::Bench(Kept::Replace)));
        assert!(parsed("bench commands").is_err());
    }

    #[test]
    fn wrong_usage_says_what_is_wrong() {
        assert_eq!(parsed(""), Err(UsageError::NoCommand));
        assert_eq!(
            parsed("tset").map_err(|error| error.to_string()),
            Err("there is no command `tset`".to_owned())
        );
        assert_eq!(
            parsed("test my_filter").map_err(|error| error.to_string()),
            Err("`test` does not know `my_filter`; arguments for nextest go behind `--`".into())
        );
        assert!(parsed("qemu --path").is_err());
    }
}
