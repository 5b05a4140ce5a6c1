//! The command line.

use std::ffi::OsString;

pub(crate) const USAGE: &str = "\
Usage: cargo xtask <COMMAND>

Commands:
  test [--no-qemu] [-- NEXTEST ARGS]
          Provide cargo-nextest, cargo-deny and QEMU, then run the tests, doc
          tests, clippy, rustfmt, rustdoc and cargo-deny, and sum up. A failing
          step does not stop the later ones.
            --no-qemu   leave QEMU out; the summary names what was not run
            -- ARGS     handed to `cargo nextest run`, e.g. a test filter
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
}

pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut args = args.into_iter();
    let Some(command) = args.next() else {
        return Err(UsageError::NoCommand);
    };
    match command.to_str() {
        Some("help" | "--help" | "-h") => Ok(Command::Help),
        Some("test") => parse_test(args),
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
