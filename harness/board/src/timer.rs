//! The clock of waits: the generic timer's virtual count.

use core::arch::asm;
use core::time::Duration;

use smmu_types::seam::Wait;

const NANOS: u64 = 1_000_000_000;

/// The virtual counter of the generic timer, which every exception level may read.
#[derive(Clone, Copy, Debug, Default)]
pub struct GenericTimer;

impl GenericTimer {
    /// `CNTVCT_EL0`. The count never goes back, and all CPUs read the same.
    #[must_use]
    pub fn ticks() -> u64 {
        let ticks: u64;
        // SAFETY: reads a counter. The ISB keeps the read behind earlier instructions; without
        // `nomem` the compiler keeps it behind earlier accesses.
        unsafe {
            asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack, preserves_flags))
        };
        ticks
    }

    /// `CNTFRQ_EL0`: ticks in a second, as firmware has set it. At least 1.
    #[must_use]
    pub fn frequency() -> u64 {
        let hertz: u64;
        // SAFETY: reads a register that has no effect on memory.
        unsafe {
            asm!("mrs {}, cntfrq_el0", out(reg) hertz, options(nomem, nostack, preserves_flags))
        };
        hertz.max(1)
    }

    /// The time that this many ticks take.
    #[must_use]
    pub fn duration(ticks: u64) -> Duration {
        let hertz = Self::frequency();
        // Whole seconds apart, so that no product passes 64 bits: the rest is less than `hertz`.
        let nanos = u128::from(ticks % hertz) * u128::from(NANOS) / u128::from(hertz);
        Duration::new(ticks / hertz, u32::try_from(nanos).unwrap_or(0))
    }
}

impl Wait for GenericTimer {
    fn now(&self) -> Duration {
        Self::duration(Self::ticks())
    }

    fn relax(&self, _round: u32) {
        core::hint::spin_loop();
    }
}
