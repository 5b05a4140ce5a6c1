//! How an SMMU came to a driver: started, taken over, or reset because it was not taken over.

use smmu_attach::adopt::{AdoptError, Doubt};
use smmu_hw_mmio::{OldCommands, TakeoverError};
use smmu_types::PhysAddr;
use smmu_types::seam::{SinkError, TimedOut};

/// Why a running SMMU was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAdopted {
    /// Its registers or queues.
    #[error(transparent)]
    Registers(#[from] TakeoverError),
    /// Its tables.
    #[error(transparent)]
    Tables(#[from] Doubt),
    /// The mapping of its tables, or its tags.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// An old queue lies over the stream table: the SMMU would write records into STEs.
    #[error("the old queue at {queue} overlaps the stream table; reset the SMMU")]
    QueueOverTable {
        /// The address of the queue.
        queue: PhysAddr,
    },
    /// A virtual command queue does not change hands.
    #[error("a virtual command queue does not answer: {0}; reset the SMMU")]
    VirtualQueue(TimedOut),
    /// The SMMU has the driver's command queue, and does not confirm that it aborts the streams that
    /// are not kept.
    #[error("the SMMU does not confirm that the other streams abort: {0}; reset the SMMU")]
    Unconfirmed(SinkError),
}

/// How an SMMU came to this driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It did not translate, or it was started without a look at an old owner.
    #[default]
    Started,
    /// It was taken over while it ran.
    Adopted {
        /// The streams that were kept.
        kept: usize,
        /// The old owner's commands.
        commands: OldCommands,
    },
    /// It ran, could not be taken over, and was reset.
    Reset(NotAdopted),
}
