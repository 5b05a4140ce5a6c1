//! One command queue of a driver. A restart of the SMMU replaces it while callers share it.
//!
//! 1. A caller holds the read guard of the slot for the whole of a call. So a replaced queue is
//!    dropped after its last caller has left it.
//! 2. The slot is closed, and the old queue has no caller, before the SMMU gets a new queue. So no
//!    caller of the old queue writes a register of the new one.

use smmu_cmdq::{CommandQueue, GroupQueue, OfSmmu, Opcodes, Pushed, SyncTicket};
use smmu_invs::{Counted, OutOfMemory, Publication};
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{Command, SmmuId, SyncProof};

use crate::platform::{Platform, Queue};

/// What a [`Platform::QueueCell`] publishes: a command queue, or none during a restart.
pub struct QueueSlot<P: Platform> {
    queue: Option<Queue<P>>,
    // Dropped with this slot, so its count tells whether a caller still has the slot.
    in_use: Counted<()>,
}

/// A slot with the memory that its publication needs.
pub(crate) type SlotNode<P> = <<P as Platform>::QueueCell as Publication<QueueSlot<P>>>::Node;

/// A slot that was replaced, and that callers may still use.
pub(crate) struct ReplacedSlot(Counted<()>);

impl ReplacedSlot {
    /// Whether a caller still uses the slot. Once `false`, it stays `false`.
    pub(crate) fn is_in_use(&self) -> bool {
        Counted::count(&self.0) > 1
    }
}

/// One command queue of an SMMU, as the [`Queues`](crate::Queues) of a driver hold it.
///
/// [`Driver::restart`](crate::Driver::restart) replaces the queue. During the restart, and for a
/// ticket of the old queue, a call returns [`SinkError::Lost`].
pub struct DriverQueue<P: Platform> {
    smmu: SmmuId,
    takes: Opcodes,
    slot: P::QueueCell,
}

impl<P: Platform> DriverQueue<P> {
    pub(crate) fn new(queue: Queue<P>) -> Result<Self, OutOfMemory> {
        let (smmu, takes) = (queue.smmu(), queue.takes());
        Ok(DriverQueue { smmu, takes, slot: P::QueueCell::new(Self::node(Some(queue))?) })
    }

    /// A slot for [`open`](Self::open), or without a queue for [`close`](Self::close).
    pub(crate) fn node(queue: Option<Queue<P>>) -> Result<SlotNode<P>, OutOfMemory> {
        P::QueueCell::node(QueueSlot { queue, in_use: Counted::new(())? })
    }

    /// Takes the queue away from new callers.
    pub(crate) fn close(&self, closed: [SlotNode<P>; 2]) -> ReplacedSlot {
        let in_use = self.slot.read().in_use.clone();
        // A publication may keep a replaced value until the next one is published.
        closed.into_iter().for_each(|node| self.slot.publish(node));
        ReplacedSlot(in_use)
    }

    /// Gives callers a new queue.
    pub(crate) fn open(&self, queue: SlotNode<P>) {
        self.slot.publish(queue);
    }

    /// Calls `f` with the queue. `None` while the SMMU restarts.
    pub fn with<T>(&self, f: impl FnOnce(&Queue<P>) -> T) -> Option<T> {
        self.slot.read().queue.as_ref().map(f)
    }

    fn call<T>(&self, f: impl FnOnce(&Queue<P>) -> Result<T, SinkError>) -> Result<T, SinkError> {
        // A new queue starts with `CMDQ_CONS` = 0.
        let replaced = SinkError::Lost { smmu: self.smmu, cons: 0 };
        match self.with(f) {
            // The caller names this SMMU, so the ticket is of a queue that was replaced.
            Some(Err(SinkError::UnknownSmmu { smmu })) if smmu == self.smmu => Err(replaced),
            Some(outcome) => outcome,
            None => Err(replaced),
        }
    }

    fn check(&self, smmu: SmmuId) -> Result<(), SinkError> {
        if smmu == self.smmu { Ok(()) } else { Err(SinkError::UnknownSmmu { smmu }) }
    }
}

impl<P: Platform> OfSmmu for DriverQueue<P> {
    fn smmu(&self) -> SmmuId {
        self.smmu
    }
}

impl<P: Platform> GroupQueue for DriverQueue<P> {
    fn takes(&self) -> Opcodes {
        self.takes
    }
}

impl<P: Platform> CommandSink for DriverQueue<P> {
    type Ticket = SyncTicket;
    type Pushed = Pushed;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        self.check(smmu)?;
        self.call(|queue| queue.issue(commands))
    }

    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Pushed>,
        commands: &[Command],
    ) -> Result<Pushed, SinkError> {
        self.check(smmu)?;
        self.call(|queue| queue.push(pushed, commands))
    }

    fn prove(&self, pushed: Pushed, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        self.check(pushed.smmu())?;
        self.call(|queue| queue.prove(pushed, commands))
    }

    fn wait(&self, ticket: SyncTicket) -> Result<SyncProof, SinkError> {
        self.check(ticket.smmu())?;
        self.call(|queue| CommandQueue::wait(queue, ticket))
    }
}
