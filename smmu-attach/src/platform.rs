//! The types and instances that an integrator brings.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use lock_api::RawMutex;
use smmu_invs::{Counted, InvArray, OutOfMemory, Publication};
use smmu_types::seam::{CommandSink, DmaMemory, Observer};

use crate::ats_switch::AtsSwitch;
use crate::table::TranslationTable;

/// The implementations of the seams that an integrator chooses.
pub trait Platform {
    /// The mutex of stream tables.
    ///
    /// The crate holds it for a look-up or a few stores and
    /// [`DmaBlock::publish`](smmu_types::seam::DmaBlock::publish), never across an allocation, a
    /// wait or a command.
    ///
    /// [`Smmu::device_of`](crate::Smmu::device_of) takes it, and waits for it. On a board where an
    /// event handler calls that, use a spin lock that masks the CPU's interrupts while it is held:
    /// otherwise the handler can wait for ever for the thread that it has interrupted. The mutexes
    /// of the crate `spin` do not mask. The other methods that suit a handler,
    /// [`Domain::invalidate`](crate::Domain::invalidate) and the ones that only read, take no lock of
    /// this crate.
    type Lock: RawMutex;
    /// The mutex of devices and domains. An attach holds it from its first to its last step, across
    /// allocations and waits for `CMD_SYNC`, and while page tables are dropped. Choose a sleeping
    /// lock where an attach may sleep. No interrupt handler takes it.
    type SleepLock: RawMutex;
    /// DMA memory for stream tables and context descriptors.
    type Dma: DmaMemory;
    /// Sink of commands.
    type Sink: CommandSink;
    /// Publication of a domain's invalidation array to its readers. It decides whether an unmap
    /// takes a lock: `HazardCell` and `ArcSwapCell` do not.
    type Cell: Publication<InvArray>;
    /// Receiver of notices.
    type Observer: Observer;
    /// Page tables of the domains. An enum serves several kinds.
    type Tables: TranslationTable;
    /// The own ATS switch of devices. `()` for a platform whose devices have no ATS.
    type Ats: AtsSwitch;
}

struct EnvParts<P: Platform> {
    dma: P::Dma,
    sink: P::Sink,
    observer: P::Observer,
    ats: P::Ats,
    // Domains, devices and SMMUs made so far.
    domains: AtomicUsize,
    devices: AtomicUsize,
    smmus: AtomicUsize,
}

/// The integrator's instances. [`Smmu`](crate::Smmu)s and [`Domain`](crate::Domain)s that work
/// together share one; a clone is another reference to it.
pub struct Env<P: Platform>(Counted<EnvParts<P>>);

impl<P: Platform> Env<P> {
    /// Take over the instances.
    ///
    /// # Errors
    ///
    /// No memory for the shared block.
    pub fn new(dma: P::Dma, sink: P::Sink, observer: P::Observer) -> Result<Self, OutOfMemory>
    where
        P::Ats: Default,
    {
        Self::with_ats(dma, sink, observer, P::Ats::default())
    }

    /// [`new`](Self::new), with the ATS switches of the devices.
    ///
    /// # Errors
    ///
    /// As of [`new`](Self::new).
    pub fn with_ats(
        dma: P::Dma,
        sink: P::Sink,
        observer: P::Observer,
        ats: P::Ats,
    ) -> Result<Self, OutOfMemory> {
        let [domains, devices, smmus] = [const { AtomicUsize::new(0) }; 3];
        Counted::new(EnvParts { dma, sink, observer, ats, domains, devices, smmus }).map(Env)
    }

    /// DMA memory.
    #[must_use]
    pub fn dma(&self) -> &P::Dma {
        &self.0.dma
    }

    /// The command sink.
    #[must_use]
    pub fn sink(&self) -> &P::Sink {
        &self.0.sink
    }

    /// The observer.
    #[must_use]
    pub fn observer(&self) -> &P::Observer {
        &self.0.observer
    }

    /// The ATS switches of the devices.
    #[must_use]
    pub fn ats(&self) -> &P::Ats {
        &self.0.ats
    }

    /// The place of a new domain in the order in which domains are locked.
    pub(crate) fn next_domain(&self) -> usize {
        self.0.domains.fetch_add(1, Ordering::Relaxed)
    }

    /// The place of a new device in the order in which devices are locked.
    pub(crate) fn next_device(&self) -> usize {
        self.0.devices.fetch_add(1, Ordering::Relaxed)
    }

    /// What tells a new SMMU from others with its number. Repeats after `usize::MAX` SMMUs.
    pub(crate) fn next_smmu(&self) -> SmmuInstance {
        SmmuInstance(self.0.smmus.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether both are references to the same instances.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Counted::ptr_eq(&self.0, &other.0)
    }
}

impl<P: Platform> Clone for Env<P> {
    fn clone(&self) -> Self {
        Env(self.0.clone())
    }
}

impl<P: Platform> fmt::Debug for Env<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

/// Tells two [`Smmu`](crate::Smmu)s of one environment apart that have the same number.
///
/// A copy costs nothing. A counted reference would be one more write to a cache line that all
/// devices of the SMMU share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SmmuInstance(usize);

impl SmmuInstance {
    /// Place of the SMMU's devices in the order of locks.
    pub(crate) const fn rank(self) -> usize {
        self.0
    }
}

/// A block of the platform's DMA memory.
pub(crate) type Block<P> = <<P as Platform>::Dma as DmaMemory>::Block;
