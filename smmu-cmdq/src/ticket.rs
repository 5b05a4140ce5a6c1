//! What callers hold of the commands that they have queued.

use core::num::NonZeroU32;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

use smmu_types::SmmuId;
use smmu_types::queue::Position;

/// Tells the queues of a program apart. Numbers repeat after 2^32 queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueIdentity(NonZeroU32);

impl QueueIdentity {
    /// The number of a new queue.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // Relaxed: only the number matters.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        QueueIdentity(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
    }
}

/// Commands that were queued without a `CMD_SYNC`; [`prove`](crate::CommandQueue::prove) takes it.
///
/// If this is dropped, the SMMU still carries the commands out, but the caller cannot learn the
/// result.
#[derive(Debug)]
#[must_use = "the commands are not known to be carried out until they are proven"]
pub struct Pushed {
    pub(crate) smmu: SmmuId,
    pub(crate) queue: QueueIdentity,
    /// Where the first of the commands lies, or before.
    pub(crate) from: u64,
}

impl Pushed {
    /// The SMMU.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        self.smmu
    }
}

/// One queued `CMD_SYNC`, and the commands that it stands for; [`wait`](crate::CommandQueue::wait)
/// takes it.
///
/// If this is dropped, the SMMU still carries the commands out, but the caller cannot learn the
/// result.
#[derive(Debug)]
#[must_use = "the commands are not known to be carried out until the ticket is waited for"]
pub struct SyncTicket {
    end: u64,
    /// Commands of the ticket's own batch, with its `CMD_SYNC`.
    own: u32,
    /// Commands from the first pushed one on. `u32::MAX`: as many or more.
    covered: u32,
    queue: QueueIdentity,
    smmu: SmmuId,
}

// A caller gets the ticket in a result. Compilers copy up to four words in line, also where a target
// has no unaligned accesses. Beyond that they call `memcpy`.
const _: () = assert!(size_of::<SyncTicket>() <= 24);

impl SyncTicket {
    pub(crate) fn new(smmu: SmmuId, queue: QueueIdentity, own: Range<u64>) -> Self {
        let Range { start, end } = own;
        let own = distance(start, end);
        SyncTicket { end, own, covered: own, queue, smmu }
    }

    /// The same ticket, which stands for commands from `pushed` on as well.
    pub(crate) fn from(self, pushed: u64) -> Self {
        SyncTicket { covered: self.covered.max(distance(pushed, self.end)), ..self }
    }

    /// The SMMU.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        self.smmu
    }

    /// The positions of the commands. The `CMD_SYNC` has the last one.
    ///
    /// Of a batch of 2^32 commands or more, these are the last ones; the ticket stands for all.
    #[must_use]
    pub const fn positions(&self) -> Range<Position> {
        Position(self.end.saturating_sub(self.own as u64))..Position(self.end)
    }

    pub(crate) fn queue(&self) -> QueueIdentity {
        self.queue
    }

    /// The position behind the `CMD_SYNC`.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The positions of the ticket's own batch.
    pub(crate) fn own(&self) -> Range<u64> {
        let Range { start, end } = self.positions();
        start.0..end.0
    }

    /// The position of the first command that the ticket stands for, or a position before it.
    pub(crate) fn first(&self) -> u64 {
        match self.covered {
            u32::MAX => 0,
            covered => self.end.saturating_sub(covered.into()),
        }
    }
}

/// The number of positions between the two, `u32::MAX` at most.
fn distance(start: u64, end: u64) -> u32 {
    u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{QueueIdentity, SyncTicket};
    use smmu_types::SmmuId;

    const FAR: u64 = 1 << 32;

    #[test]
    fn a_ticket_covers_what_was_pushed_however_long_ago() {
        let end = 3 * FAR;
        for (pushed, first) in [
            (end - 2, end - 2),
            // Not before the ticket's own batch.
            (end - 1, end - 2),
            (end - 5, end - 5),
            (end - FAR + 2, end - FAR + 2),
            (end - FAR + 1, 0),
            (end - FAR, 0),
            (1, 0),
        ] {
            let ticket = SyncTicket::new(SmmuId(0), QueueIdentity::next(), end - 2..end);
            let ticket = ticket.from(pushed);
            assert_eq!((ticket.first(), ticket.own()), (first, end - 2..end), "{pushed:#x}");
        }
    }

    #[test]
    fn a_batch_of_any_length_is_covered_whole() {
        let ticket = SyncTicket::new(SmmuId(0), QueueIdentity::next(), 5..FAR + 100);
        assert_eq!((ticket.first(), ticket.end()), (0, FAR + 100));
        assert!(ticket.own().start > 5);
    }
}
