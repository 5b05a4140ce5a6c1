//! The queue: what it is made of, and what its user calls.

use core::fmt;
use core::ops::{Deref, Range};
use core::sync::atomic::AtomicUsize;

use smmu_types::queue::{Position, QueueSize};
use smmu_types::regs::queue_base;
use smmu_types::seam::{CommandSink, DmaLayout, Registers, SinkError, Wait};
use smmu_types::{Command, Completion, PhysAddr, RawCommand, SmmuId, SyncMsi, SyncProof};

use crate::failures::{CommandFailure, FailureCounts, Failures};
use crate::gerror::Gerror;
use crate::prod_owner::ProdOwner;
use crate::reserve::{CompareExchange, Reserve};
use crate::ring::{self, Slots};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64};
use crate::{Opcodes, QueueConfig, QueueError, SyncBy, layout};

static NEXT_IDENTITY: AtomicUsize = AtomicUsize::new(0);

/// Commands that were queued without a `CMD_SYNC`.
///
/// Dropping it forgets what becomes of them, not the commands.
#[derive(Debug)]
#[must_use = "nothing is known of the commands until they are proven"]
pub struct Pushed {
    smmu: SmmuId,
    queue: usize,
    from: u64,
}

impl Pushed {
    /// The SMMU.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        self.smmu
    }
}

/// One `CMD_SYNC` on its way, and the commands that it stands for.
///
/// Dropping it forgets the `CMD_SYNC`, not the commands: they are carried out all the same.
#[derive(Debug)]
#[must_use = "nothing is known of the commands until the ticket is waited for"]
pub struct SyncTicket {
    pub(crate) smmu: SmmuId,
    pub(crate) queue: usize,
    /// The first of what was pushed.
    pub(crate) pushed: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl SyncTicket {
    /// The SMMU.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        self.smmu
    }

    /// Where the commands lie; the `CMD_SYNC` is the last of them.
    #[must_use]
    pub const fn positions(&self) -> Range<Position> {
        Position(self.start)..Position(self.end)
    }
}

/// Something that many write, away from what others write.
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
/// Any number of threads, interrupt handlers and CPUs queue batches at once. Each reserves its slots by an atomic operation
/// (`S`: [`CompareExchange`] or [`FetchAdd`](crate::FetchAdd)), fills them beside the others, and leaves; one of them at
/// a time, and nobody else waits for it, tells the SMMU of all batches that are filled, in order. The commands of one
/// call are never interleaved with those of another, and never dropped. A call that finds the ring full waits for room, with a
/// bound; if it finds none for long, or has more commands than the ring, the ring is kept for it until it is served.
///
/// `CELLS` (a power of two) is the most commands that are in the ring at once, if the ring holds as many: 8 bytes each.
///
/// # Contexts
///
/// Every method may be called from any context, an interrupt handler included: nothing that the interrupted code has is
/// waited for, but room in the ring. Only a handler that interrupts a caller for whom the ring is kept waits for that
/// room in vain, up to the time-out.
///
/// # `GERRORN`
///
/// The queue acknowledges `GERROR.CMDQ`, and only that bit, by reading `GERRORN` and writing
/// it back changed; one caller at a time does so. Whoever acknowledges other bits does so inside
/// [`with_registers`](Self::with_registers), and leaves the `CMDQ` bit as it is.
///
/// # When it gives up
///
/// A `CMDQ_CONS` that cannot be is taken as the loss of the SMMU: this and every later call answers
/// [`SinkError::Lost`], because a later value could only be right by chance. After three errors in a
/// row at one command, everything not yet carried out answers [`SinkError::Command`] with it.
/// Both end with a new bring-up and a new queue.
pub struct CommandQueue<R, B, W, S = CompareExchange, const CELLS: usize = 1024> {
    pub(crate) smmu: SmmuId,
    pub(crate) identity: usize,
    pub(crate) size: QueueSize,
    /// The most commands in the ring at once.
    pub(crate) depth: u64,
    /// The most commands, beside a `CMD_SYNC`, that are put into the ring as they are.
    pub(crate) longest: u64,
    pub(crate) config: QueueConfig,
    pub(crate) registers: R,
    pub(crate) block: B,
    pub(crate) wait: W,
    pub(crate) gerror: Gerror,
    /// What stands beside the pointer in the producer's register, where an error is acknowledged there.
    pub(crate) producer_flags: AtomicU32,
    pub(crate) failures: Failures,
    pub(crate) reserve: CacheLine<S>,
    pub(crate) consumer: CacheLine<AtomicU64>,
    /// MSIs have been missing for so long that the last of them could be taken for a new one.
    pub(crate) msi_is_stale: AtomicBool,
    pub(crate) prod_owner: CacheLine<ProdOwner<CELLS>>,
}

impl<R, B, W, S, const CELLS: usize> fmt::Debug for CommandQueue<R, B, W, S, CELLS>
where
    B: Slots,
    S: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandQueue")
            .field("smmu", &self.smmu)
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
    /// log2 of the smallest queue: two entries, because a command and the `CMD_SYNC` that proves it must
    /// fit at once. A batch longer than the ring goes through it in pieces.
    pub const MIN_LOG2: u8 = 1;

    /// The block that a queue of `size` needs; [`layout()`] without the types.
    #[must_use]
    pub const fn layout(size: QueueSize, sync_by: SyncBy) -> DmaLayout {
        layout(size, sync_by)
    }

    /// An empty queue in `block`.
    ///
    /// It counts from 0: the SMMU's queue is to be enabled with `CMDQ_BASE` = [`base`](Self::base), and
    /// `CMDQ_PROD` and `CMDQ_CONS` 0, before the first command. No register is touched here.
    ///
    /// # Errors
    ///
    /// [`QueueError`]: the size, the block, or its address does not do.
    pub fn new(
        smmu: SmmuId,
        registers: R,
        block: B,
        size: QueueSize,
        wait: W,
        config: QueueConfig,
    ) -> Result<Self, QueueError> {
        Self::reserving(smmu, registers, block, size, wait, config)
    }
}

impl<R, B, W, S, const CELLS: usize> CommandQueue<R, B, W, S, CELLS>
where
    R: Registers,
    B: Slots,
    W: Wait,
    S: Reserve,
{
    /// [`new`](CommandQueue::new), for any way to reserve slots and any number of cells.
    ///
    /// # Errors
    ///
    /// [`QueueError`]: the size, the block, or its address does not do.
    pub fn reserving(
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
            // Position 0: no `CMD_SYNC` is complete.
            block.store(ring::msi(size), RawCommand::default());
            block.publish(ring::msi(size)..ring::msi(size) + 1);
        }
        let depth = u64::from(size.entries()).min(CELLS as u64);
        let every = config.sync_every.map_or(u64::MAX, |every| every.get().into());
        Ok(CommandQueue {
            smmu,
            depth,
            longest: every.min(depth - 1),
            identity: NEXT_IDENTITY.fetch_add(1, core::sync::atomic::Ordering::Relaxed),
            size,
            config,
            registers,
            block,
            wait,
            gerror: Gerror::new(),
            producer_flags: AtomicU32::new(config.port.enable),
            failures: Failures::new(smmu),
            reserve: CacheLine(S::new(depth)),
            consumer: CacheLine(AtomicU64::new(0)),
            msi_is_stale: AtomicBool::new(false),
            prod_owner: CacheLine(ProdOwner::new()),
        })
    }

    /// The SMMU.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        self.smmu
    }

    /// Which commands it takes.
    #[must_use]
    pub const fn takes(&self) -> Opcodes {
        self.config.takes
    }

    /// Where the SMMU finds the queue.
    #[must_use]
    pub fn base(&self) -> PhysAddr {
        self.block.address()
    }

    /// Its size.
    #[must_use]
    pub const fn size(&self) -> QueueSize {
        self.size
    }

    /// Queue `commands` and a `CMD_SYNC` behind them.
    ///
    /// # Errors
    ///
    /// With [`SinkError::Timeout`], or any other, none or a first part of `commands` is queued and
    /// will be carried out, and no `CMD_SYNC` was queued.
    #[inline]
    pub fn issue(&self, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        let Range { start, end } = self.produce::<true>(commands)?;
        Ok(SyncTicket { smmu: self.smmu, queue: self.identity, pushed: start, start, end })
    }

    /// Queue `commands` without a `CMD_SYNC`, behind what was `pushed` before, if anything was.
    ///
    /// # Errors
    ///
    /// As of [`issue`](Self::issue); [`SinkError::AtcInvPushed`] for an `ATC_INV`, in whose place a `CMD_SYNC` is queued (where
    /// there is a `CMD_SYNC` after so many commands, this call ends with one, and an `ATC_INV` may go);
    /// [`SinkError::UnknownSmmu`] if it was another queue that `pushed` is of.
    pub fn push(&self, pushed: Option<Pushed>, commands: &[Command]) -> Result<Pushed, SinkError> {
        let smmu = self.smmu;
        if pushed.as_ref().is_some_and(|pushed| pushed.queue != self.identity) {
            return Err(SinkError::UnknownSmmu { smmu });
        }
        let Range { start, .. } = match self.config.sync_every {
            None => self.produce::<false>(commands)?,
            Some(_) => self.produce::<true>(commands)?,
        };
        // What was pushed empty may begin further on; see `Reserve::next`.
        let from = pushed.map_or(start, |pushed| pushed.from.min(start));
        Ok(Pushed { smmu, queue: self.identity, from })
    }

    /// Queue `commands`, which may be none, and a `CMD_SYNC` that stands for them and for what was `pushed`.
    ///
    /// If a command fails that lies between the first of those pushed and these, and is nobody's own that has waited for
    /// it, this ticket fails: the queue does not know whose pushed commands are whose.
    ///
    /// # Errors
    ///
    /// As of [`issue`](Self::issue); [`SinkError::UnknownSmmu`] if it was another queue that `pushed` is of.
    pub fn prove(&self, pushed: Pushed, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        if pushed.queue != self.identity {
            return Err(SinkError::UnknownSmmu { smmu: self.smmu });
        }
        let ticket = self.issue(commands)?;
        Ok(SyncTicket { pushed: pushed.from.min(ticket.start), ..ticket })
    }

    /// [`issue`](Self::issue), then [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// As of both.
    pub fn run(&self, commands: &[Command]) -> Result<SyncProof, SinkError> {
        let ticket = self.issue(commands)?;
        self.wait(ticket)
    }

    /// How many failures there have been.
    pub fn failure_counts(&self) -> FailureCounts {
        self.failures.counts()
    }

    /// Run `f` on the registers while the queue leaves `GERRORN` alone; `None` if it is just about to write that, and
    /// then there is nothing but to try again.
    ///
    /// `f` must not call the queue, and must not write `CMDQ_*` or change `GERRORN.CMDQ`.
    pub fn with_registers<T>(&self, f: impl FnOnce(&R) -> T) -> Option<T> {
        let _entered = self.gerror.try_lock()?;
        Some(f(&self.registers))
    }

    /// Handle a command error, if the SMMU has reported one, and say which.
    ///
    /// For the `GERROR` interrupt; every wait does the same between two looks, so nothing depends on
    /// the interrupt. One caller at a time does it; whoever comes beside it has nothing to do. `CMDQ_CONS.ERR` is
    /// meaningful only while `GERROR.CMDQ` is active and is not looked at otherwise.
    ///
    /// - `CERROR_ILL`: the command is overwritten with a `CMD_SYNC` and the queue goes on.
    /// - `CERROR_ATC_INV_SYNC`: recorded against the `CMD_SYNC` that found out; the queue goes on.
    /// - `CERROR_ABT`, and codes without a name: acknowledged, so that the SMMU tries again.
    ///
    /// The third error in a row at one command is not acknowledged: the queue gives up there.
    pub fn handle_gerror(&self) -> Option<CommandFailure> {
        self.handle_error()
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
                // The base was checked: it is aligned, and an SMMU has no address that does not fit.
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

/// A sink for its own SMMU; every other is unknown to it.
impl<R, B, W, S, const CELLS: usize> CommandSink for CommandQueue<R, B, W, S, CELLS>
where
    R: Registers,
    B: Slots,
    W: Wait,
    S: Reserve,
{
    type Ticket = SyncTicket;
    type Pushed = Pushed;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        if smmu != self.smmu {
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
        if smmu != self.smmu {
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
}
