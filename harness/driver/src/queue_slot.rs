//! A command queue that a restart of the SMMU replaces while callers share it.
//!
//! The numbered argument is in [`slot`](crate::slot).

use core::marker::PhantomData;

use smmu_cmdq::{CommandQueue, GroupQueue, OfSmmu, Opcodes, Pushed, SyncTicket};
use smmu_invs::{Counted, OutOfMemory, Publication};
use smmu_types::fields::commands::opcode;
use smmu_types::seam::{CommandSink, DmaBlock, EncodedBatch, Registers, SinkError, Wait};
use smmu_types::{Command, RawCommand, SmmuId, SyncProof};

use crate::slot::{self, Found, Owed, QueueSlot, ReplacedSlot, SlotState};

/// Commands that were sent, or that the wake of a sleeping SMMU pays for.
#[derive(Debug)]
#[must_use = "the commands are not known to be carried out until they are waited for"]
pub struct Sent<T> {
    smmu: SmmuId,
    // `None`: the SMMU slept, so no queue has them.
    queued: Option<T>,
    /// See [`Commands::unpaid`]. A number: a result would keep its tag in the spare values of an enum here, and be
    /// copied in parts.
    unpaid: u32,
}

impl<T> OfSmmu for Sent<T> {
    fn smmu(&self) -> SmmuId {
        self.smmu
    }
}

// Callers get it in a result, of which compilers copy up to four words in line.
const _: () = assert!(size_of::<Sent<SyncTicket>>() <= 32);

/// The commands of a call.
#[derive(Clone, Copy)]
enum Commands<'a> {
    Typed(&'a [Command]),
    Encoded(&'a [RawCommand]),
}

impl Commands<'_> {
    /// The number of commands for which the flush at a wake does not stand: all but invalidations, and
    /// but what changes nothing (`CMD_SYNC` and `CMD_PREFETCH_*`).
    fn unpaid(self) -> u32 {
        let is_unpaid = |command: RawCommand| match u64::from(command.opcode()) {
            opcode::SYNC | opcode::PREFETCH_CONFIG | opcode::PREFETCH_ADDR => false,
            _ => !command.is_invalidation(),
        };
        let count = match self {
            Commands::Typed(all) => all.iter().filter(|one| is_unpaid(one.encode())).count(),
            Commands::Encoded(all) => all.iter().filter(|one| is_unpaid(**one)).count(),
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn issue<R, B, W>(self, queue: &CommandQueue<R, B, W>) -> Result<SyncTicket, SinkError>
    where
        R: Registers,
        B: DmaBlock,
        W: Wait,
    {
        match self {
            Commands::Typed(commands) => queue.issue(commands),
            Commands::Encoded(commands) => queue.issue_encoded(commands),
        }
    }
}

/// The slot is published as a value of the cell; the type makes no queue of its own.
type Made<R, B, W> = fn() -> CommandQueue<R, B, W>;

/// A slot with the memory that its publication needs.
type SlotNode<R, B, W, C> = <C as Publication<QueueSlot<CommandQueue<R, B, W>>>>::Node;

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
    C: Publication<QueueSlot<CommandQueue<R, B, W>>>,
{
    pub(crate) fn new(queue: CommandQueue<R, B, W>) -> Result<Self, OutOfMemory> {
        let (smmu, takes) = (queue.smmu(), queue.takes());
        Ok(ReplaceableQueue {
            smmu,
            takes,
            slot: C::new(Self::node(SlotState::Open(Counted::new(queue)?))?),
            queue: PhantomData,
        })
    }

    /// A slot for [`open`](Self::open), or without a queue for [`close`](Self::close).
    pub(crate) fn node(
        state: SlotState<CommandQueue<R, B, W>>,
    ) -> Result<SlotNode<R, B, W, C>, OutOfMemory> {
        C::node(QueueSlot::new(state)?)
    }

    /// Keeps the memory of the queue, also after the slot is closed.
    pub(crate) fn keep(&self) -> Option<Counted<CommandQueue<R, B, W>>> {
        match self.slot.read().state() {
            SlotState::Open(queue) => Some(queue.clone()),
            SlotState::Closed | SlotState::Asleep => None,
        }
    }

    /// Takes the queue away from new callers.
    pub(crate) fn close(&self, closed: [SlotNode<R, B, W, C>; 2]) -> ReplacedSlot {
        slot::replace(&self.slot, closed)
    }

    /// Gives callers a new queue.
    pub(crate) fn open(&self, queue: SlotNode<R, B, W, C>) {
        self.slot.publish(queue);
    }

    /// Drops replaced queues that no caller uses any more, if the publication has kept some.
    pub(crate) fn reclaim(&self) {
        self.slot.reclaim_replaced();
    }

    /// Calls `f` with the queue. `None` while the SMMU restarts or sleeps.
    pub fn with<T>(&self, f: impl FnOnce(&CommandQueue<R, B, W>) -> T) -> Option<T> {
        match self.slot.read().state() {
            SlotState::Open(queue) => Some(f(queue)),
            SlotState::Closed | SlotState::Asleep => None,
        }
    }

    /// Calls `f` with the queue. `None`: the SMMU sleeps, and its wake pays for the commands.
    fn call<T>(
        &self,
        unpaid: u32,
        f: impl FnOnce(&CommandQueue<R, B, W>) -> Result<T, SinkError>,
    ) -> Result<Option<T>, SinkError> {
        match slot::find(&self.slot, Owed::of(unpaid), f) {
            Found::Queue(outcome) => self.told(outcome),
            Found::Closed => Err(self.replaced()),
            Found::Owed => Ok(None),
            Found::Asleep => Err(SinkError::Asleep { smmu: self.smmu }),
        }
    }

    fn told<T>(&self, outcome: Result<T, SinkError>) -> Result<Option<T>, SinkError> {
        match outcome {
            // The caller names this SMMU, so the ticket is of a queue that was replaced.
            Err(SinkError::UnknownSmmu { smmu }) if smmu == self.smmu => Err(self.replaced()),
            outcome => outcome.map(Some),
        }
    }

    const fn replaced(&self) -> SinkError {
        // A new queue starts with `CMDQ_CONS` = 0.
        SinkError::Lost { smmu: self.smmu, cons: 0 }
    }

    fn check(&self, smmu: SmmuId) -> Result<(), SinkError> {
        if smmu == self.smmu { Ok(()) } else { Err(SinkError::UnknownSmmu { smmu }) }
    }

    fn issue_any(
        &self,
        smmu: SmmuId,
        commands: Commands<'_>,
    ) -> Result<Sent<SyncTicket>, SinkError> {
        self.check(smmu)?;
        let unpaid = commands.unpaid();
        let queued = self.call(unpaid, |queue| commands.issue(queue))?;
        Ok(Sent { smmu, queued, unpaid })
    }

    fn push_any(
        &self,
        smmu: SmmuId,
        pushed: Option<Sent<Pushed>>,
        commands: Commands<'_>,
    ) -> Result<Sent<Pushed>, SinkError> {
        self.check(smmu)?;
        let before = pushed.as_ref().map_or(0, |pushed| pushed.unpaid);
        let unpaid = before.saturating_add(commands.unpaid());
        let pushed = pushed.and_then(|pushed| pushed.queued);
        let queued = self.call(unpaid, |queue| match commands {
            Commands::Typed(commands) => queue.push(pushed, commands),
            Commands::Encoded(commands) => queue.push_encoded(pushed, commands),
        })?;
        Ok(Sent { smmu, queued, unpaid })
    }

    fn prove_any(
        &self,
        pushed: Sent<Pushed>,
        commands: Commands<'_>,
    ) -> Result<Sent<SyncTicket>, SinkError> {
        let smmu = pushed.smmu;
        self.check(smmu)?;
        let unpaid = pushed.unpaid.saturating_add(commands.unpaid());
        let queued = self.call(unpaid, |queue| match (pushed.queued, commands) {
            (Some(pushed), Commands::Typed(commands)) => queue.prove(pushed, commands),
            (Some(pushed), Commands::Encoded(commands)) => queue.prove_encoded(pushed, commands),
            (None, commands) => commands.issue(queue),
        })?;
        Ok(Sent { smmu, queued, unpaid })
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
    C: Publication<QueueSlot<CommandQueue<R, B, W>>>,
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
    C: Publication<QueueSlot<CommandQueue<R, B, W>>>,
{
    type Ticket = Sent<SyncTicket>;
    type Pushed = Sent<Pushed>;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        self.issue_any(smmu, Commands::Typed(commands))
    }

    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: &[Command],
    ) -> Result<Self::Pushed, SinkError> {
        self.push_any(smmu, pushed, Commands::Typed(commands))
    }

    fn prove(&self, pushed: Self::Pushed, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        self.prove_any(pushed, Commands::Typed(commands))
    }

    fn wait(&self, ticket: Self::Ticket) -> Result<SyncProof, SinkError> {
        let Sent { smmu, queued, unpaid } = ticket;
        self.check(smmu)?;
        // Step 3 of the slot: what is not in a queue is done as far as any transaction can tell.
        let Some(ticket) = queued else { return Ok(SyncProof::vouch(smmu)) };
        let proof = self.call(unpaid, |queue| CommandQueue::wait(queue, ticket))?;
        Ok(proof.unwrap_or_else(|| SyncProof::vouch(smmu)))
    }

    fn issue_encoded(
        &self,
        smmu: SmmuId,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Ticket, SinkError> {
        self.issue_any(smmu, Commands::Encoded(commands.words()))
    }

    fn push_encoded(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Pushed, SinkError> {
        self.push_any(smmu, pushed, Commands::Encoded(commands.words()))
    }

    fn prove_encoded(
        &self,
        pushed: Self::Pushed,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Ticket, SinkError> {
        self.prove_any(pushed, Commands::Encoded(commands.words()))
    }
}
