//! Our queue: `smmu-cmdq/src/produce.rs`, `prod_owner.rs` and `wait.rs`.

use crate::machine::{Core, Machine, Word};
use crate::smmu::{Batch, ENTRIES, Ring};

use super::Tries;
use super::reserve::{Reservation, Reserve};

/// Cells of 8 bytes in a cache line.
const CELLS_PER_LINE: u64 = 8;
// As in `prod_owner.rs`.
const MAX_ADVANCES: u32 = 4;
const SPINS: u32 = 200;
const COMMITTED: u64 = 0;
const OWNER: u64 = 1;
const WAITING: u64 = 2;
const KIND: u64 = 3;

#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) ring: Ring,
    reserve: Reserve,
    cells: Vec<Word>,
    wants_relief: Word,
}

impl Ours {
    pub(crate) fn new(machine: &Machine, ring: Ring, how: Reservation) -> Ours {
        let mut cells = machine.words("cells", ENTRIES, CELLS_PER_LINE);
        let first = machine.line("cells");
        // `ProdOwner::new`: the batch at position 0 finds ownership there.
        cells[0] = machine.word(first, cell(0, OWNER));
        (1..CELLS_PER_LINE as usize).for_each(|at| cells[at] = machine.word(first, 0));
        let wants_relief = machine.word(machine.line("relief"), 0);
        Ours { ring, reserve: Reserve::new(machine, how), cells, wants_relief }
    }

    /// `CommandQueue::produce`; with `sync` also `CommandQueue::wait`, by polling.
    pub(crate) async fn push(&self, core: &Core, batch: Batch, sync: bool) -> Tries {
        let mut tries = Tries::default();
        let (start, low) = self.reserve.reserve(core, &self.ring, batch.count, &mut tries).await;
        let end = start + batch.count;
        self.ring.fill(core, start, batch).await;
        self.commit(core, start, end).await;
        if low {
            self.reserve.add_room(core, &self.ring).await;
        }
        if sync {
            self.wait(core, end).await;
        }
        tries
    }

    /// `CommandQueue::wait` and `look`.
    async fn wait(&self, core: &Core, end: u64) {
        loop {
            if self.reserve.known_consumer(core).await >= end {
                return;
            }
            if self.reserve.refresh(core, &self.ring).await >= end {
                return;
            }
            core.pause(1).await;
        }
    }

    fn cell(&self, position: u64) -> Word {
        self.cells[(position % ENTRIES) as usize]
    }

    /// `ProdOwner::commit`, with ownership taken by a load, as at the main queue.
    async fn commit(&self, core: &Core, start: u64, end: u64) {
        let (owner, mine) = (cell(start, OWNER), self.cell(start));
        if core.load(mine).await == owner || self.leave(core, mine, owner, end).await {
            self.advance(core, end).await;
        }
    }

    /// `ProdOwner::leave`.
    async fn leave(&self, core: &Core, mine: Word, owner: u64, end: u64) -> bool {
        if core.load(self.wants_relief).await != 0 {
            return self.wait_for_ownership(core, mine, owner, end).await;
        }
        core.swap(mine, cell(end, COMMITTED)).await == owner
    }

    /// `ProdOwner::wait_for_ownership`.
    async fn wait_for_ownership(&self, core: &Core, mine: Word, owner: u64, end: u64) -> bool {
        let waiting = cell(end, WAITING);
        if core.swap(mine, waiting).await == owner {
            return true;
        }
        for _ in 0..SPINS {
            if core.load(mine).await != waiting {
                break;
            }
            core.pause(1).await;
        }
        core.compare_exchange(mine, waiting, cell(end, COMMITTED)).await.is_err()
    }

    /// `ProdOwner::advance`.
    async fn advance(&self, core: &Core, end: u64) {
        let here = self.cell(end);
        let seen = core.load(here).await;
        if end_of(seen, end, COMMITTED).is_some() || end_of(seen, end, WAITING).is_some() {
            return self.advance_further(core, end, 0).await;
        }
        self.ring.write_prod(core, end).await;
        if core.compare_exchange(here, seen, cell(end, OWNER)).await.is_err() {
            self.advance_further(core, end, 1).await;
        }
    }

    /// `ProdOwner::advance_further`.
    async fn advance_further(&self, core: &Core, mut end: u64, mut advances: u32) {
        loop {
            let here = self.cell(end);
            let seen = core.load(here).await;
            if let Some(further) = end_of(seen, end, COMMITTED) {
                end = further;
                continue;
            }
            self.ring.write_prod(core, end).await;
            advances += 1;
            if advances == MAX_ADVANCES {
                core.store(self.wants_relief, 1).await;
            }
            let relieved = end_of(seen, end, WAITING).is_some();
            if core.compare_exchange(here, seen, cell(end, OWNER)).await.is_ok() {
                if relieved || advances >= MAX_ADVANCES {
                    core.store(self.wants_relief, 0).await;
                }
                return;
            }
        }
    }
}

const fn cell(position: u64, kind: u64) -> u64 {
    position << 2 | kind
}

const fn end_of(seen: u64, start: u64, kind: u64) -> Option<u64> {
    let end = seen >> 2;
    if seen & KIND == kind && end > start { Some(end) } else { None }
}
