//! Who gets which slots: one atomic operation for each batch, in one of two ways.
//!
//! Both keep one word, the position of the next free slot with a bit beside it. While the bit is set, nobody but
//! the one who set it gets slots: that is how a batch that is longer than the ring stays in one piece, and how a call
//! that has found no room for long enough gets the next that there is. Positions have 63 bits and never wrap.

use core::fmt;

use crate::sync::{AtomicI64, AtomicU64, Barrier, Ordering, order};

/// Set while the ring is kept for one caller.
const EXCLUSIVE: u64 = 1;

/// How [`CommandQueue`](crate::CommandQueue) reserves slots: [`CompareExchange`] or [`FetchAdd`].
pub trait Reserve: private::Reserve + fmt::Debug + Send + Sync {}

/// Slots are reserved by a compare-exchange, which is tried again whenever somebody else was quicker. The default: it touches one
/// cache line where [`FetchAdd`] touches two, and was as quick or quicker with every number of threads.
///
/// Nothing is reserved for which there is no room. Under contention attempts are lost, each a transfer of the cache line,
/// and which caller loses is chance.
#[derive(Debug)]
pub struct CompareExchange {
    next: AtomicU64,
    // Beside the word, since whoever needs the one needs the other.
    depth: u64,
}

/// Slots are reserved by two fetch-adds, which always succeed: one takes room, the other the place.
///
/// Nobody ever tries again because somebody else was quicker. A caller without room gives back what it took, so
/// that others may see the ring fuller than it is for a moment.
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
    Exclusive,
}

pub(crate) mod private {
    use super::{AtomicU64, Refused};

    /// `consumer` is the first position that the SMMU has not carried out.
    pub trait Reserve {
        /// At position 0, for `depth` commands at once.
        fn new(depth: u64) -> Self;
        /// Reserve `count` slots. Returns the first.
        fn reserve(&self, count: u64, consumer: &AtomicU64) -> Result<u64, Refused>;
        /// Keep the ring for the caller, who reserves from the returned position on; `None` if it is kept already.
        fn begin_exclusive(&self) -> Option<u64>;
        /// Reserve `count` slots from `start` on, of a ring that the caller keeps and goes on to keep.
        fn reserve_exclusive(&self, start: u64, count: u64, consumer: &AtomicU64) -> bool;
        /// Let others in again, behind what the caller has reserved.
        fn end_exclusive(&self, next: u64);
        /// The SMMU has left `count` slots.
        fn freed(&self, count: u64);
        /// The next position to be reserved, or one behind it.
        fn next(&self) -> u64;
    }
}

fn set_exclusive(next: &AtomicU64, order: Ordering) -> Option<u64> {
    let next = next.fetch_or(EXCLUSIVE, order);
    (next & EXCLUSIVE == 0).then_some(next / 2)
}

impl Reserve for CompareExchange {}

impl CompareExchange {
    #[inline]
    fn allows(&self, end: u64, consumer: &AtomicU64) -> bool {
        let consumer = consumer.load(order(Barrier::ConsumerAcquire, Ordering::Acquire));
        // Whoever comes late with an old `end` may find the consumer beyond it. Then nothing comes of it.
        end <= consumer + self.depth
    }

    /// Somebody else was quicker, and keeps the cache lines for a moment if it is left alone.
    #[cold]
    fn back_off(&self, lost: u32) -> u64 {
        for _ in 0..(4u32 << lost.min(4)) {
            core::hint::spin_loop();
        }
        self.next.load(Ordering::Relaxed)
    }
}

impl private::Reserve for CompareExchange {
    fn new(depth: u64) -> Self {
        CompareExchange { next: AtomicU64::new(0), depth }
    }

    #[inline]
    fn reserve(&self, count: u64, consumer: &AtomicU64) -> Result<u64, Refused> {
        let mut next = self.next.load(Ordering::Relaxed);
        let mut lost = 0;
        loop {
            if next & EXCLUSIVE != 0 {
                return Err(Refused::Exclusive);
            }
            let start = next / 2;
            if !self.allows(start + count, consumer) {
                return Err(Refused::Full);
            }
            // What orders the slots is that the SMMU has left them; the word itself orders nothing.
            let order = Ordering::Relaxed;
            match self.next.compare_exchange_weak(next, next + count * 2, order, order) {
                Ok(_) => return Ok(start),
                Err(_) => {
                    lost += 1;
                    next = self.back_off(lost);
                }
            }
        }
    }

    fn begin_exclusive(&self) -> Option<u64> {
        set_exclusive(&self.next, Ordering::Relaxed)
    }

    fn reserve_exclusive(&self, start: u64, count: u64, consumer: &AtomicU64) -> bool {
        let allowed = self.allows(start + count, consumer);
        if allowed {
            self.next.swap(((start + count) * 2) | EXCLUSIVE, Ordering::Relaxed);
        }
        allowed
    }

    fn end_exclusive(&self, next: u64) {
        self.next.swap(next * 2, Ordering::Relaxed);
    }

    fn freed(&self, _: u64) {}

    fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed) / 2
    }
}

impl Reserve for FetchAdd {}

/// Whoever took room first may get the later place, which the SMMU may have left only since: the one with the earlier place
/// knows of it, and passes it on.
#[inline]
fn placed() -> Ordering {
    order(Barrier::NextAcqRel, Ordering::AcqRel)
}

impl FetchAdd {
    #[inline]
    fn take_room(&self, count: u64) -> bool {
        let count = count as i64;
        let acquire = order(Barrier::FreeAcquire, Ordering::Acquire);
        if self.room.fetch_sub(count, acquire) >= count {
            return true;
        }
        self.room.fetch_add(count, Ordering::Relaxed);
        false
    }
}

impl private::Reserve for FetchAdd {
    fn new(depth: u64) -> Self {
        FetchAdd { next: AtomicU64::new(0), room: AtomicI64::new(depth as i64) }
    }

    #[inline]
    fn reserve(&self, count: u64, _: &AtomicU64) -> Result<u64, Refused> {
        if self.next.load(Ordering::Relaxed) & EXCLUSIVE != 0 {
            return Err(Refused::Exclusive);
        }
        if !self.take_room(count) {
            return Err(Refused::Full);
        }
        let next = self.next.fetch_add(count * 2, placed());
        if next & EXCLUSIVE == 0 {
            return Ok(next / 2);
        }
        // What was added to a word with that bit goes when the bit goes.
        self.room.fetch_add(count as i64, Ordering::Relaxed);
        Err(Refused::Exclusive)
    }

    fn begin_exclusive(&self) -> Option<u64> {
        set_exclusive(&self.next, placed())
    }

    fn reserve_exclusive(&self, start: u64, count: u64, _: &AtomicU64) -> bool {
        let allowed = self.take_room(count);
        if allowed {
            self.next.swap(((start + count) * 2) | EXCLUSIVE, placed());
        }
        allowed
    }

    fn end_exclusive(&self, next: u64) {
        self.next.swap(next * 2, placed());
    }

    fn freed(&self, count: u64) {
        self.room.fetch_add(count as i64, order(Barrier::FreeRelease, Ordering::Release));
    }

    fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed) / 2
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{AtomicU64, FetchAdd, Ordering, private::Reserve};
    use crate::fake::{Consumer, Pace};
    use crate::sync::AtomicBool;
    use crate::{CommandQueue, QueueConfig};
    use smmu_types::fake::heap_pool;
    use smmu_types::queue::QueueSize;
    use smmu_types::seam::{CountingWait, DmaMemory, SinkError};
    use smmu_types::{Command, RawCommand, SmmuId};

    /// Whoever finds the ring kept at the last moment gives back what it took.
    #[test]
    fn neither_room_nor_places_are_lost_to_callers_that_come_too_late() {
        const KEEPS: u32 = 100_000;
        let (reserve, consumer) = (FetchAdd::new(4), AtomicU64::new(0));
        let is_over = AtomicBool::new(false);
        let reserved = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let mut reserved = 0;
                while !is_over.load(Ordering::Relaxed) {
                    if let Ok(start) = reserve.reserve(2, &consumer) {
                        assert_eq!(start, reserved, "places are given away in order");
                        reserved += 2;
                        reserve.freed(2);
                    }
                }
                reserved
            });
            for _ in 0..KEEPS {
                let next = reserve.begin_exclusive().unwrap();
                reserve.end_exclusive(next);
            }
            is_over.store(true, Ordering::Relaxed);
            other.join().unwrap()
        });
        assert_eq!(reserve.room.into_inner(), 4);
        assert_eq!(reserve.next.into_inner(), reserved * 2);
    }

    /// The next position may read too high for a while, where somebody has just found the ring kept.
    #[test]
    fn pushed_commands_begin_no_later_than_where_they_lie() {
        let size = QueueSize::from_log2(4).unwrap();
        let pool = heap_pool(0x1000);
        let device = Consumer::new(pool.window(), Pace::OnWrite);
        let block = pool.allocate(crate::layout(size, crate::SyncBy::Polling)).unwrap();
        let (wait, config) = (CountingWait::new(), QueueConfig::default());
        let queue: CommandQueue<_, _, _, FetchAdd> =
            CommandQueue::reserving(SmmuId(0), &device, block, size, wait, config).unwrap();
        device.enable(queue.base(), size);

        let bad = Command::Unknown(RawCommand([0xff, 0]));
        for extend in [false, true] {
            let next = queue.reserve.begin_exclusive().unwrap();
            queue.reserve.next.fetch_add(6 * 2, Ordering::Relaxed);
            let pushed = queue.push(None, &[]).unwrap();
            queue.reserve.end_exclusive(next);
            let (pushed, last) = match extend {
                true => (queue.push(Some(pushed), &[bad]).unwrap(), None),
                false => (pushed, Some(bad)),
            };
            let ticket = queue.prove(pushed, last.as_slice()).unwrap();
            assert!(matches!(queue.wait(ticket), Err(SinkError::Command { .. })));
        }
    }
}
