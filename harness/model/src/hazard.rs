//! What the model finds wrong with a driver.

use std::fmt;

use smmu_types::seam::TableEntry;
use smmu_types::{CacheTag, Command, EventKind, Iova, PhysAddr, StreamId};

use crate::violation::Violation;

/// What a translation lets a device do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Reads are allowed.
    pub read: bool,
    /// Writes are allowed.
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

/// What the tables in memory say about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// A translation.
    Page {
        /// Where the address leads.
        address: PhysAddr,
        /// What is allowed.
        permissions: Permissions,
    },
    /// A fault.
    Fault(EventKind),
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Now::Page { address, permissions } => write!(f, "lead to {address} ({permissions})"),
            Now::Fault(kind) => write!(f, "end in {kind}"),
        }
    }
}

/// Something that a driver must not let happen, or that the model cannot judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hazard {
    /// A stream reaches memory through a cached translation that the tables no longer hold.
    StaleTranslation {
        /// Which SMMU.
        smmu: usize,
        /// Who.
        stream: StreamId,
        /// Through which address.
        iova: Iova,
        /// The tag of the line; `None` for a global one.
        tag: Option<CacheTag>,
        /// Where the line leads.
        reached: PhysAddr,
        /// What the tables say.
        now: Now,
        /// The command that would have removed the line.
        missing: Command,
    },
    /// A stream's walk starts from a cached table descriptor that the tables no longer hold.
    StaleTable {
        /// Which SMMU.
        smmu: usize,
        /// Who.
        stream: StreamId,
        /// Through which address.
        iova: Iova,
        /// The tag of the cached descriptor.
        tag: Option<CacheTag>,
        /// The table that it leads to.
        table: PhysAddr,
        /// What the tables say.
        now: Now,
        /// The command that would have removed the descriptor.
        missing: Command,
    },
    /// A stream reaches what another table left behind under the same tag.
    TagClash {
        /// Which SMMU.
        smmu: usize,
        /// Who.
        stream: StreamId,
        /// Through which address.
        iova: Iova,
        /// The tag that both tables use.
        tag: Option<CacheTag>,
        /// Where the line leads.
        reached: PhysAddr,
        /// The table that the line came from.
        origin: PhysAddr,
        /// The table that the stream uses.
        table: PhysAddr,
        /// The command that would have removed the line.
        missing: Command,
    },
    /// A stream runs on a cached entry that differs from the one in memory.
    StaleConfiguration {
        /// Which SMMU.
        smmu: usize,
        /// Who.
        stream: StreamId,
        /// Which entry.
        entry: TableEntry,
        /// The command that would have removed it.
        missing: Command,
    },
    /// The programming rules of the registers were broken.
    Protocol {
        /// Which SMMU.
        smmu: usize,
        /// How.
        violation: Violation,
    },
    /// The driver used something that the model does not have; what follows is not its fault.
    Unsupported {
        /// Which SMMU.
        smmu: usize,
        /// Whose entry asks for it.
        stream: StreamId,
        /// What.
        feature: &'static str,
    },
}

impl Hazard {
    /// The command that would have prevented it, where a missing command is the cause.
    #[must_use]
    pub fn missing(&self) -> Option<&Command> {
        match self {
            Hazard::StaleTranslation { missing, .. }
            | Hazard::StaleTable { missing, .. }
            | Hazard::TagClash { missing, .. }
            | Hazard::StaleConfiguration { missing, .. } => Some(missing),
            Hazard::Protocol { .. } | Hazard::Unsupported { .. } => None,
        }
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
                let entry = match entry {
                    TableEntry::Ste => "STE",
                    _ => "CD",
                };
                write!(
                    f,
                    "smmu{smmu}: stream {stream} runs on a cached {entry} that differs from \
                     memory; missing: {missing}"
                )
            }
            Hazard::Protocol { smmu, violation } => write!(f, "smmu{smmu}: {violation}"),
            Hazard::Unsupported { smmu, stream, feature } => {
                write!(f, "smmu{smmu}: stream {stream} asks for {feature}, which the model lacks")
            }
        }
    }
}
