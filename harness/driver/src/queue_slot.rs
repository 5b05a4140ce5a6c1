//! A command queue that a restart of the SMMU replaces while callers share it.
//!
//! 1. A caller holds the read guard of the slot for the whole of a call. So a replaced queue is
//!    dropped after its last caller has left it.
//! 2. The slot is closed, and the old queue has no caller, before the SMMU gets a new queue. So no
//!    caller of the old queue writes a register of the new one.

use core::marker::PhantomData;

use smmu_cmdq::{CommandQueue, GroupQueue, OfSmmu, Opcodes, Pushed, SyncTicket};
use smmu_invs::{Counted, OutOfMemory, Publication};
use smmu_types::seam::{CommandSink, DmaBlock, Registers, SinkError, Wait};
use smmu_types::{Command, SmmuId, SyncProof};

/// What a [`Platform::QueueCell`](crate::Platform::QueueCell) publishes: a command queue, or none
/// during a restart.
pub struct QueueSlot<R, B, W> {
    queue: Option<CommandQueue<R, B, W>>,
    // Dropped with this slot, so its count tells whether a caller still has the slot.
    in_use: Counted<()>,
}

/// The slot is published as a value of the cell; the type makes no queue of its own.
type Made<R, B, W> = fn() -> CommandQueue<R, B, W>;

/// A slot with the memory that its publication needs.
type SlotNode<R, B, W, C> = <C as Publication<QueueSlot<R, B, W>>>::Node;

/// A slot that was replaced, and that callers may still use.
pub(crate) struct ReplacedSlot(Counted<()>);

impl ReplacedSlot {
    /// Whether a caller still uses the slot. Once `false`, it stays `false`.
    pub(crate) fn is_in_use(&self) -> bool {
        Counted::count(&self.0) > 1
    }
}

/// One command queue of an SMMU, which a restart can replace. [`DriverQueue`](crate::DriverQueue) is
/// that of a platform.
///
/// [`Driver::restart`](crate::Driver::restart) replaces the queue. During the restart, and for a
/// ticket of the old queue, a call returns [`SinkError::Lost`].
pub struct ReplaceableQueue<R, B, W, C> {
    smmu: SmmuId,
    takes: Opcodes,
    slot: C,
    queue: PhantomData<Made<R, B, W>>,
}

impl<R, B, W, C> ReplaceableQueue<R, B, W, C>
where
    R: Registers,
    B: DmaBlock,
    W: Wait,
    C: Publication<QueueSlot<R, B, W>>,
{
    pub(crate) fn new(queue: CommandQueue<R, B, W>) -> Result<Self, OutOfMemory> {
        let (smmu, takes) = (queue.smmu(), queue.takes());
        Ok(ReplaceableQueue {
            smmu,
            takes,
            slot: C::new(Self::node(Some(queue))?),
            queue: PhantomData,
        })
    }

    /// A slot for [`open`](Self::open), or without a queue for [`close`](Self::close).
    pub(crate) fn node(
        queue: Option<CommandQueue<R, B, W>>,
    ) -> Result<SlotNode<R, B, W, C>, OutOfMemory> {
        C::node(QueueSlot { queue, in_use: Counted::new(())? })
    }

    /// Takes the queue away from new callers.
    pub(crate) fn close(&self, closed: [SlotNode<R, B, W, C>; 2]) -> ReplacedSlot {
        let in_use = self.slot.read().in_use.clone();
        // A publication may keep a replaced value until the next one is published.
        closed.into_iter().for_each(|node| self.slot.publish(node));
        ReplacedSlot(in_use)
    }

    /// Gives callers a new queue.
    pub(crate) fn open(&self, queue: SlotNode<R, B, W, C>) {
        self.slot.publish(queue);
    }

    /// Drops replaced queues that no caller uses any more, if the publication has kept some.
    pub(crate) fn reclaim(&self) {
        self.slot.reclaim_replaced();
    }

    /// Calls `f` with the queue. `None` while the SMMU restarts.
    pub fn with<T>(&self, f: impl FnOnce(&CommandQueue<R, B, W>) -> T) -> Option<T> {
        self.slot.read().queue.as_ref().map(f)
    }

    fn call<T>(
        &self,
        f: impl FnOnce(&CommandQueue<R, B, W>) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
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

impl<R, B, W, C> OfSmmu for ReplaceableQueue<R, B, W, C> {
    fn smmu(&self) -> SmmuId {
        self.smmu
    }
}

impl<R, B, W, C> GroupQueue for ReplaceableQueue<R, B, W, C>
where
    R: Registers,
    B: DmaBlock,
    W: Wait,
    C: Publication<QueueSlot<R, B, W>>,
{
    fn takes(&self) -> Opcodes {
        self.takes
    }
}

impl<R, B, W, C> CommandSink for ReplaceableQueue<R, B, W, C>
where
    R: Registers,
    B: DmaBlock,
    W: Wait,
    C: Publication<QueueSlot<R, B, W>>,
{
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
