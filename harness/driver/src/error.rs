//! Why an SMMU does not run, or a call of the driver failed.

use smmu_attach::AttachError;
use smmu_cmdq::QueueError;
use smmu_hw_mmio::{BringupError, EventQueueError, PriQueueError, ProbeError};
use smmu_types::SmmuId;
use smmu_types::seam::{DmaError, SinkError, TimedOut};

use crate::origin::NotAdopted;

/// Why an SMMU does not run, or a call of the driver failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The driver cannot use the SMMU.
    #[error("{smmu}: {error}")]
    Probe {
        /// The SMMU.
        smmu: SmmuId,
        /// Why.
        error: ProbeError,
    },
    /// The SMMU did not come up.
    #[error("{smmu}: {error}")]
    Bringup {
        /// The SMMU.
        smmu: SmmuId,
        /// The step that failed.
        error: BringupError,
    },
    /// A running SMMU was not taken over, and the plan allows no reset.
    #[error("{smmu} runs and is not taken over: {error}")]
    NotAdopted {
        /// The SMMU.
        smmu: SmmuId,
        /// Why.
        error: NotAdopted,
    },
    /// A command queue cannot be made.
    #[error("{smmu}: {error}")]
    CommandQueue {
        /// The SMMU.
        smmu: SmmuId,
        /// Why.
        error: QueueError,
    },
    /// The SMMU cannot complete a `CMD_SYNC` in the way that the options ask for.
    #[error("{smmu} lacks {lacks} for `SmmuOptions::sync_by`; leave that out")]
    SyncBy {
        /// The SMMU.
        smmu: SmmuId,
        /// What the SMMU lacks, with the field that says so.
        lacks: &'static str,
    },
    /// The event queue cannot be made or read.
    #[error("{smmu}: {error}")]
    EventQueue {
        /// The SMMU.
        smmu: SmmuId,
        /// Why.
        error: EventQueueError,
    },
    /// The PRI queue cannot be made or read.
    #[error("{smmu}: {error}")]
    PriQueue {
        /// The SMMU.
        smmu: SmmuId,
        /// Why.
        error: PriQueueError,
    },
    /// The SMMU has no PRI queue, or the driver was not asked for one.
    #[error("{smmu} has no PRI queue here; ask for one with `SmmuOptions::pri_queue_log2`")]
    NoPriQueue {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// The command queue does not take the answer to a fault. Nothing is lost: it is tried again.
    #[error("an answer to a fault is not sent, and is tried again: {error}")]
    Answer {
        /// The SMMU.
        smmu: SmmuId,
        /// Why.
        error: SinkError,
    },
    /// The SMMU does not confirm the entries of a device that is attached before translation begins.
    #[error("{smmu} does not confirm the entries of a device that runs already: {error}")]
    Unconfirmed {
        /// The SMMU.
        smmu: SmmuId,
        /// Why.
        error: SinkError,
    },
    /// A virtual command queue was enabled, and its status does not say so.
    #[error("{smmu}: a virtual command queue is enabled and does not run: {error}")]
    VirtualQueue {
        /// The SMMU.
        smmu: SmmuId,
        /// How long the driver waited.
        error: TimedOut,
    },
    /// A virtual command queue was disabled, and its status does not say so.
    #[error("{smmu}: a virtual command queue is disabled and still runs: {error}")]
    VirtualQueueRuns {
        /// The SMMU.
        smmu: SmmuId,
        /// How long the driver waited.
        error: TimedOut,
    },
    /// DMA memory ran out.
    #[error("{smmu}: {error}")]
    Dma {
        /// The SMMU the memory was for.
        smmu: SmmuId,
        /// What could not be had.
        error: DmaError,
    },
    /// The heap ran out.
    #[error("{smmu}: no memory for the driver's own lists")]
    OutOfMemory {
        /// The SMMU the memory was for.
        smmu: SmmuId,
    },
    /// A stream table, a device, a domain or an attach failed.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The driver has no such SMMU.
    #[error("there is no {smmu}; the driver has {count}, numbered from 0")]
    UnknownSmmu {
        /// The number asked for.
        smmu: SmmuId,
        /// SMMUs the driver has.
        count: usize,
    },
    /// An `SmmuId` is 16 bits wide.
    #[error("one driver has 65536 SMMUs at most")]
    TooManySmmus,
    /// A `DomainId` is 32 bits wide, and none is given twice.
    #[error("the driver has given out all of its 2^32 domain numbers")]
    TooManyDomains,
    /// A restart of this SMMU is under way, or an earlier one failed.
    #[error(
        "{smmu} restarts, or its last restart failed; try again after `Driver::restart` has returned `Ok`"
    )]
    Restarting {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// The SMMU does not sleep, so it cannot be resumed.
    #[error("{smmu} does not sleep; `Driver::restart` brings up an SMMU that lost its state")]
    Awake {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// The SMMU sleeps already.
    #[error("{smmu} sleeps; call `Driver::resume` first")]
    Asleep {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// A caller does not leave the command queue that a restart replaces. The SMMU is off.
    #[error(
        "{smmu}: a caller still uses the command queue that the restart replaces: {error}; call `Driver::restart` again"
    )]
    QueueInUse {
        /// The SMMU.
        smmu: SmmuId,
        /// How long the driver waited.
        error: TimedOut,
    },
    /// A handler of this SMMU runs on another CPU.
    #[error("{smmu}: another CPU drains this event queue; its caller gets the records")]
    Busy {
        /// The SMMU.
        smmu: SmmuId,
    },
}
