//! Attaching devices to domains behind Arm SMMUv3s, as a transaction.
//!
//! An attach gives the domain a tag on the device's SMMU, puts the tag into the domain's invalidation
//! array, and writes the stream table entry (and the context descriptor) so that hardware sees
//! the old translation, the new one or nothing, never a mix. All that can fail happens in
//! [`prepare`](Device::prepare); each further step is a value that the next one consumes:
//!
//! ```text
//! prepare    find or allocate the tag, build the new array, allocate tables    may fail; drop = undo
//! publish    the new domain's array becomes visible: it invalidates for this device from here on
//! install    write CD and STE, invalidate the configuration cache, sync; from one stage-1 domain to
//!            another in a single store, so that the device's DMA goes on
//! commit     drop the old domain's reference; flush and free its tag if this was the last user
//! ```
//!
//! So there is no moment at which a device can use a domain that does not invalidate for it.
//!
//! What is here: [`Smmu`] (stream table and tag spaces of one instance), [`Device`], [`Domain`], the
//! transaction, and [`entry`], the writer of STEs and CDs, usable alone. What is not: page tables (say what
//! yours are through [`TranslationTable`]), the command queue (a
//! [`CommandSink`](smmu_types::seam::CommandSink) of your choice), and registers. ATS, substreams, nested
//! translation and stalls are not supported yet.
//!
//! # Example
//!
//! A [`Platform`] names the implementations of the seams; then:
//!
//! ```
//! # use smmu_attach::*;
//! # use smmu_types::{fake::*, seam::*, *};
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
//! let smmu = Arc::new(Smmu::<Example>::new(SmmuId(0), caps, SmmuConfig::default(), &dma)?);
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
//! A step cannot be left out:
//!
//! ```compile_fail
//! # use smmu_attach::*;
//! fn wrong<P: Platform>(prepared: Prepared<'_, P>) {
//!     prepared.commit(); // not published, not installed: does not compile
//! }
//! ```
//!
//! # Hazard
//!
//! After a change of its tables the owner of a domain calls [`Domain::invalidate`] *before* memory is
//! reused. The stores to the tables must be visible to the SMMU by then
//! ([`DmaBlock::publish`](smmu_types::seam::DmaBlock::publish)).
//!
//! # Locks
//!
//! One lock for each domain, held from `prepare` to the end of the transaction, old and new domain in
//! the order of their [`DomainId`](smmu_types::DomainId)s; and one for each SMMU's stream table, held while a device is added
//! or removed. Devices of different domains attach in parallel. [`Domain::invalidate`] takes no lock of its own;
//! how a reader gets at the array is for [`Platform::Cell`] to say.
//!
//! # When hardware does not answer
//!
//! An attach that hardware does not confirm leaves the entry invalid and the old tag in use: the old domain goes on
//! invalidating, its tables must stay, and the device is not [confirmed](Device::is_confirmed) until a later attach
//! succeeds. A tag whose own flush is not proven stays out of use until
//! [`Domain::retry_flushes`] proves it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod attach;
mod device;
mod domain;
pub mod entry;
mod error;
mod platform;
mod release;
mod smmu;
mod stream_table;
mod table;
mod target;

pub use attach::{Committed, Installed, Prepared, Published};
pub use device::{Attachment, Device};
pub use domain::{ArrayView, Domain};
pub use error::{AttachError, Requirement};
pub use platform::{Env, Platform};
pub use smmu::{DeviceKey, Smmu, SmmuConfig};
pub use table::{
    ForcedWriteBack, TableDescription, TranslationStage, TranslationTable, WalkAttributes,
    WalkCoherency, single_context,
};
pub use target::Target;
