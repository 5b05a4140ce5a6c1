//! Threads against threads: callers on a queue, and an SMMU that is slow, refuses, and fails now and then.
//!
//!     SMMU_STRESS_SECONDS=60 cargo test --release -p smmu-cmdq --test stress
//!
//! Each round makes a queue of another kind and lets callers loose on it; then what the SMMU has carried out, and what each
//! waiter was told, is held against what was queued ([`verify`]). The numbers of a round alone decide what callers and SMMU
//! do; the scheduler decides when.
//!
//! Under ThreadSanitizer (on a nightly compiler, or with `RUSTC_BOOTSTRAP=1`):
//!
//!     RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
//!         cargo test -p smmu-cmdq --test stress --target x86_64-unknown-linux-gnu -- --test-threads=1
//!
//! The standard library is not instrumented there; a report of `test::event` is of the harness that runs this.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "memory of the SMMU, and pages that only an order keeps apart")]

mod caller;
mod commands;
mod device;
mod memory;
mod random;
mod rounds;
mod verify;

use std::time::{Duration, Instant};

use rounds::{Kind, Tally, round};
use rstest::rstest;
use smmu_cmdq::{CompareExchange, FetchAdd, Reserve};

/// How long each test goes on, if that is longer than every size of ring takes once.
const DEFAULT: Duration = Duration::from_secs(2);
const VARIABLE: &str = "SMMU_STRESS_SECONDS";

/// What the variable says.
fn duration(value: Option<&str>) -> Result<Duration, String> {
    let Some(value) = value else { return Ok(DEFAULT) };
    match value.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => Err(format!("{VARIABLE} = {value:?} is not a number of whole seconds")),
    }
}

fn rounds_of<S: Reserve>(strategy: &str) {
    let value = std::env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned());
    let duration = duration(value.as_deref()).unwrap_or_else(|wrong| panic!("{wrong}"));
    let (start, mut tally) = (Instant::now(), Tally::default());
    let mut seed = 0;
    while seed < Kind::SIZES || start.elapsed() < duration {
        let kind = Kind::of(seed);
        tally += match kind.cells {
            2 => round::<S, 2>(&kind, strategy),
            4 => round::<S, 4>(&kind, strategy),
            16 => round::<S, 16>(&kind, strategy),
            _ => round::<S, 1024>(&kind, strategy),
        };
        seed += 1;
    }
    println!("{strategy}: {seed} rounds in {:.1?}: {tally}", start.elapsed());
    assert!(tally.refused > 0 && tally.aborted > 0 && tally.devices_late > 0, "{tally}");
}

#[test]
fn every_command_is_carried_out_once_and_its_failure_told_to_its_caller_with_compare_exchange() {
    rounds_of::<CompareExchange>("CompareExchange");
}

#[test]
fn every_command_is_carried_out_once_and_its_failure_told_to_its_caller_with_fetch_add() {
    rounds_of::<FetchAdd>("FetchAdd");
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
