//! ASID and VMID spaces for Arm SMMUv3 drivers, with the life of a tag as types.
//!
//! A *tag* (an ASID at stage 1, a VMID at stage 2) marks what an SMMU has cached of a domain. If a
//! driver reuses a tag too early, a device reaches memory through the old domain's translations. So
//! in this crate a number is free again only after the SMMU has confirmed its flush:
//!
//! ```text
//! free --allocate--> FreshTag --install--> InUseTag --retire--> RetiringTag --free(proof)--> free
//!                       \--abort, drop--> free                     \--drop--> quarantined
//! ```
//!
//! The crate does not count the users of a tag: the invalidation array does. It sends no command
//! either: your command queue flushes the tag, behind the trait
//! [`CommandSink`](smmu_types::seam::CommandSink), and gives the proof.
//!
//! ```
//! use smmu_tags::AsidSpace;
//! use smmu_tags::smmu_types::fake::RecordingSink;
//! use smmu_tags::smmu_types::{FlushProof, Regime, SmmuId};
//!
//! let smmu = SmmuId(0);
//! let space = AsidSpace::new(16)?;
//! let fresh = space.allocate(smmu, Regime::El1, 16)?;
//! // Build the CD with `fresh.tag()`. Dropping `fresh` would give the number back.
//! let in_use = fresh.install();
//! // Write the CD. Further devices find the tag with `in_use.share()`. After the last user:
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
//! - Dropping an [`InUseTag`], a [`VsmmuVmid`] or a [`RetiringTag`] loses its number for good: a
//!   lost number is cheap, a stale translation is not. [`TagStats::quarantined`] counts lost
//!   numbers, and [`SpaceConfig::listener`] hears of each.
//! - `std::mem::forget` of a tag loses its number too. Only the count of its state shows that.
//! - A proof that was obtained *before* the last STE or CD with the tag was removed proves nothing.
//!   No type here can check that.
//!
//! # Which number
//!
//! By default a space gives out the lowest free number. The same calls give the same numbers, so
//! transcripts repeat. A freed number is the next one given out, so a forgotten flush shows in the
//! first test rather than after 65,535 attaches. [`Choice::NextFit`] delays reuse instead. A space
//! never gives out 0: streams without stage 2 use VMID 0. List the numbers that firmware uses in
//! [`SpaceConfig::reserved`]. A caller that needs one certain number, such as a hypervisor with one
//! VMID for CPU and SMMU, [claims](VmidSpace::claim) it.
//!
//! # Threads
//!
//! Any thread may make any call in any context, also an interrupt handler that interrupted another
//! call. There is no lock, and no call waits. Only the constructors allocate memory; the last
//! handle or tag of a space frees it, unless it is [kept for ever](Keep::Forever). The promises:
//!
//! 1. No number has two owners at once.
//! 2. What the last owner of a number did happens before what its next owner does.
//! 3. An allocation finds a number whose free happened before it.
//! 4. [`TagError::Exhausted`] is true of a moment during the call: every number below the SMMU's
//!    limit was taken, or a call that had not returned was about to free it. The exception: 16
//!    searches in a row found no free number, and during each of them other threads freed numbers
//!    that were taken again.
//! 5. The number that [`Choice`] names is exact while no other thread allocates or frees. Otherwise
//!    it is some number that was free.
//! 6. A call's work is bounded by the number of words: 1,041 at 16 bits, and so many only if the
//!    space is exhausted. The exception: an atomic step is tried again when another thread changed
//!    the same word first. So some thread always makes progress.
//!
//! Numbered steps in `bitmap.rs` and `numbers.rs` argue for each ordering. `tests/loom.rs` checks
//! them under every interleaving. It leaves out each barrier in turn, and the model checker finds
//! the failure.
//!
//! # Cost
//!
//! A space is one bitmap with two levels of marks above it, and counts: 8,840 bytes for 65,536
//! numbers and 552 for 256. The constructor allocates it, in two pieces, or reports that it cannot.
//! An allocation of a tag reads one word of each level, however full the space is, and writes one
//! word. A free writes one word and a count. Where a word becomes empty or non-empty, the levels
//! above are written too. Each tag also counts as a user of the space's memory, unless that is kept
//! for ever. A tag is 24 bytes on a 64-bit machine. `cargo bench -p smmu-tags` measures the times.
//!
//! If all threads want the lowest number, they write the same words and wait for each other's cache
//! lines. Two of them together then do less work than one. [`Choice::NextFitByCpu`] keeps CPUs
//! apart.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg_attr(not(loom), expect(unreachable_pub, reason = "public for the loom tests"))]
mod bitmap;
mod error;
mod home;
#[cfg_attr(not(loom), expect(unreachable_pub, reason = "public for the loom tests"))]
mod numbers;
mod shared_tag;
mod space;
mod sync;
mod tag;
#[cfg(test)]
mod tests;
mod vsmmu;

pub use smmu_types;

pub use error::{TagError, TagKind};
pub use home::Listener;
pub use numbers::{Choice, TagStats};
pub use shared_tag::SharedTag;
pub use space::{AsidSpace, Keep, SpaceConfig, VmidSpace};
pub use tag::{FreeError, FreshTag, InUseTag, RetiringTag};
pub use vsmmu::VsmmuVmid;

// The code blocks of the README are tested with those of the docs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

/// The parts of a space, with words of few bits and barriers that a test can leave out, for the
/// loom tests.
#[cfg(loom)]
#[doc(hidden)]
pub mod model {
    pub use crate::bitmap::Bitmap;
    pub use crate::numbers::{Numbers, TagState};
    pub use crate::sync::{Barrier, without};
}
