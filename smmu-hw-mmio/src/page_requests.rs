//! The PRI queue: a bounded drain of page requests.
//!
//! An SMMU whose PRI queue is full answers for software: it drops a request, and where that is the
//! last of its group, the device gets the response `Success` and asks again (8.1). So an overflow
//! loses no answer. It leaves groups in the queue whose last request was dropped, and those groups
//! are answered already: see [`DrainedRequests::overflowed`].

use core::ops::ControlFlow;

use smmu_types::queue::{Priq, QueueSize};
use smmu_types::seam::{DmaBlock, DmaLayout, Registers};
use smmu_types::{FieldError, PhysAddr, PriRecord};

use crate::ring::{Drained, Record, Ring, RingError, layout};

/// The DMA block that a PRI queue of `size` needs, aligned to its size.
#[must_use]
pub const fn page_request_layout(size: QueueSize) -> DmaLayout {
    layout(size, <PriRecord as Record>::WORDS)
}

/// Why a driver cannot use the PRI queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PriQueueError {
    /// The block is too small.
    #[error(
        "the block has {bytes} bytes, the queue needs {need}; allocate the block with page_request_layout"
    )]
    BlockTooSmall {
        /// Bytes of the block.
        bytes: u64,
        /// Bytes that the queue needs.
        need: u64,
    },
    /// `PRIQ_BASE` cannot hold the block's address.
    #[error(
        "PRIQ_BASE cannot hold the block's address: {0}; allocate the block with page_request_layout"
    )]
    Base(#[from] FieldError),
    /// `PRIQ_PROD` has an impossible value.
    #[error(
        "PRIQ_PROD = {producer:#x} is not within one queue of PRIQ_CONS = {consumer:#x}; the SMMU was reset or is gone"
    )]
    Lost {
        /// Value of `PRIQ_PROD`.
        producer: u32,
        /// Value that the driver last wrote to `PRIQ_CONS`.
        consumer: u32,
    },
}

impl From<RingError> for PriQueueError {
    fn from(error: RingError) -> Self {
        match error {
            RingError::BlockTooSmall { bytes, need } => Self::BlockTooSmall { bytes, need },
            RingError::Base(error) => Self::Base(error),
            RingError::Lost { producer, consumer } => Self::Lost { producer, consumer },
        }
    }
}

/// Result of one [`PriQueue::drain`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainedRequests {
    /// Number of requests handed over. If it equals the size of the queue, more may wait.
    pub records: u32,
    /// Whether the SMMU dropped requests because the queue was full.
    ///
    /// Then the caller forgets every group of which it has seen requests and not the last one. The
    /// SMMU has answered those groups, and a device may use their numbers again (8.1.1). All
    /// requests handed over so far are older than the overflow: call [`PriQueue::drain`] again.
    pub overflowed: bool,
}

/// The PRI queue of one SMMU, with one reader.
#[derive(Debug)]
pub struct PriQueue<R, B>(Ring<Priq, R, B>);

impl<R: Registers, B: DmaBlock> PriQueue<R, B> {
    /// An empty queue in `block`. It starts at 0, as
    /// [`enable_page_requests`](crate::EventsEnabled::enable_page_requests) sets the registers.
    pub fn new(registers: R, block: B, size: QueueSize) -> Result<Self, PriQueueError> {
        Ok(PriQueue(Ring::new(registers, block, size)?))
    }

    /// The queue in `block` that a running SMMU fills already, read on from `PRIQ_CONS`. Address and
    /// size are those of [`Occupied`](crate::Occupied); the block keeps its content.
    ///
    /// # Errors
    ///
    /// The block does not fit, or `PRIQ_PROD` and `PRIQ_CONS` have impossible values.
    pub fn of_running(registers: R, block: B, size: QueueSize) -> Result<Self, PriQueueError> {
        Ok(PriQueue(Ring::of_running(registers, block, size)?))
    }

    /// Physical address of the queue, for `PRIQ_BASE`.
    #[must_use]
    pub fn base(&self) -> PhysAddr {
        self.0.base()
    }

    /// Size of the queue.
    #[must_use]
    pub const fn size(&self) -> QueueSize {
        self.0.size()
    }

    /// Hand all waiting requests to `take`, at most one queue of them, and free their slots.
    ///
    /// Call again while [`DrainedRequests::records`] equals the size of the queue, and after an
    /// overflow.
    ///
    /// If `take` panics, the next call hands over the same request again.
    pub fn drain(
        &mut self,
        mut take: impl FnMut(PriRecord),
    ) -> Result<DrainedRequests, PriQueueError> {
        self.drain_while(|record| {
            take(record);
            ControlFlow::Continue(())
        })
    }

    /// [`drain`](Self::drain) until `take` breaks. The request that it breaks at stays in the queue,
    /// and so do all behind it: the next call begins with that request.
    pub fn drain_while(
        &mut self,
        take: impl FnMut(PriRecord) -> ControlFlow<()>,
    ) -> Result<DrainedRequests, PriQueueError> {
        let Drained { records, overflowed } = self.0.drain(take)?;
        Ok(DrainedRequests { records, overflowed })
    }
}
