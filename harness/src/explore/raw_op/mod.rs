//! One operation of raw work, and its line in a file.

mod parse;

use std::fmt;

use smmu_types::{Command, PrgIndex, RawCommand, StreamId, SubstreamId};

use super::memory::{DEVICES, Place};
pub use parse::{RawOpError, Work};

/// The machines that raw work runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What QEMU's SMMU has.
    Plain,
    /// ATS, page requests, stalls, substreams and two-level tables of CDs as well: the model alone.
    Full,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Plain, Kind::Full];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Full => "full",
        }
    }
}

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
        /// The SubstreamID.
        substream: Option<SubstreamId>,
        /// The device translates the address itself, by ATS.
        translated: bool,
    },
    /// A device asks for a translation.
    AtsRequest {
        /// Index of the device.
        device: usize,
        /// The address.
        iova: u64,
        /// The SubstreamID.
        substream: Option<SubstreamId>,
    },
    /// Turn the ATS of a device on or off.
    SwitchAts {
        /// Index of the device.
        device: usize,
        /// Whether it uses ATS.
        on: bool,
    },
    /// A device asks for a page.
    PageRequest {
        /// Index of the device.
        device: usize,
        /// The address of the page.
        iova: u64,
        /// The group.
        group: PrgIndex,
        /// The SubstreamID.
        substream: Option<SubstreamId>,
        /// It is the last of its group, and waits for an answer.
        last: bool,
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
    /// Turn translation off, give the SMMU its linear stream table or one of two levels, and turn
    /// translation on with an empty configuration cache.
    StreamTable {
        /// Index of the SMMU.
        smmu: usize,
        /// `STRTAB_BASE_CFG.SPLIT`, for two levels.
        split: Option<u32>,
    },
    /// Turn the command queue off, and on at another place with another size, while the SMMU
    /// translates.
    CommandQueue {
        /// Index of the SMMU.
        smmu: usize,
        /// log2 of its commands.
        log2: u32,
    },
    /// Turn the event queue off, and on with another size, while the SMMU translates.
    EventQueue {
        /// Index of the SMMU.
        smmu: usize,
        /// log2 of its records; `None` leaves it off.
        log2: Option<u32>,
    },
    /// The driver takes nothing out of the event queue and the PRI queue while this is on.
    Hold {
        /// Index of the SMMU.
        smmu: usize,
        /// Whether it takes nothing.
        on: bool,
    },
}

/// `CMD_RESUME` and `CMD_STALL_TERM`.
const RESUME: u64 = 0x44;
const STALL_TERM: u64 = 0x45;

impl RawOp {
    /// Whether a plain machine cannot do it.
    pub(super) fn needs_full(&self) -> bool {
        match self {
            RawOp::Dma { substream, translated, .. } => substream.is_some() || *translated,
            RawOp::AtsRequest { .. }
            | RawOp::SwitchAts { .. }
            | RawOp::PageRequest { .. }
            | RawOp::Hold { .. } => true,
            _ => false,
        }
    }

    /// The device that does something new with a translation.
    pub(super) fn device(&self) -> Option<usize> {
        match self {
            RawOp::Dma { device, .. } | RawOp::AtsRequest { device, .. } => Some(*device),
            _ => None,
        }
    }

    /// The StreamID of [`device`](Self::device).
    pub(super) fn stream(&self) -> Option<StreamId> {
        Some(StreamId(DEVICES.get(self.device()?)?.1))
    }

    /// The SMMU whose caches a transaction of this fills.
    pub(super) fn smmu(&self) -> Option<usize> {
        Some(DEVICES.get(self.device()?)?.0)
    }

    /// The address of a DMA.
    pub(super) fn dma(&self) -> Option<u64> {
        match self {
            RawOp::Dma { iova, .. } => Some(*iova),
            _ => None,
        }
    }

    /// Whether a stalled transaction may go on.
    pub(super) fn may_retry(&self) -> bool {
        match self {
            RawOp::Send { commands, .. } => {
                commands.iter().any(|[word, _]| matches!(word & 0xff, RESUME | STALL_TERM))
            }
            RawOp::EventQueue { .. } | RawOp::Hold { .. } => true,
            _ => false,
        }
    }

    /// Whether no SMMU has the CD of a device behind this.
    pub(super) fn drops_cd_of(&self, device: usize) -> bool {
        let Some(&(of, stream)) = DEVICES.get(device) else { return false };
        match self {
            RawOp::StreamTable { smmu, .. } => *smmu == of,
            RawOp::Send { smmu, commands } if *smmu == of => commands.iter().any(|[w0, w1]| {
                let named = w0 >> 32;
                let block = match w0 & 0xff {
                    // CFGI_STE, CFGI_CD and CFGI_CD_ALL.
                    0x3 | 0x5 | 0x6 => 1,
                    // CFGI_STE_RANGE, and CFGI_ALL.
                    0x4 => 2u64 << (w1 & 0x1f),
                    _ => return false,
                };
                (named ^ u64::from(stream)) & !(block - 1) == 0
            }),
            _ => false,
        }
    }

    /// Whether command `index` invalidates a range in which every operand is 0 but the granule.
    pub(super) fn is_empty_range(&self, index: u32) -> bool {
        let RawOp::Send { commands, .. } = self else { return false };
        // TLBI_NH_VA, TLBI_NH_VAA and TLBI_S2_IPA.
        commands.get(index as usize).is_some_and(|&[w0, w1]| {
            matches!(w0 & 0xff, 0x12 | 0x13 | 0x2a)
                && w0 & 0x1ff_f000 == 0
                && w1 & 0x300 == 0
                && w1 & 0xc00 != 0
        })
    }

    /// The smaller operations that might do as well.
    pub(super) fn smaller(&self) -> Vec<RawOp> {
        match self.clone() {
            RawOp::Send { smmu, commands } => (0..commands.len())
                .map(|n| {
                    let mut commands = commands.clone();
                    commands.remove(n);
                    RawOp::Send { smmu, commands }
                })
                .collect(),
            RawOp::Dma { device, iova, translated, substream } => {
                let plain = RawOp::Dma { device, iova, substream: None, translated };
                let mut smaller = if substream.is_some() { vec![plain] } else { Vec::new() };
                if translated {
                    smaller.push(RawOp::Dma { device, iova, substream, translated: false });
                }
                smaller
            }
            RawOp::AtsRequest { device, iova, substream: Some(_) } => {
                vec![RawOp::AtsRequest { device, iova, substream: None }]
            }
            RawOp::PageRequest { device, iova, group, substream: Some(_), last } => {
                vec![RawOp::PageRequest { device, iova, group, substream: None, last }]
            }
            _ => Vec::new(),
        }
    }
}

/// The SubstreamID of a line, where there is one.
struct Substream(Option<SubstreamId>);

impl fmt::Display for Substream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |substream| write!(f, " substream {:#x}", substream.get()))
    }
}

/// Whose device it is, for the reader.
struct Whose(usize);

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (smmu, stream) = DEVICES.get(self.0).copied().unwrap_or_default();
        write!(f, "  # smmu{smmu}: stream {stream:#x}")
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
            RawOp::Dma { device, iova, substream, translated } => {
                write!(f, "dma {device} {iova:#x}{}", Substream(*substream))?;
                f.write_str(if *translated { " translated" } else { "" })?;
                write!(f, "{}", Whose(*device))
            }
            RawOp::AtsRequest { device, iova, substream } => {
                let (of, whose) = (Substream(*substream), Whose(*device));
                write!(f, "ats-request {device} {iova:#x}{of}{whose}")
            }
            RawOp::SwitchAts { device, on } => {
                write!(f, "ats {device} {}{}", switch(*on), Whose(*device))
            }
            RawOp::PageRequest { device, iova, group, substream, last } => {
                write!(f, "page-request {device} {iova:#x} {}", group.get())?;
                write!(f, "{}", Substream(*substream))?;
                f.write_str(if *last { " last" } else { "" })?;
                write!(f, "{}", Whose(*device))
            }
            RawOp::Translate { smmu, on } => write!(f, "translate {smmu} {}", switch(*on)),
            RawOp::AbortAll { smmu, on } => write!(f, "abort-all {smmu} {}", switch(*on)),
            RawOp::StreamTable { smmu, split: None } => write!(f, "stream-table {smmu} linear"),
            RawOp::StreamTable { smmu, split: Some(split) } => {
                write!(f, "stream-table {smmu} {split}")
            }
            RawOp::CommandQueue { smmu, log2 } => write!(f, "command-queue {smmu} {log2}"),
            RawOp::EventQueue { smmu, log2: None } => write!(f, "event-queue {smmu} off"),
            RawOp::EventQueue { smmu, log2: Some(log2) } => write!(f, "event-queue {smmu} {log2}"),
            RawOp::Hold { smmu, on } => write!(f, "hold {smmu} {}", switch(*on)),
        }
    }
}
