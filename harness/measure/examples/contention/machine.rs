//! Cores, and the cache lines that move between them, in simulated time.
//!
//! - A core does one access at a time, and goes on when the access is done.
//! - A core that holds a line loads from it at a local cost. A core that is its only holder also
//!   stores and does read-modify-writes at a local cost.
//! - Every other access moves the line: a load gets a copy, a write takes the line from all others.
//!   A line makes one move at a time. Cores that ask meanwhile are served in their order.
//! - A core keeps a line until the write for which it came is done. With the chance
//!   [`Costs::stay_permille`] it keeps it for [`Costs::stay`] more, enough for a second access.
//!
//! Programs are async functions: each access is awaited, and the machine resumes the program when
//! the access is done. Nothing depends on the host, so a seed gives the same run everywhere.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Picoseconds.
pub(crate) type Time = u64;

/// A nanosecond.
pub(crate) const NS: Time = 1000;

/// What an access costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Costs {
    /// A load or store of a line that the core holds.
    pub(crate) local: Time,
    /// A read-modify-write of a line that the core alone holds.
    pub(crate) update: Time,
    /// A move of a line from core to core.
    pub(crate) line: Time,
    /// Cores per socket; 0: all cores are in one.
    pub(crate) socket: usize,
    /// A move of a line to another socket.
    pub(crate) socket_line: Time,
    /// An access to a register of the SMMU.
    pub(crate) register: Time,
    /// A spin hint.
    pub(crate) pause: Time,
    /// The instructions of a call beside its accesses.
    pub(crate) call: Time,
    /// The instructions for each command of a call.
    pub(crate) command: Time,
    /// How long a line may stay beyond the write for which it moved.
    pub(crate) stay: Time,
    /// How many of 1000 lines stay so long.
    pub(crate) stay_permille: u64,
}

/// A word in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(usize);

/// A cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineId(usize);

/// What an access does to its word.
#[derive(Clone, Copy, Debug)]
enum Change {
    Load,
    Store(u64),
    Swap(u64),
    Add(u64),
    AndNot(u64),
    Xor(u64),
    Exchange { from: u64, to: u64 },
}

impl Change {
    fn of(self, old: u64) -> u64 {
        match self {
            Change::Load => old,
            Change::Store(new) | Change::Swap(new) => new,
            Change::Add(by) => old.wrapping_add(by),
            Change::AndNot(bits) => old & !bits,
            Change::Xor(bits) => old ^ bits,
            Change::Exchange { from, to } => {
                if old == from {
                    to
                } else {
                    old
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Request {
    core: usize,
    word: Word,
    change: Change,
}

#[derive(Debug)]
struct Line {
    name: &'static str,
    /// Cores that wait for the line, the first one first.
    waiting: VecDeque<Request>,
    /// The next move begins no sooner.
    free_at: Time,
    /// The line moves, or an event at `free_at` starts the next move.
    is_due: bool,
    /// The only holder.
    sole: Option<usize>,
    /// Where the line came last.
    last: Option<usize>,
    /// Counts the writes that took the line from others. A core holds a copy if its entry in
    /// `copies` is this number.
    version: u32,
    copies: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The core's access is done.
    Resume(usize),
    /// A line has arrived at the core that asked.
    Arrive(LineId, Request),
    /// A line may make its next move.
    Free(LineId),
}

#[derive(Debug)]
struct State {
    costs: Costs,
    now: Time,
    events: BTreeMap<(Time, u64), Event>,
    scheduled: u64,
    lines: Vec<Line>,
    /// The line and the value of each word.
    words: Vec<(LineId, u64)>,
    /// What each core's last access returned.
    results: Vec<u64>,
    random: u64,
    /// Moves are counted in this time.
    counted: std::ops::Range<Time>,
    moves: BTreeMap<&'static str, u64>,
}

/// The machine; see the module.
#[derive(Debug)]
pub(crate) struct Machine(RefCell<State>);

/// A core did not come to its end in time: it spins for ever, or waits for another that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stuck {
    /// How many cores have not ended.
    pub(crate) cores: usize,
    /// When the machine stopped, in picoseconds.
    pub(crate) at: Time,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stuck { cores, at } = self;
        write!(
            f,
            "{cores} cores have not ended after {} simulated ns: this strategy deadlocks",
            at / NS
        )
    }
}

impl std::error::Error for Stuck {}

/// What a core runs.
pub(crate) type Program = Pin<Box<dyn Future<Output = ()>>>;

impl Machine {
    /// A machine without lines. `seed` decides how long cores think, and which lines stay.
    pub(crate) fn new(cores: usize, costs: Costs, seed: u64) -> Rc<Machine> {
        Rc::new(Machine(RefCell::new(State {
            costs,
            now: 0,
            events: BTreeMap::new(),
            scheduled: 0,
            lines: Vec::new(),
            words: Vec::new(),
            results: vec![0; cores],
            random: seed,
            counted: 0..Time::MAX,
            moves: BTreeMap::new(),
        })))
    }

    /// A line that no core holds. `name` is for the report.
    pub(crate) fn line(&self, name: &'static str) -> LineId {
        let state = &mut *self.0.borrow_mut();
        state.lines.push(Line {
            name,
            waiting: VecDeque::new(),
            free_at: 0,
            is_due: false,
            sole: None,
            last: None,
            version: 1,
            copies: vec![0; state.results.len()],
        });
        LineId(state.lines.len() - 1)
    }

    /// A word of a line.
    pub(crate) fn word(&self, line: LineId, value: u64) -> Word {
        let words = &mut self.0.borrow_mut().words;
        words.push((line, value));
        Word(words.len() - 1)
    }

    /// `count` words, `per_line` of them in a line.
    pub(crate) fn words(&self, name: &'static str, count: u64, per_line: u64) -> Vec<Word> {
        let mut line = None;
        (0..count)
            .map(|at| {
                let fresh = at % per_line == 0;
                let line = *line.insert(match line {
                    Some(line) if !fresh => line,
                    _ => self.line(name),
                });
                self.word(line, 0)
            })
            .collect()
    }

    /// The value of a word, for a device: no cache line moves.
    pub(crate) fn peek(&self, word: Word) -> u64 {
        self.0.borrow().words[word.0].1
    }

    pub(crate) fn now(&self) -> Time {
        self.0.borrow().now
    }

    /// Count moves only in this time.
    pub(crate) fn count_during(&self, time: std::ops::Range<Time>) {
        self.0.borrow_mut().counted = time;
    }

    /// The counted moves of the lines of each name.
    pub(crate) fn moves(&self) -> BTreeMap<&'static str, u64> {
        self.0.borrow().moves.clone()
    }

    /// A core, for the program that it runs.
    pub(crate) fn core(self: &Rc<Self>, id: usize) -> Core {
        Core { id, machine: Rc::clone(self) }
    }

    /// Run one program per core to their ends.
    ///
    /// # Errors
    ///
    /// [`Stuck`] if one has not ended by `limit`.
    pub(crate) fn run(&self, programs: Vec<Program>, limit: Time) -> Result<(), Stuck> {
        let mut programs: Vec<Option<Program>> = programs.into_iter().map(Some).collect();
        let mut left = programs.len();
        let mut context = Context::from_waker(Waker::noop());
        let mut resume = |core: usize| {
            let slot = &mut programs[core];
            let ended = slot.as_mut().is_some_and(|one| one.as_mut().poll(&mut context).is_ready());
            if ended {
                *slot = None;
            }
            ended
        };
        let ended_at_once = (0..left).filter(|&core| resume(core)).count();
        left -= ended_at_once;
        while left > 0 {
            let next = self.0.borrow_mut().next_event();
            let stuck = Stuck { cores: left, at: self.now() };
            let Some(event) = next.filter(|_| stuck.at <= limit) else { return Err(stuck) };
            match event {
                Event::Resume(core) => left -= usize::from(resume(core)),
                Event::Arrive(line, request) => self.0.borrow_mut().arrive(line, request),
                Event::Free(line) => self.0.borrow_mut().free(line),
            }
        }
        Ok(())
    }
}

impl State {
    fn schedule(&mut self, at: Time, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    fn next_event(&mut self) -> Option<Event> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// Xorshift with a multiplication (xorshift64*).
    fn random(&mut self) -> u64 {
        let mut x = self.random | 1 << 63;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random = x;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn request(&mut self, request: Request) {
        let id = self.words[request.word.0].0;
        let line = &mut self.lines[id.0];
        let is_sole = line.sole == Some(request.core);
        let held = match request.change {
            Change::Load => line.copies[request.core] == line.version,
            _ => is_sole,
        };
        // A line that others wait for leaves its only holder in time.
        if held && !(is_sole && !line.waiting.is_empty() && line.free_at <= self.now) {
            let done = self.carry_out(request);
            let line = &mut self.lines[id.0];
            if is_sole {
                line.free_at = line.free_at.max(done);
            }
            return;
        }
        line.waiting.push_back(request);
        if !line.is_due {
            line.is_due = true;
            let at = line.free_at.max(self.now);
            self.schedule(at, Event::Free(id));
        }
    }

    /// Do an access at the core that holds the line. Returns when it is done.
    fn carry_out(&mut self, request: Request) -> Time {
        let value = &mut self.words[request.word.0].1;
        self.results[request.core] = *value;
        *value = request.change.of(*value);
        let cost = match request.change {
            Change::Load | Change::Store(_) => self.costs.local,
            _ => self.costs.update,
        };
        let done = self.now + cost;
        self.schedule(done, Event::Resume(request.core));
        done
    }

    /// Begin a line's next move.
    fn free(&mut self, id: LineId) {
        let line = &mut self.lines[id.0];
        // Its holder may have used it once more.
        if line.free_at > self.now {
            let at = line.free_at;
            return self.schedule(at, Event::Free(id));
        }
        let Some(request) = line.waiting.pop_front() else {
            line.is_due = false;
            return;
        };
        line.sole = None;
        if !matches!(request.change, Change::Load) {
            line.version += 1;
        }
        let socket = self.costs.socket;
        let far =
            line.last.is_some_and(|last| socket > 0 && last / socket != request.core / socket);
        line.last = Some(request.core);
        if self.counted.contains(&self.now) {
            *self.moves.entry(line.name).or_insert(0) += 1;
        }
        let cost = if far { self.costs.socket_line } else { self.costs.line };
        self.schedule(self.now + cost, Event::Arrive(id, request));
    }

    fn arrive(&mut self, id: LineId, request: Request) {
        let done = self.carry_out(request);
        let line = &mut self.lines[id.0];
        line.copies[request.core] = line.version;
        line.free_at = self.now;
        if !matches!(request.change, Change::Load) {
            line.sole = Some(request.core);
            line.free_at = done;
            if self.random() % 1000 < self.costs.stay_permille {
                self.lines[id.0].free_at += self.costs.stay;
            }
        }
        let at = self.lines[id.0].free_at;
        self.schedule(at, Event::Free(id));
    }
}

/// A core, as its program sees it.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    pub(crate) id: usize,
    machine: Rc<Machine>,
}

/// An access, or a time to pass.
struct Step<'c> {
    core: &'c Core,
    begin: Option<Begin>,
}

enum Begin {
    Access(Word, Change),
    Pass(Time),
}

impl Future for Step<'_> {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u64> {
        let core = self.core.id;
        let state = &mut *self.core.machine.0.borrow_mut();
        match self.begin.take() {
            Some(Begin::Access(word, change)) => state.request(Request { core, word, change }),
            Some(Begin::Pass(time)) => {
                let at = state.now + time;
                state.schedule(at, Event::Resume(core));
            }
            // The machine polls a program only when its access is done.
            None => return Poll::Ready(state.results[core]),
        }
        Poll::Pending
    }
}

impl Core {
    fn access(&self, word: Word, change: Change) -> Step<'_> {
        Step { core: self, begin: Some(Begin::Access(word, change)) }
    }

    pub(crate) async fn load(&self, word: Word) -> u64 {
        self.access(word, Change::Load).await
    }

    pub(crate) async fn store(&self, word: Word, value: u64) {
        self.access(word, Change::Store(value)).await;
    }

    pub(crate) async fn swap(&self, word: Word, value: u64) -> u64 {
        self.access(word, Change::Swap(value)).await
    }

    /// Add, and return what was there. Wraps, so that it also subtracts.
    pub(crate) async fn fetch_add(&self, word: Word, by: u64) -> u64 {
        self.access(word, Change::Add(by)).await
    }

    pub(crate) async fn fetch_and_not(&self, word: Word, bits: u64) -> u64 {
        self.access(word, Change::AndNot(bits)).await
    }

    pub(crate) async fn fetch_xor(&self, word: Word, bits: u64) -> u64 {
        self.access(word, Change::Xor(bits)).await
    }

    /// Returns what was there, as an error if it was not `from`. A failed one takes the line too.
    pub(crate) async fn compare_exchange(
        &self,
        word: Word,
        from: u64,
        to: u64,
    ) -> Result<u64, u64> {
        let seen = self.access(word, Change::Exchange { from, to }).await;
        if seen == from { Ok(seen) } else { Err(seen) }
    }

    /// Access a register of the SMMU.
    pub(crate) async fn register(&self) {
        self.pass(self.costs().register).await;
    }

    /// `count` spin hints.
    pub(crate) async fn pause(&self, count: u64) {
        self.pass(self.costs().pause * count).await;
    }

    /// Let time pass.
    pub(crate) async fn pass(&self, time: Time) {
        Step { core: self, begin: Some(Begin::Pass(time)) }.await;
    }

    pub(crate) fn costs(&self) -> Costs {
        self.machine.0.borrow().costs
    }

    pub(crate) fn now(&self) -> Time {
        self.machine.now()
    }

    /// As [`Machine::peek`].
    pub(crate) fn peek(&self, word: Word) -> u64 {
        self.machine.peek(word)
    }

    /// A random number below `bound`; 0 for the bound 0.
    pub(crate) fn random_below(&self, bound: u64) -> u64 {
        self.machine.0.borrow_mut().random().checked_rem(bound).unwrap_or(0)
    }
}
