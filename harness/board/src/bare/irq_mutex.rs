//! A mutex that masks interrupts while it is held.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use lock_api::{GuardNoSend, RawMutex};

use super::cpu;

const FREE: u8 = 0;
const HELD: u8 = 1;

/// A spin lock that masks interrupts on the CPU that holds it.
///
/// A handler may therefore take it: it never interrupts the holder. Its guards belong to a CPU and
/// are not `Send`. Guards of two locks must be dropped in the reverse order of their creation,
/// because each restores the mask that it found.
#[derive(Debug)]
pub struct IrqMutex {
    state: AtomicU8,
    // Whether interrupts were masked before the holder locked; the holder's alone.
    was_masked: AtomicBool,
}

// SAFETY: `try_lock` succeeds only for the one caller that changes FREE to HELD, with acquire;
// `unlock` stores FREE with release. So the guarded data is the holder's alone.
unsafe impl RawMutex for IrqMutex {
    const INIT: Self = IrqMutex { state: AtomicU8::new(FREE), was_masked: AtomicBool::new(false) };
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        while !self.try_lock() {
            // Interrupts come while the lock is taken; only the holder masks them.
            while self.state.load(Ordering::Relaxed) == HELD {
                spin_loop();
            }
        }
    }

    fn try_lock(&self) -> bool {
        let was_masked = cpu::mask_interrupts();
        let locked = self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        if locked.is_ok() {
            self.was_masked.store(was_masked, Ordering::Relaxed);
        } else if !was_masked {
            cpu::unmask_interrupts();
        }
        locked.is_ok()
    }

    unsafe fn unlock(&self) {
        let was_masked = self.was_masked.load(Ordering::Relaxed);
        self.state.store(FREE, Ordering::Release);
        if !was_masked {
            cpu::unmask_interrupts();
        }
    }

    fn is_locked(&self) -> bool {
        self.state.load(Ordering::Relaxed) == HELD
    }
}
