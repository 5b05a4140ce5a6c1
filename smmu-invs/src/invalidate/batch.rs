//! Batches of a walk: the commands of the next batch, the tickets of issued ones, the failed SMMUs.

use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{Command, SmmuId};

use super::commands::{CommandTemplate, UseBuilder};
use super::phase::Phase;
use crate::inv_entry::{EntryOptions, Head, InvEntry};
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
    commands: &'s mut [Command],
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
        commands: &'s mut [Command],
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
        templates: impl Iterator<Item = CommandTemplate>,
        batch: &mut Batch,
    ) -> usize {
        let head = entry.head();
        if !head.is_trash() {
            for template in templates {
                if self.add(at, &template.command(head, entry), batch) == Added::Failed {
                    break;
                }
            }
        }
        at + 1
    }

    pub(super) fn add(&mut self, at: usize, command: &Command, batch: &mut Batch) -> Added {
        if batch.queued == self.commands.len() && self.make_room(batch) == Added::Failed {
            return Added::Failed;
        }
        let Some(slot) = self.commands.get_mut(batch.queued) else { return Added::Failed };
        *slot = *command;
        if batch.queued == 0 {
            batch.first = at;
        }
        batch.queued += 1;
        Added::Queued
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
                let pushed = self.sink.push(batch.smmu, self.pushed.take(), out);
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
        let commands = &self.commands[..queued];
        let issued = match pushed {
            None => self.sink.issue(batch.smmu, commands),
            Some(pushed) => self.sink.prove(pushed, commands),
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

/// The entries from `at` on that have the SMMU and kind of `head`, and `options`: a run, which gets
/// the same command for each entry.
pub(super) struct EntryRun<'r, 's, S: CommandSink + ?Sized> {
    pub(super) walk: &'r mut Walk<'s, S>,
    pub(super) batch: &'r mut Batch,
    pub(super) at: usize,
    pub(super) head: Head,
    pub(super) options: EntryOptions,
}

impl<S: CommandSink + ?Sized> UseBuilder for EntryRun<'_, '_, S> {
    /// The index behind the run.
    type Output = usize;

    /// Adds the command of each entry.
    #[inline(always)]
    fn use_builder(self, build: impl Fn(Head, &InvEntry) -> Command) -> usize {
        let EntryRun { walk, batch, mut at, head: first, options } = self;
        loop {
            let room = walk.commands.get_mut(batch.queued..).unwrap_or_default();
            let mut added = 0;
            let mut full = false;
            for entry in &walk.entries[at..] {
                let head = entry.head();
                if !head.is_beside(first) || entry.options(first.kind()) != options {
                    break;
                }
                if !head.is_trash() {
                    let Some(slot) = room.get_mut(added) else {
                        full = true;
                        break;
                    };
                    *slot = build(head, entry);
                    if added == 0 && batch.queued == 0 {
                        batch.first = at;
                    }
                    added += 1;
                }
                at += 1;
            }
            batch.queued += added;
            if !full || walk.make_room(batch) == Added::Failed {
                return at;
            }
        }
    }
}

#[derive(Default)]
struct Failures {
    first: Option<SinkError>,
    smmus: [SmmuId; FAILURES],
    count: u32,
}

impl Failures {
    #[inline]
    fn contains(&self, smmu: SmmuId) -> bool {
        self.count > 0 && self.smmus.iter().take(self.count as usize).any(|&failed| failed == smmu)
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
