//! The queue itself.
//!
//! The ordering argument, in steps:
//!
//! 1. A command's words are stored into free slots, under the lock.
//! 2. [`DmaBlock::publish`] of those slots: they, and every earlier store of the caller (tables,
//!    STEs), are visible to the SMMU before
//! 3. the write of `CMDQ_PROD`, the first thing that lets the SMMU fetch them.
//! 4. The SMMU carries commands out in order and then moves `CMDQ_CONS`.
//! 5. `CMDQ_CONS` is read, then [`DmaBlock::observe`]: later loads of the caller see what the SMMU stored
//!    before 4, and later stores into the slots that 4 freed cannot overtake the read.
//!
//! `CMDQ_CONS` is read and compared with the producer under one lock: compared with a producer of
//! another moment, its wrap bit could mean another lap. The lock is let go between two looks.

use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use lock_api::{Mutex, RawMutex};
use smmu_types::queue::{Position, QueueSize};
use smmu_types::regs::{self, cmdq_cons, gerror, queue_base};
use smmu_types::seam::{
    CommandSink, DmaBlock, DmaLayout, Registers, RegistersExt, SinkError, TimedOut, Wait, poll,
};
use smmu_types::{Command, CommandErrorCode, PhysAddr, RawCommand, SmmuId, SyncProof};

use crate::QueueError;
use crate::ledger::{CommandFailure, FailureCounts, Ledger};

const ENTRY_BYTES: u64 = RawCommand::BYTES as u64;
const ENTRY_WORDS: usize = RawCommand::BYTES / 8;

/// How often in a row the SMMU may stop at one command before the queue gives up.
const MAX_ERRORS_AT_ONE_POSITION: u8 = 3;

static NEXT_IDENTITY: AtomicUsize = AtomicUsize::new(0);

/// What a [`CommandQueue`] lets its user choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// How long one wait may last: for space in the queue, and for a `CMD_SYNC`. 1 s by default.
    pub timeout: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig { timeout: Duration::from_secs(1) }
    }
}

/// The block that a command queue of `size` needs: its bytes, aligned to their number.
#[must_use]
pub const fn layout(size: QueueSize) -> DmaLayout {
    match DmaLayout::naturally_aligned(size.entries() as u64 * ENTRY_BYTES) {
        Some(layout) => layout,
        // 16 bytes to 8 MiB: never 0, never near the end of the number space.
        None => unreachable!(),
    }
}

/// One `CMD_SYNC` on its way, and the commands that it stands for.
///
/// Dropping it forgets the `CMD_SYNC`, not the commands: they are carried out all the same.
#[derive(Debug)]
#[must_use = "nothing is known of the commands until the ticket is waited for"]
pub struct SyncTicket {
    smmu: SmmuId,
    queue: usize,
    start: Position,
    end: Position,
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
        self.start..self.end
    }
}

/// Why a queue carries out nothing more.
#[derive(Clone, Copy, Debug)]
enum Halt {
    Lost { cons: u32 },
    Stuck(CommandFailure),
}

#[derive(Debug)]
struct State {
    producer: Position,
    consumer: Position,
    errors_at: (Position, u8),
    halt: Option<Halt>,
    ledger: Ledger,
}

/// The command queue of one SMMU.
///
/// The queue is full-featured but simple inside: a lock `L` around the producer. No lock is held
/// while a `CMD_SYNC` is polled for, nor while waiting for space, with one exception: a call whose
/// commands and `CMD_SYNC` are more than the ring keeps the lock until all are queued, so that no other
/// call's commands come between. Each of its waits for space is bounded.
///
/// # Contexts
///
/// Every method takes `L` for a moment. Whoever calls from an interrupt handler chooses an `L` that
/// masks that interrupt, or the handler could find it taken by the code that it interrupted.
///
/// # `GERRORN`
///
/// The queue acknowledges `GERROR.CMDQ`, and only that bit, under its lock, by reading `GERRORN` and writing
/// it back changed. Whoever acknowledges other bits does so inside [`with_registers`](Self::with_registers),
/// and leaves the `CMDQ` bit as it is.
///
/// # When it gives up
///
/// A `CMDQ_CONS` that cannot be is taken as the loss of the SMMU: this and every later call answers
/// [`SinkError::Lost`], because a later value could only be right by chance. After three errors in a
/// row at one command, everything not yet carried out answers [`SinkError::Command`] with it.
/// Both end with a new bring-up and a new queue.
pub struct CommandQueue<R, B, W, L>
where
    R: Registers,
    B: DmaBlock,
    W: Wait,
    L: RawMutex,
{
    smmu: SmmuId,
    identity: usize,
    registers: R,
    block: B,
    size: QueueSize,
    wait: W,
    config: QueueConfig,
    state: Mutex<L, State>,
}

impl<R, B, W, L> fmt::Debug for CommandQueue<R, B, W, L>
where
    R: Registers,
    B: DmaBlock,
    W: Wait,
    L: RawMutex,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandQueue")
            .field("smmu", &self.smmu)
            .field("base", &self.base())
            .field("size", &self.size)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<R, B, W, L> CommandQueue<R, B, W, L>
where
    R: Registers,
    B: DmaBlock,
    W: Wait,
    L: RawMutex,
{
    /// log2 of the smallest queue: two entries, because a command and the `CMD_SYNC` that proves it must
    /// fit at once. A batch longer than the ring goes through it in pieces.
    pub const MIN_LOG2: u8 = 1;

    /// The block that a queue of `size` needs; [`layout()`] without the types.
    #[must_use]
    pub const fn layout(size: QueueSize) -> DmaLayout {
        layout(size)
    }

    /// An empty queue in `block`.
    ///
    /// It counts from 0: the SMMU's queue is to be enabled with `CMDQ_BASE` = [`base`](Self::base), and
    /// `CMDQ_PROD` and `CMDQ_CONS` 0, before the first command. No register is touched here.
    pub fn new(
        smmu: SmmuId,
        registers: R,
        block: B,
        size: QueueSize,
        wait: W,
        config: QueueConfig,
    ) -> Result<Self, QueueError> {
        if size.log2() < Self::MIN_LOG2 {
            return Err(QueueError::TooSmall { entries: size.entries() });
        }
        let need = u64::from(size.entries()) * ENTRY_BYTES;
        let bytes = block.words().len() as u64 * 8;
        if bytes < need {
            return Err(QueueError::BlockTooSmall { bytes, need });
        }
        queue_base::encode(block.address(), size, ENTRY_BYTES)?;
        Ok(CommandQueue {
            smmu,
            identity: NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed),
            registers,
            block,
            size,
            wait,
            config,
            state: Mutex::new(State {
                producer: Position(0),
                consumer: Position(0),
                errors_at: (Position(0), 0),
                halt: None,
                ledger: Ledger::new(),
            }),
        })
    }

    /// The SMMU.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        self.smmu
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
    /// With [`SinkError::Timeout`], or any other error, none or a first part of `commands` is queued and
    /// will be carried out, and no `CMD_SYNC` was queued.
    pub fn issue(&self, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        let encoded = commands.iter().map(|command| command.encode());
        let with_sync = encoded.chain(core::iter::once(Command::SYNC.encode()));
        let Range { start, end } = self.enqueue(with_sync, commands.len() + 1, |_, _, _| {})?;
        Ok(SyncTicket { smmu: self.smmu, queue: self.identity, start, end })
    }

    /// Queue `commands` without a `CMD_SYNC`.
    ///
    /// A `CMD_SYNC` that is issued later proves them. The queue does not know threads, so if one of them
    /// fails, *every* ticket behind it reports the failure, until the integrator takes it with
    /// [`take_unclaimed`](Self::take_unclaimed).
    pub fn push(&self, commands: &[Command]) -> Result<(), SinkError> {
        const ATC_INV: u8 = 0x40;
        let encoded = commands.iter().map(|command| command.encode());
        self.enqueue(encoded, commands.len(), |ledger, range, commands| {
            ledger.pushed(range.clone());
            for (offset, command) in (0u32..).zip(commands) {
                if command.opcode() == ATC_INV {
                    ledger.pushed_atc(range.start.advanced(offset));
                }
            }
        })?;
        Ok(())
    }

    /// Wait until the ticket's `CMD_SYNC` is complete.
    ///
    /// [`SinkError::Command`] comes after the `CMD_SYNC` as well, or after the time for it: the SMMU
    /// steps over a refused command and carries out the rest of the batch.
    ///
    /// After [`SinkError::Timeout`] the caller knows nothing of the ticket's commands: they stay
    /// queued, and the SMMU may carry out any of them at any later time. The ticket is gone; a later
    /// `CMD_SYNC` that completes without error does not prove them, but a repetition of them does.
    pub fn wait(&self, ticket: SyncTicket) -> Result<SyncProof, SinkError> {
        if ticket.queue != self.identity {
            return Err(SinkError::UnknownSmmu { smmu: ticket.smmu });
        }
        let outcome = poll(&self.wait, self.config.timeout, || self.look(&ticket));
        match outcome {
            Ok(outcome) => outcome.map(|()| SyncProof::vouch(self.smmu)),
            Err(TimedOut { .. }) => {
                let failure = self.state.lock().ledger.claim(ticket.positions());
                Err(failure.map_or(SinkError::Timeout { smmu: self.smmu }, CommandFailure::error))
            }
        }
    }

    /// [`issue`](Self::issue), then [`wait`](Self::wait).
    pub fn run(&self, commands: &[Command]) -> Result<SyncProof, SinkError> {
        let ticket = self.issue(commands)?;
        self.wait(ticket)
    }

    /// Handle a command error, if the SMMU has reported one, and say which.
    ///
    /// For the `GERROR` interrupt; every wait does the same between two looks, so nothing depends on
    /// the interrupt. `CMDQ_CONS.ERR` is meaningful only while `GERROR.CMDQ` is active and is not
    /// looked at otherwise.
    ///
    /// - `CERROR_ILL`: the command is overwritten with a `CMD_SYNC` and the queue goes on.
    /// - `CERROR_ATC_INV_SYNC`: recorded against the `CMD_SYNC` that found out; the queue goes on.
    /// - `CERROR_ABT`, and codes without a name: acknowledged, so that the SMMU tries again.
    ///
    /// The third error in a row at one command is not acknowledged: the queue gives up there.
    pub fn service(&self) -> Option<CommandFailure> {
        self.service_locked(&mut self.state.lock())
    }

    /// Take the oldest failure of a pushed command; call it until there is none.
    ///
    /// Where more fail than the queue has room for, [`FailureCounts::evicted`] grows and the last one that is handed out
    /// stands for those as well.
    ///
    /// From now on, newly issued `CMD_SYNC`s succeed again; those issued before still report the
    /// failure. The taker answers for the command: it has either repeated its effect (or flushed
    /// everything), or knows that no thread is between a `push` and the `issue` that was to prove it.
    pub fn take_unclaimed(&self) -> Option<CommandFailure> {
        let mut state = self.state.lock();
        let producer = state.producer;
        state.ledger.take_unclaimed(producer)
    }

    /// How many failures there have been.
    pub fn failure_counts(&self) -> FailureCounts {
        self.state.lock().ledger.counts()
    }

    /// Run `f` on the registers while the queue leaves `GERRORN` alone.
    ///
    /// `f` must not call the queue, and must not write `CMDQ_*` or change `GERRORN.CMDQ`.
    pub fn with_registers<T>(&self, f: impl FnOnce(&R) -> T) -> T {
        let _state = self.state.lock();
        f(&self.registers)
    }

    fn enqueue(
        &self,
        mut commands: impl Iterator<Item = RawCommand> + Clone,
        count: usize,
        note: impl Fn(&mut Ledger, Range<Position>, &mut dyn Iterator<Item = RawCommand>),
    ) -> Result<Range<Position>, SinkError> {
        let mut left = count as u64;
        let ring = u64::from(self.size.entries());
        let at_once = left.min(ring);
        // Short calls wait for space without the lock.
        let ready = poll(&self.wait, self.config.timeout, || {
            let mut state = self.state.lock();
            match self.make_space(&mut state, at_once) {
                Ok(true) => Some(Ok(state)),
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            }
        });
        let mut state = ready.map_err(|_| SinkError::Timeout { smmu: self.smmu })??;
        let start = state.producer;
        loop {
            let free = self.free(&state).min(left) as u32;
            let piece = state.producer..state.producer.advanced(free);
            note(&mut state.ledger, piece, &mut commands.clone().take(free as usize));
            self.write(&mut state, commands.by_ref().take(free as usize));
            left -= u64::from(free);
            if left == 0 {
                return Ok(start..state.producer);
            }
            // More than the ring: keep the lock, so that nothing comes between.
            poll(&self.wait, self.config.timeout, || match self.make_space(&mut state, 1) {
                Ok(true) => Some(Ok(())),
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            })
            .map_err(|_| SinkError::Timeout { smmu: self.smmu })??;
        }
    }

    fn free(&self, state: &State) -> u64 {
        u64::from(self.size.entries()) - (state.producer.0 - state.consumer.0)
    }

    fn make_space(&self, state: &mut State, need: u64) -> Result<bool, SinkError> {
        self.check(state)?;
        if self.free(state) >= need {
            return Ok(true);
        }
        self.refresh(state)?;
        if self.free(state) >= need {
            return Ok(true);
        }
        self.service_locked(state);
        self.check(state)?;
        Ok(false)
    }

    fn check(&self, state: &State) -> Result<(), SinkError> {
        match state.halt {
            None => Ok(()),
            Some(Halt::Lost { cons }) => Err(SinkError::Lost { smmu: self.smmu, cons }),
            Some(Halt::Stuck(failure)) => Err(failure.error()),
        }
    }

    /// Store commands into free slots and tell the SMMU.
    fn write(&self, state: &mut State, commands: impl Iterator<Item = RawCommand>) {
        let start = state.producer;
        let mut end = start;
        for command in commands {
            self.store(end, command);
            end = end.advanced(1);
        }
        if start == end {
            return;
        }
        let (first, last) = (start.index(self.size), end.index(self.size));
        if first < last {
            self.block.publish(first * ENTRY_WORDS..last * ENTRY_WORDS);
        } else {
            let ring = self.size.entries() as usize;
            self.block.publish(first * ENTRY_WORDS..ring * ENTRY_WORDS);
            self.block.publish(0..last * ENTRY_WORDS);
        }
        state.producer = end;
        self.registers.write(regs::CMDQ_PROD, end.pointer(self.size));
    }

    fn slot(&self, position: Position) -> Range<usize> {
        let first = position.index(self.size) * ENTRY_WORDS;
        first..first + ENTRY_WORDS
    }

    fn store(&self, position: Position, command: RawCommand) {
        for (word, value) in self.block.words()[self.slot(position)].iter().zip(command.0) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn load(&self, position: Position) -> RawCommand {
        let mut command = RawCommand::default();
        for (word, value) in self.block.words()[self.slot(position)].iter().zip(&mut command.0) {
            *value = word.load(Ordering::Relaxed);
        }
        command
    }

    /// Read `CMDQ_CONS` and move the consumer.
    fn refresh(&self, state: &mut State) -> Result<u32, SinkError> {
        if let Some(Halt::Lost { cons }) = state.halt {
            return Err(SinkError::Lost { smmu: self.smmu, cons });
        }
        let cons = self.registers.read(regs::CMDQ_CONS);
        // All ones, from a bus without a device, could pass for a pointer; the reserved bits tell.
        let reserved = !(0x7f << 24 | self.size.pointer_mask());
        let consumer = state.producer.consumer(self.size, cons);
        match consumer {
            Some(consumer) if cons & reserved == 0 && consumer >= state.consumer => {
                // Only the order counts: the SMMU stores nothing into its command queue.
                self.block.observe(0..0);
                state.consumer = consumer;
                state.ledger.consumed(consumer);
                Ok(cons)
            }
            _ => {
                state.halt = Some(Halt::Lost { cons });
                Err(SinkError::Lost { smmu: self.smmu, cons })
            }
        }
    }

    /// One look of a waiter.
    fn look(&self, ticket: &SyncTicket) -> Option<Result<(), SinkError>> {
        let mut state = self.state.lock();
        if state.consumer < ticket.end {
            if let Err(error) = self.refresh(&mut state) {
                return Some(Err(error));
            }
        } else {
            self.block.observe(self.slot(Position(ticket.end.0 - 1)));
        }
        if state.consumer >= ticket.end {
            return Some(match state.ledger.claim(ticket.positions()) {
                Some(failure) => Err(failure.error()),
                None => {
                    state.ledger.proven(ticket.end);
                    Ok(())
                }
            });
        }
        self.service_locked(&mut state);
        self.check(&state).err().map(Err)
    }

    fn service_locked(&self, state: &mut State) -> Option<CommandFailure> {
        if state.halt.is_some() {
            return None;
        }
        let acknowledged = self.registers.read(regs::GERRORN);
        if (self.registers.read(regs::GERROR) ^ acknowledged) & gerror::CMDQ == 0 {
            return None;
        }
        let cons = self.refresh(state).ok()?;
        let position = state.consumer;
        let acknowledge = || self.registers.write(regs::GERRORN, acknowledged ^ gerror::CMDQ);
        if position == state.producer {
            // Nothing of ours is there: an error from before the queue was enabled.
            acknowledge();
            return None;
        }
        let failure = CommandFailure {
            smmu: self.smmu,
            command: self.load(position),
            code: cmdq_cons::error(cons),
            position,
        };
        let errors = match state.errors_at {
            (at, errors) if at == position => errors.saturating_add(1),
            _ => 1,
        };
        state.errors_at = (position, errors);
        if errors >= MAX_ERRORS_AT_ONE_POSITION {
            state.halt = Some(Halt::Stuck(failure));
            return Some(failure);
        }
        match failure.code {
            CommandErrorCode::ILL => {
                state.ledger.record(failure);
                self.store(position, Command::SYNC.encode());
                self.block.publish(self.slot(position));
            }
            CommandErrorCode::ATC_INV_SYNC => {
                state.ledger.record(failure);
            }
            _ => {}
        }
        acknowledge();
        Some(failure)
    }
}

impl CommandFailure {
    /// The same, for a caller of a [`CommandSink`].
    #[must_use]
    pub const fn error(self) -> SinkError {
        SinkError::Command { smmu: self.smmu, command: self.command, code: self.code }
    }
}

/// A sink for its own SMMU; every other is unknown to it.
impl<R, B, W, L> CommandSink for CommandQueue<R, B, W, L>
where
    R: Registers,
    B: DmaBlock,
    W: Wait,
    L: RawMutex,
{
    type Ticket = SyncTicket;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        if smmu != self.smmu {
            return Err(SinkError::UnknownSmmu { smmu });
        }
        CommandQueue::issue(self, commands)
    }

    fn push(&self, smmu: SmmuId, commands: &[Command]) -> Result<(), SinkError> {
        if smmu != self.smmu {
            return Err(SinkError::UnknownSmmu { smmu });
        }
        CommandQueue::push(self, commands)
    }

    fn wait(&self, ticket: SyncTicket) -> Result<SyncProof, SinkError> {
        CommandQueue::wait(self, ticket)
    }
}
