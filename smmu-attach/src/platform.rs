use lock_api::RawMutex;
use smmu_invs::{InvArray, Publication};
use smmu_types::seam::{CommandSink, DmaMemory, Observer};

/// The implementations of the seams that one integrator uses.
pub trait Platform {
    /// The mutex of stream tables. It is held for a short time only, and may be taken where events
    /// are handled: a lock that spins, and masks what it must.
    type Lock: RawMutex;
    /// The mutex of domains. It is held from `prepare` to the end of an attach, across allocations and the waits
    /// for `CMD_SYNC`: where attaches may sleep, one that sleeps.
    type DomainLock: RawMutex;
    /// DMA memory for stream tables and context descriptors.
    type Dma: DmaMemory;
    /// Where commands go.
    type Sink: CommandSink;
    /// How a domain's invalidation array reaches its readers.
    type Cell: Publication<InvArray>;
    /// Who listens.
    type Observer: Observer;
}

/// The platform's instances, borrowed for one operation.
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
