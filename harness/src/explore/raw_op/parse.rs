//! Lines of files of raw work.

use std::str::{FromStr, SplitWhitespace};

use smmu_types::{PrgIndex, SubstreamId};

use super::{Kind, RawOp};
use crate::explore::memory::{BASE, BYTES, COMMANDS_LOG2, DEVICES, EVENTS_LOG2, SMMUS, SPLITS};

/// Raw work, as a file has it: the machine that it needs, and the operations, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The machine.
    pub kind: Kind,
    /// The operations.
    pub ops: Vec<RawOp>,
}

impl Work {
    /// The work that a file has. What follows a `#` is for the reader.
    ///
    /// # Errors
    ///
    /// A line is no operation, or its operation needs another machine.
    pub fn parse(text: &str) -> Result<Work, RawOpError> {
        let mut work = Work { kind: Kind::Plain, ops: Vec::new() };
        for (n, line) in (1..).zip(text.lines()) {
            let line = line.split_once('#').map_or(line, |(before, _)| before).trim();
            let error = |why: String| RawOpError { line: n, why };
            if line.is_empty() {
                continue;
            }
            if line == FULL {
                if !work.ops.is_empty() {
                    return Err(error(format!("`{FULL}` must come before all operations")));
                }
                work.kind = Kind::Full;
                continue;
            }
            let op: RawOp = line.parse().map_err(error)?;
            if work.kind == Kind::Plain && op.needs_full() {
                return Err(error(format!("this needs `{FULL}` as the first line")));
            }
            work.ops.push(op);
        }
        Ok(work)
    }

    /// The lines of a file.
    #[must_use]
    pub fn lines(&self) -> String {
        let machine = if self.kind == Kind::Full { format!("{FULL}\n") } else { String::new() };
        self.ops.iter().fold(machine, |text, op| text + &format!("{op}\n"))
    }
}

/// The line that asks for the machine with everything.
const FULL: &str = "machine full";

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

fn device(text: Option<&str>) -> Result<usize, String> {
    below(text, DEVICES.len(), "device")
}

fn smmu(text: Option<&str>) -> Result<usize, String> {
    below(text, SMMUS, "SMMU")
}

fn switch(text: Option<&str>) -> Result<bool, String> {
    match text {
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        _ => Err("`on` or `off` is missing".into()),
    }
}

fn log2(text: Option<&str>, most: u32) -> Result<u32, String> {
    let n = number(text)?;
    let fits = u32::try_from(n).ok().filter(|n| *n <= most);
    fits.ok_or_else(|| format!("log2 of the size is {most} at most"))
}

fn words(parts: &mut SplitWhitespace<'_>) -> Result<Vec<u64>, String> {
    parts.map(|word| number(Some(word))).collect()
}

/// Takes `word` if it comes next.
fn takes(parts: &mut SplitWhitespace<'_>, word: &str) -> bool {
    let there = parts.clone().next() == Some(word);
    if there {
        parts.next();
    }
    there
}

fn substream(parts: &mut SplitWhitespace<'_>) -> Result<Option<SubstreamId>, String> {
    if !takes(parts, "substream") {
        return Ok(None);
    }
    let n = number(parts.next())?;
    let fits = u32::try_from(n).ok().and_then(SubstreamId::new);
    fits.map(Some).ok_or_else(|| format!("{n} is no SubstreamID"))
}

impl FromStr for RawOp {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let parts = &mut line.split_whitespace();
        let op = match parts.next().unwrap_or_default() {
            "store" => {
                let at = number(parts.next())?;
                let words = words(parts)?;
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
                let smmu = smmu(parts.next())?;
                let words = words(parts)?;
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
                let device = device(parts.next())?;
                let iova = number(parts.next())?;
                if !iova.is_multiple_of(4) {
                    return Err("a dma needs a multiple of 4".into());
                }
                let substream = substream(parts)?;
                RawOp::Dma { device, iova, substream, translated: takes(parts, "translated") }
            }
            "translate" => {
                RawOp::Translate { smmu: smmu(parts.next())?, on: switch(parts.next())? }
            }
            "abort-all" => RawOp::AbortAll { smmu: smmu(parts.next())?, on: switch(parts.next())? },
            "stream-table" => {
                let smmu = smmu(parts.next())?;
                let split = match parts.next() {
                    Some("linear") => None,
                    text => {
                        let split = number(text)?;
                        let known = SPLITS.into_iter().find(|known| u64::from(*known) == split);
                        Some(known.ok_or("a split is 6, 8 or 10")?)
                    }
                };
                RawOp::StreamTable { smmu, split }
            }
            "command-queue" => RawOp::CommandQueue {
                smmu: smmu(parts.next())?,
                log2: log2(parts.next(), COMMANDS_LOG2)?,
            },
            "event-queue" => {
                let smmu = smmu(parts.next())?;
                let off = takes(parts, "off");
                let log2 = if off { None } else { Some(log2(parts.next(), EVENTS_LOG2)?) };
                RawOp::EventQueue { smmu, log2 }
            }
            "hold" => RawOp::Hold { smmu: smmu(parts.next())?, on: switch(parts.next())? },
            "ats" => RawOp::SwitchAts { device: device(parts.next())?, on: switch(parts.next())? },
            "ats-request" => {
                let device = device(parts.next())?;
                let iova = number(parts.next())?;
                RawOp::AtsRequest { device, iova, substream: substream(parts)? }
            }
            "page-request" => {
                let device = device(parts.next())?;
                let iova = number(parts.next())?;
                if !iova.is_multiple_of(0x1000) {
                    return Err("a page request needs a multiple of 0x1000".into());
                }
                let n = number(parts.next())?;
                let group = u16::try_from(n).ok().and_then(PrgIndex::new);
                let group = group.ok_or_else(|| format!("{n} is no group"))?;
                let substream = substream(parts)?;
                let last = takes(parts, "last");
                RawOp::PageRequest { device, iova, group, substream, last }
            }
            other => return Err(format!("{other:?} is no operation")),
        };
        match parts.next() {
            None => Ok(op),
            Some(more) => Err(format!("{more:?} is too much")),
        }
    }
}
