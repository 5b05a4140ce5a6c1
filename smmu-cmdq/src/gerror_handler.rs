//! The state of the command error handler, and the reason for which the queue has halted.

use smmu_types::seam::SinkError;
use smmu_types::{CommandErrorCode, RawCommand, SmmuId};

use crate::failures::CommandFailure;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Barrier, Ordering, order};

const LOST: u64 = 1 << 32;
const STUCK: u64 = 2 << 32;

/// The error handler's state, and the reason for which the queue has halted.
#[derive(Debug)]
pub(crate) struct GerrorHandler {
    locked: AtomicBool,
    // Only the holder of the lock uses these two.
    errors_at: AtomicU64,
    errors: AtomicU32,
    // 0 while the queue works; else `LOST` with `CMDQ_CONS`, or `STUCK` with the error code.
    halt: AtomicU64,
    // The command at which the SMMU is stuck. `halt` publishes it.
    stuck_at: [AtomicU64; 2],
}

/// The lock, held until this is dropped.
pub(crate) struct GerrorGuard<'s>(&'s AtomicBool);

impl Drop for GerrorGuard<'_> {
    fn drop(&mut self) {
        // Not a store: under the model checker only read-modify-writes of a word have one order.
        self.0.swap(false, order(Barrier::GerrorRelease, Ordering::Release));
    }
}

impl GerrorHandler {
    pub(crate) fn new() -> Self {
        GerrorHandler {
            locked: AtomicBool::new(false),
            errors_at: AtomicU64::new(0),
            errors: AtomicU32::new(0),
            halt: AtomicU64::new(0),
            stuck_at: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    pub(crate) fn try_lock(&self) -> Option<GerrorGuard<'_>> {
        let acquire = order(Barrier::GerrorAcquire, Ordering::Acquire);
        // Not `then_some`: it would make a guard in either case, and dropping that would unlock.
        (!self.locked.swap(true, acquire)).then(|| GerrorGuard(&self.locked))
    }

    /// An error if the queue has halted.
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

    /// Halt, because `CMDQ_CONS` cannot be right. Returns the error for this and every later call.
    #[cold]
    pub(crate) fn lose(&self, smmu: SmmuId, cons: u32) -> SinkError {
        let lost = LOST | u64::from(cons);
        self.halt(lost);
        self.check(smmu).err().unwrap_or(SinkError::Lost { smmu, cons })
    }

    /// Halt, because the SMMU does not get past one command.
    pub(crate) fn halt_at(&self, failure: &CommandFailure) {
        for (word, value) in self.stuck_at.iter().zip(failure.command.0) {
            word.store(value, Ordering::Relaxed);
        }
        let stuck = STUCK | u64::from(failure.code.0);
        self.halt(stuck);
    }

    fn halt(&self, halt: u64) {
        let release = order(Barrier::HaltRelease, Ordering::Release);
        // The first reason stands.
        let _first = self.halt.compare_exchange(0, halt, release, Ordering::Relaxed);
    }

    /// Count an error at `position`. Returns how many there have been in a row. Only under the
    /// lock.
    pub(crate) fn count(&self, position: u64) -> u32 {
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
