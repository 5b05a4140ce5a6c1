//! Attaches devices to domains behind Arm SMMUv3s, as a transaction.
//!
//! An attach gives the domain a tag on the device's SMMU and adds the tag to the domain's
//! invalidation array. Then it writes the stream table entry (STE), and for stage 1 the context
//! descriptor (CD). All that can fail happens in [`prepare`](Device::prepare). Each further step is
//! a value that the next step consumes:
//!
//! ```text
//! prepare    find or allocate the tag, build the new array, allocate tables    may fail; drop = undo
//! publish    readers see the new domain's array: it now invalidates for this device
//! install    write CD and STE, invalidate the configuration cache, sync; between two stage-1 domains
//!            one store changes the STE, so DMA continues
//! commit     drop the old domain's reference; if that was the last, flush the tag and free it
//! ```
//!
//! So a device never uses a domain that does not invalidate for it.
//!
//! This crate has [`Smmu`] (stream table and tag spaces of one SMMU), [`Device`], [`Domain`], the
//! transaction, and [`entry`], a writer of STEs and CDs that also works alone.
//!
//! It has no page tables (describe yours through [`TranslationTable`]), no command queue (bring a
//! [`CommandSink`](smmu_types::seam::CommandSink)) and no registers. It does not support ATS,
//! substreams, nested translation or stalls.
//!
//! # Example
//!
//! A [`Platform`] names the implementations of the seams.
//!
//! ```
//! # use smmu_attach::smmu_types::{fake::*, seam::*, *};
//! # use smmu_attach::*;
//! # use std::sync::Arc;
//! struct Example;
//! impl Platform for Example {
//!     type Lock = parking_lot::RawMutex;
//!     type DomainLock = parking_lot::RawMutex;
//!     type Dma = Pool<HeapWindow>;
//!     type Sink = RecordingSink;
//!     type Cell = smmu_invs::LockCell<parking_lot::RawMutex, smmu_invs::InvArray>;
//!     type Observer = ();
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let caps = Capabilities::decode(ID_REGISTERS);
//! # struct Tables;
//! # impl TranslationTable for Tables {
//! #     fn describe(&self) -> TableDescription {
//! #         TableDescription {
//! #             stage: TranslationStage::Stage1 { mair: 0xff }, root: PhysAddr(0x8000_0000), t0sz: 25,
//! #             granule: Granule::K4, output_size: OutputSize::Bits40,
//! #             walk: WalkAttributes::COHERENT, forced_write_back: ForcedWriteBack::Off,
//! #         }
//! #     }
//! # }
//! let (dma, sink) = (heap_pool(1 << 20), RecordingSink::new());
//! let env = Env::<Example> { dma: &dma, sink: &sink, observer: &() };
//!
//! let smmu = Arc::new(Smmu::<Example>::new(SmmuId(0), ID_REGISTERS, caps, SmmuConfig::default(), &dma)?);
//! let mut device = Smmu::add_device(&smmu, &[StreamId(0x08)], &env)?;
//! let domain = Arc::new(Domain::<Example>::new(DomainId(1), &Tables)?);
//!
//! device.prepare(Target::Domain(&domain), &env)?.publish().install().commit();
//! assert_eq!(domain.tag_on(SmmuId(0)), Some(CacheTag::Asid(Regime::El1, Asid(1))));
//!
//! let done = device.prepare(Target::Blocked, &env)?.publish().install().commit();
//! assert_eq!(done.freed, Some(CacheTag::Asid(Regime::El1, Asid(1))));
//! # Ok(()) }
//! ```
//!
//! A transaction that leaves out a step does not compile:
//!
//! ```compile_fail
//! # use smmu_attach::*;
//! fn wrong<P: Platform>(prepared: Prepared<'_, P>) {
//!     prepared.commit(); // neither published nor installed
//! }
//! ```
//!
//! # Hazard
//!
//! - The owner of a domain calls [`Domain::invalidate`] after it changes the tables, and *before*
//!   it reuses the memory. It first makes its stores visible to the SMMU
//!   ([`DmaBlock::publish`](smmu_types::seam::DmaBlock::publish)).
//! - The owner keeps the domain and its page tables as the next section says. No type does it.
//!
//! # Limits
//!
//! A caller must know what this version does not do:
//!
//! - **Lifetime.** The page tables are the caller's. While a device is attached it keeps its
//!   [`Domain`] alive, but never the tables. Keep the domain and its tables until
//!   [`Domain::array`] is [empty](ArrayView::is_empty) and no attach to the domain is in progress. [`Committed::config`]
//!   = `Ok` alone is too early: the flush of the tag may have failed.
//! - **Unconfirmed change.** If the SMMU does not confirm a `CFGI` command, the entry is invalid in
//!   memory and the SMMU may still use the old one. The device stays a user of the old domain and
//!   keeps it alive. The next attach, or [`Device::settle`], first makes the SMMU forget the old
//!   entries; then the device leaves the old domain. While the SMMU does not confirm that, an attach
//!   is refused, and a block leaves the entries invalid.
//! - **Dropped domain.** A domain that is dropped with a tag in its array loses the tag's number
//!   for good.
//! - **Absent SMMU.** While the array has an entry of an SMMU that no longer answers, every
//!   [`Domain::invalidate`] fails, for the other SMMUs too. No call removes such an entry.
//! - **Memory.** [`Smmu::new`], [`Smmu::add_device`] and [`Domain::new`] make some small
//!   allocations that abort when memory is short, instead of returning an error.
//!   [`Smmu::add_device`] allocates and fills DMA memory while it holds [`Platform::Lock`].
//! - **Locks.** A thread that holds a [`Prepared`], [`Published`] or [`Installed`] must not prepare
//!   another attach, also of other domains: two such threads can wait for each other. Leaking one
//!   ([`core::mem::forget`]) keeps the domain's lock for ever.
//!
//! # Locks
//!
//! One lock per domain, held from `prepare` to the end of the transaction. An attach takes the
//! locks of old and new domain in the order of their [`DomainId`](smmu_types::DomainId)s. One lock
//! per stream table, held while a device is added or removed. Devices of different domains attach
//! in parallel.
//!
//! [`Domain::invalidate`] takes no lock of its own; [`Platform::Cell`] says how a reader gets the
//! array.
//!
//! # Cost
//!
//! An attach waits for one `CMD_SYNC` for each step of an entry, whatever the number of streams: two
//! from blocked to stage 1, one from one stage-1 domain to another. The last detach adds one flush
//! and one `CMD_SYNC`. [`Target::Blocked`] and [`Target::Bypass`] allocate nothing.
//!
//! This crate re-exports [`smmu_types`], [`smmu_tags`] and [`smmu_invs`], whose types are part of
//! its API.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

mod attach;
mod batch;
mod context;
mod device;
mod domain;
pub mod entry;
mod error;
mod held;
mod membership;
mod outcome;
mod platform;
mod smmu;
mod smmu_core;
mod stream_entry;
mod stream_table;
mod table;
mod target;

pub use attach::{Installed, Prepared, Published};
pub use device::{Attachment, Device};
pub use domain::{ArrayView, Domain};
pub use error::{AttachError, BrokenRule, Requirement};
pub use outcome::Outcome;
pub use platform::{Env, Platform};
pub use smmu::{Smmu, SmmuConfig};
pub use smmu_invs;
pub use smmu_tags;
pub use smmu_types;
pub use table::{
    ForcedWriteBack, TableDescription, TranslationStage, TranslationTable, WalkAttributes,
    WalkCoherency, single_context,
};
pub use target::Target;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
