//! Batches of a walk: the commands of the next batch, the tickets of issued ones, the failed SMMUs.

use smmu_types::seam::{CommandSink, EncodedBatch, SinkError};
use smmu_types::{RawCommand, SmmuId};

use super::commands::Template;
use super::phase::Phase;
use crate::inv_entry::{Head, InvEntry};
use crate::{InvalidateError, SmmuFailure};

/// The most `CMD_SYNC`s in flight.
pub(super) const TICKETS: usize = 16;
/// The failed SMMUs that a walk tells apart.
const FAILURES: usize = 16;

/// A `CMD_SYNC` in flight, and the first entry of its batch.
type InFlight<T> = Option<(u32, T)>;

/// Commands for one SMMU, before their issue.
pub(super) struct Batch {
    smmu: SmmuId,
    phase: Phase,
    // The index of the first entry of the batch.
    first: usize,
    queued: usize,
}

impl Batch {
    pub(super) const fn of(phase: Phase) -> Self {
        Batch { smmu: SmmuId(0), phase, first: 0, queued: 0 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    Queued,
    /// The SMMU has failed. It gets no more commands.
    Failed,
}

pub(super) struct Walk<'s, S: CommandSink + ?Sized> {
    entries: &'s [InvEntry],
    sink: &'s S,
    report: &'s mut dyn FnMut(SmmuFailure),
    commands: &'s mut [RawCommand],
    // Commands of the current batch that went out without a `CMD_SYNC`.
    pushed: Option<S::Pushed>,
    tickets: [InFlight<S::Ticket>; TICKETS],
    oldest: usize,
    in_flight: usize,
    failures: Failures,
}

impl<'s, S: CommandSink + ?Sized> Walk<'s, S> {
    #[inline]
    pub(super) fn new(
        entries: &'s [InvEntry],
        sink: &'s S,
        commands: &'s mut [RawCommand],
        report: &'s mut dyn FnMut(SmmuFailure),
    ) -> Self {
        Walk {
            entries,
            sink,
            report,
            commands,
            pushed: None,
            tickets: [const { None }; TICKETS],
            oldest: 0,
            in_flight: 0,
            failures: Failures::default(),
        }
    }

    #[inline]
    pub(super) fn wait_all(&mut self) {
        while self.in_flight > 0 {
            self.wait_oldest();
        }
    }

    /// Issues the batch of another SMMU. `false` if `smmu` has failed.
    #[inline]
    pub(super) fn enter(&mut self, batch: &mut Batch, smmu: SmmuId) -> bool {
        if batch.smmu != smmu {
            self.issue(batch);
            batch.smmu = smmu;
        }
        !self.failures.contains(smmu)
    }

    /// Adds several commands for one entry. Returns the index behind it.
    pub(super) fn add_all(
        &mut self,
        at: usize,
        entry: &InvEntry,
        templates: impl Iterator<Item = Template>,
        batch: &mut Batch,
    ) -> usize {
        let head = entry.head();
        if !head.is_trash() {
            for template in templates {
                if self.add(at, template.command(head, entry), batch) == Added::Failed {
                    break;
                }
            }
        }
        at + 1
    }

    #[inline(always)]
    pub(super) fn add(&mut self, at: usize, command: RawCommand, batch: &mut Batch) -> Added {
        if batch.queued == self.commands.len() && self.make_room(batch) == Added::Failed {
            return Added::Failed;
        }
        let Some(slot) = self.commands.get_mut(batch.queued) else { return Added::Failed };
        *slot = command;
        if batch.queued == 0 {
            batch.first = at;
        }
        batch.queued += 1;
        Added::Queued
    }

    /// Adds the command of `entry`, and of the entries behind it that have its SMMU, kind and
    /// options. Returns the index behind them.
    #[inline(always)]
    pub(super) fn add_run(
        &mut self,
        at: usize,
        entry: &InvEntry,
        head: Head,
        template: Template,
        batch: &mut Batch,
    ) -> usize {
        let added = self.add(at, template.command(head, entry), batch);
        // With many SMMUs, the next entry is mostly that of another one.
        match self.entries.get(at + 1) {
            Some(next) if added == Added::Queued && next.head().is_beside(head) => {
                self.add_rest(at + 1, head, entry.aux(), template, batch)
            }
            _ => at + 1,
        }
    }

    /// Adds the command of each entry from `at` on that has the SMMU and kind of `first`, and the
    /// options `aux`. Returns the index behind them.
    #[inline(always)]
    fn add_rest(
        &mut self,
        mut at: usize,
        first: Head,
        aux: u32,
        template: Template,
        batch: &mut Batch,
    ) -> usize {
        loop {
            if batch.queued == 0 {
                batch.first = at;
            }
            let room = self.commands.get_mut(batch.queued..).unwrap_or_default();
            let entries = self.entries.get(at..).unwrap_or_default();
            let (seen, added, is_full) = match template.names_substreams() {
                true => fill_with_substreams(room, entries, first, template),
                false => fill_with_tags(room, entries, first, aux, template),
            };
            at += seen;
            batch.queued += added;
            if !is_full || self.make_room(batch) == Added::Failed {
                return at;
            }
        }
    }

    #[inline(never)]
    pub(super) fn make_room(&mut self, batch: &mut Batch) -> Added {
        match batch.phase {
            Phase::DeviceCaches => self.issue(batch),
            Phase::Tags | Phase::NestedStage1 => {
                // Keep one command back: the `CMD_SYNC` goes out with it, even if all following
                // entries are trash.
                let Some((last, out)) = self.commands[..batch.queued].split_last() else {
                    return Added::Queued;
                };
                let out = EncodedBatch::split(out).0;
                let pushed = self.sink.push_encoded(batch.smmu, self.pushed.take(), out);
                self.commands[0] = *last;
                batch.queued = 1;
                match pushed {
                    Ok(pushed) => self.pushed = Some(pushed),
                    Err(error) => self.fail(batch.smmu, batch.first, error),
                }
            }
        }
        match self.failures.contains(batch.smmu) {
            true => Added::Failed,
            false => Added::Queued,
        }
    }

    /// Issues the batch with a `CMD_SYNC`.
    #[inline]
    pub(super) fn issue(&mut self, batch: &mut Batch) {
        if batch.queued == 0 {
            return;
        }
        if self.in_flight == TICKETS {
            self.wait_oldest();
        }
        let queued = core::mem::take(&mut batch.queued);
        let pushed = self.pushed.take();
        // The oldest ticket may have been this SMMU's.
        if self.failures.contains(batch.smmu) {
            return;
        }
        let commands = EncodedBatch::split(self.commands.get(..queued).unwrap_or_default()).0;
        let issued = match pushed {
            None => self.sink.issue_encoded(batch.smmu, commands),
            Some(pushed) => self.sink.prove_encoded(pushed, commands),
        };
        match issued {
            Ok(ticket) => {
                let place = (self.oldest + self.in_flight) % TICKETS;
                self.tickets[place] = Some((batch.first as u32, ticket));
                self.in_flight += 1;
            }
            Err(error) => self.fail(batch.smmu, batch.first, error),
        }
    }

    #[inline]
    fn wait_oldest(&mut self) {
        let ticket = self.tickets[self.oldest].take();
        self.oldest = (self.oldest + 1) % TICKETS;
        self.in_flight -= 1;
        let Some((first, ticket)) = ticket else { return };
        let first = first as usize;
        let Some(smmu) = self.entries.get(first).map(|entry| entry.head().smmu()) else { return };
        match self.sink.wait(ticket) {
            Ok(proof) if proof.smmu() == smmu => {}
            Ok(proof) => {
                let error = SinkError::ForeignProof { want: smmu, got: proof.smmu() };
                self.fail(smmu, first, error);
            }
            Err(error) => self.fail(smmu, first, error),
        }
    }

    #[cold]
    fn fail(&mut self, smmu: SmmuId, first: usize, error: SinkError) {
        if self.failures.add(smmu, error)
            && let Some(entry) = self.entries.get(first)
        {
            (self.report)(SmmuFailure { from: entry.key(), error });
        }
    }

    pub(super) fn result(&self) -> Result<(), InvalidateError> {
        match self.failures.first {
            None => Ok(()),
            Some(first) => Err(InvalidateError { first, failed: self.failures.count }),
        }
    }
}

/// Entries that a run has passed, its commands, and whether the room ended before the run.
type Filled = (usize, usize, bool);

// Both out of line: the loops are the same for every sink, and beside a walk they had too few
// registers.

#[inline(never)]
fn fill_with_tags(
    room: &mut [RawCommand],
    entries: &[InvEntry],
    first: Head,
    aux: u32,
    template: Template,
) -> Filled {
    let is_of_run = |entry: &InvEntry| entry.aux() == aux;
    fill(room, entries, first, is_of_run, |head, _| template.tagged(head))
}

#[inline(never)]
fn fill_with_substreams(
    room: &mut [RawCommand],
    entries: &[InvEntry],
    first: Head,
    template: Template,
) -> Filled {
    fill(room, entries, first, |_| true, |head, entry| template.with_substream(head, entry))
}

/// Puts the command of each entry of a run into `room`: the first entries that have the SMMU and kind
/// of `first`.
#[inline(always)]
fn fill(
    room: &mut [RawCommand],
    entries: &[InvEntry],
    first: Head,
    is_of_run: impl Fn(&InvEntry) -> bool,
    command: impl Fn(Head, &InvEntry) -> RawCommand,
) -> Filled {
    let most = room.len();
    let mut slots = room.iter_mut();
    for (seen, entry) in entries.iter().enumerate() {
        let head = entry.head();
        if !head.is_beside(first) || !is_of_run(entry) {
            return (seen, most - slots.len(), false);
        }
        if !head.is_trash() {
            let Some(slot) = slots.next() else { return (seen, most, true) };
            *slot = command(head, entry);
        }
    }
    (entries.len(), most - slots.len(), false)
}

#[derive(Default)]
struct Failures {
    first: Option<SinkError>,
    smmus: [SmmuId; FAILURES],
    count: u32,
}

impl Failures {
    #[inline(always)]
    fn contains(&self, smmu: SmmuId) -> bool {
        self.count > 0 && self.has(smmu)
    }

    #[cold]
    fn has(&self, smmu: SmmuId) -> bool {
        self.smmus.iter().take(self.count as usize).any(|&failed| failed == smmu)
    }

    /// `false` if the SMMU had failed before.
    pub(super) fn add(&mut self, smmu: SmmuId, error: SinkError) -> bool {
        self.first.get_or_insert(error);
        if self.contains(smmu) {
            return false;
        }
        if let Some(slot) = self.smmus.get_mut(self.count as usize) {
            *slot = smmu;
        }
        self.count = self.count.saturating_add(1);
        true
    }
}
