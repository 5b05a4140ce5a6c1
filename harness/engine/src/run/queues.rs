//! The command queues of all SMMUs as one sink: of each SMMU the main queue, and a second one where it has one.

use smmu_driver::smmu_cmdq::{CommandQueue, Opcodes, QueueGroup, QueueSet};
use smmu_driver::smmu_types::pool::PoolBlock;
use smmu_driver::smmu_types::{Command, SmmuId};

use super::tap::Tap;
use crate::machine::{Clock, Ram};
use crate::machine::{QueueName, SecondQueueKind};

/// One queue of the harness.
pub(crate) type Queue = CommandQueue<Tap, PoolBlock<Ram>, Clock>;

/// The queues of one SMMU, the main queue first.
pub(crate) type Group = QueueGroup<Vec<Queue>, fn(&[Command]) -> usize, Queue>;

/// Those of all, in the order of the SMMUs.
pub(crate) type Queues = QueueSet<Vec<Group>, Group>;

/// Beside the main queue there is one at most.
pub(crate) fn the_second(_: &[Command]) -> usize {
    0
}

/// What a second queue takes.
pub(crate) const fn takes(kind: SecondQueueKind) -> Opcodes {
    match kind {
        SecondQueueKind::Full => Opcodes::ALL,
        SecondQueueKind::Restricted => Opcodes::VCMDQ_GUEST,
    }
}

/// A queue of an SMMU, if it has that one.
pub(crate) fn named(queues: &Queues, smmu: SmmuId, name: QueueName) -> Option<&Queue> {
    let at = match name {
        QueueName::Main => 0,
        QueueName::Second => 1,
    };
    queues.get(smmu)?.queues().get(at)
}
