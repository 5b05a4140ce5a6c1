//! The tables, and the assumptions in words.

use std::fmt::Write as _;

use crate::machine::NS;
use crate::options::Options;
use crate::simulate::{Broken, Load, Outcome, simulate};
use crate::smmu::Registers;
use crate::strategies::Strategy;

const NAME: usize = 22;
const CELL: usize = 9;

/// What the options ask for, on so many cores and queues.
pub(crate) fn load(options: &Options, cores: usize, queues: usize) -> Load {
    Load {
        cores,
        queues,
        think: options.think,
        batch: options.batch,
        sync: options.sync,
        seed: options.seed,
        registers: Registers::Device,
        calls: None,
    }
}

/// What a table shows of a run.
type Shown = (&'static str, fn(&Outcome) -> String);

const SHOWN: [Shown; 4] = [
    ("calls per us, of all cores", |run| format!("{:.2}", run.rate())),
    ("lines moved per call", |run| format!("{:.1}", run.moved())),
    ("compare-exchanges that reserve", |run| {
        run.succeeded().map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0))
    }),
    ("fairness: calls of the slowest core / of the fastest", |run| {
        format!("{:.2}", run.fairness())
    }),
];

/// Every strategy on one queue, by the number of cores; and ours on several queues.
///
/// # Errors
///
/// [`Broken`], of the first run that is.
pub(crate) fn tables(options: &Options) -> Result<String, Broken> {
    let mut text = assumptions(options);
    let mut rows = Vec::new();
    for &strategy in &options.strategies {
        let run = |&cores: &usize| simulate(strategy, options.costs, load(options, cores, 1));
        let runs: Vec<Outcome> = options.cores.iter().map(run).collect::<Result<_, _>>()?;
        rows.push((strategy.name().to_owned(), runs));
    }
    let heads: Vec<String> = options.cores.iter().map(|cores| format!("{cores} cores")).collect();
    for (what, show) in SHOWN {
        table(&mut text, what, &heads, &rows, show);
    }
    if options.by_line {
        by_line(&mut text, &heads, &rows);
    }
    several_queues(&mut text, options)?;
    Ok(text)
}

fn table(
    text: &mut String,
    what: &str,
    heads: &[String],
    rows: &[(String, Vec<Outcome>)],
    show: impl Fn(&Outcome) -> String,
) {
    let _ = write!(text, "\n{what}\n  {:NAME$}", "");
    for head in heads {
        let _ = write!(text, " {head:>CELL$}");
    }
    for (name, runs) in rows {
        let _ = write!(text, "\n  {name:NAME$}");
        for run in runs {
            let _ = write!(text, " {:>CELL$}", show(run));
        }
    }
    text.push('\n');
}

fn by_line(text: &mut String, heads: &[String], rows: &[(String, Vec<Outcome>)]) {
    for (name, runs) in rows {
        let mut lines: Vec<&'static str> =
            runs.iter().flat_map(|run| run.moves.keys().copied()).collect();
        lines.sort_unstable();
        lines.dedup();
        let moved = |run: &Outcome, line| {
            let moves = run.moves.get(line).copied().unwrap_or(0);
            format!("{:.2}", moves as f64 / run.calls.max(1) as f64)
        };
        let _ = write!(text, "\n{name}: moves of each line per call\n  {:NAME$}", "");
        for head in heads {
            let _ = write!(text, " {head:>CELL$}");
        }
        for line in lines {
            let _ = write!(text, "\n  {line:NAME$}");
            for run in runs {
                let _ = write!(text, " {:>CELL$}", moved(run, line));
            }
        }
        text.push('\n');
    }
}

/// The most cores, over several queues.
fn several_queues(text: &mut String, options: &Options) -> Result<(), Broken> {
    let cores = options.cores.iter().copied().max().unwrap_or(1);
    let queues: Vec<usize> =
        options.queues.iter().copied().filter(|&queues| queues <= cores).collect();
    let mut rows = Vec::new();
    for strategy in [Strategy::OneWord, Strategy::Exchange, Strategy::FetchAdd] {
        if !options.strategies.contains(&strategy) {
            continue;
        }
        let run = |&queues: &usize| simulate(strategy, options.costs, load(options, cores, queues));
        rows.push((
            strategy.name().to_owned(),
            queues.iter().map(run).collect::<Result<Vec<_>, _>>()?,
        ));
    }
    if rows.is_empty() || queues.is_empty() {
        return Ok(());
    }
    let heads: Vec<String> = queues.iter().map(|queues| format!("{queues} q")).collect();
    let what = format!("{cores} cores on several queues, core modulo queues: calls per us");
    table(text, &what, &heads, &rows, |run| format!("{:.2}", run.rate()));
    Ok(())
}

fn assumptions(options: &Options) -> String {
    let costs = &options.costs;
    let socket = match costs.socket {
        0 => String::new(),
        cores => {
            format!(", {} ns between sockets of {cores} cores", costs.socket_line / NS)
        }
    };
    let mut text = format!(
        "\
A simulation, not a measurement. It assumes:
- A line moves in {line} ns{socket}. It makes one move at a time, in the order of the requests.
- A load or store of a line that the core holds takes {local} ns, a read-modify-write {update} ns, a
  register of the SMMU {register} ns, a spin hint {pause} ns. The instructions of
  a call take {call} ns, and {command} ns for each command.
- A core does one access at a time. It gives a line away after the write for which the line came,
  but keeps {stay} of 1000 for {stays} ns, long enough for one more access.
- The SMMU consumes everything at the write of CMDQ_PROD, and moves no line when it reads the ring.
- The ring has 1024 slots, 4 in a line. No caller takes an exclusive reservation.
- A core thinks {think} ns between two calls on average, evenly from 0 to twice that.
- A call pushes {batch}{sync}. Seed {seed}.
",
        line = costs.line / NS,
        local = costs.local / NS,
        update = costs.update / NS,
        register = costs.register / NS,
        pause = costs.pause / NS,
        call = costs.call / NS,
        command = costs.command / NS,
        stay = costs.stay_permille,
        stays = costs.stay / NS,
        think = options.think / NS,
        batch = match options.batch {
            1 => "1 command".to_owned(),
            batch => format!("{batch} commands"),
        },
        sync = if options.sync { " and a CMD_SYNC, and waits for it" } else { "" },
        seed = options.seed,
    );
    text.push_str("\nstrategies\n");
    for strategy in &options.strategies {
        let _ = writeln!(text, "  {:NAME$} {}", strategy.name(), strategy.about());
    }
    text
}

/// The text of `--help`.
pub(crate) const HELP: &str = "\
Simulates cores that push commands into one queue, by several strategies.

  cargo run --release -p smmu-measure --example contention -- [OPTIONS]

  --cores LIST          numbers of cores, with commas between them [1,2,8,16,32,64,128]
  --queues LIST         numbers of queues for the most cores [1,2,8,32,128]
  --strategy LIST       which strategies [all]
  --batch N             commands of a call [1]
  --sync                each call ends with a CMD_SYNC, and waits for it
  --think-ns N          mean time between two calls of a core [2000]
  --line-ns N           a move of a cache line [60]
  --register-ns N       an access to a register of the SMMU [40]
  --local-ns N          a load or store of a line that the core holds [1]
  --update-ns N         a read-modify-write there [3]
  --pause-ns N          a spin hint [10]
  --call-ns N           the instructions of a call beside its accesses [5]
  --command-ns N        the instructions for each command of a call [1]
  --socket-cores N      cores per socket; 0: one socket [0]
  --socket-line-ns N    a move of a line to another socket [60]
  --stay-permille N     lines of 1000 that stay for one more access [90]
  --seed N              another sequence of random times [1]
  --by-line             also print which lines move
  --calibrate           measure this machine, and compare the simulation with the real queue
";
