//! The queue of Linux's driver, by its published behaviour: which words its accesses touch, in which
//! order. See `arm_smmu_cmdq_issue_cmdlist` of `drivers/iommu/arm/arm-smmu-v3`.
//!
//! - One word holds the producer's position, a flag "owned", and the consumer's position. A caller
//!   moves it by a compare-exchange and repeats that with the value it returns. If the flag was
//!   clear, the caller is the owner of what is gathered from here on.
//! - A bit per slot says that the slot is filled. Its meaning flips with every lap.
//! - The owner waits for the owner before it, clears the flag, waits for the bits of everything
//!   gathered, writes `CMDQ_PROD` once, and lets the next owner go on.
//! - A caller with a `CMD_SYNC` is in a shared lock until it is complete. The last one that leaves
//!   stores the consumer's position.

use crate::machine::{Core, Machine, Word};
use crate::smmu::{Batch, ENTRIES, Ring};

use super::Tries;

const OWNED: u64 = 1 << 31;
const PRODUCER: u64 = OWNED - 1;
const CONSUMER: u32 = 32;
/// The lock's value for the caller that reads `CMDQ_CONS` for all.
const EXCLUSIVE: u64 = 1 << 63;

#[derive(Debug)]
pub(crate) struct Linux {
    pub(crate) ring: Ring,
    pointers: Word,
    /// In one line: where `CMDQ_PROD` stands, and the lock.
    written: Word,
    lock: Word,
    valid: Vec<Word>,
}

impl Linux {
    pub(crate) fn new(machine: &Machine, ring: Ring) -> Linux {
        let behind = machine.line("owner, lock");
        Linux {
            ring,
            pointers: machine.word(machine.line("prod, cons"), 0),
            written: machine.word(behind, 0),
            lock: machine.word(behind, 0),
            valid: machine.words("valid", ENTRIES / 64, 8),
        }
    }

    pub(crate) async fn push(&self, core: &Core, batch: Batch, sync: bool) -> Tries {
        let mut tries = Tries::default();
        let (start, is_owner) = self.reserve(core, batch.count, &mut tries).await;
        let end = start + batch.count;
        self.ring.fill(core, start, batch).await;
        if sync {
            self.lock_shared(core).await;
        }
        for (word, bits, _) in words(start..end) {
            core.fetch_xor(self.valid[word], bits).await;
        }
        if is_owner {
            self.advance(core, start).await;
        }
        if sync {
            self.wait(core, end).await;
        }
        tries
    }

    /// Returns the first position, and whether the caller is an owner.
    async fn reserve(&self, core: &Core, count: u64, tries: &mut Tries) -> (u64, bool) {
        let mut seen = core.load(self.pointers).await;
        loop {
            let (producer, consumer) = (seen & PRODUCER, seen >> CONSUMER);
            if producer + count > consumer + ENTRIES {
                seen = self.wait_for_room(core, seen).await;
                continue;
            }
            let to = consumer << CONSUMER | OWNED | (producer + count);
            tries.tried += 1;
            match core.compare_exchange(self.pointers, seen, to).await {
                Ok(_) => {
                    tries.succeeded += 1;
                    return (producer, seen & OWNED == 0);
                }
                Err(now) => seen = now,
            }
        }
    }

    /// One caller at a time reads `CMDQ_CONS`; the others look at the word.
    async fn wait_for_room(&self, core: &Core, seen: u64) -> u64 {
        if core.compare_exchange(self.lock, 0, EXCLUSIVE).await.is_ok() {
            let consumer = self.ring.read_cons(core).await;
            self.store_consumer(core, consumer).await;
            core.fetch_and_not(self.lock, EXCLUSIVE).await;
        } else {
            core.pause(1).await;
        }
        let mut now = core.load(self.pointers).await;
        // Others may have taken what was freed: then it is another word, and the caller goes on.
        if now == seen {
            core.pause(1).await;
            now = core.load(self.pointers).await;
        }
        now
    }

    async fn lock_shared(&self, core: &Core) {
        let mut seen = core.fetch_add(self.lock, 1).await;
        while seen & EXCLUSIVE != 0 {
            core.pause(1).await;
            seen = core.load(self.lock).await;
        }
    }

    /// Store the consumer's half of the word.
    async fn store_consumer(&self, core: &Core, consumer: u64) {
        // The half is a store of its own there. Here it is an addition, with the same line moves:
        // the caller holds the lock, so nobody else writes this half.
        let known = core.peek(self.pointers) >> CONSUMER;
        core.fetch_add(self.pointers, consumer.wrapping_sub(known) << CONSUMER).await;
    }

    async fn advance(&self, core: &Core, start: u64) {
        while core.load(self.written).await != start {
            core.pause(1).await;
        }
        let end = core.fetch_and_not(self.pointers, OWNED).await & PRODUCER;
        for (word, bits, lap) in words(start..end) {
            // In an even lap a set bit is a filled slot.
            let filled = if lap.is_multiple_of(2) { bits } else { 0 };
            while core.load(self.valid[word]).await & bits != filled {
                core.pause(1).await;
            }
        }
        self.ring.write_prod(core, end).await;
        core.store(self.written, end).await;
    }

    async fn wait(&self, core: &Core, end: u64) {
        let mut consumer = self.ring.read_cons(core).await;
        while consumer < end {
            core.pause(1).await;
            consumer = self.ring.read_cons(core).await;
        }
        if core.load(self.lock).await == 1 {
            self.store_consumer(core, consumer).await;
        }
        core.fetch_add(self.lock, 1_u64.wrapping_neg()).await;
    }
}

/// The words of the bitmap for some positions: each with its bits, and the lap of its slots.
fn words(positions: std::ops::Range<u64>) -> Vec<(usize, u64, u64)> {
    let mut found: Vec<(usize, u64, u64)> = Vec::new();
    for position in positions {
        let (lap, slot) = (position / ENTRIES, position % ENTRIES);
        let (word, bit) = ((slot / 64) as usize, 1 << (slot % 64));
        match found.last_mut() {
            Some((last, bits, of)) if (*last, *of) == (word, lap) => *bits |= bit,
            _ => found.push((word, bit, lap)),
        }
    }
    found
}
