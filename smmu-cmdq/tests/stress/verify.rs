//! What was carried out and told, held against what was queued.

use std::ops::Range;

use smmu_types::seam::SinkError;
use smmu_types::{CommandErrorCode, RawCommand};

use crate::caller::{Report, Told};
use crate::commands::{Marked, SYNC, What};
use crate::device::{Entry, Outcome};

/// Failures that a queue tells apart.
const RECORDS: usize = 16;

/// A round that is over.
pub(crate) struct Round<'r> {
    pub(crate) log: &'r [Entry],
    /// Where commands failed, in order.
    pub(crate) failed: &'r [u64],
    pub(crate) reports: &'r [Report],
    pub(crate) sync_every: Option<u32>,
}

impl Round<'_> {
    pub(crate) fn verify(&self) {
        let places = self.places();
        self.all_syncs_are_somebodys();
        for (report, places) in self.reports.iter().zip(&places) {
            for told in &report.told {
                self.what_was_told_is_right(told, report, places);
            }
        }
    }

    /// Where each call's commands lie, all of which were carried out, once, in order and with nothing between.
    fn places(&self) -> Vec<Vec<Vec<u64>>> {
        let mut places: Vec<Vec<Vec<u64>>> = (self.reports.iter())
            .map(|report| report.calls.iter().map(|_| Vec::new()).collect())
            .collect();
        let mut next = vec![0; self.reports.len()];
        for (position, &(raw, _)) in (0..).zip(self.log) {
            let Some(command) = Marked::of(raw) else {
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
                let numbers = places.iter().map(|&at| Marked::of(self.log[at as usize].0).unwrap());
                assert!(numbers.map(|command| command.number).eq(call.numbers.clone()));
            }
        }
        places
    }

    fn call_is_whole(&self, positions: Option<&Range<u64>>, places: &[u64]) {
        // Nothing lies between but what the queue itself puts there.
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

    fn all_syncs_are_somebodys(&self) {
        let syncs = self.log.iter().filter(|entry| is_sync(entry)).count();
        let calls = || self.reports.iter().flat_map(|report| &report.calls);
        let tickets = calls().filter(|call| call.positions.is_some()).count();
        let Some(every) = self.sync_every else {
            assert_eq!(syncs, tickets, "one CMD_SYNC for each ticket");
            return;
        };
        let runs = self.log.split(is_sync);
        assert!(
            runs.map(<[Entry]>::len).max() <= Some(every as usize),
            "too many without a CMD_SYNC"
        );
        let last = self.log.last();
        assert!(last.is_none_or(is_sync), "no batch ends without a CMD_SYNC");
    }

    fn what_was_told_is_right(&self, told: &Told, report: &Report, places: &[Vec<u64>]) {
        let (from, to) = (told.calls.start as usize, told.calls.end as usize);
        let own = report.calls[to - 1].positions.clone().unwrap();
        let first = match places[from].first() {
            Some(&first) => first,
            None if from == to - 1 => own.start,
            // Where nothing was pushed, nobody knows but that it is behind what came before.
            None => places[..from].iter().flatten().next_back().map_or(0, |before| before + 1),
        };
        let mine = || places[from..to].iter().flatten().copied();
        let is_done = |at: &u64| self.log[*at as usize].1 == Outcome::Done;
        let done = mine().filter(is_done).count() as u64;
        assert_eq!(told.touched, done, "told before it was done: {told:?}");

        // What the ticket has to tell: the first failure of what was pushed for it, or of its own call.
        let pushed = mine().filter(|at| *at < own.start);
        let failed = pushed.chain(own.clone()).find(|at| !is_done(at));
        // As many failures behind one may have taken the place of its record.
        let since = self.failed[..told.failed].iter().filter(|at| **at >= first).count();
        let is_crowded = since > RECORDS;
        match (told.result, failed) {
            (Ok(()), None) => {}
            (Ok(()), Some(at)) => panic!("the failure at {at} was not told: {told:?}"),
            (Err(SinkError::TooManyFailures { .. }), _) => {
                assert!(is_crowded, "only {since} have failed from {first} on: {told:?}");
            }
            (Err(error), failed) => {
                // It may be another's, between what was pushed and the ticket's own.
                let end = match failed {
                    Some(failed) if !is_crowded => failed + 1,
                    Some(_) => own.end,
                    None => own.start,
                };
                let is_there = (first..end).any(|at| self.error(at) == Some(error));
                assert!(is_there, "{error} is nothing of {first}..{end}: {told:?}");
            }
        }
    }

    fn error(&self, at: u64) -> Option<SinkError> {
        let (command, outcome) = self.log[at as usize];
        match outcome {
            Outcome::Done => None,
            Outcome::Failed(code) => {
                Some(SinkError::Command { smmu: smmu_types::SmmuId(0), command, code })
            }
        }
    }

    /// What has to have failed, did: every illegal command, and the first `CMD_SYNC` behind an unanswered `ATC_INV`.
    pub(crate) fn failures(&self) -> Failures {
        let mut failures = Failures::default();
        for &(raw, outcome) in self.log {
            let what = Marked::of(raw).map(|command| command.what);
            let refused = outcome == Outcome::Failed(CommandErrorCode::ILL);
            assert!(refused || what != Some(What::Illegal));
            failures.refused += u64::from(refused);
            failures.late += u64::from(outcome == Outcome::Failed(CommandErrorCode::ATC_INV_SYNC));
        }
        failures
    }
}

#[derive(Default)]
pub(crate) struct Failures {
    pub(crate) refused: u64,
    pub(crate) late: u64,
}

fn is_sync(entry: &Entry) -> bool {
    let (RawCommand([low, _]), _) = *entry;
    low as u8 == SYNC
}
