//! What README and documents of `smmu-cmdq` say by the tables, with the default costs.

use crate::calibrate::{PUBLISHED, PUBLISHED_CORES};
use crate::machine::Costs;
use crate::options::Options;
use crate::report::{load, tables};
use crate::simulate::{Outcome, simulate};
use crate::strategies::Strategy;

fn run(strategy: Strategy, cores: usize) -> Outcome {
    let options = Options::default();
    simulate(strategy, options.costs, load(&options, cores, 1)).unwrap()
}

fn rate(strategy: Strategy, cores: usize) -> f64 {
    run(strategy, cores).rate()
}

#[test]
fn linux_has_the_published_share_of_compare_exchanges() {
    let share = run(Strategy::Linux, PUBLISHED_CORES).succeeded().unwrap();
    assert!((share - PUBLISHED).abs() < 0.01, "{share}");
    // Without a line that stays at times, hardly any succeeds.
    let options = Options::default();
    let costs = Costs { stay_permille: 0, ..options.costs };
    let run = simulate(Strategy::Linux, costs, load(&options, PUBLISHED_CORES, 1)).unwrap();
    assert!(run.succeeded().unwrap() < 0.025);
}

fn best(cores: usize) -> f64 {
    Strategy::ALL.map(|strategy| rate(strategy, cores)).into_iter().fold(0.0, f64::max)
}

#[test]
fn ours_is_within_a_tenth_of_the_best_on_few_cores() {
    for cores in [1, 2, 8] {
        let (ours, best) = (rate(Strategy::OneWord, cores), best(cores));
        assert!(ours > 0.9 * best, "{cores}: {ours} {best}");
    }
}

#[test]
fn from_16_cores_on_a_compare_exchange_falls_behind() {
    for (cores, times) in [(16, 3.0), (32, 8.0), (64, 15.0), (128, 30.0)] {
        let (exchange, ours) = (rate(Strategy::Exchange, cores), rate(Strategy::OneWord, cores));
        assert!(ours > times * exchange, "{cores}: {exchange} {ours}");
    }
    for cores in [32, 64, 128] {
        let linux = rate(Strategy::Linux, cores);
        assert!(linux > 2.0 * rate(Strategy::Exchange, cores), "{cores}: {linux}");
        assert!(linux < 0.3 * rate(Strategy::OneWord, cores), "{cores}: {linux}");
    }
    // The slowest core makes few calls, or none in a millisecond.
    for (cores, most) in [(64, 0.2), (128, 0.05)] {
        let fairness = run(Strategy::Exchange, cores).fairness();
        assert!(fairness < most, "{cores}: {fairness}");
    }
}

/// As published for 8 to 64 CPUs: Linux's queue loses more than half of its rate with a `CMD_SYNC` in
/// each call. Ours loses nothing.
#[test]
fn with_syncs_linux_loses_half_and_ours_nothing() {
    let options = Options { sync: true, ..Options::default() };
    let rate = |strategy, cores| {
        simulate(strategy, options.costs, load(&options, cores, 1)).unwrap().rate()
    };
    assert!(rate(Strategy::Linux, 64) < 0.5 * rate(Strategy::Linux, 8));
    assert!(rate(Strategy::OneWord, 64) > rate(Strategy::OneWord, 8));
}

#[test]
fn ours_neither_collapses_nor_starves() {
    for cores in [32, 64, 128] {
        let run = run(Strategy::OneWord, cores);
        assert!(run.rate() > 0.8 * rate(Strategy::OneWord, 16), "{cores}: {}", run.rate());
        assert!(run.fairness() > 0.75, "{cores}: {}", run.fairness());
    }
}

#[test]
fn a_queue_per_core_scales_by_any_strategy() {
    let options = Options::default();
    for strategy in [Strategy::OneWord, Strategy::Exchange, Strategy::FetchAdd] {
        let one = rate(strategy, 1);
        let run = simulate(strategy, options.costs, load(&options, 128, 128)).unwrap();
        assert!(run.rate() > 0.9 * 128.0 * one, "{}", run.rate());
    }
}

#[test]
fn the_report_has_its_assumptions_and_a_row_for_each_strategy() {
    let options = Options { cores: vec![1, 2], by_line: true, ..Options::default() };
    let text = tables(&options).unwrap();
    assert!(text.starts_with("A simulation, not a measurement."));
    for strategy in Strategy::ALL {
        let rows =
            text.lines().filter(|line| line.split_whitespace().next() == Some(strategy.name()));
        assert!(rows.count() >= 5, "{}", strategy.name());
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100));
}
