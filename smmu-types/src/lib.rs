//! Types that every part of an Arm SMMUv3 driver shares, and the seams between the parts.
//!
//! What is here:
//!
//! - newtypes for each number that the hardware knows ([`StreamId`], [`Asid`], [`Iova`], ...);
//! - the register map ([`regs`]) with access rights as types, and [`Capabilities`] decoded from the ID registers;
//! - typed encode *and* decode of [`Command`]s, [`Ste`]s, [`Cd`]s, [`EventRecord`]s and [`PriRecord`]s;
//! - every structure and register as a table of [`fields`], by name and meaning, and the rules ([`legal`]) by which
//!   an SMMU refuses a configuration;
//! - the plan of a ranged TLB invalidation ([`range`]), and queue pointers that cannot forget their wrap flag
//!   ([`queue`]);
//! - the [`seam`]s: registers, DMA memory, wait, command sink and observer.
//!
//! What is not here: any policy, and any access to hardware. A hypervisor that emulates an SMMU, a
//! decoder and a driver can all take this crate alone.
//!
//! Encode a TLB invalidation, and decode the event that tells of a fault:
//!
//! ```
//! use smmu_types::range::Span;
//! use smmu_types::{Asid, Command, EventKind, EventRecord, Iova, Leaf, Vmid, fields};
//!
//! let span = Span::single(Iova(0x1000), Leaf::Last)?;
//! let command = Command::TlbiNhVa { vmid: Vmid(0), asid: Asid(0x7cd), span };
//! let raw = command.encode();
//! assert_eq!(raw.0, [0x07cd_0000_0000_0012, 0x1001]);
//! assert_eq!(Command::decode(raw), command);
//!
//! let event = EventRecord([0x0000_0008_0000_0010, 0x0000_0200_0000_0000, 0x1_0000, 0]);
//! assert_eq!(event.kind(), EventKind::F_TRANSLATION);
//! assert_eq!(event.to_string(), "F_TRANSLATION sid=0x8 write iova=0x10000 class=IN stage=1");
//! // Every field by name, with its bits and its meaning:
//! let class = fields::event(event.kind()).field("CLASS").unwrap();
//! assert_eq!((class.hi(), class.lo()), (105, 104));
//! assert_eq!(class.of(&event.0).meaning().unwrap().to_string(), "input address");
//! # Ok::<(), smmu_types::LayoutError>(())
//! ```
//!
//! Decoding is total: every bit pattern decodes to something that prints, what is reserved or unknown is kept, and
//! encoding gives the same bits back. A value that does not fit is a [`LayoutError`] where it is made.
//!
//! # Hazard
//!
//! [`SyncProof::vouch`] is a promise, not a check: whoever implements
//! [`CommandSink`](seam::CommandSink) calls it, and a tag is freed on the strength of it.
//!
//! # Cost
//!
//! Every encoder and decoder is a handful of shifts on `Copy` values; nothing allocates.
//!
//! # Features
//!
//! - `std`: [`seam::StdWait`] and [`pool`], an allocator of DMA blocks over one window of memory.
//! - `fake` (implies `std`): the [`fake`] module with doubles for every seam.
//!
//! Layouts follow the Arm System Memory Management Unit Architecture Specification, SMMU
//! architecture version 3 (Arm IHI 0070); section numbers in these docs are its.
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "std")]
extern crate std;

mod bits;
mod caps;
mod cd;
mod command;
mod descriptor;
mod event;
#[cfg(feature = "fake")]
pub mod fake;
pub mod fields;
mod flush;
pub mod layout;
pub mod legal;
mod num;
#[cfg(feature = "std")]
pub mod pool;
mod pri;
pub mod queue;
mod quirks;
pub mod range;
pub mod regs;
pub mod seam;
mod ste;

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
pub use flush::{CacheTag, FlushProof, PendingFlush, Regime, SyncProof};
pub use num::{
    Asid, DomainId, Granule, Iova, Ipa, OutputSize, PhysAddr, SmmuId, StreamId, SubstreamId, Vmid,
};
pub use pri::{PrgIndex, PriRecord};
pub use quirks::{Quirk, Quirks};
pub use ste::{
    AtsMode, Cacheability, Shareability, ShareabilityOverride, Stage2Config, Ste, SteConfig,
    StreamWorld, SubstreamDefault, TableConfig,
};

/// A field of a descriptor that cannot hold the value it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// An address does not have the alignment that its field implies.
    #[error("{field} = {value:#x} is not aligned to {align:#x} bytes; the low bits would be lost")]
    Misaligned {
        /// Field name of the architecture.
        field: &'static str,
        /// The value given.
        value: u64,
        /// Alignment needed, in bytes.
        align: u64,
    },
    /// A value is larger than its field.
    #[error("{field} = {value:#x} does not fit; the largest value is {max:#x}")]
    TooLarge {
        /// Field name of the architecture.
        field: &'static str,
        /// The value given.
        value: u64,
        /// The largest value that fits.
        max: u64,
    },
    /// A value is too small for what else is asked.
    #[error("{field} = {value:#x} is too small here; the smallest value is {min:#x}")]
    TooSmall {
        /// Field name of the architecture.
        field: &'static str,
        /// The value given.
        value: u64,
        /// The smallest value that is possible.
        min: u64,
    },
    /// A value, or a combination of values, is reserved.
    #[error("{field} = {value:#x} is reserved here")]
    Reserved {
        /// Field name of the architecture.
        field: &'static str,
        /// The value given.
        value: u64,
    },
}
