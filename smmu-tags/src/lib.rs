//! ASID and VMID spaces for Arm SMMUv3 drivers, with the life of a tag as types.
//!
//! A *tag* (an ASID at stage 1, a VMID at stage 2) marks what an SMMU has cached of a domain. Given
//! to a second domain too early, it lets a device reach memory through the first one's
//! translations. So a number here is free again only when hardware has confirmed its flush:
//!
//! ```text
//! free --allocate--> FreshTag --install--> InUseTag --retire--> RetiringTag --free(proof)--> free
//!                       \--abort, drop--> free                     \--drop--> quarantined
//! ```
//!
//! This is not a user count: how many devices share a tag is the business of the invalidation
//! array. Nor does this crate send commands; it takes their proof.
//!
//! ```
//! use parking_lot::RawMutex;
//! use smmu_tags::AsidSpace;
//! use smmu_types::fake::RecordingSink;
//! use smmu_types::{FlushProof, Regime, SmmuId};
//!
//! let smmu = SmmuId(0);
//! let space = AsidSpace::<RawMutex>::new(16)?;
//! let fresh = space.allocate(smmu, Regime::El1, 16)?;
//! // Build the CD with `fresh.tag()`; dropping `fresh` would give the number back.
//! let in_use = fresh.install();
//! // Write the CD; devices come and go. After the last one:
//! let retiring = in_use.retire();
//! let sink = RecordingSink::new(); // your command queue
//! let proof = FlushProof::obtain(&sink, smmu, retiring.tag())?;
//! retiring.free(proof)?;
//! assert_eq!(space.stats().free, 65535);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Hazard
//!
//! - A number is lost when an [`InUseTag`] or a [`RetiringTag`] is dropped. That is the safe side;
//!   [`TagStats::quarantined`] counts them.
//! - `std::mem::forget` of a tag loses its number too, without a trace but its state's count.
//! - A proof that was obtained *before* the last STE or CD with the tag was taken away is worth
//!   nothing, and no type here can tell.
//!
//! # Which number
//!
//! Always the lowest free one: the same calls give the same numbers, so transcripts repeat; and a
//! number that was just freed is the next one given out, so that a flush which was forgotten shows
//! in the first test rather than after 65,535 attaches. 0 is never given out: streams without
//! stage 2 use VMID 0.
//!
//! # Cost
//!
//! Two bitmaps for each space, 16 KiB at 16 bits, allocated in `new` (with one small block that
//! the handles share). Allocating and freeing touch at most 18 words under the integrator's lock
//! ([`lock_api::RawMutex`]) and never allocate memory. A tag is 16 bytes on a
//! 64-bit machine.
//!
//! The lock is held for a few loads and stores, never while anything is waited for. If tags are
//! dropped in interrupt context, choose one that disables interrupts.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bitmap;
mod error;
mod space;
mod table;
mod tag;

pub use error::{FreeError, TagError, TagKind};
pub use space::{AsidSpace, VmidSpace};
pub use table::TagStats;
pub use tag::{FreshTag, InUseTag, RetiringTag};
