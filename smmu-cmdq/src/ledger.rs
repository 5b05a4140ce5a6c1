//! Which commands failed, and whose `CMD_SYNC` has to say so.
//!
//! Everything here is arithmetic on positions, without hardware and without a lock of its own.
//!
//! 1. A failure of a command of an `issue` is told to that `issue`'s waiter, and to no other.
//! 2. A failure of a pushed command is told to every waiter whose `CMD_SYNC` lies behind it and
//!    was queued before the failure was taken: the queue cannot know which of them is the pusher's. Each is
//!    handed out; where there were too many, the last one stands for all that had no room.
//! 3. What does not fit is remembered as a hull of positions, and every ticket that touches the hull
//!    fails. Room may be short for names, never for the fact of a failure.

use core::ops::Range;

use smmu_types::queue::Position;
use smmu_types::{CommandErrorCode, RawCommand, SmmuId};

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

/// How many failures a queue has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureCounts {
    /// All of them. An error that the SMMU repeats for one command counts once.
    pub total: u64,
    /// Those of pushed commands.
    pub pushed: u64,
    /// Those that were forgotten because too many were waiting to be claimed; the tickets that
    /// may have owned them fail all the same.
    pub evicted: u64,
}

const RECORDS: usize = 16;
const PUSHES: usize = 8;

/// Positions that cannot be told apart any more, and one failure among them.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    from: Position,
    until: Position,
    failure: CommandFailure,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    // Oldest first, without gaps.
    records: [Option<CommandFailure>; RECORDS],
    // Failures of pushed commands that nobody has taken, oldest first, without gaps. The last place holds the
    // newest of all that did not fit.
    pushed_failures: [Option<CommandFailure>; RECORDS],
    doubt: Option<Doubt>,
    // Pushed commands in flight, oldest first, without gaps.
    pushes: [Option<(Position, Position)>; PUSHES],
    // Pushed ATC invalidations that no successful SYNC is known to have covered.
    pushed_atc: Option<(Position, Position)>,
    counts: FailureCounts,
}

impl Ledger {
    pub(crate) const fn new() -> Self {
        Ledger {
            records: [None; RECORDS],
            pushed_failures: [None; RECORDS],
            doubt: None,
            pushes: [None; PUSHES],
            pushed_atc: None,
            counts: FailureCounts { total: 0, pushed: 0, evicted: 0 },
        }
    }

    pub(crate) const fn counts(&self) -> FailureCounts {
        self.counts
    }

    /// Commands without a `CMD_SYNC` of their own are queued at `range`.
    pub(crate) fn pushed(&mut self, range: Range<Position>) {
        if range.is_empty() {
            return;
        }
        let used = self.pushes.iter().flatten().count();
        if let Some(Some((_, end))) = used.checked_sub(1).and_then(|last| self.pushes.get_mut(last))
            && (*end == range.start || used == PUSHES)
        {
            // With no room left the newest entry also covers what lies between: some commands of
            // others count as pushed then, which tells their failure to more waiters, not to fewer.
            *end = range.end;
        } else if let Some(slot) = self.pushes.get_mut(used) {
            *slot = Some((range.start, range.end));
        }
    }

    /// The command at `position`, an ATC invalidation, was pushed.
    pub(crate) fn pushed_atc(&mut self, position: Position) {
        let first = self.pushed_atc.map_or(position, |(first, _)| first);
        self.pushed_atc = Some((first, position));
    }

    /// The consumer has passed everything before `consumer`.
    pub(crate) fn consumed(&mut self, consumer: Position) {
        let done = self.pushes.iter().flatten().take_while(|(_, end)| *end <= consumer).count();
        if done > 0 {
            self.pushes.rotate_left(done);
            let kept = PUSHES - done;
            self.pushes.iter_mut().skip(kept).for_each(|slot| *slot = None);
        }
    }

    /// Remember a failure; `false` when it is one that the SMMU repeats.
    pub(crate) fn record(&mut self, failure: CommandFailure) -> bool {
        let known = |other: &CommandFailure| {
            other.position == failure.position && other.code == failure.code
        };
        if self.records.iter().chain(&self.pushed_failures).flatten().any(known) {
            return false;
        }
        self.counts.total += 1;
        if self.is_pushed(failure) {
            self.counts.pushed += 1;
            match self.pushed_failures.iter_mut().find(|slot| slot.is_none()) {
                Some(free) => *free = Some(failure),
                None => {
                    self.counts.evicted += 1;
                    self.pushed_failures[RECORDS - 1] = Some(failure);
                }
            }
            return true;
        }
        if let Some(free) = self.records.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(failure);
            return true;
        }
        self.counts.evicted += 1;
        self.records.rotate_left(1);
        if let Some(oldest) = self.records.last_mut().and_then(|slot| slot.replace(failure)) {
            self.doubt(oldest, oldest.position.advanced(1));
        }
        true
    }

    fn is_pushed(&self, failure: CommandFailure) -> bool {
        let position = failure.position;
        let inside = |(start, end): &(Position, Position)| (*start..*end).contains(&position);
        self.pushes.iter().flatten().any(inside)
            // The SYNC that reports an ATC timeout need not be the pusher's.
            || failure.code == CommandErrorCode::ATC_INV_SYNC
                && self.pushed_atc.is_some_and(|(first, _)| first < position)
    }

    fn doubt(&mut self, failure: CommandFailure, until: Position) {
        let from = failure.position;
        self.doubt = Some(match self.doubt {
            Some(old) => Doubt { from: old.from.min(from), until: old.until.max(until), failure },
            None => Doubt { from, until, failure },
        });
    }

    /// The failure that the ticket of `range` has to report, if any.
    pub(crate) fn claim(&mut self, range: Range<Position>) -> Option<CommandFailure> {
        let mut own: Option<CommandFailure> = None;
        let mut kept = 0;
        for at in 0..RECORDS {
            let Some(record) = self.records[at].take() else { break };
            if range.contains(&record.position) {
                own.get_or_insert(record);
            } else {
                self.records[kept] = Some(record);
                kept += 1;
            }
        }
        let pushed = || {
            let mut failures = self.pushed_failures.iter().flatten();
            failures.find(|failure| failure.position < range.end).copied()
        };
        let doubted = || {
            self.doubt
                .filter(|doubt| range.start < doubt.until && doubt.from < range.end)
                .map(|doubt| doubt.failure)
        };
        own.or_else(pushed).or_else(doubted)
    }

    /// The `CMD_SYNC` before `end` completed without any error.
    pub(crate) fn proven(&mut self, end: Position) {
        if self.pushed_atc.is_some_and(|(_, last)| last < end) {
            self.pushed_atc = None;
        }
    }

    /// Hand out the failure of a pushed command; tickets up to `producer` still report it.
    pub(crate) fn take_unclaimed(&mut self, producer: Position) -> Option<CommandFailure> {
        let failure = self.pushed_failures[0].take()?;
        self.pushed_failures.rotate_left(1);
        self.doubt(failure, producer);
        Some(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(position: u64) -> CommandFailure {
        CommandFailure {
            smmu: SmmuId(0),
            command: RawCommand([position, 0]),
            code: CommandErrorCode::ILL,
            position: Position(position),
        }
    }

    fn range(start: u64, end: u64) -> Range<Position> {
        Position(start)..Position(end)
    }

    #[test]
    fn inv_1_only_the_owner_is_told_and_only_once() {
        let mut ledger = Ledger::new();
        assert!(ledger.record(failure(5)));
        assert!(!ledger.record(failure(5)));
        assert_eq!(ledger.claim(range(0, 5)), None);
        assert_eq!(ledger.claim(range(6, 9)), None);
        assert_eq!(ledger.claim(range(4, 6)), Some(failure(5)));
        assert_eq!(ledger.claim(range(4, 6)), None);
        assert_eq!(ledger.counts().total, 1);
    }

    #[test]
    fn inv_2_a_pushed_failure_is_told_to_all_behind_it_until_it_is_taken() {
        let mut ledger = Ledger::new();
        ledger.pushed(range(4, 6));
        ledger.consumed(Position(5));
        ledger.record(failure(5));
        assert_eq!(ledger.claim(range(0, 4)), None);
        assert_eq!(ledger.claim(range(6, 8)), Some(failure(5)));
        assert_eq!(ledger.claim(range(8, 10)), Some(failure(5)));
        assert_eq!(ledger.take_unclaimed(Position(12)), Some(failure(5)));
        assert_eq!(ledger.take_unclaimed(Position(12)), None);
        assert_eq!(ledger.claim(range(10, 12)), Some(failure(5)));
        assert_eq!(ledger.claim(range(12, 14)), None);
    }

    #[test]
    fn inv_2_every_pushed_failure_is_handed_out() {
        let mut ledger = Ledger::new();
        ledger.pushed(range(0, 40));
        ledger.record(failure(3));
        ledger.record(failure(5));
        assert_eq!(ledger.take_unclaimed(Position(40)), Some(failure(3)));
        assert_eq!(ledger.claim(range(50, 52)), Some(failure(5)));
        assert_eq!(ledger.take_unclaimed(Position(40)), Some(failure(5)));
        assert_eq!(ledger.claim(range(50, 52)), None);
        // Too many: the last that is handed out stands for those that had no room.
        for position in 6..6 + RECORDS as u64 + 3 {
            ledger.record(failure(position));
        }
        let taken: usize = core::iter::from_fn(|| ledger.take_unclaimed(Position(40))).count();
        assert_eq!((taken, ledger.counts().evicted), (RECORDS, 3));
        assert_eq!(ledger.claim(range(50, 52)), None);
    }

    #[test]
    fn inv_2_consumed_pushes_are_forgotten() {
        let mut ledger = Ledger::new();
        for push in 0..100 {
            ledger.pushed(range(push * 4, push * 4 + 2));
            ledger.consumed(Position(push * 4 + 2));
        }
        ledger.pushed(range(400, 402));
        ledger.record(failure(403));
        assert_eq!(ledger.claim(range(404, 406)), None);
        assert_eq!(ledger.counts().pushed, 0);
    }

    #[test]
    fn inv_2_too_many_pushes_in_flight_err_on_the_safe_side() {
        let mut ledger = Ledger::new();
        for push in 0..20 {
            ledger.pushed(range(push * 4, push * 4 + 2));
        }
        ledger.record(failure(77));
        assert_eq!(ledger.claim(range(90, 92)), Some(failure(77)));
    }

    #[test]
    fn inv_2_an_atc_timeout_may_be_a_pushers() {
        let atc = CommandFailure { code: CommandErrorCode::ATC_INV_SYNC, ..failure(9) };
        let mut ledger = Ledger::new();
        ledger.pushed(range(4, 5));
        ledger.pushed_atc(Position(4));
        ledger.consumed(Position(9));
        ledger.record(atc);
        assert_eq!(ledger.claim(range(8, 10)), Some(atc));
        assert_eq!(ledger.claim(range(10, 12)), Some(atc));

        let mut ledger = Ledger::new();
        ledger.pushed(range(4, 5));
        ledger.pushed_atc(Position(4));
        ledger.consumed(Position(6));
        ledger.proven(Position(6));
        ledger.record(atc);
        assert_eq!(ledger.claim(range(8, 10)), Some(atc));
        assert_eq!(ledger.claim(range(10, 12)), None);
    }

    #[test]
    fn inv_3_what_does_not_fit_still_fails_its_ticket() {
        let mut ledger = Ledger::new();
        for position in 0..40 {
            ledger.record(failure(position * 2));
        }
        assert_eq!(ledger.counts().evicted, 24);
        for position in 0..40 {
            assert!(ledger.claim(range(position * 2, position * 2 + 2)).is_some(), "{position}");
        }
        assert_eq!(ledger.claim(range(80, 82)), None);
    }
}
