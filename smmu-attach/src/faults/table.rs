//! The faults of one SMMU that wait for an answer.

use core::fmt;

use smmu_types::seam::SinkError;
use smmu_types::{Counted, EventRecord, PriRecord, SmmuId, SubstreamId};

use super::answer::{AnswerSink, Answered, FaultId, FaultTag, Response};
use super::slots::{Outstanding, Refused, SlotTable, Ticket};
use super::token::{PageGroup, StalledFault};
use crate::{AttachError, Device, Platform};

/// What became of a record.
#[derive(Debug)]
#[must_use = "a fault that is dropped is answered with an abort"]
pub enum Taken<F> {
    /// A fault that waits for the token's answer.
    Fault(F),
    /// Nothing waits: an event of a terminated transaction, a request that is not the last of its
    /// group, or a stop marker.
    NoAnswer,
    /// The same fault waits already; it gets one answer. A device or an SMMU that repeats itself is
    /// faulty.
    Repeated,
    /// The table was full, and has answered.
    NoRoom,
}

/// What [`FaultTable::withdraw`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "answers that are kept wait for `FaultTable::send_kept`"]
pub struct Withdrawn {
    /// Faults that it took from their tokens. Their answers are sent or kept.
    pub answered: u32,
    /// The first error of the command queue, if there was one: answers are kept.
    pub error: Option<SinkError>,
    /// What still has no answer in the command queue: kept answers, and faults that another thread is
    /// answering at this moment.
    pub left: Outstanding,
}

struct FaultTableBody<S> {
    sink: S,
    smmu: SmmuId,
    slots: SlotTable,
}

/// The faults of one SMMU that wait for an answer. A clone is another reference to the same table.
///
/// An interrupt handler may call everything but [`new`](Self::new). One thread at a time calls
/// [`take_event`](Self::take_event), and one calls [`take_request`](Self::take_request): the readers
/// of the two queues. All else may run beside them on any CPU.
pub struct FaultTable<S: AnswerSink>(Counted<FaultTableBody<S>>);

impl<S: AnswerSink> Clone for FaultTable<S> {
    fn clone(&self) -> Self {
        FaultTable(self.0.clone())
    }
}

impl<S: AnswerSink> fmt::Debug for FaultTable<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FaultTableBody { smmu, .. } = &*self.0;
        f.debug_struct("FaultTable").field("smmu", smmu).finish_non_exhaustive()
    }
}

impl<S: AnswerSink> FaultTable<S> {
    /// A table for `capacity` faults at a time.
    ///
    /// `IDR5.STALL_MAX` is the most transactions that stall at a time. The devices with PRI say how
    /// many requests each has under way at most. A table for both is never full.
    ///
    /// # Errors
    ///
    /// Memory ran out.
    pub fn new(sink: S, smmu: SmmuId, capacity: usize) -> Result<Self, AttachError> {
        let slots = SlotTable::new(capacity).map_err(|_| AttachError::OutOfMemory { smmu })?;
        Ok(FaultTable(Counted::new(FaultTableBody { sink, smmu, slots })?))
    }

    /// The SMMU.
    #[must_use]
    pub fn smmu(&self) -> SmmuId {
        self.0.smmu
    }

    /// The number of faults that the table has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.slots.capacity()
    }

    /// Takes charge of an event record.
    ///
    /// # Errors
    ///
    /// The table is full, and the command queue does not take its answer. The record is not taken:
    /// leave it in the event queue, and call again later.
    pub fn take_event(&self, record: EventRecord) -> Result<Taken<StalledFault<S>>, SinkError> {
        let taken = self.take_fault(FaultId::of_event(&record))?;
        Ok(taken.map(|ticket| StalledFault::new(self.clone(), ticket, record)))
    }

    /// Takes charge of a page request.
    ///
    /// # Errors
    ///
    /// As of [`take_event`](Self::take_event); leave the request in the PRI queue.
    pub fn take_request(&self, record: PriRecord) -> Result<Taken<PageGroup<S>>, SinkError> {
        let taken = self.take_fault(FaultId::of_request(&record))?;
        Ok(taken.map(|ticket| PageGroup::new(self.clone(), ticket, record)))
    }

    fn take_fault(&self, id: Option<FaultId>) -> Result<Taken<Ticket>, SinkError> {
        let Some(id) = id else { return Ok(Taken::NoAnswer) };
        match self.0.slots.open(&id) {
            Ok(ticket) => Ok(Taken::Fault(ticket)),
            Err(Refused::Repeated) => Ok(Taken::Repeated),
            Err(Refused::Full) => {
                self.0.sink.answer(self.0.smmu, id.command(id.no_room()))?;
                Ok(Taken::NoRoom)
            }
        }
    }

    /// Sends the answers that the command queue did not take before. Returns how many.
    ///
    /// # Errors
    ///
    /// The command queue does not take one of them; it and those behind it stay kept.
    pub fn send_kept(&self) -> Result<u32, SinkError> {
        self.send_kept_of(&|_| true)
    }

    fn send_kept_of(&self, wanted: &impl Fn(&FaultId) -> bool) -> Result<u32, SinkError> {
        let mut sent = 0;
        // Each answer that is sent frees its slot, so each round takes another one.
        while let Some((ticket, id, response)) = self.0.slots.take_kept(0, wanted) {
            self.send(ticket, &id, response)?;
            sent += 1;
        }
        Ok(sent)
    }

    /// Answers each fault that still waits and that is `wanted`: a stalled transaction with an abort,
    /// a group with `InvalidRequest`. Their tokens answer [`Answered::Withdrawn`] from now on.
    ///
    /// After the first error of the command queue, it keeps the answers without trying. So it waits
    /// for the queue once at most.
    pub fn withdraw(&self, wanted: impl Fn(&FaultId) -> bool) -> Withdrawn {
        let slots = &self.0.slots;
        let mut withdrawn =
            Withdrawn { error: self.send_kept_of(&wanted).err(), ..Withdrawn::default() };
        while let Some((ticket, id)) = slots.take_waiting(0, &wanted) {
            withdrawn.answered += 1;
            let refusal = id.refusal();
            match withdrawn.error {
                Some(_) => slots.keep(ticket, refusal),
                None => withdrawn.error = self.send(ticket, &id, refusal).err(),
            }
        }
        withdrawn.left = slots.outstanding(&wanted);
        withdrawn
    }

    /// [`withdraw`](Self::withdraw) for all faults of a device.
    pub fn withdraw_device<P: Platform>(&self, device: &Device<P>) -> Withdrawn {
        self.withdraw(|id| device.streams().any(|stream| stream == id.stream))
    }

    /// [`withdraw`](Self::withdraw) for the faults of one substream of a device, or of its
    /// transactions without a SubstreamID.
    pub fn withdraw_substream<P: Platform>(
        &self,
        device: &Device<P>,
        substream: Option<SubstreamId>,
    ) -> Withdrawn {
        self.withdraw(|id| {
            id.substream == substream && device.streams().any(|stream| stream == id.stream)
        })
    }

    /// How many of the `wanted` faults have no answer in the command queue yet.
    #[must_use]
    pub fn outstanding_of(&self, wanted: impl Fn(&FaultId) -> bool) -> Outstanding {
        self.0.slots.outstanding(&wanted)
    }

    /// How many faults have no answer in the command queue yet.
    #[must_use]
    pub fn outstanding(&self) -> Outstanding {
        self.outstanding_of(|_| true)
    }

    /// Forgets all stalled transactions, because translation went off (`CR0.SMMUEN` = 0): the SMMU
    /// has terminated them. Returns how many. Their tokens answer [`Answered::Withdrawn`].
    ///
    /// # Hazard
    ///
    /// The command queue takes nothing from before this call until after it, and no thread is sending
    /// ([`Outstanding::sending`] = 0). Otherwise an old answer may reach a new transaction with the
    /// same tag.
    pub fn forget_stalls(&self) -> u32 {
        self.0.slots.forget(&|id| matches!(id.tag, FaultTag::Stall(_)))
    }

    /// Forgets everything, because the SMMU is gone for good. Returns how many faults had no answer.
    pub fn forget_all(&self) -> u32 {
        self.0.slots.forget(&|_| true)
    }

    /// Answers with a token.
    pub(crate) fn answer(&self, ticket: Ticket, id: &FaultId, response: Response) -> Answered {
        if !self.0.slots.take(ticket) {
            return Answered::Withdrawn;
        }
        match self.send(ticket, id, response) {
            Ok(()) => Answered::Sent,
            Err(error) => Answered::Kept(error),
        }
    }

    /// Send an answer whose slot this thread has taken, or keep it.
    fn send(&self, ticket: Ticket, id: &FaultId, response: Response) -> Result<(), SinkError> {
        let mut sending = Sending { slots: &self.0.slots, ticket, response, sent: false };
        self.0.sink.answer(self.0.smmu, id.command(response))?;
        sending.sent = true;
        Ok(())
    }
}

/// Releases the slot of an answer once it is sent. Keeps the answer otherwise, also if the sink
/// panics.
struct Sending<'t> {
    slots: &'t SlotTable,
    ticket: Ticket,
    response: Response,
    sent: bool,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if self.sent {
            self.slots.release(self.ticket);
        } else {
            self.slots.keep(self.ticket, self.response);
        }
    }
}

impl<F> Taken<F> {
    fn map<G>(self, make: impl FnOnce(F) -> G) -> Taken<G> {
        match self {
            Taken::Fault(fault) => Taken::Fault(make(fault)),
            Taken::NoAnswer => Taken::NoAnswer,
            Taken::Repeated => Taken::Repeated,
            Taken::NoRoom => Taken::NoRoom,
        }
    }

    /// The fault, if there is one to answer.
    #[must_use]
    pub fn fault(self) -> Option<F> {
        match self {
            Taken::Fault(fault) => Some(fault),
            _ => None,
        }
    }
}
