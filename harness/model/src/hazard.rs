//! What the model finds wrong with a driver.

use std::fmt;

use smmu_types::seam::TableEntry;
use smmu_types::{CacheTag, Command, EventKind, Iova, PhysAddr, StreamId};

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

/// How a driver broke the programming rules of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// No register is there.
    Undefined {
        /// Bytes from the base of page 0.
        offset: u32,
    },
    /// The access is not naturally aligned or not of the register's width.
    Width {
        /// Bytes from the base of page 0.
        offset: u32,
        /// Bytes of the access.
        bytes: u32,
    },
    /// A register that cannot be written was written.
    ReadOnly {
        /// The register.
        register: &'static str,
    },
    /// A register was written while an enable bit forbids it.
    Enabled {
        /// The register.
        register: &'static str,
        /// The enable bit.
        by: &'static str,
    },
    /// Reserved bits were set.
    ReservedBits {
        /// The register.
        register: &'static str,
        /// The bits.
        bits: u64,
    },
    /// A field has a value that this SMMU does not support.
    Unsupported {
        /// The register.
        register: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A base is not aligned to the size of what lies there.
    Alignment {
        /// The register.
        register: &'static str,
        /// The address.
        address: u64,
        /// The alignment that is needed.
        align: u64,
    },
    /// `GBPA` was written without `UPDATE`, or while an update was pending.
    Update,
    /// `GERRORN` toggled bits whose error is not active.
    NotActive {
        /// The bits.
        bits: u32,
    },
    /// A queue pointer was set to a place that it cannot be at.
    Pointer {
        /// The register.
        register: &'static str,
        /// What it was set to.
        value: u32,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Violation::Undefined { offset } => write!(f, "no register is at {offset:#x}"),
            Violation::Width { offset, bytes } => {
                write!(f, "an access of {bytes} bytes at {offset:#x} is misaligned or too wide")
            }
            Violation::ReadOnly { register } => {
                write!(f, "{register} was written; it is read-only")
            }
            Violation::Enabled { register, by } => {
                write!(f, "{register} was written while {by} is set; the write is ignored")
            }
            Violation::ReservedBits { register, bits } => {
                write!(f, "reserved bits {bits:#x} of {register} were set")
            }
            Violation::Unsupported { register, field, value } => {
                write!(f, "{register}.{field} = {value} is not supported here")
            }
            Violation::Alignment { register, address, align } => {
                write!(f, "{register} holds {address:#x}, which is not aligned to {align:#x} bytes")
            }
            Violation::Update => {
                f.write_str("GBPA was written without UPDATE, or before the last update was done")
            }
            Violation::NotActive { bits } => {
                write!(f, "GERRORN toggled bits {bits:#x}, whose errors are not active")
            }
            Violation::Pointer { register, value } => {
                write!(f, "{register} = {value:#x} is not a place that this pointer can be at")
            }
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
