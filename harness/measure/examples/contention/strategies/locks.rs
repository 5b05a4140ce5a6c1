//! A plain ring behind a lock.

use crate::machine::{Core, Machine, Word};
use crate::smmu::{Batch, ENTRIES, Ring};

use super::Tries;

/// Which lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Each caller draws a number and waits until it is served.
    Ticket,
    /// A caller looks until the lock is free, then tries to swap it.
    TestAndSet,
}

/// Spin hints of a ticket's holder, per holder before it, between two looks.
const PAUSES_PER_TICKET: u64 = 24;

#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) ring: Ring,
    lock: Lock,
    /// The next ticket; or whether the lock is taken.
    word: Word,
    /// The ticket that is served, in a line of its own.
    served: Word,
    /// In one line, which only the holder of the lock touches.
    producer: Word,
    consumer: Word,
}

impl Locked {
    pub(crate) fn new(machine: &Machine, ring: Ring, lock: Lock) -> Locked {
        let positions = machine.line("positions");
        Locked {
            ring,
            lock,
            word: machine.word(machine.line("lock"), 0),
            served: machine.word(machine.line("served"), 0),
            producer: machine.word(positions, 0),
            consumer: machine.word(positions, 0),
        }
    }

    pub(crate) async fn push(&self, core: &Core, batch: Batch, sync: bool) -> Tries {
        let ticket = self.lock(core).await;
        let start = core.load(self.producer).await;
        let end = start + batch.count;
        while end > core.load(self.consumer).await + ENTRIES {
            let consumer = self.ring.read_cons(core).await;
            core.store(self.consumer, consumer).await;
        }
        self.ring.fill(core, start, batch).await;
        core.store(self.producer, end).await;
        self.ring.write_prod(core, end).await;
        self.unlock(core, ticket).await;
        if sync {
            // Outside of the lock: the position in the register tells it.
            while self.ring.read_cons(core).await < end {
                core.pause(1).await;
            }
        }
        Tries::default()
    }

    async fn lock(&self, core: &Core) -> u64 {
        if self.lock == Lock::Ticket {
            let ticket = core.fetch_add(self.word, 1).await;
            loop {
                let before = ticket - core.load(self.served).await;
                if before == 0 {
                    return ticket;
                }
                core.pause(PAUSES_PER_TICKET * before).await;
            }
        }
        loop {
            if core.load(self.word).await == 0 && core.swap(self.word, 1).await == 0 {
                return 0;
            }
            core.pause(1).await;
        }
    }

    async fn unlock(&self, core: &Core, ticket: u64) {
        match self.lock {
            Lock::Ticket => core.store(self.served, ticket + 1).await,
            Lock::TestAndSet => core.store(self.word, 0).await,
        }
    }
}
