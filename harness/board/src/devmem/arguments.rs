//! The command line of the program.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::known_smmus::TableKind;
use super::saved_state::IfEnabled;

/// The help text.
pub const HELP: &str = "\
Usage: smmu-linux --own ADDRESS [--own ADDRESS]... [OPTIONS]

Drives SMMUs from user space, and runs scenarios that a host sends over
standard input (smmu-harness run --backend devmem --uart 'ssh BOARD smmu-linux ...').
Needs root, /dev/mem, a free huge page, and a kernel that leaves the SMMU alone.

Without --own it tells what it would do, and ends with status 2.

  --own ADDRESS    you own the SMMU whose registers are at ADDRESS: nothing else
                   uses it, or the devices behind it. The n-th --own is SMMU n
                   of a scenario.
  --turn-off       take an SMMU that translates already; at the end it is off
  --rehearse HOW   turn translation on, then end by HOW: panic, fault, or wait
                   (for a signal). Shows that the registers come back.
  --dtb FILE       use this device tree, not the kernel's
  --iort FILE      use this IORT, not the kernel's
  --help           print this text

Exit status: 0 the host has ended the run; 2 wrong usage, or no --own;
3 the SMMU or a resource is refused, or was not restored; 101 a panic;
128 + N ended by signal N.
";

/// How a rehearsal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rehearsal {
    /// By a panic.
    Panic,
    /// By an access to address 0.
    Fault,
    /// By a signal.
    Wait,
}

/// What the user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The SMMUs that the user owns.
    pub own: Vec<u64>,
    /// What to do with an SMMU that translates already.
    pub if_enabled: IfEnabled,
    /// End by an accident.
    pub rehearsal: Option<Rehearsal>,
    /// A file instead of the kernel's table.
    pub table: Option<(TableKind, String)>,
    /// Print the help.
    pub help: bool,
}

/// Wrong usage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// Not an argument.
    #[error("unknown argument {0:?}; --help lists all")]
    Unknown(String),
    /// A value is missing or wrong.
    #[error("{argument} needs {value}")]
    Value {
        /// The argument.
        argument: &'static str,
        /// What it needs.
        value: &'static str,
    },
    /// An SMMU is named twice.
    #[error("--own {0:#x} is given twice")]
    Twice(u64),
    /// Two tables.
    #[error("--dtb and --iort exclude each other, and each is given once")]
    TwoTables,
}

/// Reads the arguments, without the name of the program.
///
/// # Errors
///
/// They are wrong.
pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Arguments, UsageError> {
    let mut parsed = Arguments {
        own: Vec::new(),
        if_enabled: IfEnabled::Refuse,
        rehearsal: None,
        table: None,
        help: false,
    };
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        match argument {
            "--own" => {
                let wrong = UsageError::Value {
                    argument: "--own",
                    value: "an address in hex, such as 0x9050000, a multiple of 0x10000",
                };
                let base = rest.next().and_then(address).ok_or(wrong)?;
                if parsed.own.contains(&base) {
                    return Err(UsageError::Twice(base));
                }
                parsed.own.push(base);
            }
            "--turn-off" => parsed.if_enabled = IfEnabled::TurnOffAtTheEnd,
            "--rehearse" => {
                parsed.rehearsal = Some(match rest.next() {
                    Some("panic") => Rehearsal::Panic,
                    Some("fault") => Rehearsal::Fault,
                    Some("wait") => Rehearsal::Wait,
                    _ => {
                        let (argument, value) = ("--rehearse", "panic, fault or wait");
                        return Err(UsageError::Value { argument, value });
                    }
                });
            }
            "--dtb" | "--iort" => {
                let (kind, argument) = match argument {
                    "--dtb" => (TableKind::Tree, "--dtb"),
                    _ => (TableKind::Iort, "--iort"),
                };
                let value = "the path of a file";
                let file = rest.next().ok_or(UsageError::Value { argument, value })?;
                if parsed.table.replace((kind, file.to_string())).is_some() {
                    return Err(UsageError::TwoTables);
                }
            }
            "--help" | "-h" => parsed.help = true,
            other => return Err(UsageError::Unknown(other.chars().take(80).collect())),
        }
    }
    Ok(parsed)
}

/// A hexadecimal address of whole 64 KiB.
fn address(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'))?;
    let base = u64::from_str_radix(digits, 16).ok()?;
    (base > 0 && base.is_multiple_of(0x1_0000)).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, UsageError> {
        parse(line.split_ascii_whitespace())
    }

    #[test]
    fn all_arguments() {
        let line = "--own 0x9050000 --own 0xc020000 --turn-off --rehearse fault --dtb x.dtb";
        let expected = Arguments {
            own: [0x905_0000, 0xc02_0000].into(),
            if_enabled: IfEnabled::TurnOffAtTheEnd,
            rehearsal: Some(Rehearsal::Fault),
            table: Some((TableKind::Tree, "x.dtb".into())),
            help: false,
        };
        assert_eq!(parsed(line), Ok(expected));
        assert!(parsed("").unwrap().own.is_empty());
        assert!(parsed("-h").unwrap().help);
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for own in ["", "9050000", "0x", "0x0", "0x9050001", "0x+9050000", "0x10000000000000000"] {
            let argument = "--own";
            let wrong = parsed(&alloc::format!("--own {own}"));
            assert!(matches!(wrong, Err(UsageError::Value { argument: a, .. }) if a == argument));
        }
        assert_eq!(parsed("--own 0x10000 --own 0x10000"), Err(UsageError::Twice(0x1_0000)));
        assert_eq!(parsed("--dtb a --iort b"), Err(UsageError::TwoTables));
        assert_eq!(parsed("--yes"), Err(UsageError::Unknown("--yes".into())));
        assert!(parsed("--rehearse sleep").is_err());
        assert!(parsed("--iort").is_err());
    }
}
