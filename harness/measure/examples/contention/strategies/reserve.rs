//! Our reservation, `smmu-cmdq/src/reserve.rs`, and other ways, which are not built.
//!
//! [`Reservation::OneWord`] is ours. That file says why it is sound. Here the position has 40 bits,
//! and the full one follows from the consumer's, which is at most a ring behind.
//!
//! The bit of an exclusive reservation is left out: it is set only by a batch longer than the ring,
//! or when an SMMU stands still for long.

use crate::machine::{Core, Machine, Word};
use crate::smmu::{ENTRIES, Ring};

use super::Tries;

/// How slots are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reservation {
    CompareExchange(Retry),
    FetchAdd(Adds),
    OneWord(First),
}

/// What a caller of [`Reservation::OneWord`] does first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// A load and a compare-exchange, as ours.
    Exchange,
    /// The fetch-add.
    Add,
}

/// The two fetch-adds: the first takes room, the second the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adds {
    /// A load comes first, and both words are in one line.
    BehindALook,
    /// Without the load.
    AtOnce,
    /// Without the load, and each word has a line of its own.
    AtOnceInTwoLines,
}

/// What a caller does after a lost compare-exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It stands back, then loads the word anew.
    StandBack,
    /// It takes the value that the compare-exchange returned.
    Returned,
    /// It stands back for a time in proportion to the attempts lost, then loads the word anew.
    Proportional,
}

/// Spin hints per attempt lost, of [`Retry::Proportional`].
const PAUSES_PER_LOST: u64 = 64;
/// Attempts to add room: `TRIES`.
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
        let first = if matches!(how, Reservation::OneWord(_)) { one_word(0, ENTRIES) } else { 0 };
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
    /// consumer's position before each further look. Returns the position, and whether the caller
    /// adds room behind its call.
    pub(crate) async fn reserve(
        &self,
        core: &Core,
        ring: &Ring,
        count: u64,
        tries: &mut Tries,
    ) -> (u64, bool) {
        loop {
            let start = match self.how {
                Reservation::CompareExchange(retry) => {
                    self.exchange(core, count, retry, tries).await
                }
                Reservation::FetchAdd(adds) => self.add(core, count, adds).await,
                Reservation::OneWord(first) => {
                    return self.one_word(core, ring, count, first, tries).await;
                }
            };
            match start {
                Some(start) => return (start, false),
                None => {
                    self.refresh(core, ring).await;
                    core.pause(1).await;
                }
            }
        }
    }

    /// A load, then compare-exchanges.
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

    /// The first fetch-add takes room, the second the position.
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

    /// `Reservation::reserve`, and the loop of `reserve_slowly`.
    async fn one_word(
        &self,
        core: &Core,
        ring: &Ring,
        count: u64,
        first: First,
        tries: &mut Tries,
    ) -> (u64, bool) {
        let by = count.wrapping_sub(count << ROOM);
        let reserved = |(start, room): (u64, i64)| {
            let quarter = ENTRIES as i64 / 4;
            (start, (room - 1) / quarter != (room - 1 - count as i64) / quarter)
        };
        loop {
            let mut may_add = true;
            if first == First::Exchange {
                let seen = core.load(self.next).await;
                may_add = position_and_room(seen).1 >= count as i64;
                if may_add {
                    tries.tried += 1;
                    let to = seen.wrapping_add(by);
                    if core.compare_exchange(self.next, seen, to).await.is_ok() {
                        tries.succeeded += 1;
                        return reserved(position_and_room(seen));
                    }
                }
            }
            if may_add {
                let before = core.fetch_add(self.next, by).await;
                let found = position_and_room(before);
                if found.1 >= count as i64 {
                    return reserved(found);
                }
                if found.1 >= 0 {
                    // `Reservation::refused`: this caller has closed the word, and opens it again.
                    core.swap(self.next, before).await;
                }
            }
            loop {
                let consumer = self.refresh(core, ring).await;
                self.add_room_up_to(core, consumer).await;
                // `Reservation::has_room`.
                if position_and_room(core.load(self.next).await).1 >= count as i64 {
                    break;
                }
                core.pause(1).await;
            }
        }
    }

    /// `CommandQueue::add_room`.
    pub(crate) async fn add_room(&self, core: &Core, ring: &Ring) {
        let known = self.known_consumer(core).await;
        let (next, room) = position_and_room(core.load(self.next).await);
        let is_behind = room >= 0 && known + ENTRIES >= next + room as u64 + ENTRIES / 4;
        let consumer = if is_behind { known } else { self.refresh(core, ring).await };
        self.add_room_up_to(core, consumer).await;
    }

    /// `Reservation::add_room`.
    async fn add_room_up_to(&self, core: &Core, consumer: u64) {
        let end = consumer + ENTRIES;
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
