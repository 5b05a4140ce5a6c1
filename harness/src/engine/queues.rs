//! The command queues of all SMMUs as one sink: of each SMMU the main queue, and a second one where it has one.
//!
//! What the second queue takes goes there, everything else to the main one. Commands that are proven together stay in
//! order: a call that has to change from the one queue to the other waits for the one first.

use smmu_cmdq::{CommandQueue, Pushed, QueueSet, SyncTicket};
use smmu_types::pool::PoolBlock;
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{Command, SmmuId, SyncProof};

use super::tap::Tap;
use crate::machine::{Clock, Ram};
use crate::scenario::{QueueName, SecondQueueKind};

/// One queue of the harness.
pub(crate) type Queue = CommandQueue<Tap, PoolBlock<Ram>, Clock>;

/// The main queues, in the order of their SMMUs.
pub(crate) type MainQueues = QueueSet<Vec<Queue>, Tap, PoolBlock<Ram>, Clock>;

/// A second queue, and what it takes.
#[derive(Debug)]
pub(crate) struct SecondQueue {
    pub(crate) kind: SecondQueueKind,
    pub(crate) queue: Queue,
}

impl SecondQueue {
    fn takes(&self, commands: &[Command]) -> bool {
        match self.kind {
            SecondQueueKind::Full => true,
            SecondQueueKind::Restricted => commands.iter().all(|command| {
                matches!(
                    command,
                    Command::TlbiNhAsid { .. }
                        | Command::TlbiNhVa { .. }
                        | Command::AtcInv { .. }
                        | Command::Sync { .. }
                )
            }),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Queues {
    main: MainQueues,
    /// In the order of the SMMUs.
    second: Vec<Option<SecondQueue>>,
}

/// Something of one of the two queues of an SMMU.
#[derive(Debug)]
pub struct Of<T> {
    smmu: SmmuId,
    queue: QueueName,
    what: T,
}

impl Queues {
    pub(crate) fn new(main: MainQueues, second: Vec<Option<SecondQueue>>) -> Self {
        Queues { main, second }
    }

    /// A queue of an SMMU, if it has that one.
    pub(crate) fn get(&self, smmu: SmmuId, queue: QueueName) -> Option<&Queue> {
        match queue {
            QueueName::Main => self.main.get(smmu),
            QueueName::Second => self.second_of(smmu).map(|second| &second.queue),
        }
    }

    fn second_of(&self, smmu: SmmuId) -> Option<&SecondQueue> {
        self.second.get(usize::from(smmu.0))?.as_ref()
    }

    fn find(&self, smmu: SmmuId, queue: QueueName) -> Result<&Queue, SinkError> {
        self.get(smmu, queue).ok_or(SinkError::UnknownSmmu { smmu })
    }

    /// Where commands go.
    fn choose(&self, smmu: SmmuId, commands: &[Command]) -> QueueName {
        match self.second_of(smmu).is_some_and(|second| second.takes(commands)) {
            true => QueueName::Second,
            false => QueueName::Main,
        }
    }

    /// Where commands go that must stand behind what was `pushed`, and what of it is still to be proven.
    fn behind(
        &self,
        smmu: SmmuId,
        pushed: Option<Of<Pushed>>,
        commands: &[Command],
    ) -> Result<(QueueName, Option<Pushed>), SinkError> {
        let choice = self.choose(smmu, commands);
        match pushed {
            None => Ok((choice, None)),
            Some(pushed) if pushed.smmu != smmu => Err(SinkError::UnknownSmmu { smmu }),
            // The main queue takes everything.
            Some(Of { queue: QueueName::Main, what, .. }) => Ok((QueueName::Main, Some(what))),
            Some(Of { queue, what, .. }) if queue == choice => Ok((queue, Some(what))),
            Some(Of { queue, what, .. }) => {
                let queue = self.find(smmu, queue)?;
                let _proof = queue.wait(queue.prove(what, &[])?)?;
                Ok((choice, None))
            }
        }
    }
}

impl CommandSink for Queues {
    type Ticket = Of<SyncTicket>;
    type Pushed = Of<Pushed>;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        let queue = self.choose(smmu, commands);
        let what = self.find(smmu, queue)?.issue(commands)?;
        Ok(Of { smmu, queue, what })
    }

    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: &[Command],
    ) -> Result<Self::Pushed, SinkError> {
        let (queue, pushed) = self.behind(smmu, pushed, commands)?;
        let what = self.find(smmu, queue)?.push(pushed, commands)?;
        Ok(Of { smmu, queue, what })
    }

    fn prove(&self, pushed: Self::Pushed, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        let smmu = pushed.smmu;
        let (queue, pushed) = self.behind(smmu, Some(pushed), commands)?;
        let found = self.find(smmu, queue)?;
        let what = match pushed {
            Some(pushed) => found.prove(pushed, commands)?,
            None => found.issue(commands)?,
        };
        Ok(Of { smmu, queue, what })
    }

    fn wait(&self, ticket: Self::Ticket) -> Result<SyncProof, SinkError> {
        self.find(ticket.smmu, ticket.queue)?.wait(ticket.what)
    }
}
