//! Bounded waits by a clock of any frequency.

use std::cell::Cell;
use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;
use smmu_types::seam::{CountingWait, Deadline, Ticks, TimedOut, Wait, poll, poll_event};

/// A counter that a look moves on by one tick. It counts its readings, and panics when it is asked
/// for a time.
struct Counter {
    count: Cell<u64>,
    hz: u32,
    readings: Cell<u32>,
}

impl Counter {
    fn new(count: u64, hz: u32) -> Self {
        Counter { count: Cell::new(count), hz, readings: Cell::new(0) }
    }
}

impl Wait for Counter {
    fn now(&self) -> Duration {
        unreachable!("a wait goes by ticks")
    }
    fn ticks(&self) -> Ticks {
        self.readings.set(self.readings.get() + 1);
        Ticks { count: self.count.get(), hz: self.hz }
    }
    fn relax(&self, _round: u32) {
        self.count.set(self.count.get().saturating_add(1));
    }
}

/// A clock as it was before `ticks`: it knows times only.
struct OldClock(Cell<Duration>);

impl Wait for OldClock {
    fn now(&self) -> Duration {
        self.0.get()
    }
    fn relax(&self, _round: u32) {
        self.0.set(self.0.get() + Duration::from_nanos(700));
    }
}

/// Periods of counters on boards: 1 GHz, 62.5 MHz, 25 MHz, 19.2 MHz, 24 MHz; and extremes.
#[rstest]
#[case(1_000_000_000, Duration::from_nanos(70), 70)]
#[case(62_500_000, Duration::from_micros(1), 63)]
#[case(62_500_000, Duration::from_nanos(1), 1)]
#[case(25_000_000, Duration::from_micros(100), 2500)]
#[case(19_200_000, Duration::from_micros(10), 192)]
#[case(24_000_000, Duration::new(0, 999_999), 24_000)]
#[case(32_768, Duration::new(2, 500_000_000), 81_920)]
#[case(u32::MAX, Duration::new(0, 1), 5)]
#[case(1, Duration::new(3, 1), 4)]
#[case(0, Duration::from_secs(1), 0)]
#[case(1_000_000, Duration::ZERO, 0)]
fn a_wait_ends_at_the_first_tick_that_is_not_early(
    #[case] hz: u32,
    #[case] timeout: Duration,
    #[case] ticks: u64,
) {
    for start in [0, 1 << 40] {
        let clock = Counter::new(start, hz);
        assert_eq!(poll(&clock, timeout, || None::<()>), Err(TimedOut { timeout }));
        assert_eq!(clock.count.get() - start, ticks);
        // One when it begins, and one for each look after the first.
        assert_eq!(u64::from(clock.readings.get()), ticks + 2);
        let clock = Counter::new(start, hz);
        assert!(poll_event(&&clock, timeout, || None::<()>).is_err());
        assert_eq!(clock.count.get() - start, ticks);
    }
}

#[test]
fn a_condition_that_holds_at_once_reads_no_clock() {
    let clock = Counter::new(5, 1_000_000);
    assert_eq!(poll(&clock, Duration::from_secs(1), || Some(7)), Ok(7));
    assert_eq!(clock.readings.get(), 0);
}

#[rstest]
#[case(Duration::ZERO, 0)]
#[case(Duration::from_nanos(699), 1)]
#[case(Duration::from_nanos(700), 1)]
#[case(Duration::from_nanos(701), 2)]
#[case(Duration::from_micros(7), 10)]
fn a_clock_without_ticks_counts_nanoseconds(#[case] timeout: Duration, #[case] looks: u32) {
    let clock = OldClock(Cell::new(Duration::from_secs(86_400)));
    assert!(poll(&clock, timeout, || None::<()>).is_err());
    assert_eq!(clock.0.get() - Duration::from_secs(86_400), looks * Duration::from_nanos(700));
}

#[test]
fn a_wait_for_ever_never_ends_early() {
    for clock in [Counter::new(0, 62_500_000), Counter::new(1 << 60, u32::MAX)] {
        let deadline = Deadline::after(&clock, Duration::MAX);
        clock.count.set(u64::MAX - 1);
        assert!(!deadline.has_passed(&clock));
    }
}

#[test]
fn a_reference_to_a_clock_has_its_ticks() {
    fn ticks(wait: impl Wait) -> Ticks {
        wait.ticks()
    }
    let clock = Counter::new(9, 32_768);
    assert_eq!(ticks(&clock), Ticks { count: 9, hz: 32_768 });
    let counting = CountingWait::new();
    counting.relax(0);
    assert_eq!(counting.ticks().time(), counting.now());
}

proptest! {
    /// Against 128-bit arithmetic.
    #[test]
    fn deadlines_agree_with_long_arithmetic(
        count in any::<u64>(),
        hz in any::<u32>(),
        timeout in (prop_oneof![0..100u64, any::<u64>()], 0..1_000_000_000u32),
    ) {
        let timeout = Duration::new(timeout.0, timeout.1);
        let ticks = timeout.as_nanos().saturating_mul(u128::from(hz)).div_ceil(1_000_000_000);
        let end = u64::try_from(u128::from(count).saturating_add(ticks)).unwrap_or(u64::MAX);
        let clock = Counter::new(count, hz);
        let deadline = Deadline::after(&clock, timeout);
        clock.count.set(end);
        prop_assert!(deadline.has_passed(&clock));
        if let Some(before) = end.checked_sub(1).filter(|before| *before >= count) {
            clock.count.set(before);
            prop_assert!(!deadline.has_passed(&clock));
        }
    }

    #[test]
    fn a_time_is_that_of_long_arithmetic(count in any::<u64>(), hz in any::<u32>()) {
        let time = Ticks { count, hz }.time();
        let nanos = (u128::from(count) * 1_000_000_000).checked_div(u128::from(hz)).unwrap_or(0);
        prop_assert_eq!(time.as_nanos(), nanos);
        let ticks = Ticks::from_time(time);
        prop_assert_eq!(u128::from(ticks.count), nanos.min(u64::MAX.into()));
        prop_assert_eq!(Ticks { count: 1, ..ticks }.time(), Duration::from_nanos(1));
    }
}
