//! The command line.

use std::fmt;

use crate::machine::{Costs, NS, Time};
use crate::strategies::Strategy;

/// Most cores, and most of any other number.
const MOST_CORES: u64 = 1000;
const MOST_NS: u64 = 1_000_000;
/// A batch and its `CMD_SYNC` are at most half of the ring.
const MOST_BATCH: u64 = 511;

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Tables,
    Calibrate,
    Help,
}

/// The options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) cores: Vec<usize>,
    pub(crate) queues: Vec<usize>,
    pub(crate) strategies: Vec<Strategy>,
    pub(crate) costs: Costs,
    pub(crate) think: Time,
    pub(crate) batch: u64,
    pub(crate) sync: bool,
    pub(crate) seed: u64,
    pub(crate) by_line: bool,
}

/// What is wrong with the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OptionError {
    Unknown { option: String },
    NoValue { option: &'static str },
    NoNumber { option: &'static str, value: String },
    OutOfRange { option: &'static str, value: u64, least: u64, most: u64 },
    NoStrategy { value: String },
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionError::Unknown { option } => {
                write!(f, "unknown option {option:?}; --help lists the options")
            }
            OptionError::NoValue { option } => {
                write!(f, "{option} has no value; write {option} VALUE")
            }
            OptionError::NoNumber { option, value } => {
                write!(f, "{option}: {value:?} is not a number; write decimal digits")?;
                f.write_str(if is_list(option) { ", with commas between numbers" } else { "" })
            }
            OptionError::OutOfRange { option, value, least, most } => {
                write!(f, "{option}: {value} is out of range; give {least} to {most}")
            }
            OptionError::NoStrategy { value } => {
                write!(f, "--strategy: no strategy is named {value:?}; give one or more of ")?;
                for (at, strategy) in Strategy::ALL.iter().enumerate() {
                    write!(f, "{}{}", if at == 0 { "" } else { "," }, strategy.name())?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for OptionError {}

fn is_list(option: &str) -> bool {
    matches!(option, "--cores" | "--queues")
}

impl Default for Options {
    fn default() -> Self {
        Options {
            mode: Mode::Tables,
            cores: vec![1, 2, 8, 16, 32, 64, 128],
            queues: vec![1, 2, 8, 32, 128],
            strategies: Strategy::ALL.to_vec(),
            costs: Costs {
                local: NS,
                update: 3 * NS,
                line: 60 * NS,
                socket: 0,
                socket_line: 60 * NS,
                register: 40 * NS,
                pause: 10 * NS,
                call: 5 * NS,
                command: NS,
                stay: 20 * NS,
                stay_permille: 90,
            },
            think: 2000 * NS,
            batch: 1,
            sync: false,
            seed: 1,
            by_line: false,
        }
    }
}

impl Options {
    /// Read the arguments behind the program's name.
    ///
    /// # Errors
    ///
    /// [`OptionError`] for the first argument that is wrong.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<Options, OptionError> {
        let mut options = Options::default();
        let mut arguments = arguments.into_iter();
        let arguments = &mut arguments;
        while let Some(argument) = arguments.next() {
            let costs = &mut options.costs;
            match argument.as_str() {
                "--help" | "-h" => options.mode = Mode::Help,
                "--calibrate" => options.mode = Mode::Calibrate,
                "--sync" => options.sync = true,
                "--by-line" => options.by_line = true,
                "--cores" => options.cores = list("--cores", arguments)?,
                "--queues" => options.queues = list("--queues", arguments)?,
                "--strategy" => options.strategies = strategies(arguments)?,
                "--batch" => options.batch = number("--batch", arguments, 1, MOST_BATCH)?,
                "--seed" => options.seed = number("--seed", arguments, 0, u64::MAX)?,
                "--think-ns" => options.think = time("--think-ns", arguments)?,
                "--line-ns" => costs.line = time("--line-ns", arguments)?,
                "--local-ns" => costs.local = time("--local-ns", arguments)?,
                "--update-ns" => costs.update = time("--update-ns", arguments)?,
                "--register-ns" => costs.register = time("--register-ns", arguments)?,
                "--pause-ns" => costs.pause = time("--pause-ns", arguments)?,
                "--call-ns" => costs.call = time("--call-ns", arguments)?,
                "--command-ns" => costs.command = time("--command-ns", arguments)?,
                "--socket-cores" => {
                    costs.socket = number("--socket-cores", arguments, 0, MOST_CORES)? as usize;
                }
                "--socket-line-ns" => costs.socket_line = time("--socket-line-ns", arguments)?,
                "--stay-permille" => {
                    costs.stay_permille = number("--stay-permille", arguments, 0, 1000)?;
                }
                _ => return Err(OptionError::Unknown { option: argument }),
            }
        }
        Ok(options)
    }
}

type Arguments<'a> = &'a mut dyn Iterator<Item = String>;

fn parsed(option: &'static str, value: &str, least: u64, most: u64) -> Result<u64, OptionError> {
    let Ok(number) = value.parse() else {
        return Err(OptionError::NoNumber { option, value: value.to_owned() });
    };
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(OptionError::OutOfRange { option, value: number, least, most })
    }
}

fn number(
    option: &'static str,
    arguments: Arguments<'_>,
    least: u64,
    most: u64,
) -> Result<u64, OptionError> {
    let value = arguments.next().ok_or(OptionError::NoValue { option })?;
    parsed(option, &value, least, most)
}

/// A time of at least 1 ns, so that no program runs for ever in no time.
fn time(option: &'static str, arguments: Arguments<'_>) -> Result<Time, OptionError> {
    let least = if option == "--think-ns" { 0 } else { 1 };
    Ok(number(option, arguments, least, MOST_NS)? * NS)
}

fn list(option: &'static str, arguments: Arguments<'_>) -> Result<Vec<usize>, OptionError> {
    let value = arguments.next().ok_or(OptionError::NoValue { option })?;
    value.split(',').map(|one| Ok(parsed(option, one, 1, MOST_CORES)? as usize)).collect()
}

fn strategies(arguments: Arguments<'_>) -> Result<Vec<Strategy>, OptionError> {
    let value = arguments.next().ok_or(OptionError::NoValue { option: "--strategy" })?;
    let named = |name: &str| {
        let found = Strategy::ALL.into_iter().find(|one| one.name() == name);
        found.ok_or_else(|| OptionError::NoStrategy { value: name.to_owned() })
    };
    value.split(',').map(named).collect()
}
