//! The sorted, counted invalidation array of an Arm SMMUv3 domain, and its lock-free publication.
//!
//! When a domain's page table changes, each SMMU that may have cached it needs commands, and so
//! does each device with a cache of its own. A domain keeps one array of the commands that it
//! needs, in the order in which they go out. Each entry counts its users:
//!
//! - An attach [`merge`](InvArray::merge)s the device's request into a new array, and
//!   [`publish`](Publication::publish)es it.
//! - A detach [`unref`](InvArray::unref)s the request in place, which cannot fail.
//! - An invalidation walks the current array, without a lock. Any thread may run it at any time,
//!   beside an attach or a detach.
//!
//! The crate allocates no ASIDs or VMIDs (`smmu-tags` does) and has no command queue: commands go
//! to a [`CommandSink`](smmu_types::seam::CommandSink).
//!
//! ```
//! use smmu_invs::smmu_types::fake::RecordingSink;
//! use smmu_invs::smmu_types::range::{Extent, RangeSupport};
//! use smmu_invs::smmu_types::{Asid, CacheTag, FlushProof, Granule, Leaf, Regime, SmmuId};
//! use smmu_invs::{InvArray, InvSpec, LockCell, Publication, UnrefOutcome, invalidate_published};
//!
//! type Cell = LockCell<parking_lot::RawMutex, InvArray>;
//! let sink = RecordingSink::new(); // your command queues
//! let (smmu, tag) = (SmmuId(0), CacheTag::Asid(Regime::El1, Asid(7)));
//!
//! let cell = Cell::new(Cell::node(InvArray::empty())?);
//! let request = [InvSpec::tagged(smmu, tag, RangeSupport::Ril)];
//! let array = cell.read().merge(&request)?; // may fail
//! cell.publish(Cell::node(array)?); // now write the STE and the CD
//!
//! let page = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint();
//! invalidate_published(&cell, page, &sink)?; // one TLBI_NH_VA and a CMD_SYNC
//!
//! // The STE and the CD do not name the tag any more:
//! cell.read().unref(&request, |_, outcome| assert_eq!(outcome, UnrefOutcome::LastUserGone));
//! assert!(!cell.read().is_empty(), "the tag is retiring: it still gets invalidations");
//! let proof = FlushProof::obtain(&sink, smmu, tag)?;
//! assert!(cell.read().settle(&proof)); // then free the number with the proof
//! if let Some(array) = cell.read().purge()? {
//!     cell.publish(Cell::node(array)?);
//! }
//! assert!(cell.read().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The states of an entry
//!
//! ```text
//! merge --> live (n users) --last unref--> retiring --settle(proof)--> trash --purge--> gone
//!                             (ATS entries, and all of a removed SMMU: straight to trash)
//! ```
//!
//! *Retiring* is for an unmap that races a detach. Without it the unmap would find no entry, and
//! return while DMA through the old translation is still under way. [`Publication`] gives the proof
//! in numbered steps.
//!
//! # Guarantee
//!
//! An invalidation that returns success has flushed what was removed for every device, even if an
//! attach or a detach ran beside it. [`Publication`] lists the steps, the barriers, and the test
//! that fails without each barrier. ATS needs one thing more: no `ATC_INV` may reach a device whose
//! ATS is off. [`AtsGate`] sees to that.
//!
//! # Which publication
//!
//! - With `std`: `ArcSwapCell`. Readers take no lock.
//! - Without `std`, with several CPUs or with interrupt handlers that invalidate: [`HazardCell`].
//!   Readers take no lock, and free nothing.
//! - Without `std`, with one CPU or with few invalidations: [`LockCell`]. Readers hold a lock while
//!   they count a reference, and may free an array.
//! - For domains with ATS: a [`GatedCell`] around one of them.
//!
//! A [`HazardCell`] needs the number of the CPU, a lock for readers that find no slot, and 64 bytes
//! for each CPU, which all domains share.
//!
//! # Hazard
//!
//! - A caller that changes an array, or builds one from it, must hold the domain's lock. It must
//!   publish or drop the new array before the next change. No type can check that.
//! - [`InvArray::settle`] trusts the caller that the flush was issued after the last
//!   [`unref`](InvArray::unref).
//! - Global stage-1 entries survive the flush of an ASID: stage-1 tables must set `nG` in every
//!   leaf. Commands for the addresses of a range drop them, but a large range becomes a flush of
//!   the ASID.
//! - An entry whose flush is never proven stays retiring for ever. Keep its number out of use.
//! - Arrays with ATS entries belong in a [`GatedCell`]. Before the [`unref`](InvArray::unref) of
//!   ATS entries, the device's own cache must be empty and stay empty. [`AtsGate`] has the order.
//! - [`InvArray::remove_smmu`] trusts the caller that the SMMU does not translate any more.
//!
//! # Cost
//!
//! An entry has 16 bytes and never crosses a cache line; an empty domain has 40 bytes on the heap.
//! `merge` and `purge` are linear. They allocate once, and report an error if they cannot; so does
//! [`Publication::node`]. `unref`, `settle`, publishing and walking allocate nothing. A walk looks
//! at each entry once for each phase that has entries. It needs 1 to 4 KiB of stack, and no lock.
//! It waits only for `CMD_SYNC`s: those of all SMMUs at once, up to 16.
//!
//! Measured on one x86-64 machine (`cargo bench -p smmu-invs --features std` prints each figure
//! beside a baseline):
//!
//! - An invalidation without its sink takes 13 ns for one entry. For more entries of one SMMU it
//!   takes about 40 ns, and 1.3 to 2.5 ns for each entry. Each further SMMU costs 10 ns, for its
//!   own batch and `CMD_SYNC`.
//! - A `merge` takes 70 ns and 1 ns for each entry, a `purge` 25 ns and 1.3 ns, an `unref` 3.3 ns
//!   for each entry of its request.
//! - A read takes less time from a [`HazardCell`] than from an `ArcSwapCell`: half of it or less,
//!   where the number of the CPU costs a load. A publication also looks at each slot of each CPU.
//! - Beside a thread that only publishes, an invalidation takes two to seven times as long: each
//!   one finds a new array, in memory that another CPU has just written.
//!
//! # Features
//!
//! - `std`: `ArcSwapCell`, a publication whose readers take no lock.
#![no_std]
#![deny(unsafe_code)]
// Docs.rs labels what a feature adds.
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

mod array;
mod cells;
mod error;
mod gate;
mod gated_cell;
mod hazard_cell;
mod inv_entry;
mod invalidate;
mod key;
mod publish;
mod request;
mod sync;

pub use lock_api;
pub use smmu_types;

pub use array::{Found, InvArray, InvView, UnrefOutcome};
#[cfg(feature = "std")]
pub use cells::{ArcSwapCell, ArcSwapGuard};
pub use cells::{LockCell, LockGuard, Node, Replaced};
pub use error::{InvError, InvalidateError, SmmuFailure};
pub use gate::{AtsGate, Drained};
pub use gated_cell::GatedCell;
pub use hazard_cell::{CpuSlots, HazardCell, HazardGuard, HazardNode, HazardSlots};
pub use inv_entry::EntryState;
pub use key::{InvKey, InvKind, InvSpec};
pub use publish::{
    Publication, invalidate_published, invalidate_published_after, invalidate_published_reporting,
};
pub use request::{InvUsers, RequestBuffer};
pub use smmu_types::{Counted, OutOfMemory};
#[cfg(loom)]
#[doc(hidden)]
pub use sync::{Barrier, without};
