//! The gate that a writer waits at, so that no `ATC_INV` reaches a device whose ATS is off.

use core::time::Duration;

use smmu_types::seam::{TimedOut, Wait, poll};

use crate::sync::{AtomicU32, Barrier, Ordering, full_fence, order};

/// Lets a writer wait until no reader can send an `ATC_INV` for an entry that is trash.
///
/// A device may leave an `ATC_INV` unanswered when its ATS is off. The SMMU's queue then stops
/// until the command times out. So a driver follows this order when a device leaves:
///
/// 1. Write an STE that turns ATS off. Wait for the `CMD_SYNC` behind its `CFGI`: now the device's
///    cache is not refilled.
/// 2. Empty the device's cache with an `ATC_INV`, and wait for its `CMD_SYNC`.
/// 3. [`InvArray::unref`]: the ATS entries are trash, and readers skip them.
/// 4. [`drain`](Self::drain): readers that saw the entries before, in this array or an older one,
///    are done.
/// 5. Turn ATS off at the device, or reset it.
///
/// Only readers of an array [with ATS entries][has_ats] pass the gate. The gate stops no reader:
/// those that come after step 3 run beside the writer, which waits for the earlier ones.
///
/// # Why it is enough
///
/// A reader counts itself, then executes a full fence, then reads the array and its entries. A
/// writer turns the entries into trash, then executes a full fence, then waits until it has seen
/// each of the two counts at 0. One of the two fences comes first:
///
/// - The reader's fence: the writer sees the reader's count. It waits until the reader has left,
///   with its `CMD_SYNC`s complete. Leaving is a release, and the writer's look an acquire.
/// - The writer's fence: the reader sees trash, and sends nothing to the device.
///
/// With two counts, the writer directs new readers to the other count, and does not wait for
/// readers that come later.
///
/// # What it does not cover
///
/// - A reader that failed has left the gate, but its command may still be in the queue. After an
///   [`InvalidateError`](crate::InvalidateError) with a timeout, make sure that the SMMU's queue is
///   empty, or reset the SMMU, before ATS is turned off.
/// - A reader that calls [`InvArray::invalidate`] on an array from elsewhere does not pass the
///   gate. Use [`invalidate_published`](crate::invalidate_published) on a [`GatedCell`] for arrays
///   with ATS entries.
///
/// [`InvArray::unref`]: crate::InvArray::unref
/// [has_ats]: crate::InvArray::has_ats
/// [`InvArray::invalidate`]: crate::InvArray::invalidate
/// [`GatedCell`]: crate::GatedCell
#[derive(Debug, Default)]
pub struct AtsGate {
    side: AtomicU32,
    inside: [AtomicU32; 2],
}

/// Proof that no reader sends an `ATC_INV` for entries that were trash at the call of
/// [`AtsGate::drain`].
///
/// Turn ATS off at a device only with this proof.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Drained(());

impl AtsGate {
    /// A gate without readers inside.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a reader. It may read the array until the result is dropped.
    pub(crate) fn enter(&self) -> Passage<'_> {
        let side = self.side.load(Ordering::Relaxed);
        let count = &self.inside[(side & 1) as usize];
        count.fetch_add(1, Ordering::Relaxed);
        full_fence(Barrier::GateReader);
        Passage(count)
    }

    /// Waits until all readers are done that may have seen the array before its last change.
    ///
    /// The domain's lock serialises the calls, like the changes. A thread that is a reader itself
    /// must not call it. `timeout` applies to each of the two counts.
    ///
    /// # Errors
    ///
    /// [`TimedOut`]: a reader still waits for a `CMD_SYNC`, or does not run. Do not turn ATS off;
    /// call it again.
    pub fn drain<W>(&self, wait: &W, timeout: Duration) -> Result<Drained, TimedOut>
    where
        W: Wait + ?Sized,
    {
        full_fence(Barrier::GateWriter);
        let side = (self.side.load(Ordering::Relaxed) & 1) as usize;
        // A slow reader may have chosen the other side before an earlier call, and counted itself
        // since.
        self.wait_for(1 - side, wait, timeout)?;
        self.side.store(1 - side as u32, Ordering::Relaxed);
        self.wait_for(side, wait, timeout)?;
        Ok(Drained(()))
    }

    fn wait_for<W>(&self, side: usize, wait: &W, timeout: Duration) -> Result<(), TimedOut>
    where
        W: Wait + ?Sized,
    {
        let acquire = order(Barrier::GateWait, Ordering::Acquire);
        poll(wait, timeout, || (self.inside[side].load(acquire) == 0).then_some(()))
    }
}

/// A reader in the gate. Its drop is the reader's exit.
pub(crate) struct Passage<'g>(&'g AtomicU32);

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, order(Barrier::GateLeave, Ordering::Release));
    }
}
