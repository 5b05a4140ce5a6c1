//! The types that every part of an Arm SMMUv3 driver shares, and the seams between the parts.
//!
//! What is here:
//!
//! - newtypes for each number that the hardware knows ([`StreamId`], [`Asid`], [`Iova`], ...);
//! - the register map ([`regs`]) with access rights as types, and [`Capabilities`] decoded from the
//!   ID registers;
//! - typed encode *and* decode of [`Command`]s, [`Ste`]s, [`Cd`]s, [`EventRecord`]s and
//!   [`PriRecord`]s;
//! - every structure and register as a table of [`fields`], with names and meanings;
//! - the rules (`legal`) by which an SMMU refuses a configuration;
//! - how the ID registers of several SMMUs join (`common_ids`);
//! - the plan of a ranged TLB invalidation ([`range`]);
//! - queue pointers as types that keep their wrap flag ([`queue`]);
//! - the [`seam`]s: registers, DMA memory, wait, command sink and observer;
//! - `Counted`, a counted reference whose allocation can fail.
//!
//! What is not here: any policy, and any access to hardware. A hypervisor that emulates an SMMU, a
//! decoder and a driver can all take this crate alone.
//!
//! Encode a TLB invalidation, and decode the event record of a fault:
//!
#![cfg_attr(feature = "fields", doc = "```")]
#![cfg_attr(not(feature = "fields"), doc = "```ignore")]
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
//! # Ok::<(), smmu_types::FieldError>(())
//! ```
//!
//! Decoding cannot fail. Every bit pattern decodes to a value that prints; reserved and unknown
//! bits are kept, and encoding gives the same bits back. A constructor returns [`FieldError`] for a
//! value that does not fit.
//!
//! # Hazard
//!
//! [`SyncProof::vouch`] is a promise, not a check. The implementor of
//! [`CommandSink`](seam::CommandSink) calls it, and a tag is freed because of it. A wrong promise
//! lets a device use a stale translation.
//!
//! # Cost
//!
//! Every encoder and decoder is a few shifts on `Copy` values. No function allocates, except in
//! `pool` and `fake`, and `Counted::new`.
//!
//! # Features
//!
//! - `fields`: every structure as a table of [`fields`] that lists, prints and explains itself, and
//!   `common_ids`. The keys of the fields, which encoders use, need no feature.
//! - `legal`: the rules by which an SMMU refuses a configuration. With `fields` a finding also has
//!   the table of its structure.
//! - `alloc`: `Counted`; `pool`, an allocator of DMA blocks over one window of memory; `Registers`
//!   for an `Arc`.
//! - `std` (implies `alloc`): `seam::StdWait`, and a default lock for `pool`.
//! - `fake` (implies `std`): the `fake` module with doubles for every seam.
//!
//! Layouts follow the Arm System Memory Management Unit Architecture Specification, SMMU
//! architecture version 3 (Arm IHI 0070). Section numbers in these docs are sections of it.
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "alloc")]
mod counted;
mod plan;
pub mod seam;
mod spec;
#[cfg(feature = "alloc")]
#[expect(dead_code, reason = "the macro offers more than the count needs")]
#[cfg_attr(loom, expect(unreachable_pub, reason = "the macro offers more than loom tests need"))]
mod sync;

#[cfg(feature = "alloc")]
pub use counted::{Counted, OutOfMemory};
pub use plan::{queue, range};
#[cfg(feature = "fake")]
pub use seam::fake;
#[cfg(feature = "alloc")]
pub use seam::pool;
pub use seam::{CacheTag, FlushProof, GoneProof, PendingFlush, Regime, SyncProof};
pub use spec::*;

/// The barriers of `Counted`, which loom tests of its users leave out.
#[cfg(all(loom, feature = "alloc"))]
#[doc(hidden)]
pub mod model {
    pub use crate::sync::{Barrier, without};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
