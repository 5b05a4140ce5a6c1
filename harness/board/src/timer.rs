//! The clock of waits: the generic timer's virtual count.

use core::arch::asm;
use core::time::Duration;

use smmu_types::seam::{Ticks, Wait};

/// The virtual counter of the generic timer, which every exception level may read.
#[derive(Clone, Copy, Debug, Default)]
pub struct GenericTimer;

impl GenericTimer {
    /// The time since this reading of [`ticks`](Wait::ticks).
    #[must_use]
    pub fn since(begin: Ticks) -> Duration {
        let Ticks { count, hz } = Self.ticks();
        Ticks { count: count.saturating_sub(begin.count), hz }.time()
    }
}

impl Wait for GenericTimer {
    fn now(&self) -> Duration {
        self.ticks().time()
    }

    /// `CNTVCT_EL0`, which all CPUs read the same, and `CNTFRQ_EL0`.
    fn ticks(&self) -> Ticks {
        let (count, hz): (u64, u64);
        // SAFETY: reads two registers. The ISB keeps the read behind earlier instructions; without
        // `nomem` the compiler keeps it behind earlier accesses.
        unsafe {
            asm!(
                "isb",
                "mrs {count}, cntvct_el0",
                "mrs {hz}, cntfrq_el0",
                count = out(reg) count,
                hz = out(reg) hz,
                options(nostack, preserves_flags),
            );
        }
        Ticks { count, hz: hz as u32 }
    }

    fn relax(&self, _round: u32) {
        core::hint::spin_loop();
    }
}
