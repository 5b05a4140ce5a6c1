//! Handles errors that the SMMU reports in `GERROR`, and halts the queue when a command's do not end.
//!
//! One caller at a time is inside the handler. Another one returns: a waiter looks again later, and
//! an interrupt handler leaves a request, which the caller inside carries out before it leaves. So
//! an interrupt handler never waits for the caller that it has interrupted, and no interrupt is
//! lost, even if the SMMU signals it only once.

use smmu_types::queue::Position;
use smmu_types::regs::gerror;
use smmu_types::seam::{Registers, RegistersExt, Wait};
use smmu_types::{Command, CommandErrorCode, regs};

use crate::CommandQueue;
use crate::failures::CommandFailure;
use crate::ring::Slots;
use crate::sync::{Barrier, Ordering, is_kept};

/// The error in a row at one command at which the queue halts.
const MAX_ERRORS_AT_ONE_POSITION: u32 = 3;

/// Attempts to become the owner of the producer's register, for one acknowledgement.
const OWNER_ATTEMPTS: u32 = 16;

/// What the handler of a `GERROR` interrupt found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalErrors {
    /// The command that stopped the queue, if one did and this call handled it.
    pub command: Option<CommandFailure>,
    /// Errors, as bits of [`regs::gerror`], that were active since the last report. `None`: another
    /// caller was inside the handler. It acknowledges them before it leaves, and a later call
    /// reports them.
    pub active: Option<u32>,
}

/// A caller inside the error handler. It carries out requests before it leaves.
pub(crate) struct Inside<'q, R, B, W, const CELLS: usize>(&'q CommandQueue<R, B, W, CELLS>)
where
    R: Registers,
    B: Slots,
    W: Wait;

impl<R, B, W, const CELLS: usize> Drop for Inside<'_, R, B, W, CELLS>
where
    R: Registers,
    B: Slots,
    W: Wait,
{
    fn drop(&mut self) {
        // Each round serves at least one interrupt, so it ends when interrupts do.
        while !self.0.gerror.leave() {
            self.0.handle_command_error();
            self.0.acknowledge_others();
        }
    }
}

impl<R, B, W, const CELLS: usize> CommandQueue<R, B, W, CELLS>
where
    R: Registers,
    B: Slots,
    W: Wait,
{
    /// Handle a `GERROR` interrupt: a command error, as [`handle_gerror`](Self::handle_gerror) does,
    /// and acknowledge all other errors of [`gerror::ALL`].
    ///
    /// Call this from the handler of the interrupt, edge-triggered or not. It takes no lock and
    /// never waits: if another caller is inside the error handler, that caller does the work before
    /// it leaves. The work is not lost even if the interrupt does not come again.
    ///
    /// A queue with another [`Port`](crate::Port) than the main one handles its own errors only.
    pub fn handle_global_errors(&self) -> GlobalErrors {
        if !self.gerror.enter_or_request() {
            return GlobalErrors { command: None, active: None };
        }
        let inside = Inside(self);
        let command = self.handle_command_error();
        self.acknowledge_others();
        // Leaving may add to the report.
        drop(inside);
        GlobalErrors { command, active: Some(self.gerror.take_report()) }
    }

    /// Handle a command error, if the SMMU has reported one. Returns the command that failed.
    ///
    /// Every wait does this at each look, so no caller depends on an interrupt. An interrupt
    /// handler calls [`handle_global_errors`](Self::handle_global_errors) instead. If another
    /// caller is inside the handler, this returns `None`, and that caller handles the error.
    ///
    /// - `CERROR_ILL`: a `CMD_SYNC` replaces the command, and the SMMU continues.
    /// - `CERROR_ATC_INV_SYNC`: the failure is recorded for the `CMD_SYNC` that reported it, and
    ///   the SMMU continues.
    /// - `CERROR_ABT`, and codes without a name: acknowledged, and the SMMU tries the command
    ///   again.
    ///
    /// The third error in a row at one command is not acknowledged, and the queue halts.
    /// `CMDQ_CONS.ERR` is valid only while `GERROR.CMDQ` is active, so the handler does not read it
    /// otherwise.
    pub fn handle_gerror(&self) -> Option<CommandFailure> {
        self.gerror.check(self.hot.smmu).ok()?;
        self.config.port.error(&self.registers)?;
        let _inside = self.try_enter()?;
        self.handle_command_error()
    }

    pub(crate) fn try_enter(&self) -> Option<Inside<'_, R, B, W, CELLS>> {
        // Not `then_some`: it would make the value in either case, and dropping that would leave.
        self.gerror.try_enter().then(|| Inside(self))
    }

    /// Acknowledge all global errors except `CMDQ`, and remember what was active.
    fn acknowledge_others(&self) {
        if self.config.port.acknowledge != regs::GERRORN.offset() {
            return;
        }
        let acknowledged = self.registers.read(regs::GERRORN);
        let active = self.registers.read(regs::GERROR) ^ acknowledged;
        let bits = active & gerror::ALL & !gerror::CMDQ;
        if bits != 0 {
            // The write repeats the acknowledgement of a command error, perhaps that of another
            // CPU. The SMMU must not fetch the refused command because of it.
            if is_kept(Barrier::PublishRepeated) {
                self.block.publish(0..0);
            }
            self.registers.write(regs::GERRORN, acknowledged ^ bits);
        }
        self.gerror.remember(active);
    }

    /// Only for the caller inside.
    fn handle_command_error(&self) -> Option<CommandFailure> {
        let port = self.config.port;
        self.gerror.check(self.hot.smmu).ok()?;
        // Another caller may have handled the error before this one came inside.
        let acknowledged = port.error(&self.registers)?;
        if port.acknowledges_by_producer() && self.is_pending(acknowledged) {
            self.write_acknowledgement();
            return None;
        }
        // The SMMU has stopped, so `CMDQ_CONS` stays where it is until the acknowledgement.
        let cons = port.read_consumer(&self.registers);
        let before = self.consumer.load(Ordering::Relaxed);
        let position = self.consumed_since(before, cons).ok()?;
        if (cons ^ port.read_producer(&self.registers)) & self.size.pointer_mask() == 0 {
            // The ring is empty: the error is from before the queue was enabled.
            self.acknowledge(acknowledged);
            return None;
        }
        let slot = Position(position).index(self.size);
        let failure = CommandFailure {
            smmu: self.hot.smmu,
            command: self.block.load(slot),
            code: regs::cmdq_cons::error(cons),
            position: Position(position),
        };
        if self.gerror.count(position) >= MAX_ERRORS_AT_ONE_POSITION {
            // Tickets before this command are proven all the same.
            self.move_consumer(before, position).ok()?;
            self.gerror.halt_at(&failure);
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
        // The replaced slot must be visible to the SMMU, and the record to waiters, before the SMMU
        // continues.
        if is_kept(Barrier::PublishReplaced) {
            self.block.publish(slot..slot + 1);
        }
        self.acknowledge(acknowledged);
        Some(failure)
    }

    fn acknowledge(&self, acknowledged: u32) {
        let port = self.config.port;
        if port.acknowledges_by_producer() {
            // No order needed: only the caller inside changes the flags.
            self.producer_flags.fetch_xor(port.error_bit, Ordering::Relaxed);
            self.write_acknowledgement();
        } else {
            port.acknowledge(&self.registers, acknowledged);
        }
    }

    /// Whether an acknowledgement is decided, but not yet written to the producer's register.
    fn is_pending(&self, producer: u32) -> bool {
        let changed = producer ^ self.producer_flags.load(Ordering::Relaxed);
        changed & self.config.port.error_bit != 0
    }

    /// Write the acknowledgement to the producer's register, which only its owner may do.
    ///
    /// The owner may be a caller that this one has interrupted. After some attempts the caller
    /// returns; the next look at the error tries again.
    fn write_acknowledgement(&self) {
        for _ in 0..OWNER_ATTEMPTS {
            let producer = self.config.port.read_producer(&self.registers);
            if !self.is_pending(producer) {
                return;
            }
            // If others advance in the meantime, `end` is stale, and ownership is not there to be
            // taken.
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
