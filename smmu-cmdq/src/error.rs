//! Why a queue, a group or a set cannot be made.

use smmu_types::{FieldError, SmmuId};

/// Why a queue, a [group](crate::QueueGroup) or a [set](crate::QueueSet) cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The ring cannot hold a command and its `CMD_SYNC`.
    #[error(
        "a command queue of {entries} entry cannot hold a command and its CMD_SYNC; make it at least 2"
    )]
    TooSmall {
        /// Entries asked for.
        entries: u32,
    },
    /// The block is smaller than [`layout`](crate::layout()) says.
    #[error(
        "the block has {bytes} bytes and the queue needs {need}; allocate it with smmu_cmdq::layout"
    )]
    BlockTooSmall {
        /// Bytes of the block.
        bytes: u64,
        /// Bytes that the queue needs.
        need: u64,
    },
    /// The block's address cannot be the base of a queue.
    #[error("the block cannot hold the queue: {0}; allocate it with smmu_cmdq::layout")]
    Base(#[from] FieldError),
    /// Two queues of a set belong to one SMMU.
    #[error(
        "the set has two queues for {smmu}; give each SMMU a number of its own, and put several queues of one SMMU into a QueueGroup"
    )]
    Duplicate {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// The group has no queue.
    #[error("the group has no queue; give it at least the main queue of its SMMU")]
    NoQueue,
    /// The queues of a group belong to different SMMUs.
    #[error(
        "the group of {smmu} has a queue of {other}; make a group for each SMMU, and a QueueSet of the groups"
    )]
    OtherSmmu {
        /// The SMMU of the first queue.
        smmu: SmmuId,
        /// The SMMU of the queue that does not belong.
        other: SmmuId,
    },
    /// The first queue of a group does not take every command, so a command could find no queue.
    #[error("the first queue of {smmu} does not take all commands; put the main queue first")]
    MainRefuses {
        /// The SMMU.
        smmu: SmmuId,
    },
}
