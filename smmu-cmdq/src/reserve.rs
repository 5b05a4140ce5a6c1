//! Who gets which slots: one atomic operation for each batch, in one of two ways.
//!
//! Both keep one word, the position of the next free slot with a bit beside it. While the bit is set, nobody but
//! the one who set it gets slots: that is how a batch that is longer than the ring stays in one piece, and how a call
//! that has found no room for long enough gets the next that there is. Positions have 63 bits and never wrap.

use core::fmt;

use crate::sync::{AtomicI64, AtomicU64, Barrier, Ordering, order};

/// Set while the ring is kept for one caller.
const KEPT: u64 = 1;

/// How [`CommandQueue`](crate::CommandQueue) reserves slots: [`CompareExchange`] or [`FetchAdd`].
pub trait Reserve: private::Reserve + fmt::Debug {}

/// Slots are reserved by a compare-exchange, which is tried again whenever somebody else was quicker.
///
/// Nothing is reserved for which there is no room, and the whole ring can be in use. Under contention attempts are
/// lost, each a transfer of the cache line, and which caller loses is chance.
#[derive(Debug)]
pub struct CompareExchange {
    next: AtomicU64,
}

/// Slots are reserved by two fetch-adds, which always succeed: one takes room, the other the place.
///
/// Nobody ever tries again because somebody else was quicker. A caller without room gives back what it took, so
/// that others may see the ring fuller than it is for a moment, and no more than `CELLS` commands are in the ring at once.
#[derive(Debug)]
pub struct FetchAdd {
    next: AtomicU64,
    room: AtomicI64,
}

/// Why nothing was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No room.
    Full,
    /// The ring is kept for somebody.
    Kept,
}

/// How far slots may be given out.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// Commands that the ring holds.
    pub entries: u64,
    /// The first that the SMMU has not carried out.
    pub consumer: &'a AtomicU64,
    /// How many batches in a row may be told of, from `published` on.
    pub cells: u64,
    /// The first that `CMDQ_PROD` does not cover.
    pub published: &'a AtomicU64,
}

impl Limits<'_> {
    /// Whether the slots up to `end` are free, for a batch that begins at `start`.
    #[inline]
    fn allow(&self, start: u64, end: u64) -> bool {
        let acquire = order(Barrier::SpaceAcquire, Ordering::Acquire);
        // Somebody who looks late may see a consumer that is further on than `start`; then nothing comes of it.
        end.saturating_sub(self.consumer.load(acquire)) <= self.entries
            && (self.entries <= self.cells
                || start.saturating_sub(self.published.load(Ordering::Acquire)) < self.cells)
    }
}

pub(crate) mod private {
    use super::{Limits, Refused};

    pub trait Reserve {
        /// At position 0, with room for [`depth`](Self::depth) commands.
        fn new(entries: u64, cells: u64) -> Self;
        /// How many commands may be in the ring at once.
        fn depth(entries: u64, cells: u64) -> u64;
        /// Reserve `count` slots. Returns the first.
        fn reserve(&self, count: u64, limits: Limits<'_>) -> Result<u64, Refused>;
        /// Keep the ring for the caller, who reserves from the returned position on; `None` if it is kept already.
        fn keep(&self) -> Option<u64>;
        /// Reserve `count` slots from `start` on, of a ring that the caller keeps and goes on to keep.
        fn reserve_kept(&self, start: u64, count: u64, limits: Limits<'_>) -> bool;
        /// Let others in again, behind what the caller has reserved.
        fn release(&self, next: u64);
        /// The SMMU has left `count` slots.
        fn freed(&self, count: u64);
        /// The next position to be reserved, or one behind it.
        fn next(&self) -> u64;
    }
}

impl Reserve for CompareExchange {}

impl private::Reserve for CompareExchange {
    fn new(_: u64, _: u64) -> Self {
        CompareExchange { next: AtomicU64::new(0) }
    }

    fn depth(entries: u64, _: u64) -> u64 {
        entries
    }

    #[inline]
    fn reserve(&self, count: u64, limits: Limits<'_>) -> Result<u64, Refused> {
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            if next & KEPT != 0 {
                return Err(Refused::Kept);
            }
            let (start, end) = (next / 2, next / 2 + count);
            if !limits.allow(start, end) {
                return Err(Refused::Full);
            }
            // What orders the slots is that the SMMU has left them; the word itself orders nothing.
            match self.next.compare_exchange_weak(
                next,
                end * 2,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(start),
                Err(now) => next = now,
            }
        }
    }

    fn keep(&self) -> Option<u64> {
        let next = self.next.fetch_or(KEPT, Ordering::Relaxed);
        (next & KEPT == 0).then_some(next / 2)
    }

    fn reserve_kept(&self, start: u64, count: u64, limits: Limits<'_>) -> bool {
        let allowed = limits.allow(start, start + count);
        if allowed {
            self.next.store(((start + count) * 2) | KEPT, Ordering::Relaxed);
        }
        allowed
    }

    fn release(&self, next: u64) {
        self.next.store(next * 2, Ordering::Relaxed);
    }

    fn freed(&self, _: u64) {}

    fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed) / 2
    }
}

impl Reserve for FetchAdd {}

impl FetchAdd {
    #[inline]
    fn take_room(&self, count: u64) -> bool {
        let count = count as i64;
        let acquire = order(Barrier::SpaceAcquire, Ordering::Acquire);
        if self.room.fetch_sub(count, acquire) >= count {
            return true;
        }
        self.room.fetch_add(count, Ordering::Relaxed);
        false
    }
}

impl private::Reserve for FetchAdd {
    fn new(entries: u64, cells: u64) -> Self {
        let most = Self::depth(entries, cells) as i64;
        FetchAdd { next: AtomicU64::new(0), room: AtomicI64::new(most) }
    }

    fn depth(entries: u64, cells: u64) -> u64 {
        entries.min(cells)
    }

    #[inline]
    fn reserve(&self, count: u64, _: Limits<'_>) -> Result<u64, Refused> {
        if self.next.load(Ordering::Relaxed) & KEPT != 0 {
            return Err(Refused::Kept);
        }
        if !self.take_room(count) {
            return Err(Refused::Full);
        }
        let next = self.next.fetch_add(count * 2, Ordering::Relaxed);
        if next & KEPT == 0 {
            return Ok(next / 2);
        }
        // What was added to a word with that bit goes when the bit goes.
        self.room.fetch_add(count as i64, Ordering::Relaxed);
        Err(Refused::Kept)
    }

    fn keep(&self) -> Option<u64> {
        let next = self.next.fetch_or(KEPT, Ordering::Relaxed);
        (next & KEPT == 0).then_some(next / 2)
    }

    fn reserve_kept(&self, start: u64, count: u64, _: Limits<'_>) -> bool {
        let allowed = self.take_room(count);
        if allowed {
            self.next.store(((start + count) * 2) | KEPT, Ordering::Relaxed);
        }
        allowed
    }

    fn release(&self, next: u64) {
        self.next.store(next * 2, Ordering::Relaxed);
    }

    fn freed(&self, count: u64) {
        self.room.fetch_add(count as i64, order(Barrier::SpaceRelease, Ordering::Release));
    }

    fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed) / 2
    }
}
