use core::fmt;
use core::marker::PhantomData;

use smmu_types::seam::{CommandSink, Registers, SinkError, Wait};
use smmu_types::{Command, SmmuId, SyncProof};

use crate::reserve::Reserve;
use crate::slots::Slots;
use crate::{CommandQueue, CompareExchange, Pushed, QueueError, SyncTicket};

/// The queues of several SMMUs as one [`CommandSink`].
///
/// `Q` is whatever holds the queues: an array, a slice by reference, a `Vec`. A queue whose index is
/// the number of its SMMU is found at once, others by a search.
pub struct QueueSet<Q, R, B, W, S = CompareExchange, const CELLS: usize = 1024> {
    queues: Q,
    marker: Marker<R, B, W, S>,
}

type Marker<R, B, W, S> = PhantomData<fn() -> (R, B, W, S)>;

impl<Q, R, B, W, S, const CELLS: usize> QueueSet<Q, R, B, W, S, CELLS>
where
    Q: AsRef<[CommandQueue<R, B, W, S, CELLS>]>,
    R: Registers,
    B: Slots,
    W: Wait,
    S: Reserve,
{
    /// A set of queues of different SMMUs.
    pub fn new(queues: Q) -> Result<Self, QueueError> {
        let all = queues.as_ref();
        for (at, queue) in all.iter().enumerate() {
            if all[..at].iter().any(|other| other.smmu() == queue.smmu()) {
                return Err(QueueError::Duplicate { smmu: queue.smmu() });
            }
        }
        Ok(QueueSet { queues, marker: PhantomData })
    }

    /// All queues.
    pub fn queues(&self) -> &[CommandQueue<R, B, W, S, CELLS>] {
        self.queues.as_ref()
    }

    /// The queue of one SMMU.
    pub fn get(&self, smmu: SmmuId) -> Option<&CommandQueue<R, B, W, S, CELLS>> {
        let all = self.queues();
        all.get(usize::from(smmu.0))
            .filter(|queue| queue.smmu() == smmu)
            .or_else(|| all.iter().find(|queue| queue.smmu() == smmu))
    }

    fn find(&self, smmu: SmmuId) -> Result<&CommandQueue<R, B, W, S, CELLS>, SinkError> {
        self.get(smmu).ok_or(SinkError::UnknownSmmu { smmu })
    }
}

impl<Q, R, B, W, S, const CELLS: usize> CommandSink for QueueSet<Q, R, B, W, S, CELLS>
where
    Q: AsRef<[CommandQueue<R, B, W, S, CELLS>]>,
    R: Registers,
    B: Slots,
    W: Wait,
    S: Reserve,
{
    type Ticket = SyncTicket;
    type Pushed = Pushed;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        self.find(smmu)?.issue(commands)
    }

    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Pushed>,
        commands: &[Command],
    ) -> Result<Pushed, SinkError> {
        self.find(smmu)?.push(pushed, commands)
    }

    fn prove(&self, pushed: Pushed, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        self.find(pushed.smmu())?.prove(pushed, commands)
    }

    fn wait(&self, ticket: SyncTicket) -> Result<SyncProof, SinkError> {
        self.find(ticket.smmu())?.wait(ticket)
    }
}

impl<Q: fmt::Debug, R, B, W, S, const CELLS: usize> fmt::Debug for QueueSet<Q, R, B, W, S, CELLS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueSet").field("queues", &self.queues).finish()
    }
}
