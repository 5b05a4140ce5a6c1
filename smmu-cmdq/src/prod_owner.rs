//! The owner of `CMDQ_PROD`: advances it over committed batches, in order, without a lock.
//!
//! Callers fill their slots side by side and commit them in any order. `CMDQ_PROD` has to move over
//! the batches in order, and one caller at a time may write it: the owner. A table of cells says
//! who the owner is. Position `p` uses cell `p` modulo the number of cells, which is at least the
//! number of commands in the ring. The cell at which a batch begins holds one of these:
//!
//! - `owner(p)`: `CMDQ_PROD` covers everything before `p`. The caller that commits the batch at `p`
//!   becomes the owner.
//! - `committed(e)`: the batch from here up to `e` is committed, and its caller has left.
//! - `waiting(e)`: the same, but its caller still waits for ownership; see below.
//! - an older value, from an earlier lap of the ring.
//!
//! 1. A caller that commits the batch `p..e` looks for `owner(p)` in the cell of `p`. If it is not
//!    there, the caller swaps `committed(e)` into the cell and leaves. If the swap returns
//!    `owner(p)`, the caller is the owner after all.
//! 2. The owner skips every committed batch that follows, writes `CMDQ_PROD`, and then stores
//!    `owner(e)` in the first cell that holds no committed batch. It does so by a compare-exchange.
//!    If a caller has committed there in the meantime, the exchange fails, and the owner goes on.
//!
//! So exactly one of the two that meet at a cell advances `CMDQ_PROD`: ownership is never lost and
//! never doubled. A caller that is preempted while it fills its slots holds up the commands behind
//! its own, because the SMMU takes commands in order. It does not hold up the callers of those
//! commands.
//!
//! Other callers may commit batches as fast as the owner advances. After [`MAX_ADVANCES`] writes of
//! `CMDQ_PROD`, the owner therefore asks for relief. The next caller that commits then stores
//! `waiting(e)`, and spins for a moment until it is given ownership.

use core::array;

use crate::sync::{AtomicBool, AtomicU64, Barrier, Ordering, order};

/// Writes of `CMDQ_PROD` by one owner before it asks for relief.
#[cfg(not(loom))]
const MAX_ADVANCES: u32 = 4;
#[cfg(loom)]
const MAX_ADVANCES: u32 = 1;
/// Looks of a waiting caller at its cell before it leaves the batch to the owner.
#[cfg(not(loom))]
const SPINS: u32 = 200;
#[cfg(loom)]
const SPINS: u32 = 1;

// The kind of a cell, in its two lowest bits. The position is in the bits above.
const COMMITTED: u64 = 0;
const OWNER: u64 = 1;
const WAITING: u64 = 2;
const KIND: u64 = 3;

/// Advances `CMDQ_PROD` over committed batches; see the module.
#[derive(Debug)]
pub(crate) struct ProdOwner<const CELLS: usize> {
    cells: [AtomicU64; CELLS],
    wants_relief: AtomicBool,
}

/// How a caller takes ownership from the cell of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// By a load. `owner` stays in the cell.
    ByLoad,
    /// By a swap, which removes `owner`, so that [`ProdOwner::advance_again`] cannot find it.
    BySwap,
}

impl<const CELLS: usize> ProdOwner<CELLS> {
    pub(crate) fn new() -> Self {
        const { assert!(CELLS.is_power_of_two() && CELLS > 1, "CELLS is a power of two from 2 on") };
        // The batch at position 0 finds ownership there. 0 is older than any batch, since none ends
        // at 0.
        let first = cell(0, OWNER);
        ProdOwner {
            cells: array::from_fn(|at| AtomicU64::new(if at == 0 { first } else { 0 })),
            wants_relief: AtomicBool::new(false),
        }
    }

    /// The cell for a position.
    #[inline]
    fn cell(&self, position: u64) -> &AtomicU64 {
        &self.cells[position as usize & (CELLS - 1)]
    }

    /// Commit the batch `start..end`, whose slots are filled and published.
    ///
    /// If the caller becomes the owner, this calls `write_prod` with the position up to which
    /// `CMDQ_PROD` is to advance, and with whether other callers committed some of the batches
    /// before that position.
    #[inline]
    pub(crate) fn commit(&self, start: u64, end: u64, take: Take, write_prod: impl Fn(u64, bool)) {
        let owner = cell(start, OWNER);
        let acquire = order(Barrier::OwnerAcquire, Ordering::Acquire);
        let mine = self.cell(start);
        let is_owner = match take {
            // Only the caller whose batch begins here takes ownership from this cell.
            Take::ByLoad => mine.load(acquire) == owner,
            Take::BySwap => false,
        };
        // No release: the `publish` of the slots has ordered them before this.
        if is_owner || self.leave(mine, owner, end, take) {
            self.advance(end, write_prod);
        }
    }

    /// Leave the batch to the owner. `true`: ownership has arrived in the meantime.
    #[inline]
    fn leave(&self, mine: &AtomicU64, owner: u64, end: u64, take: Take) -> bool {
        // Relaxed: a hint. Ownership passes through the cell alone.
        if self.wants_relief.load(Ordering::Relaxed) {
            return self.wait_for_ownership(mine, owner, end, take);
        }
        mine.swap(cell(end, COMMITTED), order(Barrier::OwnerAcquire, Ordering::Acquire)) == owner
    }

    /// As [`leave`](Self::leave), but wait for ownership for [`SPINS`] looks.
    #[cold]
    fn wait_for_ownership(&self, mine: &AtomicU64, owner: u64, end: u64, take: Take) -> bool {
        let acquire = order(Barrier::OwnerAcquire, Ordering::Acquire);
        let waiting = cell(end, WAITING);
        if mine.swap(waiting, acquire) == owner {
            return true;
        }
        for _ in 0..SPINS {
            if mine.load(Ordering::Relaxed) != waiting {
                break;
            }
            spin();
        }
        let committed = cell(end, COMMITTED);
        let left = mine.compare_exchange(waiting, committed, Ordering::Relaxed, acquire);
        match (left, take) {
            (Ok(_), _) => false,
            (Err(_), Take::ByLoad) => true,
            (Err(_), Take::BySwap) => mine.swap(committed, acquire) == owner,
        }
    }

    /// Write `CMDQ_PROD` once more: up to `end`, where it stands, and over what is committed since.
    ///
    /// `false`: another caller is the owner, or `CMDQ_PROD` does not stand at `end`. Works only
    /// where every caller takes ownership [`BySwap`](Take::BySwap).
    pub(crate) fn advance_again(&self, end: u64, write_prod: impl Fn(u64, bool)) -> bool {
        let acquire = order(Barrier::OwnerAcquire, Ordering::Acquire);
        let (owner, nothing) = (cell(end, OWNER), cell(0, COMMITTED));
        let here = self.cell(end);
        let taken = here.compare_exchange(owner, nothing, acquire, Ordering::Relaxed).is_ok();
        if taken {
            self.advance(end, write_prod);
        }
        taken
    }

    /// As the owner: write `CMDQ_PROD` up to `end` and over what is committed behind it, then leave
    /// ownership.
    ///
    /// The first step of [`advance_further`](Self::advance_further) is here, without the loop: mostly
    /// nothing is committed behind `end`.
    #[inline]
    fn advance(&self, end: u64, write_prod: impl Fn(u64, bool)) {
        let here = self.cell(end);
        let seen = here.load(order(Barrier::CommitAcquire, Ordering::Acquire));
        if end_of(seen, end, COMMITTED).is_some() || end_of(seen, end, WAITING).is_some() {
            return self.advance_further(end, 0, write_prod);
        }
        write_prod(end, false);
        self.ask_for_relief(1);
        let release = order(Barrier::OwnerRelease, Ordering::Release);
        match here.compare_exchange(seen, cell(end, OWNER), release, Ordering::Relaxed) {
            Ok(_) => self.no_more_relief(1, false),
            Err(_) => self.advance_further(end, 1, write_prod),
        }
    }

    #[inline]
    fn ask_for_relief(&self, advances: u32) {
        if advances == MAX_ADVANCES {
            self.wants_relief.store(true, Ordering::Relaxed);
        }
    }

    #[inline]
    fn no_more_relief(&self, advances: u32, relieved: bool) {
        if relieved || advances >= MAX_ADVANCES {
            self.wants_relief.store(false, Ordering::Relaxed);
        }
    }

    /// The rest of [`advance`](Self::advance), after `advances` writes of `CMDQ_PROD`.
    #[cold]
    #[inline(never)]
    fn advance_further(&self, mut end: u64, mut advances: u32, write_prod: impl Fn(u64, bool)) {
        let mut others_committed = false;
        loop {
            let here = self.cell(end);
            let seen = here.load(order(Barrier::CommitAcquire, Ordering::Acquire));
            if let Some(further) = end_of(seen, end, COMMITTED) {
                (end, others_committed) = (further, true);
                continue;
            }
            write_prod(end, others_committed);
            advances += 1;
            self.ask_for_relief(advances);
            let relieved = end_of(seen, end, WAITING).is_some();
            let release = order(Barrier::OwnerRelease, Ordering::Release);
            if here.compare_exchange(seen, cell(end, OWNER), release, Ordering::Relaxed).is_ok() {
                self.no_more_relief(advances, relieved);
                return;
            }
            others_committed = false;
        }
    }
}

const fn cell(position: u64, kind: u64) -> u64 {
    position << 2 | kind
}

/// The end of the batch that begins at `start`, if the cell is of this kind and not from an earlier
/// lap.
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
    use super::{OWNER, Ordering, ProdOwner as Owner, WAITING, cell};
    use core::cell::Cell;

    const NEVER: fn(u64, bool) = |end, _| unreachable!("wrote {end} without ownership");

    fn seen<const CELLS: usize>(owner: &Owner<CELLS>, position: usize) -> u64 {
        owner.cells[position % CELLS].load(Ordering::Relaxed)
    }

    /// Another caller commits a batch at each advance. After some advances it waits, and is given
    /// ownership.
    #[test]
    fn waiter_takes_over_after_max_advances() {
        let owner = Owner::<16>::new();
        let advances = Cell::new(0);
        owner.commit(0, 1, ByLoad, |end, _| {
            advances.set(advances.get() + 1);
            match owner.wants_relief.load(Ordering::Relaxed) {
                false => owner.commit(end, end + 1, ByLoad, NEVER),
                // The first step of `wait_for_ownership`.
                true => owner.cells[end as usize].store(cell(end + 1, WAITING), Ordering::Relaxed),
            }
        });
        // Four, one in which the others see the request for relief, and one that hands over.
        assert_eq!(advances.get(), 6);
        assert_eq!(seen(&owner, 5), cell(5, OWNER));
        assert!(!owner.wants_relief.load(Ordering::Relaxed));
        // The next batch finds ownership.
        owner.commit(5, 6, ByLoad, |end, _| advances.set(end * 10));
        assert_eq!(advances.get(), 60);
    }

    #[test]
    fn advance_again_covers_what_is_committed_since() {
        let owner = Owner::<4>::new();
        let prod = Cell::new(0);
        assert!(owner.advance_again(0, |end, _| prod.set(end + 10)));
        assert_eq!(prod.get(), 10);
        owner.commit(0, 2, BySwap, |end, _| prod.set(end));
        assert_eq!(prod.get(), 2);
        // Ownership is at position 2 and nowhere else.
        assert!(!owner.advance_again(0, NEVER));
        assert!(!owner.advance_again(1, NEVER));
        assert!(!owner.advance_again(6, NEVER));
        let first = Cell::new(true);
        assert!(owner.advance_again(2, |end: u64, others_committed: bool| {
            prod.set(end);
            if first.replace(false) {
                // Another caller, while this one is the owner.
                owner.commit(2, 3, BySwap, NEVER);
                assert!(!owner.advance_again(2, NEVER));
            } else {
                assert!(others_committed);
            }
        }));
        assert_eq!(prod.get(), 3);
        assert_eq!(seen(&owner, 3), cell(3, OWNER));
    }

    /// An interrupt handler on the owner's CPU cannot be given ownership while it runs, and goes on
    /// without.
    #[test]
    fn waiter_leaves_its_batch_when_ownership_does_not_come() {
        let owner = Owner::<4>::new();
        let prod = Cell::new(0);
        owner.commit(0, 1, ByLoad, |end, _| {
            prod.set(end);
            if end < 100 {
                owner.commit(end, end + 1, ByLoad, NEVER);
            }
        });
        assert_eq!(prod.get(), 100);
        assert_eq!(seen(&owner, 100), cell(100, OWNER));
        assert!(!owner.wants_relief.load(Ordering::Relaxed));
    }

    /// The next batch begins in the same cell. The owner must not take the old batch for it.
    #[test]
    fn a_batch_may_be_as_long_as_the_table() {
        let owner = Owner::<4>::new();
        let prod = Cell::new(0);
        let write_prod = |end, _| {
            prod.set(end);
            if end < 40 {
                owner.commit(end, end + 4, ByLoad, NEVER);
            }
        };
        owner.commit(0, 4, ByLoad, write_prod);
        assert_eq!(prod.get(), 40);
        owner.commit(40, 44, ByLoad, write_prod);
        assert_eq!(prod.get(), 44);
    }

    #[test]
    fn three_threads_advance_over_every_batch_once() {
        use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
        const BATCHES: u64 = 40_000;

        let owner = Owner::<64>::new();
        let (next, prod) = (AtomicU64::new(0), AtomicU64::new(0));
        let fill = || {
            loop {
                let start = next.load(SeqCst);
                // At most as many commands in flight as there are cells.
                if start >= prod.load(SeqCst) + 60 {
                    std::thread::yield_now();
                    continue;
                }
                if start >= BATCHES {
                    break;
                }
                let end = start + 1 + start % 3;
                if next.compare_exchange(start, end, SeqCst, SeqCst).is_ok() {
                    owner.commit(start, end, ByLoad, |end, _| {
                        let before = prod.swap(end, SeqCst);
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
        assert_eq!(prod.into_inner(), next.into_inner());
    }
}
