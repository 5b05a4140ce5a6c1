//! The strategies: each command reaches the SMMU once, in order, without gaps, and no core deadlocks.

use std::rc::Rc;

use crate::machine::{Machine, NS, Program};
use crate::options::Options;
use crate::simulate::{Load, simulate};
use crate::smmu::{Batch, ENTRIES, Fault, Registers, Ring};
use crate::strategies::Strategy;

const CALLS: u64 = 30;

fn load(cores: usize, seed: u64) -> Load {
    Load {
        cores,
        queues: 1,
        think: seed % 5 * 200 * NS,
        batch: [1, 1, 3, 16][seed as usize % 4],
        sync: seed.is_multiple_of(3),
        seed,
        registers: if seed.is_multiple_of(2) { Registers::Device } else { Registers::Memory },
        calls: Some(CALLS),
    }
}

/// `simulate` itself checks order, gaps, losses and deadlocks.
#[test]
fn every_strategy_is_right_on_1_to_16_cores() {
    for strategy in Strategy::ALL {
        for cores in 1..=16 {
            for seed in 0..6 {
                let load = load(cores, seed + 6 * cores as u64);
                let run = simulate(strategy, Options::default().costs, load);
                let run = run.unwrap_or_else(|broken| panic!("{strategy:?} {load:?}: {broken}"));
                assert_eq!(run.calls, cores as u64 * CALLS, "{strategy:?} {load:?}");
                assert_eq!((run.slowest, run.fastest), (CALLS, CALLS));
            }
        }
    }
}

/// Batches of all cores are more than the ring holds, so that callers wait for room.
#[test]
fn every_strategy_is_right_on_a_full_ring() {
    for strategy in Strategy::ALL {
        for (cores, batch, sync) in [(8, 200, false), (16, 100, true), (3, 511, true)] {
            assert!(cores as u64 * batch > ENTRIES);
            let load = Load { batch, sync, think: 0, calls: Some(20), ..load(cores, 1) };
            let run = simulate(strategy, Options::default().costs, load);
            let run = run.unwrap_or_else(|broken| panic!("{strategy:?} {load:?}: {broken}"));
            assert_eq!(run.calls, cores as u64 * 20);
        }
    }
}

#[test]
fn several_queues_get_each_their_cores() {
    for strategy in Strategy::ALL {
        for (cores, queues) in [(7, 3), (8, 8), (2, 5)] {
            let load = Load { queues, ..load(cores, 4) };
            let run = simulate(strategy, Options::default().costs, load).unwrap();
            assert_eq!(run.calls, cores as u64 * CALLS);
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_again_and_another_seed_another() {
    let moves = |seed| {
        let load = Load { think: 1000 * NS, batch: 1, sync: false, seed, ..load(8, 1) };
        let run = simulate(Strategy::Exchange, Options::default().costs, load).unwrap();
        (run.moves, run.measured)
    };
    assert_eq!(moves(1), moves(1));
    assert_ne!(moves(1), moves(2));
}

#[test]
fn one_core_loses_no_compare_exchange() {
    for strategy in [Strategy::OneWord, Strategy::Exchange, Strategy::Linux] {
        let run = simulate(strategy, Options::default().costs, load(1, 4)).unwrap();
        assert_eq!(run.succeeded(), Some(1.0));
    }
    let run = simulate(Strategy::OneWordAdd, Options::default().costs, load(1, 4)).unwrap();
    assert_eq!(run.succeeded(), None);
}

/// What the SMMU says of two batches of two commands, filled at these positions, when `CMDQ_PROD` is
/// written to `ends`.
fn fault(starts: [u64; 2], ends: &'static [u64]) -> Option<Fault> {
    let machine = Machine::new(1, Options::default().costs, 1);
    let ring = Rc::new(Ring::new(&machine, Registers::Device, 2, 2));
    let (core, mine) = (machine.core(0), Rc::clone(&ring));
    let program: Program = Box::pin(async move {
        for (id, start) in starts.into_iter().enumerate() {
            mine.fill(&core, start, Batch { core: id, call: 0, count: 2 }).await;
        }
        for &end in ends {
            mine.write_prod(&core, end).await;
        }
    });
    machine.run(vec![program], 1_000_000 * NS).unwrap();
    ring.fault()
}

#[test]
fn the_smmu_accepts_what_is_right_and_tells_what_is_not() {
    assert_eq!(fault([0, 2], &[2, 4]), None);
    assert_eq!(fault([2, 0], &[4]), None);
    assert_eq!(fault([0, 3], &[5]), Some(Fault::Unfilled { position: 2 }));
    assert_eq!(fault([0, 1], &[3]), Some(Fault::Order { position: 1, core: 1, call: 0 }));
    assert_eq!(fault([0, 2], &[4, 2]), Some(Fault::Producer { from: 4, to: 2 }));
    assert_eq!(fault([0, 2], &[ENTRIES + 1]), Some(Fault::Producer { from: 0, to: ENTRIES + 1 }));
    assert_eq!(fault([0, ENTRIES], &[]), Some(Fault::Overwritten { position: ENTRIES }));
}
