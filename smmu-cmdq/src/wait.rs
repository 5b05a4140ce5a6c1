//! The consumer's side: wait for a `CMD_SYNC`, read `CMDQ_CONS`, know which slots are free.
//!
//! `CMDQ_CONS` holds an index and a wrap bit. They give a position only relative to a known one
//! that lies at most one ring behind. A caller loads the known position, reads `CMDQ_CONS`, and
//! moves the position by a compare-exchange. If it succeeds, the position did not move in between,
//! so the SMMU was at most one ring ahead of it and the result is right. If it fails, another
//! caller has moved the position further.
//!
//! A waiter moves the position too, also if nobody needs room. An SMMU that was reset answers
//! `CMDQ_CONS` = 0, and only a known position that is up to date tells that from no progress.

use smmu_types::queue::Position;
use smmu_types::regs::queue_pointer;
use smmu_types::seam::{Registers, SinkError, Stall, TimedOut, Wait, poll, poll_event};
use smmu_types::{SyncProof, regs};

use crate::ring::{self, Slots};
use crate::sync::{Barrier, Ordering, is_kept, order};
use crate::{CommandQueue, SyncBy, SyncTicket};

/// A waiter for an MSI reads the registers at one look of so many.
#[cfg(not(loom))]
const LOOKS_PER_REGISTER_READ: u32 = 64;
#[cfg(loom)]
const LOOKS_PER_REGISTER_READ: u32 = 2;

impl<R, B, W, const CELLS: usize> CommandQueue<R, B, W, CELLS>
where
    R: Registers,
    B: Slots,
    W: Wait,
{
    /// Wait until the ticket's `CMD_SYNC` is complete.
    ///
    /// # Errors
    ///
    /// - [`SinkError::Command`]: the SMMU refused a command that the ticket stands for. The error
    ///   is returned once the `CMD_SYNC` is complete or the time is up. The SMMU skips the refused
    ///   command and carries out the rest of the batch.
    /// - [`SinkError::Timeout`]: the `CMD_SYNC` did not complete in time. The commands stay queued,
    ///   and the SMMU may carry out any of them at any later time. A later `CMD_SYNC` that
    ///   completes does not prove them; repeat the commands. The error says where the queue stood.
    /// - [`SinkError::Lost`], or [`SinkError::Command`] with another caller's command: the queue
    ///   has halted; see [`CommandQueue`].
    /// - [`SinkError::UnknownSmmu`]: the ticket belongs to another queue.
    pub fn wait(&self, ticket: SyncTicket) -> Result<SyncProof, SinkError> {
        if ticket.queue() != self.hot.identity {
            return Err(SinkError::UnknownSmmu { smmu: ticket.smmu() });
        }
        let timeout = self.config.timeout;
        let mut looks = 0;
        let look = || {
            looks += 1;
            self.look(&ticket, looks)
        };
        let polled = match self.config.sync_by {
            SyncBy::Event => poll_event(&self.wait, timeout, look),
            SyncBy::Polling | SyncBy::Msi(_) => poll(&self.wait, timeout, look),
        };
        match polled {
            Ok(Ok(())) => match self.failures.claim(ticket.first(), ticket.own()) {
                None => Ok(SyncProof::vouch(self.hot.smmu)),
                Some(error) => Err(error),
            },
            Ok(Err(error)) => Err(error),
            Err(TimedOut { .. }) => {
                let failure = self.failures.claim(ticket.first(), ticket.own());
                Err(failure.unwrap_or_else(|| self.timed_out()))
            }
        }
    }

    /// One look of a waiter. `None`: look again.
    fn look(&self, ticket: &SyncTicket, looks: u32) -> Option<Result<(), SinkError>> {
        if self.is_done(ticket) {
            return Some(Ok(()));
        }
        if matches!(self.config.sync_by, SyncBy::Msi(_))
            && !looks.is_multiple_of(LOOKS_PER_REGISTER_READ)
        {
            return None;
        }
        // The caller that halted the queue may have moved the consumer past this ticket before.
        let halted = |error| if self.is_done(ticket) { Ok(()) } else { Err(error) };
        match self.refresh() {
            Err(error) => return Some(halted(error)),
            Ok(consumer) if consumer >= ticket.end() => return Some(Ok(())),
            Ok(_) => {}
        }
        self.handle_gerror();
        self.gerror.check(self.hot.smmu).err().map(halted)
    }

    fn is_done(&self, ticket: &SyncTicket) -> bool {
        let consumer = self.consumer.load(order(Barrier::ConsumerAcquire, Ordering::Acquire));
        if consumer >= ticket.end() {
            return true;
        }
        let SyncBy::Msi(_) = self.config.sync_by else { return false };
        // The ticket's end is at most a ring ahead of the consumer, and so is the position of a
        // newer MSI.
        let ahead = u64::from(self.msi().wrapping_sub(consumer as u32));
        let complete = ahead <= self.depth && consumer + ahead >= ticket.end();
        // Relaxed: `watch_msi` sets it almost 2^31 positions before an old MSI can match.
        let done = complete && !self.msi_is_stale.load(Ordering::Relaxed);
        if done && is_kept(Barrier::ObserveMsi) {
            let slot = ring::msi(self.size);
            self.block.observe(slot..slot + 1);
        }
        done
    }

    /// The low 32 bits of the position up to which the last MSI says that the SMMU has consumed.
    fn msi(&self) -> u32 {
        self.block.msi(ring::msi(self.size))
    }

    /// Read `CMDQ_CONS`, and move the consumer's position. Returns the position.
    pub(crate) fn refresh(&self) -> Result<u64, SinkError> {
        self.gerror.check(self.hot.smmu)?;
        let before = self.consumer.load(Ordering::Relaxed);
        let cons = self.config.port.read_consumer(&self.registers);
        self.move_consumer(before, self.consumed_since(before, cons)?)
    }

    /// The position that `cons` stands for. `before`: a position loaded before `cons` was read.
    pub(crate) fn consumed_since(&self, before: u64, cons: u32) -> Result<u64, SinkError> {
        // No words: the SMMU stores nothing into the ring. The order alone matters.
        if is_kept(Barrier::Observe) {
            self.block.observe(0..0);
        }
        let mask = self.size.pointer_mask();
        // A bus without a device reads as all ones, which may hold a valid pointer. Reserved bits
        // reveal it.
        let port = self.config.port;
        let reserved =
            !(regs::cmdq_cons::ERR | port.consumer_flags() | queue_pointer::POINTER & mask);
        let consumer = before + u64::from(cons.wrapping_sub(before as u32) & mask);
        let works = cons & (reserved | port.enabled_flags()) == port.enabled_flags();
        if !works || consumer > self.reserve.next() {
            return Err(self.gerror.lose(self.hot.smmu, cons));
        }
        Ok(consumer)
    }

    /// Move the consumer's position, unless another caller has. Returns the position.
    pub(crate) fn move_consumer(&self, before: u64, consumer: u64) -> Result<u64, SinkError> {
        if consumer == before {
            return Ok(consumer);
        }
        let release = order(Barrier::ConsumerRelease, Ordering::Release);
        let acquire = order(Barrier::ConsumerAcquire, Ordering::Acquire);
        match self.consumer.compare_exchange(before, consumer, release, acquire) {
            Ok(_) => {
                self.watch_msi(consumer);
                Ok(consumer)
            }
            Err(now) => Ok(now),
        }
    }

    /// Stop trusting MSIs once the last one is 2^31 positions old, before its 32 bits can match a
    /// new position.
    ///
    /// The consumer moves by at most a ring at a time. So it cannot skip the ages from 2^31 to 3 *
    /// 2^30, for which this is true.
    fn watch_msi(&self, consumer: u64) {
        if let SyncBy::Msi(_) = self.config.sync_by
            && (consumer as u32).wrapping_sub(self.msi()) as i32 <= i32::MIN / 2
        {
            self.msi_is_stale.store(true, Ordering::Relaxed);
        }
    }

    /// The error of a caller whose time is up, with the state of the queue.
    #[cold]
    pub(crate) fn timed_out(&self) -> SinkError {
        let port = self.config.port;
        let (cons, producer) =
            (port.read_consumer(&self.registers), port.read_producer(&self.registers));
        let mask = self.size.pointer_mask();
        let command = (cons & mask != producer & mask)
            .then(|| self.block.load(Position(cons.into()).index(self.size)));
        let consumer = cons & !port.consumer_flags();
        let stall = Stall::new(producer & mask, consumer, command);
        SinkError::Timeout { smmu: self.hot.smmu, stall: Some(stall) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::fake::{Consumer, Pace};
    use crate::sync::Ordering;
    use crate::{CommandQueue, QueueConfig, SyncBy, SyncTicket};
    use smmu_types::fake::heap_pool;
    use smmu_types::pool::Window;
    use smmu_types::queue::QueueSize;
    use smmu_types::seam::{CountingWait, DmaMemory};
    use smmu_types::{MsiAttributes, SmmuId};

    /// The last MSI is that of position 2. Positions then go on until their low 32 bits repeat.
    #[test]
    fn an_msi_proves_nothing_once_positions_exceed_32_bits() {
        let pool = heap_pool(0x1000);
        let device = Consumer::new(pool.window(), Pace::Dead);
        let size = QueueSize::from_log2(4).unwrap();
        let sync_by = SyncBy::Msi(MsiAttributes::WRITE_BACK);
        let block = pool.allocate(crate::layout(size, sync_by)).unwrap();
        let config = QueueConfig { sync_by, ..QueueConfig::default() };
        let (id, wait) = (SmmuId(0), CountingWait::new());
        let queue: CommandQueue<_, _, _> =
            CommandQueue::new(id, &device, block, size, wait, config).unwrap();
        let words = pool.window().words();
        let at = (queue.base().0 - pool.window().base().0) as usize / 8 + 16 * 2;
        words[at].store(2, Ordering::Relaxed);

        let ticket = |start: u64| SyncTicket::new(id, queue.hot.identity, start..start + 2);
        assert!(queue.is_done(&ticket(0)));
        let mut consumer = 2;
        let far = 1 << 32;
        while consumer < far {
            assert!(!queue.is_done(&ticket(consumer)), "{consumer:#x}");
            let next = far.min(consumer + (1 << 19));
            queue.consumer.store(next, Ordering::Relaxed);
            queue.watch_msi(next);
            consumer = next;
        }
        assert!(!queue.is_done(&ticket(far)));
    }
}
