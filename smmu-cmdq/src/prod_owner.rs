//! Batches are told to the SMMU in order, without anybody waiting for anybody.
//!
//! Slots are filled by many at once and in any order, but `CMDQ_PROD` moves over them in order, and only one may write it
//! at a time. Whose turn that is lies in a table of cells, one for each position at which a batch may begin (they
//! are used in turn, as the ring's slots are). A cell holds
//!
//! - `turn(p)`: all before `p` is told; whoever fills the batch at `p` has the turn; or
//! - `filled(e)`: the batch at this place, up to `e`, is filled, and its filler has left; or
//! - something older, from another lap.
//!
//! One with a filled batch `p..e` looks for `turn(p)` in the cell of `p`. If it is not there, it exchanges the
//! cell for `filled(e)` and leaves; the exchange tells whether `turn(p)` came at the last moment. One who
//! has the turn goes on from cell to cell as long as they are filled, writes `CMDQ_PROD`, and leaves `turn(e)` in the first
//! cell that is not, by a compare-exchange that fails if it has just been filled. So exactly one of the two who meet at a
//! cell goes on: the turn is never lost and never doubled. A filler that is held up, holds up the commands behind its own,
//! which no order can avoid, but not their callers.
//!
//! Somebody who has the turn while others add batches as fast as it tells of them could be kept for long. After
//! [`ROUNDS`] writes of `CMDQ_PROD` it asks to be relieved: whoever fills a batch then waits for a moment, with
//! `waiting(e)` in the cell, to be given the turn.

use core::array;

use crate::sync::{AtomicBool, AtomicU64, Barrier, Ordering, order};

/// Writes of `CMDQ_PROD` by one caller before it asks to be relieved.
#[cfg(not(loom))]
const ROUNDS: u32 = 4;
#[cfg(loom)]
const ROUNDS: u32 = 1;
/// How often one who may be given the turn looks for it.
#[cfg(not(loom))]
const LOOKS: u32 = 200;
#[cfg(loom)]
const LOOKS: u32 = 1;

const FILLED: u64 = 0;
const TURN: u64 = 1;
const WAITING: u64 = 2;
const KIND: u64 = 3;

/// Tells of filled batches; see the module.
#[derive(Debug)]
pub(crate) struct Turns<const CELLS: usize> {
    cells: [AtomicU64; CELLS],
    relief: AtomicBool,
}

/// How the turn is taken from the cell of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taking {
    /// By finding it there, so that it stays there.
    ByLook,
    /// By an exchange, so that it is gone for [`Turns::again`].
    ByExchange,
}

impl<const CELLS: usize> Turns<CELLS> {
    pub(crate) fn new() -> Self {
        const { assert!(CELLS.is_power_of_two() && CELLS > 1, "CELLS is a power of two from 2 on") };
        // Position 0 has the turn. The other cells are older than anything: a batch cannot end at 0.
        let cells = array::from_fn(|at| AtomicU64::new(if at == 0 { cell(0, TURN) } else { 0 }));
        Turns { cells, relief: AtomicBool::new(false) }
    }

    #[inline]
    fn cell(&self, position: u64) -> &AtomicU64 {
        &self.cells[position as usize & (CELLS - 1)]
    }

    /// The batch is filled, and its slots are published. If this has the turn, it calls `tell` with the position that `CMDQ_PROD` is
    /// to cover, and whether some of what lies before it was filled by others.
    #[inline]
    pub(crate) fn filled(&self, start: u64, end: u64, taking: Taking, tell: impl Fn(u64, bool)) {
        let turn = cell(start, TURN);
        let acquire = order(Barrier::TurnAcquire, Ordering::Acquire);
        let mine = self.cell(start);
        let found = match taking {
            // Nobody takes the turn from a cell but the one whose batch it is.
            Taking::ByLook => mine.load(acquire) == turn,
            Taking::ByExchange => false,
        };
        // The release of what was filled is `publish`.
        if found || self.leave(mine, turn, end, taking) {
            self.go_on(end, tell);
        }
    }

    /// Whether the turn came at the last moment.
    #[inline]
    fn leave(&self, mine: &AtomicU64, turn: u64, end: u64, taking: Taking) -> bool {
        if self.relief.load(Ordering::Relaxed) {
            return self.stay(mine, turn, end, taking);
        }
        mine.swap(cell(end, FILLED), order(Barrier::TurnAcquire, Ordering::Acquire)) == turn
    }

    /// The same, and wait for it for a while.
    #[cold]
    fn stay(&self, mine: &AtomicU64, turn: u64, end: u64, taking: Taking) -> bool {
        let acquire = order(Barrier::TurnAcquire, Ordering::Acquire);
        let waiting = cell(end, WAITING);
        if mine.swap(waiting, acquire) == turn {
            return true;
        }
        for _ in 0..LOOKS {
            if mine.load(Ordering::Relaxed) != waiting {
                break;
            }
            spin();
        }
        let filled = cell(end, FILLED);
        let left = mine.compare_exchange(waiting, filled, Ordering::Relaxed, acquire);
        match (left, taking) {
            (Ok(_), _) => false,
            (Err(_), Taking::ByLook) => true,
            (Err(_), Taking::ByExchange) => mine.swap(filled, acquire) == turn,
        }
    }

    /// Tell once more of what is told, up to `end`, and of what is filled since. `false`: somebody has the turn, or `end` is not
    /// where it is.
    ///
    /// For turns that are taken by exchange alone.
    pub(crate) fn again(&self, end: u64, tell: impl Fn(u64, bool)) -> bool {
        let acquire = order(Barrier::TurnAcquire, Ordering::Acquire);
        let (turn, nothing) = (cell(end, TURN), cell(0, FILLED));
        let here = self.cell(end);
        let taken = here.compare_exchange(turn, nothing, acquire, Ordering::Relaxed).is_ok();
        if taken {
            self.go_on(end, tell);
        }
        taken
    }

    fn go_on(&self, mut end: u64, tell: impl Fn(u64, bool)) {
        let (mut gathered, mut rounds) = (false, 0);
        loop {
            let here = self.cell(end);
            let seen = here.load(order(Barrier::FilledAcquire, Ordering::Acquire));
            if let Some(further) = end_of(seen, end, FILLED) {
                (end, gathered) = (further, true);
                continue;
            }
            tell(end, gathered);
            rounds += 1;
            if rounds == ROUNDS {
                self.relief.store(true, Ordering::Relaxed);
            }
            let relieved = end_of(seen, end, WAITING).is_some();
            let release = order(Barrier::TurnRelease, Ordering::Release);
            if here.compare_exchange(seen, cell(end, TURN), release, Ordering::Relaxed).is_ok() {
                if relieved || rounds >= ROUNDS {
                    self.relief.store(false, Ordering::Relaxed);
                }
                return;
            }
            gathered = false;
        }
    }
}

const fn cell(position: u64, kind: u64) -> u64 {
    position << 2 | kind
}

/// The end of the batch that begins at `start`, if the cell says `kind` of it and is not from another lap.
#[inline]
const fn end_of(seen: u64, start: u64, kind: u64) -> Option<u64> {
    let end = seen >> 2;
    if seen & KIND == kind && end > start { Some(end) } else { None }
}

#[inline]
fn spin() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Taking::{ByExchange, ByLook};
    use super::{Ordering, TURN, Turns, WAITING, cell};
    use core::cell::Cell;

    const NEVER: fn(u64, bool) = |end, _| unreachable!("told of {end} without the turn");

    /// As fast as one tells, others fill: after a while they wait to be given the turn, and are.
    #[test]
    fn one_who_has_told_often_is_relieved_by_whoever_waits() {
        let turns = Turns::<16>::new();
        let told = Cell::new(0);
        turns.filled(0, 1, ByLook, |end, _| {
            told.set(told.get() + 1);
            match turns.relief.load(Ordering::Relaxed) {
                false => turns.filled(end, end + 1, ByLook, NEVER),
                // What `stay` does first.
                true => turns.cell(end).store(cell(end + 1, WAITING), Ordering::Relaxed),
            }
        });
        // Four batches, the one with which others knew, and what was told when it went.
        assert_eq!(told.get(), 6);
        assert_eq!(turns.cell(5).load(Ordering::Relaxed), cell(5, TURN));
        assert!(!turns.relief.load(Ordering::Relaxed));
        // Whoever comes next has it.
        turns.filled(5, 6, ByLook, |end, _| told.set(end * 10));
        assert_eq!(told.get(), 60);
    }

    /// What is told once more is what was told, and what has been filled since, by one at a time.
    #[test]
    fn whoever_finds_the_turn_tells_again() {
        let turns = Turns::<4>::new();
        let told = Cell::new(0);
        assert!(turns.again(0, |end, _| told.set(end + 10)));
        assert_eq!(told.get(), 10);
        turns.filled(0, 2, ByExchange, |end, _| told.set(end));
        assert_eq!(told.get(), 2);
        // Nobody has left it there.
        assert!(!turns.again(0, NEVER) && !turns.again(1, NEVER) && !turns.again(6, NEVER));
        let first = Cell::new(true);
        assert!(turns.again(2, |end: u64, gathered: bool| {
            told.set(end);
            if first.replace(false) {
                // Meanwhile.
                turns.filled(2, 3, ByExchange, NEVER);
                assert!(!turns.again(2, NEVER));
            } else {
                assert!(gathered);
            }
        }));
        assert_eq!(told.get(), 3);
        assert_eq!(turns.cell(3).load(Ordering::Relaxed), cell(3, TURN));
    }

    /// An interrupt handler on the CPU of the one who has the turn cannot be given it, and goes on.
    #[test]
    fn whoever_waits_in_vain_leaves_the_batch_to_the_other() {
        let turns = Turns::<4>::new();
        let told = Cell::new(0);
        turns.filled(0, 1, ByLook, |end, _| {
            told.set(end);
            if end < 100 {
                turns.filled(end, end + 1, ByLook, NEVER);
            }
        });
        assert_eq!(told.get(), 100);
        assert_eq!(turns.cell(100).load(Ordering::Relaxed), cell(100, TURN));
        assert!(!turns.relief.load(Ordering::Relaxed));
    }

    /// The next batch begins in the cell of the one before, which is not to be taken for it again.
    #[test]
    fn a_batch_may_be_as_long_as_there_are_cells() {
        let turns = Turns::<4>::new();
        let told = Cell::new(0);
        let all = |end, _| {
            told.set(end);
            if end < 40 {
                turns.filled(end, end + 4, ByLook, NEVER);
            }
        };
        turns.filled(0, 4, ByLook, all);
        assert_eq!(told.get(), 40);
        turns.filled(40, 44, ByLook, all);
        assert_eq!(told.get(), 44);
    }

    /// Three threads, each of which fills whatever it gets.
    #[test]
    fn the_turn_goes_over_every_batch_once_whoever_has_it() {
        use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
        const BATCHES: u64 = 40_000;

        let turns = Turns::<64>::new();
        let (next, told) = (AtomicU64::new(0), AtomicU64::new(0));
        let fill = || {
            loop {
                let start = next.load(SeqCst);
                // No more than there are cells.
                if start >= told.load(SeqCst) + 60 {
                    std::thread::yield_now();
                    continue;
                }
                if start >= BATCHES {
                    break;
                }
                let end = start + 1 + start % 3;
                if next.compare_exchange(start, end, SeqCst, SeqCst).is_ok() {
                    turns.filled(start, end, ByLook, |end, _| {
                        let before = told.swap(end, SeqCst);
                        assert!(before <= end, "{end} after {before}");
                    });
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(fill);
            scope.spawn(fill);
            fill();
        });
        assert_eq!(told.into_inner(), next.into_inner());
    }
}
