//! Reservation of slots: one addition takes position and room together.
//!
//! One word holds three numbers: the low bits of the *position* of the next free slot, the *room*,
//! which is the number of free slots from there on, and a bit beside them.
//!
//! 1. An addition moves `count` from the room to the position. So their sum, the *limit*, stays: it
//!    is the position before which slots are free. A caller first tries a compare-exchange of a word
//!    that it loaded. If another caller was faster, it adds by a fetch-add, which cannot fail.
//! 2. A caller that finds at least `count` of room owns the slots from the found position on.
//! 3. A fetch-add may find less. The first such caller, which finds no less than 0, knows the true
//!    position, because all
//!    before it succeeded. Its addition makes the room negative: the word is *closed*. Every later
//!    caller is refused, and so is everything else that changes the word. The first caller swaps
//!    back what it found, which also removes what the refused callers added.
//! 4. Room is added by a compare-exchange that saw an open word. A caller that takes the room across
//!    a multiple of a quarter of the ring adds it behind its call, so that step 3 is rare.
//! 5. The bit marks an *exclusive reservation*. While it is set, only the caller that set it gets
//!    slots, and swaps in each new word. Two kinds of callers need that: a batch longer than the
//!    ring, which must stay in one piece, and a caller that has found no room for long.
//! 6. A refused caller whose addition leaves the room far below 0 sets the bit as well, if the word
//!    is still closed. Then the room may have any value, and the swap of step 3 clears the bit.
//!
//! So a caller accesses one cache line at most three times, however many others there are. A caller
//! that is alone accesses it by the load and the compare-exchange, of which the CPU needs no result
//! to go on: a fetch-add alone takes half as much time again there. The README has what that gives on
//! two threads, measured, and on up to 128 cores, simulated.
//!
//! Positions have 62 bits and never wrap. The word holds 36 of them. The full position is the one
//! nearest to a limit that a caller remembered.

use crate::sync::{AtomicU64, Barrier, Ordering, order};

/// Set while a caller has an exclusive reservation, or by step 6.
const EXCLUSIVE: u64 = 1;
/// The first bit of the position. The room lies between it and [`EXCLUSIVE`].
const POSITION: u32 = 28;
/// What is added to the room, so that its bits also hold numbers below 0. Less 1, so that the upper
/// bits of the sum do not change when a full ring gives its first slot.
const BIAS: u64 = (1 << (POSITION - 2)) - 1;
/// Attempts to add room. The caller that crosses the next quarter tries anew.
const TRIES: u32 = 64;

#[inline]
const fn word(position: u64, room: u64) -> u64 {
    (position << POSITION) | ((room + BIAS) << 1)
}

#[inline]
const fn room_in(word: u64) -> i64 {
    (((word & ((1 << POSITION) - 1)) >> 1) as i64) - BIAS as i64
}

#[inline]
const fn is_exclusive(word: u64) -> bool {
    word & EXCLUSIVE != 0
}

/// Neither closed nor exclusive.
#[inline]
const fn is_open(word: u64) -> bool {
    !is_exclusive(word) && room_in(word) >= 0
}

#[inline]
const fn has_room(word: u64, count: u64) -> bool {
    !is_exclusive(word) && room_in(word) >= count as i64
}

/// Slots that a caller owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// The first.
    pub(crate) start: u64,
    /// Whether the caller should add room behind its call.
    pub(crate) low: bool,
}

/// The word; see the module.
#[derive(Debug)]
pub(crate) struct Reservation {
    word: AtomicU64,
    /// About the limit, with all its bits.
    limit: AtomicU64,
    // In the same cache line, since each reservation reads it.
    depth: u64,
    /// log2 of a quarter of the ring.
    part: u32,
    /// The bits of the word that change when the room falls below a quarter of the ring, or two or
    /// three.
    quarters: u64,
}

impl Reservation {
    /// Start at position 0, with at most `depth` commands in flight.
    pub(crate) fn new(depth: u64) -> Self {
        let part = depth.ilog2().saturating_sub(2);
        Reservation {
            word: AtomicU64::new(word(0, depth)),
            limit: AtomicU64::new(depth),
            depth,
            part,
            quarters: (1 << POSITION) - (2 << part),
        }
    }

    /// The full position of a word: the one nearest to a known limit.
    #[inline]
    fn position(&self, word: u64) -> u64 {
        // Relaxed: it only tells laps of 2^36 positions apart.
        let known = self.limit.load(Ordering::Relaxed);
        let ahead = (word.wrapping_sub(known << POSITION) as i64) >> POSITION;
        known.wrapping_add_signed(ahead)
    }

    /// Reserve `count` slots. `None`: too little room, or the word is closed or exclusive.
    #[inline]
    pub(crate) fn reserve(&self, count: u64) -> Option<Reserved> {
        let by = (count << POSITION) - (count << 1);
        let seen = self.word.load(Ordering::Relaxed);
        if !has_room(seen, count) {
            return None;
        }
        let acquire = order(Barrier::RoomAcquire, Ordering::Acquire);
        let to = seen.wrapping_add(by);
        match self.word.compare_exchange(seen, to, acquire, Ordering::Relaxed) {
            Ok(_) => Some(self.reserved(seen, by)),
            Err(_) => self.reserve_by_addition(count, by),
        }
    }

    /// Steps 2 and 3.
    #[inline(never)]
    fn reserve_by_addition(&self, count: u64, by: u64) -> Option<Reserved> {
        let seen = self.word.fetch_add(by, order(Barrier::RoomAcquire, Ordering::Acquire));
        if has_room(seen, count) {
            return Some(self.reserved(seen, by));
        }
        self.refused(seen);
        None
    }

    #[inline]
    fn reserved(&self, seen: u64, by: u64) -> Reserved {
        let low = (seen ^ seen.wrapping_add(by)) & self.quarters != 0;
        Reserved { start: self.position(seen), low }
    }

    /// Steps 3 and 6.
    #[cold]
    fn refused(&self, seen: u64) {
        if is_open(seen) {
            // Relaxed: a read-modify-write, so whoever acquires it acquires what came before.
            self.word.swap(word(self.position(seen), room_in(seen) as u64), Ordering::Relaxed);
        } else if room_in(seen) < -(BIAS as i64) / 2 {
            let mut now = self.word.load(Ordering::Relaxed);
            while !is_exclusive(now) && room_in(now) < 0 {
                let relaxed = Ordering::Relaxed;
                match self.word.compare_exchange_weak(now, now | EXCLUSIVE, relaxed, relaxed) {
                    Ok(_) => break,
                    Err(other) => now = other,
                }
            }
        }
    }

    /// Whether [`reserve`](Self::reserve) would succeed at this moment. It writes nothing.
    pub(crate) fn has_room(&self, count: u64) -> bool {
        has_room(self.word.load(Ordering::Relaxed), count)
    }

    /// Whether `consumer` stands for at least a quarter of the ring more room.
    pub(crate) fn is_behind(&self, consumer: u64) -> bool {
        consumer + self.depth >= self.limit.load(Ordering::Relaxed) + (1 << self.part)
    }

    /// Whether less than a quarter of the ring is free, as far as the word knows.
    pub(crate) fn is_short(&self) -> bool {
        !self.has_room(1 << self.part)
    }

    /// Add the room that `consumer`, a position of the consumer, allows. The caller has acquired the
    /// position.
    pub(crate) fn add_room(&self, consumer: u64) {
        let limit = consumer + self.depth;
        let mut seen = self.word.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            let position = self.position(seen);
            if !is_open(seen) || position + room_in(seen) as u64 >= limit {
                return;
            }
            let release = order(Barrier::RoomRelease, Ordering::Release);
            let to = word(position, limit - position);
            match self.word.compare_exchange_weak(seen, to, release, Ordering::Relaxed) {
                Ok(_) => {
                    self.limit.fetch_max(limit, Ordering::Relaxed);
                    return;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Begin an exclusive reservation. Returns its first position; `None` if another caller has
    /// one, or if the word is closed.
    pub(crate) fn begin_exclusive(&self) -> Option<u64> {
        // The swap that opens a closed word clears the bit.
        let acquire = order(Barrier::RoomAcquire, Ordering::Acquire);
        let seen = self.word.fetch_or(EXCLUSIVE, acquire);
        is_open(seen).then(|| self.position(seen))
    }

    /// Reserve `count` slots from `start` on, inside the caller's exclusive reservation. The caller
    /// has acquired `consumer`.
    pub(crate) fn reserve_exclusive(&self, start: u64, count: u64, consumer: u64) -> bool {
        let limit = consumer + self.depth;
        let has_room = start + count <= limit;
        if has_room {
            self.limit.fetch_max(limit, Ordering::Relaxed);
            self.word.swap(word(start + count, 0) | EXCLUSIVE, Ordering::Relaxed);
        }
        has_room
    }

    /// End the exclusive reservation. Other callers reserve from `next` on. The caller has acquired
    /// `consumer`.
    pub(crate) fn end_exclusive(&self, next: u64, consumer: u64) {
        let room = (consumer + self.depth).saturating_sub(next);
        // Not a store: under the model checker only read-modify-writes of a word have one order.
        self.word.swap(word(next, room), order(Barrier::RoomRelease, Ordering::Release));
    }

    /// The next position to be reserved. May be too high for a moment, never too low.
    pub(crate) fn next(&self) -> u64 {
        self.position(self.word.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{
        BIAS, EXCLUSIVE, Ordering, POSITION, Reservation, Reserved, is_open, room_in, word,
    };
    use crate::fake::{Consumer, Pace};
    use crate::queue::CacheLine;
    use crate::sync::AtomicBool;
    use crate::{CommandQueue, QueueConfig};
    use smmu_types::fake::heap_pool;
    use smmu_types::queue::QueueSize;
    use smmu_types::seam::{CountingWait, DmaMemory, SinkError};
    use smmu_types::{Command, RawCommand, SmmuId};

    fn seen(reserve: &Reservation) -> u64 {
        reserve.word.load(Ordering::Relaxed)
    }

    /// What a caller does between its fetch-add and the swap with which it opens the word again.
    fn closed(reserve: &Reservation, count: u64) -> u64 {
        let by = (count << POSITION) - (count << 1);
        reserve.word.fetch_add(by, Ordering::Relaxed)
    }

    /// A caller whose compare-exchange another caller was faster than.
    fn second_try(reserve: &Reservation, count: u64) -> Option<Reserved> {
        reserve.reserve_by_addition(count, (count << POSITION) - (count << 1))
    }

    #[test]
    fn a_refused_caller_leaves_the_word_as_it_was() {
        let reserve = Reservation::new(16);
        assert_eq!(reserve.reserve(10), Some(Reserved { start: 0, low: true }));
        let before = seen(&reserve);
        for count in [7, 16] {
            assert_eq!(reserve.reserve(count), None);
            assert_eq!(second_try(&reserve, count), None);
            assert_eq!(seen(&reserve), before);
        }
        assert_eq!(reserve.reserve(1).map(|reserved| reserved.start), Some(10));
        assert_eq!(second_try(&reserve, 5).map(|reserved| reserved.start), Some(11));
    }

    /// Refused callers add to a closed word. The swap of the first one removes what they added.
    #[test]
    fn nothing_else_changes_a_closed_word() {
        let reserve = Reservation::new(16);
        let _ = reserve.reserve(10);
        let first = closed(&reserve, 7);
        assert_eq!(reserve.reserve(1), None);
        reserve.add_room(16);
        assert!(!reserve.has_room(1));
        assert_eq!(reserve.begin_exclusive(), None);
        assert_eq!(second_try(&reserve, 2), None);
        reserve.refused(first);
        assert_eq!(seen(&reserve), word(10, 6));
    }

    /// The room of a closed word never wraps to a positive number, however many are refused.
    #[test]
    fn a_closed_word_stays_closed_under_any_number_of_callers() {
        let reserve = Reservation::new(1 << 19);
        let _ = reserve.reserve(10);
        let first = closed(&reserve, 1 << 19);
        for _ in 0..(4 * BIAS) >> 19 {
            assert_eq!(second_try(&reserve, 1 << 19), None);
        }
        assert_eq!(seen(&reserve) & EXCLUSIVE, EXCLUSIVE);
        reserve.refused(first);
        assert!(is_open(seen(&reserve)));
        assert_eq!((reserve.next(), room_in(seen(&reserve))), (10, (1 << 19) - 10));
    }

    /// Positions far beyond the 36 bits of the word, in steps of any length.
    #[test]
    fn the_full_position_follows_from_the_limit() {
        let reserve = Reservation::new(1 << 19);
        let (mut next, last) = (0, 3 << 36);
        while next < last {
            let position = reserve.begin_exclusive().unwrap();
            assert_eq!(position, next);
            next += (1 << 34) + 12_345;
            reserve.limit.store(next, Ordering::Relaxed);
            reserve.end_exclusive(next, next);
            assert_eq!(reserve.reserve(7).map(|reserved| reserved.start), Some(next));
            next += 7;
            assert_eq!(reserve.next(), next);
        }
    }

    /// One caller reserves while another takes exclusive reservations, closes the word and opens it.
    #[test]
    fn positions_are_given_out_once_and_in_order() {
        const ROUNDS: u32 = 100_000;
        let reserve = Reservation::new(4);
        let is_over = AtomicBool::new(false);
        let reserved = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let mut reserved = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let reserved_now = match reserved % 4 {
                        0 => reserve.reserve(2),
                        _ => second_try(&reserve, 2),
                    };
                    if let Some(Reserved { start, .. }) = reserved_now {
                        assert_eq!(start, reserved);
                        reserved += 2;
                    }
                    reserve.add_room(reserved);
                }
                reserved
            });
            for round in 0..ROUNDS {
                match round % 2 {
                    0 => assert_eq!(second_try(&reserve, 5), None),
                    // The limit stays: the room is that of the word.
                    _ => {
                        if let Some(next) = reserve.begin_exclusive() {
                            let room = reserve.limit.load(Ordering::Relaxed) - 4;
                            reserve.end_exclusive(next, room);
                        }
                    }
                }
            }
            is_over.store(true, Ordering::Relaxed);
            other.join().unwrap()
        });
        assert_eq!(reserve.next(), reserved);
    }

    #[test]
    fn a_reservation_has_one_cache_line() {
        assert_eq!(size_of::<CacheLine<Reservation>>(), 64);
    }

    /// `next` reads too high while a refused caller's addition stands in it.
    #[test]
    fn pushed_commands_begin_no_later_than_where_they_lie() {
        let size = QueueSize::from_log2(4).unwrap();
        let pool = heap_pool(0x1000);
        let device = Consumer::new(pool.window(), Pace::OnWrite);
        let block = pool.allocate(crate::layout(size, crate::SyncBy::Polling)).unwrap();
        let (wait, config) = (CountingWait::new(), QueueConfig::default());
        let queue: CommandQueue<_, _, _> =
            CommandQueue::new(SmmuId(0), &device, block, size, wait, config).unwrap();
        device.enable(queue.base(), size);

        let bad = Command::Unknown(RawCommand([0xff, 0]));
        for extend in [false, true] {
            let next = queue.reserve.begin_exclusive().unwrap();
            let _ = closed(&queue.reserve, 6);
            let pushed = queue.push(None, &[]).unwrap();
            let consumer = queue.consumer.load(Ordering::Relaxed);
            queue.reserve.end_exclusive(next, consumer);
            let (pushed, last) = match extend {
                true => (queue.push(Some(pushed), &[bad]).unwrap(), None),
                false => (pushed, Some(bad)),
            };
            let ticket = queue.prove(pushed, last.as_slice()).unwrap();
            assert!(matches!(queue.wait(ticket), Err(SinkError::Command { .. })));
        }
    }
}
