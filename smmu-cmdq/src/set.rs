//! The command queues of several SMMUs as one sink.

use core::marker::PhantomData;

use smmu_types::seam::{CommandSink, EncodedBatch, SinkError};
use smmu_types::{Command, SmmuId, SyncProof};

use crate::{CommandQueue, Pushed, QueueError, SyncTicket};

/// A queue, a ticket, or another value that belongs to one SMMU.
pub trait OfSmmu {
    /// The SMMU.
    fn smmu(&self) -> SmmuId;
}

impl<R, B, W, const CELLS: usize> OfSmmu for CommandQueue<R, B, W, CELLS> {
    fn smmu(&self) -> SmmuId {
        self.hot.smmu
    }
}

impl OfSmmu for Pushed {
    fn smmu(&self) -> SmmuId {
        Pushed::smmu(self)
    }
}

impl OfSmmu for SyncTicket {
    fn smmu(&self) -> SmmuId {
        SyncTicket::smmu(self)
    }
}

/// The queues of several SMMUs as one [`CommandSink`].
///
/// `Q` holds the elements: an array, a slice by reference, or a `Vec`. `E` is the sink of one SMMU:
/// a [`CommandQueue`], or a [`QueueGroup`](crate::QueueGroup) of several. A set finds an element at
/// once if its index is the number of its SMMU; otherwise it searches.
#[derive(Debug)]
pub struct QueueSet<Q, E> {
    queues: Q,
    marker: PhantomData<fn() -> E>,
}

impl<Q: AsRef<[E]>, E: OfSmmu> QueueSet<Q, E> {
    /// A set of queues of different SMMUs.
    ///
    /// # Errors
    ///
    /// [`QueueError::Duplicate`]: two elements belong to one SMMU.
    pub fn new(queues: Q) -> Result<Self, QueueError> {
        let all = queues.as_ref();
        for (at, queue) in all.iter().enumerate() {
            if all[..at].iter().any(|other| other.smmu() == queue.smmu()) {
                return Err(QueueError::Duplicate { smmu: queue.smmu() });
            }
        }
        Ok(QueueSet { queues, marker: PhantomData })
    }

    /// All elements.
    pub fn queues(&self) -> &[E] {
        self.queues.as_ref()
    }

    /// The element of one SMMU.
    pub fn get(&self, smmu: SmmuId) -> Option<&E> {
        let all = self.queues();
        all.get(usize::from(smmu.0))
            .filter(|queue| queue.smmu() == smmu)
            .or_else(|| all.iter().find(|queue| queue.smmu() == smmu))
    }

    fn find(&self, smmu: SmmuId) -> Result<&E, SinkError> {
        self.get(smmu).ok_or(SinkError::UnknownSmmu { smmu })
    }
}

impl<Q, E> CommandSink for QueueSet<Q, E>
where
    Q: AsRef<[E]>,
    E: OfSmmu + CommandSink<Ticket: OfSmmu, Pushed: OfSmmu>,
{
    type Ticket = E::Ticket;
    type Pushed = E::Pushed;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<E::Ticket, SinkError> {
        self.find(smmu)?.issue(smmu, commands)
    }

    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<E::Pushed>,
        commands: &[Command],
    ) -> Result<E::Pushed, SinkError> {
        self.find(smmu)?.push(smmu, pushed, commands)
    }

    fn prove(&self, pushed: E::Pushed, commands: &[Command]) -> Result<E::Ticket, SinkError> {
        self.find(pushed.smmu())?.prove(pushed, commands)
    }

    fn wait(&self, ticket: E::Ticket) -> Result<SyncProof, SinkError> {
        self.find(ticket.smmu())?.wait(ticket)
    }

    fn issue_encoded(
        &self,
        smmu: SmmuId,
        commands: EncodedBatch<'_>,
    ) -> Result<E::Ticket, SinkError> {
        self.find(smmu)?.issue_encoded(smmu, commands)
    }

    fn push_encoded(
        &self,
        smmu: SmmuId,
        pushed: Option<E::Pushed>,
        commands: EncodedBatch<'_>,
    ) -> Result<E::Pushed, SinkError> {
        self.find(smmu)?.push_encoded(smmu, pushed, commands)
    }

    fn prove_encoded(
        &self,
        pushed: E::Pushed,
        commands: EncodedBatch<'_>,
    ) -> Result<E::Ticket, SinkError> {
        self.find(pushed.smmu())?.prove_encoded(pushed, commands)
    }
}
