//! What a caller does, and what it was told.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use smmu_cmdq::{CommandQueue, Pushed, Reserve, SyncTicket};
use smmu_types::Command;
use smmu_types::seam::{SinkError, StdWait, Wait};

use crate::commands::{Marked, What};
use crate::device::{Device, Registry};
use crate::memory::{PAGES, Ring};
use crate::random::Random;

pub(crate) type Queue<'d, S, const CELLS: usize> =
    CommandQueue<&'d Registry, Ring<'d>, Clock<'d>, S, CELLS>;

/// The clock of the standard library, and how often an event was waited for.
pub(crate) struct Clock<'d> {
    pub(crate) std: StdWait,
    pub(crate) events: &'d AtomicU64,
}

impl Wait for Clock<'_> {
    fn now(&self) -> Duration {
        self.std.now()
    }

    fn relax(&self, round: u32) {
        self.std.relax(round);
    }

    fn event(&self, round: u32) {
        self.events.fetch_add(1, Relaxed);
        self.std.relax(round);
    }
}

/// One call that queued commands.
#[derive(Debug)]
pub(crate) struct Call {
    /// The numbers of its commands.
    pub(crate) numbers: Range<u64>,
    /// Where they lie, with their `CMD_SYNC`, if they have one.
    pub(crate) positions: Option<Range<u64>>,
}

/// What the waiter of one `CMD_SYNC` was told.
#[derive(Debug)]
pub(crate) struct Told {
    /// The calls that it stands for, as numbers; the last has the `CMD_SYNC`.
    pub(crate) calls: Range<u64>,
    pub(crate) result: Result<(), SinkError>,
    /// How often the SMMU touched its page.
    pub(crate) touched: u64,
    /// How many commands had failed until then, whosever.
    pub(crate) failed: usize,
}

impl Told {
    pub(crate) fn is_crowded(&self) -> bool {
        matches!(self.result, Err(SinkError::TooManyFailures { .. }))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) calls: Vec<Call>,
    pub(crate) told: Vec<Told>,
}

/// What callers do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// How many commands each queues.
    pub(crate) commands: u64,
    /// The longest batch.
    pub(crate) longest: u64,
    /// One in so many commands is illegal, and one in so many an `ATC_INV` that comes to nothing.
    pub(crate) failures: u64,
}

struct Held {
    ticket: SyncTicket,
    calls: Range<u64>,
    page: usize,
}

pub(crate) struct Caller<'c, 'd, S: Reserve, const CELLS: usize> {
    queue: &'c Queue<'d, S, CELLS>,
    device: &'d Device<'d>,
    caller: usize,
    habits: Habits,
    random: Random,
    report: Report,
    number: u64,
    held: Vec<Held>,
    pushed: Option<(Pushed, u64, usize)>,
    pages: Vec<usize>,
    forgotten: usize,
}

impl<'c, 'd, S: Reserve, const CELLS: usize> Caller<'c, 'd, S, CELLS> {
    pub(crate) fn new(
        queue: &'c Queue<'d, S, CELLS>,
        device: &'d Device<'d>,
        caller: usize,
        habits: Habits,
        random: Random,
    ) -> Self {
        Caller {
            queue,
            device,
            caller,
            habits,
            random,
            report: Report::default(),
            number: 0,
            held: Vec::new(),
            pushed: None,
            pages: (0..PAGES).collect(),
            forgotten: 0,
        }
    }

    pub(crate) fn work(mut self) -> Report {
        while self.number < self.habits.commands {
            match self.random.below(16) {
                0..3 => self.push(),
                3..5 => self.prove(),
                5..9 => self.issue(),
                9..12 => {
                    self.issue();
                    let last = self.held.pop();
                    last.into_iter().for_each(|held| self.wait(held));
                }
                12 if self.random.once_in(8) => self.forget(),
                _ => self.wait_for_any(),
            }
        }
        self.prove();
        while !self.held.is_empty() {
            self.wait_for_any();
        }
        self.report
    }

    /// When all others have gone, there is room for as many commands as ever, at once.
    pub(crate) fn fill_the_ring(mut self, length: u64) -> Report {
        let page = self.page();
        let commands = self.commands(page, MayBeAtc::No, length);
        let issued = self.queue.issue(&commands);
        self.hold(issued.unwrap_or_else(|error| panic!("{error}")), 0, page, &commands);
        self.wait_for_any();
        self.report
    }

    fn batch(&mut self, page: usize, may_be_atc: MayBeAtc) -> Vec<Command> {
        let length = match self.random.below(32) {
            0..20 => self.random.below(4),
            20..31 => self.random.below(self.habits.longest.min(40) + 1),
            _ => self.random.below(self.habits.longest + 1),
        };
        self.commands(page, may_be_atc, length)
    }

    fn commands(&mut self, page: usize, may_be_atc: MayBeAtc, length: u64) -> Vec<Command> {
        let call = self.report.calls.len() as u64;
        let first = self.number;
        self.number += length;
        (first..self.number)
            .map(|number| {
                let what = match may_be_atc {
                    _ if self.random.once_in(self.habits.failures) => What::Illegal,
                    MayBeAtc::Yes if self.random.once_in(self.habits.failures) => What::AtcLate,
                    MayBeAtc::Yes if self.random.once_in(4) => What::Atc,
                    _ => What::Good,
                };
                Marked { what, caller: self.caller, page, number, call }.command()
            })
            .collect()
    }

    fn called(&mut self, commands: &[Command], positions: Option<Range<u64>>) {
        let numbers = self.number - commands.len() as u64..self.number;
        self.report.calls.push(Call { numbers, positions });
    }

    fn hold(&mut self, ticket: SyncTicket, first: u64, page: usize, commands: &[Command]) {
        let positions = ticket.positions();
        self.called(commands, Some(positions.start.0..positions.end.0));
        let calls = first..self.report.calls.len() as u64;
        self.held.push(Held { ticket, calls, page });
    }

    fn page(&mut self) -> usize {
        loop {
            if let Some(page) = self.pages.pop() {
                return page;
            }
            self.wait_for_any();
        }
    }

    fn push(&mut self) {
        let (pushed, first, page) = match self.pushed.take() {
            Some((pushed, first, page)) => (Some(pushed), first, page),
            None => (None, self.report.calls.len() as u64, self.page()),
        };
        let commands = self.batch(page, MayBeAtc::No);
        let pushed = self.queue.push(pushed, &commands).unwrap_or_else(|error| panic!("{error}"));
        self.called(&commands, None);
        self.pushed = Some((pushed, first, page));
    }

    fn prove(&mut self) {
        let Some((pushed, first, page)) = self.pushed.take() else { return };
        let commands = self.batch(page, MayBeAtc::Yes);
        let proven = self.queue.prove(pushed, &commands);
        self.hold(proven.unwrap_or_else(|error| panic!("{error}")), first, page, &commands);
    }

    fn issue(&mut self) {
        // Commands that are pushed stand for themselves until they are proven.
        self.prove();
        let (first, page) = (self.report.calls.len() as u64, self.page());
        let commands = self.batch(page, MayBeAtc::Yes);
        let issued = self.queue.issue(&commands);
        self.hold(issued.unwrap_or_else(|error| panic!("{error}")), first, page, &commands);
    }

    fn wait_for_any(&mut self) {
        if !self.held.is_empty() {
            let at = self.random.below(self.held.len() as u64) as usize;
            let held = self.held.swap_remove(at);
            self.wait(held);
        }
    }

    fn wait(&mut self, Held { ticket, calls, page }: Held) {
        let result = self.queue.wait(ticket).map(|_proof| ());
        if let Err(error @ (SinkError::Timeout { .. } | SinkError::Lost { .. })) = result {
            panic!("{error}");
        }
        // SAFETY: the CMD_SYNC behind all of the ticket's commands is complete, whatever became of them.
        let touched = unsafe { self.device.memory.take(self.caller, page) };
        self.pages.push(page);
        let failed = self.device.registry.failed.load(Relaxed) as usize;
        self.report.told.push(Told { calls, result, touched, failed });
    }

    /// Let a ticket go, and its page with it, which the SMMU may yet touch.
    fn forget(&mut self) {
        if self.forgotten < PAGES / 2 && self.held.pop().is_some() {
            self.forgotten += 1;
        }
    }
}

#[derive(Clone, Copy)]
enum MayBeAtc {
    Yes,
    No,
}
