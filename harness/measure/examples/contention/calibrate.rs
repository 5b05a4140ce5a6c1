//! Measures this machine and the real queue, and compares the simulation with them.

#[path = "../../../../smmu-cmdq/benches/instant/mod.rs"]
mod instant;

use std::error::Error;
use std::fmt::{self, Write as _};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use smmu_cmdq::SyncBy;
use smmu_measure::{line_handoff, nanoseconds, nanoseconds_together};
use smmu_types::{Asid, Command, Vmid};

use crate::machine::{Costs, Machine, NS, Program, Stuck, Time};
use crate::options::Options;
use crate::report::load;
use crate::simulate::{Broken, Load, simulate};
use crate::smmu::Registers;
use crate::strategies::Strategy;

/// The share of Linux's compare-exchanges that succeed on 64 cores: about 1 of 12 (J. Garry,
/// "iommu/arm-smmu-v3: Improve cmdq lock efficiency", 2020, on a server of HiSilicon).
pub(crate) const PUBLISHED: f64 = 1.0 / 12.0;
pub(crate) const PUBLISHED_CORES: usize = 64;

const COMMANDS: [Command; 16] = [Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(7) }; 16];
const CALLS: u64 = 1000;
/// The compared calls: threads, and commands of a call.
const CASES: [(usize, usize); 4] = [(1, 1), (1, 16), (2, 1), (2, 16)];
/// Operations of a round of one thread.
const ROUND: u64 = 100_000;
/// The mean time between calls. Without any, two simulated cores fall in step.
const JITTER: Time = 5 * NS;

/// Why this machine cannot calibrate the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CalibrateError {
    /// Two threads need a CPU each.
    OneCpu,
    /// The bench's queue cannot be made.
    NoQueue,
}

impl fmt::Display for CalibrateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CalibrateError::OneCpu => {
                "--calibrate: two threads need a CPU each, and this process may use one; allow it \
                 two, for example by taskset"
            }
            CalibrateError::NoQueue => {
                "--calibrate: CommandQueue refuses the ring of smmu-cmdq/benches/instant; make its \
                 size one that CommandQueue takes"
            }
        })
    }
}

impl Error for CalibrateError {}

/// What was measured, in nanoseconds.
struct Measured {
    handoff: f64,
    update: f64,
    load: f64,
    pause: f64,
}

fn measured() -> Measured {
    let word = AtomicU64::new(0);
    Measured {
        handoff: line_handoff(),
        update: each(|| {
            black_box(word.fetch_add(1, Ordering::AcqRel));
        }),
        load: each(|| {
            black_box(word.load(Ordering::Acquire));
        }),
        pause: each(std::hint::spin_loop),
    }
}

#[inline]
fn each(operation: impl Fn()) -> f64 {
    nanoseconds(ROUND, || (0..ROUND).for_each(|_| operation()))
}

fn picoseconds(nanoseconds: f64) -> Time {
    ((nanoseconds * NS as f64).round() as Time).max(1)
}

/// The simulated time of [`line_handoff`].
pub(crate) fn simulated_handoff(costs: Costs) -> Result<f64, Stuck> {
    const HANDOFFS: u64 = 1000;
    let machine = Machine::new(2, costs, 1);
    let word = machine.word(machine.line("word"), 0);
    let program = |id: usize| -> Program {
        let core = machine.core(id);
        Box::pin(async move {
            for _ in 0..HANDOFFS {
                while core.load(word).await % 2 != id as u64 {
                    core.pause(1).await;
                }
                core.fetch_add(word, 1).await;
            }
        })
    };
    machine.run((0..2).map(program).collect(), Time::MAX)?;
    Ok(machine.now() as f64 / NS as f64 / (2 * HANDOFFS) as f64)
}

/// The smallest `value` from 0 to `most` for which `reaches` holds; it holds for all above.
fn least(most: u64, mut reaches: impl FnMut(u64) -> Result<bool, Broken>) -> Result<u64, Broken> {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low.midpoint(high);
        if reaches(middle)? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}

/// The cost of a line's move with which the simulation has the measured time of a handoff.
pub(crate) fn line_for(handoff: f64, costs: Costs) -> Result<Time, Broken> {
    least(1000 * NS, |line| {
        let costs = Costs { line, socket_line: line, ..costs };
        Ok(simulated_handoff(costs).map_err(Broken::Stuck)? >= handoff)
    })
}

/// The real queue: nanoseconds of a call, divided by the calls of all threads.
fn real(threads: usize, batch: usize) -> Result<f64, CalibrateError> {
    let queue = instant::queue(SyncBy::Polling).ok_or(CalibrateError::NoQueue)?;
    Ok(nanoseconds_together(threads, CALLS, |_| {
        for _ in 0..CALLS {
            // The result says nothing about time, and no call fails here.
            let _ = black_box(&queue.push(None, black_box(&COMMANDS[..batch])));
        }
    }))
}

fn simulated(strategy: Strategy, costs: Costs, threads: usize, batch: u64) -> Result<f64, Broken> {
    let load = Load {
        cores: threads,
        queues: 1,
        think: if threads > 1 { JITTER } else { 0 },
        batch,
        sync: false,
        seed: 1,
        registers: Registers::Memory,
        calls: None,
    };
    Ok(simulate(strategy, costs, load)?.nanoseconds())
}

/// The costs of this machine: the line from the handoff, instructions from one thread's calls.
fn costs(options: &Options, measured: &Measured) -> Result<Costs, Box<dyn Error>> {
    let mut costs = Costs {
        local: picoseconds(measured.load),
        update: picoseconds(measured.update),
        pause: picoseconds(measured.pause),
        call: 0,
        command: 0,
        ..options.costs
    };
    costs.line = line_for(measured.handoff, costs)?;
    costs.socket_line = costs.line;
    let real = [real(1, 1)?, real(1, 16)?];
    let bare =
        [simulated(Strategy::OneWord, costs, 1, 1)?, simulated(Strategy::OneWord, costs, 1, 16)?];
    let beside = [real[0] - bare[0], real[1] - bare[1]];
    costs.command = picoseconds(((beside[1] - beside[0]) / 15.0).max(0.0));
    costs.call = picoseconds((beside[0] - costs.command as f64 / NS as f64).max(0.0));
    Ok(costs)
}

/// Measure, compare, and say how far off the simulation is.
///
/// # Errors
///
/// [`CalibrateError`] or [`Broken`].
pub(crate) fn calibrate(options: &Options) -> Result<String, Box<dyn Error>> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err(CalibrateError::OneCpu.into());
    }
    let measured = measured();
    let costs = costs(options, &measured)?;
    let ns = |time: Time| time as f64 / NS as f64;
    let mut text = format!(
        "\
this machine, in ns
  a handoff of a line between two threads  {:8.2}
  a local read-modify-write                {:8.2}
  a local load                             {:8.2}
  a spin hint                              {:8.2}
the simulation has the same handoff, and the same calls of one thread, with
  a move of a line                         {:8.2}
  the instructions of a call               {:8.2}
  the instructions for each command        {:8.2}

calls of the real queue and of the simulation, ns divided by the calls of all threads
  {:34} {:>8} {:>10} {:>8}
",
        measured.handoff,
        measured.update,
        measured.load,
        measured.pause,
        ns(costs.line),
        ns(costs.call),
        ns(costs.command),
        "",
        "real",
        "simulated",
        "off by",
    );
    for (threads, batch) in CASES {
        // The host may move a processor at any moment: each row has its own handoff.
        let handoff = line_handoff();
        let line = line_for(handoff, costs)?;
        let real = real(threads, batch)?;
        let costs = Costs { line, socket_line: line, ..costs };
        let simulated = simulated(Strategy::OneWord, costs, threads, batch as u64)?;
        let what = format!("{threads} threads, batch {batch}");
        let _ = writeln!(
            text,
            "  {what:34} {real:8.1} {simulated:10.1} {:+7.0} %  (handoff {handoff:.0})",
            (simulated / real - 1.0) * 100.0
        );
    }
    linux(&mut text, options)?;
    Ok(text)
}

/// Linux's share of compare-exchanges that succeed, with so many lines that stay.
fn linux_share(options: &Options, stay_permille: u64) -> Result<(f64, f64), Broken> {
    let costs = Costs { stay_permille, ..options.costs };
    let run = simulate(Strategy::Linux, costs, load(options, PUBLISHED_CORES, 1))?;
    Ok((run.succeeded().unwrap_or(0.0), run.rate()))
}

fn linux(text: &mut String, options: &Options) -> Result<(), Box<dyn Error>> {
    let stay = least(1000, |stay| Ok(linux_share(options, stay)?.0 >= PUBLISHED))?;
    let _ = writeln!(
        text,
        "\nlinux on {PUBLISHED_CORES} cores: {:.1} % of its compare-exchanges succeed, published",
        PUBLISHED * 100.0
    );
    for (what, stay) in
        [("with the default", options.costs.stay_permille), ("to meet it", stay), ("without", 0)]
    {
        let (share, rate) = linux_share(options, stay)?;
        let _ = writeln!(
            text,
            "  {what:18} {stay:3} of 1000 lines stay: {:4.1} %, {rate:.2} calls per us",
            share * 100.0
        );
    }
    Ok(())
}
