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
//! [`MAX_ADVANCES`] writes of `CMDQ_PROD` it asks to be relieved: whoever fills a batch then waits for a moment, with
//! `waiting(e)` in the cell, to be given the turn.

use core::array;

use crate::sync::{AtomicBool, AtomicU64, Barrier, Ordering, order};

/// Writes of `CMDQ_PROD` by one caller before it asks to be relieved.
#[cfg(not(loom))]
const MAX_ADVANCES: u32 = 4;
#[cfg(loom)]
const MAX_ADVANCES: u32 = 1;
/// How often one who may be given the turn looks for it.
#[cfg(not(loom))]
const LOOKS: u32 = 200;
#[cfg(loom)]
const LOOKS: u32 = 1;

const COMMITTED: u64 = 0;
const OWNER: u64 = 1;
const WAITING: u64 = 2;
const KIND: u64 = 3;

/// Tells of filled batches; see the module.
#[derive(Debug)]
pub(crate) struct ProdOwner<const CELLS: usize> {
    cells: [AtomicU64; CELLS],
    relief: AtomicBool,
}

/// How the turn is taken from the cell of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// By finding it there, so that it stays there.
    ByLoad,
    /// By an exchange, so that it is gone for [`ProdOwner::again`].
    BySwap,
}

impl<const CELLS: usize> ProdOwner<CELLS> {
    pub(crate) fn new() -> Self {
        const { assert!(CELLS.is_power_of_two() && CELLS > 1, "CELLS is a power of two from 2 on") };
        // Position 0 has the turn. The other cells are older than anything: a batch cannot end at 0.
        let cells = array::from_fn(|at| AtomicU64::new(if at == 0 { cell(0, OWNER) } else { 0 }));
        ProdOwner { cells, relief: AtomicBool::new(false) }
    }

    #[inline]
    fn cell(&self, position: u64) -> &AtomicU64 {
        &self.cells[position as usize & (CELLS - 1)]
    }

    /// The batch is filled, and its slots are published. If this has the turn, it calls `tell` with the position that `CMDQ_PROD` is
    /// to cover, and whether some of what lies before it was filled by others.
    #[inline]
    pub(crate) fn commit(&self, start: u64, end: u64, take: Take, tell: impl Fn(u64, bool)) {
        let turn = cell(start, OWNER);
        let acquire = order(Barrier::OwnerAcquire, Ordering::Acquire);
        let mine = self.cell(start);
        let found = match take {
            // Nobody takes the turn from a cell but the one whose batch it is.
            Take::ByLoad => mine.load(acquire) == turn,
            Take::BySwap => false,
        };
        // The release of what was filled is `publish`.
        if found || self.leave_to_owner(mine, turn, end, take) {
            self.advance(end, tell);
        }
    }

    /// Whether the turn came at the last moment.
    #[inline]
    fn leave_to_owner(&self, mine: &AtomicU64, turn: u64, end: u64, take: Take) -> bool {
        if self.relief.load(Ordering::Relaxed) {
            return self.wait_for_ownership(mine, turn, end, take);
        }
        mine.swap(cell(end, COMMITTED), order(Barrier::OwnerAcquire, Ordering::Acquire)) == turn
    }

    /// The same, and wait for it for a while.
    #[cold]
    fn wait_for_ownership(&self, mine: &AtomicU64, turn: u64, end: u64, take: Take) -> bool {
        let acquire = order(Barrier::OwnerAcquire, Ordering::Acquire);
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
        let filled = cell(end, COMMITTED);
        let left = mine.compare_exchange(waiting, filled, Ordering::Relaxed, acquire);
        match (left, take) {
            (Ok(_), _) => false,
            (Err(_), Take::ByLoad) => true,
            (Err(_), Take::BySwap) => mine.swap(filled, acquire) == turn,
        }
    }

    /// Tell once more of what is told, up to `end`, and of what is filled since. `false`: somebody has the turn, or `end` is not
    /// where it is.
    ///
    /// For prod_owner that are taken by exchange alone.
    pub(crate) fn advance_again(&self, end: u64, tell: impl Fn(u64, bool)) -> bool {
        let acquire = order(Barrier::OwnerAcquire, Ordering::Acquire);
        let (turn, nothing) = (cell(end, OWNER), cell(0, COMMITTED));
        let here = self.cell(end);
        let taken = here.compare_exchange(turn, nothing, acquire, Ordering::Relaxed).is_ok();
        if taken {
            self.advance(end, tell);
        }
        taken
    }

    fn advance(&self, mut end: u64, tell: impl Fn(u64, bool)) {
        let (mut others_committed, mut rounds) = (false, 0);
        loop {
            let here = self.cell(end);
            let seen = here.load(order(Barrier::CommitAcquire, Ordering::Acquire));
            if let Some(further) = end_of(seen, end, COMMITTED) {
                (end, others_committed) = (further, true);
                continue;
            }
            tell(end, others_committed);
            rounds += 1;
            if rounds == MAX_ADVANCES {
                self.relief.store(true, Ordering::Relaxed);
            }
            let relieved = end_of(seen, end, WAITING).is_some();
            let release = order(Barrier::OwnerRelease, Ordering::Release);
            if here.compare_exchange(seen, cell(end, OWNER), release, Ordering::Relaxed).is_ok() {
                if relieved || rounds >= MAX_ADVANCES {
                    self.relief.store(false, Ordering::Relaxed);
                }
                return;
            }
            others_committed = false;
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
    use super::Take::{ByLoad, BySwap};
    use super::{OWNER, Ordering, ProdOwner, WAITING, cell};
    use core::cell::Cell;

    const NEVER: fn(u64, bool) = |end, _| unreachable!("told of {end} without the turn");

    /// As fast as one tells, others fill: after a while they wait to be given the turn, and are.
    #[test]
    fn one_who_has_told_often_is_relieved_by_whoever_waits() {
        let prod_owner = ProdOwner::<16>::new();
        let told = Cell::new(0);
        prod_owner.commit(0, 1, ByLoad, |end, _| {
            told.set(told.get() + 1);
            match prod_owner.relief.load(Ordering::Relaxed) {
                false => prod_owner.commit(end, end + 1, ByLoad, NEVER),
                // What `stay` does first.
                true => prod_owner.cell(end).store(cell(end + 1, WAITING), Ordering::Relaxed),
            }
        });
        // Four batches, the one with which others knew, and what was told when it went.
        assert_eq!(told.get(), 6);
        assert_eq!(prod_owner.cell(5).load(Ordering::Relaxed), cell(5, OWNER));
        assert!(!prod_owner.relief.load(Ordering::Relaxed));
        // Whoever comes next has it.
        prod_owner.commit(5, 6, ByLoad, |end, _| told.set(end * 10));
        assert_eq!(told.get(), 60);
    }

    /// What is told once more is what was told, and what has been filled since, by one at a time.
    #[test]
    fn whoever_finds_the_turn_tells_again() {
        let prod_owner = ProdOwner::<4>::new();
        let told = Cell::new(0);
        assert!(prod_owner.advance_again(0, |end, _| told.set(end + 10)));
        assert_eq!(told.get(), 10);
        prod_owner.commit(0, 2, BySwap, |end, _| told.set(end));
        assert_eq!(told.get(), 2);
        // Nobody has left it there.
        assert!(
            !prod_owner.advance_again(0, NEVER)
                && !prod_owner.advance_again(1, NEVER)
                && !prod_owner.advance_again(6, NEVER)
        );
        let first = Cell::new(true);
        assert!(prod_owner.advance_again(2, |end: u64, others_committed: bool| {
            told.set(end);
            if first.replace(false) {
                // Meanwhile.
                prod_owner.commit(2, 3, BySwap, NEVER);
                assert!(!prod_owner.advance_again(2, NEVER));
            } else {
                assert!(others_committed);
            }
        }));
        assert_eq!(told.get(), 3);
        assert_eq!(prod_owner.cell(3).load(Ordering::Relaxed), cell(3, OWNER));
    }

    /// An interrupt handler on the CPU of the one who has the turn cannot be given it, and goes on.
    #[test]
    fn whoever_waits_in_vain_leaves_the_batch_to_the_other() {
        let prod_owner = ProdOwner::<4>::new();
        let told = Cell::new(0);
        prod_owner.commit(0, 1, ByLoad, |end, _| {
            told.set(end);
            if end < 100 {
                prod_owner.commit(end, end + 1, ByLoad, NEVER);
            }
        });
        assert_eq!(told.get(), 100);
        assert_eq!(prod_owner.cell(100).load(Ordering::Relaxed), cell(100, OWNER));
        assert!(!prod_owner.relief.load(Ordering::Relaxed));
    }

    /// The next batch begins in the cell of the one before, which is not to be taken for it again.
    #[test]
    fn a_batch_may_be_as_long_as_there_are_cells() {
        let prod_owner = ProdOwner::<4>::new();
        let told = Cell::new(0);
        let all = |end, _| {
            told.set(end);
            if end < 40 {
                prod_owner.commit(end, end + 4, ByLoad, NEVER);
            }
        };
        prod_owner.commit(0, 4, ByLoad, all);
        assert_eq!(told.get(), 40);
        prod_owner.commit(40, 44, ByLoad, all);
        assert_eq!(told.get(), 44);
    }

    /// Three threads, each of which fills whatever it gets.
    #[test]
    fn the_turn_goes_over_every_batch_once_whoever_has_it() {
        use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
        const BATCHES: u64 = 40_000;

        let prod_owner = ProdOwner::<64>::new();
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
                    prod_owner.commit(start, end, ByLoad, |end, _| {
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
