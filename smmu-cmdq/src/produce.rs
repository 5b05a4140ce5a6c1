//! The producer's side: reserve slots, fill them, commit them.
//!
//! The ordering argument, in steps. Names in italics are those of
//! [`Barrier`](crate::sync::Barrier).
//!
//! 1. A caller reserves only slots whose commands the SMMU has consumed. A caller read `CMDQ_CONS`;
//!    the seam's `observe` keeps everything that follows behind that read (*Observe*). It stored the
//!    consumer's position with a release (*ConsumerRelease*), and the caller that adds room loads it
//!    with an acquire (*ConsumerAcquire*), unless both are the same. That caller adds the room to the
//!    word of reservations with a release (*RoomRelease*), and this one takes the room with an
//!    acquire (*RoomAcquire*). Every access between the two is a read-modify-write, which keeps the
//!    release. So no store into a slot overtakes the SMMU's last read of it.
//! 2. The caller stores the words of its commands into the reserved slots.
//! 3. The caller calls the seam's `publish` for those slots (*Publish*). The SMMU sees them, and
//!    every earlier store of the caller (tables, STEs), before anything that follows, such as
//! 4. the swap of the batch's cell, which commits the batch, or the write of `CMDQ_PROD`.
//! 5. The owner of `CMDQ_PROD` loads that cell with an acquire (*CommitAcquire*). The seam's
//!    `publish` (*PublishCommitted*) keeps the stores of other callers before
//! 6. the write of `CMDQ_PROD`, which is the first thing that lets the SMMU fetch the slots.
//! 7. An owner leaves ownership with a release (*OwnerRelease*), and the next takes it with an
//!    acquire (*OwnerAcquire*). So the writes of `CMDQ_PROD` are in order.

use core::ops::Range;

use smmu_types::Command;
use smmu_types::seam::{Registers, SinkError, TimedOut, Wait, poll};

use crate::CommandQueue;
use crate::commands::Commands;
use crate::prod_owner::Take;
use crate::reserve::{Reservation, Reserved};
use crate::ring::{self, Slots};
use crate::sync::{AtomicU64, Barrier, Ordering, is_kept, order};

/// Looks at a full ring before a caller takes an exclusive reservation.
#[cfg(not(loom))]
const LOOKS_BEFORE_EXCLUSIVE: u32 = 32;
#[cfg(loom)]
const LOOKS_BEFORE_EXCLUSIVE: u32 = 2;

/// What a fill has left in its slots. A caller makes the error of it: a `Result` would go through
/// memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// All commands.
    All,
    /// A `CMD_SYNC` in the place of each `ATC_INV`.
    WithoutAtc,
}

/// The caller's exclusive reservation, which ends when this is dropped.
struct ExclusiveReservation<'q> {
    reserve: &'q Reservation,
    consumer: &'q AtomicU64,
    next: u64,
}

impl Drop for ExclusiveReservation<'_> {
    fn drop(&mut self) {
        self.reserve.end_exclusive(self.next, acquire(self.consumer));
    }
}

/// The consumer's position.
#[inline]
fn acquire(consumer: &AtomicU64) -> u64 {
    consumer.load(order(Barrier::ConsumerAcquire, Ordering::Acquire))
}

impl<R, B, W, const CELLS: usize> CommandQueue<R, B, W, CELLS>
where
    R: Registers,
    B: Slots,
    W: Wait,
{
    /// Queue `commands`, and with `SYNC` a `CMD_SYNC` behind them. Returns their positions.
    #[inline]
    pub(crate) fn produce<const SYNC: bool, C>(
        &self,
        commands: &[C],
    ) -> Result<Range<u64>, SinkError>
    where
        for<'c> &'c [C]: Into<Commands<'c>>,
    {
        self.gerror.check(self.hot.smmu)?;
        // One comparison for both rare cases: nothing to queue (the subtraction wraps), and a long
        // batch.
        if (commands.len() as u64).wrapping_sub(u64::from(!SYNC))
            > self.hot.longest - u64::from(!SYNC)
        {
            return self.produce_in_pieces(commands.into(), SYNC);
        }
        let count = commands.len() as u64 + u64::from(SYNC);
        let Reserved { start, low } = match self.reserve.reserve(count) {
            Some(reserved) => reserved,
            None => self.reserve_slowly(count)?,
        };
        let filled = self.fill(start, commands.into(), SYNC, SYNC);
        if low {
            self.add_room();
        }
        match filled {
            Filled::All => Ok(start..start + count),
            Filled::WithoutAtc => Err(self.atc_refused()),
        }
    }

    /// Fill reserved slots, and commit them.
    ///
    /// `sync`: a `CMD_SYNC` belongs behind them. `proven`: a `CMD_SYNC` of the same call follows, here
    /// or in a later piece.
    #[inline(always)]
    fn fill(&self, start: u64, commands: Commands<'_>, sync: bool, proven: bool) -> Filled {
        let (first, entries) = (self.index(start), self.hot.index_mask as usize + 1);
        let behind = first + commands.len();
        let end = start + (commands.len() + usize::from(sync)) as u64;
        let atc = if behind + usize::from(sync) <= entries {
            let atc = match commands.only() {
                // Most calls have one command. In line it costs less than the loop.
                Some(command) => {
                    self.block.store(first, command);
                    command.opcode() == ring::ATC_INV
                }
                None => self.store_all(first, commands),
            };
            if sync {
                self.block.store(behind, self.sync_at(end - 1));
            }
            self.publish(first..behind + usize::from(sync));
            atc
        } else {
            self.fill_around(start, commands.copied(), sync)
        };
        let filled = if atc && !proven { self.replace_atc(start..end) } else { Filled::All };
        let take = match self.hot.acknowledges_by_producer {
            true => Take::BySwap,
            false => Take::ByLoad,
        };
        self.prod_owner.commit(start, end, take, |end, others_committed| {
            self.write_prod(end, others_committed);
        });
        filled
    }

    /// Store commands into consecutive slots. Returns whether `ATC_INV` is among them.
    #[inline(always)]
    fn store_all(&self, first: usize, commands: Commands<'_>) -> bool {
        match commands {
            Commands::Typed(commands) => self.block.fill(first, commands),
            Commands::Encoded(commands) => self.block.copy(first, commands),
        }
    }

    /// As `fill`, for slots that wrap around the end of the ring. Returns whether `ATC_INV` is
    /// among them.
    #[cold]
    fn fill_around(&self, start: u64, commands: Commands<'_>, sync: bool) -> bool {
        let (first, entries) = (self.index(start), self.size.entries() as usize);
        let (upper, lower) = commands.split_at(commands.len().min(entries - first));
        let atc = self.store_all(first, upper) | self.store_all(0, lower);
        let mut end = start + commands.len() as u64;
        if sync {
            self.block.store(self.index(end), self.sync_at(end));
            end += 1;
        }
        self.publish(first..entries);
        self.publish(0..self.index(end));
        atc
    }

    /// Replace each `ATC_INV` by a `CMD_SYNC`, since no `CMD_SYNC` of this call would learn of its
    /// time-out.
    #[cold]
    fn replace_atc(&self, slots: Range<u64>) -> Filled {
        for position in slots {
            let slot = self.index(position);
            if self.block.load(slot).opcode() == ring::ATC_INV {
                self.block.store(slot, const { Command::SYNC.encode() });
                self.publish(slot..slot + 1);
            }
        }
        Filled::WithoutAtc
    }

    #[cold]
    fn atc_refused(&self) -> SinkError {
        SinkError::AtcInvPushed { smmu: self.hot.smmu }
    }

    /// [`fill`](Self::fill) for a piece of a long batch, out of line.
    #[inline(never)]
    fn fill_piece(
        &self,
        start: u64,
        commands: Commands<'_>,
        sync: bool,
        proven: bool,
    ) -> Result<(), SinkError> {
        match self.fill(start, commands, sync, proven) {
            Filled::All => Ok(()),
            Filled::WithoutAtc => Err(self.atc_refused()),
        }
    }

    #[inline]
    fn publish(&self, slots: Range<usize>) {
        if is_kept(Barrier::Publish) {
            self.block.publish(slots);
        }
    }

    #[inline]
    fn index(&self, position: u64) -> usize {
        (position as u32 & self.hot.index_mask) as usize
    }

    /// Write `CMDQ_PROD`: the SMMU may fetch everything up to `end`. Only the `CMDQ_PROD` owner may
    /// call this.
    #[inline]
    pub(crate) fn write_prod(&self, end: u64, others_committed: bool) {
        let (flags, publish) = match self.hot.acknowledges_by_producer {
            // The write carries an acknowledgement, perhaps for a slot that another caller has
            // replaced.
            true => {
                let acquire = order(Barrier::AckAcquire, Ordering::Acquire);
                (self.producer_flags.load(acquire), true)
            }
            false => (self.hot.enable, others_committed),
        };
        if publish && is_kept(Barrier::PublishCommitted) {
            self.block.publish(0..0);
        }
        let pointer = end as u32 & self.hot.pointer_mask;
        self.registers.write32(self.hot.producer, pointer | flags);
    }

    /// Wait for room, first beside other callers and then with an exclusive reservation.
    #[cold]
    fn reserve_slowly(&self, count: u64) -> Result<Reserved, SinkError> {
        let mut exclusive: Option<ExclusiveReservation<'_>> = None;
        let mut looks = 0;
        let reserved = self.poll_for_room(|consumer| {
            let reserved = match &mut exclusive {
                None => {
                    self.reserve.add_room(consumer);
                    // Without a look first, callers would close the word again and again.
                    self.reserve.has_room(count).then(|| self.reserve.reserve(count)).flatten()
                }
                Some(exclusive) => {
                    let start = exclusive.next;
                    self.reserve.reserve_exclusive(start, count, consumer).then(|| {
                        exclusive.next = start + count;
                        Reserved { start, low: false }
                    })
                }
            };
            looks += 1;
            if reserved.is_none() && exclusive.is_none() && looks >= LOOKS_BEFORE_EXCLUSIVE {
                exclusive = self.begin_exclusive();
            }
            reserved
        });
        drop(exclusive);
        reserved
    }

    /// Add the room that the SMMU has freed: what waiters know of. Where they know too little, and
    /// less than a quarter of the ring is left, what `CMDQ_CONS` says: callers that wait never read it
    /// for room.
    #[cold]
    #[inline(never)]
    fn add_room(&self) {
        let known = acquire(&self.consumer);
        let consumer = if self.reserve.is_behind(known) {
            Ok(known)
        } else if self.reserve.is_short() {
            self.refresh()
        } else {
            return;
        };
        // The next call reports an error, which does not concern the commands of this one.
        if let Ok(consumer) = consumer {
            self.reserve.add_room(consumer);
        }
    }

    fn begin_exclusive(&self) -> Option<ExclusiveReservation<'_>> {
        let (reserve, consumer) = (&self.reserve.0, &self.consumer.0);
        let next = reserve.begin_exclusive()?;
        Some(ExclusiveReservation { reserve, consumer, next })
    }

    /// Queue a batch longer than the ring, or longer than may go without a `CMD_SYNC`.
    ///
    /// The exclusive reservation keeps other callers' commands from between the pieces.
    #[cold]
    fn produce_in_pieces(
        &self,
        commands: Commands<'_>,
        sync: bool,
    ) -> Result<Range<u64>, SinkError> {
        if commands.len() == 0 && !sync {
            let next = self.reserve.next();
            return Ok(next..next);
        }
        let mut exclusive = self.poll_for_room(|_| self.begin_exclusive())?;
        let start = exclusive.next;
        let every = self.config.sync_every.map_or(u64::MAX, |every| every.get().into());
        let forced = self.config.sync_every.is_some();
        // Half a ring at a time: the SMMU consumes one half while the caller fills the other.
        let most = self.depth.div_ceil(2).min(every);
        let mut rest = commands;
        loop {
            let piece = (rest.len() as u64).min(most - u64::from(forced && most > 1));
            let (now, later) = rest.split_at(piece as usize);
            let ends = forced || sync && later.len() == 0;
            let count = piece + u64::from(ends);
            let at = exclusive.next;
            self.poll_for_room(|consumer| {
                self.reserve.reserve_exclusive(at, count, consumer).then_some(())
            })?;
            exclusive.next = at + count;
            self.fill_piece(at, now, ends, ends || sync)?;
            rest = later;
            if rest.len() == 0 {
                return Ok(start..exclusive.next);
            }
        }
    }

    /// Poll `attempt`. Each look first reads `CMDQ_CONS`, and gives `attempt` the position of the
    /// consumer.
    fn poll_for_room<T>(&self, mut attempt: impl FnMut(u64) -> Option<T>) -> Result<T, SinkError> {
        let polled = poll(&self.wait, self.config.timeout, || {
            let consumer = match self.refresh() {
                Ok(consumer) => consumer,
                Err(error) => return Some(Err(error)),
            };
            if let Some(done) = attempt(consumer) {
                return Some(Ok(done));
            }
            self.handle_gerror();
            self.gerror.check(self.hot.smmu).err().map(Err)
        });
        polled.unwrap_or_else(|TimedOut { .. }| Err(self.timed_out()))
    }
}
