//! What the architecture defines: numbers, structures, registers, and the rules for them.

mod attributes;
pub(crate) mod caps;
mod cd;
pub(crate) mod command;
#[cfg(feature = "fields")]
pub mod common_ids;
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
pub(crate) mod queue_size;
mod quirks;
pub mod regs;
pub(crate) mod sealed;
mod ste;
mod words;

pub use attributes::{Cacheability, Shareability};
pub use caps::{
    Capabilities, Endianness, EnhancedQueues, Granules, IdRegisters, Implementation, StallModel,
    TableFormats, TableUpdate, TerminateModel,
};
pub use cd::Stage1Config;
pub use command::{
    AtcScope, AtcSpan, Command, CommandErrorCode, Completion, Leaf, MsiAttributes, PrefetchSpan,
    PriResponse, ResumeAction, SteRange, SyncMsi,
};
pub use event::{AtsRequest, EventClass, EventKind, PageHint, RequestedAccess};
pub use field_error::FieldError;
pub use irq::Irq;
pub use num::{
    Asid, DomainId, Granule, Iova, Ipa, OutputSize, PhysAddr, SmmuId, StreamId, SubstreamId, Vmid,
};
pub use pri::PrgIndex;
pub use quirks::{Quirk, Quirks};
pub use ste::{
    AtsMode, ShareabilityOverride, Stage2Config, SteConfig, StreamWorld, SubstreamDefault,
    TableConfig,
};
pub use words::{
    Cd, ContextTableDescriptor, EventRecord, PriRecord, RawCommand, Ste, StreamTableDescriptor, Vms,
};
