//! A caller: what it queues, and what each wait returns.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use smmu_cmdq::{CommandQueue, Pushed, SyncTicket};
use smmu_types::Command;
use smmu_types::seam::{SinkError, StdWait, Wait};

use crate::commands::{CommandKind, MarkedCommand};
use crate::device::{StressRegisters, StressSmmu};
use crate::memory::{PAGES, StressRing};
use crate::random::XorShift;

pub(crate) type StressQueue<'d, const CELLS: usize> =
    CommandQueue<&'d StressRegisters, StressRing<'d>, EventCountingClock<'d>, CELLS>;

/// The clock of the standard library, with a count of the waits for an event.
pub(crate) struct EventCountingClock<'d> {
    pub(crate) std: StdWait,
    pub(crate) events: &'d AtomicU64,
}

impl Wait for EventCountingClock<'_> {
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
pub(crate) struct QueuedCall {
    /// The numbers of its commands, as the caller counts them.
    pub(crate) numbers: Range<u64>,
    /// Their positions with the `CMD_SYNC`, if the call has a ticket.
    pub(crate) positions: Option<Range<u64>>,
}

/// The result of one wait.
#[derive(Debug)]
pub(crate) struct TicketResult {
    /// The numbers of the calls that the ticket stands for. The last has the `CMD_SYNC`.
    pub(crate) calls: Range<u64>,
    pub(crate) returned: Result<(), SinkError>,
    /// The number of times that the SMMU touched the ticket's page.
    pub(crate) touched: u64,
    /// The number of commands of all callers that had failed until then.
    pub(crate) failed: usize,
}

impl TicketResult {
    pub(crate) fn is_crowded(&self) -> bool {
        matches!(self.returned, Err(SinkError::TooManyFailures { .. }))
    }
}

#[derive(Debug, Default)]
pub(crate) struct CallerReport {
    pub(crate) calls: Vec<QueuedCall>,
    pub(crate) results: Vec<TicketResult>,
}

/// How a caller works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallerHabits {
    /// The number of commands that the caller queues.
    pub(crate) commands: u64,
    /// The longest batch.
    pub(crate) longest: u64,
    /// One in so many commands is illegal, and one in so many is an `ATC_INV` that times out.
    pub(crate) failures: u64,
}

struct HeldTicket {
    ticket: SyncTicket,
    calls: Range<u64>,
    page: usize,
}

pub(crate) struct Caller<'c, 'd, const CELLS: usize> {
    queue: &'c StressQueue<'d, CELLS>,
    device: &'d StressSmmu<'d>,
    caller: usize,
    habits: CallerHabits,
    random: XorShift,
    report: CallerReport,
    number: u64,
    held: Vec<HeldTicket>,
    pushed: Option<(Pushed, u64, usize)>,
    pages: Vec<usize>,
    forgotten: usize,
}

impl<'c, 'd, const CELLS: usize> Caller<'c, 'd, CELLS> {
    pub(crate) fn new(
        queue: &'c StressQueue<'d, CELLS>,
        device: &'d StressSmmu<'d>,
        caller: usize,
        habits: CallerHabits,
        random: XorShift,
    ) -> Self {
        Caller {
            queue,
            device,
            caller,
            habits,
            random,
            report: CallerReport::default(),
            number: 0,
            held: Vec::new(),
            pushed: None,
            pages: (0..PAGES).collect(),
            forgotten: 0,
        }
    }

    pub(crate) fn work(mut self) -> CallerReport {
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

    /// Queue `length` commands in one piece. After all other callers, no room may be lost.
    pub(crate) fn fill_the_ring(mut self, length: u64) -> CallerReport {
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
                    _ if self.random.once_in(self.habits.failures) => CommandKind::Illegal,
                    MayBeAtc::Yes if self.random.once_in(self.habits.failures) => {
                        CommandKind::AtcLate
                    }
                    MayBeAtc::Yes if self.random.once_in(4) => CommandKind::Atc,
                    _ => CommandKind::Good,
                };
                MarkedCommand { what, caller: self.caller, page, number, call }.command()
            })
            .collect()
    }

    fn called(&mut self, commands: &[Command], positions: Option<Range<u64>>) {
        let numbers = self.number - commands.len() as u64..self.number;
        self.report.calls.push(QueuedCall { numbers, positions });
    }

    fn hold(&mut self, ticket: SyncTicket, first: u64, page: usize, commands: &[Command]) {
        let positions = ticket.positions();
        self.called(commands, Some(positions.start.0..positions.end.0));
        let calls = first..self.report.calls.len() as u64;
        self.held.push(HeldTicket { ticket, calls, page });
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
        // A ticket of its own for the pushed commands.
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

    fn wait(&mut self, HeldTicket { ticket, calls, page }: HeldTicket) {
        let returned = self.queue.wait(ticket).map(|_proof| ());
        if let Err(error @ (SinkError::Timeout { .. } | SinkError::Lost { .. })) = returned {
            panic!("{error}");
        }
        // SAFETY: the CMD_SYNC behind all of the ticket's commands is complete, so the SMMU is done
        // with the page.
        let touched = unsafe { self.device.memory.take(self.caller, page) };
        self.pages.push(page);
        let failed = self.device.registers.failed.load(Relaxed) as usize;
        self.report.results.push(TicketResult { calls, returned, touched, failed });
    }

    /// Drop a ticket. Its page is not used again, since the SMMU may still touch it.
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
