//! The place of a command queue, which a restart replaces and a sleep empties while callers use it.
//!
//! 1. A caller holds the read guard of the slot for the whole of a call. So a replaced queue is
//!    dropped after its last caller has left it.
//! 2. The slot is closed, and the old queue has no caller, before the SMMU gets a new queue. So no
//!    caller of the old queue writes a register of the new one.
//! 3. A slot is asleep only while the SMMU translates nothing, and from the flush that empties its
//!    caches to the flush before it translates again. So an invalidation succeeds without a queue;
//!    [`suspend`](smmu_hw_mmio::suspend) has the argument.
//! 4. A caller that finds the slot asleep looks again behind a full barrier.
//! 5. The wake opens the slot, and then turns translation on behind a full barrier: the write of
//!    `CR0`. Of the barriers of 4 and 5 one comes first. If it is that of the caller, each walk of the
//!    SMMU sees the table entry that the caller has changed. If it is that of the wake, the caller sees
//!    the open slot, and sends its invalidation.
//!
//! `tests/loom.rs` leaves out each of 3 to 5 once, and a device then reaches a page that was unmapped.

#![cfg_attr(not(loom), expect(unreachable_pub, reason = "public for the loom tests"))]

use smmu_invs::{Counted, OutOfMemory, Publication};

use crate::sync::{Barrier, full_barrier};

/// What a [`Platform::QueueCell`](crate::Platform::QueueCell) publishes: a command queue, or none
/// during a restart or a sleep.
pub struct QueueSlot<Q> {
    state: SlotState<Q>,
    // Dropped with this slot, so its count tells whether a caller still has the slot.
    in_use: Counted<()>,
}

/// What callers find in a slot.
pub enum SlotState<Q> {
    /// A queue.
    Open(Counted<Q>),
    /// None: the SMMU restarts, or its last restart failed.
    Closed,
    /// None, and none is needed: the SMMU sleeps.
    Asleep,
}

/// Whether the flush at a wake stands for a caller's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// It does: all are invalidations.
    All,
    /// It does not stand for some of them.
    NotAll,
}

impl Owed {
    /// By the number of commands for which the flush does not stand.
    pub(crate) const fn of(unpaid: u32) -> Self {
        if unpaid == 0 { Owed::All } else { Owed::NotAll }
    }
}

/// What a caller found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// A queue; what it said.
    Queue(T),
    /// None, because the SMMU restarts.
    Closed,
    /// The SMMU sleeps, and its wake pays for the commands.
    Owed,
    /// The SMMU sleeps, and its wake does not pay for all of the commands.
    Asleep,
}

/// A slot that was replaced, and that callers may still use.
pub struct ReplacedSlot(Counted<()>);

impl ReplacedSlot {
    /// Whether a caller still uses the slot. Once `false`, it stays `false`.
    pub fn is_in_use(&self) -> bool {
        Counted::count(&self.0) > 1
    }
}

impl<Q> QueueSlot<Q> {
    /// A slot in this state.
    pub fn new(state: SlotState<Q>) -> Result<Self, OutOfMemory> {
        Ok(QueueSlot { state, in_use: Counted::new(())? })
    }

    pub(crate) const fn state(&self) -> &SlotState<Q> {
        &self.state
    }
}

/// Calls `f` with the queue of a slot, if it has one.
pub fn find<Q, C: Publication<QueueSlot<Q>>, T>(
    slot: &C,
    owed: Owed,
    f: impl FnOnce(&Q) -> T,
) -> Found<T> {
    match &slot.read().state {
        SlotState::Open(queue) => return Found::Queue(f(queue)),
        SlotState::Closed => return Found::Closed,
        SlotState::Asleep => {}
    }
    if owed == Owed::NotAll {
        return Found::Asleep;
    }
    // Step 4: the caller's table entry before the second look.
    full_barrier(Barrier::TableBeforeSecondLook);
    match &slot.read().state {
        SlotState::Open(queue) => Found::Queue(f(queue)),
        SlotState::Closed => Found::Closed,
        SlotState::Asleep => Found::Owed,
    }
}

/// Takes the queue of a slot away from new callers.
pub fn replace<Q, C: Publication<QueueSlot<Q>>>(slot: &C, closed: [C::Node; 2]) -> ReplacedSlot {
    let in_use = slot.read().in_use.clone();
    // A publication may keep a replaced value until the next one is published.
    closed.into_iter().for_each(|node| slot.publish(node));
    ReplacedSlot(in_use)
}
