//! Stress test: callers on a queue, and an SMMU thread that is slow, refuses and fails at random.
//!
//!     SMMU_STRESS_SECONDS=60 cargo test --release -p smmu-cmdq --test stress
//!
//! Each round makes a queue of another kind and runs callers on it. Then it compares what the SMMU
//! carried out and what each wait returned with what was queued ([`verify`]). The round's seed
//! alone decides what callers and SMMU do; the scheduler decides when.
//!
//! Under ThreadSanitizer (on a nightly compiler, or with `RUSTC_BOOTSTRAP=1`):
//!
//!     RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
//!         cargo test -p smmu-cmdq --test stress --target x86_64-unknown-linux-gnu -- --test-threads=1
//!
//! The standard library is not instrumented there. A report about `test::event` concerns the test
//! runner.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "memory of the SMMU, and pages that only memory order protects")]

mod caller;
mod commands;
mod device;
mod memory;
mod random;
mod rounds;
mod verify;

use std::time::{Duration, Instant};

use rounds::{RoundPlan, RoundTally, round};
use rstest::rstest;

/// The duration of each test. Every size of ring gets a round even if that takes longer.
const DEFAULT: Duration = Duration::from_secs(2);
const VARIABLE: &str = "SMMU_STRESS_SECONDS";

/// The duration for a value of the variable.
fn duration(value: Option<&str>) -> Result<Duration, String> {
    let Some(value) = value else { return Ok(DEFAULT) };
    match value.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => Err(format!("{VARIABLE} = {value:?} is not a number of whole seconds")),
    }
}

#[test]
fn commands_run_once_and_failures_reach_their_caller() {
    let value = std::env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned());
    let duration = duration(value.as_deref()).unwrap_or_else(|wrong| panic!("{wrong}"));
    let (start, mut tally) = (Instant::now(), RoundTally::default());
    let mut seed = 0;
    while seed < RoundPlan::SIZES || start.elapsed() < duration {
        let plan = RoundPlan::of(seed);
        let round = match plan.cells {
            2 => round::<2>,
            4 => round::<4>,
            16 => round::<16>,
            _ => round::<1024>,
        };
        tally += round(&plan);
        seed += 1;
    }
    println!("{seed} rounds in {:.1?}: {tally}", start.elapsed());
    assert!(tally.refused > 0 && tally.aborted > 0 && tally.devices_late > 0, "{tally}");
}

#[rstest]
#[case::not_set(None, Ok(DEFAULT))]
#[case::whole_seconds(Some("60"), Ok(Duration::from_secs(60)))]
#[case::nothing(Some(""), Err("SMMU_STRESS_SECONDS = \"\" is not a number of whole seconds"))]
#[case::a_unit(Some("5s"), Err("SMMU_STRESS_SECONDS = \"5s\" is not a number of whole seconds"))]
#[case::negative(Some("-1"), Err("SMMU_STRESS_SECONDS = \"-1\" is not a number of whole seconds"))]
fn a_wrong_number_of_seconds_is_a_failure(
    #[case] value: Option<&str>,
    #[case] want: Result<Duration, &str>,
) {
    assert_eq!(duration(value), want.map_err(String::from));
}
