//! What an integrator brings: the types of the seams, named once.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use lock_api::RawMutex;
use smmu_attach::TranslationTable;
use smmu_cmdq::{CommandQueue, QueueGroup, QueueSet};
use smmu_invs::{InvArray, LockCell, Publication};
use smmu_types::Command;
use smmu_types::seam::{CommandSink, DmaMemory, Observer, Registers, Wait};

use crate::queue_slot::{QueueSlot, ReplaceableQueue};

/// The implementations of the seams that one integrator uses.
///
/// [`Parts`] is one for integrators who change nothing but the types.
pub trait Platform: Sized {
    /// Registers of an SMMU. Clones reach the same SMMU; a `&'static` reference will do.
    type Registers: Registers + Clone;
    /// DMA memory for queues, stream tables and context descriptors.
    type Dma: DmaMemory;
    /// The clock that every wait goes by. Clones tell the same time.
    type Wait: Wait + Clone;
    /// The mutex of stream tables and event queues. The driver holds it for a short time only, also
    /// while it handles an interrupt. Use a lock that spins, and that masks the interrupts whose
    /// handlers call the driver.
    type Lock: RawMutex;
    /// The mutex of devices and domains. An attach holds it across allocations and waits for
    /// `CMD_SYNC`. Use a lock that sleeps where attaches may sleep.
    type SleepLock: RawMutex;
    /// How a domain's invalidation array reaches its readers.
    type Cell: Publication<InvArray>;
    /// How a command queue reaches its callers, so that a restart can replace it. Each command call
    /// reads it once. As [`Cell`](Self::Cell): [`LockCell`] over [`Lock`](Self::Lock), or
    /// `ArcSwapCell`, whose readers take no lock.
    type QueueCell: Publication<QueueSlot<Self::Registers, Block<Self>, Self::Wait>>;
    /// The command sink: [`Queues`], or a wrapper around it.
    type Sink: QueueSink<Self>;
    /// What hears of tags, entries and errors. `()` hears nothing.
    type Observer: Observer;
    /// Page tables of the domains. An enum serves several kinds.
    type Tables: TranslationTable;
}

/// A command sink over the command queues of all SMMUs.
///
/// [`Queues`] is one by itself. A wrapper can count, trace or delay commands, and is made by
/// [`Setup::start_through`](crate::Setup::start_through); the harness breaks drivers with one.
pub trait QueueSink<P: Platform>: CommandSink {
    /// The queues under it.
    fn queues(&self) -> &Queues<P>;
}

impl<P: Platform> QueueSink<P> for Queues<P> {
    fn queues(&self) -> &Queues<P> {
        self
    }
}

/// A [`Platform`] of registers `R`, memory `D`, clock `W`, one kind of lock `L`, page tables `T`
/// and observer `O`.
///
/// Invalidation arrays and command queues are published behind `L` ([`LockCell`]). If an interrupt
/// handler invalidates, `L` must mask that interrupt.
pub struct Parts<R, D, W, L, T, O = ()>(PhantomData<Types<R, D, W, L, T, O>>);

type Types<R, D, W, L, T, O> = fn() -> (R, D, W, L, T, O);

impl<R, D, W, L, T, O> fmt::Debug for Parts<R, D, W, L, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parts")
    }
}

impl<R, D, W, L, T, O> Platform for Parts<R, D, W, L, T, O>
where
    R: Registers + Clone,
    D: DmaMemory,
    W: Wait + Clone,
    L: RawMutex,
    T: TranslationTable,
    O: Observer,
{
    type Registers = R;
    type Dma = D;
    type Wait = W;
    type Lock = L;
    type SleepLock = L;
    type Cell = LockCell<L, InvArray>;
    type QueueCell = LockCell<L, QueueSlot<R, D::Block, W>>;
    type Sink = Queues<Self>;
    type Observer = O;
    type Tables = T;
}

/// The face of a [`Platform`] that `smmu-attach` sees.
pub struct Attach<P>(PhantomData<fn() -> P>);

impl<P> fmt::Debug for Attach<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attach")
    }
}

impl<P: Platform> smmu_attach::Platform for Attach<P> {
    type Lock = P::Lock;
    type SleepLock = P::SleepLock;
    type Dma = P::Dma;
    type Sink = P::Sink;
    type Cell = P::Cell;
    type Observer = P::Observer;
    type Tables = P::Tables;
}

/// A block of the platform's DMA memory.
pub type Block<P> = <<P as Platform>::Dma as DmaMemory>::Block;

/// A device behind an SMMU of this driver.
pub type Device<P> = smmu_attach::Device<Attach<P>>;

/// A domain of this driver.
pub type Domain<P> = smmu_attach::Domain<Attach<P>>;

/// The seams of this driver, as its devices and domains share them.
pub type Env<P> = smmu_attach::Env<Attach<P>>;

/// An SMMU of this driver, as its devices and domains see it.
pub type Smmu<P> = smmu_attach::Smmu<Attach<P>>;

/// One command queue.
pub type Queue<P> = CommandQueue<<P as Platform>::Registers, Block<P>, <P as Platform>::Wait>;

/// Chooses the virtual queue for a call, by its commands: an index from 0.
pub type PickQueue = fn(&[Command]) -> usize;

/// A slot of this driver for a command queue.
pub type Slot<P> = QueueSlot<<P as Platform>::Registers, Block<P>, <P as Platform>::Wait>;

/// One command queue as the [`Queues`] hold it: a restart of the SMMU replaces the queue in it.
pub type DriverQueue<P> = ReplaceableQueue<
    <P as Platform>::Registers,
    Block<P>,
    <P as Platform>::Wait,
    <P as Platform>::QueueCell,
>;

/// The queues of one SMMU, the main queue first.
pub type Group<P> = QueueGroup<Vec<DriverQueue<P>>, PickQueue, DriverQueue<P>>;

/// The queues of all SMMUs, in the order of their numbers.
pub type Queues<P> = QueueSet<Vec<Group<P>>, Group<P>>;
