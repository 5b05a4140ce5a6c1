//! The command queue of an Arm SMMUv3: batches, CMD_SYNC, bounded waits, command errors.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "fake"))]
extern crate std;

#[cfg(feature = "fake")]
pub mod fake;
mod ledger;
mod queue;
mod set;

use smmu_types::{LayoutError, SmmuId};

pub use ledger::{CommandFailure, FailureCounts};
pub use queue::{CommandQueue, QueueConfig, SyncTicket};
pub use set::QueueSet;

/// Why a queue could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The queue is smaller than a command and its `CMD_SYNC`.
    #[error(
        "a command queue of {entries} entry cannot hold a command and its CMD_SYNC; make it at least 2"
    )]
    TooSmall {
        /// Entries asked for.
        entries: u32,
    },
    /// The block is too small.
    #[error(
        "the block has {bytes} bytes and the queue needs {need}; allocate it with CommandQueue::layout"
    )]
    BlockTooSmall {
        /// Bytes of the block.
        bytes: u64,
        /// Bytes that the queue needs.
        need: u64,
    },
    /// The block's address cannot be a queue's base.
    #[error("the block cannot hold the queue: {0}; allocate it with CommandQueue::layout")]
    Base(#[from] LayoutError),
    /// Two queues of a set belong to one SMMU.
    #[error("the set has two queues for {smmu}; give each SMMU a number of its own")]
    Duplicate {
        /// The SMMU.
        smmu: SmmuId,
    },
}
