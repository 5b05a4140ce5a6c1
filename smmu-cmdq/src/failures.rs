//! Which commands failed, and whose `CMD_SYNC` has to say so.
//!
//! 1. A failure of a command of an `issue` is told to that `issue`'s waiter, and to no other.
//! 2. A failure of a pushed command is told to the waiter of the `prove` that stands for it.
//! 3. What does not fit is remembered as a position, and every ticket from before it fails. Room may be short for names,
//!    never for the fact of a failure.
//!
//! One at a time records, before the SMMU may go on; any number look and claim, without a lock. A record's key is its
//! position, so a record that is claimed and used again is never taken for what it was.

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
    /// The command as it lay in the queue; for [`CommandErrorCode::ATC_INV_SYNC`] the `CMD_SYNC`
    /// that found out.
    pub command: RawCommand,
    /// What the SMMU said.
    pub code: CommandErrorCode,
    /// Where the command lay, counted from the first command of this queue.
    pub position: Position,
}

impl CommandFailure {
    /// The same, for a caller of a [`CommandSink`](smmu_types::seam::CommandSink).
    #[must_use]
    pub const fn error(self) -> SinkError {
        SinkError::Command { smmu: self.smmu, command: self.command, code: self.code }
    }
}

/// How many failures a queue has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureCounts {
    /// Commands that were not carried out (`CERROR_ILL`), and `CMD_SYNC`s that told of an ATC time-out.
    pub total: u64,
    /// Times that the SMMU could not fetch a command (`CERROR_ABT`), or gave a code without a name, and was told to try
    /// again.
    pub retried: u64,
    /// Failures that were forgotten because too many were waiting to be claimed; the tickets that may have owned them
    /// fail all the same.
    pub evicted: u64,
}

/// Failures that are told apart.
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
pub(crate) struct Failures {
    smmu: SmmuId,
    // The position behind the failed command, or 0.
    keys: [AtomicU64; RECORDS],
    records: [Record; RECORDS],
    // How many of them are in use, or one more.
    used: AtomicU32,
    // Tickets that begin before this position may have lost a record.
    doubt: AtomicU64,
    total: AtomicU64,
    retried: AtomicU64,
    evicted: AtomicU64,
}

impl Failures {
    pub(crate) fn new(smmu: SmmuId) -> Self {
        Failures {
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

    /// Remember a failure, unless it is one that the SMMU repeats. For one caller at a time, before the SMMU may go on.
    pub(crate) fn record(&self, failure: CommandFailure) {
        let key = failure.position.0 + 1;
        if self.keys.iter().any(|other| other.load(Ordering::Relaxed) == key) {
            return;
        }
        self.total.fetch_add(1, Ordering::Relaxed);
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

    /// Forget the oldest record, and remember that there was one.
    fn evict(&self) -> usize {
        let mut oldest = (0, u64::MAX);
        for (at, key) in self.keys.iter().enumerate() {
            let key = key.load(Ordering::Acquire);
            if key < oldest.1 {
                oldest = (at, key);
            }
        }
        let (at, key) = oldest;
        let Some(slot) = self.keys.get(at).filter(|_| key > 0) else { return at };
        // Before the record goes: whoever does not find it has to find this.
        let before = self.doubt.fetch_max(key, Ordering::Relaxed);
        let release = order(Barrier::EvictRelease, Ordering::AcqRel);
        match slot.compare_exchange(key, 0, release, Ordering::Acquire) {
            Ok(_) => {
                self.evicted.fetch_add(1, Ordering::Relaxed);
                self.used.fetch_sub(1, order(Barrier::EvictRelease, Ordering::Release));
            }
            // Somebody has claimed it just now, and it is nobody's loss.
            Err(_) => self.doubt.store(before, Ordering::Relaxed),
        }
        at
    }

    /// What the ticket of `own` has to report, if anything, where commands from `pushed` on were pushed for it.
    ///
    /// The SMMU has passed all of them, or is not known to; in that case what is known is told.
    pub(crate) fn claim(&self, pushed: u64, own: Range<u64>) -> Option<SinkError> {
        let acquire = order(Barrier::RecordAcquire, Ordering::Acquire);
        // Whoever has seen `CMDQ_CONS` behind a failed command sees its record, and that there is one.
        // Whoever has seen the last of them go, sees what was forgotten before.
        let forget = order(Barrier::EvictAcquire, Ordering::Acquire);
        if self.used.load(forget) == 0 && self.doubt.load(Ordering::Relaxed) <= pushed {
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
            // A release, so that nobody writes the record before it was read. One that was pushed may be somebody
            // else's, who has to find it as well.
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
    use super::{CommandFailure, Failures};
    use core::sync::atomic::{AtomicU64, Ordering};
    use smmu_types::queue::Position;
    use smmu_types::{CommandErrorCode, RawCommand, SmmuId};

    /// One that looks for a record just while it has to make room for another.
    #[test]
    fn a_failure_that_is_being_forgotten_is_told_all_the_same() {
        const FAILURES: u64 = 200_000;
        let failures = Failures::new(SmmuId(0));
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
                // The one that goes next, or a failure of nobody that has waited.
                let at = now.saturating_sub(16);
                if now > at {
                    assert!(failures.claim(at, at + 1..at + 1).is_some(), "{at} of {now}");
                }
            }
        });
        assert!(failures.counts().evicted > 0);
    }
}
