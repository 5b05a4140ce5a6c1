//! What the model finds wrong with a driver.

use std::fmt;

use smmu_types::seam::TableEntry;
use smmu_types::{CacheTag, Command, EventKind, Iova, PhysAddr, PrgIndex, StreamId, SubstreamId};

use crate::violation::Violation;

/// The accesses that a translation allows to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// The device may read.
    pub read: bool,
    /// The device may write.
    pub write: bool,
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.read, self.write) {
            (true, true) => "read-write",
            (true, false) => "read-only",
            (false, true) => "write-only",
            (false, false) => "no access",
        })
    }
}

/// What the tables in memory say now about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// A translation.
    Page {
        /// The output address.
        address: PhysAddr,
        /// The allowed accesses.
        permissions: Permissions,
    },
    /// A walk ends in this fault, or the SMMU refuses the stream's configuration.
    Fault(EventKind),
    /// The STE aborts the access without an event (`Config` = 0).
    Abort,
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Now::Page { address, permissions } => write!(f, "lead to {address} ({permissions})"),
            Now::Fault(kind) => write!(f, "end in {kind}"),
            Now::Abort => f.write_str("end in an abort"),
        }
    }
}

/// What waits for an answer of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// A stalled transaction.
    Stall {
        /// Tag of its event.
        tag: u16,
    },
    /// A group of page requests.
    Group {
        /// The substream, if the requests have one.
        substream: Option<SubstreamId>,
        /// Number of the group.
        group: PrgIndex,
    },
}

/// A mistake of the driver, or a feature that the model lacks and cannot judge.
///
/// `Display` gives one sentence, with the missing command at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hazard {
    /// A stream reaches memory through a cached translation that the tables no longer hold.
    ///
    /// A nested stream has lines of both stages combined, and lines of stage 2 for the fetches of
    /// stage 1. `iova` of the latter is an IPA.
    StaleTranslation {
        /// Index of the SMMU.
        smmu: usize,
        /// The stream concerned.
        stream: StreamId,
        /// Input address of the access.
        iova: Iova,
        /// Tag of the line; `None` for a global one.
        tag: Option<CacheTag>,
        /// Address that the line leads to.
        reached: PhysAddr,
        /// What the tables in memory say now.
        now: Now,
        /// The command that would have dropped the line.
        missing: Command,
    },
    /// A stream's walk starts from a cached table descriptor that the tables no longer hold.
    StaleTable {
        /// Index of the SMMU.
        smmu: usize,
        /// The stream concerned.
        stream: StreamId,
        /// Input address of the access.
        iova: Iova,
        /// Tag of the cached descriptor.
        tag: Option<CacheTag>,
        /// The next-level table that the descriptor points to.
        table: PhysAddr,
        /// What the tables in memory say now.
        now: Now,
        /// The command that would have dropped the descriptor.
        missing: Command,
    },
    /// A stream hits an entry that was cached from another root table under the same tag.
    TagClash {
        /// Index of the SMMU.
        smmu: usize,
        /// The stream concerned.
        stream: StreamId,
        /// Input address of the access.
        iova: Iova,
        /// Tag that both root tables use.
        tag: Option<CacheTag>,
        /// Address that the line leads to.
        reached: PhysAddr,
        /// Root table that the entry was cached from.
        origin: PhysAddr,
        /// Root table of the stream.
        table: PhysAddr,
        /// The command that would have dropped the line.
        missing: Command,
    },
    /// A stream uses a cached STE or CD that differs from memory.
    StaleConfiguration {
        /// Index of the SMMU.
        smmu: usize,
        /// The stream concerned.
        stream: StreamId,
        /// STE or CD.
        entry: TableEntry,
        /// The command that would have dropped the entry.
        missing: Command,
    },
    /// A device reaches memory through an entry of its ATC that the tables no longer hold.
    StaleAtc {
        /// Index of the SMMU.
        smmu: usize,
        /// The stream of the device.
        stream: StreamId,
        /// The substream of the entry.
        substream: Option<SubstreamId>,
        /// Input address of the access.
        iova: Iova,
        /// Address that the entry leads to.
        reached: PhysAddr,
        /// What the STE, the CD and the tables in memory say now.
        now: Now,
        /// The command that would have dropped the entry.
        missing: Command,
    },
    /// The driver turned translation on while the caches may hold what was in them at reset (3.11).
    UnknownCaches {
        /// Index of the SMMU.
        smmu: usize,
        /// The command that the driver must send, with a `CMD_SYNC`, before.
        missing: Command,
    },
    /// A device's ATS was turned off while an `ATC_INV` to it had no completed `CMD_SYNC` yet
    /// (3.9.2). The device may never answer.
    AtcInvOutstanding {
        /// Index of the SMMU.
        smmu: usize,
        /// The stream of the device.
        stream: StreamId,
        /// `CMD_SYNC`, whose completion the driver must see first.
        missing: Command,
    },
    /// A driver changed several 64-bit words of an entry between two invalidations. The SMMU may
    /// use a mix of old and new words (3.21.3).
    MixedUpdate {
        /// Index of the SMMU.
        smmu: usize,
        /// The stream of the entry.
        stream: StreamId,
        /// STE or CD.
        entry: TableEntry,
        /// The command that the driver must send, with a `CMD_SYNC`, between the words.
        missing: Command,
    },
    /// An entry leaves to the SMMU what it does (CONSTRAINED UNPREDICTABLE).
    Unpredictable {
        /// Index of the SMMU.
        smmu: usize,
        /// The stream of the entry.
        stream: StreamId,
        /// What the entry does.
        rule: &'static str,
        /// The section of IHI 0070.
        section: &'static str,
    },
    /// An SMMU can read CDs in memory that the driver has freed
    /// ([`Model::memory_freed`](crate::Model::memory_freed)).
    FreedMemory {
        /// Index of the SMMU.
        smmu: usize,
        /// The stream of the CDs.
        stream: StreamId,
        /// Where the table, its leaf or the CD lies.
        at: PhysAddr,
    },
    /// The driver broke a programming rule of a register.
    Protocol {
        /// Index of the SMMU.
        smmu: usize,
        /// The broken rule.
        violation: Violation,
    },
    /// The driver was told of a fault that waits, and did not answer.
    Unanswered {
        /// Index of the SMMU.
        smmu: usize,
        /// The stream that waits.
        stream: StreamId,
        /// What waits.
        waits: Waits,
        /// A command that would have answered.
        missing: Command,
    },
    /// The driver answered a fault that does not wait: the tag, the stream or the substream is wrong,
    /// or it has answered before. A real SMMU may resume another transaction (4.7.1).
    WrongAnswer {
        /// Index of the SMMU.
        smmu: usize,
        /// The answer.
        command: Command,
        /// Whether the same fault was answered before.
        twice: bool,
    },
    /// An entry asks for a feature that the model lacks. Events that follow from it are not the
    /// driver's fault.
    Unsupported {
        /// Index of the SMMU.
        smmu: usize,
        /// The stream of the entry.
        stream: StreamId,
        /// The feature.
        feature: &'static str,
    },
}

impl Hazard {
    /// The command that the driver left out; `None` for a hazard that no command prevents.
    #[must_use]
    pub fn missing(&self) -> Option<&Command> {
        match self {
            Hazard::StaleTranslation { missing, .. }
            | Hazard::StaleTable { missing, .. }
            | Hazard::TagClash { missing, .. }
            | Hazard::StaleConfiguration { missing, .. }
            | Hazard::StaleAtc { missing, .. }
            | Hazard::AtcInvOutstanding { missing, .. }
            | Hazard::UnknownCaches { missing, .. }
            | Hazard::MixedUpdate { missing, .. }
            | Hazard::Unanswered { missing, .. } => Some(missing),
            Hazard::Protocol { .. }
            | Hazard::WrongAnswer { .. }
            | Hazard::Unsupported { .. }
            | Hazard::FreedMemory { .. }
            | Hazard::Unpredictable { .. } => None,
        }
    }
}

/// Whose hazard it is, for a reader that sorts them.
impl Hazard {
    /// Index of the SMMU.
    #[must_use]
    pub const fn smmu(&self) -> usize {
        match *self {
            Hazard::StaleTranslation { smmu, .. }
            | Hazard::StaleTable { smmu, .. }
            | Hazard::TagClash { smmu, .. }
            | Hazard::StaleConfiguration { smmu, .. }
            | Hazard::StaleAtc { smmu, .. }
            | Hazard::AtcInvOutstanding { smmu, .. }
            | Hazard::UnknownCaches { smmu, .. }
            | Hazard::MixedUpdate { smmu, .. }
            | Hazard::Unpredictable { smmu, .. }
            | Hazard::FreedMemory { smmu, .. }
            | Hazard::Protocol { smmu, .. }
            | Hazard::Unanswered { smmu, .. }
            | Hazard::WrongAnswer { smmu, .. }
            | Hazard::Unsupported { smmu, .. } => smmu,
        }
    }

    /// The stream concerned, if it is one stream.
    #[must_use]
    pub const fn stream(&self) -> Option<StreamId> {
        match *self {
            Hazard::StaleTranslation { stream, .. }
            | Hazard::StaleTable { stream, .. }
            | Hazard::TagClash { stream, .. }
            | Hazard::StaleConfiguration { stream, .. }
            | Hazard::StaleAtc { stream, .. }
            | Hazard::AtcInvOutstanding { stream, .. }
            | Hazard::MixedUpdate { stream, .. }
            | Hazard::Unpredictable { stream, .. }
            | Hazard::FreedMemory { stream, .. }
            | Hazard::Unanswered { stream, .. }
            | Hazard::Unsupported { stream, .. } => Some(stream),
            Hazard::Protocol { .. } | Hazard::UnknownCaches { .. } | Hazard::WrongAnswer { .. } => {
                None
            }
        }
    }

    /// The substream concerned, if the hazard names one.
    #[must_use]
    pub const fn substream(&self) -> Option<SubstreamId> {
        match *self {
            Hazard::StaleAtc { substream, .. }
            | Hazard::Unanswered { waits: Waits::Group { substream, .. }, .. } => substream,
            _ => None,
        }
    }

    /// The input address of an access that the hazard allows.
    #[must_use]
    pub const fn iova(&self) -> Option<Iova> {
        match *self {
            Hazard::StaleTranslation { iova, .. }
            | Hazard::StaleTable { iova, .. }
            | Hazard::TagClash { iova, .. }
            | Hazard::StaleAtc { iova, .. } => Some(iova),
            _ => None,
        }
    }
}

struct Name(TableEntry);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            TableEntry::Ste => "STE",
            _ => "CD",
        })
    }
}

/// The substream of a transaction, after the name of its stream.
struct OfSubstream(Option<SubstreamId>);

impl fmt::Display for OfSubstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |substream| write!(f, " substream {substream}"))
    }
}

struct Tag(Option<CacheTag>);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(tag) => write!(f, "{tag}"),
            None => f.write_str("every ASID"),
        }
    }
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Hazard::StaleTranslation { smmu, stream, iova, tag, reached, now, missing } => write!(
                f,
                "smmu{smmu}: at iova {iova} stream {stream} reaches {reached} through a cached \
                 line of {}, where the tables now {now}; missing: {missing}",
                Tag(tag)
            ),
            Hazard::StaleTable { smmu, stream, iova, tag, table, now, missing } => write!(
                f,
                "smmu{smmu}: at iova {iova} stream {stream} walks the table at {table} from a \
                 cached descriptor of {}, where the tables now {now}; missing: {missing}",
                Tag(tag)
            ),
            Hazard::TagClash { smmu, stream, iova, tag, reached, origin, table, missing } => {
                write!(
                    f,
                    "smmu{smmu}: at iova {iova} stream {stream} reaches {reached} through what the \
                 table at {origin} left under {}, the tag of its own table at {table}; missing: \
                 {missing}",
                    Tag(tag)
                )
            }
            Hazard::StaleConfiguration { smmu, stream, entry, missing } => {
                write!(
                    f,
                    "smmu{smmu}: stream {stream} runs on a cached {} that differs from memory; \
                     missing: {missing}",
                    Name(entry)
                )
            }
            Hazard::StaleAtc { smmu, stream, substream, iova, reached, now, missing } => write!(
                f,
                "smmu{smmu}: at iova {iova} stream {stream}{} reaches {reached} through the \
                 device's ATC, where the tables now {now}; missing: {missing}",
                OfSubstream(substream)
            ),
            Hazard::AtcInvOutstanding { smmu, stream, missing } => write!(
                f,
                "smmu{smmu}: ATS of stream {stream} was turned off while an ATC_INV to it is \
                 outstanding; missing: {missing} and its completion"
            ),
            Hazard::UnknownCaches { smmu, missing } => write!(
                f,
                "smmu{smmu}: translation is turned on while the caches may hold what was in \
                 them at reset; missing: {missing}"
            ),
            Hazard::MixedUpdate { smmu, stream, entry, missing } => write!(
                f,
                "smmu{smmu}: several words of a {} of stream {stream} changed between two \
                 invalidations, and the SMMU may use a mix of them; missing between the words: \
                 {missing}",
                Name(entry)
            ),
            Hazard::Unpredictable { smmu, stream, rule, section } => {
                write!(
                    f,
                    "smmu{smmu}: stream {stream} {rule}; the effect is unpredictable ({section})"
                )
            }
            Hazard::Unanswered { smmu, stream, waits, missing } => {
                match waits {
                    Waits::Stall { tag } => {
                        write!(
                            f,
                            "smmu{smmu}: a transaction of stream {stream} stalls with tag {tag:#x}"
                        )?;
                    }
                    Waits::Group { substream, group } => {
                        write!(f, "smmu{smmu}: stream {stream}")?;
                        if let Some(substream) = substream {
                            write!(f, ", substream {substream},")?;
                        }
                        write!(f, " waits for the answer to page request group {group}")?;
                    }
                }
                write!(f, "; missing: {missing}")
            }
            Hazard::WrongAnswer { smmu, command, twice } => {
                let why = if twice { "was answered before" } else { "does not wait" };
                write!(f, "smmu{smmu}: {command} is for a fault that {why}")
            }
            Hazard::FreedMemory { smmu, stream, at } => {
                write!(f, "smmu{smmu}: the CDs of stream {stream} at {at} lie in freed memory")
            }
            Hazard::Protocol { smmu, violation } => write!(f, "smmu{smmu}: {violation}"),
            Hazard::Unsupported { smmu, stream, feature } => {
                write!(f, "smmu{smmu}: stream {stream} asks for {feature}, which the model lacks")
            }
        }
    }
}
