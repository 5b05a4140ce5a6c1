//! Putting commands into the ring.
//!
//! The ordering argument, in steps. The names are those of [`Barrier`](crate::sync::Barrier).
//!
//! 1. Slots are reserved only up to what the SMMU has left: `CMDQ_CONS` was read, the seam's `observe` keeps what follows
//!    behind that read (*Observe*), the consumer's position is stored with a release (*ConsumerRelease*) and loaded with an
//!    acquire (*ConsumerAcquire*). So no store into a slot overtakes the SMMU's last read of it.
//!    Where room is counted, the count has the release and the acquire (*FreeRelease*, *FreeAcquire*), and so has the next
//!    place (*Place*), since room and place may come to two callers in different order.
//! 2. A command's words are stored into the reserved slots.
//! 3. The seam's `publish` of those slots (*Publish*): they, and every earlier store of the caller (tables, STEs), are
//!    visible to the SMMU before anything that follows, such as
//! 4. the exchange of the batch's cell, or the write of `CMDQ_PROD`.
//! 5. One who has the turn loads that cell with an acquire (*CommitAcquire*), and the seam's `publish` (*PublishCommitted*) keeps
//!    what was filled by others before
//! 6. the write of `CMDQ_PROD`, the first thing that lets the SMMU fetch them.
//! 7. The turn is left with a release (*OwnerRelease*) and taken with an acquire (*OwnerAcquire*): writes of `CMDQ_PROD`
//!    are in order.

use core::ops::Range;

use smmu_types::Command;
use smmu_types::queue::Position;
use smmu_types::seam::{Registers, SinkError, TimedOut, Wait, poll};

use crate::CommandQueue;
use crate::prod_owner::Take;
use crate::reserve::Reserve;
use crate::ring::{self, Slots};
use crate::sync::{Barrier, Ordering, is_kept, order};

/// Looks at a full ring after which it is kept for the one who looks.
#[cfg(not(loom))]
const LOOKS_BEFORE_EXCLUSIVE: u32 = 32;
#[cfg(loom)]
const LOOKS_BEFORE_EXCLUSIVE: u32 = 2;

/// A ring that is kept for the caller.
struct ExclusiveReservation<'q, S: Reserve> {
    reserve: &'q S,
    next: u64,
}

impl<S: Reserve> Drop for ExclusiveReservation<'_, S> {
    fn drop(&mut self) {
        self.reserve.end_exclusive(self.next);
    }
}

impl<R, B, W, S, const CELLS: usize> CommandQueue<R, B, W, S, CELLS>
where
    R: Registers,
    B: Slots,
    W: Wait,
    S: Reserve,
{
    /// Queue `commands`, and a `CMD_SYNC` behind them if `SYNC`. Returns where they lie.
    #[inline]
    pub(crate) fn produce<const SYNC: bool>(
        &self,
        commands: &[Command],
    ) -> Result<Range<u64>, SinkError> {
        self.gerror.check(self.smmu)?;
        // No commands at all, or a batch that is too long, is rare enough to go another way.
        if (commands.len() as u64).wrapping_sub(u64::from(!SYNC)) > self.longest - u64::from(!SYNC)
        {
            return self.produce_in_pieces(commands, SYNC);
        }
        let count = commands.len() as u64 + u64::from(SYNC);
        let start = match self.reserve.reserve(count, &self.consumer) {
            Ok(start) => start,
            Err(_) => self.reserve_slowly(count)?,
        };
        self.fill::<SYNC, SYNC>(start, commands)?;
        Ok(start..start + count)
    }

    /// Fill reserved slots, and tell of them in their turn. `PROVEN`: if not these, then later ones of the same call end with
    /// a `CMD_SYNC`.
    #[inline]
    fn fill<const SYNC: bool, const PROVEN: bool>(
        &self,
        start: u64,
        commands: &[Command],
    ) -> Result<(), SinkError> {
        let (first, entries) = (self.index(start), self.size.entries() as usize);
        let behind = first + commands.len();
        let end = start + (commands.len() + usize::from(SYNC)) as u64;
        let atc = if behind + usize::from(SYNC) <= entries {
            let atc = self.block.fill(first, commands);
            if SYNC {
                self.block.store(behind, self.sync_at(end - 1));
            }
            self.publish(first..behind + usize::from(SYNC));
            atc
        } else {
            self.fill_around::<SYNC>(start, commands)
        };
        let refused = if atc && !PROVEN { self.without_atc(start..end) } else { Ok(()) };
        let take = match self.config.port.acknowledges_by_producer() {
            true => Take::BySwap,
            false => Take::ByLoad,
        };
        self.prod_owner.commit(start, end, take, |end, others_committed| {
            self.write_prod(end, others_committed);
        });
        refused
    }

    /// Fill and publish slots that go around the end of the ring. Returns whether `ATC_INV` is among the commands.
    #[cold]
    fn fill_around<const SYNC: bool>(&self, start: u64, commands: &[Command]) -> bool {
        let (first, entries) = (self.index(start), self.size.entries() as usize);
        let (upper, lower) = commands.split_at(commands.len().min(entries - first));
        let atc = self.block.fill(first, upper) | self.block.fill(0, lower);
        let mut end = start + commands.len() as u64;
        if SYNC {
            self.block.store(self.index(end), self.sync_at(end));
            end += 1;
        }
        self.publish(first..entries);
        self.publish(0..self.index(end));
        atc
    }

    /// An `ATC_INV` that has no `CMD_SYNC` behind it does not go out.
    #[cold]
    fn without_atc(&self, slots: Range<u64>) -> Result<(), SinkError> {
        for position in slots {
            let slot = self.index(position);
            if self.block.load(slot).opcode() == ring::ATC_INV {
                self.block.store(slot, const { Command::SYNC.encode() });
                self.publish(slot..slot + 1);
            }
        }
        Err(SinkError::AtcInvPushed { smmu: self.smmu })
    }

    #[inline]
    fn publish(&self, slots: Range<usize>) {
        if is_kept(Barrier::Publish) {
            self.block.publish(slots);
        }
    }

    #[inline]
    fn index(&self, position: u64) -> usize {
        Position(position).index(self.size)
    }

    /// Let the SMMU have everything up to `end`. One caller at a time.
    #[inline]
    pub(crate) fn write_prod(&self, end: u64, others_committed: bool) {
        let port = self.config.port;
        let (beside, others) = match port.acknowledges_by_producer() {
            // With an acknowledgement goes what somebody else has mended.
            true => {
                let acquire = order(Barrier::AckAcquire, Ordering::Acquire);
                (self.producer_flags.load(acquire), true)
            }
            false => (port.enable, others_committed),
        };
        if others && is_kept(Barrier::PublishCommitted) {
            self.block.publish(0..0);
        }
        port.write_producer(&self.registers, Position(end).pointer(self.size) | beside);
    }

    /// Wait for room.
    #[cold]
    fn reserve_slowly(&self, count: u64) -> Result<u64, SinkError> {
        let mut kept: Option<ExclusiveReservation<'_, S>> = None;
        let mut looks = 0;
        let reserved = self.poll_for_room(|| {
            let start = match &mut kept {
                None => self.reserve.reserve(count, &self.consumer).ok(),
                Some(kept) => {
                    let start = kept.next;
                    self.reserve.reserve_exclusive(start, count, &self.consumer).then(|| {
                        kept.next = start + count;
                        start
                    })
                }
            };
            looks += 1;
            if start.is_none() && kept.is_none() && looks >= LOOKS_BEFORE_EXCLUSIVE {
                kept = self.begin_exclusive();
            }
            start
        });
        drop(kept);
        reserved
    }

    fn begin_exclusive(&self) -> Option<ExclusiveReservation<'_, S>> {
        let reserve = &self.reserve.0;
        reserve.begin_exclusive().map(|next| ExclusiveReservation { reserve, next })
    }

    /// More commands than the ring holds at once, or than may go without a `CMD_SYNC`: keep the ring, so that nothing comes
    /// between.
    #[cold]
    fn produce_in_pieces(&self, commands: &[Command], sync: bool) -> Result<Range<u64>, SinkError> {
        if commands.is_empty() && !sync {
            let next = self.reserve.next();
            return Ok(next..next);
        }
        let mut kept = self.poll_for_room(|| self.begin_exclusive())?;
        let start = kept.next;
        let every = self.config.sync_every.map_or(u64::MAX, |every| every.get().into());
        let forced = self.config.sync_every.is_some();
        // Half a ring at a time, so that the SMMU need not stand still.
        let most = self.depth.div_ceil(2).min(every);
        let mut rest = commands;
        loop {
            let piece = (rest.len() as u64).min(most - u64::from(forced && most > 1));
            let (now, later) = rest.split_at(piece as usize);
            let ends = forced || sync && later.is_empty();
            let count = piece + u64::from(ends);
            let at = kept.next;
            self.poll_for_room(|| {
                self.reserve.reserve_exclusive(at, count, &self.consumer).then_some(())
            })?;
            kept.next = at + count;
            match (ends, sync) {
                (true, _) => self.fill::<true, true>(at, now),
                (false, true) => self.fill::<false, true>(at, now),
                (false, false) => self.fill::<false, false>(at, now),
            }?;
            rest = later;
            if rest.is_empty() {
                return Ok(start..kept.next);
            }
        }
    }

    /// Look whether `attempt` succeeds, with what the SMMU has left in between.
    fn poll_for_room<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Result<T, SinkError> {
        let polled = poll(&self.wait, self.config.timeout, || {
            if let Err(error) = self.refresh() {
                return Some(Err(error));
            }
            if let Some(done) = attempt() {
                return Some(Ok(done));
            }
            self.handle_error();
            self.gerror.check(self.smmu).err().map(Err)
        });
        polled.unwrap_or_else(|TimedOut { .. }| Err(self.timed_out()))
    }
}
