//! What the architecture defines: numbers, structures, registers, and the rules for them.

mod attributes;
mod caps;
mod cd;
mod command;
mod descriptor;
mod event;
mod field_error;
pub mod fields;
mod irq;
pub mod layout;
#[cfg(feature = "legal")]
pub mod legal;
mod num;
mod pri;
mod quirks;
pub mod regs;
mod ste;

pub use attributes::{Cacheability, Shareability};
pub use caps::{
    Capabilities, Endianness, EnhancedQueues, Granules, IdRegisters, Implementation, StallModel,
    TableFormats, TableUpdate, TerminateModel,
};
pub use cd::{Cd, Stage1Config};
pub use command::{
    AtcScope, AtcSpan, Command, CommandErrorCode, Completion, Leaf, MsiAttributes, PrefetchSpan,
    PriResponse, RawCommand, ResumeAction, SteRange, SyncMsi,
};
pub use descriptor::{ContextTableDescriptor, StreamTableDescriptor, Vms};
pub use event::{AtsRequest, EventClass, EventKind, EventRecord, PageHint, RequestedAccess};
pub use field_error::FieldError;
pub use irq::Irq;
pub use num::{
    Asid, DomainId, Granule, Iova, Ipa, OutputSize, PhysAddr, SmmuId, StreamId, SubstreamId, Vmid,
};
pub use pri::{PrgIndex, PriRecord};
pub use quirks::{Quirk, Quirks};
pub use ste::{
    AtsMode, ShareabilityOverride, Stage2Config, Ste, SteConfig, StreamWorld, SubstreamDefault,
    TableConfig,
};
