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
//! use smmu_tags::AsidSpace;
//! use smmu_types::fake::RecordingSink;
//! use smmu_types::{FlushProof, Regime, SmmuId};
//!
//! let smmu = SmmuId(0);
//! let space = AsidSpace::new(16)?;
//! let fresh = space.allocate(smmu, Regime::El1, 16)?;
//! // Build the CD with `fresh.tag()`; dropping `fresh` would give the number back.
//! let in_use = fresh.install();
//! // Write the CD; devices come and go, and find the tag again with `in_use.share()`. After the last one:
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
//! - A number is lost when an [`InUseTag`], a [`VsmmuVmid`] or a [`RetiringTag`] is dropped. That is the safe side;
//!   [`TagStats::quarantined`] counts them, and [`SpaceConfig::listener`] hears of each.
//! - `std::mem::forget` of a tag loses its number too, without a trace but its state's count.
//! - A proof that was obtained *before* the last STE or CD with the tag was taken away is worth
//!   nothing, and no type here can tell.
//!
//! # Which number
//!
//! By default the lowest free one: the same calls give the same numbers, so transcripts repeat; and a
//! number that was just freed is the next one given out, so that a flush which was forgotten shows
//! in the first test rather than after 65,535 attaches. [`Choice::NextFit`] delays reuse instead. 0 is never given out:
//! streams without stage 2 use VMID 0. Numbers of firmware are named in [`SpaceConfig::reserved`].
//!
//! # Threads
//!
//! Every call may come from any thread and any context, also from an interrupt handler that has interrupted another call:
//! there is no lock, nothing is waited for, and only the constructors allocate memory (the last handle or tag of a space frees
//! it, if it is not [kept for ever](Keep::Forever)). What holds:
//!
//! 1. No number has two owners at once.
//! 2. What the last owner of a number did happens before what its next owner does.
//! 3. A number whose free happened before an allocation is found by it.
//! 4. [`TagError::Exhausted`] is reported only if there was a moment during the call at which every number below the SMMU's
//!    limit was taken, or on its way back by a call that had not returned; or if 16 looks at all of them in a row found
//!    none, during each of which other threads freed numbers that were taken again.
//! 5. Which number [`Choice`] says is exact while no other thread allocates or frees; otherwise it is one that was free.
//! 6. A call's work is bounded by the number of words (1,041 at 16 bits, and so many only when the space is exhausted), but for
//!    one thing: an atomic step is tried again when another thread's step on the same word came first. So some thread
//!    always gets on.
//!
//! The argument stands in numbered steps beside the code, in `bitmap.rs` and `numbers.rs`. `tests/loom.rs` checks them under
//! every interleaving, and shows for each ordering and step that a build without it fails.
//!
//! # Cost
//!
//! One bitmap with two levels of marks above it, and counts: 8,792 bytes for 65,536 numbers and 504 for 256, allocated by the
//! constructor. Allocating reads a word of each level, at any fill, and writes one; freeing writes one, and a count. Where a
//! word runs empty or is empty no longer, the levels above are written too. Each tag also counts as a user of the
//! space's memory, unless that is kept for ever. A tag is 24 bytes on a 64-bit machine. `cargo bench -p smmu-tags` measures.
//!
//! Threads that allocate and free at the same time write the same words if all want the lowest number, and each waits for the
//! other's cache line: two of them together then get less done than one. Where that matters, take
//! [`Choice::NextFitByCpu`], which keeps them apart.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg_attr(
    not(loom),
    expect(unreachable_pub, reason = "public for the tests of the model checker alone")
)]
mod bitmap;
mod error;
#[cfg_attr(
    not(loom),
    expect(unreachable_pub, reason = "public for the tests of the model checker alone")
)]
mod numbers;
mod shared_tag;
mod space;
#[cfg_attr(
    not(loom),
    expect(unreachable_pub, reason = "public for the tests of the model checker alone")
)]
mod steps;
mod sync;
mod tag;
#[cfg(test)]
mod tests;
mod vsmmu;

pub use error::{FreeError, TagError, TagKind};
pub use numbers::{Choice, TagStats};
pub use shared_tag::SharedTag;
pub use space::{AsidSpace, Keep, Listener, SpaceConfig, VmidSpace};
pub use tag::{FreshTag, InUseTag, RetiringTag};
pub use vsmmu::VsmmuVmid;

/// What the space is made of, with words of few bits and steps that can be left out, for the model checker.
#[cfg(loom)]
#[doc(hidden)]
pub mod model {
    pub use crate::bitmap::Bitmap;
    pub use crate::numbers::{Life, Numbers};
    pub use crate::steps::{Sound, Steps, Taken};
}
