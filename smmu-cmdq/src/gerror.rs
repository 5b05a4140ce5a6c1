//! Handles command errors that the SMMU reports, and halts the queue when they do not end.
//!
//! The handler is guarded by a try-lock. A caller that cannot take it returns; the holder handles
//! the error. So an interrupt handler never waits for the caller that it has interrupted.

use smmu_types::queue::Position;
use smmu_types::seam::{Registers, Wait};
use smmu_types::{Command, CommandErrorCode, regs};

use crate::CommandQueue;
use crate::failures::CommandFailure;
use crate::reserve::Reserve;
use crate::ring::Slots;
use crate::sync::{Barrier, Ordering, is_kept};

/// The error in a row at one command at which the queue halts.
const MAX_ERRORS_AT_ONE_POSITION: u32 = 3;

/// Attempts to become the owner of the producer's register, for one acknowledgement.
const OWNER_ATTEMPTS: u32 = 16;

impl<R, B, W, S> CommandQueue<R, B, W, S>
where
    R: Registers,
    B: Slots,
    W: Wait,
    S: Reserve,
{
    /// Handle a command error, if the SMMU has reported one. Returns the command that failed.
    ///
    /// Call this from the `GERROR` interrupt. No caller depends on that: every wait does the same
    /// at each look. A try-lock guards the handler. A caller that cannot take it returns `None`;
    /// the holder handles the error.
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
        let port = self.config.port;
        self.gerror.check(self.smmu).ok()?;
        port.error(&self.registers)?;
        let _guard = self.gerror.try_lock()?;
        // Look again: another caller may have handled the error before this one took the lock.
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
            smmu: self.smmu,
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
            // No order needed: only the holder of the lock changes the flags.
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
