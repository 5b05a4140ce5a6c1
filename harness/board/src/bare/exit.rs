//! The end of the program: an exit status by semihosting, otherwise PSCI's `SYSTEM_OFF`.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::cpu;
use crate::machine::Conduit;

const SYS_EXIT_EXTENDED: u64 = 0x20;
const SYS_WRITE0: u64 = 0x04;
const APPLICATION_EXIT: u64 = 0x2_0026;

static CONDUIT: AtomicU8 = AtomicU8::new(0);
static CALLS_SEMIHOSTING: AtomicBool = AtomicBool::new(false);

/// Tells how to call PSCI from now on.
pub fn set_conduit(conduit: Option<Conduit>) {
    let number = match conduit {
        None => 0,
        Some(Conduit::Hvc) => 1,
        Some(Conduit::Smc) => 2,
    };
    CONDUIT.store(number, Ordering::Relaxed);
}

/// How to call PSCI.
#[must_use]
pub fn conduit() -> Option<Conduit> {
    match CONDUIT.load(Ordering::Relaxed) {
        1 => Some(Conduit::Hvc),
        2 => Some(Conduit::Smc),
        _ => None,
    }
}

/// Ends the program: 0 means that it passed.
///
/// An emulator or a debugger with semihosting gets the status. Without one, PSCI switches the
/// machine off; without PSCI, the CPU stops. The status is then on the console only.
pub fn exit(status: u8) -> ! {
    let block = [APPLICATION_EXIT, u64::from(status)];
    // SAFETY: the block lives until the call returns, and the call only reads it.
    unsafe { semihosting(SYS_EXIT_EXTENDED, block.as_ptr() as u64) };
    let _ = match conduit() {
        Some(Conduit::Hvc) => smccc::psci::system_off::<smccc::Hvc>(),
        Some(Conduit::Smc) => smccc::psci::system_off::<smccc::Smc>(),
        None => Ok(()),
    };
    cpu::halt()
}

/// Writes text by semihosting, where there is no console yet.
pub fn write_by_semihosting(text: &core::ffi::CStr) {
    // SAFETY: the text ends with a zero, and the call only reads it.
    unsafe { semihosting(SYS_WRITE0, text.as_ptr() as u64) };
}

/// Whether an exception of class "unknown reason" is a call for semihosting that nothing answered.
pub(super) fn is_unanswered_semihosting() -> bool {
    CALLS_SEMIHOSTING.load(Ordering::Relaxed)
}

/// Calls semihosting. No effect if nothing answers.
///
/// # Safety
///
/// `argument` is what the operation asks for, such as the address of its block.
unsafe fn semihosting(operation: u64, argument: u64) {
    // Without semihosting the instruction is undefined; the handler steps over it.
    CALLS_SEMIHOSTING.store(true, Ordering::Relaxed);
    // SAFETY: the caller promises the argument. Without `nomem` the block is written before.
    unsafe {
        asm!("hlt #0xf000", inout("x0") operation => _, in("x1") argument, options(nostack));
    }
    CALLS_SEMIHOSTING.store(false, Ordering::Relaxed);
}
