//! The state of the error handler, and the reason for which the queue has halted.
//!
//! One word says whether a caller is inside the handler, and whether another one has left a request.
//!
//! 1. An interrupt handler sets both bits by one operation. Either no caller was inside, and it is
//!    inside now; or the caller inside finds the request.
//! 2. A caller leaves by a compare-exchange that fails if there is a request. It takes the request
//!    back, does the work, and tries again. So no request is left behind, and no caller waits.
//! 3. The request is **a release** and taking it **an acquire**: the caller inside reads `GERROR`
//!    after the interrupt.

use smmu_types::seam::SinkError;
use smmu_types::{CommandErrorCode, RawCommand, SmmuId};

use crate::failures::CommandFailure;
use crate::sync::{AtomicU32, AtomicU64, Barrier, Ordering, acq_rel, is_kept, order};

const LOST: u64 = 1 << 32;
const STUCK: u64 = 2 << 32;

/// No caller is inside the handler.
const FREE: u32 = 0;
/// A caller is inside.
const INSIDE: u32 = 1;
/// An interrupt handler has found a caller inside, and left its work to that caller.
const REQUESTED: u32 = 2;

/// The error handler's state, and the reason for which the queue has halted.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct GerrorHandler {
    // 0 while the queue works; else `LOST` with `CMDQ_CONS`, or `STUCK` with the error code. The
    // first field, since every call reads it: it shares a cache line with the queue's `HotFields`.
    halt: AtomicU64,
    inside: AtomicU32,
    // Global errors that were found active, and are not yet reported to an interrupt handler.
    unreported: AtomicU32,
    // Only the caller inside uses these two.
    errors_at: AtomicU64,
    errors: AtomicU32,
    // The command at which the SMMU is stuck. `halt` publishes it.
    stuck_at: [AtomicU64; 2],
}

impl GerrorHandler {
    pub(crate) fn new() -> Self {
        GerrorHandler {
            inside: AtomicU32::new(FREE),
            unreported: AtomicU32::new(0),
            errors_at: AtomicU64::new(0),
            errors: AtomicU32::new(0),
            halt: AtomicU64::new(0),
            stuck_at: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    /// Enter the handler, unless a caller is inside. A caller that enters calls
    /// [`leave`](Self::leave) until it returns `true`.
    pub(crate) fn try_enter(&self) -> bool {
        let acquire = order(Barrier::GerrorAcquire, Ordering::Acquire);
        self.inside.fetch_or(INSIDE, acquire) & INSIDE == 0
    }

    /// Enter the handler, or leave a request to the caller inside.
    pub(crate) fn enter_or_request(&self) -> bool {
        let both = acq_rel(Barrier::GerrorAcquire, Barrier::GerrorRequest);
        if self.inside.fetch_or(INSIDE | REQUESTED, both) & INSIDE != 0 {
            return false;
        }
        self.take_request();
        true
    }

    /// Leave the handler. `false`: there was a request, and the caller is still inside.
    pub(crate) fn leave(&self) -> bool {
        let release = order(Barrier::GerrorRelease, Ordering::Release);
        if self.inside.compare_exchange(INSIDE, FREE, release, Ordering::Relaxed).is_ok() {
            return true;
        }
        if !is_kept(Barrier::GerrorHandOver) {
            self.inside.swap(FREE, release);
            return true;
        }
        self.take_request();
        false
    }

    fn take_request(&self) {
        let acquire = order(Barrier::GerrorTake, Ordering::Acquire);
        self.inside.fetch_and(!REQUESTED, acquire);
    }

    /// Remember active errors for the next report.
    pub(crate) fn remember(&self, active: u32) {
        self.unreported.fetch_or(active, Ordering::Relaxed);
    }

    /// All errors since the last report.
    pub(crate) fn take_report(&self) -> u32 {
        self.unreported.swap(0, Ordering::Relaxed)
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

    /// Count an error at `position`. Returns how many there have been in a row. Only for the caller
    /// inside.
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
