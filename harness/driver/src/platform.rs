//! What an integrator brings: the types of the seams, named once.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use lock_api::RawMutex;
use smmu_attach::{AtsSwitch, TranslationTable};
use smmu_cmdq::{CommandQueue, QueueGroup, QueueSet, RepeatingSink};
use smmu_invs::{HazardCell, HazardSlots, InvArray, LockCell, Publication};
use smmu_types::Command;
use smmu_types::seam::{CommandSink, DmaMemory, Observer, Registers, Wait};

use crate::queue_slot::ReplaceableQueue;
use crate::slot::QueueSlot;

/// The implementations of the seams that one integrator uses.
///
/// [`HazardParts`] and [`Parts`] are two for integrators who change nothing but the types. Take
/// `HazardParts` where several CPUs unmap, or where an interrupt handler does.
///
/// # Interrupt handlers, and which locks they take
///
/// | a handler calls | locks that it takes |
/// |---|---|
/// | [`Driver::drain_events`](crate::Driver::drain_events) | [`Lock`](Self::Lock) of the event queue, by `try_lock`; held while the closure runs |
/// | [`Driver::handle_events`](crate::Driver::handle_events), [`handle_page_requests`](crate::Driver::handle_page_requests) | [`Lock`](Self::Lock) of that queue, by `try_lock`; that of the stream table for each fault that waits |
/// | a token, [`FaultTable`](smmu_attach::faults::FaultTable) | none, beside that of [`QueueCell`](Self::QueueCell) |
/// | [`Driver::device_of`](crate::Driver::device_of) | [`Lock`](Self::Lock) of the stream table; it waits for it |
/// | [`Driver::handle_gerror`](crate::Driver::handle_gerror) | none, beside that of [`QueueCell`](Self::QueueCell) |
/// | [`Domain::invalidate`](smmu_attach::Domain::invalidate) | none, beside those of [`Cell`](Self::Cell) and [`QueueCell`](Self::QueueCell) |
/// | attach, block, restart, `add_device`, [`withdraw_faults`](crate::Driver::withdraw_faults), and what drops the last reference to a device | do not call it: these take [`SleepLock`](Self::SleepLock), or allocate |
///
/// - A cell takes a lock at each read if it is a [`LockCell`], and only beyond 8 readers of one CPU
///   if it is a [`HazardCell`].
/// - On a board, `Lock` and the lock of the cells mask the interrupts of their CPU while they are
///   held. Otherwise a handler can wait for ever for the thread that it has interrupted. The mutexes
///   of the crate `spin` do not mask.
/// - The event queue of an SMMU is drained by its handler alone, or by threads alone. With an
///   edge-triggered interrupt, a handler that finds another CPU at work
///   ([`DriverError::Busy`](crate::DriverError::Busy)) is not called again for those events.
pub trait Platform: Sized {
    /// Registers of an SMMU. Clones reach the same SMMU; a `&'static` reference will do.
    type Registers: Registers + Clone;
    /// DMA memory for queues, stream tables and context descriptors.
    type Dma: DmaMemory;
    /// The clock that every wait goes by. Clones tell the same time.
    type Wait: Wait + Clone;
    /// The mutex of stream tables and event queues. The driver holds it for a short time only, also
    /// while it handles an interrupt. Use a lock that spins, and that masks the interrupts whose
    /// handlers call the driver; the table above says which calls take it.
    type Lock: RawMutex;
    /// The mutex of devices and domains. An attach holds it across allocations and waits for
    /// `CMD_SYNC`. Use a lock that sleeps where attaches may sleep.
    type SleepLock: RawMutex;
    /// How a domain's invalidation array reaches its readers.
    type Cell: Publication<InvArray>;
    /// How a command queue reaches its callers, so that a restart can replace it. Each command call
    /// reads it once, and holds what it read until it returns. As [`Cell`](Self::Cell):
    /// [`HazardCell`] or `ArcSwapCell`, whose readers take no lock, or [`LockCell`] over
    /// [`Lock`](Self::Lock).
    type QueueCell: Publication<QueueSlot<Queue<Self>>>;
    /// The command sink: [`Queues`], or a wrapper around it.
    type Sink: QueueSink<Self>;
    /// What hears of tags, entries and errors. `()` hears nothing.
    type Observer: Observer;
    /// Page tables of the domains. An enum serves several kinds.
    type Tables: TranslationTable;
    /// The own ATS switches of the devices; `()` if none uses ATS. With ATS, [`Cell`](Self::Cell) is a
    /// [`GatedCell`](smmu_invs::GatedCell).
    type Ats: AtsSwitch;
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
/// Invalidation arrays and command queues are published behind `L` ([`LockCell`]): the simplest
/// composition, for one CPU or few unmaps. Each unmap locks `L` for the array, and for each command
/// call once more. [`HazardParts`] does not.
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
    type QueueCell = LockCell<L, QueueSlot<CommandQueue<R, D::Block, W>>>;
    type Sink = Queues<Self>;
    type Observer = O;
    type Tables = T;
    type Ats = ();
}

/// A [`Platform`] whose unmaps take no lock, also without `std`: [`Parts`], and the CPUs `C`.
///
/// Invalidation arrays and command queues are published by [`HazardCell`]s in the slots of `C`. So
/// everything that [`Domain::invalidate`](smmu_attach::Domain::invalidate) does is without a lock:
/// the read of the array, the read of the queue, and the queue itself.
///
/// An unmap uses two slots of its CPU, one for the array and one for the queue, until it returns. A
/// CPU has 8: enough for an unmap in a thread, and three more that interrupt each other. A deeper
/// one locks `L` for a moment, so `L` masks interrupts as [`Platform`] says.
///
/// ```
/// use smmu_driver::HazardParts;
/// use smmu_driver::lock_api::RawMutex;
/// use smmu_driver::smmu_invs::{CpuSlots, HazardSlots};
///
/// struct Cpus;
///
/// impl HazardSlots for Cpus {
///     fn slots() -> &'static [CpuSlots] {
///         static SLOTS: [CpuSlots; 4] = [const { CpuSlots::new() }; 4];
///         &SLOTS
///     }
///     fn cpu() -> usize {
///         // The affinity bits of MPIDR_EL1, or what TPIDR_EL1 leads to.
///         # 0
///     }
/// }
///
/// type Board<R, D, W, IrqMutex, T> = HazardParts<R, D, W, IrqMutex, Cpus, T>;
/// ```
pub struct HazardParts<R, D, W, L, C, T, O = ()>(PhantomData<HazardTypes<R, D, W, L, C, T, O>>);

type HazardTypes<R, D, W, L, C, T, O> = fn() -> (R, D, W, L, C, T, O);

impl<R, D, W, L, C, T, O> fmt::Debug for HazardParts<R, D, W, L, C, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HazardParts")
    }
}

impl<R, D, W, L, C, T, O> Platform for HazardParts<R, D, W, L, C, T, O>
where
    R: Registers + Clone,
    D: DmaMemory,
    W: Wait + Clone,
    L: RawMutex,
    C: HazardSlots,
    T: TranslationTable,
    O: Observer,
{
    type Registers = R;
    type Dma = D;
    type Wait = W;
    type Lock = L;
    type SleepLock = L;
    type Cell = HazardCell<C, L, InvArray>;
    type QueueCell = HazardCell<C, L, QueueSlot<CommandQueue<R, D::Block, W>>>;
    type Sink = Queues<Self>;
    type Observer = O;
    type Tables = T;
    type Ats = ();
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
    type Ats = P::Ats;
}

/// A block of the platform's DMA memory.
pub type Block<P> = <<P as Platform>::Dma as DmaMemory>::Block;

/// A device behind an SMMU of this driver.
pub type Device<P> = smmu_attach::Device<Attach<P>>;

/// A domain of this driver.
pub type Domain<P> = smmu_attach::Domain<Attach<P>>;

/// The seams of this driver, as its devices and domains share them.
pub type Env<P> = smmu_attach::Env<Attach<P>>;

/// A substream of a device of this driver.
pub type Substream<P> = smmu_attach::Substream<Attach<P>>;

/// An SMMU of this driver, as its devices and domains see it.
pub type Smmu<P> = smmu_attach::Smmu<Attach<P>>;

/// One command queue.
pub type Queue<P> = CommandQueue<<P as Platform>::Registers, Block<P>, <P as Platform>::Wait>;

/// Chooses the virtual queue for a call, by its commands: an index from 0.
pub type PickQueue = fn(&[Command]) -> usize;

/// A slot of this driver for a command queue.
pub type Slot<P> = QueueSlot<Queue<P>>;

/// One command queue as the [`Queues`] hold it: a restart of the SMMU replaces the queue in it.
pub type DriverQueue<P> = ReplaceableQueue<
    <P as Platform>::Registers,
    Block<P>,
    <P as Platform>::Wait,
    <P as Platform>::QueueCell,
>;

/// The queues of one SMMU, the main queue first.
pub type Group<P> = QueueGroup<Vec<DriverQueue<P>>, PickQueue, DriverQueue<P>>;

/// The queues of one SMMU, which gets each invalidation twice if a quirk needs it.
pub type SmmuQueues<P> = RepeatingSink<Group<P>>;

/// The queues of all SMMUs, in the order of their numbers.
pub type Queues<P> = QueueSet<Vec<SmmuQueues<P>>, SmmuQueues<P>>;
