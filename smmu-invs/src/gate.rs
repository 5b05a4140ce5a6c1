//! The gate of `ATC_INV` commands.

use core::time::Duration;

use smmu_types::seam::{TimedOut, Wait, poll};

use crate::sync::{AtomicU32, Barrier, Ordering, full_fence, order};

/// Lets a writer wait until no reader can send an `ATC_INV` any more for an entry that is trash.
///
/// A device whose ATS is turned off may leave an `ATC_INV` unanswered, and a command that is not answered stops the
/// queue until it times out. So there is an order to follow when a device leaves:
///
/// 1. The STE says that ATS is off, and a `CMD_SYNC` behind its `CFGI` has completed: the device's cache is not
///    refilled.
/// 2. The device's cache is emptied by an `ATC_INV`, whose `CMD_SYNC` has completed.
/// 3. [`InvArray::unref`](crate::InvArray::unref): the ATS entries are trash, and readers pass them by.
/// 4. [`drain`](Self::drain): readers that had seen the entries before, in this array or in an older one, are done.
/// 5. ATS is turned off at the device, or it is reset.
///
/// Only readers of an array [with ATS entries](crate::InvArray::has_ats) pass the gate; the others never look at it. It keeps
/// nobody out: readers that come after step 3 run on beside the writer, which waits for those before.
///
/// # Why it is enough
///
/// A reader counts itself, then comes a full fence, then it reads the array and its entries. A writer marks the
/// entries, then comes a full fence, then it looks until it has seen each of the two counts at 0. One of the two fences
/// comes first. If it is the reader's, the writer sees its count, and waits until the reader has left, with its
/// `CMD_SYNC`s complete: leaving is a release, and the writer's look an acquire. If it is the writer's, the reader
/// sees the marks, and sends nothing to the device. There are two counts so that the writer can turn new readers to the
/// other one, and need not wait for those that come later.
///
/// # What it does not cover
///
/// - A reader that has failed has left, but a command of it may be in the queue still: after an
///   [`InvalidateError`](crate::InvalidateError) of a time-out, show that the SMMU's queue is empty, or reset it, before
///   ATS is turned off.
/// - Readers that call [`InvArray::invalidate`](crate::InvArray::invalidate) on an array they got elsewhere do not pass it. Arrays with ATS entries
///   are for [`invalidate_published`](crate::invalidate_published) on a [`GatedCell`](crate::GatedCell).
#[derive(Debug, Default)]
pub struct AtsGate {
    side: AtomicU32,
    inside: [AtomicU32; 2],
}

/// Nobody sends an `ATC_INV` any more for entries that were trash when [`AtsGate::drain`] was called.
///
/// Turn ATS off at the device only with one of these in hand.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Drained(());

impl AtsGate {
    /// A gate that nobody has passed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Pass: from here on the reader may read the array.
    pub(crate) fn enter(&self) -> Passage<'_> {
        let side = self.side.load(Ordering::Relaxed);
        let count = &self.inside[(side & 1) as usize];
        count.fetch_add(1, Ordering::Relaxed);
        full_fence(Barrier::GateReader);
        Passage(count)
    }

    /// Wait until all readers are done that may have seen the array as it was before the last change.
    ///
    /// Calls are serialised by the domain's lock, as the changes are. Not for a thread that is a reader itself. There are
    /// two counts to wait for, and `timeout` is for each.
    ///
    /// # Errors
    ///
    /// [`TimedOut`]: a reader is still waiting for a `CMD_SYNC`, or was stopped. Do not turn ATS off; call it again.
    pub fn drain<W>(&self, wait: &W, timeout: Duration) -> Result<Drained, TimedOut>
    where
        W: Wait + ?Sized,
    {
        full_fence(Barrier::GateWriter);
        let side = (self.side.load(Ordering::Relaxed) & 1) as usize;
        // Whoever chose the other side long ago and was slow to count itself.
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

/// A reader on its way through the gate.
pub(crate) struct Passage<'g>(&'g AtomicU32);

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, order(Barrier::GateLeave, Ordering::Release));
    }
}
