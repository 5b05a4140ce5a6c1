//! One run: cores that push and think, on one or more queues.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::machine::{Costs, Machine, NS, Program, Stuck, Time};
use crate::smmu::{Batch, Fault, Registers, Ring};
use crate::strategies::{Queue, Strategy, Tries};

/// Simulated time before the measurement, and the measured time.
const WARM_UP: Time = 100_000 * NS;
const MEASURED: Time = 1_000_000 * NS;
/// Time for calls that are under way to end.
const LIMIT: Time = 100_000_000 * NS;

/// What the cores do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) cores: usize,
    pub(crate) queues: usize,
    /// The mean time between two calls of a core. Each time is random, from 0 to twice the mean.
    pub(crate) think: Time,
    /// Commands of a call, without the `CMD_SYNC`.
    pub(crate) batch: u64,
    /// Each call ends with a `CMD_SYNC`, and waits for it.
    pub(crate) sync: bool,
    pub(crate) seed: u64,
    pub(crate) registers: Registers,
    /// Stop after so many calls of each core. `None`: after the measured time.
    pub(crate) calls: Option<u64>,
}

/// What a run has shown.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Calls in the measured time.
    pub(crate) calls: u64,
    pub(crate) measured: Time,
    /// Moves of lines, by name.
    pub(crate) moves: BTreeMap<&'static str, u64>,
    pub(crate) tries: Tries,
    /// Calls of the slowest and of the fastest core.
    pub(crate) slowest: u64,
    pub(crate) fastest: u64,
}

/// Why a run has no outcome: the strategy is wrong, or its program here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Stuck(Stuck),
    Fault(Fault),
    /// A core's calls did not all reach the SMMU.
    Lost {
        core: usize,
        called: u64,
        reached: u64,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Stuck(stuck) => stuck.fmt(f),
            Broken::Fault(fault) => fault.fmt(f),
            Broken::Lost { core, called, reached } => {
                write!(f, "core {core} made {called} calls, and {reached} reached the SMMU")
            }
        }
    }
}

impl std::error::Error for Broken {}

impl Outcome {
    /// Calls per microsecond.
    pub(crate) fn rate(&self) -> f64 {
        self.calls as f64 * 1000.0 * NS as f64 / self.measured.max(1) as f64
    }

    /// Nanoseconds for a call: time divided by the calls of all cores.
    pub(crate) fn nanoseconds(&self) -> f64 {
        1000.0 / self.rate()
    }

    /// Moves of lines per call.
    pub(crate) fn moved(&self) -> f64 {
        self.moves.values().sum::<u64>() as f64 / self.calls.max(1) as f64
    }

    /// The share of compare-exchanges that reserved; `None` if there was none.
    pub(crate) fn succeeded(&self) -> Option<f64> {
        let Tries { tried, succeeded } = self.tries;
        (tried > 0).then(|| succeeded as f64 / tried as f64)
    }

    /// Calls of the slowest core for one of the fastest.
    pub(crate) fn fairness(&self) -> f64 {
        self.slowest as f64 / self.fastest.max(1) as f64
    }
}

#[derive(Debug, Default)]
struct Counts {
    /// All calls, and those that ended in the measured time.
    made: u64,
    measured: u64,
    tries: Tries,
}

/// Run a strategy. The run checks that the SMMU gets each command once, in order, without gaps.
///
/// # Errors
///
/// [`Broken`], which no strategy here is.
pub(crate) fn simulate(strategy: Strategy, costs: Costs, load: Load) -> Result<Outcome, Broken> {
    let machine = Machine::new(load.cores, costs, load.seed);
    let measured = match load.calls {
        Some(_) => 0..LIMIT,
        None => WARM_UP..WARM_UP + MEASURED,
    };
    machine.count_during(measured.clone());
    let count = load.batch + u64::from(load.sync);
    let queues: Rc<Vec<Queue>> = Rc::new(
        (0..load.queues)
            .map(|_| Ring::new(&machine, load.registers, load.cores, count))
            .map(|ring| Queue::new(strategy, &machine, ring))
            .collect(),
    );
    let counts: Rc<RefCell<Vec<Counts>>> = Rc::default();
    counts.borrow_mut().resize_with(load.cores, Counts::default);
    let program = |id: usize| -> Program {
        let (core, queues, counts) = (machine.core(id), Rc::clone(&queues), Rc::clone(&counts));
        let (measured, calls) = (measured.clone(), load.calls.unwrap_or(u64::MAX));
        Box::pin(async move {
            let queue = &queues[id % queues.len()];
            for call in 0..calls {
                if core.now() >= measured.end {
                    break;
                }
                core.pass(core.random_below(2 * load.think) + core.costs().call).await;
                let tries = queue.push(&core, Batch { core: id, call, count }, load.sync).await;
                let counts = &mut counts.borrow_mut()[id];
                counts.made += 1;
                if measured.contains(&core.now()) {
                    counts.measured += 1;
                    counts.tries.tried += tries.tried;
                    counts.tries.succeeded += tries.succeeded;
                }
            }
        })
    };
    machine.run((0..load.cores).map(program).collect(), LIMIT).map_err(Broken::Stuck)?;
    let counts = counts.borrow();
    for (id, queue) in queues.iter().enumerate() {
        let ring = queue.ring();
        if let Some(fault) = ring.fault() {
            return Err(Broken::Fault(fault));
        }
        let calls = ring.calls();
        for core in (id..load.cores).step_by(load.queues) {
            let (called, reached) = (counts[core].made, calls[core]);
            if called != reached {
                return Err(Broken::Lost { core, called, reached });
            }
        }
    }
    let each = || counts.iter().map(|count| count.measured);
    Ok(Outcome {
        calls: each().sum(),
        measured: measured.end.min(machine.now()) - measured.start,
        moves: machine.moves(),
        tries: Tries {
            tried: counts.iter().map(|count| count.tries.tried).sum(),
            succeeded: counts.iter().map(|count| count.tries.succeeded).sum(),
        },
        slowest: each().min().unwrap_or(0),
        fastest: each().max().unwrap_or(0),
    })
}
