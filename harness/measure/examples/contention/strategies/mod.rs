//! The ways to push, by name. Each is a program of accesses, step by step as in the code it mirrors.

mod linux;
mod locks;
mod ours;
mod reserve;

use crate::machine::{Core, Machine};
use crate::smmu::{Batch, Ring};

use linux::Linux;
use locks::{Lock, Locked};
use ours::Ours;
use reserve::{Adds, First, Reservation, Retry};

/// A way to push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// Ours: a compare-exchange of a word that holds the position and the room; after a lost one a
    /// fetch-add on it.
    OneWord,
    /// As ours, but the fetch-add at once.
    OneWordAdd,
    /// As ours, but a load and a compare-exchange reserve.
    Exchange,
    /// As ours, but two fetch-adds reserve, behind a load.
    FetchAdd,
    /// Linux's queue.
    Linux,
    /// A ticket lock around a plain ring; a waiter backs off in proportion to those before it.
    TicketLock,
    /// A test-and-test-and-set lock around a plain ring.
    SpinLock,
    /// As `Exchange`, but it tries again at once with the value that the lost attempt returned.
    ExchangeReturned,
    /// As `ExchangeReturned`, with a pause in proportion to the attempts lost.
    ExchangeProportional,
    /// As `FetchAdd`, without the load before it.
    FetchAddBlind,
    /// As `FetchAddBlind`, with `free` in a line of its own.
    FetchAddTwoLines,
}

/// Counts of one core.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    /// Attempts to reserve by a compare-exchange.
    pub(crate) tried: u64,
    pub(crate) succeeded: u64,
}

impl Strategy {
    pub(crate) const ALL: [Strategy; 11] = [
        Strategy::OneWord,
        Strategy::Linux,
        Strategy::Exchange,
        Strategy::FetchAdd,
        Strategy::TicketLock,
        Strategy::SpinLock,
        Strategy::ExchangeReturned,
        Strategy::ExchangeProportional,
        Strategy::FetchAddBlind,
        Strategy::FetchAddTwoLines,
        Strategy::OneWordAdd,
    ];

    /// The name on the command line and in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Strategy::OneWord => "one-word",
            Strategy::OneWordAdd => "one-word-add",
            Strategy::Exchange => "exchange",
            Strategy::FetchAdd => "fetch-add",
            Strategy::Linux => "linux",
            Strategy::TicketLock => "ticket-lock",
            Strategy::SpinLock => "spin-lock",
            Strategy::ExchangeReturned => "exchange-returned",
            Strategy::ExchangeProportional => "exchange-proportional",
            Strategy::FetchAddBlind => "fetch-add-blind",
            Strategy::FetchAddTwoLines => "fetch-add-two-lines",
        }
    }

    pub(crate) const fn about(self) -> &'static str {
        match self {
            Strategy::OneWord => "ours: a word of room and position; exchange, else fetch-add",
            Strategy::OneWordAdd => "the same word, by a fetch-add at once",
            Strategy::Exchange => "a load and a compare-exchange; stands back after a lost one",
            Strategy::FetchAdd => "a load and two fetch-adds: room, then position",
            Strategy::Linux => "the queue of Linux's driver",
            Strategy::TicketLock => "a ticket lock around a plain ring, with proportional back-off",
            Strategy::SpinLock => "a test-and-test-and-set lock around a plain ring",
            Strategy::ExchangeReturned => "exchange, retried at once with the value it returned",
            Strategy::ExchangeProportional => "the same, with a pause per attempt lost",
            Strategy::FetchAddBlind => "fetch-add, without the load before it",
            Strategy::FetchAddTwoLines => "the same, with room and position in a line each",
        }
    }
}

/// A queue on the machine.
pub(crate) enum Queue {
    Ours(Ours),
    Linux(Linux),
    Locked(Locked),
}

impl Queue {
    /// A queue on an empty ring.
    pub(crate) fn new(strategy: Strategy, machine: &Machine, ring: Ring) -> Queue {
        let exchange = |retry| Reservation::CompareExchange(retry);
        let reservation = match strategy {
            Strategy::Exchange => exchange(Retry::StandBack),
            Strategy::ExchangeReturned => exchange(Retry::Returned),
            Strategy::ExchangeProportional => exchange(Retry::Proportional),
            Strategy::FetchAdd => Reservation::FetchAdd(Adds::BehindALook),
            Strategy::FetchAddBlind => Reservation::FetchAdd(Adds::AtOnce),
            Strategy::FetchAddTwoLines => Reservation::FetchAdd(Adds::AtOnceInTwoLines),
            Strategy::OneWord => Reservation::OneWord(First::Exchange),
            Strategy::OneWordAdd => Reservation::OneWord(First::Add),
            Strategy::Linux => return Queue::Linux(Linux::new(machine, ring)),
            Strategy::TicketLock => return Queue::Locked(Locked::new(machine, ring, Lock::Ticket)),
            Strategy::SpinLock => {
                return Queue::Locked(Locked::new(machine, ring, Lock::TestAndSet));
            }
        };
        Queue::Ours(Ours::new(machine, ring, reservation))
    }

    pub(crate) fn ring(&self) -> &Ring {
        match self {
            Queue::Ours(queue) => &queue.ring,
            Queue::Linux(queue) => &queue.ring,
            Queue::Locked(queue) => &queue.ring,
        }
    }

    /// Push a batch; with `sync` its last command is a `CMD_SYNC`, and the core waits for it.
    pub(crate) async fn push(&self, core: &Core, batch: Batch, sync: bool) -> Tries {
        match self {
            Queue::Ours(queue) => queue.push(core, batch, sync).await,
            Queue::Linux(queue) => queue.push(core, batch, sync).await,
            Queue::Locked(queue) => queue.push(core, batch, sync).await,
        }
    }
}
