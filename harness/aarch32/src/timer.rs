//! The clock of waits: the generic timer's virtual count.

use core::arch::asm;
use core::time::Duration;

use smmu_types::seam::{Ticks, Wait};

/// The virtual counter of the generic timer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GenericTimer;

impl Wait for GenericTimer {
    fn now(&self) -> Duration {
        self.ticks().time()
    }

    /// `CNTVCT` and `CNTFRQ`.
    fn ticks(&self) -> Ticks {
        let (low, high, hz): (u32, u32, u32);
        // SAFETY: reads two registers. The ISB keeps the read behind earlier instructions; without
        // `nomem` the compiler keeps it behind earlier accesses.
        unsafe {
            asm!(
                "isb",
                "mrrc p15, 1, {low}, {high}, c14",
                "mrc p15, 0, {hz}, c14, c0, 0",
                low = out(reg) low,
                high = out(reg) high,
                hz = out(reg) hz,
                options(nostack, preserves_flags),
            );
        }
        Ticks { count: u64::from(high) << 32 | u64::from(low), hz }
    }

    fn relax(&self, _round: u32) {
        core::hint::spin_loop();
    }
}
