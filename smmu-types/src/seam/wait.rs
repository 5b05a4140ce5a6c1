//! The seam to a clock, and bounded waits on it.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// The clock of a bounded wait.
///
/// # What an implementor owes
///
/// `now` never goes back, and advances while a caller calls `relax`. It needs no epoch. The driver
/// calls both from any context in which it runs.
pub trait Wait {
    /// Monotonic time.
    fn now(&self) -> Duration;

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
    fn relax(&self, round: u32) {
        (**self).relax(round);
    }
    fn event(&self, round: u32) {
        (**self).event(round);
    }
}

/// A condition did not become true in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out after {timeout:?}")]
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
    let start = wait.now();
    let mut round = 0u32;
    loop {
        let expired = wait.now().saturating_sub(start) >= timeout;
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

/// Virtual time for models and for firmware without a timer: each `relax` takes one microsecond.
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
    use super::*;

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
