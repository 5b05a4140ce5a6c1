//! The queue and the calls of its users.

use core::fmt;
use core::ops::{Deref, Range};

use smmu_types::queue::QueueSize;
use smmu_types::regs::queue_base;
use smmu_types::seam::{CommandSink, DmaLayout, EncodedBatch, Registers, SinkError, Wait};
use smmu_types::{Command, Completion, PhysAddr, RawCommand, SmmuId, SyncMsi, SyncProof};

use crate::commands::Commands;
use crate::failures::{FailureCounts, FailureRecords};
use crate::gerror_handler::GerrorHandler;
use crate::prod_owner::ProdOwner;
use crate::reserve::Reservation;
use crate::ring::{self, Slots};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64};
use crate::ticket::{Pushed, QueueIdentity, SyncTicket};
use crate::{Opcodes, QueueConfig, QueueError, SyncBy, layout};

/// A value with a cache line of its own, since many callers write it.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct CacheLine<T>(pub(crate) T);

impl<T> Deref for CacheLine<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// The command queue of one SMMU, without a lock.
///
/// Any number of threads, CPUs and interrupt handlers queue batches at once. Each reserves slots by
/// an atomic operation, fills them beside the others, commits them, and returns. One caller at a
/// time owns `CMDQ_PROD` and advances it over committed batches, in order. No caller waits for the
/// owner, except for a short, bounded spin to take over from it.
///
/// - The commands of one call are never interleaved with those of another, and never dropped.
/// - A caller that finds the ring full waits for room, up to the [time-out](QueueConfig::timeout).
/// - A long-waiting caller, or one with more commands than the ring, takes an exclusive
///   reservation: it gets the next free slots, and others wait until it is served.
///
/// # Type parameters
///
/// `R` is the [`Registers`], `B` the [`DmaBlock`](smmu_types::seam::DmaBlock), `W` the [`Wait`].
/// `CELLS`, a power of two from 2 on, is how many commands can be in flight at once, if the ring
/// holds as many. Each costs 8 bytes. `CommandQueue<R, B, W>` has 1024.
///
/// # Contexts
///
/// Every method may be called from any context, including an interrupt handler. A caller waits for
/// room in the ring and for nothing else that interrupted code may hold. Two cases fail: a handler
/// waits for room until its time-out if it interrupts a caller with an exclusive reservation, or one
/// that lost slots to another caller, then found the ring full, and has not yet said so to others
/// (three instructions).
///
/// # `GERRORN`
///
/// `GERRORN` has one writer at a time, because a writer reads it and writes it back. Waiters
/// acknowledge `GERROR.CMDQ`, and only that bit.
/// [`handle_global_errors`](Self::handle_global_errors), for the interrupt handler, acknowledges the
/// other bits too. Code of the caller's that writes `GERRORN` does so inside
/// [`with_registers`](Self::with_registers), and leaves the `CMDQ` bit as it is.
///
/// # When the queue halts
///
/// - An impossible value of `CMDQ_CONS` means that the SMMU is lost. This call and every later one
///   return [`SinkError::Lost`], because a later value could be right only by chance.
/// - After three errors in a row at one command, everything not yet carried out returns
///   [`SinkError::Command`] with that command.
///
/// In both cases, bring the SMMU up again and make a new queue.
// The fields in this order: a call reads the first four, which share a cache line if the seams are
// no larger than references.
#[repr(C)]
pub struct CommandQueue<R, B, W, const CELLS: usize = 1024> {
    pub(crate) hot: HotFields,
    pub(crate) gerror: GerrorHandler,
    pub(crate) block: B,
    pub(crate) registers: R,
    pub(crate) size: QueueSize,
    /// The maximum number of commands in flight.
    pub(crate) depth: u64,
    pub(crate) config: QueueConfig,
    pub(crate) wait: W,
    /// The bits beside the pointer in the producer's register, for a port that acknowledges errors
    /// there.
    pub(crate) producer_flags: AtomicU32,
    pub(crate) failures: FailureRecords,
    pub(crate) reserve: CacheLine<Reservation>,
    pub(crate) consumer: CacheLine<AtomicU64>,
    /// The last MSI is so old that its 32 bits could match a new position.
    pub(crate) msi_is_stale: AtomicBool,
    pub(crate) prod_owner: CacheLine<ProdOwner<CELLS>>,
}

/// What every call reads. Nothing writes it after the construction.
pub(crate) struct HotFields {
    /// The maximum number of commands, without the `CMD_SYNC`, of a batch that goes into the ring
    /// in one piece.
    pub(crate) longest: u64,
    /// The bits of a position that are the pointer in the producer's register.
    pub(crate) pointer_mask: u32,
    /// The bits of a position that are the slot.
    pub(crate) index_mask: u32,
    /// The offset of the producer's register.
    pub(crate) producer: u32,
    /// The bits beside the pointer there.
    pub(crate) enable: u32,
    pub(crate) identity: QueueIdentity,
    pub(crate) smmu: SmmuId,
    /// Whether a write of the producer's register acknowledges errors.
    pub(crate) acknowledges_by_producer: bool,
    /// Whether every call ends with a `CMD_SYNC`.
    pub(crate) forces_sync: bool,
}

impl<R, B, W, const CELLS: usize> fmt::Debug for CommandQueue<R, B, W, CELLS>
where
    B: Slots,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandQueue")
            .field("smmu", &self.hot.smmu)
            .field("base", &self.block.address())
            .field("size", &self.size)
            .field("consumer", &self.consumer.0)
            .field("reserve", &self.reserve.0)
            .field("gerror", &self.gerror)
            .finish_non_exhaustive()
    }
}

impl<R, B, W> CommandQueue<R, B, W>
where
    R: Registers,
    B: Slots,
    W: Wait,
{
    /// log2 of the smallest ring: two entries, for a command and its `CMD_SYNC`.
    ///
    /// A batch longer than the ring goes through it in pieces.
    pub const MIN_LOG2: u8 = 1;

    /// The block that a queue needs: [`layout()`], for code that names the queue's type.
    #[must_use]
    pub const fn layout(size: QueueSize, sync_by: SyncBy) -> DmaLayout {
        layout(size, sync_by)
    }

    /// An empty queue in `block`.
    ///
    /// Positions start at 0. Before the first command, enable the SMMU's queue with `CMDQ_BASE` =
    /// [`base`](Self::base), `CMDQ_PROD` = 0 and `CMDQ_CONS` = 0. This call touches no register.
    ///
    /// # Errors
    ///
    /// [`QueueError::TooSmall`], [`QueueError::BlockTooSmall`], or [`QueueError::Base`].
    pub fn new(
        smmu: SmmuId,
        registers: R,
        block: B,
        size: QueueSize,
        wait: W,
        config: QueueConfig,
    ) -> Result<Self, QueueError> {
        Self::with_cells(smmu, registers, block, size, wait, config)
    }
}

impl<R, B, W, const CELLS: usize> CommandQueue<R, B, W, CELLS>
where
    R: Registers,
    B: Slots,
    W: Wait,
{
    /// As [`new`](CommandQueue::new), for any number of cells.
    ///
    /// # Errors
    ///
    /// As for [`new`](CommandQueue::new).
    pub fn with_cells(
        smmu: SmmuId,
        registers: R,
        block: B,
        size: QueueSize,
        wait: W,
        config: QueueConfig,
    ) -> Result<Self, QueueError> {
        if size.log2() < CommandQueue::<R, B, W>::MIN_LOG2 {
            return Err(QueueError::TooSmall { entries: size.entries() });
        }
        let need = ring::needed(size, config.sync_by) * ring::BYTES;
        let bytes = block.slots() * ring::BYTES;
        if bytes < need {
            return Err(QueueError::BlockTooSmall { bytes, need });
        }
        queue_base::encode(block.address(), size, ring::BYTES)?;
        if let SyncBy::Msi(_) = config.sync_by {
            // The first `CMD_SYNC` writes 1 or more, so 0 completes none.
            block.store(ring::msi(size), RawCommand::default());
            block.publish(ring::msi(size)..ring::msi(size) + 1);
        }
        let depth = u64::from(size.entries()).min(CELLS as u64);
        let every = config.sync_every.map_or(u64::MAX, |every| every.get().into());
        let hot = HotFields {
            longest: every.min(depth - 1),
            pointer_mask: size.pointer_mask(),
            index_mask: size.entries() - 1,
            producer: config.port.producer,
            enable: config.port.enable,
            identity: QueueIdentity::next(),
            smmu,
            acknowledges_by_producer: config.port.acknowledges_by_producer(),
            forces_sync: config.sync_every.is_some(),
        };
        Ok(CommandQueue {
            hot,
            gerror: GerrorHandler::new(),
            block,
            registers,
            size,
            depth,
            config,
            wait,
            producer_flags: AtomicU32::new(config.port.enable),
            failures: FailureRecords::new(smmu),
            reserve: CacheLine(Reservation::new(depth)),
            consumer: CacheLine(AtomicU64::new(0)),
            msi_is_stale: AtomicBool::new(false),
            prod_owner: CacheLine(ProdOwner::new()),
        })
    }

    /// The SMMU.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        self.hot.smmu
    }

    /// Opcodes that this queue takes; [`QueueGroup`](crate::QueueGroup) routes by them.
    #[must_use]
    pub const fn takes(&self) -> Opcodes {
        self.config.takes
    }

    /// The address of the ring, for `CMDQ_BASE`.
    #[must_use]
    pub fn base(&self) -> PhysAddr {
        self.block.address()
    }

    /// The size of the ring.
    #[must_use]
    pub const fn size(&self) -> QueueSize {
        self.size
    }

    /// Queue `commands` and a `CMD_SYNC` behind them.
    ///
    /// # Errors
    ///
    /// After any error, such as [`SinkError::Timeout`], the `CMD_SYNC` is not queued. None of the
    /// commands is queued, or the first part of a batch longer than the ring; the SMMU will carry
    /// that part out.
    #[inline]
    pub fn issue(&self, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        self.issue_any(commands)
    }

    /// [`issue`](Self::issue) with encoded commands. The queue copies them, and encodes none.
    ///
    /// # Errors
    ///
    /// As for [`issue`](Self::issue).
    #[inline]
    pub fn issue_encoded(&self, commands: &[RawCommand]) -> Result<SyncTicket, SinkError> {
        self.issue_any(commands)
    }

    #[inline(always)]
    fn issue_any<C>(&self, commands: &[C]) -> Result<SyncTicket, SinkError>
    where
        for<'c> &'c [C]: Into<Commands<'c>>,
    {
        let own = self.produce::<true, C>(commands)?;
        Ok(SyncTicket::new(self.hot.smmu, self.hot.identity, own))
    }

    /// Queue `commands` without a `CMD_SYNC`. `pushed`: earlier commands, which the result stands
    /// for as well.
    ///
    /// With [`sync_every`](QueueConfig::sync_every), the call ends with a `CMD_SYNC` all the same.
    ///
    /// # Errors
    ///
    /// - As for [`issue`](Self::issue).
    /// - [`SinkError::AtcInvPushed`]: `ATC_INV` is among the commands, and no `CMD_SYNC` of this
    ///   call would learn of its time-out. A `CMD_SYNC` takes its place. The other commands are
    ///   queued, or the first part of a batch longer than the ring. Does not occur with
    ///   `sync_every`.
    /// - [`SinkError::UnknownSmmu`]: `pushed` belongs to another queue.
    pub fn push(&self, pushed: Option<Pushed>, commands: &[Command]) -> Result<Pushed, SinkError> {
        self.push_any(pushed, commands)
    }

    /// [`push`](Self::push) with encoded commands. The queue copies them, and encodes none.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    pub fn push_encoded(
        &self,
        pushed: Option<Pushed>,
        commands: &[RawCommand],
    ) -> Result<Pushed, SinkError> {
        self.push_any(pushed, commands)
    }

    #[inline(always)]
    fn push_any<C>(&self, pushed: Option<Pushed>, commands: &[C]) -> Result<Pushed, SinkError>
    where
        for<'c> &'c [C]: Into<Commands<'c>>,
    {
        let smmu = self.hot.smmu;
        if pushed.as_ref().is_some_and(|pushed| pushed.queue != self.hot.identity) {
            return Err(SinkError::UnknownSmmu { smmu });
        }
        let Range { start, .. } = match self.hot.forces_sync {
            false => self.produce::<false, C>(commands)?,
            true => self.produce::<true, C>(commands)?,
        };
        // An empty push has a position that may be too high; see `Reservation::next`.
        let from = pushed.map_or(start, |pushed| pushed.from.min(start));
        Ok(Pushed { smmu, queue: self.hot.identity, from })
    }

    /// Queue `commands`, perhaps none, and a `CMD_SYNC` that stands for them and for `pushed`.
    ///
    /// The queue does not know which caller pushed a command. If a command between the first of
    /// `pushed` and `commands` fails, this ticket fails, even if the command is another caller's.
    /// The exception is a command of another caller's `issue` whose waiter has already learned of
    /// the failure.
    ///
    /// # Errors
    ///
    /// As for [`issue`](Self::issue); [`SinkError::UnknownSmmu`] if `pushed` belongs to another
    /// queue.
    pub fn prove(&self, pushed: Pushed, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        self.prove_any(pushed, commands)
    }

    /// [`prove`](Self::prove) with encoded commands. The queue copies them, and encodes none.
    ///
    /// # Errors
    ///
    /// As for [`prove`](Self::prove).
    pub fn prove_encoded(
        &self,
        pushed: Pushed,
        commands: &[RawCommand],
    ) -> Result<SyncTicket, SinkError> {
        self.prove_any(pushed, commands)
    }

    #[inline(always)]
    fn prove_any<C>(&self, pushed: Pushed, commands: &[C]) -> Result<SyncTicket, SinkError>
    where
        for<'c> &'c [C]: Into<Commands<'c>>,
    {
        if pushed.queue != self.hot.identity {
            return Err(SinkError::UnknownSmmu { smmu: self.hot.smmu });
        }
        Ok(self.issue_any(commands)?.from(pushed.from))
    }

    /// [`issue`](Self::issue), then [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// As for both.
    pub fn run(&self, commands: &[Command]) -> Result<SyncProof, SinkError> {
        let ticket = self.issue(commands)?;
        self.wait(ticket)
    }

    /// The numbers of failures so far.
    pub fn failure_counts(&self) -> FailureCounts {
        self.failures.counts()
    }

    /// Run `f` on the registers while the queue does not write `GERRORN`.
    ///
    /// Returns `None` if another caller is inside the error handler or this method; try again then.
    /// An interrupt handler cannot try again, because it may have interrupted that caller: it calls
    /// [`handle_global_errors`](Self::handle_global_errors). `f` must not call the queue, must not
    /// write a `CMDQ_*` register, and must not change `GERRORN.CMDQ`.
    pub fn with_registers<T>(&self, f: impl FnOnce(&R) -> T) -> Option<T> {
        let _inside = self.try_enter()?;
        Some(f(&self.registers))
    }

    /// The `CMD_SYNC` for a position.
    #[inline]
    pub(crate) fn sync_at(&self, position: u64) -> RawCommand {
        let completion = match self.config.sync_by {
            SyncBy::Polling => return SYNC,
            SyncBy::Event => return SYNC_EVENT,
            SyncBy::Msi(attributes) => {
                let behind = ring::msi(self.size) as u64 * ring::BYTES;
                let address = PhysAddr(self.block.address().0 + behind);
                // Cannot fail: the constructor has checked that the base is aligned and in range.
                match SyncMsi::new(address, (position + 1) as u32) {
                    Ok(msi) => Command::Sync { completion: Completion::Msi(msi), attributes },
                    Err(_) => return SYNC,
                }
            }
        };
        completion.encode()
    }
}

const SYNC: RawCommand = Command::SYNC.encode();
const SYNC_EVENT: RawCommand = Command::sync(Completion::Event).encode();

/// A sink for one SMMU. Calls for another one return [`SinkError::UnknownSmmu`].
impl<R, B, W, const CELLS: usize> CommandSink for CommandQueue<R, B, W, CELLS>
where
    R: Registers,
    B: Slots,
    W: Wait,
{
    type Ticket = SyncTicket;
    type Pushed = Pushed;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        if smmu != self.hot.smmu {
            return Err(SinkError::UnknownSmmu { smmu });
        }
        CommandQueue::issue(self, commands)
    }

    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Pushed>,
        commands: &[Command],
    ) -> Result<Pushed, SinkError> {
        if smmu != self.hot.smmu {
            return Err(SinkError::UnknownSmmu { smmu });
        }
        CommandQueue::push(self, pushed, commands)
    }

    fn prove(&self, pushed: Pushed, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        CommandQueue::prove(self, pushed, commands)
    }

    fn wait(&self, ticket: SyncTicket) -> Result<SyncProof, SinkError> {
        CommandQueue::wait(self, ticket)
    }

    fn issue_encoded(
        &self,
        smmu: SmmuId,
        commands: EncodedBatch<'_>,
    ) -> Result<SyncTicket, SinkError> {
        if smmu != self.hot.smmu {
            return Err(SinkError::UnknownSmmu { smmu });
        }
        CommandQueue::issue_encoded(self, &commands)
    }

    fn push_encoded(
        &self,
        smmu: SmmuId,
        pushed: Option<Pushed>,
        commands: EncodedBatch<'_>,
    ) -> Result<Pushed, SinkError> {
        if smmu != self.hot.smmu {
            return Err(SinkError::UnknownSmmu { smmu });
        }
        CommandQueue::push_encoded(self, pushed, &commands)
    }

    fn prove_encoded(
        &self,
        pushed: Pushed,
        commands: EncodedBatch<'_>,
    ) -> Result<SyncTicket, SinkError> {
        CommandQueue::prove_encoded(self, pushed, &commands)
    }
}
