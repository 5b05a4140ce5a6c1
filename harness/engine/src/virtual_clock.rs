//! Time that passes in waits alone.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use smmu_driver::smmu_types::seam::Wait;

/// Time that passes only while a driver waits: 1 us for each look, and 100 us for each after 1000 looks,
/// as for a driver that backs off. So each run is like the last, and a time-out takes no real time.
///
/// For a machine whose SMMU acts when it is asked to. `act` is called in each round of a wait.
///
/// ```
/// use std::time::Duration;
///
/// use smmu_engine::machine::{Clock, VirtualClock};
/// use smmu_driver::smmu_types::seam::Wait;
///
/// let clock = Clock::new(VirtualClock::new(|| ()));
/// clock.relax(0);
/// clock.relax(1000);
/// assert_eq!(clock.now(), Duration::from_micros(101));
/// ```
#[derive(Debug)]
pub struct VirtualClock<F> {
    act: F,
    micros: AtomicU64,
}

impl<F: Fn()> VirtualClock<F> {
    /// Time 0.
    pub const fn new(act: F) -> Self {
        VirtualClock { act, micros: AtomicU64::new(0) }
    }
}

impl<F: Fn()> Wait for VirtualClock<F> {
    fn now(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
    fn relax(&self, round: u32) {
        (self.act)();
        let micros = if round < 1000 { 1 } else { 100 };
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}
