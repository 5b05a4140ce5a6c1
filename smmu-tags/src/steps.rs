//! The steps that the bitmap's argument rests on, each by its name, so that the model checker can be
//! shown what happens without it (`tests/loom.rs` has one broken variant for each).

use crate::sync::Ordering;

/// Whether a step is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is.
    Yes,
    /// It is left out, to see what breaks.
    No,
}

/// Orderings and steps. The numbers are those of the argument at [`Bitmap`](super::Bitmap) and
/// [`Numbers`](super::Numbers).
pub trait Steps {
    /// Step 1, a bit is set: a release. What its owner did with the number comes before.
    const GIVE: Ordering = Ordering::Release;
    /// Step 2, a bit is claimed: an acquire, for what the number's last owner did; and a release, for step 9.
    const CLAIM: Ordering = Ordering::AcqRel;
    /// Step 3, the mark above a word that was empty: that it is set at all.
    const MARKS: Taken = Taken::Yes;
    /// Step 3, the mark above a word that was empty: a release, so that who takes the mark away sees the word.
    const MARK: Ordering = Ordering::Release;
    /// Step 4, a mark is taken away: an acquire, for the same.
    const UNMARK: Ordering = Ordering::Acquire;
    /// Step 5, the look at the word after its mark was taken away.
    const RECHECK: Taken = Taken::Yes;
    /// Step 7, a free is counted: a release, so that who sees the count sees the bit.
    const COUNT: Ordering = Ordering::Release;
    /// Step 8, the look for a free bit in every word: an acquire, so that what is read after it is not older.
    const SCAN: Ordering = Ordering::Acquire;
    /// Step 8, the way by the marks, which is a hint only: without it everything still holds, but slowly.
    const BY_MARKS: Taken = Taken::Yes;
    /// Step 9, the frees are counted again before a space is called exhausted.
    const RECOUNT: Taken = Taken::Yes;
}

/// All steps, as the argument has them.
#[derive(Debug)]
pub struct Sound;

impl Steps for Sound {}
