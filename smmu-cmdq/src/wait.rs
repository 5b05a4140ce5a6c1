//! Waiting for the SMMU.
//!
//! `CMDQ_CONS` has an index and a wrap bit, which tell a position only beside another that is at most a ring away. The
//! position known before the read is such a one, as long as it is still the known one after the read: nothing can be
//! queued that is more than a ring ahead of it. So a compare-exchange from the one to the other is right whenever it
//! succeeds, and when it fails somebody else has learned more.

use smmu_types::queue::Position;
use smmu_types::regs::queue_pointer;
use smmu_types::seam::{Registers, SinkError, Stall, TimedOut, Wait, poll, poll_event};
use smmu_types::{SyncProof, regs};

use crate::reserve::Reserve;
use crate::ring::{self, Slots};
use crate::sync::{Barrier, Ordering, is_kept, order};
use crate::{CommandQueue, SyncBy, SyncTicket};

/// Of a waiter for an MSI, how many of its looks are for one at the registers.
#[cfg(not(loom))]
const LOOKS_FOR_MSI: u32 = 64;
#[cfg(loom)]
const LOOKS_FOR_MSI: u32 = 2;

impl<R, B, W, S, const CELLS: usize> CommandQueue<R, B, W, S, CELLS>
where
    R: Registers,
    B: Slots,
    W: Wait,
    S: Reserve,
{
    /// Wait until the ticket's `CMD_SYNC` is complete.
    ///
    /// # Errors
    ///
    /// [`SinkError::Command`] comes after the `CMD_SYNC` as well, or after the time for it: the SMMU
    /// steps over a refused command and carries out the rest of the batch.
    ///
    /// After [`SinkError::Timeout`] the caller knows nothing of the ticket's commands: they stay
    /// queued, and the SMMU may carry out any of them at any later time. The ticket is gone; a later
    /// `CMD_SYNC` that completes without error does not prove them, but a repetition of them does. The error says
    /// where the queue stood.
    ///
    /// [`SinkError::Lost`], and [`SinkError::Command`] of somebody else's command, when the queue has given up.
    pub fn wait(&self, ticket: SyncTicket) -> Result<SyncProof, SinkError> {
        if ticket.queue != self.identity {
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
            Ok(Ok(())) => match self.failures.claim(ticket.pushed, ticket.start..ticket.end) {
                None => Ok(SyncProof::vouch(self.smmu)),
                Some(error) => Err(error),
            },
            Ok(Err(error)) => Err(error),
            Err(TimedOut { .. }) => {
                let failure = self.failures.claim(ticket.pushed, ticket.start..ticket.end);
                Err(failure.unwrap_or_else(|| self.timed_out()))
            }
        }
    }

    /// One look of a waiter.
    fn look(&self, ticket: &SyncTicket, looks: u32) -> Option<Result<(), SinkError>> {
        if self.is_done(ticket) {
            return Some(Ok(()));
        }
        if matches!(self.config.sync_by, SyncBy::Msi(_)) && !looks.is_multiple_of(LOOKS_FOR_MSI) {
            return None;
        }
        // Who gave the queue up may have learned more before.
        let gave_up = |error| if self.is_done(ticket) { Ok(()) } else { Err(error) };
        match self.refresh() {
            Err(error) => return Some(gave_up(error)),
            Ok(consumer) if consumer >= ticket.end => return Some(Ok(())),
            Ok(_) => {}
        }
        self.handle_error();
        self.gerror.check(self.smmu).err().map(gave_up)
    }

    fn is_done(&self, ticket: &SyncTicket) -> bool {
        let consumer = self.consumer.load(order(Barrier::ConsumerAcquire, Ordering::Acquire));
        if consumer >= ticket.end {
            return true;
        }
        let SyncBy::Msi(_) = self.config.sync_by else { return false };
        // The ticket's end is at most a ring beyond the consumer, and so is whatever an MSI tells that came since.
        let ahead = u64::from(self.msi().wrapping_sub(consumer as u32));
        let told = ahead <= self.depth && consumer + ahead >= ticket.end;
        let done = told && !self.msi_is_stale.load(Ordering::Relaxed);
        if done && is_kept(Barrier::ObserveMsi) {
            let slot = ring::msi(self.size);
            self.block.observe(slot..slot + 1);
        }
        done
    }

    /// The position, or the end of it, that the last MSI told.
    fn msi(&self) -> u32 {
        self.block.msi(ring::msi(self.size))
    }

    /// Read `CMDQ_CONS`, and move the consumer. Returns where it is.
    pub(crate) fn refresh(&self) -> Result<u64, SinkError> {
        self.gerror.check(self.smmu)?;
        let before = self.consumer.load(Ordering::Relaxed);
        let cons = self.config.port.read_consumer(&self.registers);
        self.move_consumer(before, self.consumed_since(before, cons)?)
    }

    /// The position for a value of `CMDQ_CONS` that was read just now, where it was at `before` or later.
    pub(crate) fn consumed_since(&self, before: u64, cons: u32) -> Result<u64, SinkError> {
        // Only the order counts: the SMMU stores nothing into its command queue but MSIs.
        if is_kept(Barrier::Observe) {
            self.block.observe(0..0);
        }
        let mask = self.size.pointer_mask();
        // All ones, from a bus without a device, could pass for a pointer; the reserved bits tell.
        let port = self.config.port;
        let reserved = !(regs::cmdq_cons::ERR | port.beside() | queue_pointer::POINTER & mask);
        let consumer = before + u64::from(cons.wrapping_sub(before as u32) & mask);
        let works = cons & (reserved | port.working()) == port.working();
        if !works || consumer > self.reserve.next() {
            return Err(self.gerror.lose(self.smmu, cons));
        }
        Ok(consumer)
    }

    pub(crate) fn move_consumer(&self, before: u64, consumer: u64) -> Result<u64, SinkError> {
        if consumer == before {
            return Ok(consumer);
        }
        let release = order(Barrier::ConsumerRelease, Ordering::Release);
        let acquire = order(Barrier::ConsumerAcquire, Ordering::Acquire);
        match self.consumer.compare_exchange(before, consumer, release, acquire) {
            Ok(_) => {
                self.reserve.freed(consumer - before);
                self.watch_msi(consumer);
                Ok(consumer)
            }
            Err(now) => Ok(now),
        }
    }

    /// 32 bits come round. The consumer moves by a ring at most, so that nobody steps over this part of them: an MSI from so
    /// long ago means that none comes any more.
    fn watch_msi(&self, consumer: u64) {
        if let SyncBy::Msi(_) = self.config.sync_by
            && (consumer as u32).wrapping_sub(self.msi()) as i32 <= i32::MIN / 2
        {
            self.msi_is_stale.store(true, Ordering::Relaxed);
        }
    }

    /// What the queue was doing when somebody gave up.
    #[cold]
    pub(crate) fn timed_out(&self) -> SinkError {
        let port = self.config.port;
        let (cons, producer) =
            (port.read_consumer(&self.registers), port.read_producer(&self.registers));
        let mask = self.size.pointer_mask();
        let command = (cons & mask != producer & mask)
            .then(|| self.block.load(Position(cons.into()).index(self.size)));
        let consumer = cons & !port.beside();
        let stall = Stall { producer: producer & mask, consumer, command };
        SinkError::Timeout { smmu: self.smmu, stall: Some(stall) }
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

    /// The last MSI was that of position 2; then none came any more, and the positions came round.
    #[test]
    fn an_msi_from_before_32_bits_of_positions_proves_nothing() {
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

        let ticket = |start: u64| {
            let (end, queue) = (start + 2, queue.identity);
            SyncTicket { smmu: id, queue, pushed: start, start, end }
        };
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
