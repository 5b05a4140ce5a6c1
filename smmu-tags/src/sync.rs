//! The atomics of this crate, from `core` or from loom, and the barriers that a loom test can leave
//! out.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(not(loom))]
use core::sync::atomic::fence;
#[cfg(loom)]
use loom::sync::atomic::fence;

// The numbers are those of the steps at `Bitmap` (1 to 6) and at `Numbers` (7 to 9).
smmu_types::barriers! {
    /// Step 1, the release that sets a bit: it follows all that the owner did with the number.
    GiveRelease,
    /// Step 2, the acquire that clears a bit: the new owner sees all that the last owner did.
    ClaimAcquire,
    /// Step 2, the release that clears a bit: step 9 needs it.
    ClaimRelease,
    /// Step 3, the store of the mark above a word that was empty.
    Mark,
    /// Step 3, the release of that store: a thread that clears the mark sees the word non-empty.
    MarkRelease,
    /// Step 4, the acquire that clears a mark: the other half of `MarkRelease`.
    UnmarkAcquire,
    /// Step 5, the second look at the word after its mark is cleared.
    Recheck,
    /// Step 7, the release that counts a free: a thread that sees the count sees the bit.
    CountRelease,
    /// Step 8, the search by the marks. A hint: without it the search is slow, and its answer still
    /// true.
    ByMarks,
    /// Step 8, the acquire of each word in the scan: what the thread reads next is not older.
    ScanAcquire,
    /// Step 9, the second reading of the counts before a space is called exhausted.
    Recount,
}
