//! The sorted, counted invalidation array of an Arm SMMUv3 domain, and its lock-free publication.
//!
//! When a domain's page table changes, every SMMU that may have cached it needs commands, and every
//! device with a cache of its own: which, to whom, in which order? A domain keeps one array that
//! says so, in which each entry counts its users. Attaching a device [`merge`](InvArray::merge)s
//! its request into a new array, which is [`publish`](Publication::publish)ed; detaching it
//! [`unref`](InvArray::unref)s the request in place, which cannot fail. An invalidation walks the
//! current array at any time, beside all that, without a lock.
//!
//! This crate gives no tags out (an integrator's allocator does) and has no command queue: commands
//! go to a [`CommandSink`](smmu_types::seam::CommandSink).
//!
//! ```
//! use smmu_invs::{InvArray, InvSpec, LockCell, Publication, UnrefOutcome, invalidate_published};
//! use smmu_types::fake::RecordingSink;
//! use smmu_types::range::{Extent, RangeSupport};
//! use smmu_types::{Asid, CacheTag, FlushProof, Granule, Leaf, Regime, SmmuId};
//!
//! type Cell = LockCell<parking_lot::RawMutex, InvArray>;
//! let sink = RecordingSink::new(); // your command queues
//! let (smmu, tag) = (SmmuId(0), CacheTag::Asid(Regime::El1, Asid(7)));
//!
//! let cell = Cell::new(Cell::node(InvArray::empty())?);
//! let request = [InvSpec::tagged(smmu, tag, RangeSupport::Ril)];
//! let array = cell.read().merge(&request)?; // may fail
//! cell.publish(Cell::node(array)?); // visible; now write the STE and CD
//!
//! let page = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint();
//! invalidate_published(&cell, page, &sink)?; // one TLBI_NH_VA and a CMD_SYNC
//!
//! // The STE and CD are gone again:
//! cell.read().unref(&request, |_, outcome| assert_eq!(outcome, UnrefOutcome::LastUserGone));
//! assert!(!cell.read().is_empty(), "the tag is retiring: invalidations still go there");
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
//!                             (ATS entries, and all of an SMMU that goes away: straight to trash)
//! ```
//!
//! Without *retiring* an unmap that races a detach would find nobody to tell, and return while DMA
//! through the old translation is still on its way. Why it is enough is argued, step by step, at
//! [`Publication`].
//!
//! # What is promised
//!
//! An invalidation that returns success has flushed what was removed for every device, also if an attach or a detach ran
//! beside it. The steps, the barriers, and the test that fails without each of them are at [`Publication`]. ATS needs one
//! thing more, that no `ATC_INV` reaches a device whose ATS is off: [`AtsGate`].
//!
//! # Hazard
//!
//! - Whatever builds from an array or changes it must hold the domain's lock, and publish (or drop)
//!   what it built before the next change. Nothing here can check that.
//! - [`InvArray::settle`] believes that the flush was asked for after the last
//!   [`unref`](InvArray::unref).
//! - Flushing an ASID keeps *global* entries: stage-1 tables must set `nG` in every leaf. A range that becomes a flush of
//!   the whole tag drops less than its addresses would otherwise.
//! - A flush that cannot be proven leaves its entry retiring for ever. That is meant so: keep the
//!   number out of use.
//! - Arrays with ATS entries belong into a [`GatedCell`], and the device's cache must be empty, and stay so, before they are
//!   given up: the order is at [`AtsGate`].
//! - [`InvArray::remove_smmu`] believes that the SMMU translates no more.
//!
//! # Cost
//!
//! 16 bytes for each entry, never across a cache line; an empty domain has 40 bytes on the heap. `merge` and `purge` are
//! linear and allocate once, and report when they cannot; so does [`Publication::node`]. `unref`, `settle`, publishing and
//! walking allocate nothing. A walk looks at each entry once for each phase that there is something in, needs 1 to 4 KiB
//! of stack, no lock and no memory, and waits only for `CMD_SYNC`s: those of all SMMUs at once, up to 16.
//!
//! Measured on one machine with x86-64 (`cargo bench -p smmu-invs --features std` prints them, each against a baseline):
//! an invalidation without its sink takes 13 ns for one entry, then about 40 ns and 1.3 to 2.5 ns for each entry of one
//! SMMU; each further SMMU costs 10 ns more, for a batch and a `CMD_SYNC` of its own. A `merge` takes 70 ns and 1 ns for
//! each entry, a `purge` 25 ns and 1.3 ns, an `unref` 3.3 ns for each entry of its request. Beside a thread that does
//! nothing but publish, an invalidation takes two to seven times as long: each finds another array, in memory that
//! another processor has just written.
//!
//! # Features
//!
//! - `std`: `ArcSwapCell`, a publication whose readers take no lock.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

mod array;
mod cells;
mod entry;
mod error;
mod gate;
mod gated_cell;
mod invalidate;
mod key;
mod publish;
mod request;
mod shared;
mod sync;

pub use array::{Found, InvArray, InvView, UnrefOutcome};
#[cfg(feature = "std")]
pub use cells::{ArcSwapCell, ArcSwapGuard};
pub use cells::{LockCell, LockGuard, Node, Replaced};
pub use entry::EntryState;
pub use error::{InvError, InvalidateError, OutOfMemory, SmmuFailure};
pub use gate::{AtsGate, Drained};
pub use gated_cell::GatedCell;
pub use key::{InvKey, InvKind, InvSpec};
pub use publish::{Publication, invalidate_published, invalidate_published_reporting};
pub use request::RequestBuffer;
#[cfg(loom)]
#[doc(hidden)]
pub use sync::{Barrier, without};
