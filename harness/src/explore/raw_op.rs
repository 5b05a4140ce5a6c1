//! One operation of raw work, and its line in a file.

use std::fmt;
use std::str::FromStr;

use smmu_types::{Command, RawCommand};

use super::memory::{BASE, BYTES, COMMANDS_LOG2, DEVICES, Place, SMMUS};

/// One operation past any driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawOp {
    /// Store 64-bit words in memory, in order.
    Store {
        /// Address of the first.
        at: u64,
        /// The words.
        words: Vec<u64>,
    },
    /// Queue commands and a `CMD_SYNC`, and wait. A command that the SMMU refuses becomes a
    /// `CMD_SYNC`, and the queue goes on.
    Send {
        /// Index of the SMMU.
        smmu: usize,
        /// The commands, as they lie in the queue.
        commands: Vec<[u64; 2]>,
    },
    /// A device writes 4 bytes.
    Dma {
        /// Index of the device.
        device: usize,
        /// The address.
        iova: u64,
    },
    /// Turn translation on or off.
    Translate {
        /// Index of the SMMU.
        smmu: usize,
        /// Whether it translates.
        on: bool,
    },
    /// Change `GBPA.ABORT`.
    AbortAll {
        /// Index of the SMMU.
        smmu: usize,
        /// Whether transactions are aborted while translation is off.
        on: bool,
    },
}

impl RawOp {
    /// The operations that a file has, one a line. What follows a `#` is for the reader.
    ///
    /// # Errors
    ///
    /// A line is no operation.
    pub fn parse_all(text: &str) -> Result<Vec<RawOp>, RawOpError> {
        let lines = text.lines().enumerate().map(|(n, line)| (n + 1, without_comment(line)));
        lines
            .filter(|(_, line)| !line.is_empty())
            .map(|(n, line)| line.parse().map_err(|why| RawOpError { line: n, why }))
            .collect()
    }

    /// Whether command `index` invalidates a range in which every operand is 0 but the granule.
    pub(super) fn is_empty_range(&self, index: u32) -> bool {
        let RawOp::Send { commands, .. } = self else { return false };
        // TLBI_NH_VA, TLBI_NH_VAA and TLBI_S2_IPA.
        commands.get(index as usize).is_some_and(|&[w0, w1]| {
            matches!(w0 & 0xff, 0x12 | 0x13 | 0x2a) && w0 & 0x1ff_f000 == 0 && w1 & 0xf00 == 0x400
        })
    }

    /// The smaller operations that might do as well.
    pub(super) fn smaller(&self) -> Vec<RawOp> {
        match self {
            RawOp::Send { smmu, commands } => (0..commands.len())
                .map(|n| {
                    let mut commands = commands.clone();
                    commands.remove(n);
                    RawOp::Send { smmu: *smmu, commands }
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

fn without_comment(line: &str) -> &str {
    line.split_once('#').map_or(line, |(before, _)| before).trim()
}

/// A line that is no operation of raw work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct RawOpError {
    /// Number of the line, from 1.
    line: usize,
    why: String,
}

fn number(text: Option<&str>) -> Result<u64, String> {
    let text = text.ok_or("a number is missing")?;
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is not a number"))
}

fn below(text: Option<&str>, bound: usize, what: &str) -> Result<usize, String> {
    let n = number(text)?;
    usize::try_from(n).ok().filter(|n| *n < bound).ok_or_else(|| format!("there is no {what} {n}"))
}

fn switch(text: Option<&str>) -> Result<bool, String> {
    match text {
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        _ => Err("`on` or `off` is missing".into()),
    }
}

impl FromStr for RawOp {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut parts = line.split_whitespace();
        let op = match parts.next().unwrap_or_default() {
            "store" => {
                let at = number(parts.next())?;
                let words: Vec<u64> =
                    parts.by_ref().map(|word| number(Some(word))).collect::<Result<_, _>>()?;
                let end = at.checked_add(8 * words.len() as u64);
                let inside = at >= BASE && end.is_some_and(|end| end <= BASE + BYTES);
                if !inside || !at.is_multiple_of(8) || words.is_empty() {
                    return Err(format!(
                        "a store needs words at a multiple of 8 from {BASE:#x} to {:#x}",
                        BASE + BYTES
                    ));
                }
                RawOp::Store { at, words }
            }
            "send" => {
                let smmu = below(parts.next(), SMMUS, "SMMU")?;
                let words: Vec<u64> =
                    parts.by_ref().map(|word| number(Some(word))).collect::<Result<_, _>>()?;
                let (commands, rest) = words.as_chunks::<2>();
                // One slot is for the CMD_SYNC.
                if !rest.is_empty() || commands.len() >= 1 << COMMANDS_LOG2 {
                    return Err(format!(
                        "a send needs two words for each command, for {} at most",
                        (1 << COMMANDS_LOG2) - 1
                    ));
                }
                RawOp::Send { smmu, commands: commands.to_vec() }
            }
            "dma" => {
                let device = below(parts.next(), DEVICES.len(), "device")?;
                let iova = number(parts.next())?;
                if !iova.is_multiple_of(4) {
                    return Err("a dma needs a multiple of 4".into());
                }
                RawOp::Dma { device, iova }
            }
            "translate" => RawOp::Translate {
                smmu: below(parts.next(), SMMUS, "SMMU")?,
                on: switch(parts.next())?,
            },
            "abort-all" => RawOp::AbortAll {
                smmu: below(parts.next(), SMMUS, "SMMU")?,
                on: switch(parts.next())?,
            },
            other => return Err(format!("{other:?} is no operation")),
        };
        match parts.next() {
            None => Ok(op),
            Some(more) => Err(format!("{more:?} is too much")),
        }
    }
}

impl fmt::Display for RawOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switch = |on: bool| if on { "on" } else { "off" };
        match self {
            RawOp::Store { at, words } => {
                write!(f, "store {at:#x}")?;
                words.iter().try_for_each(|word| write!(f, " {word:#x}"))?;
                write!(f, "  # {}", Place(*at))
            }
            RawOp::Send { smmu, commands } => {
                write!(f, "send {smmu}")?;
                commands.iter().try_for_each(|[w0, w1]| write!(f, " {w0:#x} {w1:#x}"))?;
                f.write_str("  #")?;
                for raw in commands {
                    write!(f, " {};", Command::decode(RawCommand(*raw)))?;
                }
                f.write_str(" SYNC")
            }
            RawOp::Dma { device, iova } => {
                let (smmu, stream) = DEVICES.get(*device).copied().unwrap_or_default();
                write!(f, "dma {device} {iova:#x}  # smmu{smmu}: stream {stream:#x}")
            }
            RawOp::Translate { smmu, on } => write!(f, "translate {smmu} {}", switch(*on)),
            RawOp::AbortAll { smmu, on } => write!(f, "abort-all {smmu} {}", switch(*on)),
        }
    }
}
