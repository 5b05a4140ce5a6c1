//! The seam to a clock, and bounded waits on it.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

const NANOSECONDS: u32 = 1_000_000_000;

/// The clock of a bounded wait.
///
/// # What an implementor owes
///
/// `now` and `ticks` never go back, and advance while a caller calls `relax`. They need no epoch.
/// The driver calls all methods from any context in which it runs.
///
/// A bounded wait calls only `ticks`, once when it begins and once at each look. A clock whose
/// counter does not count nanoseconds implements `ticks` too: a look is then one read of the counter
/// and one comparison, without a division. The generic timer of an Arm CPU:
///
/// ```
/// # use core::time::Duration;
/// # fn cntvct_el0() -> u64 { 1 << 40 }
/// # fn cntfrq_el0() -> u32 { 62_500_000 }
/// use smmu_types::seam::{Ticks, Wait};
///
/// struct GenericTimer {
///     hz: u32, // CNTFRQ_EL0
/// }
///
/// impl Wait for GenericTimer {
///     fn ticks(&self) -> Ticks {
///         Ticks { count: cntvct_el0(), hz: self.hz }
///     }
///     fn now(&self) -> Duration {
///         self.ticks().time()
///     }
///     fn relax(&self, _round: u32) {
///         core::hint::spin_loop();
///     }
/// }
/// # let timer = GenericTimer { hz: cntfrq_el0() };
/// # assert_eq!(timer.now(), Duration::from_nanos((1 << 40) * 16));
/// ```
pub trait Wait {
    /// Monotonic time.
    fn now(&self) -> Duration;

    /// The clock's counter. By default [`now`](Self::now) in nanoseconds.
    fn ticks(&self) -> Ticks {
        Ticks::from_time(self.now())
    }

    /// Called between two checks of a condition: at least a spin hint, a yield where possible.
    ///
    /// `round` counts the checks of this wait from 0, for an implementation with back-off.
    fn relax(&self, round: u32);

    /// Called instead of `relax` where an event ends the wait, such as that of a `CMD_SYNC` with
    /// `CS` = `SIG_SEV`.
    ///
    /// On AArch64 this may be a `WFE`, if the counter's event stream or another source ends it
    /// after a while. A CPU can miss the event, and every wait of this crate is bounded.
    fn event(&self, round: u32) {
        self.relax(round);
    }
}

impl<W: Wait + ?Sized> Wait for &W {
    fn now(&self) -> Duration {
        (**self).now()
    }
    fn ticks(&self) -> Ticks {
        (**self).ticks()
    }
    fn relax(&self, round: u32) {
        (**self).relax(round);
    }
    fn event(&self, round: u32) {
        (**self).event(round);
    }
}

/// A reading of a clock's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks {
    /// The counter. It does not wrap while the driver runs.
    pub count: u64,
    /// Its frequency, the same at every reading. With 0, firmware has not set it: each wait is over
    /// at its second look.
    pub hz: u32,
}

impl Ticks {
    /// A time as a counter of nanoseconds, 584 years at most.
    #[must_use]
    pub const fn from_time(time: Duration) -> Self {
        let whole = time.as_secs().saturating_mul(NANOSECONDS as u64);
        Ticks { count: whole.saturating_add(time.subsec_nanos() as u64), hz: NANOSECONDS }
    }

    /// The time since the counter was 0, rounded down; 0 if `hz` is 0.
    #[must_use]
    pub const fn time(self) -> Duration {
        let hz = self.hz as u64;
        let (Some(seconds), Some(rest)) = (self.count.checked_div(hz), self.count.checked_rem(hz))
        else {
            return Duration::ZERO;
        };
        // Below 2^32 * 10^9, and the quotient is below 10^9.
        Duration::new(seconds, (rest * NANOSECONDS as u64 / hz) as u32)
    }

    /// The ticks of a duration at `hz`, rounded up, `u64::MAX` at most.
    #[inline]
    const fn of(duration: Duration, hz: u32) -> u64 {
        let hz = hz as u64;
        // Below 2^62. The divisor is a constant, so the compiler makes a multiplication of it.
        let part = (duration.subsec_nanos() as u64 * hz).div_ceil(NANOSECONDS as u64);
        duration.as_secs().saturating_mul(hz).saturating_add(part)
    }
}

/// The end of a bounded wait, in the ticks of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(u64);

impl Deadline {
    /// The end of a wait that begins now.
    #[inline]
    pub fn after<W: Wait + ?Sized>(wait: &W, timeout: Duration) -> Self {
        let Ticks { count, hz } = wait.ticks();
        Deadline(count.saturating_add(Ticks::of(timeout, hz)))
    }

    /// Whether the clock has reached it.
    #[inline]
    pub fn has_passed<W: Wait + ?Sized>(self, wait: &W) -> bool {
        wait.ticks().count >= self.0
    }
}

/// Displays a time in whole units, without a rounded digit: `1s`, `250ms`, `1s 40µs`.
///
/// The text of [`Duration`] has decimals, and 1 KB of code for them, which an image for a board need
/// not carry.
///
/// ```
/// # use core::time::Duration;
/// use smmu_types::seam::InUnits;
///
/// assert_eq!(InUnits(Duration::from_micros(1_500)).to_string(), "1ms 500µs");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUnits(pub Duration);

impl fmt::Display for InUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rest) = (self.0.as_secs(), self.0.subsec_nanos());
        let parts = [(rest / 1_000_000, "ms"), (rest / 1_000 % 1_000, "µs"), (rest % 1_000, "ns")];
        let mut gap = "";
        if seconds > 0 || rest == 0 {
            write!(f, "{seconds}s")?;
            gap = " ";
        }
        for (count, unit) in parts.into_iter().filter(|&(count, _)| count > 0) {
            write!(f, "{gap}{count}{unit}")?;
            gap = " ";
        }
        Ok(())
    }
}

/// A condition did not become true in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out after {}", InUnits(*timeout))]
pub struct TimedOut {
    /// The time that was allowed.
    pub timeout: Duration,
}

/// Checks a condition until it holds, at most for `timeout`.
///
/// It checks once more after the timeout: a thread that did not run between two checks may find
/// that the condition holds now.
pub fn poll<W, T>(
    wait: &W,
    timeout: Duration,
    condition: impl FnMut() -> Option<T>,
) -> Result<T, TimedOut>
where
    W: Wait + ?Sized,
{
    poll_by(wait, timeout, condition, |round| wait.relax(round))
}

/// As [`poll`], where an [event](Wait::event) may end the wait.
pub fn poll_event<W, T>(
    wait: &W,
    timeout: Duration,
    condition: impl FnMut() -> Option<T>,
) -> Result<T, TimedOut>
where
    W: Wait + ?Sized,
{
    poll_by(wait, timeout, condition, |round| wait.event(round))
}

fn poll_by<W, T>(
    wait: &W,
    timeout: Duration,
    mut condition: impl FnMut() -> Option<T>,
    relax: impl Fn(u32),
) -> Result<T, TimedOut>
where
    W: Wait + ?Sized,
{
    if let Some(value) = condition() {
        return Ok(value);
    }
    let deadline = Deadline::after(wait, timeout);
    let mut round = 0u32;
    loop {
        let expired = deadline.has_passed(wait);
        if let Some(value) = condition() {
            return Ok(value);
        }
        if expired {
            return Err(TimedOut { timeout });
        }
        relax(round);
        round = round.saturating_add(1);
    }
}

/// Virtual time for models and tests: each `relax` counts as one microsecond.
///
/// It counts looks, not time. A look of a driver takes a few nanoseconds or, with a register read
/// on a slow bus, a few microseconds; so a timeout of 1 s may end after some milliseconds or some
/// seconds. All waiters that share the clock advance it together. A board needs a real clock, such
/// as the generic timer of its CPUs.
#[derive(Debug, Default)]
pub struct CountingWait {
    micros: AtomicU64,
}

impl CountingWait {
    /// Time 0.
    #[must_use]
    pub const fn new() -> Self {
        CountingWait { micros: AtomicU64::new(0) }
    }
}

impl Wait for CountingWait {
    fn now(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }

    fn ticks(&self) -> Ticks {
        Ticks { count: self.micros.load(Ordering::Relaxed), hz: 1_000_000 }
    }

    fn relax(&self, _round: u32) {
        self.micros.fetch_add(1, Ordering::Relaxed);
        core::hint::spin_loop();
    }
}

/// The clock of the standard library. It spins briefly, and then yields.
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug)]
pub struct StdWait {
    start: std::time::Instant,
}

#[cfg(feature = "std")]
impl StdWait {
    /// Time counted from now.
    #[must_use]
    pub fn new() -> Self {
        StdWait { start: std::time::Instant::now() }
    }
}

#[cfg(feature = "std")]
impl Default for StdWait {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "std")]
impl Wait for StdWait {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn relax(&self, round: u32) {
        if round < 64 {
            core::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Duration::ZERO, "0s")]
    #[case(Duration::from_nanos(7), "7ns")]
    #[case(Duration::from_micros(20), "20µs")]
    #[case(Duration::from_millis(50), "50ms")]
    #[case(Duration::from_secs(1), "1s")]
    #[case(Duration::new(2, 1_002_003), "2s 1ms 2µs 3ns")]
    #[case(Duration::MAX, "18446744073709551615s 999ms 999µs 999ns")]
    fn a_time_is_told_in_whole_units(#[case] time: Duration, #[case] text: &str) {
        assert_eq!(InUnits(time).to_string(), text);
        assert_eq!(TimedOut { timeout: time }.to_string(), format!("timed out after {text}"));
    }

    #[test]
    fn poll_is_bounded() {
        let wait = CountingWait::new();
        let timeout = Duration::from_micros(50);
        assert_eq!(poll(&wait, timeout, || None::<()>), Err(TimedOut { timeout }));
        assert!(wait.now() <= timeout);
    }

    #[test]
    fn poll_looks_once_more_after_the_deadline() {
        let wait = CountingWait::new();
        let mut looks = 0;
        let done = poll(&wait, Duration::ZERO, || {
            looks += 1;
            (looks == 2).then_some(looks)
        });
        assert_eq!(done, Ok(2));
    }
}
