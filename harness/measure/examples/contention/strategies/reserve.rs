//! Our reservations: `smmu-cmdq/src/reserve.rs`, and variations.
//!
//! The bit of an exclusive reservation is left out, except where a variation needs it: it is set
//! only by a batch longer than the ring, or when an SMMU stands still for long.
//!
//! # One fetch-add for position and room
//!
//! [`Reservation::OneWord`] keeps the next position and the room in one word. Why this is sound:
//!
//! 1. One fetch-add takes `count` of the room and adds `count` to the position. So *position +
//!    room* stays the same: it is the position before which slots are free.
//! 2. A caller whose fetch-add returns at least `count` of room owns the slots from the returned
//!    position on.
//! 3. The first caller that finds less knows the true position, because all before it succeeded.
//!    Its fetch-add made the room negative, so every later fetch-add finds less than 0, and fails.
//!    The first caller thus has an exclusive reservation. It waits for room, and stores a new word
//!    behind its own slots. The store removes what the callers that failed have added.
//! 4. Room is added only by a compare-exchange that saw no negative room, or by that store. A
//!    caller that takes the room across a multiple of an eighth of the ring adds it, so that step 3
//!    is rare. An attempt that fails again and again is given up: the next eighth tries anew.
//! 5. The position has 40 bits here. The full one follows from the consumer's, which is at most a
//!    ring behind.
//!
//! It has one cost: an interrupt handler that interrupts the caller of step 3 waits in vain, as it
//! does today for a caller with an exclusive reservation.

use crate::machine::{Core, Machine, Word};
use crate::smmu::{ENTRIES, Ring};

use super::Tries;

/// How slots are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reservation {
    CompareExchange(Retry),
    FetchAdd(Adds),
    OneWord,
}

/// The two fetch-adds: the first takes room, the second the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adds {
    /// `FetchAdd` as it is: a load comes first, and both words are in one line, because the struct
    /// is in one `CacheLine`.
    BehindALook,
    /// Without the load.
    AtOnce,
    /// Without the load, and each word has a line of its own.
    AtOnceInTwoLines,
}

/// What a caller does after a lost compare-exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It stands back, then loads the word anew: `CompareExchange::back_off`.
    StandBack,
    /// It takes the value that the compare-exchange returned.
    Returned,
    /// It stands back for a time in proportion to the attempts lost, then loads the word anew.
    Proportional,
}

/// Spin hints per attempt lost, of [`Retry::Proportional`].
const PAUSES_PER_LOST: u64 = 64;
/// Attempts of [`Reservation::OneWord`] to add room.
const REFILLS: u32 = 64;
const ROOM: u32 = 40;
const POSITION: u64 = (1 << ROOM) - 1;

/// The words of a reservation, and the consumer's position.
#[derive(Debug)]
pub(crate) struct Reserve {
    how: Reservation,
    next: Word,
    free: Word,
    consumer: Word,
}

impl Reserve {
    pub(crate) fn new(machine: &Machine, how: Reservation) -> Reserve {
        let line = machine.line("next");
        let first = if how == Reservation::OneWord { one_word(0, ENTRIES) } else { 0 };
        let free = match how {
            Reservation::FetchAdd(Adds::AtOnceInTwoLines) => machine.line("free"),
            _ => line,
        };
        Reserve {
            how,
            next: machine.word(line, first),
            free: machine.word(free, ENTRIES),
            consumer: machine.word(machine.line("consumer"), 0),
        }
    }

    /// `reserve`; where there is no room, `reserve_slowly` of `produce.rs`, which refreshes the
    /// consumer's position before each further look.
    pub(crate) async fn reserve(
        &self,
        core: &Core,
        ring: &Ring,
        count: u64,
        tries: &mut Tries,
    ) -> u64 {
        loop {
            let start = match self.how {
                Reservation::CompareExchange(retry) => {
                    self.exchange(core, count, retry, tries).await
                }
                Reservation::FetchAdd(adds) => self.add(core, count, adds).await,
                Reservation::OneWord => Some(self.one_word(core, ring, count).await),
            };
            match start {
                Some(start) => return start,
                None => {
                    self.refresh(core, ring).await;
                    core.pause(1).await;
                }
            }
        }
    }

    /// `CompareExchange::reserve`.
    async fn exchange(
        &self,
        core: &Core,
        count: u64,
        retry: Retry,
        tries: &mut Tries,
    ) -> Option<u64> {
        let mut next = core.load(self.next).await;
        let mut lost = 0;
        loop {
            // `CompareExchange::has_room`.
            if next + count > core.load(self.consumer).await + ENTRIES {
                return None;
            }
            tries.tried += 1;
            match core.compare_exchange(self.next, next, next + count).await {
                Ok(start) => {
                    tries.succeeded += 1;
                    return Some(start);
                }
                Err(seen) => {
                    lost += 1;
                    next = match retry {
                        Retry::Returned => seen,
                        Retry::StandBack => {
                            core.pause(4 << lost.min(4)).await;
                            core.load(self.next).await
                        }
                        Retry::Proportional => {
                            core.pause(PAUSES_PER_LOST * lost).await;
                            core.load(self.next).await
                        }
                    };
                }
            }
        }
    }

    /// `FetchAdd::reserve` and `FetchAdd::take_room`.
    async fn add(&self, core: &Core, count: u64, adds: Adds) -> Option<u64> {
        if adds == Adds::BehindALook {
            core.load(self.next).await;
        }
        let free = core.fetch_add(self.free, count.wrapping_neg()).await;
        if (free as i64) < count as i64 {
            core.fetch_add(self.free, count).await;
            return None;
        }
        Some(core.fetch_add(self.next, count).await)
    }

    async fn one_word(&self, core: &Core, ring: &Ring, count: u64) -> u64 {
        loop {
            let before = core.fetch_add(self.next, count.wrapping_sub(count << ROOM)).await;
            let (start, room) = position_and_room(before);
            if room >= count as i64 {
                let eighth = ENTRIES as i64 / 8;
                if room / eighth != (room - count as i64) / eighth {
                    self.refill(core, ring).await;
                }
                return start;
            }
            if room >= 0 {
                // Step 3: this caller has an exclusive reservation.
                loop {
                    let end = self.refresh(core, ring).await + ENTRIES;
                    if start + count <= end {
                        let word = one_word(start + count, end - (start + count));
                        core.swap(self.next, word).await;
                        return start;
                    }
                    core.pause(1).await;
                }
            }
            // A look does not add, so that the room stays within its bits.
            while position_and_room(core.load(self.next).await).1 < count as i64 {
                core.pause(1).await;
            }
        }
    }

    /// Step 4: add the room that the SMMU has freed.
    async fn refill(&self, core: &Core, ring: &Ring) {
        let end = self.refresh(core, ring).await + ENTRIES;
        let mut seen = core.load(self.next).await;
        for _ in 0..REFILLS {
            let (next, room) = position_and_room(seen);
            if room < 0 || next + room as u64 >= end {
                return;
            }
            match core.compare_exchange(self.next, seen, one_word(next, end - next)).await {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// `CommandQueue::refresh` and `move_consumer` of `wait.rs`. Returns the consumer's position.
    pub(crate) async fn refresh(&self, core: &Core, ring: &Ring) -> u64 {
        let before = core.load(self.consumer).await;
        let consumer = ring.read_cons(core).await;
        // `consumed_since` compares it with the next position.
        core.load(self.next).await;
        if consumer == before {
            return consumer;
        }
        match core.compare_exchange(self.consumer, before, consumer).await {
            Ok(_) => {
                if let Reservation::FetchAdd(_) = self.how {
                    core.fetch_add(self.free, consumer - before).await;
                }
                consumer
            }
            Err(now) => now,
        }
    }

    /// The consumer's position, as `is_done` of `wait.rs` looks at it.
    pub(crate) async fn known_consumer(&self, core: &Core) -> u64 {
        core.load(self.consumer).await
    }
}

fn one_word(next: u64, room: u64) -> u64 {
    (next & POSITION).wrapping_add(room << ROOM)
}

/// Position and room of the word. The room has 24 bits with a sign.
fn position_and_room(word: u64) -> (u64, i64) {
    (word & POSITION, word as i64 >> ROOM)
}
