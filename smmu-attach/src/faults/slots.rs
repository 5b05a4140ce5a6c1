//! The slots of a fault table: who answers a fault is decided by one compare-and-swap.
//!
//! ```text
//! free --open--> filling --> waiting --take--> sending --release--> free, of the next generation
//!                                                 |  ^
//!                                          keep   v  | take_kept
//!                                                 kept
//! ```
//!
//! 1. The opener claims a free slot with an acquire, and a slot is freed with a release. So the opener
//!    writes the words of the slot after the thread that freed it has read them. (loom does not
//!    model what this prevents: a load that sees a later store.)
//! 2. The opener writes the words, then makes the slot waiting with a release. A thread that sees
//!    the slot waiting, with an acquire, sees its words.
//! 3. Only the thread whose compare-and-swap took the slot sends. It frees the slot afterwards, or
//!    keeps the answer in it with a release. The swap needs no order: its thread has seen the words
//!    by step 2, or has the token.
//! 4. A generation belongs to one fault. A token of an earlier one takes nothing.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use smmu_types::{PrgIndex, PriResponse, ResumeAction, StreamId, SubstreamId};

use super::answer::{FaultId, FaultTag, Response};
use crate::sync::{AtomicU64, Barrier, Ordering, is_kept, order};

/// A slot, and the generation of the fault in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    index: usize,
    generation: u64,
}

/// What a slot is, in bits 7:0 of its state; the generation is above.
const FREE: u64 = 0;
const FILLING: u64 = 1;
const WAITING: u64 = 2;
const SENDING: u64 = 3;
/// Kept with the response in bits 3:0.
const KEPT: u64 = 0x10;

const PHASE: u64 = 0xff;

const fn state(generation: u64, phase: u64) -> u64 {
    generation << 8 | phase
}

struct Slot {
    state: AtomicU64,
    // Stream, kind of the tag, presence of a substream, tag.
    key: AtomicU64,
    substream: AtomicU64,
}

const GROUP: u64 = 1 << 31;
const HAS_SUBSTREAM: u64 = 1 << 30;

impl Slot {
    fn write(&self, id: &FaultId) {
        let tag = match id.tag {
            FaultTag::Stall(tag) => u64::from(tag),
            FaultTag::Group(group) => GROUP | u64::from(group.get()),
        };
        let present = if id.substream.is_some() { HAS_SUBSTREAM } else { 0 };
        self.key.store(u64::from(id.stream.0) << 32 | present | tag, Ordering::Relaxed);
        let substream = id.substream.map_or(0, |substream| substream.get().into());
        self.substream.store(substream, Ordering::Relaxed);
    }

    fn read(&self) -> FaultId {
        let key = self.key.load(Ordering::Relaxed);
        let substream = self.substream.load(Ordering::Relaxed);
        let tag = match key & GROUP {
            0 => FaultTag::Stall(key as u16),
            _ => FaultTag::Group(PrgIndex::new(key as u16).unwrap_or_default()),
        };
        FaultId {
            stream: StreamId((key >> 32) as u32),
            substream: if key & HAS_SUBSTREAM == 0 {
                None
            } else {
                SubstreamId::new(substream as u32)
            },
            tag,
        }
    }
}

/// Why a slot was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The same fault waits already.
    Repeated,
    /// Every slot is in use.
    Full,
}

/// How many faults have no answer in the command queue yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Faults whose token has not answered.
    pub waiting: u32,
    /// Faults whose answer a thread is sending at this moment.
    pub sending: u32,
    /// Faults whose answer the command queue did not take.
    pub kept: u32,
}

impl Outstanding {
    /// Whether every fault is answered.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.waiting == 0 && self.sending == 0 && self.kept == 0
    }
}

/// A fixed number of slots. Everything but its making is without lock and allocation.
pub(crate) struct SlotTable {
    slots: Vec<Slot>,
}

impl SlotTable {
    /// A table of free slots.
    pub(crate) fn new(capacity: usize) -> Result<Self, TryReserveError> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(capacity)?;
        slots.extend((0..capacity).map(|_| Slot {
            state: AtomicU64::new(state(0, FREE)),
            key: AtomicU64::new(0),
            substream: AtomicU64::new(0),
        }));
        Ok(SlotTable { slots })
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, index: usize) -> Option<&Slot> {
        self.slots.get(index)
    }

    /// Step 3: take a slot in this state.
    fn take_from(slot: &Slot, seen: u64) -> bool {
        let to = state(seen >> 8, SENDING);
        if !is_kept(Barrier::TakeBySwap) {
            let taken = slot.state.load(Ordering::Relaxed) == seen;
            if taken {
                slot.state.store(to, Ordering::Relaxed);
            }
            return taken;
        }
        let relaxed = Ordering::Relaxed;
        slot.state.compare_exchange(seen, to, relaxed, relaxed).is_ok()
    }

    /// Put a fault into a free slot. One thread at a time opens slots for one kind of fault.
    pub(crate) fn open(&self, id: &FaultId) -> Result<Ticket, Refused> {
        // A slot that sends is no repetition: the SMMU may have consumed the answer already, and
        // reported the next fault under the same tag.
        let repeats = |seen: u64, other: &FaultId| is_unanswered(seen & PHASE) && other.is_same(id);
        if self.find(0, repeats).is_some() {
            return Err(Refused::Repeated);
        }
        for (index, slot) in self.slots.iter().enumerate() {
            let seen = slot.state.load(Ordering::Relaxed);
            let generation = seen >> 8;
            let filling = state(generation, FILLING);
            let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
            let claimed = seen & PHASE == FREE
                && slot.state.compare_exchange(seen, filling, acquire, relaxed).is_ok();
            if claimed {
                slot.write(id);
                let waiting = order(Barrier::FillBeforeWaiting, Ordering::Release);
                slot.state.store(state(generation, WAITING), waiting);
                return Ok(Ticket { index, generation });
            }
        }
        Err(Refused::Full)
    }

    /// Become the only thread that answers a waiting fault. `false` if another one did.
    #[must_use]
    pub(crate) fn take(&self, Ticket { index, generation }: Ticket) -> bool {
        let waiting = state(generation, WAITING);
        self.slot(index).is_some_and(|slot| Self::take_from(slot, waiting))
    }

    /// Free a slot whose answer was sent, by the thread that took it.
    pub(crate) fn release(&self, Ticket { index, generation }: Ticket) {
        if let Some(slot) = self.slot(index) {
            slot.state.store(state(generation + 1, FREE), Ordering::Release);
        }
    }

    /// Keep an answer that was not sent, by the thread that took the slot.
    pub(crate) fn keep(&self, Ticket { index, generation }: Ticket, response: Response) {
        if let Some(slot) = self.slot(index) {
            let kept = KEPT | code(response);
            let release = order(Barrier::KeepRelease, Ordering::Release);
            slot.state.store(state(generation, kept), release);
        }
    }

    /// Take the first waiting fault from a slot on that is wanted.
    pub(crate) fn take_waiting(
        &self,
        mut from: usize,
        wanted: &impl Fn(&FaultId) -> bool,
    ) -> Option<(Ticket, FaultId)> {
        loop {
            let (ticket, id, _) =
                self.find(from, |seen, id| seen & PHASE == WAITING && wanted(id))?;
            if self.take(ticket) {
                return Some((ticket, id));
            }
            from = ticket.index + 1;
        }
    }

    /// Take the first kept answer from a slot on that is wanted.
    pub(crate) fn take_kept(
        &self,
        mut from: usize,
        wanted: &impl Fn(&FaultId) -> bool,
    ) -> Option<(Ticket, FaultId, Response)> {
        loop {
            let (ticket, id, seen) =
                self.find(from, |seen, id| response(seen & PHASE).is_some() && wanted(id))?;
            let taken = self.slot(ticket.index).is_some_and(|slot| Self::take_from(slot, seen));
            match response(seen & PHASE) {
                Some(response) if taken => return Some((ticket, id, response)),
                _ => from = ticket.index + 1,
            }
        }
    }

    /// Free each wanted slot without an answer.
    pub(crate) fn forget(&self, wanted: &impl Fn(&FaultId) -> bool) -> u32 {
        let (mut forgotten, mut from) = (0, 0);
        loop {
            let taken = match self.take_waiting(from, wanted) {
                Some((ticket, _)) => Some(ticket),
                None => self.take_kept(from, wanted).map(|(ticket, ..)| ticket),
            };
            let Some(ticket) = taken else { return forgotten };
            self.release(ticket);
            forgotten += 1;
            // Kept answers may lie before a waiting fault.
            from = 0;
        }
    }

    /// How many wanted faults are not answered.
    pub(crate) fn outstanding(&self, wanted: &impl Fn(&FaultId) -> bool) -> Outstanding {
        let mut found = Outstanding::default();
        for index in 0..self.slots.len() {
            let Some((_, seen)) = self.look(index, wanted) else { continue };
            match seen & PHASE {
                WAITING => found.waiting += 1,
                SENDING => found.sending += 1,
                phase if response(phase).is_some() => found.kept += 1,
                _ => {}
            }
        }
        found
    }

    /// The first slot from `from` on whose state and fault are wanted.
    fn find(
        &self,
        from: usize,
        wanted: impl Fn(u64, &FaultId) -> bool,
    ) -> Option<(Ticket, FaultId, u64)> {
        (from..self.slots.len()).find_map(|index| {
            let (id, seen) = self.look(index, &|_: &FaultId| true)?;
            let ticket = Ticket { index, generation: seen >> 8 };
            wanted(seen, &id).then_some((ticket, id, seen))
        })
    }

    /// The fault in a slot and the slot's state, if there is one and it is wanted.
    fn look(&self, index: usize, wanted: &impl Fn(&FaultId) -> bool) -> Option<(FaultId, u64)> {
        let slot = self.slot(index)?;
        let seen = slot.state.load(order(Barrier::SeeAcquire, Ordering::Acquire));
        if seen & PHASE == FREE || seen & PHASE == FILLING {
            return None;
        }
        let id = slot.read();
        wanted(&id).then_some((id, seen))
    }
}

/// Whether a fault in this phase has no answer on its way.
const fn is_unanswered(phase: u64) -> bool {
    phase == WAITING || response(phase).is_some()
}

const fn code(response: Response) -> u64 {
    match response {
        Response::Resume(ResumeAction::Terminate) => 0,
        Response::Resume(ResumeAction::Retry) => 1,
        Response::Resume(ResumeAction::Abort) => 2,
        Response::Group(PriResponse::Failure) => 4,
        Response::Group(PriResponse::Invalid) => 5,
        Response::Group(PriResponse::Success) => 6,
    }
}

const fn response(phase: u64) -> Option<Response> {
    Some(match phase.wrapping_sub(KEPT) {
        0 => Response::Resume(ResumeAction::Terminate),
        1 => Response::Resume(ResumeAction::Retry),
        2 => Response::Resume(ResumeAction::Abort),
        4 => Response::Group(PriResponse::Failure),
        5 => Response::Group(PriResponse::Invalid),
        6 => Response::Group(PriResponse::Success),
        _ => return None,
    })
}
