//! The machine: what each access costs, and who waits for whom.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use crate::calibrate::{line_for, simulated_handoff};
use crate::machine::{Core, Costs, Machine, NS, Program, Stuck, Time};
use crate::options::Options;

const LINE: Time = 60 * NS;
const LOCAL: Time = NS;
const UPDATE: Time = 3 * NS;

fn costs() -> Costs {
    Costs { stay_permille: 0, ..Options::default().costs }
}

/// Run a program on each core. Each gets a log for times.
fn run<P, F>(costs: Costs, cores: usize, program: P) -> Vec<(usize, Time)>
where
    P: Fn(Core, Rc<Machine>, Rc<RefCell<Vec<(usize, Time)>>>) -> F,
    F: Future<Output = ()> + 'static,
{
    let machine = Machine::new(cores, costs, 1);
    let log = Rc::new(RefCell::new(Vec::new()));
    let programs = (0..cores)
        .map(|id| -> Program {
            Box::pin(program(machine.core(id), Rc::clone(&machine), Rc::clone(&log)))
        })
        .collect();
    machine.run(programs, 1_000_000 * NS).unwrap();
    log.take()
}

/// The times of accesses one after the other, each from its begin to its end.
macro_rules! times {
    ($core:ident, $($access:expr),+ $(,)?) => {{
        let mut times = Vec::new();
        $(
            let begin = $core.now();
            let _result = $access.await;
            times.push($core.now() - begin);
        )+
        times
    }};
}

/// Run a program on core 0 of a machine of two cores. Core 1 writes to the word at 1 us, and loads
/// it at 2 us.
fn beside_another(
    program: impl AsyncFn(&Core, crate::machine::Word) -> Vec<Time> + 'static,
) -> Vec<Time> {
    let machine = Machine::new(2, costs(), 1);
    let word = machine.word(machine.line("line"), 0);
    let times = Rc::new(RefCell::new(Vec::new()));
    let (mine, core, other) = (Rc::clone(&times), machine.core(0), machine.core(1));
    let programs: Vec<Program> = vec![
        Box::pin(async move {
            let found = program(&core, word).await;
            mine.replace(found);
        }),
        Box::pin(async move {
            other.pass(1000 * NS).await;
            other.store(word, 1).await;
            other.pass(1000 * NS).await;
            other.load(word).await;
        }),
    ];
    machine.run(programs, 1_000_000 * NS).unwrap();
    times.take()
}

#[test]
fn the_first_access_moves_the_line_and_the_next_are_local() {
    let times = beside_another(async |core, word| {
        times!(
            core,
            core.fetch_add(word, 1),
            core.fetch_add(word, 1),
            core.load(word),
            core.store(word, 7),
            core.compare_exchange(word, 7, 8),
        )
    });
    assert_eq!(times, [LINE + UPDATE, UPDATE, LOCAL, LOCAL, UPDATE]);
}

#[test]
fn a_write_of_another_core_takes_the_line() {
    let times = beside_another(async |core, word| {
        times!(core, core.load(word), core.load(word), core.pass(1500 * NS), core.load(word))
    });
    assert_eq!(times, [LINE + LOCAL, LOCAL, 1500 * NS, LINE + LOCAL]);
}

#[test]
fn a_load_of_another_core_leaves_a_copy_but_a_write_takes_it_back() {
    let times = beside_another(async |core, word| {
        times!(
            core,
            core.pass(1500 * NS),
            core.fetch_add(word, 1),
            core.pass(1000 * NS),
            core.load(word),
            core.fetch_add(word, 1),
            core.fetch_add(word, 1),
        )
    });
    // Core 1 has loaded in between: both hold the line, and the write moves it.
    assert_eq!(times[1..2], [LINE + UPDATE]);
    assert_eq!(times[3..], [LOCAL, LINE + UPDATE, UPDATE]);
}

#[test]
fn a_compare_exchange_that_fails_takes_the_line_too() {
    let times = beside_another(async |core, word| {
        let times = times!(core, core.compare_exchange(word, 9, 10), core.fetch_add(word, 1));
        assert_eq!(core.compare_exchange(word, 9, 10).await, Err(1));
        times
    });
    assert_eq!(times, [LINE + UPDATE, UPDATE]);
}

/// Cores that ask for a line in some order get it in that order, one move at a time.
#[test]
fn a_line_makes_one_move_at_a_time_in_the_order_of_the_requests() {
    const ORDER: [usize; 5] = [3, 0, 4, 1, 2];
    let machine = Machine::new(ORDER.len(), costs(), 1);
    let word = machine.word(machine.line("line"), 0);
    let log = Rc::new(RefCell::new(Vec::new()));
    let program = |id: usize| -> Program {
        let (core, log) = (machine.core(id), Rc::clone(&log));
        let turn = ORDER.iter().position(|&one| one == id).unwrap() as Time;
        Box::pin(async move {
            core.pass(turn * NS).await;
            core.fetch_add(word, 1).await;
            log.borrow_mut().push((id, core.now()));
        })
    };
    machine.run((0..ORDER.len()).map(program).collect(), 1_000_000 * NS).unwrap();
    let expected: Vec<(usize, Time)> =
        ORDER.iter().zip(1..).map(|(&id, turn)| (id, turn * (LINE + UPDATE))).collect();
    assert_eq!(log.take(), expected);
    assert_eq!(machine.moves().into_iter().collect::<Vec<_>>(), [("line", 5)]);
    assert_eq!(machine.peek(word), 5);
}

#[test]
fn lines_of_their_own_move_at_the_same_time() {
    let log = run(costs(), 4, |core, machine, log| async move {
        let word = machine.word(machine.line("line"), 0);
        core.fetch_add(word, 1).await;
        log.borrow_mut().push((core.id, core.now()));
    });
    assert_eq!(log, [0, 1, 2, 3].map(|id| (id, LINE + UPDATE)));
}

#[test]
fn a_move_to_another_socket_costs_more() {
    let costs = Costs { socket: 2, socket_line: 150 * NS, ..costs() };
    let machine = Machine::new(4, costs, 1);
    let word = machine.word(machine.line("line"), 0);
    let log = Rc::new(RefCell::new(Vec::new()));
    let program = |id: usize| -> Program {
        let (core, log) = (machine.core(id), Rc::clone(&log));
        Box::pin(async move {
            core.pass(id as Time * 1000 * NS).await;
            let begin = core.now();
            core.fetch_add(word, 1).await;
            log.borrow_mut().push(core.now() - begin);
        })
    };
    machine.run((0..4).map(program).collect(), 1_000_000 * NS).unwrap();
    let (near, far) = (LINE + UPDATE, 150 * NS + UPDATE);
    assert_eq!(log.take(), [near, near, far, near]);
}

/// Core 1 waits for the line while core 0 has it for a first access, and wants a second one.
#[test]
fn a_line_that_stays_serves_one_more_access() {
    let second = |stay_permille| {
        let costs = Costs { stay_permille, ..costs() };
        let machine = Machine::new(2, costs, 1);
        let word = machine.word(machine.line("line"), 0);
        let log = Rc::new(RefCell::new(0));
        let (mine, core, other) = (Rc::clone(&log), machine.core(0), machine.core(1));
        let programs: Vec<Program> = vec![
            Box::pin(async move {
                core.fetch_add(word, 1).await;
                core.pass(10 * NS).await;
                let begin = core.now();
                core.fetch_add(word, 1).await;
                mine.replace(core.now() - begin);
            }),
            Box::pin(async move {
                other.pass(10 * NS).await;
                other.fetch_add(word, 1).await;
            }),
        ];
        machine.run(programs, 1_000_000 * NS).unwrap();
        log.take()
    };
    assert_eq!(second(1000), UPDATE);
    // The line is on its way to core 1: 10 ns of 60 are over, then it comes back.
    assert_eq!(second(0), (LINE - 10 * NS) + UPDATE + LINE + UPDATE);
}

#[test]
fn a_program_that_never_ends_is_reported() {
    let machine = Machine::new(2, costs(), 1);
    let word = machine.word(machine.line("line"), 0);
    let (core, other) = (machine.core(0), machine.core(1));
    let programs: Vec<Program> = vec![
        Box::pin(async move {
            while core.load(word).await == 0 {
                core.pause(1).await;
            }
        }),
        Box::pin(async move { other.pass(NS).await }),
    ];
    let Stuck { cores, at } = machine.run(programs, 1000 * NS).unwrap_err();
    assert_eq!(cores, 1);
    assert!((1000 * NS..1100 * NS).contains(&at), "{at}");
}

#[test]
fn the_line_that_gives_a_handoff_is_found_again() {
    let costs = Costs { line: 43_210, ..costs() };
    let handoff = simulated_handoff(costs).unwrap();
    let line = line_for(handoff, costs).unwrap();
    let again = simulated_handoff(Costs { line, ..costs }).unwrap();
    assert!((again - handoff).abs() < 0.01 * handoff, "{handoff} {again} by {line}");
}
