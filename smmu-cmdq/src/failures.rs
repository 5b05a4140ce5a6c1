//! Records of failed commands, and which waiter learns of which.
//!
//! 1. If a command of an `issue` fails, the waiter of that `issue` learns of it.
//! 2. If a pushed command fails, the waiter of the `prove` that stands for it learns of it.
//! 3. If all records are in use, a new failure evicts the oldest. The queue then keeps only a
//!    position: every ticket that begins before it fails. So a name may get lost, but never the
//!    fact of a failure.
//!
//! One caller at a time records a failure, before the SMMU may continue. Any number of callers
//! search and claim records, without a lock. A record's key is its position, which never repeats.
//! So a caller cannot mistake a reused record for the one before.

use core::array;
use core::ops::Range;

use smmu_types::queue::Position;
use smmu_types::seam::SinkError;
use smmu_types::{CommandErrorCode, RawCommand, SmmuId};

use crate::sync::{AtomicU32, AtomicU64, Barrier, Ordering, order};

/// A command that the SMMU did not carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandFailure {
    /// The SMMU.
    pub smmu: SmmuId,
    /// The command as it lay in the queue. For [`CommandErrorCode::ATC_INV_SYNC`], the `CMD_SYNC`
    /// that reported the time-out.
    pub command: RawCommand,
    /// The error code from the SMMU.
    pub code: CommandErrorCode,
    /// The position of the command, counted from the first command of this queue.
    pub position: Position,
}

impl CommandFailure {
    /// The failure as an error of a [`CommandSink`](smmu_types::seam::CommandSink).
    #[must_use]
    pub const fn error(self) -> SinkError {
        SinkError::Command { smmu: self.smmu, command: self.command, code: self.code }
    }
}

/// The numbers of failures that a queue has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureCounts {
    /// Commands that were not carried out (`CERROR_ILL`), and `CMD_SYNC`s that reported an ATC
    /// time-out.
    pub total: u64,
    /// Errors after which the SMMU tries the command again: `CERROR_ABT`, and codes without a name.
    pub retried: u64,
    /// Failures whose record was evicted before a waiter claimed it. Every ticket that may
    /// own one fails.
    pub evicted: u64,
}

/// The number of failures that are told apart.
#[cfg(not(loom))]
const RECORDS: usize = 16;
#[cfg(loom)]
const RECORDS: usize = 1;

#[derive(Debug)]
struct Record {
    words: [AtomicU64; 2],
    code: AtomicU32,
}

impl Record {
    fn new() -> Self {
        Record { words: [AtomicU64::new(0), AtomicU64::new(0)], code: AtomicU32::new(0) }
    }
}

#[derive(Debug)]
pub(crate) struct FailureRecords {
    smmu: SmmuId,
    // The position of the failed command plus 1, or 0 for a free record.
    keys: [AtomicU64; RECORDS],
    records: [Record; RECORDS],
    // The number of records in use, or one more.
    used: AtomicU32,
    // A ticket that begins before this position may have lost a record.
    doubt: AtomicU64,
    total: AtomicU64,
    retried: AtomicU64,
    evicted: AtomicU64,
}

impl FailureRecords {
    pub(crate) fn new(smmu: SmmuId) -> Self {
        FailureRecords {
            smmu,
            keys: array::from_fn(|_| AtomicU64::new(0)),
            records: array::from_fn(|_| Record::new()),
            used: AtomicU32::new(0),
            doubt: AtomicU64::new(0),
            total: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    pub(crate) fn counts(&self) -> FailureCounts {
        FailureCounts {
            total: self.total.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn retried(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    /// Record a failure, unless it is recorded already: the SMMU may repeat it.
    ///
    /// One caller at a time may call this, before it lets the SMMU continue.
    pub(crate) fn record(&self, failure: CommandFailure) {
        let key = failure.position.0 + 1;
        if self.keys.iter().any(|other| other.load(Ordering::Relaxed) == key) {
            return;
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        // Acquire: the waiter that freed the record has read its words before this stores new ones.
        let free = self.keys.iter().position(|key| key.load(Ordering::Acquire) == 0);
        let at = free.unwrap_or_else(|| self.evict());
        let (Some(slot), Some(record)) = (self.keys.get(at), self.records.get(at)) else { return };
        for (word, value) in record.words.iter().zip(failure.command.0) {
            word.store(value, Ordering::Relaxed);
        }
        record.code.store(failure.code.0.into(), Ordering::Relaxed);
        self.used.fetch_add(1, Ordering::Relaxed);
        slot.store(key, order(Barrier::RecordRelease, Ordering::Release));
    }

    /// Evict the oldest record, and move `doubt` past it. Returns its index.
    fn evict(&self) -> usize {
        let mut oldest = (0, u64::MAX);
        for (at, key) in self.keys.iter().enumerate() {
            // Acquire: as in `record`, because a waiter may have freed this record meanwhile.
            let key = key.load(Ordering::Acquire);
            if key < oldest.1 {
                oldest = (at, key);
            }
        }
        let (at, key) = oldest;
        let Some(slot) = self.keys.get(at).filter(|_| key > 0) else { return at };
        // Before the record goes: a waiter that does not find it must find `doubt`.
        let before = self.doubt.fetch_max(key, Ordering::Relaxed);
        // Release: it publishes `doubt`. Acquire: waiters have read the words before they change.
        let release = order(Barrier::EvictRelease, Ordering::AcqRel);
        match slot.compare_exchange(key, 0, release, Ordering::Acquire) {
            Ok(_) => {
                self.evicted.fetch_add(1, Ordering::Relaxed);
                self.used.fetch_sub(1, order(Barrier::EvictRelease, Ordering::Release));
            }
            // Its waiter has claimed it in the meantime, so nothing is lost.
            Err(_) => self.doubt.store(before, Ordering::Relaxed),
        }
        at
    }

    /// Claim the failures of the ticket `own`, for which commands from `pushed` on were pushed.
    /// Returns the first.
    ///
    /// After a time-out the SMMU may not have passed all of these commands. The result then covers
    /// the failures so far.
    pub(crate) fn claim(&self, pushed: u64, own: Range<u64>) -> Option<SinkError> {
        let acquire = order(Barrier::RecordAcquire, Ordering::Acquire);
        // A caller that has read `CMDQ_CONS` behind a failed command sees its record, and sees it
        // in `used`. A caller that reads 0 from `used` after an eviction sees the `doubt` stored
        // before that.
        let evict = order(Barrier::EvictAcquire, Ordering::Acquire);
        if self.used.load(evict) == 0 && self.doubt.load(Ordering::Relaxed) <= pushed {
            return None;
        }
        let mut first: Option<CommandFailure> = None;
        for (slot, record) in self.keys.iter().zip(&self.records) {
            let key = slot.load(acquire);
            let Some(position) = key.checked_sub(1) else { continue };
            if !(pushed..own.end).contains(&position) {
                continue;
            }
            let [low, high] = &record.words;
            let command = RawCommand([low.load(Ordering::Relaxed), high.load(Ordering::Relaxed)]);
            let code = CommandErrorCode(record.code.load(Ordering::Relaxed) as u8);
            // A release, so that the next record is written here only after this one was read. The
            // failure of a pushed command stays: it may be another caller's, who has to find it as
            // well.
            let mine = match own.contains(&position) {
                true => {
                    let done = (Ordering::Release, Ordering::Acquire);
                    let claimed = slot.compare_exchange(key, 0, done.0, done.1).is_ok();
                    if claimed {
                        self.used.fetch_sub(1, Ordering::Release);
                    }
                    claimed
                }
                false => {
                    let same =
                        slot.compare_exchange(key, key, Ordering::Release, Ordering::Acquire);
                    same.is_ok()
                }
            };
            if mine && first.is_none_or(|first| position < first.position.0) {
                let (smmu, position) = (self.smmu, Position(position));
                first = Some(CommandFailure { smmu, command, code, position });
            }
        }
        let lost = || self.doubt.load(Ordering::Acquire) > pushed;
        match first {
            Some(first) => Some(first.error()),
            None => lost().then_some(SinkError::TooManyFailures { smmu: self.smmu }),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{CommandFailure, FailureRecords};
    use core::sync::atomic::{AtomicU64, Ordering};
    use smmu_types::queue::Position;
    use smmu_types::{CommandErrorCode, RawCommand, SmmuId};

    /// A waiter looks for a record while a new failure evicts it.
    #[test]
    fn a_waiter_learns_of_a_failure_that_is_being_evicted() {
        const FAILURES: u64 = 200_000;
        let failures = FailureRecords::new(SmmuId(0));
        let recorded = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for position in 0..FAILURES {
                    failures.record(CommandFailure {
                        smmu: SmmuId(0),
                        command: RawCommand([position, 0]),
                        code: CommandErrorCode::ILL,
                        position: Position(position),
                    });
                    recorded.store(position + 1, Ordering::Release);
                }
            });
            loop {
                let now = recorded.load(Ordering::Acquire);
                if now == FAILURES {
                    break;
                }
                // The record that is evicted next. No waiter has claimed it.
                let at = now.saturating_sub(16);
                if now > at {
                    assert!(failures.claim(at, at + 1..at + 1).is_some(), "{at} of {now}");
                }
            }
        });
        assert!(failures.counts().evicted > 0);
    }
}
