//! The types and instances that an integrator brings.

use lock_api::RawMutex;
use smmu_invs::{InvArray, Publication};
use smmu_types::seam::{CommandSink, DmaMemory, Observer};

/// The implementations of the seams that an integrator chooses.
pub trait Platform {
    /// The mutex of stream tables.
    ///
    /// [`Smmu::add_device`](crate::Smmu::add_device) holds it while it allocates and fills
    /// second-level tables from [`Dma`](Self::Dma), up to 16 KiB per table. Dropping a device and
    /// [`Smmu::device_of`](crate::Smmu::device_of) hold it for a look-up. If an event handler calls
    /// `device_of`, the lock must suit that context.
    type Lock: RawMutex;
    /// The mutex of domains. An attach holds it from `prepare` to its end, across allocations and
    /// waits for `CMD_SYNC`. Choose a sleeping lock where an attach may sleep.
    type DomainLock: RawMutex;
    /// DMA memory for stream tables and context descriptors.
    type Dma: DmaMemory;
    /// Sink of commands.
    type Sink: CommandSink;
    /// Publication of a domain's invalidation array to its readers.
    type Cell: Publication<InvArray>;
    /// Receiver of notices.
    type Observer: Observer;
}

/// The integrator's instances, borrowed for one operation.
///
/// Pass the same instances every time: no check tells the sink or memory of another SMMU.
#[derive(Debug)]
pub struct Env<'e, P: Platform> {
    /// DMA memory.
    pub dma: &'e P::Dma,
    /// The command sink.
    pub sink: &'e P::Sink,
    /// The observer.
    pub observer: &'e P::Observer,
}

impl<P: Platform> Clone for Env<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Env<'_, P> {}

/// A block of the platform's DMA memory.
pub(crate) type Block<P> = <<P as Platform>::Dma as DmaMemory>::Block;
