//! Reservation of slots: one atomic operation per batch, by one of two strategies.
//!
//! Both strategies keep one word: the position of the next free slot, with a bit beside it. The bit
//! marks an *exclusive reservation*. While it is set, only the caller that set it gets slots. Two
//! kinds of callers need that: a batch longer than the ring, which must stay in one piece, and a
//! caller that has found no room for long. Positions have 62 bits and never wrap.
//!
//! # Which strategy
//!
//! [`CompareExchange`] is the default, for up to about 10 CPUs that push to one queue at once.
//! Beyond that use [`FetchAdd`], or several queues.
//!
//! Either has one cache line. `CompareExchange` accesses it by a load and a compare-exchange, and
//! repeats both if another caller wins. `FetchAdd` accesses it by a load and two fetch-adds, and
//! repeats none. So the number of callers decides, and the cost of a line:
//!
//! - Two threads without a pause, measured: with batches of one command, `FetchAdd` has 0.7 times
//!   the speed of `CompareExchange` where a line moves from core to core in 34 ns, and 1.0 to 1.3
//!   times its speed where that takes 160 ns. With batches of 16 commands, it has 0.9 to 1.0 times
//!   its speed.
//! - Many cores, simulated: both are level up to 8 cores. `FetchAdd` makes 3.5 times as many pushes
//!   on 16 cores and 20 times as many on 64, where a compare-exchange succeeds in 4 of 100 attempts.
//!
//! The README has the tables, their assumptions, and the commands that make them.

use core::fmt;

use crate::prod_owner::CellTable;
use crate::sync::{AtomicI64, AtomicU64, Barrier, Ordering, order};

/// Set while a caller has an exclusive reservation.
const EXCLUSIVE: u64 = 1;

/// How a [`CommandQueue`](crate::CommandQueue) reserves slots, and how many commands it can have in
/// flight: [`CompareExchange`] or [`FetchAdd`].
pub trait Reserve: private::Strategy + fmt::Debug + Send + Sync {}

/// Reserves slots by a compare-exchange, which repeats when another caller was faster. The default.
///
/// It reserves only what has room. Under contention an attempt may be lost; each one transfers the
/// cache line twice, for a load and for the compare-exchange. Chance decides which caller loses.
///
/// `CELLS`, a power of two, is the number of commands that can be in flight at once. Each costs 8
/// bytes.
#[derive(Debug)]
pub struct CompareExchange<const CELLS: usize = 1024> {
    next: AtomicU64,
    // In the same cache line, since each reservation reads both.
    depth: u64,
}

/// Reserves slots by two fetch-adds: the first takes room, the second the position.
///
/// A caller never repeats because another was faster. Both words are in one cache line. A caller
/// that finds no room returns what it took; until then, others may find less room than there is.
///
/// `CELLS`, a power of two, is the number of commands that can be in flight at once. Each costs 8
/// bytes.
#[derive(Debug)]
pub struct FetchAdd<const CELLS: usize = 1024> {
    next: AtomicU64,
    // Free slots. Below 0 while callers return what they took in vain.
    free: AtomicI64,
}

/// Why no slots were reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The ring has no room for the batch.
    Full,
    /// Another caller has an exclusive reservation.
    Exclusive,
}

pub(crate) mod private {
    use super::{AtomicU64, CellTable, Refused};

    /// In all methods, `consumer` is the first position that the SMMU has not consumed.
    pub trait Strategy {
        /// The cells in which the owner of `CMDQ_PROD` finds committed batches.
        type Cells: CellTable;
        /// Start at position 0, with at most `depth` commands in flight.
        fn new(depth: u64) -> Self;
        /// Reserve `count` slots. Returns the first.
        fn reserve(&self, count: u64, consumer: &AtomicU64) -> Result<u64, Refused>;
        /// Begin an exclusive reservation. Returns its first position; `None` if another caller has
        /// one.
        fn begin_exclusive(&self) -> Option<u64>;
        /// Reserve `count` slots from `start` on, inside the caller's exclusive reservation.
        fn reserve_exclusive(&self, start: u64, count: u64, consumer: &AtomicU64) -> bool;
        /// End the exclusive reservation. Other callers reserve from `next` on.
        fn end_exclusive(&self, next: u64);
        /// The SMMU has consumed `count` commands.
        fn freed(&self, count: u64);
        /// The next position to be reserved. May be too high for a moment, never too low.
        fn next(&self) -> u64;
    }
}

fn set_exclusive(next: &AtomicU64, order: Ordering) -> Option<u64> {
    let next = next.fetch_or(EXCLUSIVE, order);
    (next & EXCLUSIVE == 0).then_some(next / 2)
}

impl<const CELLS: usize> Reserve for CompareExchange<CELLS> {}

impl<const CELLS: usize> CompareExchange<CELLS> {
    #[inline]
    fn has_room(&self, end: u64, consumer: &AtomicU64) -> bool {
        let consumer = consumer.load(order(Barrier::ConsumerAcquire, Ordering::Acquire));
        // With a stale `end` the consumer may be beyond it. The compare-exchange then fails.
        end <= consumer + self.depth
    }

    /// After a lost attempt: leave the cache line to the caller that was faster, for a moment.
    #[cold]
    fn back_off(&self, lost: u32) -> u64 {
        for _ in 0..(4u32 << lost.min(4)) {
            core::hint::spin_loop();
        }
        self.next.load(Ordering::Relaxed)
    }
}

impl<const CELLS: usize> private::Strategy for CompareExchange<CELLS> {
    type Cells = [AtomicU64; CELLS];

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
            if !self.has_room(start + count, consumer) {
                return Err(Refused::Full);
            }
            // Relaxed: the consumer's position orders the slots, the word orders nothing.
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
        let has_room = self.has_room(start + count, consumer);
        if has_room {
            self.next.swap(((start + count) * 2) | EXCLUSIVE, Ordering::Relaxed);
        }
        has_room
    }

    fn end_exclusive(&self, next: u64) {
        // Not a store: under the model checker only read-modify-writes of a word have one order.
        self.next.swap(next * 2, Ordering::Relaxed);
    }

    fn freed(&self, _: u64) {}

    fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed) / 2
    }
}

impl<const CELLS: usize> Reserve for FetchAdd<CELLS> {}

/// The order of each access to `next` that passes slots on.
///
/// Of two callers, the first to take room may get the later position, which the SMMU has freed only
/// since. The caller with the earlier position has acquired that and passes it on.
#[inline]
fn next_order() -> Ordering {
    order(Barrier::NextAcqRel, Ordering::AcqRel)
}

impl<const CELLS: usize> FetchAdd<CELLS> {
    #[inline]
    fn take_room(&self, count: u64) -> bool {
        let count = count as i64;
        let acquire = order(Barrier::FreeAcquire, Ordering::Acquire);
        if self.free.fetch_sub(count, acquire) >= count {
            return true;
        }
        self.free.fetch_add(count, Ordering::Relaxed);
        false
    }
}

impl<const CELLS: usize> private::Strategy for FetchAdd<CELLS> {
    type Cells = [AtomicU64; CELLS];

    fn new(depth: u64) -> Self {
        FetchAdd { next: AtomicU64::new(0), free: AtomicI64::new(depth as i64) }
    }

    #[inline]
    fn reserve(&self, count: u64, _: &AtomicU64) -> Result<u64, Refused> {
        if self.next.load(Ordering::Relaxed) & EXCLUSIVE != 0 {
            return Err(Refused::Exclusive);
        }
        if !self.take_room(count) {
            return Err(Refused::Full);
        }
        let next = self.next.fetch_add(count * 2, next_order());
        if next & EXCLUSIVE == 0 {
            return Ok(next / 2);
        }
        // `end_exclusive` overwrites what was added to a word with the bit set.
        self.free.fetch_add(count as i64, Ordering::Relaxed);
        Err(Refused::Exclusive)
    }

    fn begin_exclusive(&self) -> Option<u64> {
        set_exclusive(&self.next, next_order())
    }

    fn reserve_exclusive(&self, start: u64, count: u64, _: &AtomicU64) -> bool {
        let has_room = self.take_room(count);
        if has_room {
            self.next.swap(((start + count) * 2) | EXCLUSIVE, next_order());
        }
        has_room
    }

    fn end_exclusive(&self, next: u64) {
        self.next.swap(next * 2, next_order());
    }

    fn freed(&self, count: u64) {
        self.free.fetch_add(count as i64, order(Barrier::FreeRelease, Ordering::Release));
    }

    fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed) / 2
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{AtomicU64, CompareExchange, FetchAdd, Ordering, private::Strategy};
    use crate::fake::{Consumer, Pace};
    use crate::queue::CacheLine;
    use crate::sync::AtomicBool;
    use crate::{CommandQueue, QueueConfig};
    use smmu_types::fake::heap_pool;
    use smmu_types::queue::QueueSize;
    use smmu_types::seam::{CountingWait, DmaMemory, SinkError};
    use smmu_types::{Command, RawCommand, SmmuId};

    /// A caller that meets the bit only at its second fetch-add returns the room that it took.
    #[test]
    fn a_refused_fetch_add_loses_neither_room_nor_positions() {
        const EXCLUSIVES: u32 = 100_000;
        let (reserve, consumer) = (FetchAdd::<4>::new(4), AtomicU64::new(0));
        let is_over = AtomicBool::new(false);
        let reserved = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let mut reserved = 0;
                while !is_over.load(Ordering::Relaxed) {
                    if let Ok(start) = reserve.reserve(2, &consumer) {
                        assert_eq!(start, reserved, "positions are given out in order");
                        reserved += 2;
                        reserve.freed(2);
                    }
                }
                reserved
            });
            for _ in 0..EXCLUSIVES {
                let next = reserve.begin_exclusive().unwrap();
                reserve.end_exclusive(next);
            }
            is_over.store(true, Ordering::Relaxed);
            other.join().unwrap()
        });
        assert_eq!(reserve.free.into_inner(), 4);
        assert_eq!(reserve.next.into_inner(), reserved * 2);
    }

    #[test]
    fn each_reservation_has_one_cache_line() {
        assert_eq!(size_of::<CacheLine<CompareExchange>>(), 64);
        assert_eq!(size_of::<CacheLine<FetchAdd>>(), 64);
    }

    /// `next` reads too high while a refused caller's addition stands in it.
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
