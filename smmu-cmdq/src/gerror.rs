//! Errors that the SMMU reports: one at a time is handled, by whoever finds it.
//!
//! The handler is entered by setting a flag and never waited for. Whoever finds it entered goes on with what it was
//! doing; an interrupt handler that has interrupted the one inside leaves the error to that one.

use smmu_types::queue::Position;
use smmu_types::seam::{Registers, SinkError, Wait};
use smmu_types::{Command, CommandErrorCode, RawCommand, SmmuId, regs};

use crate::CommandQueue;
use crate::failures::CommandFailure;
use crate::reserve::Reserve;
use crate::ring::Slots;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Barrier, Ordering, is_kept, order};

/// How often in a row the SMMU may stop at one command before the queue gives up.
const MAX_ERRORS_AT_ONE_POSITION: u32 = 3;

/// How often somebody tries in a row to have the turn.
const TRIES: u32 = 16;

const LOST: u64 = 1 << 32;
const STUCK: u64 = 2 << 32;

/// Why a queue carries out nothing more, and what the handler of errors remembers.
#[derive(Debug)]
pub(crate) struct Gerror {
    locked: AtomicBool,
    // Touched only inside.
    errors_at: AtomicU64,
    errors: AtomicU32,
    // 0, or one of the two above with `CMDQ_CONS` or the error code.
    halt: AtomicU64,
    stuck_at: [AtomicU64; 2],
}

/// The only one inside.
pub(crate) struct GerrorGuard<'s>(&'s AtomicBool);

impl Drop for GerrorGuard<'_> {
    fn drop(&mut self) {
        self.0.swap(false, order(Barrier::GerrorRelease, Ordering::Release));
    }
}

impl Gerror {
    pub(crate) fn new() -> Self {
        Gerror {
            locked: AtomicBool::new(false),
            errors_at: AtomicU64::new(0),
            errors: AtomicU32::new(0),
            halt: AtomicU64::new(0),
            stuck_at: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    pub(crate) fn try_lock(&self) -> Option<GerrorGuard<'_>> {
        let acquire = order(Barrier::GerrorAcquire, Ordering::Acquire);
        // Not `then_some`, which would make one, and drop it, in any case.
        (!self.locked.swap(true, acquire)).then(|| GerrorGuard(&self.locked))
    }

    /// Whether the queue has given up.
    #[inline]
    pub(crate) fn check(&self, smmu: SmmuId) -> Result<(), SinkError> {
        match self.halt.load(order(Barrier::HaltAcquire, Ordering::Acquire)) {
            0 => Ok(()),
            halt => Err(self.halted(smmu, halt)),
        }
    }

    #[cold]
    fn halted(&self, smmu: SmmuId, halt: u64) -> SinkError {
        if halt & LOST != 0 {
            return SinkError::Lost { smmu, cons: halt as u32 };
        }
        let [low, high] = &self.stuck_at;
        let command = RawCommand([low.load(Ordering::Relaxed), high.load(Ordering::Relaxed)]);
        SinkError::Command { smmu, command, code: CommandErrorCode(halt as u8) }
    }

    /// The SMMU is lost; returns what is to be told from now on.
    #[cold]
    pub(crate) fn lose(&self, smmu: SmmuId, cons: u32) -> SinkError {
        let lost = LOST | u64::from(cons);
        self.halt(lost);
        self.check(smmu).err().unwrap_or(SinkError::Lost { smmu, cons })
    }

    fn give_up(&self, failure: &CommandFailure) {
        for (word, value) in self.stuck_at.iter().zip(failure.command.0) {
            word.store(value, Ordering::Relaxed);
        }
        let stuck = STUCK | u64::from(failure.code.0);
        self.halt(stuck);
    }

    fn halt(&self, halt: u64) {
        let release = order(Barrier::HaltRelease, Ordering::Release);
        // Whatever came first stands.
        let _first = self.halt.compare_exchange(0, halt, release, Ordering::Relaxed);
    }

    /// How many errors there have been in a row at `position`, with this one.
    fn count(&self, position: u64) -> u32 {
        let known = self.errors.load(Ordering::Relaxed) > 0
            && self.errors_at.load(Ordering::Relaxed) == position;
        let errors = match known {
            true => self.errors.load(Ordering::Relaxed).saturating_add(1),
            false => 1,
        };
        self.errors_at.store(position, Ordering::Relaxed);
        self.errors.store(errors, Ordering::Relaxed);
        errors
    }
}

impl<R, B, W, S, const CELLS: usize> CommandQueue<R, B, W, S, CELLS>
where
    R: Registers,
    B: Slots,
    W: Wait,
    S: Reserve,
{
    pub(crate) fn handle_error(&self) -> Option<CommandFailure> {
        let port = self.config.port;
        self.gerror.check(self.smmu).ok()?;
        port.error(&self.registers)?;
        let _entered = self.gerror.try_lock()?;
        // Somebody else may have been inside.
        let acknowledged = port.error(&self.registers)?;
        if port.acknowledges_by_producer() && self.is_pending(acknowledged) {
            self.write_acknowledgement();
            return None;
        }
        // The SMMU has stopped, and stays where it is.
        let cons = port.read_consumer(&self.registers);
        let before = self.consumer.load(Ordering::Relaxed);
        let position = self.consumed_since(before, cons).ok()?;
        if (cons ^ port.read_producer(&self.registers)) & self.size.pointer_mask() == 0 {
            // Nothing of ours is there: an error from before the queue was enabled.
            self.acknowledge(acknowledged);
            return None;
        }
        let slot = Position(position).index(self.size);
        let failure = CommandFailure {
            smmu: self.smmu,
            command: self.block.load(slot),
            code: regs::cmdq_cons::error(cons),
            position: Position(position),
        };
        if self.gerror.count(position) >= MAX_ERRORS_AT_ONE_POSITION {
            // What it has carried out is done all the same.
            self.move_consumer(before, position).ok()?;
            self.gerror.give_up(&failure);
            return Some(failure);
        }
        match failure.code {
            CommandErrorCode::ILL => {
                self.failures.record(failure);
                self.block.store(slot, const { Command::SYNC.encode() });
            }
            CommandErrorCode::ATC_INV_SYNC => self.failures.record(failure),
            _ => self.failures.retried(),
        }
        // The mended slot, and the record for whoever sees the SMMU go on.
        if is_kept(Barrier::PublishReplaced) {
            self.block.publish(slot..slot + 1);
        }
        self.acknowledge(acknowledged);
        Some(failure)
    }

    fn acknowledge(&self, acknowledged: u32) {
        let port = self.config.port;
        if port.acknowledges_by_producer() {
            // Only the one inside changes it.
            self.producer_flags.fetch_xor(port.error_bit, Ordering::Relaxed);
            self.write_acknowledgement();
        } else {
            port.acknowledge(&self.registers, acknowledged);
        }
    }

    /// Whether an error is handled, and the producer's register does not say so yet.
    fn is_pending(&self, producer: u32) -> bool {
        let changed = producer ^ self.producer_flags.load(Ordering::Relaxed);
        changed & self.config.port.error_bit != 0
    }

    /// Write the producer's register for what stands beside the pointer. Only one who has the turn to write it may; if somebody has
    /// and keeps it, such as one whom this has interrupted, the next look at the error tries again.
    fn write_acknowledgement(&self) {
        for _ in 0..TRIES {
            let producer = self.config.port.read_producer(&self.registers);
            if !self.is_pending(producer) {
                return;
            }
            // Where it is wrong, because others went on meanwhile, nobody has left the turn.
            let consumer = self.consumer.load(Ordering::Relaxed);
            let ahead = producer.wrapping_sub(consumer as u32) & self.size.pointer_mask();
            let end = consumer + u64::from(ahead);
            if self
                .prod_owner
                .advance_again(end, |end, others_committed| self.write_prod(end, others_committed))
            {
                return;
            }
        }
    }
}
