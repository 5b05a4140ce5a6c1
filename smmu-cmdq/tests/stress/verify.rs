//! Compares what was carried out and what each wait returned with what was queued.

use std::ops::Range;

use smmu_types::seam::SinkError;
use smmu_types::{CommandErrorCode, RawCommand};

use crate::caller::{CallerReport, TicketResult};
use crate::commands::{CommandKind, MarkedCommand, SYNC};
use crate::device::{CommandOutcome, LogEntry};

/// The failures that a queue can record.
const RECORDS: usize = 16;

/// A round that is over.
pub(crate) struct FinishedRound<'r> {
    pub(crate) log: &'r [LogEntry],
    /// The positions of failed commands, in order.
    pub(crate) failed: &'r [u64],
    pub(crate) reports: &'r [CallerReport],
    pub(crate) sync_every: Option<u32>,
}

impl FinishedRound<'_> {
    pub(crate) fn verify(&self) {
        let places = self.places();
        self.every_sync_has_a_ticket();
        for (report, places) in self.reports.iter().zip(&places) {
            for result in &report.results {
                self.result_is_right(result, report, places);
            }
        }
    }

    /// The positions of each call's commands. All were carried out once, in order, with no other
    /// command between.
    fn places(&self) -> Vec<Vec<Vec<u64>>> {
        let mut places: Vec<Vec<Vec<u64>>> = (self.reports.iter())
            .map(|report| report.calls.iter().map(|_| Vec::new()).collect())
            .collect();
        let mut next = vec![0; self.reports.len()];
        for (position, &(raw, _)) in (0..).zip(self.log) {
            let Some(command) = MarkedCommand::of(raw) else {
                assert_eq!(raw.opcode(), SYNC, "{raw:x?} was never queued");
                continue;
            };
            let next = &mut next[command.caller];
            assert_eq!(command.number, *next, "caller {} at {position}", command.caller);
            *next += 1;
            places[command.caller][command.call as usize].push(position);
        }
        for (report, (places, next)) in self.reports.iter().zip(places.iter().zip(next)) {
            let queued = report.calls.last().map_or(0, |call| call.numbers.end);
            assert_eq!(next, queued, "commands are missing");
            for (call, places) in report.calls.iter().zip(places) {
                self.call_is_whole(call.positions.as_ref(), places);
                let numbers =
                    places.iter().map(|&at| MarkedCommand::of(self.log[at as usize].0).unwrap());
                assert!(numbers.map(|command| command.number).eq(call.numbers.clone()));
            }
        }
        places
    }

    fn call_is_whole(&self, positions: Option<&Range<u64>>, places: &[u64]) {
        // Only a CMD_SYNC of the queue may lie between.
        for pair in places.windows(2) {
            let between = &self.log[pair[0] as usize + 1..pair[1] as usize];
            let limit = usize::from(self.sync_every.is_some());
            assert!(between.len() <= limit && between.iter().all(is_sync), "{places:?}");
        }
        let Some(Range { start, end }) = positions else { return };
        let first = places.first().copied().unwrap_or(end - 1);
        let last = places.last().map_or(end - 1, |last| last + 1);
        assert_eq!((first, last), (*start, end - 1), "positions of a ticket");
        assert!(is_sync(&self.log[last as usize]), "the CMD_SYNC of {positions:?}");
    }

    fn every_sync_has_a_ticket(&self) {
        let syncs = self.log.iter().filter(|entry| is_sync(entry)).count();
        let calls = || self.reports.iter().flat_map(|report| &report.calls);
        let tickets = calls().filter(|call| call.positions.is_some()).count();
        let Some(every) = self.sync_every else {
            assert_eq!(syncs, tickets, "one CMD_SYNC for each ticket");
            return;
        };
        let runs = self.log.split(is_sync);
        assert!(
            runs.map(<[LogEntry]>::len).max() <= Some(every as usize),
            "too many without a CMD_SYNC"
        );
        let last = self.log.last();
        assert!(last.is_none_or(is_sync), "no batch ends without a CMD_SYNC");
    }

    fn result_is_right(&self, result: &TicketResult, report: &CallerReport, places: &[Vec<u64>]) {
        let (from, to) = (result.calls.start as usize, result.calls.end as usize);
        let own = report.calls[to - 1].positions.clone().unwrap();
        let first = match places[from].first() {
            Some(&first) => first,
            None if from == to - 1 => own.start,
            // An empty push has no position, but it is behind the call before.
            None => places[..from].iter().flatten().next_back().map_or(0, |before| before + 1),
        };
        let mine = || places[from..to].iter().flatten().copied();
        let is_done = |at: &u64| self.log[*at as usize].1 == CommandOutcome::Done;
        let done = mine().filter(is_done).count() as u64;
        assert_eq!(result.touched, done, "returned before it was done: {result:?}");

        // The ticket has to return the first failure of its pushed commands or of its own call.
        let pushed = mine().filter(|at| *at < own.start);
        let failed = pushed.chain(own.clone()).find(|at| !is_done(at));
        // This many failures behind it may have evicted its record.
        let since = self.failed[..result.failed].iter().filter(|at| **at >= first).count();
        let is_crowded = since > RECORDS;
        match (result.returned, failed) {
            (Ok(()), None) => {}
            (Ok(()), Some(at)) => panic!("the failure at {at} was not returned: {result:?}"),
            (Err(SinkError::TooManyFailures { .. }), _) => {
                assert!(is_crowded, "only {since} have failed from {first} on: {result:?}");
            }
            (Err(error), failed) => {
                // It may be another caller's, between the pushed commands and the ticket's own.
                let end = match failed {
                    Some(failed) if !is_crowded => failed + 1,
                    Some(_) => own.end,
                    None => own.start,
                };
                let is_there = (first..end).any(|at| self.error(at) == Some(error));
                assert!(is_there, "{error} is no failure of {first}..{end}: {result:?}");
            }
        }
    }

    fn error(&self, at: u64) -> Option<SinkError> {
        let (command, outcome) = self.log[at as usize];
        match outcome {
            CommandOutcome::Done => None,
            CommandOutcome::Failed(code) => {
                Some(SinkError::Command { smmu: smmu_types::SmmuId(0), command, code })
            }
        }
    }

    /// Counts failures. Every illegal command must have failed.
    pub(crate) fn failures(&self) -> FailureTally {
        let mut failures = FailureTally::default();
        for &(raw, outcome) in self.log {
            let what = MarkedCommand::of(raw).map(|command| command.what);
            let refused = outcome == CommandOutcome::Failed(CommandErrorCode::ILL);
            assert!(refused || what != Some(CommandKind::Illegal));
            failures.refused += u64::from(refused);
            failures.late +=
                u64::from(outcome == CommandOutcome::Failed(CommandErrorCode::ATC_INV_SYNC));
        }
        failures
    }
}

#[derive(Default)]
pub(crate) struct FailureTally {
    pub(crate) refused: u64,
    pub(crate) late: u64,
}

fn is_sync(entry: &LogEntry) -> bool {
    let (RawCommand([low, _]), _) = *entry;
    low as u8 == SYNC
}
