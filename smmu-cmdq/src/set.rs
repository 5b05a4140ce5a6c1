use core::fmt;
use core::marker::PhantomData;

use lock_api::RawMutex;
use smmu_types::seam::{CommandSink, DmaBlock, Registers, SinkError, Wait};
use smmu_types::{Command, SmmuId, SyncProof};

use crate::{CommandQueue, QueueError, SyncTicket};

/// The queues of several SMMUs as one [`CommandSink`].
///
/// `Q` is whatever holds the queues: an array, a slice by reference, a `Vec`. A queue whose index is
/// the number of its SMMU is found at once, others by a search.
pub struct QueueSet<Q, R, B, W, L> {
    queues: Q,
    marker: Marker<R, B, W, L>,
}

type Marker<R, B, W, L> = PhantomData<fn() -> (R, B, W, L)>;

impl<Q, R, B, W, L> QueueSet<Q, R, B, W, L>
where
    Q: AsRef<[CommandQueue<R, B, W, L>]>,
    R: Registers,
    B: DmaBlock,
    W: Wait,
    L: RawMutex,
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
    pub fn queues(&self) -> &[CommandQueue<R, B, W, L>] {
        self.queues.as_ref()
    }

    /// The queue of one SMMU.
    pub fn get(&self, smmu: SmmuId) -> Option<&CommandQueue<R, B, W, L>> {
        let all = self.queues();
        all.get(usize::from(smmu.0))
            .filter(|queue| queue.smmu() == smmu)
            .or_else(|| all.iter().find(|queue| queue.smmu() == smmu))
    }

    fn find(&self, smmu: SmmuId) -> Result<&CommandQueue<R, B, W, L>, SinkError> {
        self.get(smmu).ok_or(SinkError::UnknownSmmu { smmu })
    }
}

impl<Q, R, B, W, L> CommandSink for QueueSet<Q, R, B, W, L>
where
    Q: AsRef<[CommandQueue<R, B, W, L>]>,
    R: Registers,
    B: DmaBlock,
    W: Wait,
    L: RawMutex,
{
    type Ticket = SyncTicket;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        self.find(smmu)?.issue(commands)
    }

    fn push(&self, smmu: SmmuId, commands: &[Command]) -> Result<(), SinkError> {
        self.find(smmu)?.push(commands)
    }

    fn wait(&self, ticket: SyncTicket) -> Result<SyncProof, SinkError> {
        self.find(ticket.smmu())?.wait(ticket)
    }
}

impl<Q: fmt::Debug, R, B, W, L> fmt::Debug for QueueSet<Q, R, B, W, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueSet").field("queues", &self.queues).finish()
    }
}
