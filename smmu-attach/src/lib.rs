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
//! So a device never uses a domain that does not invalidate for it. [`Device::attach`] does all
//! four.
//!
//! This crate has [`Smmu`] (stream table, devices and tag spaces of one SMMU), [`Device`],
//! [`Substream`], [`Domain`], the transaction, and [`entry`], a writer of STEs and CDs that also works
//! alone.
//!
//! With the feature `guest`, the module `guest` decides what of a guest's nested translation reaches
//! the host's SMMU. It needs no other part of the crate.
//!
//! It has no page tables (describe yours through [`TranslationTable`]; those of a CPU through
//! [`TableDescription::from_vtcr`] and [`from_tcr`](TableDescription::from_tcr)), no command queue (bring a
//! [`CommandSink`](smmu_types::seam::CommandSink)) and no registers. A device with stalls or page
//! requests has faults that wait: [`faults`].
//!
//! # Example
//!
//! A [`Platform`] names the implementations of the seams. An attach, an unmap and a detach:
//!
//! ```
//! # use smmu_attach::smmu_types::{fake::*, range::Extent, seam::*, *};
//! # use smmu_attach::*;
//! struct Example;
//! impl Platform for Example {
//!     type Lock = parking_lot::RawMutex;
//!     type SleepLock = parking_lot::RawMutex;
//!     type Dma = Pool<HeapWindow>;
//!     type Sink = RecordingSink;
//!     type Cell = smmu_invs::LockCell<parking_lot::RawMutex, smmu_invs::InvArray>;
//!     type Observer = ();
//!     type Tables = TableDescription;
//!     type Ats = ();
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let tables =
//! #     TableDescription::new(TranslationStage::Stage1 { mair: 0xff }, PhysAddr(0x8000_0000));
//! let env = Env::<Example>::new(heap_pool(1 << 20), RecordingSink::new(), ())?;
//! let caps = Capabilities::decode(ID_REGISTERS);
//! let smmu = Smmu::new(&env, SmmuId(0), ID_REGISTERS, caps, SmmuConfig::default())?;
//! let device = smmu.add_device(&[StreamId(0x08)])?;
//! let domain = Domain::new(&env, DomainId(1), tables)?;
//!
//! device.attach(&domain)?.confirmed()?;
//! assert_eq!(domain.tag_on(SmmuId(0)), Some(CacheTag::Asid(Regime::El1, Asid(1))));
//!
//! // The owner has cleared a descriptor of `domain.tables()`, and has published the store.
//! domain.invalidate(Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last))?;
//!
//! assert_eq!(device.block(), Outcome::Freed(CacheTag::Asid(Regime::El1, Asid(1))));
//! let _tables = domain.into_tables().map_err(|_| "an SMMU may still use the tables")?;
//! # Ok(()) }
//! ```
//!
//! A transaction that leaves out a step does not compile:
//!
//! ```compile_fail
//! # use smmu_attach::*;
//! fn wrong<P: Platform>(prepared: Prepared<P>) {
//!     prepared.commit(); // neither published nor installed
//! }
//! ```
//!
//! # Substreams
//!
//! [`Device::attach`], [`bypass`](Device::bypass) and [`block`](Device::block) are for transactions
//! without a SubstreamID. Each [`Device::substream`] has an attachment of its own beside it, to a
//! domain of stage 1. [`Device::block_all`] blocks everything.
//!
//! A change never writes a CD that the SMMU can reach. It goes into a copy, and one store replaces
//! the old by the new one. So a change interrupts no other substream, whatever fields it changes.
//!
//! - A table of up to 6 bits of SubstreamIDs is linear, and there are two of it. So is one of up to
//!   10 bits behind an SMMU without two-level tables (`IDR0.CD2L`). One store to the STE leads to the
//!   other copy; no `CFGI_CD` is needed.
//! - A larger table has two levels, with leaves of 64 CDs. A leaf gets its memory when the first of
//!   its substreams is attached. A change copies one leaf; one store to level 1 leads to the copy,
//!   and `CFGI_CD_ALL` follows.
//!
//! The table is in the STE while a substream is attached.
//!
//! # Groups
//!
//! A [`Group`] attaches several devices in one transaction, all or none. They may be behind
//! different SMMUs. The domain's array is merged once, and one `CMD_SYNC` for each SMMU confirms a
//! step of all entries. Each device then ends on its own: an SMMU that does not confirm leaves the
//! devices of other SMMUs attached.
//!
//! # ATS
//!
//! A device with ATS ([`DeviceConfig::with_ats`]) caches translations itself. While it is attached to
//! a domain, each unmap of that domain also sends `ATC_INV`, and waits for the device's answer. The
//! crate turns the device's own switch ([`AtsSwitch`]) on last, and off as late or as early as it is
//! right:
//!
//! - A device that is blocked keeps its switch on until no `ATC_INV` to it is outstanding. So it may
//!   be reset afterwards.
//! - A device that goes on by bypass is switched off first, so that no request of it is refused. An
//!   unmap beside that may report a timeout once; its caller calls again.
//!
//! A device that does not answer makes each [`Domain::invalidate`] of its domain fail.
//! [`Smmu::find_unanswering`] names it, and [`Device::quarantine`] blocks it without asking it.
//!
//! # Guests
//!
//! With the feature `guest`, a `VirtualSmmu` nests the stage 1 of a guest over the stage 2 of a parent
//! [`Domain`]. It owns a VMID from its creation to its end. The guest's entries and commands pass the
//! module `guest`, pure functions that an emulator can also use alone. `VirtualSmmu::reread` carries
//! out a guest's `CFGI_STE`: it attaches the device if the STE changed, and lets the SMMU forget the
//! guest's CDs in any case. `VirtualSmmu::run` sends the guest's other commands.
//! An unmap of the parent flushes the VMID of each virtual SMMU on it, clears what their guests'
//! stage 1 has cached, and empties the ATC of each device.
//!
//! # An SMMU that runs already
//!
//! [`adopt`] reads the tables of an SMMU that firmware, a crashed kernel or a predecessor left running.
//! [`Smmu::adopt`] keeps chosen streams on the tables of their old owner ([`Attachment::Foreign`]),
//! reserves their tags, and aborts all other streams. An attach or block of a device then ends such a
//! stream.
//!
//! # Hazard
//!
//! - The owner of a domain calls [`Domain::invalidate`] after it changes the tables, and *before*
//!   it reuses the memory. It first makes its stores visible to the SMMU
//!   ([`DmaBlock::publish`](smmu_types::seam::DmaBlock::publish)).
//! - [`Smmu::gone`] believes its caller: a wrong word frees tags that an SMMU still caches.
//!
//! # An SMMU that does not answer
//!
//! - It does not confirm new entries ([`Outcome::Unconfirmed`]): the entries are invalid in memory.
//!   The device stays a user of the old domain and keeps it alive, with its tables. The next
//!   attach, or [`Device::settle`], first makes the SMMU forget the old entries; then the device
//!   leaves the old domain. While the SMMU does not confirm that, an attach is refused, and a block
//!   leaves the entries invalid.
//! - It does not confirm a flush ([`Outcome::Unflushed`]): the tag is not given out, readers go on
//!   flushing it, and the device keeps the domain alive. [`Device::settle`] flushes again.
//! - It answers again, perhaps after a reset: [`Smmu::settle`] settles all its devices.
//! - It is off for good: [`Smmu::gone`] takes it out of every domain. Until then, each
//!   [`Domain::invalidate`] of a domain that it uses fails.
//!
//! # Limits
//!
//! - A [`Prepared`], [`Published`] or [`Installed`] that is leaked ([`core::mem::forget`]) keeps
//!   its locks for ever. [`Device::prepare`] then says so; every call that waits for the locks,
//!   such as [`Device::attach`] and [`Smmu::gone`], waits for ever.
//!
//! # Locks
//!
//! One lock per device and one per domain, held over a whole transaction: those of the devices
//! first, in one order for all threads, then those of the domains, in the order in which they were
//! made. Debug builds check the order.
//! [`Device::attach`] waits for the locks. [`Device::prepare`] does not: it reports that another
//! transaction has one. So threads that each hold transactions, and call
//! [`prepare`](Device::prepare) for more, never wait for each other. Devices of different domains
//! attach in parallel.
//!
//! A thread that holds a transaction makes no other call that takes these locks: it may wait for
//! itself, or for a thread that waits for it. These calls are [`Device::attach`], `bypass`,
//! `block`, `block_all`, `settle` and each question to a device (`attachment`, `is_confirmed`, `is_settled`,
//! `read_cd`), [`Domain::retry_flushes`], [`Smmu::settle`], [`Smmu::gone`] and
//! [`Smmu::remove_device`].
//!
//! One lock per stream table ([`Platform::Lock`]), the last in the order, is held for look-ups and
//! stores, never across an allocation or a wait.
//!
//! [`Domain::invalidate`] takes no lock of its own; [`Platform::Cell`] says how a reader gets the
//! array.
//!
//! # Cost
//!
//! An attach waits for one `CMD_SYNC` for each step of an entry, whatever the number of streams:
//! two from blocked to stage 1, one from one stage-1 domain to another. The last detach adds one
//! flush and one `CMD_SYNC`. [`Device::block`] and [`Device::bypass`] allocate nothing. After
//! `prepare`, no step allocates.
//!
//! An attach or block of a substream waits for one `CMD_SYNC`. It copies a leaf of 4 KiB, or a linear
//! table with 64 bytes for each SubstreamID of the device. It costs the same beside any number of
//! other substreams.
//!
//! This crate re-exports [`smmu_types`], [`smmu_tags`], [`smmu_invs`] and [`lock_api`], whose types
//! are part of its API.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod add_device;
pub mod adopt;
mod ats;
mod ats_switch;
mod attach;
mod batch;
mod context;
mod cpu_tables;
mod deferred;
mod device;
mod device_config;
mod domain;
mod domain_config;
pub mod entry;
mod error;
mod fault_model;
pub mod faults;
mod foreign_streams;
mod group;
#[cfg(feature = "guest")]
pub mod guest;
mod held;
mod image;
mod key;
mod leaf_table;
mod locks;
mod membership;
#[cfg(feature = "guest")]
mod nested_attach;
mod nesting;
mod outcome;
mod platform;
mod prepare;
#[cfg(feature = "guest")]
mod reread;
mod smmu;
mod smmu_config;
mod smmu_core;
mod stream_entry;
mod stream_owners;
mod stream_table;
mod substream;
mod substreams;
#[cfg(loom)]
pub mod sync;
#[cfg(not(loom))]
mod sync;
mod table;
mod target;
mod transaction;
mod via;
#[cfg(feature = "guest")]
mod virtual_smmu;
mod write;

pub use ats_switch::{AtsRefused, AtsSwitch, AtsUse};
pub use attach::{Installed, Prepared, Published};
pub use cpu_tables::CpuTableError;
pub use deferred::DeferredUnmaps;
pub use device::{Attachment, Device};
pub use device_config::DeviceConfig;
pub use domain::{ArrayView, Domain};
pub use domain_config::{DomainConfig, TagNumber};
pub use error::{AttachError, BrokenRule, Requirement};
pub use fault_model::FaultModel;
pub use group::{Group, GroupSubstream};
pub use lock_api;
pub use outcome::Outcome;
pub use platform::{Env, Platform};
#[cfg(feature = "guest")]
pub use reread::{Reread, SteChange};
pub use smmu::Smmu;
pub use smmu_config::SmmuConfig;
pub use smmu_invs;
pub use smmu_tags;
pub use smmu_types;
pub use substream::Substream;
pub use table::{
    ForcedWriteBack, TableDescription, TranslationStage, TranslationTable, WalkAttributes,
    WalkCoherency, single_context,
};
pub use target::Target;
#[cfg(feature = "guest")]
pub use virtual_smmu::VirtualSmmu;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
