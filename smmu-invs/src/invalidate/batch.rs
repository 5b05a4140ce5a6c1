//! Batches on their way: what is queued, what is waited for, and who has failed.

use smmu_types::range::SpanAddress;
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{Command, SmmuId};

use super::commands::{Name, Planned};
use super::phase::Phase;
use crate::entry::{Entry, Head};
use crate::{InvalidateError, SmmuFailure};

/// `CMD_SYNC`s on their way at once.
pub(super) const TICKETS: usize = 16;
/// Failed SMMUs that are told apart.
const FAILURES: usize = 16;

/// A `CMD_SYNC` on its way, and the first entry that it is for.
type Flying<T> = Option<(u32, T)>;

/// Commands for one SMMU that are not queued yet.
pub(super) struct Batch {
    smmu: SmmuId,
    phase: Phase,
    // The first entry that they are for.
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
    /// The SMMU has failed, and there is no point in more.
    Failed,
}

pub(super) struct Walk<'s, S: CommandSink + ?Sized> {
    entries: &'s [Entry],
    sink: &'s S,
    report: &'s mut dyn FnMut(SmmuFailure),
    commands: &'s mut [Command],
    // What the batch at hand has pushed.
    pushed: Option<S::Pushed>,
    tickets: [Flying<S::Ticket>; TICKETS],
    oldest: usize,
    flying: usize,
    failures: Failures,
}

impl<'s, S: CommandSink + ?Sized> Walk<'s, S> {
    #[inline]
    pub(super) fn new(
        entries: &'s [Entry],
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
            flying: 0,
            failures: Failures::default(),
        }
    }

    #[inline]
    pub(super) fn wait_all(&mut self) {
        while self.flying > 0 {
            self.wait_oldest();
        }
    }

    /// The next command is for `smmu`; `false` if that has failed.
    #[inline]
    pub(super) fn enter(&mut self, batch: &mut Batch, smmu: SmmuId) -> bool {
        if batch.smmu != smmu {
            self.issue(batch);
            batch.smmu = smmu;
        }
        !self.failures.contains(smmu)
    }

    /// Carry out a plan for an entry and those behind it that it is the plan of as well.
    #[inline]
    pub(super) fn tags<A: SpanAddress, N: Name>(
        &mut self,
        at: usize,
        entry: &Entry,
        plan: &Planned<A>,
        batch: &mut Batch,
        name: impl Fn(Head) -> N,
    ) -> usize {
        match plan {
            Planned::One(command) => {
                let options = entry.aux();
                let same = |entry: &Entry| entry.aux() == options;
                self.alike(at, entry.head(), same, command, batch, |head, _| name(head))
            }
            Planned::Many(spans, command) => {
                let head = entry.head();
                if !head.is_trash() {
                    for span in spans.clone() {
                        if self.add(at, &command(span), name(head), batch) == Added::Failed {
                            break;
                        }
                    }
                }
                at + 1
            }
        }
    }

    /// Add a command for each entry from `at` on that is of the first one's kind and `same`. Returns where the others
    /// begin.
    #[inline]
    pub(super) fn alike<N: Name>(
        &mut self,
        mut at: usize,
        first: Head,
        same: impl Fn(&Entry) -> bool,
        command: &Command,
        batch: &mut Batch,
        name: impl Fn(Head, &Entry) -> N,
    ) -> usize {
        loop {
            let room = self.commands.get_mut(batch.queued..).unwrap_or_default();
            let mut added = 0;
            let mut full = false;
            for entry in &self.entries[at..] {
                let head = entry.head();
                if !head.is_beside(first) || !same(entry) {
                    break;
                }
                if !head.is_trash() {
                    let Some(slot) = room.get_mut(added) else {
                        full = true;
                        break;
                    };
                    *slot = *command;
                    name(head, entry).put(slot);
                    if added == 0 && batch.queued == 0 {
                        batch.first = at;
                    }
                    added += 1;
                }
                at += 1;
            }
            batch.queued += added;
            if !full || self.make_room(batch) == Added::Failed {
                return at;
            }
        }
    }

    pub(super) fn add(
        &mut self,
        at: usize,
        command: &Command,
        name: impl Name,
        batch: &mut Batch,
    ) -> Added {
        if batch.queued == self.commands.len() && self.make_room(batch) == Added::Failed {
            return Added::Failed;
        }
        let Some(slot) = self.commands.get_mut(batch.queued) else { return Added::Failed };
        *slot = *command;
        name.put(slot);
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
                // One stays here: whatever becomes of the entries that follow, a `CMD_SYNC` will go out with it.
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

    /// Send what is queued, with a `CMD_SYNC`.
    #[inline]
    pub(super) fn issue(&mut self, batch: &mut Batch) {
        if batch.queued == 0 {
            return;
        }
        if self.flying == TICKETS {
            self.wait_oldest();
        }
        let queued = core::mem::take(&mut batch.queued);
        let pushed = self.pushed.take();
        // What was waited for may have been of this very SMMU.
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
                let place = (self.oldest + self.flying) % TICKETS;
                self.tickets[place] = Some((batch.first as u32, ticket));
                self.flying += 1;
            }
            Err(error) => self.fail(batch.smmu, batch.first, error),
        }
    }

    #[inline]
    fn wait_oldest(&mut self) {
        let ticket = self.tickets[self.oldest].take();
        self.oldest = (self.oldest + 1) % TICKETS;
        self.flying -= 1;
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

    /// `false` if it is known.
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
